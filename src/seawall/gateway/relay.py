"""One request from admission to its last byte: the state machine between a client and its replicas.

    waiting -> connecting -> sent -> holding -> streaming -> over
       ^___________|___________|________|___________|      (a break leads back while it can be mended)

Before the first byte reached the client a break means: the same request on another replica. After it, the
session says how to go on. Every path ends in exactly one of `_finished`, `_failed`, `_cancelled`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from seawall.decide.route.admit import Admitted, Rejected, Ticket
from seawall.decide.route.pick import Ask, Picked, Target
from seawall.gateway.session import Over, Session, usage_in
from seawall.gateway.wire import Refusal, error_event

if TYPE_CHECKING:
    from seawall.gateway.client_side import Client, Request
    from seawall.gateway.fleet import FleetRuntime
    from seawall.gateway.upstream import Upstream

HOLD = 1 << 20
"""An answer that is not a stream is held whole up to this size, so that a break can still be retried."""
SSE = b"text/event-stream"
DRAINING = b"cannot schedule new futures after shutdown"
ABORTED = b'"finish_reason":"abort"'
DEAD = b"EngineDeadError"


class Phase(IntEnum):
    WAITING = 0
    CONNECTING = 1
    SENT = 2
    HOLDING = 3
    STREAMING = 4
    OVER = 5


class Exchange:
    """See the module. Created once a request is authenticated and its fleet is known."""

    __slots__ = (
        "_avoid",
        "_body",
        "_committed",
        "_conn",
        "_content_type",
        "_deadline",
        "_held",
        "_last_event",
        "_path",
        "_picked",
        "_plain_status",
        "_retries",
        "_sse",
        "client",
        "first_token_at",
        "fleet",
        "outcome",
        "phase",
        "request",
        "session",
        "started",
        "status",
        "target",
        "ticket",
        "tokens_in",
        "tokens_out",
    )

    def __init__(
        self,
        client: Client,
        request: Request,
        fleet: FleetRuntime,
        session: Session,
        ask: Ask,
        deadline: float,
    ) -> None:
        self.client = client
        self.request = request
        self.fleet = fleet
        self.session = session
        self.phase = Phase.WAITING
        self.started = fleet.loop.time()
        self.first_token_at = 0.0
        self.ticket = Ticket(
            ask,
            request.tenant.name,
            request.tenant.weight,
            request.priority,
            min(deadline, self.started + fleet.spec.queue_timeout),
            self,
        )
        self.target: Target | None = None
        self.status = 0
        self.outcome = ""
        self.tokens_in = self.tokens_out = 0
        self._deadline = deadline
        self._path = request.path
        self._body = b""
        self._conn: Upstream | None = None
        self._retries = fleet.spec.retries
        self._avoid: tuple[str, ...] = ()
        self._held: list[bytes] = []
        self._committed = False
        self._sse = False
        self._plain_status = 0
        self._content_type = b""
        self._last_event = 0.0
        self._picked: Picked | None = None

    # -- the way to a replica

    def begin(self) -> None:
        """Admission: go on, wait, or be refused."""
        fleet = self.fleet
        verdict = fleet.admission.offer(self.ticket, fleet.router.free(), self.started)
        if isinstance(verdict, Rejected):
            fleet.stats.reject("queue_full")
            self.phase = Phase.OVER
            self.outcome, self.status = "rejected", 429
            message = f"{fleet.name} is full: {verdict.reason}. Try again after the time in Retry-After."
            self.client.refuse(self, Refusal(429, "queue_full", message, verdict.retry_after_s))
            self.client.over(self)
            return
        fleet.stats.admitted += 1
        fleet.active.add(self)
        self._body = self.session.first_request()
        if isinstance(verdict, Admitted):
            picked = fleet.place(self.ticket.ask)
            if picked is not None:
                self.go(picked)
            else:
                fleet.admission.force(self.ticket, self.started)

    def go(self, picked: Picked) -> None:
        """Takes the place and sends the request there."""
        fleet = self.fleet
        self._picked = picked
        self.target = picked.target
        fleet.router.start(picked.target, self.ticket.ask)
        self.phase = Phase.CONNECTING
        pool = fleet.pool(picked.target)
        conn = pool.take()
        if conn is not None:
            self.connected(conn)
        else:
            pool.connect(self)

    def connected(self, conn: Upstream) -> None:
        if self.phase != Phase.CONNECTING or self.target is None:
            conn.pool.put(conn)
            return
        self._conn = conn
        self.phase = Phase.SENT
        self._last_event = self.fleet.loop.time()
        self._held.clear()
        conn.send(self, conn.pool.request(self._path, self._body, self.request.extra))

    def connect_failed(self, reason: str) -> None:
        if self.phase == Phase.CONNECTING and self.target is not None:
            self._broke(reason, evict=True, label="connect")

    # -- what the replica says

    def on_head(self, conn: Upstream) -> None:
        now = self.fleet.loop.time()
        assert self.target is not None
        if conn.load_header is not None:
            self.fleet.reported(self.target, conn.load_header, now)
        self.phase = Phase.HOLDING
        self._plain_status = conn.status
        self._content_type = conn.content_type or b"application/json"
        self._sse = conn.status == 200 and conn.content_type.startswith(SSE)
        if self._committed and not self._sse:
            self._drop()
            self._broke(f"answered {conn.status} to the continuation", evict=False, label="status")

    def on_body(self, data: bytes, complete: bool) -> None:
        if complete:
            self._conn = None
        if self.phase == Phase.STREAMING:
            self._stream(data, complete)
        elif self._sse:
            self._first_event(data, complete)
        else:
            self._hold(data, complete)

    def on_lost(self, reason: str, answered: bool) -> None:
        conn, self._conn = self._conn, None
        if self.phase == Phase.OVER:
            return
        # An idle connection that the replica closed as we used it is no evidence against the replica.
        race = conn is not None and conn.reused and not answered
        self._broke(reason, evict=not race, label="keepalive" if race else "reset")

    def _first_event(self, data: bytes, complete: bool) -> None:
        """Holds a stream until its first data event: a drain or a dead engine shows there."""
        self._held.append(data)
        text = data if len(self._held) == 1 else b"".join(self._held)
        start = 0
        while text.startswith(b":", start):
            start = text.find(b"\n\n", start) + 2
            if start < 2:
                return
        if not complete and text.find(b"\n\n", start) < 0 and len(text) < HOLD:
            return
        event = text[start : start + 4096]
        bad = (
            "error event"
            if event.startswith((b'data: {"error"', b"event: error"))
            else "empty stream"
            if not event.strip() or event.startswith(b"data: [DONE]")
            else "aborted"
            if ABORTED in event.partition(b"\n\n")[0]
            else ""
        )
        if bad:
            self._drop()
            self._broke(bad, evict=True, label="drain")
            return
        self._held.clear()
        self.phase = Phase.STREAMING
        if not self._committed:
            self.first_token_at = self.fleet.loop.time()
            self._commit_stream(text, complete)
        else:
            self._stream(text, complete)

    def _commit_stream(self, data: bytes, complete: bool) -> None:
        """The first bytes: head and first event in one write."""
        out = self.session.feed(data)
        if self.session.failed is None and not complete:
            self._committed = True
            self._last_event = self.first_token_at
            client = self.client
            self.status = 200
            client.begin_stream(self, out)
            return
        self._committed = True
        self.status = 200
        self.client.begin_stream(self, b"")
        self._after_feed(out, complete)

    def _stream(self, data: bytes, complete: bool) -> None:
        """The hot path: one read, one write."""
        if data:
            out = self.session.feed(data)
            if self.session.failed is None and not complete:
                if not data.startswith(b":"):
                    self._last_event = self.fleet.loop.time()
                if out:
                    self.client.write_stream(out)
                return
        else:
            out = b""
        self._after_feed(out, complete)

    def _after_feed(self, out: bytes, complete: bool) -> None:
        failed = self.session.failed
        if failed is not None:
            if out:
                self.client.write_stream(out)
            self._drop()
            self._broke(failed, evict=True, label="stream")
        elif not self.session.done:
            if out:
                self.client.write_stream(out)
            self._broke("the stream ended early", evict=True, label="stream")
        else:
            self._end_stream(out)

    def _end_stream(self, out: bytes) -> None:
        self._drop()
        self._release()
        self._account(self.session.usage)
        self.client.end_stream(out)
        self._finished()

    def _hold(self, data: bytes, complete: bool) -> None:
        """An answer that is not a stream: held whole if it is not huge, then judged and passed on."""
        if self._committed:
            self.client.write_plain(data)
            if complete:
                self._release()
                self.client.end_plain()
                self._finished()
            return
        self._held.append(data)
        if not complete and sum(map(len, self._held)) <= HOLD:
            return
        body = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        status = self._plain_status
        if status != 200 and self._refused(status, body):
            return
        if status == 200 and ABORTED in body[-4096:]:
            self._drop()
            self._broke("aborted", evict=True, label="drain")
            return
        self._held.clear()
        self.first_token_at = self.fleet.loop.time()
        self._committed = True
        self.status = status
        if not complete:
            self.client.begin_plain(self, status, self._content_type, body)
            return
        self._release()
        if status == 200:
            self._account(usage_in(body))
        self.client.whole(self, status, self._content_type, body)
        self._finished()

    def _refused(self, status: int, body: bytes) -> bool:
        """Whether an error answer is dealt with here instead of being passed on."""
        target = self.target
        assert target is not None
        pool = self.fleet.pool(target)
        if status == 503:
            self._drop()
            self.fleet.rest(target)
            self._broke("answered 503", evict=False, label="503")
            return True
        if status in (401, 403):
            self._drop()
            self._failed(
                Refusal(502, "upstream_auth", "The engine refuses the gateway's key. Tell the operator.")
            )
            return True
        if status >= 500:
            if DRAINING in body or DEAD in body:
                self._drop()
                self._broke("draining" if DRAINING in body else "engine dead", evict=True, label="drain")
                return True
            pool.errors_in_a_row += 1
            if pool.errors_in_a_row >= 3:
                self.fleet.evict(target, "three answers of 5xx in a row")
        return False

    # -- breaks

    def _drop(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.detach()

    def _release(self) -> None:
        target, self.target = self.target, None
        if target is not None:
            self.fleet.admission.finished(self.fleet.loop.time())
            self.fleet.left(target, self.ticket.ask)

    def _broke(self, reason: str, *, evict: bool, label: str) -> None:
        """The replica failed this request: mend it elsewhere, or give up."""
        target, fleet = self.target, self.fleet
        name = ""
        if target is not None:
            name = target.name
            if evict:
                fleet.evict(target, reason)
            self._release()
        self._held.clear()
        keepalive = label == "keepalive"
        if not keepalive:
            self._retries -= 1
        if self._retries < 0:
            self._give_up(reason)
            return
        if self._committed:
            if not self._sse:
                self.client.cut()
                self._failed(None)
                return
            go_on = self.session.broken(reason, fleet.loop.time())
            if isinstance(go_on, Over):
                self._failed(None, go_on.event)
                return
            fleet.stats.resumed += 1
            self._path, self._body = go_on.path.encode(), go_on.body
        else:
            fleet.stats.retry(label)
        if not keepalive:
            self._avoid = (*self._avoid, name)
        self._again()

    def _again(self) -> None:
        ticket = self.ticket
        ticket.ask = ticket.ask._replace(avoid=self._avoid, urgent=True)
        ticket.deadline = min(self._deadline, self.fleet.loop.time() + self.fleet.spec.queue_timeout)
        self.phase = Phase.WAITING
        picked = self.fleet.place(ticket.ask)
        if picked is not None:
            self.go(picked)
        else:
            self.fleet.admission.urgent(ticket, self.fleet.loop.time())

    def _give_up(self, reason: str) -> None:
        message = f"{len(set(self._avoid)) + 1} attempts failed, the last with: {reason}. Send it again."
        if self._committed and self._sse:
            self._failed(None, error_event(Refusal(502, "upstream_lost", message)))
        elif self._committed:
            self.client.cut()
            self._failed(None)
        elif reason == "answered 503":
            wait = self.fleet.admission.retry_after()
            self._failed(Refusal(503, "overloaded", f"Every replica of {self.fleet.name} is full.", wait))
        else:
            self._failed(Refusal(502, "upstream_lost", message))

    # -- time and the client

    def check(self, now: float) -> None:
        """The sweep's look: deadlines and hangs."""
        phase = self.phase
        if now >= self._deadline:
            self._late()
        elif phase == Phase.STREAMING or (phase == Phase.HOLDING and self._committed):
            conn = self._conn
            if conn is not None and conn.paused:
                self._last_event = now
            elif now - self._last_event > self.fleet.spec.stall_timeout:
                self._hung("no data event", self.fleet.spec.stall_timeout)
        elif phase in (Phase.SENT, Phase.HOLDING):
            limit = self.fleet.spec.stall_timeout if self._committed else self.fleet.spec.first_byte_timeout
            if now - self._last_event > limit:
                self._hung("no answer", limit)

    def _hung(self, what: str, seconds: float) -> None:
        self._drop()
        self._broke(f"{what} for {seconds:g} s", evict=True, label="hang")

    def _late(self) -> None:
        """The request's own deadline has passed."""
        self.fleet.admission.cancel(self.ticket)
        self._drop()
        self._release()
        refusal = Refusal(504, "deadline_exceeded", "The request's deadline has passed. Allow more time.")
        if self._committed and not self._sse:
            self.client.cut()
            self._failed(None)
        else:
            self._failed(refusal, error_event(refusal) if self._committed else None)

    def waited_too_long(self) -> None:
        """The queue's deadline: nothing became free."""
        fleet = self.fleet
        waited = f"waited {fleet.loop.time() - self.started:.0f} s"
        if self._committed:
            refusal = Refusal(502, "upstream_lost", "The replica failed and no other took over in time.")
            self._failed(None, error_event(refusal))
        elif fleet.router.alive():
            message = f"{fleet.name} is full: {waited} for a place."
            self._failed(Refusal(429, "queue_timeout", message, fleet.admission.retry_after()))
        else:
            message = f"No replica of {fleet.name} is ready ({waited}). Try again later."
            self._failed(Refusal(503, "no_replica", message, 10))

    def shut_down(self) -> None:
        """The gateway's grace is over."""
        refusal = Refusal(503, "shutting_down", "The gateway is shutting down. Send it again.", 1)
        self.fleet.admission.cancel(self.ticket)
        self._drop()
        if self._committed and not self._sse:
            self.client.cut()
            self._failed(None)
        else:
            self._failed(refusal, error_event(refusal) if self._committed else None)

    def client_gone(self) -> None:
        """Nobody listens any more: the replica is told at once."""
        if self.phase == Phase.OVER:
            return
        self.fleet.admission.cancel(self.ticket)
        self._drop()
        self._release()
        self._account(self.session.usage)
        self.fleet.stats.cancelled += 1
        self._over("cancelled", 499)

    def pause(self) -> None:
        """The client reads slowly: stop reading from the replica."""
        if self._conn is not None:
            self._conn.pause()

    def resume(self) -> None:
        if self._conn is not None:
            self._last_event = self.fleet.loop.time()
            self._conn.resume()

    # -- ends

    def _finished(self) -> None:
        stats = self.fleet.stats
        stats.finished += 1
        if self.status == 200:
            stats.first_token(self.first_token_at - self.started)
        self._over("finished" if self.status < 400 else "refused", self.status)

    def _failed(self, refusal: Refusal | None, event: bytes | None = None) -> None:
        self._release()
        self._account(self.session.usage)
        self.fleet.stats.failed += 1
        status = refusal.status if refusal else 502
        if event is not None and self._committed:
            self.client.break_stream(event)
        elif refusal is not None:
            self.client.refuse(self, refusal)
        self._over("failed", status)

    def _over(self, outcome: str, status: int) -> None:
        self.phase = Phase.OVER
        self.outcome = outcome
        self.status = status
        self.fleet.active.discard(self)
        self.fleet.stats.duration.add(self.fleet.loop.time() - self.started)
        self.client.over(self)

    def _account(self, usage: object) -> None:
        if usage is None:
            return
        self.tokens_in = getattr(usage, "prompt_tokens", 0)
        self.tokens_out = getattr(usage, "completion_tokens", 0)
        if self.tokens_out:
            self.fleet.learn_output(self.tokens_out)

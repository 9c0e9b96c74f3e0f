"""One request from admission to its last byte: the state machine between a client and its replicas.

    waiting -> connecting -> sent -> holding -> streaming -> over
       ^___________|___________|________|___________|      (a break leads back while it can be mended)

Before the first byte reached the client a break means: the same request on another replica. After it, the
session says how to go on. Every path ends in exactly one of `_finished`, `_failed`, `_cancelled`.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from seawall.decide.route.admit import Admitted, Rejected
from seawall.decide.route.pick import Picked
from seawall.decide.route.poison import DEATHS, QUARANTINE_S
from seawall.decide.route.resume import Finish, GiveUp, StreamSession
from seawall.gateway.judge import Verdict, judge
from seawall.gateway.record import (
    CONNECTING,
    HOLDING,
    OVER,
    SENT,
    STREAMING,
    WAITING,
    Record,
)
from seawall.gateway.seam import usage_in
from seawall.gateway.wire import Refusal, poisonous

if TYPE_CHECKING:
    from seawall.gateway.hedge import Hedge
    from seawall.gateway.upstream import Upstream

HOLD = 1 << 20
"""An answer that is not a stream is held whole up to this size, so that a break can still be retried."""
SUDDEN = frozenset({"reset", "stream", "dead"})
"""Labels of breaks that look like a death."""
VERDICT_S = 1.0
SECOND_OPINIONS = 2
"""A 5xx before the first byte is asked of so many others: what fails everywhere is the request's own fault."""
SSE = b"text/event-stream"


class Exchange(Record):
    """See the module. Created once a request is authenticated and its fleet is known."""

    __slots__ = ()

    # -- the way to a replica

    def begin(self) -> None:
        """Admission: go on, wait, or be refused."""
        fleet = self.fleet
        verdict = fleet.admission.offer(self.ticket, fleet.router.free(), self.started)
        if isinstance(verdict, Rejected):
            fleet.stats.reject("queue_full")
            self.phase = OVER
            self.outcome, self.status, self.code = "rejected", 429, "queue_full"
            message = f"{fleet.name} is full: {verdict.reason}. Try again after the time in Retry-After."
            self.client.answer_refusal(Refusal(429, "queue_full", message, verdict.retry_after_s))
            self.client.over(self)
            return
        fleet.stats.admitted += 1
        fleet.active.add(self)
        if self.session is not None:
            self._body = self.session.first_request()
        if isinstance(verdict, Admitted):
            picked = fleet.place(self.ticket.ask)
            if picked is not None:
                self.go(picked)
                return
            fleet.admission.force(self.ticket, self.started)
        fleet.soon()

    def go(self, picked: Picked) -> None:
        """Takes the place and sends the request there."""
        fleet = self.fleet
        self.target = picked.target
        self.replica = picked.target.name
        self.side = "canary" if picked.target.replica.group == "canary" else "stable"
        fleet.router.start(picked.target, self.ticket.ask)
        self.phase = CONNECTING
        pool = fleet.pool(picked.target)
        conn = pool.take()
        if conn is not None:
            self.connected(conn)
        else:
            pool.connect(self)

    def connected(self, conn: Upstream) -> None:
        if self.phase != CONNECTING or self.target is None:
            conn.pool.put(conn)
            return
        self._conn = conn
        self.phase = SENT
        self._last_event = self.fleet.loop.time()
        self._held = []
        self._sse = self._fed = False
        conn.send(self, conn.pool.request(self._path, self._body, self.request.extra))
        if self.client.full:
            conn.pause()
        after = self.fleet.spec.hedge_after
        if after is not None and self.session is not None and not self.retried and not self.committed:
            self.fleet.hedges.watch(self, after)

    def connect_failed(self, reason: str) -> None:
        if self.phase == CONNECTING and self.target is not None:
            self._broke(reason, evict=True, label="connect")

    # -- what the replica says

    def on_head(self, conn: Upstream) -> None:
        assert self.target is not None
        if conn.load_header is not None:
            self.fleet.reported(self.target, conn.load_header, self.fleet.loop.time())
        self.phase = HOLDING
        self._answer = conn.status
        self._content_type = conn.content_type or b"application/json"
        self._sse = self.session is not None and conn.status == 200 and conn.content_type.startswith(SSE)

    def on_body(self, parts: list[bytes], complete: bool) -> None:
        """What one read brought: the contents of its HTTP chunks. An engine puts one event into each."""
        if complete:
            self._conn = None
        if not self._sse:
            self._hold(parts, complete)
            return
        # One read, one write.
        session = self.session
        assert session is not None
        feed = session.feed
        out = feed(parts[0]) if len(parts) == 1 else b"".join([feed(part) for part in parts])
        if session.failed is not None or complete:
            self._ended(session, out)
            return
        if out:
            if self.phase == STREAMING:
                self.client.write_stream(out)
            else:
                self._commit(out)
        if not parts[-1].startswith(b":"):  # a keep-alive comment is no sign of life
            self._fed = True
            if self._conn is not None:
                self._conn.heard = True

    def _commit(self, out: bytes) -> None:
        """The first bytes of a stream, or of its continuation."""
        self.phase = STREAMING
        if self.committed:
            self._relay()
            self.client.write_stream(out)
            return
        if self.hedge is not None:
            self.hedge.drop()
        if self.target is not None:
            self.fleet.pool(self.target).errors_in_a_row = 0
        self.committed = True
        self.status = 200
        self.first_token_at = monotonic()
        self.client.begin_stream(self, out)
        self._relay()

    def _relay(self) -> None:
        """From now on ordinary chunks go from the replica's connection straight to the client's."""
        send = self.client.takes_chunks
        if self._conn is not None and self.session is not None and send is not None:
            self._conn.relay(self.session, send)

    def overtaken(self, hedge: Hedge, out: bytes, complete: bool) -> None:
        """The second attempt brought the first token."""
        self._drop()
        self._release()
        self._become(hedge)
        if complete:
            self._ended(hedge.session, out)
        else:
            self._commit(out)

    def _become(self, hedge: Hedge) -> None:
        """Goes on with the second attempt, whatever has come of it."""
        self.hedge = None
        self.target, self.session, self._conn = hedge.target, hedge.session, hedge.conn
        self.replica = hedge.target.name
        self.side = "canary" if hedge.target.replica.group == "canary" else "stable"
        self._body = hedge.session.first_request()
        self.phase = HOLDING if hedge.streams else SENT if hedge.conn else CONNECTING
        self._sse, self._last_event = hedge.streams, self.fleet.loop.time()
        hedge.yields_to(self)

    def _ended(self, session: StreamSession, out: bytes) -> None:
        """The replica's stream is over: whole, or by its own word or ours broken."""
        if out:
            if self.phase == STREAMING:
                self.client.write_stream(out)
            else:
                self._commit(out)
        if session.failed is not None:
            self._drop()
            self._broke(session.failed, evict=session.blames_replica, label="stream")
        elif not session.done:
            self._broke("the stream ended early", evict=True, label="stream")
        else:
            self._end_stream(b"")

    def _end_stream(self, out: bytes) -> None:
        self._drop()
        self._release()
        if not self.committed:
            self._commit(out)
            out = b""
        self.client.end_stream(out)
        self._shadow(None)
        self._finished()

    def on_lost(self, reason: str, answered: bool) -> None:
        conn, self._conn = self._conn, None
        if self.phase == OVER:
            return
        # An idle connection that the replica closed as we used it is no evidence against the replica.
        race = conn is not None and conn.reused and not answered
        self._broke(reason, evict=not race, label="keepalive" if race else "reset")

    def _hold(self, parts: list[bytes], complete: bool) -> None:
        """An answer that is not a stream: held whole if it is not huge, then judged and passed on."""
        if self.committed and self.session is None:
            self.client.write_plain(b"".join(parts))
            if complete:
                self._release()
                self.client.end_plain()
                self._finished()
            return
        held = self._held = self._held + parts if self._held else parts
        if not complete and sum(map(len, held)) <= HOLD:
            return
        body = held[0] if len(held) == 1 else b"".join(held)
        self._held = []
        verdict = judge(self._answer, body)
        if verdict is not Verdict.PASS:
            self._refused(verdict)
            return
        if (
            self._answer >= 500
            and not self.committed
            and self._retries > 0
            and len(self._avoid) < SECOND_OPINIONS
        ):
            self._erred()
            self._drop()
            self._broke(f"answered {self._answer}", evict=False, label="5xx")
            return
        if self.committed:
            self._drop()
            full = self._answer == 400 and b"maximum context length" in body
            if full and self.session is not None:
                decision = self.session.broken("the model's length", self.fleet.loop.time(), full=True)
                if isinstance(decision, Finish):
                    self._end_stream(decision.event)
                    return
            refusal = Refusal(502, "upstream_lost", f"The continuation was answered with {self._answer}.")
            self._failed(refusal)
            return
        self.first_token_at = monotonic()
        self.committed = True
        self.status = self._answer
        if not complete:
            self.client.begin_plain(self, self._answer, self._content_type, body)
            return
        if self._answer >= 500:
            self._erred()
        elif self._answer == 200 and self.target is not None:
            self.fleet.pool(self.target).errors_in_a_row = 0
            self._usage = usage_in(body)
        self._release()
        if self._answer == 200:
            self._shadow(body)
        self.client.whole(self, self._answer, self._content_type, body)
        self._finished()

    def _erred(self) -> None:
        """Counts once per replica: a request that fails wherever it is tried must not take its replicas out."""
        if self.target is not None and self.target.name not in self._avoid:
            self.fleet.erred(self.target)

    def _shadow(self, answer: bytes | None) -> None:
        shadow = self.fleet.shadow
        if shadow is not None and self.ticket.ask.group != "canary" and not self.resumed:
            shadow.copy(self._path, self._body, answer, self.session)

    def _refused(self, verdict: Verdict) -> None:
        """The answer shows the replica's state, not the request's result."""
        target = self.target
        assert target is not None
        self._drop()
        if verdict is Verdict.BUSY:
            self.fleet.rest(target)
            self._broke("answered 503", evict=False, label="503")
        elif verdict is Verdict.LOCKED:
            message = "The engine refuses the gateway's key. Tell the operator (SEAWALL_ENGINE_API_KEY)."
            refusal = Refusal(502, "upstream_auth", message)
            self._failed(refusal)
        else:
            self._broke(verdict.value, evict=True, label="dead" if verdict is Verdict.DEAD else "drain")

    # -- breaks

    def _broke(self, reason: str, *, evict: bool, label: str) -> None:
        """The replica failed this request: mend it elsewhere, or give up."""
        fleet, target = self.fleet, self.target
        if target is not None:
            if fleet.canary_percent and label != "keepalive":
                fleet.stats.sides[self.side].lost()
            if evict:
                fleet.evict(target, reason, sudden=label in SUDDEN)
            if label != "keepalive":
                self._avoid = (*self._avoid[-7:], target.name)
            self._release()
        self._held = []
        if self.hedge is not None:
            self.hedge.promoted()
            self._become(self.hedge)
            return
        fed = self.phase in (HOLDING, STREAMING) and self._sse
        if fed and self.session is not None:
            decision = self.session.broken(reason, fleet.loop.time())
            if isinstance(decision, Finish):
                self._end_stream(decision.event)
                return
            if isinstance(decision, GiveUp):
                self._give_up(reason, decision.event)
                return
            self._path, self._body = decision.path.encode(), decision.body
            if self.committed:
                fleet.stats.resumed += 1
                self.resumed += 1
                self._retries = fleet.spec.retries
                self._again()
                return
        elif self.committed and self.session is None:
            self._failed(Refusal(502, "upstream_lost", reason))
            return
        self._retries -= label != "keepalive"
        if self._retries < 0:
            self._give_up(reason)
            return
        fleet.stats.retry(label)
        self.retried += 1
        self._again()

    def _verdict(self) -> None:
        """Both replicas have been probed by now: one that gave a token had not died."""
        self.convicted = False
        if self.phase != OVER and self.fleet.condemn(self, self._avoid[-DEATHS:]):
            self._failed(poisonous(QUARANTINE_S))
        elif self.phase != OVER:
            self._again()

    def _again(self) -> None:
        if self.convicted:
            self.phase = WAITING
            self.fleet.loop.call_later(VERDICT_S, self._verdict)
            return
        ticket = self.ticket
        ticket.ask = ticket.ask._replace(avoid=self._avoid, urgent=True)
        ticket.deadline = min(self._deadline, self.fleet.loop.time() + self.fleet.spec.queue_timeout)
        self.phase = WAITING
        picked = self.fleet.place(ticket.ask)
        if picked is not None:
            self.go(picked)
        else:
            self.fleet.admission.urgent(ticket, self.fleet.loop.time())
            self.fleet.soon()

    def _give_up(self, reason: str, event: bytes | None = None) -> None:
        attempts = max(1, len(self._avoid))
        message = f"{attempts} replicas failed this request, the last with: {reason}. Send it again."
        if reason == "answered 503" and not self.committed:
            wait = self.fleet.admission.retry_after()
            self._failed(Refusal(503, "overloaded", f"Every replica of {self.fleet.name} is full.", wait))
            return
        refusal = Refusal(502, "upstream_lost", message)
        self._failed(refusal, event)

    # -- time and the client

    def check(self, now: float) -> None:
        """The sweep's look: deadlines and hangs."""
        phase, conn, spec = self.phase, self._conn, self.fleet.spec
        if now >= self._deadline:
            self._late()
            return
        if conn is None:
            return
        if conn.heard:
            conn.heard = False
            self._last_event = now
        if conn.paused:
            self._last_event = now
            return
        if phase == STREAMING:
            pool = conn.pool
            pool.last_event = max(pool.last_event, self._last_event)
            if now - self._last_event > spec.stall_timeout:
                self._hung("no data event", spec.stall_timeout)
        elif phase in (SENT, HOLDING):
            limit = spec.stall_timeout if self.committed else spec.first_byte_timeout
            if now - self._last_event > limit:
                self._hung("no answer", limit)

    def _hung(self, what: str, seconds: float) -> None:
        """Silence. The replica is suspected only if all its streams are silent: one may just be queued."""
        conn = self._conn
        alive = conn is not None and self.fleet.loop.time() - conn.pool.last_event < seconds
        self._drop()
        self._broke(f"{what} for {seconds:g} s", evict=not alive, label="hang")

    def _late(self) -> None:
        """The request's own deadline has passed."""
        self.fleet.admission.cancel(self.ticket)
        self._drop()
        self._release()
        refusal = Refusal(504, "deadline_exceeded", "The request's deadline has passed. Allow more time.")
        self._failed(refusal)

    def waited_too_long(self) -> None:
        """The queue's deadline: nothing became free."""
        fleet = self.fleet
        waited = f"waited {monotonic() - self.started:.0f} s"
        if self.committed:
            refusal = Refusal(502, "upstream_lost", "The replica failed and no other took over in time.")
            self._failed(refusal)
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
        self._failed(refusal)

    def client_gone(self) -> None:
        """Nobody listens any more: the replica is told at once."""
        if self.phase == OVER:
            return
        self.fleet.admission.cancel(self.ticket)
        self._drop()
        self._release()
        self.status = 499
        self.fleet.stats.cancelled += 1
        self._over("cancelled")

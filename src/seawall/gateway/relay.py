"""One request from admission to its last byte: the state machine between a client and its replicas.

    waiting -> connecting -> sent -> holding -> streaming -> over
       ^___________|___________|________|___________|      (a break leads back while it can be mended)

Before the first byte reached the client a break means: the same request on another replica. After it, the
session says how to go on. Every path ends in exactly one of `_finished`, `_failed`, `_cancelled`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seawall.decide.route.admit import Rejected
from seawall.decide.route.breaks import Blame, Break
from seawall.decide.route.pick import Picked
from seawall.decide.route.poison import QUARANTINE_S
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
        verdict = fleet.desk.offer(self.ticket, self.started)
        if isinstance(verdict, Rejected):
            fleet.stats.reject("queue_full")
            self.phase = OVER
            self.outcome, self.status, self.code = "rejected", 429, "queue_full"
            message = f"{fleet.name} is full: {verdict.reason}. Try again after the time in Retry-After."
            self.client.answer_refusal(Refusal(429, "queue_full", message, verdict.retry_after_s))
            self.client.over(self)
            return
        fleet.stats.admitted += 1
        if self.session is not None:
            self._body = self.session.first_request()
        if isinstance(verdict, Picked):
            self.go()
        else:
            fleet.soon()

    def go(self) -> None:
        """It has a place: sends the request there."""
        target = self.ticket.target
        assert target is not None
        self.replica = target.name
        self.side = "canary" if target.replica.group == "canary" else "stable"
        self.phase = CONNECTING
        pool = self.fleet.pool(target)
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
        self._last_event = self.fleet.now()
        self._held = []
        self._sse = False
        self.ticket.awaits = True
        conn.send(self, conn.pool.request(self._path, self._body, self.request.extra))
        if self.client.full:
            conn.pause()
        hedges = self.fleet.spec.hedge_after is not None and self.session is not None
        if hedges and not self.retried and not self.committed:
            self.fleet.desk.watch(self.ticket, self._last_event)
            self.fleet.soon()

    def connect_failed(self, reason: str) -> None:
        if self.phase == CONNECTING and self.target is not None:
            self._broke(Break("connect", reason, Blame.BROKEN))

    # -- what the replica says

    def on_head(self, conn: Upstream) -> None:
        assert self.target is not None
        if conn.load_header is not None:
            self.fleet.reported(self.target, conn.load_header, self.fleet.now())
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
            self.ticket.awaits = False
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
            self.fleet.desk.served(self.target)
        self.ticket.awaits = False
        self.committed = True
        self.status = 200
        self.first_token_at = self.fleet.now()
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
        self._become(hedge)
        if complete:
            self._ended(hedge.session, out)
        else:
            self._commit(out)

    def _become(self, hedge: Hedge) -> None:
        """Goes on with the second attempt, whatever has come of it."""
        self.hedge = None
        self.fleet.desk.take_second(self.ticket)
        self.session, self._conn = hedge.session, hedge.conn
        self.ticket.awaits = hedge.conn is not None
        self.replica = hedge.target.name
        self.side = "canary" if hedge.target.replica.group == "canary" else "stable"
        self._body = hedge.session.first_request()
        self.phase = HOLDING if hedge.streams else SENT if hedge.conn else CONNECTING
        self._sse, self._last_event = hedge.streams, self.fleet.now()
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
            blame = Blame.DEATH if session.blames_replica else Blame.ELSEWHERE
            self._broke(Break("stream", session.failed, blame))
        elif not session.done:
            self._broke(Break("stream", "the stream ended early", Blame.DEATH))
        else:
            self._end_stream(b"")

    def _end_stream(self, out: bytes) -> None:
        self._drop()
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
        self._broke(
            Break("keepalive", reason, Blame.NOTHING) if race else Break("reset", reason, Blame.DEATH)
        )

    def _hold(self, parts: list[bytes], complete: bool) -> None:
        """An answer that is not a stream: held whole if it is not huge, then judged and passed on."""
        if self.committed and self.session is None:
            self.client.write_plain(b"".join(parts))
            if complete:
                self.client.end_plain()
                self._finished()
            return
        held = self._held = self._held + parts if self._held else parts
        if held:
            self.ticket.awaits = False
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
            and len(self.ticket.ask.avoid) < SECOND_OPINIONS
        ):
            self._drop()
            blame = Blame.ERROR if self._counts() else Blame.ELSEWHERE
            self._broke(Break("5xx", f"answered {self._answer}", blame))
            return
        if self.committed:
            self._drop()
            full = self._answer == 400 and b"maximum context length" in body
            if full and self.session is not None:
                decision = self.session.broken("the model's length", self.fleet.now(), full=True)
                if isinstance(decision, Finish):
                    self._end_stream(decision.event)
                    return
            refusal = Refusal(502, "upstream_lost", f"The continuation was answered with {self._answer}.")
            self._failed(refusal)
            return
        self.first_token_at = self.fleet.now()
        self.committed = True
        self.status = self._answer
        if not complete:
            self.client.begin_plain(self, self._answer, self._content_type, body)
            return
        if self._answer >= 500:
            if self.target is not None and self._counts():
                self.fleet.erred(self.target)
        elif self._answer == 200 and self.target is not None:
            self.fleet.desk.served(self.target)
            self._usage = usage_in(body)
        if self._answer == 200:
            self._shadow(body)
        self.client.whole(self, self._answer, self._content_type, body)
        self._finished()

    def _counts(self) -> bool:
        """A 5xx counts once per replica: a request that fails wherever it is tried must not take its replicas out."""
        return self.target is not None and self.target.name not in self.ticket.ask.avoid

    def _shadow(self, answer: bytes | None) -> None:
        shadow = self.fleet.shadow
        if shadow is not None and self.ticket.ask.group != "canary" and not self.resumed:
            shadow.copy(self._path, self._body, answer, self.session)

    def _refused(self, verdict: Verdict) -> None:
        """The answer shows the replica's state, not the request's result."""
        self._drop()
        if verdict is Verdict.BUSY:
            self._broke(Break("503", "answered 503", Blame.FULL))
        elif verdict is Verdict.LOCKED:
            message = "The engine refuses the gateway's key. Tell the operator (SEAWALL_ENGINE_API_KEY)."
            refusal = Refusal(502, "upstream_auth", message)
            self._failed(refusal)
        elif verdict is Verdict.DEAD:
            self._broke(Break("dead", verdict.value, Blame.DEATH))
        else:
            self._broke(Break("drain", verdict.value, Blame.BROKEN))

    # -- breaks

    def _broke(self, what: Break) -> None:
        """The replica failed this request: mend it elsewhere, or give up."""
        fleet, label, reason = self.fleet, what.kind, what.reason
        if self.target is not None:
            if fleet.canary_percent and label != "keepalive":
                fleet.stats.sides[self.side].lost()
            fleet.broke(self.ticket, what)
        self._held = []
        if self.hedge is not None:
            self.hedge.promoted()
            self._become(self.hedge)
            return
        fed = self.phase in (HOLDING, STREAMING) and self._sse
        if fed and self.session is not None:
            decision = self.session.broken(reason, fleet.now())
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

    def verdict(self) -> None:
        """Both replicas have been probed by now: one that gave a token had not died."""
        self.ticket.convicted = False
        if self.fleet.condemn(self.ticket, self.request.path, self.request.body, self.started):
            self._failed(poisonous(QUARANTINE_S))
        else:
            self._again()

    def _again(self) -> None:
        self.phase = WAITING
        if self.ticket.convicted:
            self.fleet.desk.convict(self.ticket, self.fleet.now() + VERDICT_S)
            self.fleet.soon()
        elif self.fleet.desk.again(self.ticket, self.fleet.now()) is not None:
            self.go()
        else:
            self.fleet.soon()

    def _give_up(self, reason: str, event: bytes | None = None) -> None:
        attempts = max(1, len(self.ticket.ask.avoid))
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
        if now >= self.ticket.until:
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
        alive = conn is not None and self.fleet.now() - conn.pool.last_event < seconds
        self._drop()
        blame = Blame.ELSEWHERE if alive else Blame.BROKEN
        self._broke(Break("hang", f"{what} for {seconds:g} s", blame))

    def _late(self) -> None:
        """The request's own deadline has passed."""
        self._drop()
        refusal = Refusal(504, "deadline_exceeded", "The request's deadline has passed. Allow more time.")
        self._failed(refusal)

    def waited_too_long(self) -> None:
        """The queue's deadline: nothing became free."""
        fleet = self.fleet
        waited = f"waited {self.fleet.now() - self.started:.0f} s"
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
        self._drop()
        self._failed(refusal)

    def client_gone(self) -> None:
        """Nobody listens any more: the replica is told at once."""
        if self.phase == OVER:
            return
        self._drop()
        self.status = 499
        self.fleet.stats.cancelled += 1
        self._over("cancelled")

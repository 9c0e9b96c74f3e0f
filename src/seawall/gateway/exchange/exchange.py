"""One request from admission to its last byte: what stands between a client's sink and the replicas.

What becomes of it is decided elsewhere: the desk says where it goes (decide/route/desk.py), the attempt what happens
after a break (decide/route/attempt.py), the session what the bytes of a stream mean (decide/route/resume). Here their
decisions are obeyed. Every path ends in exactly one of `_finished`, `_failed`, `client_gone`.
"""

from __future__ import annotations

from typing import Final, assert_never

from seawall.decide.route.admit import SPARE, Rejected, Ticket
from seawall.decide.route.attempt import (
    Attempt,
    AttemptEvent,
    AttemptPhase,
    AwaitVerdict,
    Fail,
    Judgement,
    Next,
    Send,
    Switch,
)
from seawall.decide.route.breaks import Blame, Break
from seawall.decide.route.members import LARGE
from seawall.decide.route.odd import prompt_mark
from seawall.decide.route.pick import Ask, Picked, Target
from seawall.decide.route.refusal import Refusal
from seawall.decide.route.resume import Finish, StreamSession
from seawall.decide.route.resume.tape import DROPPED, FED, FRESH, WROTE
from seawall.decide.route.whole import Unfit
from seawall.domain.labels import GAVE_WAY
from seawall.gateway.edge.caller import MESSAGES, Caller
from seawall.gateway.edge.request import Request
from seawall.gateway.edge.sink import EVENT_STREAM, Sink
from seawall.gateway.edge.whole_sink import WholeSink
from seawall.gateway.exchange import seam
from seawall.gateway.exchange.counted import Counted
from seawall.gateway.exchange.hedge import Hedge
from seawall.gateway.exchange.judge import judge
from seawall.gateway.exchange.lane import FleetLane
from seawall.gateway.exchange.seam import as_event, cached_in, error_event, placed, usage_in
from seawall.gateway.exchange.waste import wasted
from seawall.gateway.memory import LITTLE
from seawall.gateway.replicas.upstream import OURS, Upstream
from seawall.gateway.tell.ended import Ended

HOLD = 1 << 20
"""An answer that is not a stream is held whole up to this size, so that a break can still be retried."""
SSE = b"text/event-stream"
COMMENT_S = 10.0
MOST_RECORDED = 64 << 20
"""Bytes that are held of one answer, so that it can be continued: over 4,000,000 tokens."""
# Members of an enum are looked up anew at every use; these are not.
CONNECTING: Final = AttemptPhase.CONNECTING
HOLDING: Final = AttemptPhase.HOLDING
STREAMING: Final = AttemptPhase.STREAMING
OVER: Final = AttemptPhase.OVER
PLACED: Final = AttemptEvent.PLACED
CONNECTED: Final = AttemptEvent.CONNECTED
ANSWERED: Final = AttemptEvent.ANSWERED
OPENED: Final = AttemptEvent.OPENED
FLOWED: Final = AttemptEvent.FLOWED
PASS: Final = Judgement.PASS
SENSELESS: Final = Judgement.SENSELESS


class Exchange:
    """See the module. Created once a request is authenticated and its fleet is known."""

    __slots__ = (
        "_bodies",
        "_commented_at",
        "_conn",
        "_content_type",
        "_engine_status",
        "_headed",
        "_held",
        "_held_bytes",
        "_last_event",
        "_recorded",
        "_sent_at",
        "_usage",
        "attempt",
        "code",
        "first_token_at",
        "fleet",
        "hedge",
        "payload",
        "replica",
        "request",
        "session",
        "side",
        "sink",
        "started",
        "status",
        "ticket",
    )

    def __init__(
        self,
        sink: Sink,
        request: Request,
        fleet: FleetLane,
        session: StreamSession | None,
        payload: bytes,
        ask: Ask,
        deadline: float,
    ) -> None:
        """`payload`: the body for the engine. `deadline`: the request's own, by the fleet's clock."""
        self.sink = sink
        self.request = request
        self.fleet = fleet
        self.session = session
        self.payload = payload
        self.started = fleet.now()
        tenant = request.tenant
        self.ticket = Ticket(ask, tenant.name, tenant.weight, request.priority, deadline, self)
        body = payload if session is None else session.first_request()
        self.attempt = Attempt(self.ticket, session, request.path, body, fleet.limits)
        if isinstance(sink, WholeSink):
            self.attempt.plain = request.path, sink.body
        self.hedge: Hedge | None = None
        """A second attempt, while both wait for a first token."""
        self.first_token_at = 0.0
        self.status = 0
        self.code = ""
        """Of the gateway's own refusal, if there was one."""
        self.replica = ""
        self.side = "stable"
        """Of a canary split: the group of the replica that was tried last."""
        self._conn: Upstream | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._bodies = 0
        """Bytes of the request that are held for it."""
        self._recorded = 0
        """Of its answer, as the sweep last saw it."""
        self._engine_status = 0
        self._usage: Counted | None = None
        self._content_type = b""
        self._headed = False
        """The client has the status and headers of its stream, and perhaps nothing of content."""
        self._commented_at = 0.0
        self._last_event = 0.0
        """When data last came, as seen by the sweep."""
        self._sent_at = 0.0
        """When the present attempt was sent; 0: it was not."""

    @property
    def target(self) -> Target | None:
        """The replica that it has a place at."""
        return self.ticket.target

    # -- the way to a replica

    def begin(self) -> None:
        """Admission: go on, wait, or be refused."""
        fleet = self.fleet
        verdict = fleet.desk.offer(self.ticket, self.started)
        if isinstance(verdict, Rejected):
            if self.ticket.priority < SPARE:
                fleet.stats.reject("queue_full")
            self.status, self.code = 429, "queue_full"
            message = f"{fleet.name} is full: {verdict.reason}. Try again after the time in Retry-After."
            self.sink.fail(Refusal(429, "queue_full", message, verdict.retry_after_s), b"")
            self.attempt.on(AttemptEvent.ENDED)
            self._tell("rejected", 0, 0, 0.0, 0.0)
            return
        fleet.stats.admitted += 1
        if self.ticket.priority >= SPARE:
            fleet.stats.spare += 1
            fleet.stats.spare_admitted += 1
        if isinstance(verdict, Picked):
            self.go()
        else:
            fleet.waits(self.ticket)

    def carry_on(self, begun: bool, headed: bool, waits: bytes) -> None:
        """A process that died began it; here it goes on, before all that wait. `begun`: its client has a part of it.
        `waits`: what its client was about to get."""
        fleet = self.fleet
        fleet.stats.carried(self.ticket.priority >= SPARE)
        fleet.desk.carried(self.ticket)
        self._headed = headed
        self.status = 200 if begun or headed else 0
        if waits and not (_comments(waits) and not begun):
            if not self._headed:
                self._head()
            begun = True
            self._write(waits)
        self._obey(self.attempt.carried_over(begun, fleet.now()), "")

    def anew_with(self, seed: int) -> None:
        """Another session of this request, of this seed, takes the place of the present one."""
        session = seam.session(self.request.path, self.payload, self.fleet.policy, self.fleet.rng)
        session.reseed(seed)
        self.session = self.attempt.stream = session
        self.attempt.body = session.first_request()

    def unstreamed(self) -> None:
        """It is asked for anew, and not as a stream."""
        if self.session is not None and self.session.tape is not None:
            self.session.tape.add(FRESH, b"")
        self.session = None
        self.first_token_at = 0.0
        if isinstance(self.sink, WholeSink):
            self.attempt.path, self.attempt.body = self.request.path, self.sink.body
            self.attempt.stream = None
            self.sink = self.sink.plain

    def go(self) -> None:
        """It has a place: sends the request there."""
        target = self.ticket.target
        assert target is not None
        self.replica = target.name
        self.side = "canary" if target.replica.group == "canary" else "stable"
        self.attempt.on(PLACED)
        pool = self.fleet.pool(target)
        conn = pool.take()
        if conn is not None:
            self.connected(conn)
        else:
            pool.connect(self)

    def connected(self, conn: Upstream) -> None:
        attempt = self.attempt
        if attempt.phase is not CONNECTING or self.ticket.target is None:
            conn.pool.put(conn)
            return
        self._conn = conn
        attempt.on(CONNECTED)
        self._last_event = self._sent_at = self.fleet.now()
        self._held, self._held_bytes = [], 0
        self.ticket.awaits = True
        if self.ticket.target.in_flight == 1:
            conn.pool.last_event = self._last_event
        body = attempt.body
        if self.request.unplaced:
            body = placed(body, self.request, self.ticket.target.name)
        pool, extra = conn.pool, self.request.extra
        if len(body) > LITTLE:  # not copied behind its head
            conn.send(self, pool.head(attempt.path, len(body), extra), body)
        else:
            conn.send(self, pool.request(attempt.path, body, extra))
        if self.sink.full:
            conn.pause()
        small = self.request.size <= LARGE
        if (
            small
            and self.fleet.hedges
            and self.session is not None
            and not attempt.retried
            and not attempt.begun
        ):
            self.fleet.desk.watch(self.ticket, self._last_event)
            self.fleet.soon()

    def connect_failed(self, reason: str) -> None:
        if self.attempt.phase is CONNECTING and self.ticket.target is not None:
            if reason.startswith(OURS):
                self._broke(Break("local", reason, Blame.ELSEWHERE))
            else:
                self._broke(Break("connect", reason, Blame.BROKEN))

    # -- what the replica says

    def on_head(self, conn: Upstream) -> None:
        target = self.ticket.target
        assert target is not None
        if conn.load_header is not None:
            self.fleet.reported(target, conn.load_header, self.fleet.now())
        self._engine_status = conn.status
        self._content_type = conn.content_type or b"application/json"
        streams = self.session is not None and conn.status == 200 and conn.content_type.startswith(SSE)
        self.attempt.on(OPENED if streams else ANSWERED)
        if streams and not self._headed:
            self._head()

    def _head(self) -> None:
        """The client learns that its stream is accepted, as vLLM tells it: before the first token. Nothing of content
        has been seen, so every retry is still possible."""
        self._headed = self.request.streams  # a whole answer has none before its end
        self.status = 200
        self.sink.start(200, EVENT_STREAM, b"")

    def on_body(self, parts: list[bytes], complete: bool) -> None:
        """What one read brought: the contents of its HTTP chunks. An engine puts one event into each."""
        if complete:
            self._conn = None
        session, phase = self.session, self.attempt.phase
        if session is None or phase is HOLDING:
            if phase is STREAMING:
                self._pass_on(parts, complete)
            else:
                self._hold(parts, complete)
            return
        try:
            self._more(session, parts, complete)
        except Unfit as e:
            self._anew(str(e))

    def _more(self, session: StreamSession, parts: list[bytes], complete: bool) -> None:
        """What one read brought of a stream. One read, one write."""
        feed, phase = session.feed, self.attempt.phase
        out = feed(parts[0]) if len(parts) == 1 else b"".join([feed(part) for part in parts])
        if session.failed is not None or complete:
            self._stream_over(session, out)
            return
        if phase is not STREAMING and _comments(out):
            if session.tape is not None:
                session.tape.add(DROPPED, b"")
            return  # no sign of life, and no token
        if out:
            self._flow(out)
        if not parts[-1].startswith(b":"):  # a keep-alive comment is no sign of life
            self.ticket.awaits = False
            if self._conn is not None:
                self._conn.heard = True

    def _flow(self, out: bytes) -> None:
        """Bytes of a stream for the client."""
        attempt = self.attempt
        if attempt.phase is STREAMING:
            self._write(out)
            return
        attempt.on(FLOWED)
        self.ticket.awaits = False
        if attempt.begun:
            self._relay()
            self._write(out)
            return
        if self.hedge is not None:
            self.hedge.drop()
        if self.ticket.target is not None:
            self.fleet.desk.served(self.ticket.target)
        attempt.begun = True
        self.first_token_at = self.fleet.now()
        if not self._headed:
            self._head()
        if out:  # an empty chunk would end the answer
            self._write(out)
        self._relay()

    def _write(self, out: bytes) -> None:
        """What came of what the session was told."""
        session = self.session
        if session is not None and session.tape is not None:
            session.tape.add(WROTE, b"")
        self.sink.write(out)

    def _relay(self) -> None:
        """From now on ordinary chunks go from the replica's connection straight to the client's."""
        if self._conn is not None and self.session is not None:
            self._conn.relay(self.session, self.sink.chunks)

    def hedged(self, target: Target) -> None:
        """The desk has given it a second place, at `target`."""
        self.hedge = Hedge(self, target)

    def overtaken(self, hedge: Hedge, out: bytes, complete: bool) -> None:
        """The second attempt brought the first token."""
        self._drop()
        self._become(hedge)
        try:
            if complete:
                self._stream_over(hedge.session, out)
            else:
                self._flow(out)
        except Unfit as e:
            self._anew(str(e))

    def _become(self, hedge: Hedge) -> None:
        """Goes on with the second attempt, whatever has come of it."""
        self.hedge = None
        self.fleet.desk.take_second(self.ticket)
        tape = self.session.tape if self.session is not None else None
        if tape is not None:
            tape.add(FRESH, b"%d" % hedge.session.seed)
            for part in hedge.fed:
                tape.add(FED, part)
            hedge.session.tape = tape
        self.session, self._conn = hedge.session, hedge.conn
        self.replica = hedge.target.name
        self.side = "canary" if hedge.target.replica.group == "canary" else "stable"
        self.ticket.awaits = hedge.conn is not None
        self.attempt.stream, self.attempt.body = hedge.session, hedge.session.first_request()
        self.attempt.took_over(hedge.streams or hedge.conn is not None, hedge.streams)
        self._last_event = self.fleet.now()
        hedge.yields_to(self)

    def _stream_over(self, session: StreamSession, out: bytes) -> None:
        """The replica's stream is over: whole, or by its own word or ours broken."""
        if out:
            self._flow(out)
        if session.failed is not None:
            self._drop()
            blame = Blame.DEATH if session.blames_replica else Blame.ELSEWHERE
            self._broke(Break("stream", session.failed, blame))
        elif not session.done:
            self._broke(Break("stream", "the stream ended early", Blame.DEATH))
        else:
            self._end_stream(b"")

    def _anew(self, reason: str) -> None:
        """The stream cannot be put together: the engine is asked for the answer as it is."""
        self._drop()
        self._waste("stream", self._spent())
        if self.ticket.target is not None:
            self.fleet.broke(self.ticket, Break("stream", reason, Blame.NOTHING))
        decision = self.attempt.anew()
        assert decision is not None, "only what is put together is unfit"
        self._obey(decision, "stream")

    def _end_stream(self, out: bytes) -> None:
        self._drop()
        if not self.attempt.begun:
            self._flow(out)
            out = b""
        self.sink.end(out)
        self._shadow(None)
        self._finished()

    def on_lost(self, reason: str, answered: bool) -> None:
        conn, self._conn = self._conn, None
        if self.attempt.phase is OVER:
            return
        # An idle connection that the replica closed as we used it is no evidence against the replica.
        race = conn is not None and conn.reused and not answered
        self._broke(
            Break("keepalive", reason, Blame.NOTHING) if race else Break("reset", reason, Blame.DEATH)
        )

    # -- answers that are not streams

    def _pass_on(self, parts: list[bytes], complete: bool) -> None:
        """More of a huge answer."""
        data = b"".join(parts)
        if complete:
            self.sink.end(data)
            self._finished()
        elif data:
            self.sink.write(data)

    def _plays(self) -> bool:
        """It is to be heard or read as it comes: audio, or events on a route whose streams are not watched."""
        kind = self._content_type[:17]
        return (
            self._engine_status == 200
            and self.session is None
            and (kind == SSE or kind.startswith(b"audio/"))
            and not self._headed
        )

    def _hold(self, parts: list[bytes], complete: bool) -> None:
        """Held whole if it is not huge, then judged and passed on."""
        held = self._held
        if parts:  # joined: thousands of chunks of a byte each would take 40 bytes for one
            held.append(parts[0] if len(parts) == 1 else b"".join(parts))
            self._held_bytes += len(held[-1])
        if held:
            self.ticket.awaits = False
            if self.ticket.target is not None:
                self.fleet.pool(self.ticket.target).last_event = self.fleet.now()
        if not complete and self._held_bytes <= HOLD and not (held and self._plays()):
            return
        body = held[0] if len(held) == 1 else b"".join(held)
        self._held, self._held_bytes = [], 0
        status, attempt = self._engine_status, self.attempt
        verdict = judge(status, body, self.request.path == MESSAGES)
        if status != 200 or attempt.begun or verdict is not PASS:
            full = status == 400 and b"maximum context length" in body
            mark = self._mark() if status >= 500 or verdict is SENSELESS else b""
            now = self.fleet.now()
            settled = mark != b"" and self.fleet.desk.settled(self.ticket, mark, now)
            decision = attempt.answered(verdict, status, full, settled, now)
            if decision is not None:
                self._drop()
                if isinstance(decision, Break):
                    self._broke(decision._replace(mark=mark))
                else:
                    self._obey(decision, "")
                return
        self._deliver(status, body, complete)

    def _deliver(self, status: int, body: bytes, complete: bool) -> None:
        """The answer is the client's."""
        attempt, target = self.attempt, self.ticket.target
        if self._headed:  # it was asked for a stream, and another replica had begun one
            self._drop()
            refusal = Refusal(
                status, "upstream_refused", f"The engine answered {status} where a stream was due."
            )
            self._failed(Fail(refusal, as_event(body)))
            return
        self.first_token_at = self.fleet.now()
        attempt.begun = True
        self.status = status
        if not complete:
            attempt.on(FLOWED)
            self.session = attempt.stream = None  # whatever was asked for, it is no stream
            self.sink.start(status, self._content_type, body)
            return
        if target is not None:
            if status >= 500:
                self.fleet.erred(target, self._mark())
            elif status == 200:
                self.fleet.desk.served(target)
                self._usage = usage_in(body)
        if status == 200:
            self._shadow(body)
        self.sink.whole(status, self._content_type, body)
        self._finished()

    def _mark(self) -> bytes:
        """Of its prompt; of a large request as a whole."""
        request = self.request
        return request.mark or prompt_mark(request.path, request.body)

    def _shadow(self, answer: bytes | None) -> None:
        shadow, attempt = self.fleet.shadow, self.attempt
        if shadow is not None and self.ticket.ask.group != "canary" and not attempt.resumed:
            shadow.copy(attempt.path, attempt.body, answer, self.session, self.ticket.target)

    # -- breaks

    def _broke(self, what: Break) -> None:
        """The replica failed this request: the desk judges the replica, the attempt says what to do."""
        fleet, spent = self.fleet, self._spent()
        if self.ticket.target is not None:
            if fleet.canary_percent and what.kind != "keepalive":
                fleet.stats.sides[self.side].lost()
            fleet.broke(self.ticket, what)
        self._held, self._held_bytes = [], 0
        decision = self.attempt.broke(what, fleet.now(), fleet.admission.retry_after())
        if not isinstance(decision, Switch | Finish):
            self._waste(what.kind, spent)
        self._obey(decision, what.kind)

    def _spent(self) -> float:
        """GPU-seconds of its replica that the present attempt has had: its share among those that are there."""
        since, self._sent_at = self._sent_at, 0.0
        target = self.ticket.target
        if not since or target is None:
            return 0.0
        return (self.fleet.now() - since) * self.fleet.gpus / max(1, target.in_flight)

    def _waste(self, kind: str, spent: float) -> None:
        """Counts what the break has thrown away."""
        session, attempt = self.session, self.attempt
        continued = session is not None and attempt.begun and attempt.stream is session and session.continues
        lost = wasted(kind, session, continued, self.request.size, spent)
        self.fleet.stats.waste(lost.prompt, lost.completion, lost.gpu_s)

    def verdict(self) -> None:
        """The time to say whether the replicas died of this request."""
        request = self.request
        guilty = self.fleet.condemn(self.ticket, request.path, request.body, self.started, request.mark)
        self._obey(self.attempt.verdict(guilty), "")

    def _obey(self, decision: Next, kind: str) -> None:
        """Does what the attempt has decided. `kind`: of the break that led to it; empty: it has been counted."""
        if self.session is not None and self.attempt.stream is None:
            self.unstreamed()
        match decision:
            case Send(resumes=resumes):
                self._count(kind, resumes)
                self.ticket.begun = self.attempt.begun or not self.request.streams
                if self.fleet.desk.again(self.ticket, self.fleet.now()) is not None:
                    self.go()
                else:
                    self.fleet.waits(self.ticket)
            case AwaitVerdict(seconds=seconds, resumes=resumes):
                self._count(kind, resumes)
                self.fleet.desk.convict(self.ticket, self.fleet.now() + seconds)
                self.fleet.soon()
            case Switch():
                assert self.hedge is not None
                self.hedge.promoted()
                self._become(self.hedge)
            case Finish(event=event):
                try:
                    self._end_stream(event)
                except Unfit as e:
                    self._anew(str(e))
            case Fail():
                self._failed(decision)
            case _:
                assert_never(decision)

    def _count(self, kind: str, resumes: bool) -> None:
        if kind and resumes:
            self.fleet.stats.resumed += 1
        elif kind:
            self.fleet.stats.retry(kind)

    # -- time and the client

    def check(self, now: float) -> None:
        """The sweep's look: deadlines and hangs."""
        if not self._weigh():
            return
        conn = self._conn
        if now >= self.ticket.until:
            self._drop()
            self._failed(self.attempt.too_late())
            return
        if self.session is not None:
            self._comment(now)
        if conn is None:
            return
        if conn.paused and self.fleet.admission.queued and self._reads_too_slowly():
            return
        if conn.heard or conn.paused:
            conn.heard = False
            self._last_event = now
        pool = conn.pool
        pool.last_event = max(pool.last_event, self._last_event)
        what = self.attempt.silent(now - self._last_event, now - pool.last_event)
        if what is not None:
            self._drop()
            self._broke(what)

    def _reads_too_slowly(self) -> bool:
        """Its client holds up the replica, and others wait for the place: they come first."""
        sink = self.sink
        if not isinstance(sink, Caller) or not sink.too_slow:
            return False
        message = (
            "The answer was read too slowly, while others waited for its place. Read faster, or ask for less."
        )
        self.give_up(Refusal(408, "slow_reader", message))
        return True

    # -- memory

    def hold(self, size: int) -> None:
        """So many bytes of its request are held for it."""
        self.fleet.memory.add(size - self._bodies)
        self._bodies = size

    @property
    def recorded(self) -> int:
        return self._recorded

    def _weigh(self) -> bool:
        """Counts what is held of its answer. False: it was too much, and it has ended."""
        session = self.session
        size = self._held_bytes if session is None else self._held_bytes + session.nbytes
        if isinstance(self.sink, WholeSink):
            size += self.sink.held
        self.fleet.memory.add(size - self._recorded)
        self._recorded = size
        if size <= MOST_RECORDED:
            return True
        limit = MOST_RECORDED >> 20
        self.give_up(
            Refusal(502, "answer_too_large", f"The answer is larger than {limit} MiB. Ask for less of it.")
        )
        return False

    def too_much(self) -> None:
        self.give_up(
            Refusal(503, "overloaded", "The gateway has no memory left for this answer. Send it again.", 2)
        )

    def _comment(self, now: float) -> None:
        """A stream that waits, is prefilled, held back or mended says so, lest somebody in between takes it for dead:
        its head at the latest after `headersAfter`, then a comment, which is no token, every COMMENT_S."""
        if not self._headed:
            if now - self.started < self.fleet.spec.headers_after:
                return
            self._head()
        if now - max(self._last_event, self._commented_at) >= COMMENT_S:
            self._commented_at = now
            self.sink.comment()

    def replica_died(self, reason: str) -> None:
        """There is evidence that its replica is dead: it goes on elsewhere."""
        self._drop()
        self._broke(Break("hang", reason, Blame.BROKEN))

    def leave_replica(self, reason: str) -> None:
        """Its replica answers wrongly: it goes on elsewhere, unless what its client has cannot be gone on from."""
        session, attempt = self.session, self.attempt
        continues = session is not None and attempt.stream is session and session.continues
        if attempt.phase is not OVER and (continues or not attempt.begun):
            self._drop()
            self._broke(Break("wrong", reason, Blame.BROKEN))

    def waited_too_long(self) -> None:
        """The queue's deadline: nothing became free."""
        fleet = self.fleet
        waited = fleet.now() - self.started
        self._failed(self.attempt.waited(waited, fleet.router.alive() > 0, fleet.admission.retry_after()))

    def shut_down(self) -> None:
        """The gateway's grace is over."""
        self.give_up(Refusal(503, "shutting_down", "The gateway is shutting down. Send it again.", 1))

    def give_up(self, refusal: Refusal) -> None:
        """It is not answered any further, for this reason."""
        if self.attempt.phase is OVER:
            return
        self._drop()
        self._failed(Fail(refusal))

    def gives_way(self) -> None:
        """A line of a batch, whose place somebody needs: its replica is told at once, and the lane sends it again."""
        if self.attempt.phase is OVER:
            return
        self._drop()
        refusal = Refusal(429, GAVE_WAY, "This line of a batch gave way to a request. Send it again.", 1)
        self.status, self.code = refusal.status, refusal.code
        self.sink.fail(refusal, b"")
        self.fleet.stats.cancelled += 1
        self._over("cancelled")

    def client_gone(self) -> None:
        """Nobody listens any more: the replica is told at once."""
        if self.attempt.phase is OVER:
            return
        self._drop()
        self.status = 499
        self.fleet.stats.cancelled += 1
        self._over("cancelled")

    def pause(self) -> None:
        """The client reads slowly: stop reading from the replica."""
        if self._conn is not None:
            self._conn.pause()

    def resume(self) -> None:
        if self._conn is not None:
            self._last_event = self.fleet.now()
            if self.attempt.phase is STREAMING and self.attempt.begun:
                self._relay()
            self._conn.resume()

    # -- the one ending

    def _drop(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.detach()

    def _finished(self) -> None:
        stats = self.fleet.stats
        stats.finished += 1
        if self.request.streams and self.status == 200 and self.first_token_at:
            stats.first_token(self.first_token_at - self.started)
        self._over("finished" if self.status < 400 else "refused")

    def _failed(self, fail: Fail) -> None:
        """Not answered whole. What has begun ends so that nobody takes it for whole."""
        refusal, event = fail.refusal, b""
        self.fleet.stats.failed += 1
        self.status, self.code = refusal.status, refusal.code
        if self._headed and self.session is not None:
            event = fail.event or error_event(self.session, refusal)
        self.sink.fail(refusal, event)
        self._over("failed")

    def _over(self, outcome: str) -> None:
        """Counts what the request was and cost, and gives its place back."""
        self.attempt.on(AttemptEvent.ENDED)
        if self.hedge is not None:
            self.hedge.drop()
        fleet = self.fleet
        tokens_in = tokens_out = 0
        cost_usd = 0.0
        session = self.session
        usage = self._usage if session is None else session.usage
        if usage is not None and not usage.estimated and not self.attempt.resumed:
            fleet.told(
                self.ticket,
                self.request.made,
                usage.prompt_tokens,
                cached_in(usage),
                usage.completion_tokens,
            )
        fleet.left(self.ticket)
        if usage is not None:
            tokens_in, tokens_out = usage.prompt_tokens, usage.completion_tokens
            fleet.stats.tokens_in += tokens_in
            fleet.stats.tokens_out += tokens_out
            cost_usd = fleet.cost_usd(tokens_in, tokens_out)
            if tokens_out:
                fleet.learn_output(tokens_out)
        seconds = fleet.now() - self.started
        if fleet.canary_percent and outcome == "finished":
            self._account_side(seconds, tokens_out)
        if self.ticket.priority >= SPARE:
            fleet.stats.spare -= 1
        else:
            fleet.stats.duration.add(seconds)
        self._tell(outcome, tokens_in, tokens_out, cost_usd, seconds)

    def _tell(self, outcome: str, tokens_in: int, tokens_out: int, cost_usd: float, seconds: float) -> None:
        self.fleet.memory.add(-self._bodies - self._recorded)
        self._bodies = self._recorded = 0
        self.ticket.owner = None  # no cycle is left for the collector
        request, attempt, first = self.request, self.attempt, self.first_token_at
        self.fleet.tell(
            Ended(
                request.id,
                request.path,
                request.model,
                request.tenant,
                request.key,
                request.headers,
                self.fleet.name,
                outcome,
                self.status,
                self.code,
                self.replica,
                seconds,
                first - self.started if first else 0.0,
                tokens_in,
                tokens_out,
                cost_usd,
                attempt.resumed,
                attempt.retried,
                self.request.streams,
                self.ticket.tokens if self.ticket.priority < SPARE else 0,
            )
        )
        self.sink.done()

    def _account_side(self, seconds: float, tokens_out: int) -> None:
        """What the canary's analysis learns from an answer."""
        slo = self.fleet.fleet.spec.traffic.slo
        ttft = self.first_token_at - self.started if self.first_token_at else 0.0
        rest = tokens_out - 1
        tpot = (seconds - ttft) / rest if ttft > 0 and rest > 0 else 0.0
        self.fleet.stats.sides[self.side].served(ttft, tpot, ttft > slo.ttft or tpot > slo.tpot)


def _comments(events: bytes) -> bool:
    """Whether whole events are comments, all of them."""
    return events.startswith(b":") and b"\ndata:" not in events and b"\nevent:" not in events

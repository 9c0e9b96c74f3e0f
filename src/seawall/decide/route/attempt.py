"""The attempt: what happens to one request between its admission and its end, and what is done when a replica fails it.

`TABLE` says which phase follows on which event; docs/reference/gateway.md shows it as a picture, and a test compares
the two. A break (`broke`) is answered with what to do:

    Send           ask the desk for another place, and send this body there
    AwaitVerdict   two deaths are laid to this request: ask `verdict` after so many seconds
    Switch         the hedged second attempt is under way: go on with it
    Finish         nothing is missing but the end of the stream
    Fail           give up, and tell the client so

The gateway's exchange and the simulator obey it. Forbidden here: I/O, clocks, what a body says.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple, Protocol

from seawall.decide.route import resume
from seawall.decide.route.admit import Ticket
from seawall.decide.route.breaks import Blame, Break
from seawall.decide.route.poison import QUARANTINE_S
from seawall.decide.route.refusal import Refusal, poisonous
from seawall.domain.units import counted

VERDICT_S = 0.25
"""Between two looks at whether the replicas of a convict have died."""
VERDICTS_S = 10.0
"""Without evidence of that within so long it is tried again: nothing was proved against it."""
SECOND_OPINIONS = 2
"""A 5xx before the first byte is asked of so many others: what fails everywhere is the request's own fault."""
NO_REPLICA_RETRY_S = 10


class AttemptPhase(IntEnum):
    """Where a request is."""

    WAITING = 0
    CONNECTING = 1
    SENT = 2
    HOLDING = 3
    OPENED = 4
    STREAMING = 5
    OVER = 6


class AttemptEvent(IntEnum):
    """What can happen to it."""

    PLACED = 0
    CONNECTED = 1
    ANSWERED = 2
    OPENED = 3
    FLOWED = 4
    BROKE = 5
    ENDED = 6


MEANING: Final = {
    AttemptPhase.WAITING: "for a place",
    AttemptPhase.CONNECTING: "it has a place at a replica, and no connection yet",
    AttemptPhase.SENT: "the request is there; nothing has come back",
    AttemptPhase.HOLDING: "the head of a whole answer has come; what follows is held",
    AttemptPhase.OPENED: "the head of a stream has come; the client has nothing of this attempt",
    AttemptPhase.STREAMING: "bytes go on to the client",
    AttemptPhase.OVER: "answered, failed, or given up by its client",
}

TABLE: Final[dict[tuple[AttemptPhase, AttemptEvent], AttemptPhase]] = {
    (AttemptPhase.WAITING, AttemptEvent.PLACED): AttemptPhase.CONNECTING,
    (
        AttemptPhase.WAITING,
        AttemptEvent.FLOWED,
    ): AttemptPhase.STREAMING,  # only the end of a stream was missing
    (AttemptPhase.WAITING, AttemptEvent.ENDED): AttemptPhase.OVER,
    (AttemptPhase.CONNECTING, AttemptEvent.CONNECTED): AttemptPhase.SENT,
    (AttemptPhase.CONNECTING, AttemptEvent.BROKE): AttemptPhase.WAITING,
    (AttemptPhase.CONNECTING, AttemptEvent.ENDED): AttemptPhase.OVER,
    (AttemptPhase.SENT, AttemptEvent.ANSWERED): AttemptPhase.HOLDING,
    (AttemptPhase.SENT, AttemptEvent.OPENED): AttemptPhase.OPENED,
    (AttemptPhase.SENT, AttemptEvent.BROKE): AttemptPhase.WAITING,
    (AttemptPhase.SENT, AttemptEvent.ENDED): AttemptPhase.OVER,
    (AttemptPhase.HOLDING, AttemptEvent.FLOWED): AttemptPhase.STREAMING,  # it is huge
    (AttemptPhase.HOLDING, AttemptEvent.BROKE): AttemptPhase.WAITING,
    (AttemptPhase.HOLDING, AttemptEvent.ENDED): AttemptPhase.OVER,
    (AttemptPhase.OPENED, AttemptEvent.FLOWED): AttemptPhase.STREAMING,
    (AttemptPhase.OPENED, AttemptEvent.BROKE): AttemptPhase.WAITING,
    (AttemptPhase.OPENED, AttemptEvent.ENDED): AttemptPhase.OVER,
    (AttemptPhase.STREAMING, AttemptEvent.BROKE): AttemptPhase.WAITING,
    (AttemptPhase.STREAMING, AttemptEvent.ENDED): AttemptPhase.OVER,
}


_NEXT: Final = [[TABLE.get((phase, event)) for event in AttemptEvent] for phase in AttemptPhase]


class Judgement(IntEnum):
    """What a whole answer shows of its replica."""

    PASS = 0
    """The request's result."""
    BUSY = 1
    DRAINING = 2
    DEAD = 3
    ABORTED = 4
    LOCKED = 5
    """The gateway's own key is refused."""
    SENSELESS = 6
    """It computes NaN, and says so as if the request were at fault."""


class Send(NamedTuple):
    path: bytes
    body: bytes
    resumes: bool
    """The client has a part of the stream: this continues it. Else it is a retry, of which the client knows nothing."""


class AwaitVerdict(NamedTuple):
    seconds: float
    resumes: bool


class Switch(NamedTuple):
    pass


class Fail(NamedTuple):
    refusal: Refusal
    event: bytes = b""
    """What ends a stream that has begun, if the stream knows better than the refusal."""


Next = Send | AwaitVerdict | Switch | resume.Finish | Fail


class Mendable(Protocol):
    """A stream that knows how it goes on elsewhere: `resume.StreamSession`."""

    def broken(
        self, reason: str, now: float, *, full: bool = False, counts: bool = True
    ) -> resume.Decision: ...


class Limits(NamedTuple):
    """What a fleet's spec says about its requests."""

    fleet: str
    retries: int
    """Further replicas that a request is tried at before the client has anything."""
    first_byte_s: float | None
    stall_s: float | None
    """Silence that the spec allows; None: silence alone is no break, evidence is (`evidence`)."""


class Attempt:
    """See the module. `stream` None: the answer is not a stream."""

    __slots__ = (
        "_left",
        "_waited",
        "begun",
        "body",
        "limits",
        "path",
        "phase",
        "plain",
        "resumed",
        "retried",
        "stream",
        "ticket",
    )

    def __init__(
        self, ticket: Ticket, stream: Mendable | None, path: bytes, body: bytes, limits: Limits
    ) -> None:
        self.ticket = ticket
        self.stream = stream
        self.path = path
        self.body = body
        """What to send to the next replica, and where."""
        self.limits = limits
        self.plain: tuple[bytes, bytes] | None = None
        """Path and body that ask for the same answer whole, where it is put together from a stream: the client has
        nothing of that until its end, so it can be asked for anew."""
        self.phase = AttemptPhase.WAITING
        self.begun = False
        """The client has a part of the answer."""
        self.resumed = self.retried = 0
        self._left = limits.retries
        self._waited = 0.0

    def on(self, event: AttemptEvent) -> None:
        """Moves to the next phase. AssertionError: the table knows no such way."""
        phase = _NEXT[self.phase][event]
        assert phase is not None, f"{event.name} cannot happen to a request that is {self.phase.name}"
        self.phase = phase

    # -- breaks

    def broke(self, what: Break, now: float, retry_after_s: int) -> Next:
        """A replica failed it, and the desk knows (`Desk.broke`). `retry_after_s`: for a client that finds all full."""
        streams = self.phase is AttemptPhase.OPENED or self.phase is AttemptPhase.STREAMING
        self.on(AttemptEvent.BROKE)
        if self.ticket.second is not None:
            return Switch()
        stream = self.stream
        if streams and stream is not None:
            match stream.broken(what.reason, now):
                case resume.Finish() as finish:
                    return finish
                case resume.GiveUp(event=event):
                    return self.anew() or Fail(self._lost(what, retry_after_s), event)
                case resume.Retry(path=path, body=body):
                    self.path, self.body = path.encode(), body
            if self.begun:
                self.resumed += 1
                self._left = self.limits.retries
                return self._send()
        elif self.begun and stream is None:
            return Fail(Refusal(502, "upstream_lost", what.reason))
        if what.blame is not Blame.NOTHING:
            self._left -= 1
        if self._left < 0:
            return Fail(self._lost(what, retry_after_s))
        self.retried += 1
        return self._send()

    def anew(self) -> Send | AwaitVerdict | None:
        """What a stream brought is of no use, and the client has nothing of it: the whole answer is asked for from the
        start, once and not as a stream. None: that cannot be."""
        if self.plain is None:
            return None
        if self.phase is not AttemptPhase.WAITING:
            self.on(AttemptEvent.BROKE)
        self.path, self.body = self.plain
        self.stream = self.plain = None
        self.begun = False
        self.retried += 1
        return self._send()

    def carried_over(self, begun: bool, now: float) -> Next:
        """The gateway that began it has died, which is no replica's fault: what its successor does first. `begun`: the
        client has a part of the answer."""
        self.begun = begun
        if self.stream is not None:
            match self.stream.broken("its gateway died", now, counts=False):
                case resume.Finish() as finish:
                    return finish
                case resume.GiveUp(event=event):
                    lost = Refusal(502, "upstream_lost", "The gateway died. Send it again.")
                    return self.anew() or Fail(lost, event)
                case resume.Retry(path=path, body=body):
                    self.path, self.body = path.encode(), body
        return self._send()

    def _send(self) -> Send | AwaitVerdict:
        if self.ticket.convicted:
            return AwaitVerdict(VERDICT_S, self.begun)
        return Send(self.path, self.body, self.begun)

    def verdict(self, guilty: bool | None) -> Next:
        """After `AwaitVerdict`: whether the replicas died of it (`Desk.died_of`); None: that is not known yet."""
        self._waited += VERDICT_S
        if guilty is None and self._waited < VERDICTS_S:
            return AwaitVerdict(VERDICT_S, self.begun)
        self.ticket.convicted = False
        if guilty:
            return Fail(poisonous(QUARANTINE_S))
        return self._send()

    def took_over(self, connected: bool, opened: bool) -> None:
        """The second attempt is the one that counts from now on, as far as it has come."""
        if self.phase is not AttemptPhase.WAITING:
            self.on(AttemptEvent.BROKE)
        self.on(AttemptEvent.PLACED)
        if connected:
            self.on(AttemptEvent.CONNECTED)
        if opened:
            self.on(AttemptEvent.OPENED)

    def _lost(self, what: Break, retry_after_s: int) -> Refusal:
        if what.kind == "local" and not self.begun:
            return Refusal(503, "overloaded", f"Try again later: {what.reason}.", retry_after_s)
        if what.kind == "503" and not self.begun:
            message = f"Every replica of {self.limits.fleet} is full."
            return Refusal(503, "overloaded", message, retry_after_s)
        attempts = max(1, len(self.ticket.ask.avoid))
        message = f"{counted(attempts, 'replica')} failed this request, the last with: {what.reason}. Send it again."
        return Refusal(502, "upstream_lost", message)

    # -- whole answers

    def answered(
        self, verdict: Judgement, status: int, full: bool, settled: bool, now: float
    ) -> Break | resume.Finish | Send | AwaitVerdict | Fail | None:
        """A whole answer has come. None: it is the client's. `full`: it says that prompt and answer together would be
        longer than the model's context, which is the proper end of a stream that is continued. `settled`: a 5xx is the
        prompt's own fault (`Desk.settled`)."""
        match verdict:
            case Judgement.BUSY:
                return Break("503", "answered 503", Blame.FULL)
            case Judgement.DEAD:
                return Break("dead", "engine dead", Blame.DEATH)
            case Judgement.DRAINING:
                return Break("drain", "draining", Blame.BROKEN)
            case Judgement.ABORTED:
                return Break("drain", "aborted", Blame.BROKEN)
            case Judgement.LOCKED:
                message = "The engine refuses the gateway's key. Tell the operator (SEAWALL_ENGINE_API_KEY)."
                return Fail(Refusal(502, "upstream_auth", message))
            case Judgement.SENSELESS:
                status = 500
            case Judgement.PASS:
                pass
        if self.begun:
            if full and self.stream is not None:
                decision = self.stream.broken("the model's length", now, full=True)
                if isinstance(decision, resume.Finish):
                    return decision
            refusal = Refusal(502, "upstream_lost", f"The continuation was answered with {status}.")
            return self.anew() or Fail(refusal)
        asked = len(self.ticket.ask.avoid)
        if status >= 500 and self._left > 0 and asked < SECOND_OPINIONS and not settled:
            return Break("5xx", f"answered {status}", Blame.ERROR)
        return None

    # -- time

    def silent(self, quiet_s: float, replica_quiet_s: float) -> Break | None:
        """Nothing came for `quiet_s`, and on no stream of its replica for `replica_quiet_s`: whether it hangs. The
        replica is suspected only if all its streams are silent: one may just be queued."""
        if self.phase is AttemptPhase.STREAMING:
            limit, what = self.limits.stall_s, "no data event"
        elif self.phase in (AttemptPhase.SENT, AttemptPhase.HOLDING, AttemptPhase.OPENED):
            limit, what = self.limits.stall_s if self.begun else self.limits.first_byte_s, "no answer"
        else:
            return None
        if limit is None or quiet_s <= limit:
            return None
        blame = Blame.ELSEWHERE if replica_quiet_s < limit else Blame.BROKEN
        return Break("hang", f"{what} for {limit:g} s", blame)

    def too_late(self) -> Fail:
        """The request's own deadline has passed."""
        return Fail(Refusal(504, "deadline_exceeded", "The request's deadline has passed. Allow more time."))

    def waited(self, seconds: float, alive: bool, retry_after_s: int) -> Fail:
        """The queue's deadline has passed. `alive`: some replica is ready, and full."""
        if self.begun:
            message = "The replica failed and no other took over in time."
            return Fail(Refusal(502, "upstream_lost", message))
        fleet, waited = self.limits.fleet, f"waited {seconds:.0f} s"
        if alive:
            message = f"{fleet} is full: {waited} for a place."
            return Fail(Refusal(429, "queue_timeout", message, retry_after_s))
        message = f"No replica of {fleet} is ready ({waited}). Try again later."
        return Fail(Refusal(503, "no_replica", message, NO_REPLICA_RETRY_S))

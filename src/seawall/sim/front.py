"""What stands before the replicas: our gateway's own decisions, or the plain Service of the guide.

Why: what the simulator says about queues, 429s, retries and resumes must be what the gateway does, so both drive the
same objects: the desk (who goes where) and the attempt (what becomes of a request that its replica failed).
Forbidden here: rules of our own about any of this, time, replicas' insides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import NamedTuple, Protocol

from seawall.decide.route import resume
from seawall.decide.route.admit import Bounds, Queued, Rejected, Ticket
from seawall.decide.route.attempt import Attempt, AttemptEvent, Judgement, Limits, Next
from seawall.decide.route.breaks import Break
from seawall.decide.route.desk import Desk, DeskRules, Tick
from seawall.decide.route.pick import Picked, Target
from seawall.decide.route.resume import Breaks, GiveUp, Policy, Retry
from seawall.domain.seen import Replica
from seawall.sim.engine import NEVER, Seq
from seawall.sim.setup import Setup


class Mended(NamedTuple):
    """What a break comes to. `out`: the replica is out of service, and is asked for a proof."""

    decision: Next | None
    """None: nobody mends it."""
    out: bool


class Front(Protocol):
    """A way from a request to a replica."""

    def targets(self) -> dict[str, Target]: ...
    @property
    def discovered(self) -> Callable[[Iterable[Replica]], object]: ...
    @property
    def offer(self) -> Callable[[Ticket, float], Picked | Queued | Rejected]: ...
    def failed(self, seq: Seq, now: float) -> Break | None:
        """Its replica answered with a 500. None: that is the answer."""

    def broke(self, seq: Seq, what: Break, now: float) -> Mended: ...
    def verdict(self, seq: Seq, now: float) -> Next: ...
    @property
    def convict(self) -> Callable[[Ticket, float], None]: ...
    @property
    def again(self) -> Callable[[Ticket, float], Picked | None]: ...
    @property
    def proven(self) -> Callable[[Target, float], bool]: ...
    @property
    def served(self) -> Callable[[Target], None]: ...
    def told(self, seq: Seq) -> None:
        """Its replica has answered whole, and said what it had cached."""

    @property
    def left(self) -> Callable[[Ticket, float], None]: ...
    @property
    def tick(self) -> Callable[[float], Tick]: ...
    @property
    def queued(self) -> int: ...
    @property
    def watch(self) -> Callable[[Ticket, float], None]:
        """It has been sent, and may be hedged. This and what follows is for fronts that hedge."""

    @property
    def take_second(self) -> Callable[[Ticket], None]: ...
    @property
    def drop_second(self) -> Callable[[Ticket], None]: ...
    @property
    def evict(self) -> Callable[[Target, str], bool]: ...


class SimStream:
    """A stream of the simulator, as the attempt knows it: how often it may be broken, and no bytes."""

    def __init__(self, seq: Seq, policy: Policy) -> None:
        self._seq = seq
        self._policy = policy
        self._breaks = Breaks(policy)

    def broken(self, reason: str, now: float, *, full: bool = False, counts: bool = True) -> resume.Decision:
        """As `resume.StreamSession.broken`: within the bound it goes on elsewhere, unless `resume: off`."""
        begun = self._seq.first >= 0
        held = self._seq.size if begun else 0  # grows by what was generated
        if (begun and self._policy.mode == "off") or not self._breaks.allow(now, held):
            return GiveUp(event=b"", reason=reason)
        return Retry(path="", body=b"", reason=reason)


class OurGateway:
    """The gateway: its desk, and an attempt for every request that broke."""

    def __init__(self, setup: Setup, rng: Random) -> None:
        spec = setup.fleet.spec.gateway
        bounds = Bounds(spec.max_queued, spec.max_queued_tokens)
        self.desk = desk = Desk(
            DeskRules(
                spec.max_in_flight or setup.shape.max_num_seqs, bounds, spec.queue_timeout, spec.hedge_after
            ),
            rng,
        )
        self.policy = Policy(mode=spec.resume, max_resumes=spec.retries)
        self.offer = desk.offer
        self.again = desk.again
        self.left = desk.left
        self.convict = desk.convict
        self.tick = desk.tick
        self.discovered = desk.discovered
        self.proven = desk.proven
        self.served = desk.served
        self.watch, self.take_second, self.drop_second = desk.watch, desk.take_second, desk.drop_second
        self.evict = desk.evict
        self.limits = Limits(setup.fleet.name, spec.retries, spec.first_byte_timeout, spec.stall_timeout)

    @property
    def queued(self) -> int:
        return self.desk.admission.queued

    def targets(self) -> dict[str, Target]:
        return self.desk.router.targets

    def failed(self, seq: Seq, now: float) -> Break | None:
        mark = b"%d" % seq.rid  # every request is another one here
        settled = self.desk.settled(seq.ticket, mark, now)
        broke = self.attempt(seq).answered(Judgement.PASS, 500, False, settled, now)
        return broke._replace(mark=mark) if isinstance(broke, Break) else None

    def broke(self, seq: Seq, what: Break, now: float) -> Mended:
        begun = seq.first >= 0
        if begun:
            seq.ticket.until = NEVER  # who has a token does not go away
            seq.ticket.begun = True
        out = self.desk.broke(seq.ticket, what, now)
        attempt = self.attempt(seq)
        for event in (
            AttemptEvent.PLACED,
            AttemptEvent.CONNECTED,
            *((AttemptEvent.OPENED, AttemptEvent.FLOWED) if begun else ()),
        ):
            attempt.on(event)
        attempt.begun = begun
        return Mended(attempt.broke(what, now, self.desk.admission.retry_after()), out)

    def told(self, seq: Seq) -> None:
        if seq.shared > 0:
            self.desk.told(seq.ticket, seq.shared, min(seq.cached, seq.shared), 0)

    def attempt(self, seq: Seq) -> Attempt:
        """Made when it is first asked: most requests need none."""
        attempt: Attempt | None = seq.attempt
        if attempt is None:
            stream = SimStream(seq, self.policy)
            attempt = seq.attempt = Attempt(seq.ticket, stream, b"", b"", self.limits)
        return attempt

    def verdict(self, seq: Seq, now: float) -> Next:
        return self.attempt(seq).verdict(self.desk.died_of(seq.ticket, seq.arrived))


class PlainService:
    """A Kubernetes Service: kube-proxy picks any ready pod at random; no bound, no retry, no resume."""

    queued = 0

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.known: dict[str, Target] = {}
        self.ready: list[Target] = []

    def discovered(self, replicas: Iterable[Replica]) -> object:
        wanted = {r.name: r for r in replicas}
        self.known = {n: self.known.get(n) or Target(r, 1 << 30) for n, r in wanted.items()}
        self.ready = [self.known[n] for n, r in wanted.items() if r.ready and not r.draining]
        return None

    def targets(self) -> dict[str, Target]:
        return self.known

    def offer(self, ticket: Ticket, now: float) -> Picked | Queued | Rejected:
        if not self.ready:
            return Rejected(0, "no endpoint is ready: connection refused")
        ticket.target = target = self.ready[int(self.rng.random() * len(self.ready))]
        return Picked(target, "at random")

    def failed(self, seq: Seq, now: float) -> Break | None:
        return None

    def broke(self, seq: Seq, what: Break, now: float) -> Mended:
        return Mended(None, False)

    def again(self, ticket: Ticket, now: float) -> Picked | None:
        return None

    def convict(self, ticket: Ticket, until: float) -> None:
        raise AssertionError("a Service convicts nobody")

    def verdict(self, seq: Seq, now: float) -> Next:
        raise AssertionError("a Service convicts nobody")

    def proven(self, target: Target, now: float) -> bool:
        return False

    def served(self, target: Target) -> None:
        pass

    def told(self, seq: Seq) -> None:
        pass

    def left(self, ticket: Ticket, now: float) -> None:
        ticket.target = None

    def tick(self, now: float) -> Tick:
        return Tick([], [], [], [])

    def watch(self, ticket: Ticket, now: float) -> None:
        raise AssertionError("a Service hedges nothing")

    def take_second(self, ticket: Ticket) -> None:
        raise AssertionError("a Service hedges nothing")

    def drop_second(self, ticket: Ticket) -> None:
        raise AssertionError("a Service hedges nothing")

    def evict(self, target: Target, reason: str) -> bool:
        raise AssertionError("a Service evicts nobody")

"""What stands before the replicas: our gateway's own code, or the plain Service of the guide.

Why: what the simulator says about queues, 429s and resumes must be what the gateway does, so it *is* the
gateway's code: `decide.route.pick.Router` and `decide.route.admit.Admission`, called as the gateway calls them.
Forbidden here: time, replicas' insides.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Protocol

from seawall.decide.route.admit import Admission, Admitted, Bounds, Queued, Ticket
from seawall.decide.route.pick import Ask, Router, Target
from seawall.domain.seen import Replica
from seawall.sim.engine import Seq
from seawall.sim.setup import Setup

Placed = tuple[Seq, Target]


class Front(Protocol):
    """A way from a request to a replica."""

    resumes: bool
    retries: bool

    def discovered(self, replicas: Iterable[Replica]) -> None: ...
    def targets(self) -> dict[str, Target]: ...
    def arrive(self, seq: Seq, now: float) -> Target | str | None:
        """A target, a reason for refusing, or None: it waits."""

    def again(self, seq: Seq, now: float) -> Target | None: ...
    def left(self, seq: Seq, now: float) -> None: ...
    def pump(self, now: float) -> list[Placed]: ...
    def sweep(self, now: float) -> list[Seq]: ...
    @property
    def queued(self) -> int: ...


class OurGateway:
    """The gateway: bounded queue, capacity-aware picks, retries and resumes."""

    def __init__(self, setup: Setup, rng: Random) -> None:
        spec = setup.fleet.spec.gateway
        self.resumes = spec.resume != "off"
        self.retries = spec.retries > 0
        cap = spec.max_in_flight or setup.shape.max_num_seqs
        self.router = Router(cap, rng)
        self.admission = Admission(Bounds(spec.max_queued, spec.max_queued_tokens))
        self.wait_s = min(spec.queue_timeout, setup.patience_s)

    @property
    def queued(self) -> int:
        return self.admission.queued

    def discovered(self, replicas: Iterable[Replica]) -> None:
        self.router.update(replicas)

    def targets(self) -> dict[str, Target]:
        return self.router.targets

    def arrive(self, seq: Seq, now: float) -> Target | str | None:
        router, ask = self.router, seq.ask
        if not self.admission.queued and router.free():  # what `offer` says then, without a ticket
            picked = router.pick(ask, now)
            if picked is not None:
                router.start(picked.target, ask)
                return picked.target
        ticket = Ticket(ask, deadline=now + self.wait_s, owner=seq)
        match self.admission.offer(ticket, router.free(), now):
            case Admitted():  # but no replica suits it: its group's are full
                self.admission.force(ticket, now)
                return None
            case Queued():
                return None
            case rejected:
                return rejected.reason

    def again(self, seq: Seq, now: float) -> Target | None:
        """A broken stream: at once if a replica has room (or a tenth above), else before everybody."""
        seq.ask = seq.ask._replace(urgent=True)
        picked = self.router.pick(seq.ask, now)
        if picked is None:
            self.admission.urgent(Ticket(seq.ask, owner=seq), now)
            return None
        self.router.start(picked.target, seq.ask)
        return picked.target

    def left(self, seq: Seq, now: float) -> None:
        self.router.end(seq.target, seq.ask)
        self.admission.finished(now)

    def pump(self, now: float) -> list[Placed]:
        admission, router = self.admission, self.router
        placed: list[Placed] = []
        stuck: list[Ticket] = []
        while admission.queued and len(stuck) < 16:
            if not router.free() and not admission.has_urgent:
                break
            ticket = admission.next()
            if ticket is None:
                break
            picked = router.pick(ticket.ask, now)
            if picked is None:
                stuck.append(ticket)
                continue
            router.start(picked.target, ticket.ask)
            placed.append((ticket.owner, picked.target))
        for ticket in reversed(stuck):
            admission.put_back(ticket, now)
        return placed

    def sweep(self, now: float) -> list[Seq]:
        self.admission.tick(now)
        return [ticket.owner for ticket in self.admission.expire(now)]


class PlainService:
    """A Kubernetes Service: kube-proxy picks any ready pod at random; no bound, no retry, no resume."""

    resumes = False
    retries = False
    queued = 0

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.known: dict[str, Target] = {}
        self.ready: list[Target] = []

    def discovered(self, replicas: Iterable[Replica]) -> None:
        wanted = {r.name: r for r in replicas}
        self.known = {n: self.known.get(n) or Target(r, 1 << 30) for n, r in wanted.items()}
        self.ready = [self.known[n] for n, r in wanted.items() if r.ready and not r.draining]

    def targets(self) -> dict[str, Target]:
        return self.known

    def arrive(self, seq: Seq, now: float) -> Target | str | None:
        if not self.ready:
            return "no endpoint is ready: connection refused"
        return self.ready[int(self.rng.random() * len(self.ready))]

    def again(self, seq: Seq, now: float) -> Target | None:
        return None

    def left(self, seq: Seq, now: float) -> None:
        pass

    def pump(self, now: float) -> list[Placed]:
        return []

    def sweep(self, now: float) -> list[Seq]:
        return []


def ask_of(prompt: int, expected_output: int, group: str | None, blocks: tuple[int, ...]) -> Ask:
    """What the gateway knows of a request before it is served."""
    return Ask(prompt + expected_output, None, group, None, blocks)

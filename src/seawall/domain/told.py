"""What a gateway tells of itself at `/debug/state`: the one shape, its one reader and its one adder.

Written by the gateway; read by whoever scales, rolls out, drains, shows or proves, here and on a cluster. A name in
here is a word on the wire: it may be added, never renamed or given another meaning, for gateways and their readers are
of different ages. Nobody reads such a document by its keys, and nobody but `merged` adds two up. No I/O.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import TypeVar

import msgspec

TTFT_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds of the buckets that `ttft_counts` counts in, seconds; one more bucket is above them all."""
TPOT_BOUNDS_S = (
    0.0025,
    0.005,
    0.0075,
    0.01,
    0.015,
    0.02,
    0.03,
    0.04,
    0.05,
    0.075,
    0.1,
    0.15,
    0.25,
    0.5,
    1.0,
    2.5,
)
"""The same for `tpot_counts`."""
STREAMS_TOLD = 50
"""Streams that are listed one by one, at most."""
_TRUST = ("evicted", "probing", "draining", "ready")
"""States of a replica, the least trusted first; one that is not in it comes before all."""


@dataclass(frozen=True, kw_only=True)
class SideState:
    """One side of a canary split: attempts, what failed of them, sums of logarithms of times in seconds."""

    requests: int = 0
    errors: int = 0
    slow: int = 0
    ttft_n: int = 0
    ttft_log: float = 0.0
    ttft_log2: float = 0.0
    tpot_n: int = 0
    tpot_log: float = 0.0
    tpot_log2: float = 0.0
    compared: int = 0
    differed: int = 0


@dataclass(frozen=True, kw_only=True)
class ShadowState:
    """Answers of a shadow that were compared with those that clients got."""

    same: int = 0
    differs: int = 0


@dataclass(frozen=True, kw_only=True)
class TenantState:
    """What one tenant of a fleet took since the gateway's start."""

    outcomes: dict[str, int] = field(default_factory=dict)
    """finished, failed, ...: how many requests ended so."""
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True, kw_only=True)
class StreamState:
    """One stream that runs now and was continued on another replica after a break."""

    id: str = ""
    model: str = ""
    tenant: str = ""
    replica: str = ""
    """Where it runs now."""
    resumed: int = 0
    """How often it was continued."""
    for_s: float = 0.0
    """Since its arrival."""


@dataclass(frozen=True, kw_only=True)
class FleetState:
    """Requests of one fleet. `_total` counts since the gateway's start; the rest is now."""

    queued: int = 0
    """Accepted, waiting for a replica."""
    queued_due: int = 0
    """Lines of batches whose time is short, of those."""
    in_flight: int = 0
    """At a replica."""
    pending: int = 0
    """Accepted and not finished: queued plus in flight, and what is between two attempts; lines of batches that live on
    what others leave are not in it."""
    spare: int = 0
    """Those lines."""
    admitted_total: int = 0
    spare_total: int = 0
    """Those of all lines that were admitted to live on what others leave: they call for no replicas."""
    finished_total: int = 0
    rejected_total: int = 0
    failed_total: int = 0
    cancelled_total: int = 0
    resumed_total: int = 0
    retried_total: int = 0
    wasted_prompt_tokens_total: int = 0
    """Tokens that breaks made an engine compute as a prompt once more."""
    wasted_completion_tokens_total: int = 0
    """Tokens that were generated again, or were lost."""
    wasted_gpu_seconds_total: float = 0.0
    """GPU time of attempts that broke and were not continued."""
    ttft_p50_s: float | None = None
    """None: nothing was measured yet."""
    ttft_p95_s: float | None = None
    queue_limit: int = 0
    drain_rate: float = 0.0
    """Requests that leave the queue, per second."""
    canary_percent: int = 0
    shadow: ShadowState = ShadowState()
    sides: dict[str, SideState] = field(default_factory=dict)
    """`stable` and `canary`; empty without a canary."""
    elsewhere: dict[str, dict[str, SideState]] = field(default_factory=dict)
    """Name of another gateway -> its sides, as it last told the store that they share. It may be gone."""
    tokens_out_total: int = 0
    ttft_counts: list[int] = field(default_factory=list)
    """Times to first token since the start, by bucket (TTFT_BOUNDS_S); empty: not told."""
    tpot_counts: list[int] = field(default_factory=list)
    """Times per output token of streams (TPOT_BOUNDS_S)."""
    models: list[str] = field(default_factory=list)
    """The names that it serves; told, as `tenants` and `streams`, only at `/debug/console`."""
    tenants: dict[str, TenantState] = field(default_factory=dict)
    streams: list[StreamState] = field(default_factory=list)

    @property
    def arrived_total(self) -> int:
        """Requests that call for replicas: all admitted ones, without lines that live on what is left."""
        return self.admitted_total - self.spare_total


@dataclass(frozen=True, kw_only=True)
class ReplicaState:
    """One replica as the gateway uses it."""

    fleet: str = ""
    state: str = ""
    """`ready`, `draining`, `evicted` or `probing`; empty: not told."""
    reason: str = ""
    in_flight: int = 0
    cap: int = 0
    """Requests that it may have of this gateway at a time; 0: not told."""
    evictions: int = 0
    returns: int = 0
    group: str = "stable"
    url: str = ""
    suspect: str = ""
    """Why it may hang and gets nothing new; empty: nobody thinks so."""
    waiting: int | None = None
    """Requests in the engine's own queue, as it said lately; None: it has not."""
    kv_use: float | None = None
    """Share of its KV cache in use, 0 to 1, as it said lately."""


@dataclass(frozen=True, kw_only=True)
class StoreState:
    """The store that several gateways share, as one of them sees it."""

    address: str = ""
    """Without a password."""
    up: bool = False
    """Whether it answered the last time."""
    alone: bool = False
    """Whether it has been silent for so long that the gateway goes by its own share of everything."""
    alone_s: float = 0.0
    """Seconds of that since the gateway's start."""
    gateways: int = 1
    """That share it, as far as is known."""
    round_s: float = 0.0
    """Seconds that the last round of telling and hearing took."""
    error: str = ""
    """What it said, or why it did not answer; empty: it does."""

    @property
    def sentence(self) -> str:
        """How it stands, for a person."""
        others = f"{self.gateways} gateways share it" if self.gateways > 1 else "one gateway uses it"
        if self.up:
            slow = f", slow: {self.round_s * 1000:.0f} ms for a round" if self.round_s > STORE_SLOW_S else ""
            return f"{self.address} answers, {others}{slow}"
        why = f" ({self.error})" if self.error else ""
        share = (
            f"each gateway goes by 1/{self.gateways} of every limit" if self.alone else "going on without it"
        )
        return f"{self.address} is away{why}: {share}"


STORE_SLOW_S = 0.1
"""A round takes a few milliseconds; ten are asked for in a second."""


@dataclass(frozen=True, kw_only=True)
class GatewayState:
    """What one gateway tells, or several together."""

    draining: bool = False
    gateways: list[str] = field(default_factory=list)
    """Names by which the gateways that tell this here are known in the store that they share."""
    store: StoreState | None = None
    """None: it shares none."""
    fleets: dict[str, FleetState] = field(default_factory=dict)
    replicas: dict[str, ReplicaState] = field(default_factory=dict)

    def of(self, fleet: str) -> dict[str, ReplicaState]:
        """The replicas of one fleet."""
        return {name: r for name, r in self.replicas.items() if r.fleet == fleet}


def read(document: object) -> GatewayState:
    """A decoded document of any age: what it lacks has its default, what is unknown is left out. ValueError when it is
    none."""
    try:
        return msgspec.convert(_without_nulls(document), GatewayState, strict=False)
    except msgspec.ValidationError as e:
        raise ValueError(f"the gateway's /debug/state cannot be read: {e}") from None


def _without_nulls(value: object) -> object:
    """A null is a number that was not known: the same as none at all."""
    if not isinstance(value, dict):
        return value
    return {k: _without_nulls(v) for k, v in value.items() if v is not None}


def encoded(state: GatewayState) -> bytes:
    """The JSON that goes over the wire."""
    return msgspec.json.encode(state)


def merged(states: Iterable[GatewayState]) -> GatewayState:
    """Several gateways as one. Counts and rates are added; of times and limits the largest counts; a replica is in the
    state of the gateway that trusts it least."""
    draining, fleets, replicas = False, dict[str, FleetState](), dict[str, ReplicaState]()
    store: StoreState | None = None
    names: dict[str, None] = {}
    for state in states:
        names.update(dict.fromkeys(state.gateways))
        draining = draining or state.draining
        store = _stores(store, state.store) if store and state.store else store or state.store
        for name, fleet in state.fleets.items():
            fleets[name] = _fleets(fleets[name], fleet) if name in fleets else fleet
        for name, replica in state.replicas.items():
            replicas[name] = _replicas(replicas[name], replica) if name in replicas else replica
    fleets = {name: _without(fleet, names) for name, fleet in fleets.items()}
    return GatewayState(
        draining=draining, gateways=list(names), store=store, fleets=fleets, replicas=replicas
    )


def _without(fleet: FleetState, names: Container[str]) -> FleetState:
    """The fleet's numbers without what others say of gateways that tell themselves."""
    if not any(name in names for name in fleet.elsewhere):
        return fleet
    return replace(fleet, elsewhere={n: sides for n, sides in fleet.elsewhere.items() if n not in names})


def all_sides(fleet: FleetState) -> dict[str, SideState]:
    """Both sides of a canary as all gateways have counted them, those that are gone, too."""
    found = dict(fleet.sides)
    for sides in fleet.elsewhere.values():
        for name, side in sides.items():
            found[name] = _sides(found[name], side) if name in found else side
    return found


def _stores(a: StoreState, b: StoreState) -> StoreState:
    """The worse of two sights of one store."""
    worse = min(a, b, key=lambda s: (s.up, not s.alone, -s.round_s))
    return replace(worse, gateways=max(a.gateways, b.gateways), alone_s=max(a.alone_s, b.alone_s))


def ended(state: GatewayState, goes_on: bool = False) -> GatewayState:
    """What stays of a process that has ended without a word: its totals. What it still had to do has failed, unless its
    successor goes on with it (`goes_on`)."""
    fleets = {
        name: replace(
            f, queued=0, queued_due=0, in_flight=0, pending=0, spare=0, queue_limit=0,
            failed_total=f.failed_total + (0 if goes_on else f.pending), canary_percent=0, drain_rate=0.0,
            ttft_p50_s=None, ttft_p95_s=None, streams=[],
        )
        for name, f in state.fleets.items()
    }  # fmt: skip
    replicas = {n: replace(r, in_flight=0) for n, r in state.replicas.items()}
    return GatewayState(gateways=state.gateways, fleets=fleets, replicas=replicas)


def grown(now: GatewayState, past: GatewayState) -> GatewayState:
    """`now`, with the totals of processes before (`ended`): of fleets and replicas that there still are."""
    fleets = {n: _fleets(f, past.fleets[n]) if n in past.fleets else f for n, f in now.fleets.items()}
    replicas = dict(now.replicas)
    for name in now.replicas.keys() & past.replicas.keys():
        here, before = replicas[name], past.replicas[name]
        replicas[name] = replace(
            here, evictions=here.evictions + before.evictions, returns=here.returns + before.returns
        )
    names = dict.fromkeys([*now.gateways, *past.gateways])
    fleets = {name: _without(fleet, names) for name, fleet in fleets.items()}
    return GatewayState(
        draining=now.draining, gateways=list(names), store=now.store, fleets=fleets, replicas=replicas
    )


def total(state: GatewayState) -> FleetState:
    """All fleets of a gateway as one."""
    one = FleetState()
    for fleet in state.fleets.values():
        one = _fleets(one, fleet)
    return one


def _fleets(a: FleetState, b: FleetState) -> FleetState:
    sides = dict(a.sides)
    for name, side in b.sides.items():
        sides[name] = _sides(sides[name], side) if name in sides else side
    elsewhere = dict(a.elsewhere)
    for name, told in b.elsewhere.items():
        if name not in elsewhere or _asked(told) > _asked(elsewhere[name]):
            elsewhere[name] = told
    return FleetState(
        queued=a.queued + b.queued,
        queued_due=a.queued_due + b.queued_due,
        in_flight=a.in_flight + b.in_flight,
        pending=a.pending + b.pending,
        spare=a.spare + b.spare,
        admitted_total=a.admitted_total + b.admitted_total,
        spare_total=a.spare_total + b.spare_total,
        finished_total=a.finished_total + b.finished_total,
        rejected_total=a.rejected_total + b.rejected_total,
        failed_total=a.failed_total + b.failed_total,
        cancelled_total=a.cancelled_total + b.cancelled_total,
        resumed_total=a.resumed_total + b.resumed_total,
        retried_total=a.retried_total + b.retried_total,
        wasted_prompt_tokens_total=a.wasted_prompt_tokens_total + b.wasted_prompt_tokens_total,
        wasted_completion_tokens_total=a.wasted_completion_tokens_total + b.wasted_completion_tokens_total,
        wasted_gpu_seconds_total=a.wasted_gpu_seconds_total + b.wasted_gpu_seconds_total,
        ttft_p50_s=_longest(a.ttft_p50_s, b.ttft_p50_s),
        ttft_p95_s=_longest(a.ttft_p95_s, b.ttft_p95_s),
        queue_limit=max(a.queue_limit, b.queue_limit),
        drain_rate=a.drain_rate + b.drain_rate,
        canary_percent=max(a.canary_percent, b.canary_percent),
        shadow=ShadowState(same=a.shadow.same + b.shadow.same, differs=a.shadow.differs + b.shadow.differs),
        sides=sides,
        elsewhere=elsewhere,
        tokens_out_total=a.tokens_out_total + b.tokens_out_total,
        ttft_counts=_added(a.ttft_counts, b.ttft_counts),
        tpot_counts=_added(a.tpot_counts, b.tpot_counts),
        models=list(dict.fromkeys([*a.models, *b.models])),
        tenants={
            name: _tenants(a.tenants.get(name, TenantState()), b.tenants.get(name, TenantState()))
            for name in {**a.tenants, **b.tenants}
        },
        streams=[*a.streams, *b.streams][:STREAMS_TOLD],
    )


def _asked(sides: dict[str, SideState]) -> int:
    """Requests that were counted: of two reports of one gateway the later has more."""
    return sum(side.requests for side in sides.values())


def _added(a: list[int], b: list[int]) -> list[int]:
    """Counts by bucket, added; a gateway that tells none adds none."""
    return [x + y for x, y in zip_longest(a, b, fillvalue=0)]


def _tenants(a: TenantState, b: TenantState) -> TenantState:
    return TenantState(
        outcomes={k: a.outcomes.get(k, 0) + b.outcomes.get(k, 0) for k in {**a.outcomes, **b.outcomes}},
        tokens_in=a.tokens_in + b.tokens_in,
        tokens_out=a.tokens_out + b.tokens_out,
        cost_usd=a.cost_usd + b.cost_usd,
    )


def _sides(a: SideState, b: SideState) -> SideState:
    return SideState(
        requests=a.requests + b.requests,
        errors=a.errors + b.errors,
        slow=a.slow + b.slow,
        ttft_n=a.ttft_n + b.ttft_n,
        ttft_log=a.ttft_log + b.ttft_log,
        ttft_log2=a.ttft_log2 + b.ttft_log2,
        tpot_n=a.tpot_n + b.tpot_n,
        tpot_log=a.tpot_log + b.tpot_log,
        tpot_log2=a.tpot_log2 + b.tpot_log2,
        compared=a.compared + b.compared,
        differed=a.differed + b.differed,
    )


def _replicas(a: ReplicaState, b: ReplicaState) -> ReplicaState:
    worse = min(a, b, key=lambda r: _TRUST.index(r.state) if r.state in _TRUST else -1)
    return ReplicaState(
        fleet=a.fleet or b.fleet,
        state=worse.state,
        reason=worse.reason or a.reason or b.reason,
        in_flight=a.in_flight + b.in_flight,
        cap=max(a.cap, b.cap),
        evictions=a.evictions + b.evictions,
        returns=a.returns + b.returns,
        group=a.group,
        url=a.url or b.url,
        suspect=a.suspect or b.suspect,
        waiting=_longest(a.waiting, b.waiting),
        kv_use=_longest(a.kv_use, b.kv_use),
    )


_Number = TypeVar("_Number", int, float)


def _longest(a: _Number | None, b: _Number | None) -> _Number | None:
    known = [s for s in (a, b) if s is not None]
    return max(known, default=None)

"""Several models on one pool of GPUs: who is loaded now, who sleeps, who waits, each with a reason. Pure.

A pool has a capacity and no queue: a fleet that needs room takes it from one that ranks behind it. Ranks:
fleets with work before idle ones; among those with work the lower `priority` number first; within one priority
those in their minimum residence stay, then those who wait, oldest first, then those who have had their turn.
Idle fleets leave by least recent use. So a higher priority never waits for a lower one, every fleet of one
priority gets its turn, and nobody is displaced by an equal within `residence_s` of being ready.

Room is given only when it is free: whoever is displaced vacates first (its requests are drained, not cut), and
what occupies room is what is seen, not what was asked for. Asleep replicas (vLLM's sleep mode) occupy none.
Forbidden here: clocks, I/O, knowing how a replica is started or put to sleep.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from seawall.domain.action import Plan
from seawall.domain.spec import Fleet
from seawall.domain.units import show_seconds

PoolMove = Literal["keep", "load", "wake", "sleep", "unload", "wait", "rest"]


@dataclass(frozen=True, kw_only=True)
class PoolPolicy:
    """One pool. Times are seconds."""

    name: str
    capacity: int
    """Size of the pool in the units of `FleetSeen.cost`: GPUs, or replicas where there are none."""
    residence_s: float = 120.0
    """Seconds that a ready fleet keeps its room, unless a higher priority needs it."""
    quiet_s: float = 15.0
    """Seconds without a request after which a fleet counts as idle."""
    asleep_s: float = 3600.0
    """Seconds asleep after which a replica is unloaded, because it holds host memory."""


@dataclass(frozen=True, kw_only=True)
class FleetSeen:
    """One fleet of the pool, as it is now."""

    name: str
    priority: int = 5
    """0 is served first."""
    cost: int = 1
    """Units of the pool that one replica occupies while awake."""
    wanted: int = 0
    """Replicas that its scaler asks for; 0 when it has been idle for long."""
    lowest: int = 0
    """Replicas that count as needed although nobody asks."""
    holds: int = 0
    """Replicas that occupy the pool: starting, ready, draining or waiting to start again."""
    ready: bool = False
    """Whether at least one of them serves."""
    demand: float = 0.0
    """Requests accepted and not finished."""
    asleep: int = 0
    can_sleep: bool = False
    startup_s: float = 300.0
    """Longest time that a start may take; after that it has had its turn although it never served."""


class FleetMemory(TypedDict, total=False):
    """What is remembered of one fleet; JSON-able, seconds of the caller's clock."""

    asked_s: float
    """Since when the fleet waits for room."""
    began_s: float
    """Since when the fleet holds room."""
    ready_s: float
    """Since when the fleet serves."""
    used_s: float
    """The last look that saw a request."""
    slept_s: float


PoolState = dict[str, FleetMemory]
"""Fleet -> what is remembered; `{}` is a fresh start, and losing it costs one residence at most."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What one fleet may have now: make it so, whatever was before."""

    name: str
    awake: int
    """Replicas that may occupy the pool. Fewer than it holds: let the rest go."""
    asleep: int
    """Replicas that may stay asleep, or be put to sleep instead of being stopped."""
    move: PoolMove
    reason: str


@dataclass(frozen=True, kw_only=True)
class PoolDecision:
    turns: tuple[Turn, ...]
    next_look_s: float

    def of(self, name: str) -> Turn:
        """The turn of a fleet that was seen."""
        return next(t for t in self.turns if t.name == name)


def policy_of(fleets: Sequence[Fleet]) -> PoolPolicy:
    """The pool that these fleets name. Where they disagree, the smallest capacity and the longest times hold."""
    pools = [f.spec.pool for f in fleets if f.spec.pool is not None]
    return PoolPolicy(
        name=pools[0].name,
        capacity=min(p.capacity for p in pools),
        residence_s=max(p.residence for p in pools),
        asleep_s=max(p.asleep_for for p in pools),
    )


def cost_of(fleet: Fleet, plan: Plan | None = None) -> int:
    """Units of a pool that one replica occupies: its GPUs, or 1 where there are none."""
    hardware = fleet.spec.hardware
    if plan is not None:
        return 1 if plan.gpu == "cpu" else max(1, plan.gpus_per_replica)
    if hardware.gpu == "cpu":
        return 1
    sizes = (hardware.tensor_parallel, hardware.pipeline_parallel, hardware.data_parallel)
    return hardware.gpus_per_replica or math.prod(n or 1 for n in sizes)


def decide(
    policy: PoolPolicy, fleets: Sequence[FleetSeen], state: PoolState, now: float
) -> tuple[PoolDecision, PoolState]:
    """One look at `now` -> (a turn for every fleet, what to remember)."""
    memory = {f.name: _remember(policy, f, state.get(f.name, {}), now) for f in fleets}
    ranked = _ranked(policy, fleets, memory, now)
    share = _shares(policy, ranked)
    free = policy.capacity - sum(f.cost * f.holds for f in fleets)
    turns: dict[str, Turn] = {}
    after: PoolState = {}
    for f in dict.fromkeys(u.fleet for u in ranked):
        target = share.get(f.name, 0)
        grant = min(target, f.holds)
        while grant < target and f.cost <= free:
            grant, free = grant + 1, free - f.cost
        turns[f.name] = _turn(policy, f, grant, target, memory[f.name], fleets, now)
        after[f.name] = _noted(f, grant, memory[f.name], now)
    for f in fleets:
        if f.name not in turns:
            turns[f.name] = _turn(policy, f, 0, 0, memory[f.name], fleets, now)
            after[f.name] = _noted(f, 0, memory[f.name], now)
    decision = PoolDecision(
        turns=tuple(turns[f.name] for f in fleets), next_look_s=_next_look(policy, fleets, after, now)
    )
    return decision, after


@dataclass(frozen=True)
class _Unit:
    """One replica's claim on the pool."""

    fleet: FleetSeen
    index: int
    held: bool
    needed: bool
    """Somebody waits for it. One that is not is kept while there is room, and never loaded."""
    key: tuple[float, ...]


def _remember(policy: PoolPolicy, f: FleetSeen, old: FleetMemory, now: float) -> FleetMemory:
    """The memory with what this look adds."""
    new: FleetMemory = {}
    if f.holds:
        new["began_s"] = old.get("began_s", now)
        if f.ready or "ready_s" in old:
            new["ready_s"] = old.get("ready_s", now)
    if f.demand > 0:
        new["used_s"] = now
    elif "used_s" in old:
        new["used_s"] = old["used_s"]
    if f.asleep:
        new["slept_s"] = old.get("slept_s", now)
    if "asked_s" in old and f.wanted and not (f.ready and f.holds):
        new["asked_s"] = old["asked_s"]
    return new


def _noted(f: FleetSeen, grant: int, memory: FleetMemory, now: float) -> FleetMemory:
    """The memory with who waits: work without room waits from now on, a fleet that serves waits no more."""
    if grant == 0 and f.wanted and (f.demand > 0 or f.lowest):
        memory.setdefault("asked_s", now)
    elif grant and f.ready:
        memory.pop("asked_s", None)
    return memory


def _protected(policy: PoolPolicy, f: FleetSeen, memory: FleetMemory, now: float) -> bool:
    if not f.holds:
        return False
    if "ready_s" in memory:
        return now - memory["ready_s"] < policy.residence_s
    return now - memory.get("began_s", now) < f.startup_s


def _used(policy: PoolPolicy, f: FleetSeen, memory: FleetMemory, now: float) -> bool:
    """Whether a fleet has work, or holds room and had work a moment ago (which alone wins it no room)."""
    return f.demand > 0 or (f.holds > 0 and now - memory.get("used_s", -math.inf) < policy.quiet_s)


def _ranked(policy: PoolPolicy, fleets: Sequence[FleetSeen], memory: PoolState, now: float) -> list[_Unit]:
    """Every replica that a scaler asks for, the most urgent first."""
    units = []
    for f in fleets:
        m = memory[f.name]
        resident = f.holds > 0
        protected, used = _protected(policy, f, m, now), _used(policy, f, m, now)
        waits = m.get("asked_s", now)
        # A resident that has had its turn stands behind those who wait; of two, the longer resident leaves first.
        order = (1.0, -m.get("ready_s", m.get("began_s", now))) if resident else (0.0, waits)
        for i in range(min(f.wanted, policy.capacity // f.cost)):
            held, needed = i < f.holds, used or i < f.lowest
            key: tuple[float, ...]
            if held and protected:
                key = (0.0, f.priority, 0.0, i, *order)
            elif needed:
                key = (0.0, f.priority, 1.0 if i == 0 else 2.0, *order, i)
            else:
                key = (1.0, -m.get("used_s", -math.inf), f.priority, i)
            units.append(_Unit(f, i, held, needed, key))
    return sorted(units, key=lambda u: (u.key, u.fleet.name))


def _shares(policy: PoolPolicy, ranked: Sequence[_Unit]) -> dict[str, int]:
    """Fleet -> replicas that it should have, filled in the order of rank.

    A first replica that finds no room although those of higher rank leave enough for it reserves what there is:
    nobody behind it is loaded anew, so that a large fleet is not starved by small ones that come and go.
    """
    share: dict[str, int] = {}
    left = policy.capacity
    room: dict[int, int] = {}
    reserved = False
    for u in ranked:
        f = u.fleet
        at_most = room.setdefault(f.priority, left)
        if u.index != share.get(f.name, 0) or not (u.held or u.needed):
            continue
        if f.cost <= left and (u.held or not reserved):
            share[f.name] = u.index + 1
            left -= f.cost
        elif u.index == 0 and u.needed and not u.held:
            reserved = reserved or f.cost <= at_most
    return share


def _turn(
    policy: PoolPolicy,
    f: FleetSeen,
    grant: int,
    target: int,
    memory: FleetMemory,
    fleets: Sequence[FleetSeen],
    now: float,
) -> Turn:
    """The turn that this grant means, with its reason."""
    leaving = max(0, f.holds - grant)
    old = f.asleep and now - memory.get("slept_s", now) >= policy.asleep_s
    asleep = (0 if old else f.asleep) + (leaving if f.can_sleep else 0)
    if grant > f.holds:
        woken = min(f.asleep, grant - f.holds)
        move: PoolMove = "wake" if woken else "load"
        waiting = f"{f.demand:g} request{' waits' if f.demand == 1 else 's wait'}"
        why = waiting if f.demand else "its scaler wants it"
        return Turn(name=f.name, awake=grant, asleep=f.asleep - woken, move=move, reason=why)
    if leaving:
        why = _displaced(policy, f, memory, fleets, now)
        move = "sleep" if f.can_sleep else "unload"
        return Turn(name=f.name, awake=grant, asleep=asleep, move=move, reason=why)
    if old:
        why = f"asleep for {show_seconds(policy.asleep_s)}"
        return Turn(name=f.name, awake=grant, asleep=0, move="unload", reason=why)
    if f.wanted and grant < f.wanted:
        why = _waiting(policy, f, target, fleets)
        move = "wait" if grant == 0 else "keep"
        return Turn(name=f.name, awake=grant, asleep=asleep, move=move, reason=why)
    if grant == 0:
        return Turn(name=f.name, awake=0, asleep=asleep, move="rest", reason="nobody asks for it")
    return Turn(name=f.name, awake=grant, asleep=asleep, move="keep", reason="there is room")


def _displaced(
    policy: PoolPolicy, f: FleetSeen, memory: FleetMemory, fleets: Sequence[FleetSeen], now: float
) -> str:
    if f.wanted < f.holds:
        return f"its scaler wants {f.wanted}"
    if f.cost > policy.capacity:
        return _waiting(policy, f, 0, fleets)
    rivals = [o for o in fleets if o.name != f.name and o.wanted > o.holds]
    who = min(rivals, key=lambda o: (o.priority, o.name)).name if rivals else "the pool's other fleets"
    if rivals and min(o.priority for o in rivals) < f.priority:
        return f"{who} has a higher priority and needs the room"
    if _used(policy, f, memory, now):
        return f"{who} waits, and this one has had its turn of {show_seconds(policy.residence_s)}"
    since = now - memory.get("used_s", now)
    return f"{who} needs the room, and this one was used {show_seconds(round(since))} ago"


def _waiting(policy: PoolPolicy, f: FleetSeen, target: int, fleets: Sequence[FleetSeen]) -> str:
    if f.cost > policy.capacity:
        return f"one replica needs {f.cost} and the pool {policy.name} has {policy.capacity}"
    held = ", ".join(sorted(o.name for o in fleets if o.holds and o.name != f.name)) or "others come first"
    if target > f.holds:
        return f"room is being made: {held} must leave first"
    return f"the pool {policy.name} of {policy.capacity} is full: {held}"


def _next_look(policy: PoolPolicy, fleets: Sequence[FleetSeen], state: PoolState, now: float) -> float:
    """When a residence, a start-up budget or a sleep ends; at most 15 s, for demand is seen only by looking."""
    ends = []
    for f in fleets:
        m = state[f.name]
        if f.holds and "ready_s" in m:
            ends.append(m["ready_s"] + policy.residence_s)
        elif f.holds:
            ends.append(m.get("began_s", now) + f.startup_s)
        if f.asleep:
            ends.append(m.get("slept_s", now) + policy.asleep_s)
    return min([15.0, *(t - now for t in ends if t > now)])

"""Which replicas to start and which to let go: scaling and rolling restarts as one level-triggered decision.

Looks only at what is (members) and what is wanted (a number and a generation), so it can be asked again at any
moment, after any failure, and continues. While a rollout runs, at most `surge` processes more than wanted live,
draining ones included (on one machine they share its memory), and no ready replica is let go unless as many as
wanted stay ready; without room for one more (surge 0) one at a time leaves first, and its requests wait. On
Kubernetes the Deployment controller does this. Pure.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from seawall.decide.replica import ReplicaPhase
from seawall.domain.units import counted


@dataclass(frozen=True, kw_only=True)
class SeenReplica:
    """One replica as this decision sees it."""

    index: int
    """Number in the fleet: `smollm2-0` is 0."""
    generation: int
    """A rollout restart raises the wanted generation; a replica keeps the one it was started with."""
    phase: ReplicaPhase


@dataclass(frozen=True, kw_only=True)
class Start:
    index: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Retire:
    """Take no new work, finish what runs, then stop. One that is not ready stops at once."""

    index: int
    reason: str


Move = Start | Retire


def moves(members: Sequence[SeenReplica], wanted: int, generation: int, surge: int) -> list[Move]:
    """Moves to make now. Empty: all is as wanted, or something must finish first."""
    live = [m for m in members if m.phase is not ReplicaPhase.STOPPED]
    staying = [m for m in live if m.phase is not ReplicaPhase.DRAINING]
    new = [m for m in staying if m.generation == generation]
    old = [m for m in staying if m.generation != generation]
    drains = _let_go(new, old, wanted)
    ready = [m for m in live if m.phase is ReplicaPhase.READY]
    if surge == 0 and old and not drains and len(ready) == len(live) == wanted:
        drains = [
            Retire(index=min(m.index for m in old), reason="no room for one more: it leaves before its heir")
        ]
    count = min(wanted - len(new), wanted + surge - len(live))
    free = (i for i in itertools.count() if i not in {m.index for m in live})
    why = "replaces one of an older generation" if old else f"{wanted} wanted, {len(new)} here"
    return [*drains, *(Start(index=i, reason=why) for i in itertools.islice(free, max(0, count)))]


def _let_go(new: list[SeenReplica], old: list[SeenReplica], wanted: int) -> list[Retire]:
    drains: list[Retire] = []
    # Scale down: first those that do not serve, then the highest number.
    order = sorted(new, key=lambda m: (m.phase is ReplicaPhase.READY, -m.index))
    excess, kept = order[: max(0, len(new) - wanted)], order[max(0, len(new) - wanted) :]
    drains += (Retire(index=m.index, reason=f"{wanted} wanted, {len(new)} here") for m in excess)
    ready = sum(m.phase is ReplicaPhase.READY for m in (*kept, *old))
    for m in sorted(old, key=lambda m: (m.phase is ReplicaPhase.READY, m.index)):
        if m.phase is not ReplicaPhase.READY:
            drains.append(Retire(index=m.index, reason="of an older generation and not serving"))
        elif ready > wanted:
            ready -= 1
            drains.append(
                Retire(
                    index=m.index, reason=f"replaced: {counted(ready, 'other is ready', 'others are ready')}"
                )
            )
    return drains

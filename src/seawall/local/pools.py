"""The pools of one machine: asks `decide.pool` at every tick and gives each fleet its turn. Decides nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from seawall.decide import pool
from seawall.domain.spec import Fleet
from seawall.local.clock import Clock
from seawall.local.fleet import FleetRunner

TOLD = ("load", "wake", "sleep", "unload", "wait")
"""Moves that a person wants to read about."""


class LocalPools:
    """Every pool that the fleets name, and what is remembered of each between ticks."""

    def __init__(self, clock: Clock, note: Callable[[str, str], None]) -> None:
        self._clock, self._note = clock, note
        self._states: dict[str, pool.PoolState] = {}

    def turn(self, fleets: Sequence[FleetRunner]) -> None:
        """Gives every fleet of a pool its turn, between its look and its act."""
        for name, members in by_pool([f.fleet for f in fleets]).items():
            runners = [f for f in fleets if f.fleet in members]
            decision, self._states[name] = pool.decide(
                pool.policy_of(members),
                [r.pooled() for r in runners],
                self._states.get(name, {}),
                self._clock.now(),
            )
            for runner, turn in zip(runners, decision.turns, strict=True):
                before, runner.turn = runner.turn, turn
                new = before is None or (before.move, before.awake) != (turn.move, turn.awake)
                if new and turn.move in TOLD:
                    self._note(runner.name, f"pool {name}: {turn.move}: {turn.reason}")


def by_pool(fleets: Sequence[Fleet]) -> dict[str, list[Fleet]]:
    """Pool -> its fleets, in the order of the specs."""
    out: dict[str, list[Fleet]] = {}
    for fleet in fleets:
        if fleet.spec.pool is not None:
            out.setdefault(fleet.spec.pool.name, []).append(fleet)
    return out

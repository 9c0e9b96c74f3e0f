"""Hedged first tokens (`gateway.hedgeAfter`) of simulated requests: two attempts at two replicas, until one of them has
brought a token.

The desk says when (`Desk.tick`), which replica, and within which budget, as it does for the gateway. Here is only what
that means for engines: a second sequence of the same request, and the end of the one that was slower.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from seawall.decide.route.breaks import Break
from seawall.decide.route.desk import Placed
from seawall.decide.route.pick import Target
from seawall.sim.engine import Race, Seq
from seawall.sim.front import Front
from seawall.sim.pods import Pod
from seawall.sim.setup import Counts


class Raced(Protocol):
    """The world, as far as hedges know it."""

    front: Front
    counts: Counts
    by_target: dict[Target, Pod]

    def at(self, t: float, action: Callable[[float], None]) -> None: ...
    def pump(self, now: float) -> None: ...
    def submit(self, seq: Seq, now: float, target: Target | None = None) -> None: ...
    def asks_for_proof(self, target: Target, now: float) -> None: ...


class Hedges:
    """See the module."""

    def __init__(self, world: Raced, after_s: float) -> None:
        self._world, self._after_s = world, after_s
        self._waiting: dict[int, Seq] = {}
        """Requests that wait for a first token: the attempt that counts."""

    def sent(self, seq: Seq, now: float) -> None:
        """It goes to a replica. Only the first time counts."""
        if seq.race is not None or seq.first >= 0:
            return
        seq.race = Race()
        seq.ticket.awaits = True
        self._waiting[seq.rid] = seq
        self._world.front.watch(seq.ticket, now)
        self._world.at(now + self._after_s, self._world.pump)

    def second(self, placed: Placed, now: float) -> None:
        """The desk gives it a second place."""
        first = self._waiting[placed.ticket.owner]
        twin = first.again()
        _race(first).other = twin
        self._world.counts.hedged += 1
        self._world.submit(twin, now, placed.picked.target)

    def first_token(self, seq: Seq) -> None:
        """Of one of the two, or of one that has no second: the other one is given up."""
        ticket, race, front = seq.ticket, _race(seq), self._world.front
        ticket.awaits = False
        self._waiting.pop(seq.rid, None)
        if race.other is None:
            return
        if race.second:
            loses_at = ticket.target
            front.take_second(ticket)
            self._counts_now(seq, race.other)
        else:
            loses_at = ticket.second
            front.drop_second(ticket)
        self._give_up(race.other, loses_at)

    def gone(self, seq: Seq) -> None:
        """Its client has gone: what the other attempt does is of no use, either."""
        self._waiting.pop(seq.rid, None)
        race = seq.race
        if race is not None and race.other is not None:
            self._give_up(race.other, seq.ticket.target if race.second else seq.ticket.second)

    def refused(self, twin: Seq) -> None:
        """A second attempt was answered with an error: the first one brings its own."""
        self._world.front.drop_second(twin.ticket)
        self._give_up(twin, None)

    def broke(self, twin: Seq, what: Break, now: float) -> None:
        """The replica of a second attempt is gone."""
        target = twin.ticket.second
        if self._world.front.evict(target, what.reason):
            self._world.asks_for_proof(target, now)
        self.refused(twin)

    def goes_on(self, first: Seq) -> None:
        """The replica of the first attempt is gone: the second one counts."""
        twin = _race(first).other
        assert twin is not None
        self._world.front.take_second(first.ticket)
        first.ticket.awaits = True
        self._counts_now(twin, first)
        self._waiting[twin.rid] = twin
        self._give_up(first, None)

    def _counts_now(self, second: Seq, first: Seq) -> None:
        _race(second).second = False
        second.attempt = first.attempt
        self._world.counts.hedges_won += 1

    def _give_up(self, seq: Seq, target: Target | None) -> None:
        """Ends one attempt of two. `target`: where it is; None: it is nowhere."""
        race = _race(seq)
        other, race.other, race.void = race.other, None, True
        if other is not None:
            _race(other).other = None
        pod = self._world.by_target.get(target) if target is not None else None
        if pod is not None:
            pod.engine.give_up(seq)


def _race(seq: Seq) -> Race:
    assert seq.race is not None
    return seq.race

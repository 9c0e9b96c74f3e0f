"""What the lane expects: how fast lines are done, when each batch will be, and whether a new window can be met.

Forbidden here: the store, HTTP. The rules are in `decide.batch.finish`.
"""

from __future__ import annotations

import math
from typing import Any

from seawall.batch.lines import Checked
from seawall.batch.words import BatchRecord
from seawall.decide.batch.finish import Work, earliest_window, finishes, in_need, need_at
from seawall.decide.batch.pace import LinePace
from seawall.decide.batch.rules import LaneRules
from seawall.decide.batch.spare import NOBODY_SERVES
from seawall.domain.units import show_seconds


class Outlook:
    """See the module. The worker tells it what is done; the surface shows what it says."""

    def __init__(self, rules: LaneRules) -> None:
        self._rules = rules
        self._paces: dict[str, LinePace] = {}
        self._works: dict[str, tuple[str, Work]] = {}
        """Batch -> its fleet, and what is left of it."""
        self.reasons: dict[str, str] = {}
        """Fleet -> why so many lines run there."""

    def pace(self, fleet: str) -> LinePace:
        """How fast a fleet works on lines; the worker tells it what it sees."""
        return self._paces.setdefault(fleet, LinePace())

    def left(self, batch: BatchRecord, units: float) -> None:
        """Notes how much work of a batch has no result yet."""
        fleet = self._rules.fleet_of(batch.model)
        weight = fleet.weights.get(batch.tenant, 1.0) if fleet else 1.0
        work = Work(batch.id, batch.deadline, units, batch.tenant, weight)
        self._works[batch.id] = (fleet.name if fleet else "", work)

    def over(self, batch: str) -> None:
        self._works.pop(batch, None)

    def rate(self, fleet: str) -> float:
        """Units of work per second; 0: nothing is known."""
        return self.pace(fleet).per_s

    def lines_per_s(self, fleet: str, lines: int, units: float) -> float:
        """The same in lines such as these, of which so many are so much work."""
        return self.rate(fleet) * lines / units if units > 0 else 0.0

    def needy(self, batch: str, now: float) -> bool:
        """Whether a batch will miss its deadline unless it goes first."""
        fleet, work = self._works.get(batch, ("", Work(batch, math.inf, 0.0)))
        return in_need(work, self.rate(fleet), now)

    def finish(self, batch: str, now: float) -> float | None:
        """When a batch will be done, Unix seconds; None: nobody can say."""
        if batch not in self._works:
            return None
        fleet = self._works[batch][0]
        done = finishes(self._of(fleet), self.rate(fleet), now)[batch]
        return done if math.isfinite(done) else None

    def refuses(self, batch: BatchRecord, found: Checked, now: float) -> str | None:
        """Why its window cannot be met, with the earliest that can be; None: it can."""
        fleet = self._rules.fleet_of(next(iter(found.models)))
        if fleet is None:
            return None
        rate = self.rate(fleet.name)
        weight = fleet.weights.get(batch.tenant, 1.0)
        new = Work(batch.id, batch.deadline, found.units, batch.tenant, weight)
        least = earliest_window(self._of(fleet.name), new, rate, now)
        if least is None:
            return None
        minutes = max(10, math.ceil(least * 1.05 / 60))
        return (
            f"{found.lines} lines cannot be done in {batch.window}: {fleet.name} does "
            f"{self.lines_per_s(fleet.name, found.lines, found.units):.3g} such lines per second. "
            f"The earliest window that can be met is {minutes}m ({show_seconds(minutes * 60)})."
        )

    def _of(self, fleet: str) -> list[Work]:
        return [work for name, work in self._works.values() if name == fleet]

    def told(self, batch: BatchRecord, now: float) -> dict[str, Any]:
        """What stands in a batch's JSON beside OpenAI's fields."""
        fleet = self._rules.fleet_of(batch.model)
        finish = None if batch.over else self.finish(batch.id, now)
        return {
            "finish_at": None if finish is None else round(finish, 1),
            "lines_per_second": round(self.lines_per_s(fleet.name, batch.total, batch.units), 3)
            if fleet
            else None,
            "ran_twice": batch.twice,
            "gpu_seconds": round(batch.busy_s, 3),
            "cost_usd": round(self.cost(batch), 6),
            "reason": self._reason(batch, fleet.name, now) if fleet and not batch.over else "",
        }

    def _reason(self, batch: BatchRecord, fleet: str, now: float) -> str:
        """Why it goes as fast as it does, and whether replicas are called for its sake."""
        why = self.reasons.get(fleet, "")
        if batch.id not in self._works:
            return why
        if self.needy(batch.id, now):
            return f"{why}; its window is short, so its lines wait with requests and call for replicas"
        if why == NOBODY_SERVES:
            left = need_at(self._works[batch.id][1], self.rate(fleet)) - now
            return f"{why}; for this batch one is called for in {show_seconds(round(left))}, if not before"
        return why

    def cost(self, batch: BatchRecord) -> float:
        """USD, at the lane's price."""
        return self.price(batch.model, batch.tokens_in, batch.tokens_out)

    def price(self, model: str, tokens_in: int, tokens_out: int) -> float:
        """USD for so many tokens of a model, at the lane's price."""
        fleet = self._rules.fleet_of(model)
        if fleet is None:
            return 0.0
        return (tokens_in * fleet.prompt_price + tokens_out * fleet.completion_price) / 1e6

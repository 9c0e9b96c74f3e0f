"""What the lane expects: how fast lines are done, when each batch will be, and whether a new window can be met.

Forbidden here: the store, HTTP. The rules are in `decide.batch.finish`.
"""

from __future__ import annotations

import math
from typing import Any

from seawall.batch.lines import Checked
from seawall.batch.words import BatchRecord
from seawall.decide.batch.finish import Rate, Work, earliest_window, finishes, in_need
from seawall.decide.batch.rules import LaneRules
from seawall.domain.units import show_seconds


class Outlook:
    """See the module. The worker tells it what is done; the surface shows what it says."""

    def __init__(self, rules: LaneRules) -> None:
        self._rules = rules
        self._rates: dict[str, Rate] = {}
        self._works: dict[str, tuple[str, Work]] = {}
        """Batch -> its fleet, and what is left of it."""
        self.reasons: dict[str, str] = {}
        """Fleet -> why so many lines run there."""

    def measured(self, fleet: str, lines: int, seconds: float) -> None:
        """Notes that so many lines of a fleet were done in so many seconds in which there was work for it."""
        self._rates[fleet] = self._rates.get(fleet, Rate()).after(lines, seconds)

    def left(self, batch: BatchRecord, lines: int) -> None:
        """Notes how many lines of a batch have no result yet."""
        fleet = self._rules.fleet_of(batch.model)
        self._works[batch.id] = (fleet.name if fleet else "", Work(batch.id, batch.deadline, lines))

    def over(self, batch: str) -> None:
        self._works.pop(batch, None)

    def rate(self, fleet: str) -> float:
        """Lines per second; 0: nothing is known."""
        return self._rates.get(fleet, Rate()).per_s

    def needy(self, batch: str, now: float) -> bool:
        """Whether a batch will miss its deadline unless it goes first."""
        fleet, work = self._works.get(batch, ("", Work(batch, math.inf, 0)))
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
        new = Work(batch.id, batch.deadline, found.lines)
        least = earliest_window(self._of(fleet.name), new, rate, now)
        if least is None:
            return None
        minutes = max(10, math.ceil(least * 1.05 / 60))
        return (
            f"{found.lines} lines cannot be done in {batch.window}: {fleet.name} does {rate:.3g} lines of batches per "
            "second. "
            f"The earliest window that can be met is {minutes}m ({show_seconds(minutes * 60)})."
        )

    def _of(self, fleet: str) -> list[Work]:
        return [work for name, work in self._works.values() if name == fleet]

    def told(self, batch: BatchRecord, now: float) -> dict[str, Any]:
        """What stands in a batch's JSON beside OpenAI's fields."""
        fleet = self._rules.fleet_of(batch.model)
        finish = None if batch.over else self.finish(batch.id, now)
        return {
            "finish_at": None if finish is None else math.ceil(finish),
            "lines_per_second": round(self.rate(fleet.name), 3) if fleet else None,
            "ran_twice": batch.twice,
            "gpu_seconds": round(batch.busy_s, 3),
            "cost_usd": round(self.cost(batch), 6),
            "reason": self.reasons.get(fleet.name, "") if fleet and not batch.over else "",
        }

    def cost(self, batch: BatchRecord) -> float:
        """USD, at the lane's price."""
        fleet = self._rules.fleet_of(batch.model)
        if fleet is None:
            return 0.0
        prompt, completion = fleet.prompt_price, fleet.completion_price
        return (batch.tokens_in * prompt + batch.tokens_out * completion) / 1e6

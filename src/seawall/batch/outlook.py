"""What the lane expects: how fast lines are done, when each batch will be, and whether a new window can be met.

Forbidden here: the store, HTTP. The rules are in `decide.batch.finish`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from seawall.batch.lines import Checked
from seawall.batch.words import BatchRecord
from seawall.decide.batch.finish import Work, earliest_window, finishes, in_need, need_at
from seawall.decide.batch.pace import BYTE_UNITS, LINE_UNITS, LinePace
from seawall.decide.batch.planned import BYTES_PER_TOKEN, LineShape, PlannedSpeed
from seawall.decide.batch.rules import LaneRules
from seawall.decide.batch.spare import NOBODY_SERVES
from seawall.domain.units import counted, show_seconds


class Outlook:
    """See the module. The worker tells it what is done; the surface shows what it says."""

    def __init__(self, rules: LaneRules, planned: Mapping[str, PlannedSpeed] | None = None) -> None:
        """`planned`: fleet -> what it was planned to do, where that is known."""
        self._rules, self._planned = rules, dict(planned or {})
        self._paces: dict[str, LinePace] = {}
        self._shapes: dict[str, LineShape] = {}
        """Fleet -> what its latest lines are like."""
        self._sights: dict[str, tuple[int, int]] = {}
        """Fleet -> replicas that serve, requests there that are no lines."""
        self._works: dict[str, tuple[str, Work]] = {}
        """Batch -> its fleet, and what is left of it."""
        self.reasons: dict[str, str] = {}
        """Fleet -> why so many lines run there."""

    def pace(self, fleet: str) -> LinePace:
        """How fast a fleet works on lines; the worker tells it what it sees."""
        return self._paces.setdefault(fleet, LinePace())

    def sees(self, fleet: str, ready: int, busy: int) -> None:
        """Notes how many replicas serve, and how many requests there are no lines."""
        self._sights[fleet] = ready, busy

    def left(self, batch: BatchRecord, units: float) -> None:
        """Notes how much work of a batch has no result yet."""
        fleet = self._rules.fleet_of(batch.model)
        if fleet is not None and batch.total:
            each = batch.units / batch.total
            self._shapes.setdefault(fleet.name, LineShape(0.0, each, each))
        weight = fleet.weights.get(batch.tenant, 1.0) if fleet else 1.0
        work = Work(batch.id, batch.deadline, units, batch.tenant, weight)
        self._works[batch.id] = (fleet.name if fleet else "", work)

    def over(self, batch: str) -> None:
        self._works.pop(batch, None)

    def rate(self, fleet: str) -> float:
        """Units of work per second: measured, or else planned for the replicas that serve, or for the first that will.
        0: nothing is known."""
        return self.pace(fleet).per_s or self._planned_rate(fleet)

    def _planned_rate(self, fleet: str) -> float:
        planned, shape = self._planned.get(fleet), self._shapes.get(fleet)
        if planned is None or shape is None:
            return 0.0
        ready, busy = self._sights.get(fleet, (0, 0))
        return planned.units_per_s(shape, max(1, ready), busy)

    def _starts_in(self, fleet: str) -> float:
        """Seconds until the first line can be answered; 0 where a replica serves, or nobody knows."""
        planned = self._planned.get(fleet)
        return planned.start_s if planned is not None and not self._sights.get(fleet, (0, 0))[0] else 0.0

    def lines_per_s(self, fleet: str, lines: int, units: float) -> float:
        """The same in lines such as these, of which so many are so much work."""
        return self.rate(fleet) * lines / units if units > 0 else 0.0

    def needy(self, batch: str, now: float) -> bool:
        """Whether a batch will miss its deadline unless it goes first."""
        fleet, work = self._works.get(batch, ("", Work(batch, math.inf, 0.0)))
        return in_need(work, self.rate(fleet), now + self._starts_in(fleet))

    def finish(self, batch: str, now: float) -> float | None:
        """When a batch will be done, Unix seconds; None: nobody can say."""
        if batch not in self._works:
            return None
        fleet = self._works[batch][0]
        done = finishes(self._of(fleet), self.rate(fleet), now + self._starts_in(fleet))[batch]
        return done if math.isfinite(done) else None

    def refuses(self, batch: BatchRecord, found: Checked, now: float) -> str | None:
        """Why its window cannot be met, with the earliest that can be; None: it can."""
        fleet = self._rules.fleet_of(next(iter(found.models)))
        if fleet is None:
            return None
        shape = self._shapes[fleet.name] = _shape(found)
        measured, planned = self.pace(fleet.name).per_s, self._planned.get(fleet.name)
        rate, start, does = measured, 0.0, "does"
        if planned is not None and not measured:
            rate = planned.units_per_s(shape, planned.most) * planned.sure
            start = self._starts_in(fleet.name)
            does = f"with {counted(planned.most, 'replica')} is planned to do at most"
        new = Work(batch.id, batch.deadline, found.units, batch.tenant, fleet.weights.get(batch.tenant, 1.0))
        least = earliest_window(self._of(fleet.name), new, rate, now + start)
        if least is None:
            return None
        minutes = max(10, math.ceil((start + least) * 1.05 / 60))
        return (
            f"{found.lines} lines cannot be done in {batch.window}: {fleet.name} {does} "
            f"{rate * found.lines / found.units:.3g} such lines per second. "
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
            "rate": self._whence(fleet.name) if fleet else "unknown",
            "ran_twice": batch.twice,
            "gpu_seconds": round(batch.busy_s, 3),
            "cost_usd": round(self.cost(batch), 6),
            "reason": self._reason(batch, fleet.name, now) if fleet and not batch.over else "",
        }

    def _whence(self, fleet: str) -> str:
        """Where `lines_per_second` and `finish_at` come from."""
        if self.pace(fleet).per_s:
            return "measured"
        return "planned" if self._planned_rate(fleet) else "unknown"

    def _reason(self, batch: BatchRecord, fleet: str, now: float) -> str:
        """Why it goes as fast as it does, and whether replicas are called for its sake."""
        why = self.reasons.get(fleet, "")
        if batch.id not in self._works:
            return why
        if self.needy(batch.id, now):
            return f"{why}; its window is short, so its lines wait with requests and call for replicas"
        if why == NOBODY_SERVES:
            left = need_at(self._works[batch.id][1], self.rate(fleet)) - self._starts_in(fleet) - now
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


def _shape(found: Checked) -> LineShape:
    """What the lines of a file are like."""
    lines = max(1, found.lines)
    answers = found.units - found.lines * LINE_UNITS - found.size * BYTE_UNITS
    return LineShape(found.size / BYTES_PER_TOKEN / lines, max(0.0, answers) / lines, found.units / lines)

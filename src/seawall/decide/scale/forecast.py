"""How much will be asked of a fleet one start-up from now, and how far such expectations were off so far.

Why: a replica that is asked for now serves minutes later, so what counts is the load of then. Which rule foretells it
best depends on the traffic (a ramp, an hourly job, mere noise), and how much room an expectation needs depends on how
often it was wrong. Neither is a constant: several simple rules foretell side by side, what came is held against each,
and the one whose bound was the cheapest for its safety is believed.

    bins     mean arrival rate of each minute, the last day and a bit
    rules    as now; the trend goes on; as an hour ago; as a day ago; as usual
    room     the QUANTILE-th of (what came / what was expected), or of their difference, over a rule's last looks: its
             bounds are expectation x room and expectation + room (split conformal prediction, Vovk et al. 2005, in
             which old looks are forgotten)
    choice   the least pinball loss of the bounds (Koenker and Bassett 1978), which charges a bound for lying under what
             came and, less, for lying above it

Pure; the state is JSON-able and bounded. Forbidden: replicas (`slo.py`), clocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypedDict

BIN_S = 60.0
DAY, HOUR = 1440, 60
"""In bins."""
KEPT = DAY + 3 * HOUR
"""Bins that are remembered: the longest start-up that a day-old minute must still be known for is three hours."""
QUANTILE = 0.95
"""Share of the looks in which a bound should hold: objectives are 95th percentiles."""
LOOKS = 240
"""Looks by which a rule's room is measured: four hours."""
FEW = 20
"""Looks from which a 95th percentile can be told."""
UNTRIED = 1.5
"""The room of a rule that has not been tried yet."""
ROOM = (1.0, 4.0)
FORGET = 0.99
"""A look's weight in the loss, per later look."""
BETTER = 0.95
"""Another rule is taken when its loss is below this share of the present one's."""


class RuleState(TypedDict):
    """One rule: its expectations that are not due yet, [expected, came] of those that were, and the losses of its two
    bounds (expectation x room, expectation + room)."""

    due: list[float]
    was: list[list[float]]
    losses: list[float]
    weight: float


class ForecastState(TypedDict, total=False):
    bins: list[float]
    sum: float
    seconds: float
    last_s: float
    rules: dict[str, RuleState]
    rule: str
    way: int


@dataclass(frozen=True, slots=True)
class Expected:
    """`rate`: what is expected, per second; `bound`: what it stays under in QUANTILE of all looks, as far as known."""

    rate: float
    bound: float
    rule: str

    @property
    def room(self) -> float:
        return self.bound / self.rate if self.rate > 0 else 1.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _now(bins: list[float], ahead: int) -> float | None:
    """The last minutes' mean, or the last one where that is more: a step is believed at once, a lull after a while."""
    return max(_mean(bins[-3:]), bins[-1]) if bins else None


def _trend(bins: list[float], ahead: int) -> float | None:
    """A straight line through the last quarter of an hour, damped (Gardner 1985) and at most doubling."""
    recent = bins[-15:]
    if len(recent) < 5:
        return None
    middle = (len(recent) - 1) / 2
    slope = sum((i - middle) * v for i, v in enumerate(recent)) / sum(
        (i - middle) ** 2 for i in range(len(recent))
    )
    level = _mean(recent) + slope * middle
    damped = sum(0.9**i for i in range(1, ahead + 1))
    return min(max(0.0, level + slope * damped), 2 * max(level, 0.0))


def _ago(bins: list[float], ahead: int, span: int) -> float | None:
    """The greatest of the three minutes around the one that lies `span` before the minute that is asked for."""
    at = len(bins) - 1 + ahead - span
    if at < 1 or at + 1 >= len(bins):
        return None
    return max(bins[at - 1 : at + 2])


RULES: dict[str, Callable[[list[float], int], float | None]] = {
    "as now": _now,
    "as the trend": _trend,
    "as an hour ago": lambda bins, ahead: _ago(bins, ahead, HOUR * math.ceil((ahead + 2) / HOUR)),
    "as a day ago": lambda bins, ahead: _ago(bins, ahead, DAY),
    "as usual": lambda bins, ahead: _mean(bins[-2 * HOUR :]) if len(bins) >= HOUR else None,
}


NEEDS = {"as an hour ago": 2 * HOUR, "as a day ago": 4 * HOUR}
"""Looks until a rule may be believed, where FEW would be luck."""
TIMES, PLUS = 0, 1
WAYS = (TIMES, PLUS)


def seen(state: ForecastState, rate: float, ahead_s: float, now: float) -> tuple[Expected, ForecastState]:
    """A look: `rate` is the mean arrival rate since the last one -> (what to expect in `ahead_s`, what to remember)."""
    since = max(0.0, now - state.get("last_s", now - BIN_S / 4))
    after = ForecastState(
        bins=list(state.get("bins", ())),
        sum=state.get("sum", 0.0) + rate * since,
        seconds=state.get("seconds", 0.0) + since,
        last_s=now,
        rules=state.get("rules", {}),
        rule=state.get("rule", "as now"),
        way=state.get("way", TIMES),
    )
    ahead = max(1, math.ceil(ahead_s / BIN_S))
    while after["seconds"] >= BIN_S:
        mean = after["sum"] / after["seconds"]
        after["bins"] = [*after["bins"], mean][-KEPT:]
        after["sum"] -= mean * BIN_S
        after["seconds"] -= BIN_S
        after["rules"] = _judged(after["rules"], after["bins"], ahead)
        after["rule"], after["way"] = _chosen(after["rules"], (after["rule"], after["way"]))
    if not after["bins"]:
        return Expected(rate, UNTRIED * rate, "as now"), after
    rule, way = after["rule"], after["way"]
    expectation = RULES[rule](after["bins"], ahead)
    if expectation is None:
        rule, way, expectation = "as now", TIMES, _now(after["bins"], ahead) or 0.0
    return Expected(expectation, _bounds(expectation, after["rules"].get(rule))[way], rule), after


def level(state: ForecastState, otherwise: float) -> float:
    """The rate of the last minutes; `otherwise` before there is one."""
    rate = _now(state.get("bins", []), 1)
    return otherwise if rate is None else rate


def _bounds(expectation: float, rule: RuleState | None) -> tuple[float, float]:
    """What the arrivals stay under: by the quantile of how many times as many, and of how many more, came."""
    if rule is None or len(rule["was"]) < FEW:
        return UNTRIED * expectation, UNTRIED * expectation
    # A few hours of one mood say little: until there is more, some untried looks count beside them.
    untried = (LOOKS - len(rule["was"])) // 15
    at = min(len(rule["was"]) + untried, math.ceil(QUANTILE * (len(rule["was"]) + untried + 1))) - 1
    times = sorted([*(c / e if e > 0 else ROOM[1] for e, c in rule["was"]), *[UNTRIED] * untried])[at]
    more = sorted([*(c - e for e, c in rule["was"]), *[(UNTRIED - 1) * expectation] * untried])[at]
    return expectation * min(max(times, ROOM[0]), ROOM[1]), max(0.0, expectation + more)


def _judged(rules: dict[str, RuleState], bins: list[float], ahead: int) -> dict[str, RuleState]:
    """Every rule's expectation of `ahead` bins ago is held against what came; each says what it expects now."""
    came = _mean(bins[-2:])
    judged = {}
    for name, foretell in RULES.items():
        rule = rules.get(name) or RuleState(due=[], was=[], losses=[0.0, 0.0], weight=0.0)
        due, was, losses, weight = list(rule["due"]), rule["was"], rule["losses"], rule["weight"]
        while len(due) >= ahead:
            expected = due.pop(0)
            if expected >= 0:
                misses = [came - bound for bound in _bounds(expected, rule)]
                losses = [
                    FORGET * loss + (QUANTILE * miss if miss > 0 else (QUANTILE - 1) * miss)
                    for loss, miss in zip(losses, misses, strict=True)
                ]
                weight = FORGET * weight + 1
                was = [*was, [expected, came]][-LOOKS:]
        expected_now = foretell(bins, ahead)
        due.append(-1.0 if expected_now is None else expected_now)
        judged[name] = RuleState(due=due, was=was, losses=losses, weight=weight)
    return judged


def _chosen(rules: dict[str, RuleState], present: tuple[str, int]) -> tuple[str, int]:
    tried = {
        (name, way): r["losses"][way] / r["weight"]
        for name, r in rules.items()
        if len(r["was"]) >= NEEDS.get(name, FEW)
        for way in WAYS
    }
    if not tried:
        return "as now", TIMES
    best = min(tried, key=lambda one: tried[one])
    if present in tried and tried[best] > BETTER * tried[present]:
        return present
    return best

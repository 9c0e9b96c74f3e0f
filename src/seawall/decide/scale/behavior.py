"""How the HorizontalPodAutoscaler damps a recommendation: stabilisation, rate policies, event log, limits.

Why: the same what-if must come out here as on a cluster, so every rounding, every strict or inclusive
comparison and every "overwrite the last old entry" is Kubernetes 1.36's own
(pkg/controller/podautoscaler/horizontal.go; the function it answers to is named in each docstring).
Forbidden: improving on it. A better policy is another policy (`slo.py`).

Times are seconds on the caller's clock; replica counts are int32 upstream and plain ints here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

MAX_INT32 = 2**31 - 1
MIN_INT32 = -(2**31)

SelectPolicy = Literal["Max", "Min", "Disabled"]
WITHIN, TOO_MANY, TOO_FEW = "DesiredWithinRange", "TooManyReplicas", "TooFewReplicas"
UP_LIMIT, DOWN_LIMIT = "ScaleUpLimit", "ScaleDownLimit"


@dataclass(frozen=True, slots=True)
class RatePolicy:
    """At most `value` Pods (or percent of them) within any `period_s` seconds."""

    type: Literal["Pods", "Percent"]
    value: int
    period_s: float


@dataclass(frozen=True, slots=True)
class DirectionRules:
    """One direction of `spec.behavior`. `select` picks among the policies' limits."""

    window_s: float
    select: SelectPolicy
    policies: tuple[RatePolicy, ...]
    tolerance: float | None = None
    """None: the controller's own (0.1)."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    replicas: int
    at_s: float


@dataclass(frozen=True, slots=True)
class ScaleEvent:
    """A past change: `change` is positive in both directions."""

    change: int
    at_s: float
    outdated: bool = False


@dataclass(frozen=True, slots=True)
class Bounded:
    """A replica count and why it was, or was not, cut."""

    replicas: int
    reason: str


DEFAULT_UP = DirectionRules(0, "Max", (RatePolicy("Pods", 4, 15), RatePolicy("Percent", 100, 15)))
DEFAULT_DOWN = DirectionRules(300, "Max", (RatePolicy("Percent", 100, 15),))


def filled(
    window_s: float | None,
    select: SelectPolicy | None,
    policies: tuple[RatePolicy, ...] | None,
    tolerance: float | None,
    default: DirectionRules,
) -> DirectionRules:
    """Missing parts of a written behaviour take the default's, key by key (apis/autoscaling/v2/defaults.go)."""
    return DirectionRules(
        default.window_s if window_s is None else window_s,
        default.select if select is None else select,
        policies or default.policies,
        tolerance,
    )


def within(ratio: float, tolerance_down: float, tolerance_up: float) -> bool:
    """Both ends count (`Tolerances.isWithin`). NaN (no replicas, no load) lies outside."""
    return 1.0 - tolerance_down <= ratio <= 1.0 + tolerance_up


def change_in(events: tuple[ScaleEvent, ...], period_s: float, now: float) -> int:
    """Replicas changed within the period; an event exactly `period_s` old is out (`getReplicasChangePerPeriod`)."""
    return sum(e.change for e in events if e.at_s > now - period_s)


def up_limit(
    current: int,
    ups: tuple[ScaleEvent, ...],
    downs: tuple[ScaleEvent, ...],
    rules: DirectionRules,
    now: float,
) -> int:
    """`calculateScaleUpLimitWithScalingRules`: percentages round up, so that one replica can grow at all."""
    if rules.select == "Disabled":
        return current
    proposals = []
    for p in rules.policies:
        base = current - change_in(ups, p.period_s, now) + change_in(downs, p.period_s, now)
        proposals.append(base + p.value if p.type == "Pods" else math.ceil(base * (1 + p.value / 100)))
    if rules.select == "Min":
        return min(proposals, default=MAX_INT32)
    return max(proposals, default=MIN_INT32)


def down_limit(
    current: int,
    ups: tuple[ScaleEvent, ...],
    downs: tuple[ScaleEvent, ...],
    rules: DirectionRules,
    now: float,
) -> int:
    """`calculateScaleDownLimitWithBehaviors`: percentages truncate; `Min` (the smallest change) : highest count."""
    if rules.select == "Disabled":
        return current
    proposals = []
    for p in rules.policies:
        base = current - change_in(ups, p.period_s, now) + change_in(downs, p.period_s, now)
        proposals.append(base - p.value if p.type == "Pods" else int(base * (1 - p.value / 100)))
    if rules.select == "Min":
        return max(proposals, default=MIN_INT32)
    return min(proposals, default=MAX_INT32)


def rate_limited(
    current: int,
    desired: int,
    lowest: int,
    highest: int,
    up: DirectionRules,
    down: DirectionRules,
    ups: tuple[ScaleEvent, ...],
    downs: tuple[ScaleEvent, ...],
    now: float,
) -> Bounded:
    """`convertDesiredReplicasWithBehaviorRate`: growing checks only the maximum, shrinking only the minimum."""
    if desired > current:
        limit = max(up_limit(current, ups, downs, up, now), current)
        top, reason = (limit, UP_LIMIT) if highest > limit else (highest, TOO_MANY)
        if desired > top:
            return Bounded(top, reason)
    elif desired < current:
        limit = min(down_limit(current, ups, downs, down, now), current)
        floor, reason = (limit, DOWN_LIMIT) if lowest < limit else (lowest, TOO_FEW)
        if desired < floor:
            return Bounded(floor, reason)
    return Bounded(desired, WITHIN)


def legacy_limited(
    current: int, desired: int, lowest: int, highest: int, factor: float = 2.0, minimum: float = 4.0
) -> Bounded:
    """`convertDesiredReplicasWithRules`, the path without `spec.behavior`: at most double, or four, at once."""
    limit = int(max(factor * current, minimum))
    top, reason = (limit, UP_LIMIT) if highest > limit else (highest, TOO_MANY)
    if desired < lowest:
        return Bounded(lowest, TOO_FEW)
    if desired > top:
        return Bounded(top, reason)
    return Bounded(desired, WITHIN)


Recommendations = tuple[Recommendation, ...]


def _recorded(log: Recommendations, old: int | None, desired: int, now: float) -> Recommendations:
    entry = Recommendation(desired, now)
    if old is None:
        return (*log, entry)
    return (*log[:old], entry, *log[old + 1 :])


def stabilized(
    current: int, desired: int, log: Recommendations, up_window_s: float, down_window_s: float, now: float
) -> tuple[int, Recommendations]:
    """`stabilizeRecommendationWithBehaviors`: -> (stabilised count, log with the *unstabilised* one).

    A recommendation exactly one window old is out; one strictly older than both windows is overwritten
    (the last such), otherwise the log grows.
    """
    lowest = highest = desired
    old = None
    for i, rec in enumerate(log):
        if rec.at_s > now - up_window_s:
            lowest = min(lowest, rec.replicas)
        if rec.at_s > now - down_window_s:
            highest = max(highest, rec.replicas)
        if rec.at_s < now - up_window_s and rec.at_s < now - down_window_s:
            old = i
    result = max(current, lowest)
    result = min(result, highest)
    return result, _recorded(log, old, desired, now)


def legacy_stabilized(
    desired: int, log: Recommendations, window_s: float, now: float
) -> tuple[int, Recommendations]:
    """`stabilizeRecommendation`: the highest recommendation of the window; one exactly as old still counts."""
    highest, old = desired, None
    for i, rec in enumerate(log):
        if rec.at_s < now - window_s:
            old = i
        else:
            highest = max(highest, rec.replicas)
    return highest, _recorded(log, old, desired, now)


Events = tuple[ScaleEvent, ...]


def stored(events: Events, change: int, rules: DirectionRules | None, now: float) -> Events:
    """`storeScaleEvent` for one direction: mark what no policy can see, overwrite the last such, else append.

    Without behaviour (`rules` None) nothing is stored and nothing is marked.
    """
    if rules is None:
        return events
    longest = max((p.period_s for p in rules.policies), default=0)
    marked = tuple(replace(e, outdated=True) if e.at_s < now - longest else e for e in events)
    entry = ScaleEvent(change, now)
    old = max((i for i, e in enumerate(marked) if e.outdated), default=None)
    return (*marked, entry) if old is None else (*marked[:old], entry, *marked[old + 1 :])

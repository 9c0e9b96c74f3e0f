"""How many replicas a day's GPU-hours still allow.

Why: a bill is a bound like any other, and one that is met at noon by a burst must not leave the evening with nothing.
What the minimum needs until midnight is kept aside. Of the rest a replica more is allowed while it could run for an
hour (or its start, where that is longer): as the budget runs out the bound sinks step by step, not at once.
It never sinks below the minimum, nor below one: a budget ends growth, not the service; an overrun is told.

Counted are replicas that are wanted or there (those that drain and a canary's hold GPUs as well), from the first look
on, and before it what the replicas that are there then have run since midnight. Pure; state is JSON-able.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypedDict

from seawall.decide.scale import schedule

AHEAD_S = 3600.0
"""A replica more must be able to run so long."""


@dataclass(frozen=True, slots=True)
class DayBudget:
    """GPU-hours a day, in a time zone's days."""

    gpu_hours: float
    gpus: int
    """GPUs of one replica; 1 where there are none."""
    zone: str = "UTC"


class Spent(TypedDict, total=False):
    """What a day has cost up to a moment."""

    day_s: float
    """The beginning of the day, Unix time."""
    gpu_s: float
    at_s: float
    replicas: int


@dataclass(frozen=True, slots=True)
class Allowed:
    replicas: int
    reason: str


def charged(
    budget: DayBudget, spent: Spent, replicas: int, at_s: float, made_s: Sequence[float] = ()
) -> Spent:
    """What the day has cost by now, when `replicas` are there now. Between two looks as many ran as at the first.
    `made_s`: when each replica was made, for a first look."""
    begin, _ = schedule.day_of(budget.zone, at_s)
    if "at_s" not in spent:
        ran = sum(max(0.0, at_s - max(begin, made)) for made in made_s)
        return Spent(day_s=begin, gpu_s=ran * budget.gpus, at_s=at_s, replicas=replicas)
    before = spent["gpu_s"] if spent["day_s"] == begin else 0.0
    for_s = max(0.0, at_s - max(begin, spent["at_s"]))
    return Spent(
        day_s=begin,
        gpu_s=before + for_s * spent["replicas"] * budget.gpus,
        at_s=max(at_s, spent["at_s"]),
        replicas=replicas,
    )


def allowed(
    budget: DayBudget,
    spent: Spent,
    lowest: Callable[[float], int],
    windows: Sequence[schedule.Window],
    startup_s: float,
) -> Allowed:
    """The most replicas now. `lowest`: the minimum at a moment."""
    now = spent["at_s"]
    _, end = schedule.day_of(budget.zone, now)
    kept_s = reserved(lowest, windows, now, end) * budget.gpus
    free_s = budget.gpu_hours * 3600 - spent["gpu_s"] - kept_s
    ahead_s = max(startup_s, min(AHEAD_S, end - now))
    more = math.floor(free_s / (budget.gpus * ahead_s) + 1e-9)
    least = lowest(now)
    used = f"{spent['gpu_s'] / 3600:.1f} of {budget.gpu_hours:g} GPU-hours of today are spent"
    if kept_s:
        used += f" and {kept_s / 3600:.1f} kept for the minimum"
    return Allowed(max(1, least, least + more), used)


def reserved(
    lowest: Callable[[float], int], windows: Sequence[schedule.Window], now: float, end: float
) -> float:
    """Replica-seconds that the minimum needs between two moments."""
    points = [now, *schedule.changes(windows, now, end), end]
    return sum(lowest(a) * (b - a) for a, b in pairwise(points))

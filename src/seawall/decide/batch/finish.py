"""When batches will be done, and which windows can be met. Forbidden here: clocks; times are Unix seconds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

SURE: Final = 1.1
"""A window is promised with so much more time than the rate says."""
UNKNOWN_S: Final = 600.0
"""Seconds before the end of its window from which on a batch is in need whose rate nobody knows."""
LATE: Final = 1.25
"""A batch is in need when the rest of its window is less than so many times what is left of it takes."""


@dataclass(frozen=True)
class Work:
    """What is left of one batch."""

    id: str
    deadline: float
    units: float
    """See `pace.units`."""
    tenant: str = ""
    weight: float = 1.0
    """The tenant's share."""


def finishes(works: Iterable[Work], per_s: float, now: float) -> dict[str, float]:
    """Batch -> when it will be done, the turns being taken as `turns` gives them: batches in need first, then tenants
    side by side by their shares, of each the earliest deadline. Infinity while nothing moves."""
    every = list(works)
    if per_s <= 0:
        return {w.id: math.inf for w in every}
    left = {w.id: w for w in every if w.units > 0}
    done = {w.id: now for w in every if w.units <= 0}
    needy: set[str] = set()
    while left:
        needy |= {w.id for w in left.values() if in_need(w, per_s, now)}
        rates = _rates(list(left.values()), needy, per_s)
        first = min(rates, key=lambda name: left[name].units / rates[name])
        seconds = left[first].units / rates[first]
        need_in = min((_need_in(w, rates.get(w.id, 0.0), per_s, now) for w in left.values() if w.id not in needy),
                      default=math.inf)  # fmt: skip
        over = need_in >= seconds
        seconds = min(seconds, need_in)
        now += seconds
        for name, rate in rates.items():
            left[name] = replace(left[name], units=max(0.0, left[name].units - rate * seconds))
        if over:
            done[first] = now
            del left[first]
    return done


def _rates(works: list[Work], needy: set[str], per_s: float) -> dict[str, float]:
    """Batch -> units per second that it gets now; those that get none are left out."""
    urgent = [w for w in works if w.id in needy]
    if urgent:
        return {_first(urgent).id: per_s}
    heads = [_first([w for w in works if w.tenant == tenant]) for tenant in {w.tenant for w in works}]
    total = sum(w.weight for w in heads)
    return {w.id: per_s * w.weight / total for w in heads}


def _first(works: list[Work]) -> Work:
    return min(works, key=lambda w: (w.deadline, w.id))


def _need_in(work: Work, rate: float, per_s: float, now: float) -> float:
    """Seconds until a batch that gets so much of the rate comes to be in need; it is not now."""
    margin = work.deadline - now - LATE * work.units / per_s
    falls = 1.0 - LATE * rate / per_s
    return margin / falls + 1e-3 if falls > 0 else math.inf


def in_time(works: Iterable[Work], per_s: float, now: float) -> dict[str, float]:
    """Batch -> when it can be done, if the earliest deadline always goes first: whoever is in need does."""
    done: dict[str, float] = {}
    ahead = 0.0
    for work in sorted(works, key=lambda w: (w.deadline, w.id)):
        ahead += work.units
        done[work.id] = now + ahead / per_s
    return done


def earliest_window(works: Iterable[Work], new: Work, per_s: float, now: float) -> float | None:
    """Seconds of the shortest window in which `new` can be done; None: its own can be met, or nobody knows.

    Others keep what they were promised: `new` has no place before one that it would push over its deadline."""
    if per_s <= 0:
        return None
    others = sorted(works, key=lambda w: (w.deadline, w.id))
    sure = per_s / SURE
    if _fits(others, new, sure, now):
        return None
    ahead = 0.0
    for k in range(len(others) + 1):
        soonest = now + (ahead + new.units) / sure
        deadline = max(soonest, new.deadline, others[k - 1].deadline if k else soonest)
        if _fits(others, replace(new, deadline=deadline), sure, now):
            return deadline - now
        ahead += others[k].units if k < len(others) else 0
    return max(now + ahead / sure + new.units / sure, others[-1].deadline if others else now) - now


def _fits(others: list[Work], new: Work, per_s: float, now: float) -> bool:
    """Whether `new` is done in time, and no other later than it would be in time without it."""
    alone, together = in_time(others, per_s, now), in_time([*others, new], per_s, now)
    pushed = any(alone[w.id] <= w.deadline < together[w.id] for w in others)
    return together[new.id] <= new.deadline and not pushed


def in_need(work: Work, per_s: float, now: float) -> bool:
    """Whether a batch will miss its deadline unless it goes before others, or gets more than what is left over."""
    return work.units > 0 and now > need_at(work, per_s)


def need_at(work: Work, per_s: float) -> float:
    """When a batch comes to be in need, if nothing of it is done until then."""
    return work.deadline - (LATE * work.units / per_s if per_s > 0 else UNKNOWN_S)

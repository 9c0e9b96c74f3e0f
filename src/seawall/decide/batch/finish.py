"""When batches will be done, and which windows can be met. Forbidden here: clocks; times are Unix seconds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

SURE: Final = 1.1
"""A window is promised with so much more time than the rate says."""
RATE_HALF_S: Final = 20.0
"""Seconds after which a measured rate counts half."""
LATE: Final = 1.25
"""A batch is in need when the rest of its window is less than so many times what is left of it takes."""


@dataclass(frozen=True)
class Rate:
    """Lines per second while there was work, smoothed."""

    per_s: float = 0.0
    weight: float = 0.0
    """Seconds of measuring behind it, the old ones counting less."""

    def after(self, lines: int, seconds: float) -> Rate:
        """The rate when so many more lines were done in so many seconds of work."""
        if seconds <= 0:
            return self
        old = self.weight * 0.5 ** (seconds / RATE_HALF_S)
        return Rate((self.per_s * old + lines) / (old + seconds), old + seconds)


@dataclass(frozen=True)
class Work:
    """What is left of one batch."""

    id: str
    deadline: float
    lines: int


def finishes(works: Iterable[Work], per_s: float, now: float) -> dict[str, float]:
    """Batch -> when it will be done, if the earliest deadline goes first. Infinity while nothing moves."""
    done: dict[str, float] = {}
    ahead = 0
    for work in sorted(works, key=lambda w: (w.deadline, w.id)):
        ahead += work.lines
        done[work.id] = now + ahead / per_s if per_s > 0 else math.inf
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
    ahead = 0
    for k in range(len(others) + 1):
        soonest = now + (ahead + new.lines) / sure
        deadline = max(soonest, new.deadline, others[k - 1].deadline if k else soonest)
        if _fits(others, replace(new, deadline=deadline), sure, now):
            return deadline - now
        ahead += others[k].lines if k < len(others) else 0
    return max(now + ahead / sure + new.lines / sure, others[-1].deadline if others else now) - now


def _fits(others: list[Work], new: Work, per_s: float, now: float) -> bool:
    """Whether `new` is done in time, and no other later than it would be in time without it."""
    alone, together = finishes(others, per_s, now), finishes([*others, new], per_s, now)
    pushed = any(alone[w.id] <= w.deadline < together[w.id] for w in others)
    return together[new.id] <= new.deadline and not pushed


def in_need(work: Work, per_s: float, now: float) -> bool:
    """Whether a batch will miss its deadline unless it goes before others, or gets more than what is left over."""
    if work.lines <= 0:
        return False
    return work.deadline - now < LATE * work.lines / per_s if per_s > 0 else work.deadline - now < 600.0

"""How many batch lines may run beside interactive traffic: one more while all is well, half as many when it is not.

Additive increase, multiplicative decrease (Chiu & Jain, 1989), after a start in which it doubles, on what interactive
requests were measured to take, and on whether any of them waits. Lines over a limit that fell are ended at once: the
next step of the engine is without them. Forbidden here: clocks and measuring; `now` is in seconds of any monotonic
clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MARGIN: Final = 0.8
"""Share of an objective from which on the lane gives way."""
DECREASE: Final = 0.5
GROWTHS: Final = 8
"""Looks in which the limit grows from nothing to all places, once it has fallen. Until then it doubles."""
HOLD_S: Final = 2.0
"""After a decrease nothing grows for so long: what is measured is older than the decrease."""
NOBODY_SERVES: Final = "no replica serves"
LEAST_SEEN: Final = 5
"""Interactive requests of which a quantile is believed."""


@dataclass(frozen=True)
class SparePolicy:
    """What interactive requests are promised; infinity: nothing."""

    ttft_s: float = math.inf
    tpot_s: float = math.inf


@dataclass(frozen=True)
class SpareSeen:
    """What a look at a fleet found."""

    places: int
    """Lines that its replicas can take at most."""
    running: int
    """Lines that are under way."""
    queued: int = 0
    """Interactive requests that wait for a replica."""
    ttft_s: float | None = None
    """The 95th percentile of interactive requests lately; None: too few to say."""
    tpot_s: float | None = None
    refused: int = 0
    """Lines since the last look for which there was no place."""


@dataclass(frozen=True)
class SpareState:
    """What is remembered from one look to the next."""

    limit: float = 1.0
    hold_until: float = -math.inf


@dataclass(frozen=True)
class Spare:
    """The decision."""

    limit: int
    """Lines that may be under way."""
    end: int
    """Lines under way that are to be ended now, for interactive requests need what they hold."""
    reason: str


def decide(policy: SparePolicy, seen: SpareSeen, state: SpareState, now: float) -> tuple[Spare, SpareState]:
    """How many lines may run until the next look."""
    if seen.places <= 0:
        return Spare(0, 0, NOBODY_SERVES), SpareState(1.0, state.hold_until)
    had = min(state.limit, float(seen.places))
    why = _pressure(policy, seen)
    if why:
        if now < state.hold_until and not seen.queued:
            limit, hold = had, state.hold_until  # what is measured is of before the last decrease
        else:
            limit, hold = min(had, float(seen.running)) * DECREASE, now + HOLD_S
        if not seen.queued:
            limit = max(limit, 1.0)  # slow for another reason, perhaps: one line shows whether it is over
        return Spare(int(limit), max(0, seen.running - int(limit)), why), SpareState(limit, hold)
    limit = had
    if now < state.hold_until:
        return Spare(int(limit), 0, "giving way a moment ago"), SpareState(limit, state.hold_until)
    if seen.running >= int(limit) - 1:  # a limit that nobody reaches says nothing
        more = max(1.0, seen.places / GROWTHS) if state.hold_until > -math.inf else limit + 1
        limit = min(float(seen.places), limit + more)
    reason = "interactive requests are within their objective"
    if seen.refused or limit >= seen.places:
        reason = "all places are taken"
    return Spare(max(1, int(limit)), 0, reason), SpareState(max(1.0, limit), state.hold_until)


def _pressure(policy: SparePolicy, seen: SpareSeen) -> str:
    if seen.queued:
        return f"{seen.queued} interactive requests wait"
    if seen.ttft_s is not None and seen.ttft_s > policy.ttft_s * MARGIN:
        return f"first tokens take {seen.ttft_s:.2f} s of {policy.ttft_s:g} s"
    if seen.tpot_s is not None and seen.tpot_s > policy.tpot_s * MARGIN:
        return f"tokens take {seen.tpot_s * 1000:.0f} ms of {policy.tpot_s * 1000:g} ms"
    return ""


def quantile(counts: Sequence[int], bounds: Sequence[float], q: float) -> float | None:
    """The `q` quantile of what was counted in buckets with these upper bounds and one above them all; between two
    bounds it is taken to be even. None: there are too few."""
    total = sum(counts)
    if total < LEAST_SEEN:
        return None
    rank, below = q * total, 0
    for i, count in enumerate(counts):
        if count and below + count >= rank:
            low = bounds[i - 1] if i else 0.0
            high = bounds[i] if i < len(bounds) else bounds[-1] * 2
            return low + (high - low) * (rank - below) / count
        below += count
    return bounds[-1] * 2

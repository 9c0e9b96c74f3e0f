"""A policy for those who want better than a queue length: size for the requests that will come while a pod starts.

Why: the HPA answers what is there now. With minutes of start-up it answers too late, and then, because a backlog
looks like demand, too much. Here capacity is reckoned in requests per second:

    W       time in a replica, by Little's law (running / arrivals), learnt while nobody waits
    base    (forecast of arrivals one start-up ahead) x W / target                  replicas for what comes
    drain   backlog x W / target / drain time                                       replicas for what waits
    KV      one more when a replica's cache is nearly full, whatever the counts say

The forecast is Holt's (level and trend, 1957) on the arrival rate, the trend never more than doubling the level
and never below zero. What comes out is a proposal like any metric's: the HPA's own windows, rate policies and
bounds apply to it, so it shrinks as carefully (a replica sent away too early costs a cold start to get back).
Pure; state is JSON-able.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypedDict

from seawall.domain.units import show_seconds

LEVEL, TREND = 0.35, 0.15
"""Holt's smoothing per look."""
CALM = 0.1
"""W is learnt while less than this share of the requests waits."""
KV_FULL = 0.95
DRAIN_LEAST_S = 60.0


class SloState(TypedDict, total=False):
    level: float
    trend: float
    time_in_s: float
    last_s: float


@dataclass(frozen=True, slots=True)
class FleetLoad:
    """What the policy sees: counts over the fleet, and the arrival rate."""

    replicas: int
    running: float
    backlog: float
    arrivals_per_s: float
    kv_usage: float


@dataclass(frozen=True, slots=True)
class Sized:
    replicas: int
    reason: str


def wanted(
    load: FleetLoad, target: float, startup_s: float, state: SloState, now: float
) -> tuple[Sized, SloState]:
    """Replicas for one start-up ahead -> (before bounds, what to remember)."""
    rate = load.arrivals_per_s
    gap = max(1.0, now - state.get("last_s", now))
    if "level" in state:
        level = state["level"] + LEVEL * (rate - state["level"]) + (1 - LEVEL) * state["trend"] * 0.5
        level = max(0.0, level)
        trend = state["trend"] + TREND * (level - state["level"] - state["trend"])
    else:
        level, trend = rate, 0.0
    ahead = min(max(0.0, trend) * startup_s / gap, level)
    forecast = level + ahead
    time_in = state.get("time_in_s", 0.0)
    everything = load.running + load.backlog
    if level > 0 and load.running > 0 and load.backlog <= CALM * everything:
        fresh = load.running / level
        time_in = fresh if not time_in else time_in + 0.2 * (fresh - time_in)
    if time_in:
        base = forecast * time_in / target
        drain = load.backlog * time_in / target / max(DRAIN_LEAST_S, startup_s)
        reason = (
            f"{forecast:.3g}/s expected in {show_seconds(startup_s)}, {show_seconds(time_in)} each over "
            f"{target:g} per replica"
        )
        if drain > 0.05:
            reason += f", {load.backlog:.0f} waiting"
    else:
        base, drain = everything / target, 0.0
        reason = f"{everything:g} requests over {target:g} per replica"
    count = math.ceil(base + drain - 1e-9)
    if load.kv_usage > KV_FULL and count <= load.replicas:
        count, reason = load.replicas + 1, f"{reason}; a KV cache is {load.kv_usage:.0%} full"
    after = SloState(level=level, trend=trend, time_in_s=time_in, last_s=now)
    return Sized(count, f"{reason}: {count} wanted"), after

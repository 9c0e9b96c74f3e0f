"""A policy for those who want better than a queue length: size for the requests that will come while a pod starts.

Why: the HPA answers what is there now. With minutes of start-up it answers too late, and then, because a backlog
looks like demand, too much. Here capacity is reckoned in requests per second:

    W       time in a replica, by Little's law (running / arrivals), learnt while nobody waits
    base    (bound on the arrivals one start-up ahead, `forecast.py`) x W / target     replicas for what comes
    drain   backlog x W / target / drain time                                          replicas for what waits
    target  requests at once at which a token takes FILL of its objective, by the plan's timing
    KV      one more when a replica's cache is nearly full, whatever the counts say

What comes out is a proposal like any metric's: windows, rate policies and bounds apply to it. The window for
shrinking is a start-up long at least: nothing is stopped that an expectation still counts on.
Pure; state is JSON-able.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypedDict

from seawall.decide.scale import forecast
from seawall.domain.action import Plan, Timing
from seawall.domain.spec import Traffic
from seawall.domain.units import show_seconds

FILL = 0.65
"""Share of the objective per token that a replica is filled to; the rest is for requests that are not average."""
CALM = 0.1
"""W is learnt while less than this share of the requests waits."""
FULL = 1.5
"""And while replicas hold at most so many times the target: beyond that they crawl."""
KEEP = 0.997
"""What a look weighs after the next one."""
NORMAL_95 = 1.645
PEAKED = 25.0
"""Peakedness is believed up to here."""
LEAST = 1.1
"""Times the present arrivals: what serves them is not sent away."""
KV_FULL = 0.95
DRAIN_S = 120.0
"""A backlog is drained in so long: replicas beyond those for what comes are paid for a start-up each."""


class SloState(TypedDict, total=False):
    forecast: forecast.ForecastState
    last_per_s: float
    looks: list[float]
    """Sums over calm looks, old ones fading: arrivals per second, running, running per replica x arrivals, and the
    squares of what ran beyond or below what Little's law gives, and that."""


@dataclass(frozen=True, slots=True)
class FleetLoad:
    """What the policy sees: counts over the fleet, and the arrival rate."""

    replicas: int
    ready: int
    running: float
    backlog: float
    arrivals_per_s: float
    kv_usage: float


@dataclass(frozen=True, slots=True)
class Sized:
    replicas: int
    reason: str


@dataclass(frozen=True, slots=True)
class StepTime:
    """How long a replica takes for one token of each of its requests, by the plan's timing and the mean request."""

    timing: Timing
    prompt: float
    output: float

    def at(self, requests: float) -> float:
        """Seconds per token with so many requests at once. Prompts come whole: a step that holds one is computed, one
        that holds none waits for memory."""
        t = self.timing
        read = requests * (self.prompt + self.output / 2) * t.kv_token_s
        decode = requests * t.decode_seq_s
        prefill = self.prompt * (t.prefill_token_s + self.prompt / 2 * t.prefill_pair_s)
        share = min(1.0, requests / self.output)
        return t.base_s + read + share * (prefill + decode) + (1 - share) * max(decode, t.weight_read_s)


def step_time(plan: Plan, traffic: Traffic) -> StepTime | None:
    """None where no timing is known."""
    if not plan.timing.weight_read_s:
        return None
    return StepTime(plan.timing, max(1.0, traffic.prompt_tokens), max(1.0, traffic.output_tokens))


def fill(plan: Plan, traffic: Traffic) -> float | None:
    """Requests at once in one replica that hold FILL of the objective per token, and FILL of what fits; None where
    no timing is known, or where not even one request holds the objective."""
    step = step_time(plan, traffic)
    aim_s = FILL * traffic.slo.tpot
    if step is None or step.at(1.0) > aim_s:
        return None
    most = FILL * min(plan.max_num_seqs, plan.kv_cache_tokens / (step.prompt + step.output / 2))
    low, high = 1.0, max(1.0, most)
    while high - low > 0.05:
        middle = (low + high) / 2
        low, high = (middle, high) if step.at(middle) <= aim_s else (low, middle)
    return low


def wanted(
    load: FleetLoad,
    target: float,
    startup_s: float,
    state: SloState,
    now: float,
    step: StepTime | None = None,
) -> tuple[Sized, SloState]:
    """Replicas for one start-up ahead -> (before bounds, what to remember)."""
    expected, outlook = forecast.seen(state.get("forecast", {}), load.arrivals_per_s, startup_s, now)
    everything = load.running + load.backlog
    # A step is seen within two looks; one look alone may be chance.
    twice = min(load.arrivals_per_s, state.get("last_per_s", load.arrivals_per_s))
    rate = max(forecast.level(outlook, load.arrivals_per_s), twice)
    fill_now = load.running / max(1, load.ready)
    looks = state.get("looks", [0.0] * 5)
    calm = load.backlog <= CALM * everything and fill_now <= FULL * target
    if calm and load.arrivals_per_s > 0:
        usual = rate * (looks[1] / looks[0] if looks[0] > 0 else load.running / rate)
        look = (
            load.arrivals_per_s,
            load.running,
            fill_now * load.arrivals_per_s,
            (load.running - usual) ** 2,
            usual,
        )
        looks = [KEEP * a + b for a, b in zip(looks, look, strict=True)]
    time_in = _time_in(looks, target, step)
    if time_in:
        bound = max(expected.bound, LEAST * rate)
        base = _peak(bound * time_in, looks) / target
        drain = load.backlog * time_in / target / DRAIN_S
        reason = (
            f"{expected.rate:.3g}/s expected in {show_seconds(startup_s)} ({expected.rule}), at most "
            f"{bound:.3g}/s, {show_seconds(time_in)} each over {target:g} per replica"
        )
        if drain > 0.05:
            reason += f", {load.backlog:.0f} waiting"
    else:
        base, drain = everything / target, 0.0
        reason = f"{everything:g} requests over {target:g} per replica"
    count = math.ceil(base + drain - 1e-9)
    if load.kv_usage > KV_FULL and count <= load.replicas <= load.ready:
        count, reason = load.replicas + 1, f"{reason}; a KV cache is {load.kv_usage:.0%} full"
    return Sized(count, f"{reason}: {count} wanted"), SloState(
        forecast=outlook, looks=looks, last_per_s=load.arrivals_per_s
    )


def _peak(mean: float, looks: list[float]) -> float:
    """What runs at once in all but a twentieth of the time, where `mean` runs on average: the square-root rule with the
    peakedness (variance over mean; 1: arrivals by chance alone) that was seen."""
    peaked = min(max(looks[3] / looks[4], 1.0), PEAKED) if looks[4] > 0 else 1.0
    return mean + NORMAL_95 * math.sqrt(peaked * mean)


def _time_in(looks: list[float], target: float, step: StepTime | None) -> float:
    """Time in a replica that is filled to `target` (a replica that does more at once is slower at each), by Little's
    law and, from the fill that was seen to the target, by the plan's own proportion. 0: unknown."""
    arrivals, running, filled = looks[:3]
    if arrivals <= 0 or running <= 0:
        return 0.0
    seen_s = running / arrivals
    if step is None:
        return seen_s
    return seen_s * max(1.0, step.at(target) / step.at(max(1.0, filled / arrivals)))

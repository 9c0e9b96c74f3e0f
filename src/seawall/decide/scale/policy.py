"""What a fleet's scaling is decided by: what is seen of it, and its policy with every default filled in.

Why: what decides here and in the simulator is what the renderer translates into a ScaledObject or an HPA, so each
number stands once. Forbidden: deciding (`fleet.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from seawall.decide.pool import cost_of
from seawall.decide.scale import hpa, schedule, slo
from seawall.decide.scale.behavior import DEFAULT_UP, DirectionRules, RatePolicy
from seawall.decide.scale.budget import DayBudget, reserved
from seawall.domain.action import Plan
from seawall.domain.spec import Fleet

FALLBACK_TARGET = 16.0
"""Requests per replica when there is neither a target nor a plan: llm-d's default for a 32B model."""

WAITING_GUARD = 2.0
"""Requests per replica that wait inside engines: traffic is heavier than that which the target was measured with."""
KV_GUARD = 0.8
"""Share of the KV cache above which a replica preempts instead of batching (llm-d and WVA use 0.8)."""
DAY_S = 86_400.0
LONGEST_WINDOW_S = 3600.0
"""Kubernetes takes no longer stabilisation window."""

UP_POLICIES = (RatePolicy("Percent", 100, 60), RatePolicy("Pods", 4, 60))
"""Double, or four more, per minute: whichever is more."""
DOWN_POLICIES = (RatePolicy("Percent", 10, 120), RatePolicy("Pods", 1, 120))
"""A tenth, or one, per two minutes: whichever is more. A replica that leaves too early costs a cold start."""
SLO_DOWN_POLICIES = (RatePolicy("Percent", 25, 60), RatePolicy("Pods", 2, 60))
"""A quarter, or two, per minute: after a window as long as a start-up, the forecast has had its say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DemandSeen:
    """One look at a fleet. Requests are counted once: `queued` is not yet in any replica."""

    replicas: int
    """Wanted now: the scale's spec.replicas."""
    ready: int = 0
    there: int = 0
    """Replicas that hold their GPUs: those that start, that drain, and a canary's, too. 0: nobody counts them."""
    running: float = 0.0
    """Requests being decoded, over all replicas."""
    waiting: float = 0.0
    """Requests inside engines that are not scheduled yet."""
    queued: float = 0.0
    """Requests that wait in the gateway."""
    fresh: bool = True
    """False: the metrics could not be read. Then nothing is scaled, in either direction."""
    arrivals_per_s: float | None = None
    """Mean rate of new requests since the last look; None: not measured."""
    kv_usage: float | None = None
    """Highest share of KV cache in use over ready replicas, 0 to 1."""
    kv_used: float | None = None
    """Sum of those shares over all replicas; None: not measured."""
    unix_s: float | None = None
    """The time of day; None: not known, and then neither schedule nor budget counts."""
    made_s: tuple[float, ...] = ()
    """When each replica that is there was made, Unix time, as far as that is known: told at a first look, so that who
    begins to look at noon knows what the day has cost at least."""

    @property
    def demand(self) -> float:
        return self.running + self.waiting + self.queued


ScaleMeasure = Literal["demand", "waiting", "kv-cache"]
"""Requests in the system; those that wait inside engines; KV cache in use, in replicas."""


@dataclass(frozen=True, slots=True)
class ScaleTrigger:
    """One measure, summed over the fleet, against what one replica takes of it (an AverageValue)."""

    measure: ScaleMeasure
    target: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ScalePolicy:
    """A fleet's scaling, resolved: bounds, target, and both loops' settings. Times are seconds."""

    lowest: int
    highest: int
    target: float
    """Requests (running + waiting + queued) per replica."""
    guards: tuple[ScaleTrigger, ...] = ()
    """Further triggers, for traffic that the target was not measured with. The highest proposal of all decides."""
    up: DirectionRules
    down: DirectionRules
    idle_after_s: float = 300.0
    polling_s: float = 15.0
    activation: float = 0.0
    """With no replicas: more demand than this starts one."""
    sync_s: float = hpa.SYNC_S
    tolerance: float = hpa.TOLERANCE
    kind: Literal["hpa", "slo"] = "hpa"
    startup_s: float = 300.0
    """From a decision to a replica that serves: what the SLO policy looks ahead."""
    step: slo.StepTime | None = None
    """How a replica slows down as it fills; None: not known."""
    windows: tuple[schedule.Window, ...] = ()
    budget: DayBudget | None = None

    def lowest_at(self, unix_s: float | None) -> int:
        """The minimum at a time of day: the fleet's, or the schedule's where that is higher."""
        return self.lowest if unix_s is None else max(self.lowest, schedule.lowest_at(self.windows, unix_s))

    def overspent(self) -> str:
        """Why the budget cannot hold: the minimum alone costs more on the dearest day of a week. Empty: it can."""
        if self.budget is None:
            return ""
        days = [schedule.REFERENCE_S + n * DAY_S for n in range(7)]
        seconds = [
            reserved(self.lowest_at, self.windows, *schedule.day_of(self.budget.zone, day)) for day in days
        ]
        least = max(seconds) * self.budget.gpus / 3600
        if least <= self.budget.gpu_hours:
            return ""
        return (
            f"spec.scaling.gpuHoursPerDay: {self.budget.gpu_hours:g} is less than the {least:g} that the minimum alone "
            "costs on its dearest day; raise it, or lower min"
        )

    @property
    def triggers(self) -> tuple[ScaleTrigger, ...]:
        """All triggers, demand first."""
        return (ScaleTrigger("demand", self.target), *self.guards)


GUARDS = (ScaleTrigger("waiting", WAITING_GUARD), ScaleTrigger("kv-cache", KV_GUARD))


def target_of(fleet: Fleet, plan: Plan | None = None) -> float:
    """Requests per replica: the spec's, else the plan's, else 0.7 of `max_num_seqs`, else llm-d's 16."""
    if fleet.spec.scaling.target is not None:
        return fleet.spec.scaling.target
    if plan is not None and plan.saturating_concurrency > 0:
        return max(1.0, plan.scaling_target)
    seqs = fleet.spec.engine.max_num_seqs
    return max(1.0, math.floor(0.7 * seqs)) if seqs else FALLBACK_TARGET


def policy_of(fleet: Fleet, plan: Plan | None = None) -> ScalePolicy:
    """The fleet's scaling with its defaults filled in: what decides here and in the simulator, and what the renderer
    translates into a ScaledObject or an HPA. Whole seconds, because Kubernetes takes no fractions.

    The guards need the engines' own numbers: whoever scales by the gateway's (or an adapter's of them) has none. Nor
    has a fleet with a batch lane, whose engines are full on purpose, of lines that make room when others come.
    """
    scaling = fleet.spec.scaling
    target = target_of(fleet, plan)
    by_slo = scaling.policy == "slo"
    if by_slo and scaling.target is None and plan is not None:
        target = slo.fill(plan, fleet.spec.traffic) or target
    startup_s = plan.startup.total_s if plan is not None else 300.0
    by_gateway = scaling.by in ("keda-gateway", "seawall", "hpa") or fleet.spec.gateway.batch is not None
    spot = fleet.spec.hardware.spot
    if scaling.by == "keda-gateway" and spot is not None and spot.on_demand_floor:
        # The floor is taken off the demand by a formula, and KEDA falls back from a formula to a whole target only.
        target = max(1.0, math.floor(target))
    return ScalePolicy(
        lowest=min(scaling.min, scaling.max),
        highest=scaling.max,
        target=math.ceil(round(target * 1000, 6)) / 1000,  # what a quantity can say
        guards=() if by_gateway else GUARDS,
        up=DirectionRules(_window(scaling.up_window), DEFAULT_UP.select, UP_POLICIES),
        down=DirectionRules(
            _window(max(scaling.down_window, startup_s if by_slo else 0.0)),
            "Max",
            SLO_DOWN_POLICIES if by_slo else DOWN_POLICIES,
        ),
        idle_after_s=math.ceil(scaling.idle_after),
        polling_s=max(1, math.ceil(scaling.polling_interval)),
        kind=scaling.policy,
        startup_s=startup_s,
        step=slo.step_time(plan, fleet.spec.traffic) if by_slo and plan is not None else None,
        windows=tuple(
            schedule.Window(w.start, w.end, scaling.timezone, w.min, w.max) for w in scaling.schedule
        ),
        budget=DayBudget(scaling.gpu_hours_per_day, cost_of(fleet, plan), scaling.timezone)
        if scaling.gpu_hours_per_day is not None
        else None,
    )


def _window(seconds: float) -> int:
    return math.ceil(min(LONGEST_WINDOW_S, seconds))

"""How many replicas a fleet should have now: KEDA and the HPA as one decision, for local mode and simulator.

Why: on a cluster a ScaledObject does this (activation and scale to zero by KEDA's loop, the rest by the HPA's).
Here both loops run inside one pure function, so that one machine, a simulation and production decide alike.
Forbidden: clocks, I/O, and reading metrics: the caller observes (`DemandSeen`) and acts.

    state = {}
    while True:
        decision, state = decide(policy, seen, state, now)
        ...act on decision.replicas; look again in decision.next_look_s seconds
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypedDict, assert_never

from seawall.decide.scale import calc, hpa, keda, slo
from seawall.decide.scale.behavior import DEFAULT_UP, DirectionRules, RatePolicy
from seawall.domain.action import Plan, ScaleDecision
from seawall.domain.spec import Fleet
from seawall.domain.units import show_seconds

FALLBACK_TARGET = 16.0
"""Requests per replica when there is neither a target nor a plan: llm-d's default for a 32B model."""

WAITING_GUARD = 2.0
"""Requests per replica that wait inside engines: traffic is heavier than that which the target was measured with."""
KV_GUARD = 0.8
"""Share of the KV cache above which a replica preempts instead of batching (llm-d and WVA use 0.8)."""
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

    @property
    def triggers(self) -> tuple[ScaleTrigger, ...]:
        """All triggers, demand first."""
        return (ScaleTrigger("demand", self.target), *self.guards)


class ScaleState(TypedDict, total=False):
    """What is remembered between looks; JSON-able. `{}` is a fresh start."""

    hpa: hpa.HpaState
    slo: slo.SloState
    created_s: float
    last_active_s: float | None
    next_poll_s: float
    next_sync_s: float


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

    The guards need the engines' own numbers: whoever scales by the gateway's (or an adapter's of them) has none.
    """
    scaling = fleet.spec.scaling
    target = target_of(fleet, plan)
    by_slo = scaling.policy == "slo"
    if by_slo and scaling.target is None and plan is not None:
        target = slo.fill(plan, fleet.spec.traffic) or target
    startup_s = plan.startup.total_s if plan is not None else 300.0
    spot = fleet.spec.hardware.spot
    if scaling.by == "keda-gateway" and spot is not None and spot.on_demand_floor:
        # The floor is taken off the demand by a formula, and KEDA falls back from a formula to a whole target only.
        target = max(1.0, math.floor(target))
    return ScalePolicy(
        lowest=min(scaling.min, scaling.max),
        highest=scaling.max,
        target=math.ceil(round(target * 1000, 6)) / 1000,  # what a quantity can say
        guards=() if scaling.by in ("keda-gateway", "seawall", "hpa") else GUARDS,
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
    )


def _window(seconds: float) -> int:
    return math.ceil(min(LONGEST_WINDOW_S, seconds))


def decide(
    policy: ScalePolicy, seen: DemandSeen, state: ScaleState, now: float
) -> tuple[ScaleDecision, ScaleState]:
    """One look at `now` -> (how many replicas and why, what to remember).

    Between two loops' turns nothing changes; at zero replicas every look is a KEDA poll, so a caller that
    knows of a request may ask at once.
    """
    after: ScaleState = {
        "hpa": state.get("hpa", {}),
        "slo": state.get("slo", {}),
        "created_s": state.get("created_s", now),
        "last_active_s": state.get("last_active_s"),
        "next_poll_s": state.get("next_poll_s", now),
        "next_sync_s": state.get("next_sync_s", now),
    }
    replicas, reason = seen.replicas, ""
    if now >= after["next_poll_s"] or seen.replicas == 0:
        replicas, reason = _poll(policy, seen, after, now)
    if now >= after["next_sync_s"]:
        after["next_sync_s"] = now + policy.sync_s
        if replicas == seen.replicas and replicas > 0:
            replicas, reason = _sync(policy, seen, after, now)
    look = max(0.0, min(after["next_poll_s"], after["next_sync_s"]) - now)
    if not reason:
        reason = f"{_load(seen)}; next look in {show_seconds(look)}"
    return ScaleDecision(replicas=replicas, reason=reason, next_look_s=look), after


def _load(seen: DemandSeen) -> str:
    return f"{seen.demand:g} requests on {seen.replicas} replica{'' if seen.replicas == 1 else 's'}"


def _poll(policy: ScalePolicy, seen: DemandSeen, after: ScaleState, now: float) -> tuple[int, str]:
    """KEDA's turn: activation, and back to zero."""
    after["next_poll_s"] = now + policy.polling_s
    spec = keda.ScaleSpec(lowest=policy.lowest, cooldown_s=policy.idle_after_s)
    active = seen.fresh and seen.demand > policy.activation
    turn = keda.request_scale(
        spec,
        keda.Poll(
            current=seen.replicas,
            active=active,
            error=not seen.fresh,
            last_active_s=after["last_active_s"],
            created_s=after["created_s"],
            now=now,
        ),
    )
    after["last_active_s"] = turn.last_active_s
    if not turn.scaled:
        return seen.replicas, ""
    if turn.replicas > seen.replicas:
        return turn.replicas, f"{_load(seen)}: starting {turn.replicas}"
    return turn.replicas, f"no request for {show_seconds(policy.idle_after_s)}: scaled to {turn.replicas}"


def _sync(policy: ScalePolicy, seen: DemandSeen, after: ScaleState, now: float) -> tuple[int, str]:
    """The HPA's turn, on External metrics with AverageValue targets, the highest of which decides; or the SLO
    policy's."""
    if policy.kind == "slo" and seen.fresh and seen.arrivals_per_s is not None:
        load = slo.FleetLoad(
            seen.replicas,
            seen.ready,
            seen.running,
            seen.waiting + seen.queued,
            seen.arrivals_per_s,
            seen.kv_usage or 0.0,
        )
        asked, after["slo"] = slo.wanted(
            load, policy.target, policy.startup_s, after["slo"], now, policy.step
        )
        proposals = [hpa.Proposal(metric="forecast", replicas=asked.replicas, detail=asked.reason)]
    elif seen.fresh:
        proposals = [p for t in policy.triggers if (p := _proposal(t, seen, policy.tolerance)) is not None]
    else:
        proposals = [hpa.Proposal(metric="demand", error="the metrics cannot be read")]
    spec = hpa.HpaSpec(lowest=max(1, policy.lowest), highest=policy.highest, up=policy.up, down=policy.down)
    outcome, after["hpa"] = hpa.sync(spec, seen.replicas, proposals, after["hpa"], now)
    return outcome.replicas, outcome.reason


def _proposal(trigger: ScaleTrigger, seen: DemandSeen, tolerance: float) -> hpa.Proposal | None:
    """Replicas that one trigger asks for; None where nobody measures it."""
    match trigger.measure:
        case "demand":
            total: float | None = seen.demand
        case "waiting":
            total = seen.waiting
        case "kv-cache":
            total = seen.kv_used
        case _:
            assert_never(trigger.measure)
    if total is None:
        return None
    wanted = calc.per_pod(
        seen.replicas,
        round(trigger.target * 1000),
        min(round(total * 1000), calc.MAX_INT64),
        calc.Tolerance(tolerance, tolerance),
    ).replicas
    each, target = total / seen.replicas, trigger.target
    told = {
        "demand": f"{each:.3g} requests per replica, target {target:g}",
        "waiting": f"{each:.3g} requests per replica wait inside engines, guard {target:g}",
        "kv-cache": f"{each:.0%} of the KV cache in use, guard {target:.0%}",
    }
    return hpa.Proposal(
        metric=trigger.measure, replicas=wanted, detail=f"{told[trigger.measure]}: {wanted} wanted"
    )

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

from dataclasses import dataclass
from typing import TypedDict, assert_never

from seawall.decide.scale import budget, calc, hpa, keda, schedule, slo
from seawall.decide.scale.behavior import TOO_MANY
from seawall.decide.scale.policy import DemandSeen, ScalePolicy, ScaleTrigger
from seawall.domain.action import ScaleDecision
from seawall.domain.units import counted, show_seconds


class ScaleState(TypedDict, total=False):
    """What is remembered between looks; JSON-able. `{}` is a fresh start."""

    hpa: hpa.HpaState
    slo: slo.SloState
    spent: budget.Spent
    created_s: float
    last_active_s: float | None
    next_poll_s: float
    next_sync_s: float


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
        "spent": state.get("spent", {}),
        "created_s": state.get("created_s", now),
        "last_active_s": state.get("last_active_s"),
        "next_poll_s": state.get("next_poll_s", now),
        "next_sync_s": state.get("next_sync_s", now),
    }
    bounds = _bounds(policy, seen, after)
    replicas, reason = seen.replicas, ""
    if now >= after["next_poll_s"] or seen.replicas == 0:
        replicas, reason = _poll(policy, seen, after, now)
    if now >= after["next_sync_s"]:
        after["next_sync_s"] = now + policy.sync_s
        if replicas == seen.replicas and replicas > 0:
            replicas, reason = _sync(policy, seen, bounds, after, now)
    look = max(0.0, min(after["next_poll_s"], after["next_sync_s"]) - now)
    if not reason:
        reason = f"{_load(seen)}; next look in {show_seconds(look)}"
    return ScaleDecision(replicas=replicas, reason=reason, next_look_s=look), after


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What holds now: the fleet's own bounds, its schedule's and its budget's."""

    lowest: int
    highest: int
    ceiling: str = ""
    """Why it may not be the fleet's own maximum."""


def _bounds(policy: ScalePolicy, seen: DemandSeen, after: ScaleState) -> _Bounds:
    at = seen.unix_s
    bounds = _Bounds(policy.lowest, policy.highest)
    if at is None:
        return bounds
    lowest = min(policy.highest, policy.lowest_at(at))
    limit = schedule.highest_at(policy.windows, at)
    bounds = _Bounds(lowest, policy.highest)
    if limit is not None and limit < bounds.highest:
        bounds = _Bounds(lowest, max(lowest, limit), f"the schedule allows {max(lowest, limit)} now")
    if policy.budget is not None:
        count = max(seen.replicas, seen.ready, seen.there)
        after["spent"] = budget.charged(policy.budget, after["spent"], count, at, seen.made_s)
        most = budget.allowed(
            policy.budget, after["spent"], policy.lowest_at, policy.windows, policy.startup_s
        )
        if most.replicas < bounds.highest:
            bounds = _Bounds(lowest, most.replicas, f"{most.reason}: {most.replicas} allowed now")
    return bounds


def _scheduled(policy: ScalePolicy, bounds: _Bounds, at: float | None) -> list[hpa.Proposal]:
    """What open windows ask for, as KEDA's cron trigger proposes it: by the rates and windows of any metric."""
    if at is None or bounds.lowest <= policy.lowest:
        return []
    open_until = [
        (closes, w)
        for w in policy.windows
        if w.lowest >= bounds.lowest and (closes := schedule.closes_at(w, at)) is not None
    ]
    until, window = max(open_until, key=lambda found: found[0])
    detail = f"scheduled until {schedule.clock_text(window.zone, until)}: {bounds.lowest} wanted"
    return [hpa.Proposal(metric="schedule", replicas=bounds.lowest, detail=detail)]


def _load(seen: DemandSeen) -> str:
    return f"{seen.demand:g} {'request' if seen.demand == 1 else 'requests'} on {counted(seen.replicas, 'replica')}"


def _poll(policy: ScalePolicy, seen: DemandSeen, after: ScaleState, now: float) -> tuple[int, str]:
    """KEDA's turn: activation, and back to zero."""
    after["next_poll_s"] = now + policy.polling_s
    spec = keda.ScaleSpec(lowest=policy.lowest, cooldown_s=policy.idle_after_s)
    scheduled = policy.lowest_at(seen.unix_s) > policy.lowest
    active = scheduled or (seen.fresh and seen.demand > policy.activation)
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
        why = "scheduled" if scheduled and not seen.demand else _load(seen)
        return turn.replicas, f"{why}: starting {turn.replicas}"
    return turn.replicas, f"no request for {show_seconds(policy.idle_after_s)}: scaled to {turn.replicas}"


def _sync(
    policy: ScalePolicy, seen: DemandSeen, bounds: _Bounds, after: ScaleState, now: float
) -> tuple[int, str]:
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
    proposals += _scheduled(policy, bounds, seen.unix_s)
    spec = hpa.HpaSpec(lowest=max(1, policy.lowest), highest=bounds.highest, up=policy.up, down=policy.down)
    outcome, after["hpa"] = hpa.sync(spec, seen.replicas, proposals, after["hpa"], now)
    limited = outcome.limited_reason == TOO_MANY
    return (
        outcome.replicas,
        f"{outcome.reason} ({bounds.ceiling})" if limited and bounds.ceiling else outcome.reason,
    )


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

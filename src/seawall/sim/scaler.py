"""Who decides on replicas in a simulation: the fleet's own policy, the guide's recipe, or nobody.

The fleet's policy is `seawall.decide.scale`, the function that the local mode runs; nothing is re-told here.
Forbidden here: seeing more than a metrics pipeline would show.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, Protocol

from seawall.decide import scale
from seawall.decide.scale import calc, hpa
from seawall.domain.action import ScaleDecision
from seawall.sim.setup import Setup

GUIDE_TARGET_M = 5000
GUIDE_POLL_S = 30.0


class Scaler(Protocol):
    def look(self, seen: scale.DemandSeen, now: float) -> ScaleDecision: ...


class FleetScaler:
    """KEDA and the HPA, or the SLO policy, as `spec.scaling` says."""

    def __init__(self, setup: Setup) -> None:
        fleet = setup.fleet
        wanted: Literal["hpa", "slo"] = "slo" if setup.recipe == "slo" else "hpa"
        if fleet.spec.scaling.policy != wanted:
            spec = replace(fleet.spec, scaling=replace(fleet.spec.scaling, policy=wanted))
            fleet = replace(fleet, spec=spec)
        self.policy = scale.policy_of(fleet, setup.plan)
        self.state: scale.ScaleState = {}

    def look(self, seen: scale.DemandSeen, now: float) -> ScaleDecision:
        decision, self.state = scale.decide(self.policy, seen, self.state, now)
        return decision


class GuideScaler:
    """`avg(waiting)` with KEDA's default AverageValue target of 5, no behaviour: the guide's ScaledObject, read
    as kindly as possible (its metric does not exist, so to the letter it would never move)."""

    def __init__(self, setup: Setup) -> None:
        scaling = setup.fleet.spec.scaling
        self.spec = hpa.HpaSpec(lowest=max(1, scaling.min), highest=scaling.max)
        self.state: hpa.HpaState = {}

    def look(self, seen: scale.DemandSeen, now: float) -> ScaleDecision:
        average_m = round(1000 * seen.waiting / max(1, seen.ready))
        wanted = calc.per_pod(seen.replicas, GUIDE_TARGET_M, average_m, calc.Tolerance()).replicas
        detail = f"avg(waiting) {average_m / 1000:.3g} over target 5: {wanted} wanted"
        proposal = hpa.Proposal(metric="waiting", replicas=wanted, detail=detail)
        outcome, self.state = hpa.sync(self.spec, seen.replicas, [proposal], self.state, now)
        return ScaleDecision(replicas=outcome.replicas, reason=outcome.reason, next_look_s=hpa.SYNC_S)


class NoScaler:
    """As many as at the start."""

    def look(self, seen: scale.DemandSeen, now: float) -> ScaleDecision:
        return ScaleDecision(replicas=seen.replicas, reason="fixed", next_look_s=3600.0)


def scaler_of(setup: Setup) -> Scaler:
    match setup.recipe:
        case "guide":
            return GuideScaler(setup)
        case "fixed":
            return NoScaler()
        case "keda" | "slo":
            return FleetScaler(setup)

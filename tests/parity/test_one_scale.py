"""A cluster scales as `seawall simulate` said and as `seawall up` does: every rendered number is the policy's.

Not only the numbers: what was rendered is played through the HPA to the letter, and must decide what `decide` does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seawall.config.load import dump_fleet, load_fleets
from seawall.decide import scale
from seawall.decide.plan import plan
from seawall.decide.plan.bounds import bounded
from seawall.decide.scale import DemandSeen, ScaleState, calc, hpa
from seawall.decide.scale.behavior import DirectionRules, RatePolicy
from seawall.decide.scale.record import policy_from
from seawall.domain.spec import Fleet, Scaling, Spot
from seawall.render.everything import render
from seawall.render.inputs import Group, Wanted
from seawall.shapes.config import resolve

ROOT = Path(__file__).parents[2]
EXAMPLES = {f.name: f for path in sorted((ROOT / "examples").glob("*.yaml")) for f in load_fleets(path)}


def with_scaling(fleet: Fleet, **fields: Any) -> Fleet:
    return replace(fleet, spec=replace(fleet.spec, scaling=replace(fleet.spec.scaling, **fields)))


def with_spot(fleet: Fleet) -> Fleet:
    hardware = replace(fleet.spec.hardware, spot=Spot(on_demand_floor=1), cloud="gke")
    return replace(fleet, spec=replace(fleet.spec, hardware=hardware))


LLAMA = EXAMPLES["llama-70b"]
CASES = EXAMPLES | {
    "by the gateway": with_scaling(LLAMA, by="keda-gateway"),
    "by the gateway, on spot": with_spot(with_scaling(LLAMA, by="keda-gateway", target=11.7)),
    "by a plain HPA": with_scaling(LLAMA, by="hpa", target=1 / 3),
    "odd seconds": with_scaling(
        LLAMA, up_window=12.3, down_window=5000.0, min=0, idle_after=61.5, polling_interval=0.5
    ),
    "a large target": with_scaling(LLAMA, target=1234.5678),
}


def scaler_of(fleet: Fleet) -> tuple[Wanted, dict[str, Any]]:
    """The fleet as rendered, and its ScaledObject or HPA."""
    made = plan(fleet, resolve(fleet))
    wanted = Wanted(fleet=fleet, plan=made, document=dump_fleet(bounded(fleet, made)), lock="{}")
    found = [
        o
        for o in render(Group(members=(wanted,))).objects
        if o["kind"] in ("ScaledObject", "HorizontalPodAutoscaler")
        and not o["metadata"]["name"].endswith("-gateway")  # which has an HPA of its own
    ]
    assert len(found) == 1
    return wanted, found[0]


def quantity(text: str) -> float:
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def targets(obj: dict[str, Any]) -> dict[str, float]:
    """ScaleMeasure -> AverageValue target, as the cluster will have them."""
    spec = obj["spec"]
    if obj["kind"] == "HorizontalPodAutoscaler":
        return {"demand": quantity(spec["metrics"][0]["external"]["target"]["averageValue"])}
    if formula := spec["advanced"].get("scalingModifiers"):
        return {"demand": float(formula["target"])}
    data = {t["name"]: t["metadata"] for t in spec["triggers"]}
    assert all(t["metricType"] == "AverageValue" for t in spec["triggers"])
    return {name: float(m.get("threshold") or m["targetValue"]) for name, m in data.items()}


def rules(obj: dict[str, Any]) -> tuple[DirectionRules, DirectionRules]:
    spec = obj["spec"]
    keda = obj["kind"] == "ScaledObject"
    written = (spec["advanced"]["horizontalPodAutoscalerConfig"] if keda else spec)["behavior"]
    up, down = (
        DirectionRules(
            r["stabilizationWindowSeconds"],
            r["selectPolicy"],
            tuple(RatePolicy(p["type"], p["value"], p["periodSeconds"]) for p in r["policies"]),
        )
        for r in (written["scaleUp"], written["scaleDown"])
    )
    return up, down


@pytest.mark.parametrize("fleet", CASES.values(), ids=CASES)
def test_every_rendered_number_is_the_policy_s(fleet: Fleet) -> None:
    wanted, obj = scaler_of(fleet)
    policy, spec = scale.policy_of(fleet, wanted.plan), obj["spec"]
    assert targets(obj) == {t.measure: t.target for t in policy.triggers}
    assert rules(obj) == (policy.up, policy.down)
    lowest = spec.get("minReplicaCount", spec.get("minReplicas"))
    highest = spec.get("maxReplicaCount", spec.get("maxReplicas"))
    floor = fleet.spec.hardware.spot.on_demand_floor if fleet.spec.hardware.spot else 0
    assert (lowest + floor, highest + floor) == (max(policy.lowest, floor), policy.highest)
    if lowest == 0:
        assert (spec["pollingInterval"], spec["cooldownPeriod"]) == (policy.polling_s, policy.idle_after_s)
    for trigger in spec.get("triggers", []):
        active = (
            trigger["metadata"].get("activationThreshold") or trigger["metadata"]["activationTargetValue"]
        )
        assert float(active) == policy.activation


def seen_at(now: float, replicas: int) -> DemandSeen:
    """A burst of ten minutes that takes forty replicas, and a lull that takes four."""
    busy = now < 600
    return DemandSeen(
        replicas=replicas,
        ready=replicas,
        running=400.0 if busy else 40.0,
        waiting=300.0 if 300 <= now < 600 else 0.0,
        kv_used=0.9 * replicas if busy else 0.1 * replicas,
    )


def follow(step: Callable[[DemandSeen, float], int], start: int) -> list[tuple[float, int]]:
    """(time, replicas) of every change, with a look every 15 s for three hours."""
    replicas, changes = start, []
    for tick in range(3 * 240):
        now = tick * hpa.SYNC_S
        after = step(seen_at(now, replicas), now)
        if after != replicas:
            replicas = after
            changes.append((now, replicas))
    return changes


@pytest.mark.parametrize("by", ["keda-prometheus", "keda-gateway", "hpa"])
def test_what_is_rendered_decides_as_the_simulator_and_the_local_mode_do(by: Any) -> None:
    fleet = replace(LLAMA, spec=replace(LLAMA.spec, scaling=Scaling(min=2, max=60, target=10.0, by=by)))
    wanted, obj = scaler_of(fleet)
    policy = scale.policy_of(fleet, wanted.plan)
    memory: ScaleState = {}

    def ours(seen: DemandSeen, now: float) -> int:
        nonlocal memory
        decision, memory = scale.decide(policy, seen, memory, now)
        return decision.replicas

    up, down = rules(obj)
    spec = hpa.HpaSpec(lowest=2, highest=60, up=up, down=down)
    state: hpa.HpaState = {}

    def clusters(seen: DemandSeen, now: float) -> int:
        nonlocal state
        sums = {"demand": seen.demand, "waiting": seen.waiting, "kv-cache": seen.kv_used or 0.0}
        proposals = [
            hpa.Proposal(
                metric=name,
                replicas=calc.per_pod(
                    seen.replicas, round(1000 * target), round(1000 * sums[name]), calc.Tolerance()
                ).replicas,
            )
            for name, target in targets(obj).items()
        ]
        outcome, state = hpa.sync(spec, seen.replicas, proposals, state, now)
        return outcome.replicas

    here = follow(ours, 4)
    assert here == follow(clusters, 4)
    peak = max(n for _, n in here)
    assert peak == 60, "the backlog counts as demand"
    first_down = next(t for t, n in here if t > 600 and n < peak)
    back = next(t for t, n in here if t > 600 and n <= 4)
    assert first_down <= 600 + 300 + 15
    assert back - first_down <= 45 * 60, "at one per two minutes it would take 112"


@pytest.mark.parametrize("by", ["keda-prometheus", "keda-gateway"])
def test_forty_replicas_become_four_within_35_minutes_here_and_there(by: Any) -> None:
    fleet = replace(LLAMA, spec=replace(LLAMA.spec, scaling=Scaling(min=1, max=60, target=10.0, by=by)))
    wanted, obj = scaler_of(fleet)
    policy = scale.policy_of(fleet, wanted.plan)
    assert rules(obj)[1] == policy.down
    memory: ScaleState = {}
    replicas, changes = 40, []
    for tick in range(400):
        now = tick * 15.0
        load = 400.0 if now < 60 else 40.0
        seen = DemandSeen(replicas=replicas, ready=replicas, running=load)
        decision, memory = scale.decide(policy, seen, memory, now)
        if decision.replicas != replicas:
            replicas = decision.replicas
            changes.append((now, replicas))
    assert changes[-1][1] == 4
    assert 30 * 60 <= changes[-1][0] - 60 <= 36 * 60


@pytest.mark.parametrize("kind", ["hpa", "slo"])
def test_the_cluster_follows_our_own_decision(kind: Any) -> None:
    """KEDA hands the HPA the count that was decided; the HPA follows at once, but for its tolerance of a tenth."""
    scaling = Scaling(min=2, max=60, target=10.0, by="seawall", policy=kind)
    fleet = replace(LLAMA, spec=replace(LLAMA.spec, scaling=scaling))
    wanted, obj = scaler_of(fleet)
    decided_by = next(t for t in obj["spec"]["triggers"] if t["name"] == "decided")["metadata"]["policy"]
    policy = policy_from(decided_by)
    assert policy == scale.policy_of(fleet, wanted.plan)
    up, down = rules(obj)
    spec = hpa.HpaSpec(lowest=2, highest=60, up=up, down=down)
    memory: ScaleState = {}
    state: hpa.HpaState = {}
    replicas, followed = 4, []
    for tick in range(3 * 240):
        now = tick * 15.0
        decision, memory = scale.decide(policy, seen_at(now, replicas), memory, now)
        proposal = hpa.Proposal(
            metric="composite",
            replicas=calc.per_pod(replicas, 1000, 1000 * decision.replicas, calc.Tolerance()).replicas,
        )
        outcome, state = hpa.sync(spec, replicas, [proposal], state, now)
        followed.append((decision.replicas, outcome.replicas))
        replicas = outcome.replicas
    assert all(asked == got or abs(asked - got) <= 0.1 * got for asked, got in followed)
    assert len({n for n, _ in followed}) > 5

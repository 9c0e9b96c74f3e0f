"""What a person is told of a fleet that KEDA scales, at every stage of its life, in KEDA's own conditions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.operator.test_apply import deployment, obj
from tests.unit.operator.test_readiness import gateway

from seawall.drivers.kube import Kube
from seawall.operator.reconcile import Desired, status_of
from seawall.operator.show import status_text
from seawall.operator.status import FleetView, look
from seawall.testing.kube_api import KubeApi
from seawall.testing.kube_keda import HPAS, SCALED, Keda

NS = "llm"
PAUSE = {"autoscaling.keda.sh/paused": "true"}


class Stage:
    """A fleet, what its triggers read, and KEDA at work on it."""

    def __init__(self, api: KubeApi, kube: Kube) -> None:
        self.api, self.kube, self.now = api, kube, 0.0
        self.demand: float | None = 0.0
        self.keda = Keda(api, lambda name, trigger: self.demand)
        made = deployment()
        made["spec"]["replicas"] = 1
        api.put(made)
        gateway(api)
        self.scaled: dict[str, Any] = obj(
            "ScaledObject",
            "llama",
            "keda.sh/v1alpha1",
            spec={
                "scaleTargetRef": {"name": made["metadata"]["name"]},
                "minReplicaCount": 0,
                "maxReplicaCount": 3,
                "cooldownPeriod": 60,
                "triggers": [{"type": "prometheus", "metadata": {"threshold": "10"}}],
            },
        )
        self.scaled["metadata"]["labels"] = {"seawall.dev/fleet": "llama"}
        api.put(self.scaled)

    def passes(self, turns: int = 1, every_s: float = 30.0) -> None:
        for _ in range(turns):
            self.now += every_s
            self.keda.step(self.now)

    @property
    def replicas(self) -> int:
        (found,) = self.api.objects("apps/v1", "deployments").values()
        return int(found["spec"]["replicas"])

    async def view(self) -> FleetView:
        (found,) = await look(self.kube, NS)
        return found

    async def told(self) -> str:
        return status_text([await self.view()], NS)

    async def ready(self) -> tuple[str, str]:
        now = status_of({"metadata": {"generation": 1}}, Desired(), "", await self.view(), "now")
        (found,) = [c for c in now["conditions"] if c["type"] == "Ready"]
        return found["status"], found["message"]


def hpa_active(stage: Stage) -> tuple[str, str] | None:
    """What KEDA says of its HPA: status and reason."""
    found = stage.api.objects(*SCALED)[NS, "llama"]["status"]["conditions"]
    return next(((c["status"], c["reason"]) for c in found if c["type"] == "HPAActive"), None)


@pytest.fixture
def api() -> Iterator[KubeApi]:
    with KubeApi() as double:
        yield double


@pytest.fixture
def stage(api: KubeApi, kube: Kube) -> Stage:
    return Stage(api, kube)


async def test_busy_at_its_bound_and_quiet(stage: Stage) -> None:
    stage.demand = 25.0
    stage.passes(2)
    assert stage.replicas == 3
    assert "scaler   3 -> 3 replicas" in await stage.told()
    stage.demand = 100.0
    stage.passes(2)
    assert "the desired replica count is more than the maximum replica count" in await stage.told()
    stage.demand = 0.0
    stage.passes(16)
    assert stage.replicas == 0
    text = await stage.told()
    assert "scaled to zero: the first request starts a replica" in text
    assert "cannot scale" not in text, "the HPA rests at zero; it is KEDA that wakes it"
    assert await stage.ready() == ("True", "scaled to zero: the first request starts a replica")
    stage.demand = 1.0
    stage.passes()
    assert stage.replicas == 1


def test_keda_tells_of_its_hpa_in_a_condition_of_its_own(stage: Stage) -> None:
    stage.demand = 5.0
    stage.passes()
    assert hpa_active(stage) is None, "the HPA was made in this turn, and has said nothing yet"
    stage.passes()
    assert hpa_active(stage) == ("True", "HPAActive")
    stage.demand = None
    stage.passes(2)
    assert hpa_active(stage) == ("False", "HPAMetricsUnavailable")
    stage.demand = 0.0
    stage.passes(16)
    assert stage.replicas == 0
    assert hpa_active(stage) == ("True", "ScalingDisabled")


async def test_at_zero_without_keda_nothing_is_promised(stage: Stage) -> None:
    (made,) = stage.api.objects("apps/v1", "deployments").values()
    stage.api.put({**made, "spec": {**made["spec"], "replicas": 0}})
    text = await stage.told()
    assert "scaled to zero, and no request starts a replica: nothing scales it" in text
    status, why = await stage.ready()
    assert status == "False" and "is KEDA's operator running?" in why
    stage.api.remove(*SCALED, "llama", NS)
    text = await stage.told()
    assert "the first request starts" not in text and "no ScaledObject" in text


@pytest.mark.parametrize("demand", [0.0, 5.0])
async def test_paused_is_said_and_at_zero_nothing_is_promised(stage: Stage, demand: float) -> None:
    stage.demand = 5.0
    stage.passes(2)
    stage.demand = demand
    stage.passes(12)
    at = stage.replicas
    stage.api.put({**stage.scaled, "metadata": {**stage.scaled["metadata"], "annotations": PAUSE}})
    stage.demand = 100.0
    stage.passes(3)
    assert stage.replicas == at == (1 if demand else 0)
    assert not stage.api.objects(*HPAS)
    text = await stage.told()
    assert "KEDA is paused" in text and "autoscaling.keda.sh/paused" in text
    assert "the first request starts" not in text
    stage.api.put(stage.scaled)
    stage.passes(3)
    assert stage.replicas == 3
    assert "paused" not in await stage.told()


async def test_triggers_that_cannot_be_read(stage: Stage) -> None:
    stage.demand = 5.0
    stage.passes(2)
    stage.demand = None
    stage.passes()
    text = await stage.told()
    assert "cannot scale: the HPA was unable to compute the replica count" in text
    assert "KEDA is not ready: Triggers defined in ScaledObject are not working correctly" in text


async def test_at_zero_triggers_that_cannot_be_read_wake_nobody(stage: Stage) -> None:
    stage.passes(16)
    assert stage.replicas == 0
    stage.demand = None
    stage.passes(2)
    text = await stage.told()
    assert "scaled to zero, and no request starts a replica: KEDA is not ready: Triggers" in text
    assert (await stage.ready())[0] == "False"


async def test_blind_on_its_fallback(stage: Stage) -> None:
    stage.scaled["spec"]["fallback"] = {"failureThreshold": 2, "replicas": 2}
    stage.api.put(stage.scaled)
    stage.demand = 5.0
    stage.passes(2)
    stage.demand = None
    stage.passes(5)
    assert stage.replicas == 2
    assert "blind: KEDA runs on its fallback" in await stage.told()
    stage.demand = 5.0
    stage.passes(2)
    assert "blind" not in await stage.told()


async def test_one_trigger_of_two_that_cannot_be_read_is_said(stage: Stage) -> None:
    stage.scaled["spec"]["triggers"].append({"type": "cron", "metadata": {"threshold": "1"}})
    stage.api.put(stage.scaled)
    stage.keda = Keda(stage.api, lambda name, trigger: 5.0 if trigger == 0 else None)
    stage.passes(2)
    assert "Some triggers defined in ScaledObject are not working correctly" in await stage.told()


async def test_a_scaled_object_whose_target_is_gone(stage: Stage) -> None:
    stage.scaled["spec"]["scaleTargetRef"]["name"] = "another"
    stage.api.put(stage.scaled)
    stage.passes()
    assert "KEDA is not ready: ScaledObject doesn't have correct scaleTargetRef" in await stage.told()

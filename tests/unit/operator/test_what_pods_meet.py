"""Pods that a quota refuses and Pods that fit cordoned nodes alone: said with names and the command that mends it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.operator.test_apply import engine_pod
from tests.unit.operator.test_bad_days import plain
from tests.unit.operator.test_readiness import NS, served, view_of
from tests.unit.operator.verbs import Person

from seawall.drivers.kube import Kube
from seawall.errors import CheckFailed
from seawall.operator.show import status_text
from seawall.operator.wait import FleetWait
from seawall.testing.clock import JumpClock
from seawall.testing.kube_api import SERVED, KubeApi
from seawall.testing.kube_problem import ApiProblem
from seawall.testing.kube_replicas import replicate

UNFIT = "0/3 nodes are available: 2 Insufficient nvidia.com/gpu, 1 node(s) were unschedulable."


@pytest.fixture
def real() -> Iterator[KubeApi]:
    with KubeApi(strict=True) as double:
        double.served = dict(SERVED)
        double.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS}})
        yield double


def quota(api: KubeApi, **hard: str) -> None:
    named = {k.replace("_", "."): v for k, v in hard.items()}
    meta = {"name": "team", "namespace": NS}
    api.put({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": named}})


def used(api: KubeApi) -> dict[str, str]:
    found: dict[str, str] = api.objects("v1", "resourcequotas")[NS, "team"]["status"]["used"]
    return found


def pod(name: str, **requests: str) -> dict[str, Any]:
    named = {k.replace("_", "."): v for k, v in requests.items()}
    container = {"name": "c", "resources": {"requests": named}}
    meta = {"name": name, "namespace": NS}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}}


def test_the_double_refuses_what_a_quota_does_not_leave(real: KubeApi) -> None:
    quota(real, pods="3", requests_memory="4Gi")

    def make(name: str, **requests: str) -> str:
        try:
            real.create("v1/pods", NS, pod(name, **requests), "kubectl", False)
        except ApiProblem as e:
            return str(e.status["message"])
        return ""

    assert not make("a", memory="3Gi")
    assert used(real) == {"pods": "1", "requests.memory": str(3 * 2**30)}
    said = make("b", memory="2Gi")
    assert said.startswith('pods "b" is forbidden: exceeded quota: team, requested: requests.memory=')
    assert said.endswith("limited: requests.memory=4Gi")
    assert make("c") == 'pods "c" is forbidden: failed quota: team: must specify requests.memory'
    assert not make("d", memory="1Gi")
    real.remove("v1", "pods", "a", NS)
    assert not make("b", memory="2Gi"), "what has ended gives its share back"


async def test_a_quota_that_refuses_pods_is_named_with_the_cure(real: KubeApi, tmp_path: Path) -> None:
    """From the file to what a person reads: the API server refuses Pods, never the Deployment."""
    person = Person(real, tmp_path)
    file = person.writes(plain("one"))
    quota(real, pods="0")
    assert (await person.types("apply", file, "--yes", "--no-wait")).code == 0
    assert replicate(real, NS, "one") == 0
    cure = "kubectl -n llm describe resourcequota"
    said = await person.types("status", "-n", NS)
    assert "exceeded quota: team, requested: pods=1, used: pods=0, limited: pods=0" in unfolded(said.out)
    assert cure in unfolded(said.out)
    told = await person.types("diagnose", "one", "-n", NS)
    assert (
        "team" in told.text
        and "scheduling/quota" in (await person.types("diagnose", "one", "-n", NS, "-o", "json")).text
    )


def unfolded(text: str) -> str:
    return " ".join(text.split())


async def test_nodes_that_are_cordoned_are_named_where_pods_do_not_fit(api: KubeApi, kube: Kube) -> None:
    served(api, wanted=1)
    for name, closed in (("n1", True), ("n2", False), ("n3", True)):
        api.put(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name},
                "spec": {"unschedulable": closed},
            }
        )
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": UNFIT}
    api.put(engine_pod("p0", phase="Pending", conditions=[unscheduled]))
    text = status_text([await view_of(kube)], NS)
    assert "cordoned: n1, n3; when their drain is over: kubectl uncordon n1" in text
    (made,) = api.objects("apps/v1", "deployments").values()
    api.put({**made, "status": {**made["status"], "availableReplicas": 0, "updatedReplicas": 0}})
    lines: list[str] = []
    with pytest.raises(CheckFailed, match="kubectl uncordon n1"):
        await FleetWait(kube, NS, lines.append, JumpClock()).until_served("llama", 30)


async def test_whoever_may_not_list_nodes_is_told_the_schedulers_words(api: KubeApi, kube: Kube) -> None:
    served(api, wanted=1)
    api.faults.forbid.add("GET nodes")
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": UNFIT}
    api.put(engine_pod("p0", phase="Pending", conditions=[unscheduled]))
    text = status_text([await view_of(kube)], NS)
    assert UNFIT in text and "uncordon" not in text

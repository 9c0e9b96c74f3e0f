"""A node is about to go, and a disruption budget keeps its replica: one more is made, then it may leave."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.operator.test_operator import ROOT, node, pod

from seawall.decide.drain import surge
from seawall.drivers.kube import Kube
from seawall.operator.loop import Operator
from seawall.testing.clock import StoryClock
from seawall.testing.kube_api import KubeApi
from seawall.testing.story import Story


def spec(by: str) -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load((ROOT / "examples" / "llama-70b-4xh100.yaml").read_text())
    made["spec"]["scaling"] = {"min": 2, "max": 4, "by": by}
    return made


@pytest.mark.parametrize(
    ("by", "version", "plural", "floor"),
    [
        ("keda-prometheus", "keda.sh/v1alpha1", "scaledobjects", "minReplicaCount"),
        ("hpa", "autoscaling/v2", "horizontalpodautoscalers", "minReplicas"),
        ("none", "apps/v1", "deployments", "replicas"),
    ],
)
async def test_the_floor_goes_up_until_the_eviction_is_granted(
    api: KubeApi,
    kube: Kube,
    by: str,
    version: str,
    plural: str,
    floor: str,
) -> None:
    made = api.put(spec(by))
    ns, name = made["metadata"]["namespace"], made["metadata"]["name"]
    for n in ("n1", "n2"):
        api.put(node(n))
        p = pod(f"on-{n}", n, fleet=name)
        api.put({**p, "metadata": {**p["metadata"], "namespace": ns}})
    api.faults.refuse_evictions = True

    def now() -> int | None:
        found = api.objects(version, plural).get((ns, name))
        return found["spec"].get(floor) if found else None

    async def until(value: int) -> None:
        await story.until(lambda: now() == value)

    def alive() -> None:
        assert not task.done(), task

    clock = kube.clock = StoryClock()
    story = Story(clock, api, alive)
    task = asyncio.ensure_future(Operator(kube, None, clock, resync_s=0.5).run())
    try:
        await until(2)
        api.put(node("n1", "karpenter.sh/disrupted"))
        await until(3)
        replacement = pod("new", "n2", fleet=name)
        api.put({**replacement, "metadata": {**replacement["metadata"], "namespace": ns}})
        await story.passes(10)
        assert now() == 3, "the successor does not raise the floor again"
        api.faults.refuse_evictions = False
        await until(2)
        assert api.objects("v1", "pods")[ns, "on-n1"]["metadata"]["deletionTimestamp"]
        assert "deletionTimestamp" not in api.objects("v1", "pods")[ns, "on-n2"]["metadata"]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_no_surge_beyond_the_most_nor_after_the_notice() -> None:
    assert surge({}, 2, 4, 120, 0) is None
    assert surge({"a": 0.0}, 4, 4, 120, 0) is None
    up = surge({"a": 0.0, "b": 5.0}, 2, 4, 120, 10)
    assert up is not None
    assert (up.floor, up.reason.split()[0]) == (3, "a")
    assert surge({"a": 0.0}, 2, 4, 120, 121) is None, "the node has gone, or it stays"


def test_the_page_says_what_owns_the_floor() -> None:
    page = Path("docs/how-to/operator.md").read_text("utf-8")
    assert all(word in page for word in ("minReplicaCount", "minReplicas", "replicas"))

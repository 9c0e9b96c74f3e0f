"""Replicas from Pods and EndpointSlices, against the API server double."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from seawall.domain.seen import Replica, Replicas
from seawall.drivers.kube import connect
from seawall.gateway.replicas.kube_discovery import KubeDiscovery, merge, pod_seen, slice_seen
from seawall.testing.kube_api import KubeApi


def pod(name: str, ip: str | None, ready: bool = True, **more: Any) -> dict[str, Any]:
    labels = {"seawall.dev/fleet": "m", "seawall.dev/role": "engine", **more.pop("labels", {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": labels, **more},
        "spec": {"containers": [{"name": "vllm", "ports": [{"name": "http", "containerPort": 8000}]}]},
        "status": {
            "podIP": ip,
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def endpoint_slice(ready: dict[str, bool], **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "m-1", "namespace": "default", "labels": {"seawall.dev/fleet": "m", **labels}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [ip], "conditions": {"ready": r}} for ip, r in ready.items()],
    }


def test_a_pod_becomes_a_replica() -> None:
    seen = pod_seen(pod("a", "10.0.0.7"))
    assert seen is not None and seen.replica == Replica(name="a", fleet="m", url="http://10.0.0.7:8000")
    six = pod_seen(pod("b", "fd00::1", labels={"seawall.dev/group": "canary"}))
    assert (
        six is not None
        and six.replica is not None
        and six.replica.url == "http://[fd00::1]:8000"
        and six.replica.group == "canary"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"status": {}},
        {"spec": {"containers": [{"ports": None}]}},
        {"metadata": {"name": "x"}},
        {"spec": None},
    ],
)
def test_what_cannot_serve_is_no_replica(change: dict[str, Any]) -> None:
    assert pod_seen({**pod("a", "10.0.0.7"), **change}) is None


def engine(restarts: int, state: str) -> dict[str, Any]:
    return {"name": "engine", "restartCount": restarts, "state": {state: {}}}


@pytest.mark.parametrize(
    ("change", "waited_for"),
    [
        ({}, False),
        ({"phase": "Pending", "podIP": None, "conditions": []}, True),
        ({"conditions": []}, True),
        ({"phase": "Failed", "conditions": []}, False),
        ({"conditions": [], "containerStatuses": [engine(2, "waiting")]}, True),
        ({"conditions": [], "containerStatuses": [engine(9, "waiting")]}, False),
        ({"conditions": [], "containerStatuses": [engine(9, "running")]}, True),
    ],
)  # fmt: skip
def test_a_fleet_is_coming_back_while_a_pod_of_it_starts(change: dict[str, Any], waited_for: bool) -> None:
    one = pod("a", "10.0.0.7")
    one["status"] |= change
    assert merge(1, [pod_seen(one)], []).coming == (("m",) if waited_for else ())


def test_nobody_waits_for_a_pod_that_is_being_deleted() -> None:
    leaving = pod("a", "10.0.0.1", ready=False, deletionTimestamp="2026-11-23T10:00:00Z")
    assert merge(1, [pod_seen(leaving)], []).coming == ()


def test_deletion_drains_at_once_and_an_unready_endpoint_is_not_used() -> None:
    leaving = pod_seen(pod("a", "10.0.0.1", deletionTimestamp="2026-11-23T10:00:00Z"))
    staying = pod_seen(pod("b", "10.0.0.2"))
    unready = pod_seen(pod("c", "10.0.0.3"))
    slices = [slice_seen(endpoint_slice({"10.0.0.3": False, "10.0.0.2": True}))]
    got = {r.name: r for r in merge(1, [leaving, staying, unready, None], slices).replicas}
    assert got["a"].draining and got["b"].ready and not got["b"].draining and not got["c"].ready


def test_the_canary_weight_comes_from_the_canary_service_label() -> None:
    slices = [
        slice_seen(endpoint_slice({}, **{"seawall.dev/canary-weight": "25"})),
        slice_seen(endpoint_slice({})),
    ]
    assert merge(1, [], slices).canary_weights == {"m": 25}
    wrong = slice_seen(endpoint_slice({}, **{"seawall.dev/canary-weight": "lots"}))
    assert merge(1, [], [wrong]).canary_weights == {}


async def test_the_picture_follows_the_cluster(tmp_path: Path) -> None:
    with KubeApi() as api:
        api.put(pod("a", "10.0.0.1"))
        seen: list[Replicas] = []
        kube = connect(kubeconfig=str(api.kubeconfig(tmp_path)))
        async with kube:
            task = asyncio.ensure_future(KubeDiscovery(kube, ["default"], seen.append).run())

            async def shows(*names: str) -> None:
                for _ in range(500):
                    if seen and [r.name for r in seen[-1].replicas if not r.draining] == list(names):
                        return
                    await asyncio.sleep(0.01)
                raise AssertionError(seen[-1] if seen else "nothing")

            await shows("a")
            api.put(pod("b", "10.0.0.2"))
            await shows("a", "b")
            api.put(pod("a", "10.0.0.1", deletionTimestamp="2026-11-23T10:00:00Z"))
            await shows("b")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

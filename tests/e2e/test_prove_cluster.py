"""`seawall prove --context`: kube verbs against the API double, whose evictions end real processes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.small_cluster import NS, SmallCluster
from tests.within import within

from seawall.drivers.kube import DEPLOYMENT, connect
from seawall.prove.cluster import RESTARTED, ClusterFleet, ClusterStage, find
from seawall.testing.kube_api import KubeApi

FLEET = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: sim, namespace: llm}
spec:
  model: {source: "file:///nowhere"}
  engine: {kind: sim, maxNumSeqs: 64}
  hardware: {gpu: cpu, cloud: local}
  traffic: {maxContext: 4k}
  scaling: {min: 2, max: 4}
  gateway: {resume: RESUME}
"""


@pytest.fixture
def api() -> Iterator[KubeApi]:
    with KubeApi() as made:
        yield made


def deployments(api: KubeApi, engines: dict[str, int], gateway: str) -> None:
    for name, replicas in {**engines, gateway: 1}.items():
        labels = {"seawall.dev/fleet": "sim", "app.kubernetes.io/component": "engine"}
        labels = labels if name in engines else {"app.kubernetes.io/name": "seawall-gateway"}
        meta = {"name": name, "namespace": NS, "labels": labels}
        api.put(
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": {"replicas": replicas}}
        )


async def prove(spec: Path, kubeconfig: str, *flags: str) -> tuple[int, dict[str, Any], str]:
    argv = [sys.executable, "-m", "seawall", "prove", str(spec), "--kubeconfig", kubeconfig, "--json", *flags]
    child = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, said = await within(child.communicate(), 240)
    print(said.decode())
    return child.returncode or 0, json.loads(out or b"{}"), said.decode()


def fleet(folder: Path, resume: str = "exact") -> Path:
    path = folder / "fleet.yaml"
    path.write_text(FLEET.replace("RESUME", f'"{resume}"'))
    return path


@pytest.mark.slow
@pytest.mark.timeout(280)
async def test_evictions_kills_rollouts_and_scaling_of_a_cluster_lose_nothing(
    api: KubeApi, tmp_path: Path
) -> None:
    spec = fleet(tmp_path)
    async with SmallCluster(api, tmp_path, spec) as cluster:
        code, result, said = await prove(
            spec, cluster.kubeconfig, "--context", "double", "--url", cluster.url, "--yes", "--streams", "24",
            "--answer", "2s",
        )  # fmt: skip
        left = {n for _, n in api.objects("v1", "pods")}
    assert code == 0, said
    assert [s["name"] for s in result["scenarios"]] == [
        "control", "evict", "kill", "rolling-update", "scale", "gateway-restart",
    ]  # fmt: skip
    assert (result["lost"], result["wrong_tokens"]) == (0, 0)
    assert result["scenarios"][2]["resumed"] > 0
    assert not left & {"sim-0", "sim-1", "sim-gateway-2"}
    asked = {r.partition("?")[0] for r in api.requests if not r.startswith("GET")}
    assert any(r.endswith("/eviction") for r in asked)
    assert all(f"/namespaces/{NS}/" in r or "selfsubjectaccessreviews" in r for r in asked)


@pytest.mark.slow
@pytest.mark.timeout(200)
async def test_a_kill_without_resume_is_red_on_a_cluster_too(api: KubeApi, tmp_path: Path) -> None:
    spec = fleet(tmp_path, "off")
    async with SmallCluster(api, tmp_path, spec) as cluster:
        code, result, _ = await prove(
            spec, cluster.kubeconfig, "--context", "double", "--url", cluster.url, "--yes", "--streams", "24",
            "--scenario", "kill", "--answer", "2s",
        )  # fmt: skip
    assert code == 1
    assert [s["kept"] for s in result["scenarios"]] == [True, False]
    assert result["lost"] > 0


@pytest.mark.parametrize(
    ("flags", "deny", "words", "code"),
    [
        (("--yes",), (), "runs no Deployment of the fleet sim", 2),
        (("--yes",), ("create pods/eviction", "delete pods"), "create pods/eviction, delete pods", 3),
        (("--yes", "--scenario", "hung"), (), "there is no scenario 'hung'", 2),
        (("--yes", "--without", "resume"), (), "--without does not work on a cluster", 2),
    ],
)
async def test_it_touches_nothing_when_it_should_not(
    api: KubeApi, tmp_path: Path, flags: tuple[str, ...], deny: tuple[str, ...], words: str, code: int
) -> None:
    api.faults.deny |= set(deny)
    spec = fleet(tmp_path)
    found, _, said = await prove(
        spec, api.kubeconfig(tmp_path, NS), "--context", "double", "--url", "http://127.0.0.1:9", *flags
    )
    assert (found, words in said) == (code, True), said
    assert not [r for r in api.requests if not r.startswith("GET") and "selfsubject" not in r]


async def test_a_spot_fleet_is_restarted_whole_and_scaled_where_its_scaler_does(
    api: KubeApi, tmp_path: Path
) -> None:
    def count(name: str) -> int:
        return int(api.objects("apps/v1", "deployments")[NS, name]["spec"]["replicas"])

    deployments(api, {"sim-floor": 2, "sim-spot": 1}, "sim-gateway")
    async with connect("double", api.kubeconfig(tmp_path, NS)) as kube:
        target = await find(kube, "sim", NS)
        assert (target.engines, target.replicas) == (("sim-floor", "sim-spot"), 3)
        stage = ClusterStage(ClusterFleet(kube, target, ""), 5.0)
        await stage.order(do="scale", replicas=4)
        assert (count("sim-floor"), count("sim-spot")) == (2, 2)
        await stage.order(do="restart")
        for name in target.engines:
            template = api.objects("apps/v1", "deployments")[NS, name]["spec"]["template"]
            assert RESTARTED in template["metadata"]["annotations"]
        await kube.patch(DEPLOYMENT, NS, "sim-spot", {"spec": {"replicas": 7}}, "scale")
        await stage.settled(4)
        assert stage.notes == ["somebody else, a scaler perhaps, asks for 9 replicas, not 4"]
        assert not stage.broken


async def test_an_eviction_that_a_budget_forbids_is_no_proof(api: KubeApi, tmp_path: Path) -> None:
    deployments(api, {"sim": 2}, "sim-gateway")
    api.faults.refuse_evictions = True
    async with connect("double", api.kubeconfig(tmp_path, NS)) as kube:
        stage = ClusterStage(ClusterFleet(kube, await find(kube, "sim", NS), ""), 0.5)
        assert not await stage.evict("sim-0")
    assert "the disruption budget forbade sim-0" in stage.broken[0]


async def test_it_asks_before_it_disturbs(api: KubeApi, tmp_path: Path) -> None:
    deployments(api, {"sim": 2}, "sim-gateway")
    code, _, said = await prove(
        fleet(tmp_path), api.kubeconfig(tmp_path, NS), "--context", "double", "--url", "http://127.0.0.1:9"
    )
    assert code == 2
    assert "2 replicas of sim in llm (context double) will be disturbed" in said
    assert "Add --yes" in said

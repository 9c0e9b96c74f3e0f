"""The doctor: a healthy cluster passes, and each thing that is wrong is found, with what mends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seawall.config.load import parse_fleets
from seawall.decide.plan import plan
from seawall.diagnose.doctor import ClusterFacts, NodeFacts, examine
from seawall.diagnose.examine_cluster import examine_cluster
from seawall.domain.action import Plan
from seawall.domain.spec import Fleet
from seawall.drivers.kube import connect
from seawall.render.everything import render
from seawall.render.inputs import Group, Wanted
from seawall.shapes.config import resolve
from seawall.testing.kube_api import KubeApi

SPEC = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: llama, namespace: llm}
spec:
  model: {source: hf://meta-llama/Llama-3.1-70B-Instruct}
  hardware: {gpu: H100-80GB, cloud: on-prem}
  cache: {storageClass: shared}
  scaling: {min: 2, max: 4}
"""
PLAN = Plan(
    fleet="llama", model="m", fits=True, reason="", gpu="H100-80GB", gpus_per_replica=4, tensor_parallel=4
)
KINDS = frozenset(
    {
        ("keda.sh/v1alpha1", "ScaledObject"),
        ("monitoring.coreos.com/v1", "PodMonitor"),
        ("apps/v1", "Deployment"),
    }
)
NODE = NodeFacts(
    "n1",
    {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
    (("nvidia.com/gpu", "present", "NoSchedule"),),
    True,
    8,
    0,
)
HEALTHY = ClusterFacts(
    version="v1.36.2",
    nodes=(NODE, replace(NODE, name="n2")),
    device_plugin=True,
    crds={"scaledobjects.keda.sh": ("v1alpha1",), "podmonitors.monitoring.coreos.com": ("v1",)},
    keda_ready=True,
    prometheus=120,
    storage_classes={
        "shared": {"provisioner": "efs.csi.aws.com", "allowVolumeExpansion": True, "default": True}
    },
    namespace_labels={},
    quotas={},
)


def fleet(extra: str = "") -> Fleet:
    return parse_fleets(SPEC + extra)[0]


def test_a_healthy_cluster_passes() -> None:
    checks = examine(HEALTHY, fleet(), PLAN, KINDS)
    assert {c.verdict for c in checks} == {"ok"}, checks


@pytest.mark.parametrize(
    ("change", "name", "verdict", "says"),
    [
        ({"version": "v1.24.0"}, "Kubernetes version", "fail", "older"),
        ({"version": None}, "Kubernetes version", "fail", "did not say"),
        ({"denied": ("patch deployments",)}, "your rights", "fail", "patch deployments"),
        ({"nodes": None}, "GPU nodes", "warn", "may not be listed"),
        ({"nodes": (replace(NODE, allocatable_gpus=0),)}, "GPU nodes", "fail", "nvidia.com/gpu"),
        ({"nodes": (replace(NODE, labels={}),)}, "GPU labels", "fail", "gpu.product"),
        (
            {"nodes": (replace(NODE, labels={"nvidia.com/gpu.product": "Tesla-T4"}),)},
            "GPU type",
            "fail",
            "Tesla-T4",
        ),
        ({"nodes": (replace(NODE, used_gpus=8),)}, "free GPUs", "fail", "room for 0"),
        ({"nodes": (NODE,)}, "free GPUs", "warn", "surge"),
        ({"nodes": (replace(NODE, ready=False), NODE)}, "free GPUs", "warn", "surge"),
        (
            {"nodes": (replace(NODE, name="n7", ready=False, cordoned=True),)},
            "free GPUs",
            "fail",
            "cordoned: n7",
        ),
        ({"nodes": (replace(NODE, taints=(("team", "x", "NoSchedule"),)),) * 2}, "taints", "fail", "team=x"),
        ({"crds": {}}, "KEDA", "fail", "not installed"),
        (
            {"crds": {**(HEALTHY.crds or {}), "scaledobjects.keda.sh": ("v1beta9",)}},
            "KEDA",
            "fail",
            "v1beta9",
        ),
        ({"crds": None}, "custom resources", "warn", "may not be listed"),
        ({"keda_ready": False}, "KEDA operator", "fail", "not running"),
        ({"prometheus": 0}, "Prometheus", "fail", "no data"),
        ({"prometheus": "HTTP 503"}, "Prometheus", "warn", "HTTP 503"),
        ({"storage_classes": {}}, "StorageClass", "fail", "does not exist"),
        (
            {"storage_classes": {"shared": {"provisioner": "ebs.csi.aws.com"}}},
            "StorageClass",
            "fail",
            "never binds",
        ),
        ({"quotas": {"requests.nvidia.com/gpu": (4.0, 8.0)}}, "quota", "fail", "4 of 8"),
        (
            {"foreign_managers": {"Deployment/llama": "Argo CD (application llm)"}},
            "ownership",
            "warn",
            "Argo CD",
        ),
        ({"limit_ranges": ("caps a container at 1Gi",)}, "LimitRange", "warn", "caps"),
    ],
)
def test_each_fault_is_found_with_its_cure(
    change: dict[str, Any], name: str, verdict: str, says: str
) -> None:
    found = [c for c in examine(replace(HEALTHY, **change), fleet(), PLAN, KINDS) if c.verdict != "ok"]
    mine = [c for c in found if c.name == name]
    assert mine, found
    assert mine[0].verdict == verdict
    assert says in mine[0].why
    assert mine[0].cure


def test_the_storage_class_that_is_examined_is_the_one_that_render_names() -> None:
    """GKE's default makes disks for one node, so render names its shared class: it is that which must be there."""
    spec = SPEC.replace("cloud: on-prem", "cloud: gke").replace("  cache: {storageClass: shared}\n", "")
    on_gke = parse_fleets(spec.replace("Instruct}", "Instruct, revision: abc}"))[0]
    wanted = Wanted(fleet=on_gke, plan=plan(on_gke, resolve(on_gke, offline=True)), document={}, lock=None)
    (rendered,) = {
        o["spec"]["storageClassName"]
        for o in render(Group(members=(wanted,))).objects
        if o["kind"] == "PersistentVolumeClaim"
    }

    def verdict(facts: ClusterFacts) -> tuple[str, str]:
        (found,) = [c for c in examine(facts, on_gke, PLAN, KINDS) if c.name == "StorageClass"]
        return found.verdict, found.why

    assert verdict(HEALTHY)[0] == "fail"
    assert rendered in verdict(HEALTHY)[1]
    classes = {rendered: {"provisioner": "filestore.csi.storage.gke.io", "allowVolumeExpansion": True}}
    assert verdict(replace(HEALTHY, storage_classes=classes))[0] == "ok"


@pytest.fixture
def api() -> Iterator[KubeApi]:
    with KubeApi() as double:
        yield double


async def test_facts_come_from_a_cluster_in_few_requests(api: KubeApi, tmp_path: Path) -> None:
    def put(version: str, kind: str, name: str, namespace: str = "", **body: Any) -> None:
        meta = {"name": name, **({"namespace": namespace} if namespace else {}), **body.pop("meta", {})}
        api.put({"apiVersion": version, "kind": kind, "metadata": meta, **body})

    gpu = {"allocatable": {"nvidia.com/gpu": "8"}, "conditions": [{"type": "Ready", "status": "True"}]}
    put("v1", "Node", "n1", meta={"labels": NODE.labels}, spec={"taints": []}, status=gpu)
    asked = {"resources": {"limits": {"nvidia.com/gpu": "3"}}}
    put("v1", "Pod", "p", "x", spec={"nodeName": "n1", "containers": [asked]}, status={"phase": "Running"})
    put("v1", "Pod", "q", "x", spec={"nodeName": "n1", "containers": [asked]}, status={"phase": "Succeeded"})
    put("apps/v1", "DaemonSet", "nvidia-device-plugin-daemonset", "kube-system")
    versions = {"versions": [{"name": "v1alpha1", "served": True}, {"name": "v1", "served": False}]}
    put("apiextensions.k8s.io/v1", "CustomResourceDefinition", "scaledobjects.keda.sh", spec=versions)
    default = {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    put("storage.k8s.io/v1", "StorageClass", "gp3", meta=default, provisioner="ebs.csi.aws.com")
    put("v1", "Namespace", "llm", meta={"labels": {"pod-security.kubernetes.io/enforce": "restricted"}})
    put(
        "v1",
        "ResourceQuota",
        "q",
        "llm",
        status={"hard": {"requests.memory": "1Gi"}, "used": {"requests.memory": "512Mi"}},
    )
    managed = {"labels": {"seawall.dev/fleet": "llama"}, "managedFields": [{"manager": "argocd-controller"}]}
    put("apps/v1", "Deployment", "llama", "llm", meta=managed)
    api.faults.deny = {
        "create jobs",
        "patch poddisruptionbudgets",
        "create namespaces",
        "patch scaledobjects",
    }
    async with connect(kubeconfig=api.kubeconfig(tmp_path)) as kube:
        kinds = {("batch/v1", "Job"), ("apps/v1", "Deployment"), ("policy/v1", "PodDisruptionBudget")}
        kinds |= {("v1", "Namespace"), ("nobody.dev/v1", "Thing")}
        facts = await examine_cluster(kube, fleet(), frozenset(kinds))
        assert kube.requests < 40
    assert facts.version == "v1.36.2"
    assert facts.nodes is not None
    assert (facts.nodes[0].allocatable_gpus, facts.nodes[0].used_gpus) == (8, 3)
    assert facts.device_plugin is True
    assert facts.keda_ready is False
    assert facts.crds == {"scaledobjects.keda.sh": ("v1alpha1",)}
    assert (facts.storage_classes or {})["gp3"]["default"] is True
    assert facts.namespace_labels == {"pod-security.kubernetes.io/enforce": "restricted"}
    assert facts.quotas == {"requests.memory": (512.0 * 2**20, 2.0**30)}
    assert facts.denied == ("create jobs", "patch poddisruptionbudgets"), "what this fleet needs, and no more"
    assert facts.foreign_managers == {"Deployment/llama": "Argo CD"}
    assert isinstance(facts.prometheus, str)


def test_every_volume_that_is_rendered_is_judged_by_the_class_it_names() -> None:
    """The lane's volume names another class than the weights': each is asked for as its own claim says."""

    def lane(name: str | None) -> list[Any]:
        spec = {"accessModes": ["ReadWriteOnce"], **({"storageClassName": name} if name else {})}
        claim = {"metadata": {"name": "llama-gateway-batch"}, "spec": spec}
        found = examine(HEALTHY, fleet(), PLAN, KINDS, [claim])
        return [c for c in found if c.name == "StorageClass of llama-gateway-batch"]

    assert [c.verdict for c in lane("shared")] == ["ok"]
    assert [c.verdict for c in lane(None)] == ["ok"], "the cluster has a default one"
    (missing,) = lane("fast")
    assert missing.verdict == "fail"
    assert "'fast' does not exist; there are: shared" in missing.why
    assert "spec.gateway.batch.storageClass" in missing.cure


def test_a_fleet_that_asks_for_no_volume_is_asked_for_no_class() -> None:
    simulated = fleet("  engine: {kind: sim}\n")
    found = examine(replace(HEALTHY, storage_classes={}), simulated, PLAN, KINDS)
    assert not [c for c in found if c.name == "StorageClass"]


@pytest.mark.parametrize("by", ["seawall", "keda-gateway"])
def test_whoever_scales_through_keda_needs_its_operator(by: str) -> None:
    scaled = parse_fleets(SPEC.replace("{min: 2, max: 4}", f"{{min: 2, max: 4, by: {by}}}"))[0]
    found = examine(replace(HEALTHY, keda_ready=False), scaled, PLAN, KINDS)
    assert [c.verdict for c in found if c.name == "KEDA operator"] == ["fail"]

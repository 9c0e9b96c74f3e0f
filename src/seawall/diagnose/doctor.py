"""Is this cluster able to serve this fleet? Facts of a cluster -> checks, each with why and the command that mends it.

Pure: `collect.py` talks to the cluster. A fact that could not be read (RBAC, a missing API) is None, and its
check says that it could not look: never a silent pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from seawall.domain.action import Plan
from seawall.domain.catalog.clouds import weights_class
from seawall.domain.catalog.providers import PROVIDERS, cure_of, provider_of
from seawall.domain.spec import Fleet
from seawall.domain.units import counted, show_bytes

CheckLevel = Literal["ok", "warn", "fail"]
Object = dict[str, Any]
OLDEST_MINOR = 30
"""startup probes, native sidecars, preStop sleep and CEL are all there from here on."""


@dataclass(frozen=True)
class CheckResult:
    """One answer. `cure` is a command or an instruction; empty when all is well."""

    name: str
    verdict: CheckLevel
    why: str
    cure: str = ""


@dataclass(frozen=True)
class NodeFacts:
    """The facts about one node that checks look at."""

    name: str
    labels: dict[str, str]
    taints: tuple[tuple[str, str, str], ...]
    """(key, value, effect)"""
    ready: bool
    allocatable_gpus: int
    used_gpus: int
    cordoned: bool = False
    """No new Pods come here; it counts as not ready for that."""


@dataclass(frozen=True)
class ClusterFacts:
    """What the doctor looks at. None: could not be read."""

    version: str | None
    nodes: tuple[NodeFacts, ...] | None
    device_plugin: bool | None
    """A device plugin or DRA driver runs."""
    crds: dict[str, tuple[str, ...]] | None
    """CRD name -> served versions."""
    keda_ready: bool | None
    prometheus: int | str | None
    """Series that `up` returns through the configured address, or why it could not be asked."""
    storage_classes: dict[str, dict[str, object]] | None
    """Name -> provisioner, allowVolumeExpansion, volumeBindingMode, default."""
    namespace_labels: dict[str, str] | None
    """None when the namespace does not exist yet."""
    quotas: dict[str, tuple[float, float]] | None
    """`requests.nvidia.com/gpu` -> (used, hard)."""
    denied: tuple[str, ...] = ()
    """`verb resource` that the caller may not do."""
    foreign_managers: dict[str, str] = field(default_factory=dict)
    """Object -> who owns fields that we render: `Argo CD (application llm)`, kubectl-edit."""
    limit_ranges: tuple[str, ...] = ()


def examine(
    facts: ClusterFacts,
    fleet: Fleet,
    plan: Plan,
    kinds: frozenset[tuple[str, str]],
    claims: Sequence[Object] = (),
) -> list[CheckResult]:
    """Every check, in the order in which a deployment would run into them. `kinds`: (apiVersion, kind) rendered;
    `claims`: PersistentVolumeClaims that are rendered beside the one for the weights."""
    parts: list[Callable[[], Iterator[CheckResult]]] = [
        lambda: _version(facts),
        lambda: _rights(facts),
        lambda: _gpus(facts, fleet, plan),
        lambda: _custom_resources(facts, kinds),
        lambda: _scaling(facts, fleet),
        lambda: _storage(facts, fleet, claims),
        lambda: _namespace(facts, fleet, plan),
        lambda: _owners(facts),
    ]
    return [check for part in parts for check in part()]


def _version(facts: ClusterFacts) -> Iterator[CheckResult]:
    m = re.match(r"v?1\.(\d+)", facts.version or "")
    if m is None:
        yield CheckResult(
            "Kubernetes version", "fail", "the API server did not say its version", "kubectl version"
        )
    elif int(m[1]) < OLDEST_MINOR:
        yield CheckResult(
            "Kubernetes version",
            "fail",
            f"{facts.version} is older than 1.{OLDEST_MINOR}",
            "Upgrade the cluster first.",
        )
    else:
        yield CheckResult("Kubernetes version", "ok", str(facts.version))


def _rights(facts: ClusterFacts) -> Iterator[CheckResult]:
    if facts.denied:
        yield CheckResult(
            "your rights",
            "fail",
            f"you may not: {', '.join(facts.denied)}",
            "Ask an administrator for the role; kubectl auth can-i --list shows what you have.",
        )
    else:
        yield CheckResult("your rights", "ok", "everything that apply needs")


def _gpus(facts: ClusterFacts, fleet: Fleet, plan: Plan) -> Iterator[CheckResult]:
    if fleet.spec.hardware.gpu == "cpu" or plan.gpus_per_replica == 0:
        yield CheckResult("GPU nodes", "ok", "this fleet runs on CPU")
        return
    if facts.nodes is None:
        yield CheckResult("GPU nodes", "warn", "nodes may not be listed", "kubectl auth can-i list nodes")
        return
    gpu_nodes = [n for n in facts.nodes if n.allocatable_gpus]
    if not gpu_nodes:
        scaled = "karpenter.sh" in str(facts.crds) or fleet.spec.hardware.cloud in (
            "gke",
            "eks",
            "aks",
            "karpenter",
        )
        yield CheckResult(
            "GPU nodes",
            "warn" if scaled else "fail",
            f"no node has allocatable {fleet.spec.hardware.resource}"
            + ("; an autoscaler may bring one" if scaled else ""),
            "seawall render cluster-prereqs shows how to install the device plugin with GPU feature discovery",
        )
        return
    yield _device_plugin(facts)
    product = [
        n for n in gpu_nodes if n.labels.get("nvidia.com/gpu.product") or fleet.spec.hardware.node_labels
    ]
    if not product:
        yield CheckResult(
            "GPU labels",
            "fail",
            f"none of {len(gpu_nodes)} GPU nodes has nvidia.com/gpu.product",
            "Turn on GPU feature discovery (gfd.enabled=true), or name your labels in spec.hardware.nodeLabels.",
        )
        return
    fitting = [n for n in gpu_nodes if _carries(n, fleet, plan)]
    if not fitting:
        have = sorted({n.labels.get("nvidia.com/gpu.product", "unlabelled") for n in gpu_nodes})
        yield CheckResult(
            "GPU type", "fail", f"the plan wants {plan.gpu}; nodes have {', '.join(have)}", _REPLAN
        )
        return
    yield CheckResult("GPU type", "ok", f"{plan.gpu} on {counted(len(fitting), 'node')}")
    yield from _room(fitting, fleet, plan)


_REPLAN = "seawall plan with one of those in spec.hardware.gpu"


def _device_plugin(facts: ClusterFacts) -> CheckResult:
    if facts.device_plugin is False:
        return CheckResult(
            "device plugin",
            "warn",
            "no device plugin found, yet nodes have GPUs",
            "kubectl get ds -A | grep -i nvidia",
        )
    return CheckResult("device plugin", "ok", "GPUs are allocatable")


def _carries(node: NodeFacts, fleet: Fleet, plan: Plan) -> bool:
    wanted = fleet.spec.hardware.node_labels
    if wanted:
        return all(node.labels.get(k) == v for k, v in wanted.items())
    words = re.findall(r"[A-Z]+\d+[A-Z]*", plan.gpu.upper())
    product = node.labels.get("nvidia.com/gpu.product", "").upper()
    return bool(words) and words[0] in product


def _room(nodes: list[NodeFacts], fleet: Fleet, plan: Plan) -> Iterator[CheckResult]:
    need = plan.gpus_per_replica // max(1, plan.nodes_per_replica)
    floor = max(1, fleet.spec.scaling.min)
    slots = sum((n.allocatable_gpus - n.used_gpus) // need for n in nodes if n.ready)
    wanted = (floor + (1 if fleet.spec.hardware.spare_gpus else 0)) * plan.nodes_per_replica
    closed = sorted(n.name for n in nodes if n.cordoned)
    held = f"; cordoned: {', '.join(closed[:4])}{' and more' if len(closed) > 4 else ''}" if closed else ""
    opened = f"kubectl uncordon {closed[0]} when its drain is over. " if closed else ""
    if slots >= wanted:
        yield CheckResult("free GPUs", "ok", f"room for {slots} x {need}, {wanted} wanted with the surge")
    elif slots >= floor * plan.nodes_per_replica:
        yield CheckResult(
            "free GPUs",
            "warn",
            f"room for {slots} x {need}: enough to serve, not for a rollout's surge replica{held}",
            f"{opened}Add a node, or set spec.hardware.spareGpus: false (replicas are then replaced in place).",
        )
    else:
        yield CheckResult(
            "free GPUs",
            "fail",
            f"room for {slots} x {need} GPUs, {wanted} wanted{held}",
            f"{opened}Add nodes, or lower scaling.min.",
        )
    tolerated = {t.key for t in fleet.spec.hardware.tolerations} | {fleet.spec.hardware.resource}
    spot = ("cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority")
    for key, value, effect in sorted({t for n in nodes for t in n.taints}):
        if (
            effect != "PreferNoSchedule"
            and key not in tolerated
            and not key.startswith(("node.kubernetes.io/", *spot))
        ):
            yield CheckResult(
                "taints",
                "fail" if all(any(t[0] == key for t in n.taints) for n in nodes) else "warn",
                f"nodes carry the taint {key}={value}:{effect}, which the fleet does not tolerate",
                f"Add to spec.hardware.tolerations: {{key: {key}, effect: {effect}}}",
            )


def _custom_resources(facts: ClusterFacts, kinds: frozenset[tuple[str, str]]) -> Iterator[CheckResult]:
    needed = sorted({v for v, _ in kinds if provider_of(v)})
    if facts.crds is None:
        if needed:
            yield CheckResult(
                "custom resources", "warn", "CRDs may not be listed", "kubectl auth can-i list crds"
            )
        return
    for api_version in needed:
        group, _, version = api_version.partition("/")
        served = {v for name, versions in facts.crds.items() if name.endswith(f".{group}") for v in versions}
        name = PROVIDERS[group].name
        if not served:
            yield CheckResult(name, "fail", f"{group} is not installed", cure_of(api_version))
        elif version not in served:
            yield CheckResult(
                name, "fail", f"serves {', '.join(sorted(served))}, not {version}", "Upgrade it."
            )
        else:
            yield CheckResult(name, "ok", f"serves {api_version}")


def _scaling(facts: ClusterFacts, fleet: Fleet) -> Iterator[CheckResult]:
    by = fleet.spec.scaling.by
    installed = facts.crds is None or any(name.endswith(".keda.sh") for name in facts.crds)
    if by != "hpa" and facts.keda_ready is False and installed:
        yield CheckResult(
            "KEDA operator",
            "fail",
            "its CRDs are there, its operator is not running",
            "kubectl -n keda get pods",
        )
    if by == "keda-prometheus":
        if isinstance(facts.prometheus, int) and facts.prometheus > 0:
            yield CheckResult("Prometheus", "ok", f"answers with {facts.prometheus} series")
        else:
            said = (
                "answers with no data" if facts.prometheus == 0 else f"could not be asked: {facts.prometheus}"
            )
            yield CheckResult(
                "Prometheus",
                "fail" if facts.prometheus == 0 else "warn",
                f"{fleet.spec.scaling.prometheus} {said}",
                "Correct spec.scaling.prometheus, or use spec.scaling.by: keda-gateway, which needs no Prometheus.",
            )


_RWX = re.compile(
    r"efs|filestore|nfs|azurefile|file\.csi|cephfs|lustre|fsx|juicefs|weka|vast|longhorn|gcsfuse", re.I
)


def _storage(facts: ClusterFacts, fleet: Fleet, claims: Sequence[Object]) -> Iterator[CheckResult]:
    """Whether each volume that will be asked for can be made, by the class that its claim names."""
    cache = fleet.spec.cache
    asked: list[_Asked] = []
    if cache.kind == "pvc" and not cache.claim and fleet.spec.engine.needs_weights:
        asked.append(
            _Asked("StorageClass", weights_class(fleet), cache.access_mode, "spec.cache.storageClass")
        )
    for claim in claims:
        spec = claim.get("spec") or {}
        mode = str(next(iter(spec.get("accessModes") or []), "ReadWriteOnce"))
        name = f"StorageClass of {claim['metadata']['name']}"
        asked.append(_Asked(name, spec.get("storageClassName"), mode, "spec.gateway.batch.storageClass"))
    if asked and facts.storage_classes is None:
        yield CheckResult(
            "StorageClass", "warn", "storage classes may not be listed", "kubectl get storageclass"
        )
        return
    for one in asked:
        yield _class(facts.storage_classes or {}, one)


@dataclass(frozen=True)
class _Asked:
    """A volume that a claim asks for. `field` of the Fleet decides its class."""

    check: str
    named: str | None
    access_mode: str
    field: str


def _class(there: Mapping[str, Mapping[str, object]], asked: _Asked) -> CheckResult:
    name = asked.named or next((n for n, c in there.items() if c.get("default")), None)
    if name is None or name not in there:
        have = ", ".join(sorted(there)) or "none"
        what = f"{name!r} does not exist" if name else "none is the default and the spec names none"
        return CheckResult(
            asked.check, "fail", f"{what}; there are: {have}", f"Set {asked.field} to one of them."
        )
    provisioner = str(there[name].get("provisioner"))
    if asked.access_mode == "ReadWriteMany" and not _RWX.search(provisioner):
        return CheckResult(
            asked.check,
            "fail",
            f"{name} ({provisioner}) makes disks for one node; {asked.access_mode} never binds on it",
            f"Use a shared file system (EFS, Filestore, Azure Files, NFS) in {asked.field}"
            + (", or spec.cache.kind: oci, stream, node-local." if "cache" in asked.field else "."),
        )
    grows = "" if there[name].get("allowVolumeExpansion") else "; its volumes cannot be enlarged later"
    return CheckResult(asked.check, "warn" if grows else "ok", f"{name} ({provisioner}){grows}")


def _namespace(facts: ClusterFacts, fleet: Fleet, plan: Plan) -> Iterator[CheckResult]:
    level = (facts.namespace_labels or {}).get("pod-security.kubernetes.io/enforce")
    if facts.namespace_labels is None:
        yield CheckResult("namespace", "ok", f"{fleet.metadata.namespace} will be made")
    elif level == "restricted" and fleet.spec.cache.kind == "host-path":
        yield CheckResult(
            "pod security",
            "fail",
            "the namespace enforces `restricted`, which forbids hostPath",
            "Use another cache.kind.",
        )
    else:
        yield CheckResult(
            "namespace", "ok", f"{fleet.metadata.namespace}, pod security {level or 'not enforced'}"
        )
    for resource, (used, hard) in (facts.quotas or {}).items():
        if resource.endswith(fleet.spec.hardware.resource):
            free, need = hard - used, plan.gpus_per_replica * max(1, fleet.spec.scaling.min)
            enough = free >= need
            why = f"{free:.0f} of {hard:.0f} GPUs left, {need} needed"
            yield CheckResult(
                "quota", "ok" if enough else "fail", why, "" if enough else "Ask for a larger ResourceQuota."
            )
        elif resource in ("requests.memory", "limits.memory") and hard - used < plan.host_memory_bytes:
            left = f"{show_bytes(hard - used)} of memory left, a replica asks for {show_bytes(plan.host_memory_bytes)}"
            yield CheckResult("quota", "fail", left, "Ask for a larger ResourceQuota.")
    for text in facts.limit_ranges:
        yield CheckResult(
            "LimitRange", "warn", text, "A default limit may be put on containers; ours state their own."
        )


def _owners(facts: ClusterFacts) -> Iterator[CheckResult]:
    for obj, tool in sorted(facts.foreign_managers.items()):
        yield CheckResult(
            "ownership",
            "warn",
            f"{obj} is managed by {tool}, which would undo what we apply",
            "Deploy through it (seawall render --format argocd, flux or helm), or take it out of it first.",
        )

"""Where Pods may run: GPU labels, taints, spot or not, spread over zones and nodes."""

from __future__ import annotations

from typing import Any, Literal

from seawall.domain.catalog.clouds import AMD_LABEL, CLOUDS, GFD_LABEL, GFD_MEMORY, Cloud, Taint
from seawall.domain.catalog.gpus import find_gpu
from seawall.render.inputs import Object, Wanted
from seawall.render.names import selector

NodePool = Literal["any", "spot", "floor"]
"""`any`: a fleet without spot. `spot` and `floor`: the two halves of a spot fleet."""


def cloud_of(wanted: Wanted) -> Cloud:
    return CLOUDS[wanted.fleet.spec.hardware.cloud]


def node_affinity(wanted: Wanted, pool: NodePool) -> Object | None:
    """Required node affinity. The user's own labels replace the GPU labels, never the spot ones."""
    wants, memory = _gpu_terms(wanted), _memory(wanted)
    spot = cloud_of(wanted).spot
    if spot and pool == "spot":
        wants.append({"key": spot[0], "operator": "In", "values": [spot[1]]})
    if spot and pool == "floor":
        wants.append({"key": spot[0], "operator": "NotIn", "values": [spot[1]]})
    if not wants:
        return None
    terms = [{"matchExpressions": [*wants, said]} for said in memory] or [{"matchExpressions": wants}]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def _gpu_terms(wanted: Wanted) -> list[Object]:
    hardware = wanted.fleet.spec.hardware
    if hardware.node_labels:
        return [
            {"key": key, "operator": "In", "values": [value]} for key, value in hardware.node_labels.items()
        ]
    if wanted.plan.gpu == "cpu":
        return []
    cloud = cloud_of(wanted)
    gpu = find_gpu(wanted.plan.gpu, near=False)
    values = cloud.accelerators.get(wanted.plan.gpu, ())
    if values:
        return [{"key": cloud.accelerator_label, "operator": "In", "values": list(values)}]
    if gpu and gpu.labels and gpu.capability == 0:
        return [{"key": AMD_LABEL, "operator": "In", "values": list(gpu.labels)}]
    if gpu and gpu.labels:
        return [{"key": GFD_LABEL, "operator": "In", "values": list(gpu.labels)}]
    # A GPU of which no label is known: the resource alone decides, and the plan whether it fits.
    return []


def _memory(wanted: Wanted) -> list[Object]:
    """Alternatives: a node that says at least the planned GPU's memory, or one that does not say it.

    One product name may stand for several sizes, and a slice of a GPU may go by the whole one's name, so what a
    node says counts (5% below, because drivers and providers count differently). A cloud's own labels come
    together; beside GPU feature discovery's product, put there by hand, the memory may be missing.
    """
    cloud, gpu = cloud_of(wanted), find_gpu(wanted.plan.gpu, near=False)
    if wanted.fleet.spec.hardware.node_labels or gpu is None:
        return []
    own = wanted.plan.gpu in cloud.accelerators
    label = cloud.memory_label if own else GFD_MEMORY if gpu.labels and gpu.capability else None
    if label is None:
        return []
    least = {"key": label, "operator": "Gt", "values": [str(int(0.95 * 1024 * gpu.memory_gib))]}
    return [least] if own else [least, {"key": label, "operator": "DoesNotExist"}]


def tolerations(wanted: Wanted, pool: NodePool) -> list[Object]:
    cloud, hardware = cloud_of(wanted), wanted.fleet.spec.hardware
    out: list[Object] = []
    if wanted.plan.gpu != "cpu":
        out += [_tolerate(taint) for taint in cloud.gpu_taints]
        if hardware.resource != "nvidia.com/gpu":
            out.append(_tolerate(Taint(key=hardware.resource)))
    if pool == "spot":
        out += [_tolerate(taint) for taint in cloud.spot_taints]
    for own in hardware.tolerations:
        item: Object = {"key": own.key, "operator": own.operator, "value": own.value, "effect": own.effect}
        out.append({k: v for k, v in item.items() if v})  # what is empty is not stored
    return [item for n, item in enumerate(out) if item not in out[:n]]


def _tolerate(taint: Taint) -> Object:
    if taint.value is None:
        return {"key": taint.key, "operator": "Exists", "effect": taint.effect}
    return {"key": taint.key, "operator": "Equal", "value": taint.value, "effect": taint.effect}


def spread(match: dict[str, str]) -> list[Object]:
    """Even over zones and nodes where possible; never a reason to stay Pending: GPUs are rare."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": match},
            "matchLabelKeys": ["pod-template-hash"],
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]


def place(wanted: Wanted, pool: NodePool, *, multi_node: bool = False) -> dict[str, Any]:
    """The placing part of an engine's Pod spec."""
    hardware = wanted.fleet.spec.hardware
    out: dict[str, Any] = {}
    affinity = node_affinity(wanted, pool)
    if affinity:
        out["affinity"] = affinity
    tolerated = tolerations(wanted, pool)
    if tolerated:
        out["tolerations"] = tolerated
    if not multi_node:
        out["topologySpreadConstraints"] = spread(selector(wanted))
    if hardware.runtime_class:
        out["runtimeClassName"] = hardware.runtime_class
    if hardware.priority_class:
        out["priorityClassName"] = hardware.priority_class
    return out


def place_loader(wanted: Wanted) -> dict[str, Any]:
    """The placing part of the loader's Pod spec. It may run on a GPU node, because a cluster may have no other.

    A ReadWriteOnce volume is made in the zone of the Pod that mounts it first, so there the loader has to run
    where engines can; otherwise it would rather leave GPU nodes alone.
    """
    out: dict[str, Any] = {}
    terms = _gpu_terms(wanted)
    if terms and wanted.fleet.spec.cache.access_mode == "ReadWriteOnce":
        out["affinity"] = node_affinity(wanted, "any")
    elif terms:
        others = {"matchExpressions": [{**terms[0], "operator": "NotIn"}]}
        preferred = [{"weight": 100, "preference": others}]
        out["affinity"] = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    tolerated = tolerations(wanted, "any")
    if tolerated:
        out["tolerations"] = tolerated
    return out

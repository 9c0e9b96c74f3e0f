"""What GPUs a cluster has, in the words of a Fleet: for `seawall init --cluster`, which writes one that fits there.

Nodes come as the doctor reads them. Forbidden here: asking a cluster, and planning; who chooses brings the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from seawall.diagnose.doctor import NodeFacts
from seawall.domain.action import Plan
from seawall.domain.catalog.clouds import AMD_LABEL, CLOUDS, GFD_LABEL, GFD_MEMORY
from seawall.domain.catalog.gpus import find_gpu
from seawall.domain.units import counted

RESOURCES = ("nvidia.com/gpu", "amd.com/gpu")
_SIGNS = {
    "gke": ("cloud.google.com/",), "karpenter": ("karpenter.sh/", "karpenter.k8s.aws/"), "eks": ("eks.amazonaws.com/",),
    "aks": ("kubernetes.azure.com/",),
}  # fmt: skip
"""How the labels begin that tell a cloud. Karpenter's nodes on EKS carry both: theirs count."""
_OF_NODES = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")
"""Taints that say how a node is at the moment, not whom it is for."""


@dataclass(frozen=True, kw_only=True)
class GpuNodes:
    """Nodes with the same GPU and the same taints."""

    gpu: str
    """The catalogue's name; where it knows none, what the nodes say."""
    known: bool
    cloud: str
    resource: str
    nodes: int
    per_node: int
    """GPUs of the largest of them."""
    free: int
    """GPUs that no Pod holds, on nodes that are ready."""
    taints: tuple[tuple[str, str, str], ...] = ()
    """(key, value, effect) of those that the cloud's own tolerations do not cover."""

    @property
    def words(self) -> str:
        """One line for people."""
        free = counted(self.free, "GPU")
        return f"{counted(self.nodes, 'node')} of {self.per_node} x {self.gpu}, {free} free"


def gpu_nodes(nodes: Sequence[NodeFacts], resource: str) -> list[GpuNodes]:
    """The groups of nodes that offer the resource, the one with most GPUs first. Nodes that do not say which GPU they
    have are left out."""
    found: dict[tuple[str, bool, str, tuple[tuple[str, str, str], ...]], list[NodeFacts]] = {}
    for node in nodes:
        said = _said(node.labels) if node.allocatable_gpus else None
        if said is None:
            continue
        cloud = _cloud(node.labels)
        gpu = _catalogued(cloud, said, node.labels)
        key = (gpu or said, gpu is not None, cloud, _strange(node, cloud, resource))
        found.setdefault(key, []).append(node)
    groups = [
        GpuNodes(
            gpu=gpu, known=known, cloud=cloud, resource=resource, nodes=len(members), taints=taints,
            per_node=max(n.allocatable_gpus for n in members),
            free=sum(max(0, n.allocatable_gpus - n.used_gpus) for n in members if n.ready),
        )
        for (gpu, known, cloud, taints), members in found.items()
    ]  # fmt: skip
    return sorted(groups, key=lambda g: (-g.nodes * g.per_node, g.gpu))


def smallest_that_holds(
    groups: Sequence[GpuNodes], plan_for: Callable[[GpuNodes], Plan | None]
) -> GpuNodes | None:
    """The group whose replica of the model is on the fewest nodes and takes the least GPU memory there; None where
    none is known to hold one."""

    def size(group: GpuNodes) -> tuple[int, float, int] | None:
        made, gpu = plan_for(group), find_gpu(group.gpu, near=False)
        if made is None or gpu is None or not made.fits or made.nodes_per_replica > group.nodes:
            return None
        return made.nodes_per_replica, made.gpus_per_replica * gpu.memory_gib, -group.free

    sized = [(found, group) for group in groups if (found := size(group)) is not None]
    return min(sized, key=lambda s: s[0])[1] if sized else None


def _said(labels: Mapping[str, str]) -> str | None:
    ours = [c.accelerator_label for c in CLOUDS.values()]
    return next((labels[name] for name in (*ours, GFD_LABEL, AMD_LABEL) if labels.get(name)), None)


def _cloud(labels: Mapping[str, str]) -> str:
    for cloud, starts in _SIGNS.items():
        if any(label.startswith(starts) for label in labels):
            return cloud
    return "on-prem"


def _catalogued(cloud: str, said: str, labels: Mapping[str, str]) -> str | None:
    """The catalogue's name of what a node says; where a cloud's word stands for two sizes, its memory decides."""
    named = [name for name, values in CLOUDS[cloud].accelerators.items() if said in values]
    memory = labels.get(CLOUDS[cloud].memory_label or GFD_MEMORY, labels.get(GFD_MEMORY, ""))
    mib = int(memory) if memory.isdigit() else 0
    sized = [(gpu.memory_gib, name) for name in named if (gpu := find_gpu(name, near=False)) is not None]
    fitting = [s for s in sized if not mib or 0.95 * 1024 * s[0] < mib]
    if sized:
        return (max(fitting) if mib and fitting else min(sized))[1]
    gpu = find_gpu(said, near=False)
    return gpu.name if gpu else None


def _strange(node: NodeFacts, cloud: str, resource: str) -> tuple[tuple[str, str, str], ...]:
    covered = {t.key for t in (*CLOUDS[cloud].gpu_taints, *CLOUDS[cloud].spot_taints)} | {resource}
    return tuple(
        sorted(
            t for t in node.taints
            if t[2] != "PreferNoSchedule" and t[0] not in covered and not t[0].startswith(_OF_NODES)
        )
    )  # fmt: skip

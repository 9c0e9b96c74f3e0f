"""What each cloud does to a GPU Pod: labels, taints, the notice before a spot node dies, storage classes.

Plain data, as of November 2026; a line that a provider changes is corrected here and nowhere else. What users
set themselves (their own labels and taints) belongs into the spec, not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from seawall.domain.spec import Fleet

Pair = tuple[str, str]

GFD_LABEL = "nvidia.com/gpu.product"
GFD_MEMORY = "nvidia.com/gpu.memory"
"""MiB of one GPU, beside the product: an A100 or an RTX 4060 Ti comes in two sizes."""
AMD_LABEL = "amd.com/gpu.product-name"
"""The label of AMD's node labeller, which stands where GPU feature discovery would."""


@dataclass(frozen=True, kw_only=True)
class Taint:
    """A taint that nodes of this cloud may carry; `value` None tolerates every value."""

    key: str
    value: str | None = None
    effect: str = "NoSchedule"


@dataclass(frozen=True, kw_only=True)
class Cloud:
    name: str
    spot: Pair | None
    """Node label and value that mark a spot node. None: this cloud has no spot nodes."""
    spot_taints: tuple[Taint, ...] = ()
    spot_notice_s: float = 0.0
    """Seconds that a Pod has between the notice and the loss of its node."""
    gpu_taints: tuple[Taint, ...] = (Taint(key="nvidia.com/gpu"),)
    accelerator_label: str = GFD_LABEL
    """The node label that names the GPU: GPU feature discovery's, or the cloud's own where it has one."""
    accelerators: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Catalogue name -> values of `accelerator_label`, where that is the cloud's own label. GPU feature
    discovery's values stand with the GPUs (gpus.py)."""
    memory_label: str | None = GFD_MEMORY
    """The node label with the MiB of one GPU. None: `accelerator_label` already tells sizes apart."""
    shared_class: str | None = None
    """A storage class that really offers ReadWriteMany here, when the spec names none. None: the cluster's
    default class is used and has to offer it."""
    note: str = ""


_GKE = {
    "T4": ("nvidia-tesla-t4",),
    "L4": ("nvidia-l4",),
    "V100-16GB": ("nvidia-tesla-v100",),
    "A100-40GB": ("nvidia-tesla-a100",),
    "A100-80GB": ("nvidia-a100-80gb",),
    "H100-80GB": ("nvidia-h100-80gb", "nvidia-h100-mega-80gb"),
    "H200": ("nvidia-h200-141gb",),
    "B200": ("nvidia-b200",),
    "GB200": ("nvidia-gb200",),
}

_KARPENTER = {
    "T4": ("t4",),
    "L4": ("l4",),
    "A10G": ("a10g",),
    "L40S": ("l40s",),
    "A100-40GB": ("a100",),
    "A100-80GB": ("a100",),
    "H100-80GB": ("h100",),
    "H200": ("h200",),
    "B200": ("b200",),
}

CLOUDS: dict[str, Cloud] = {
    c.name: c
    for c in (
        Cloud(
            name="gke",
            spot=("cloud.google.com/gke-spot", "true"),
            spot_taints=(Taint(key="cloud.google.com/gke-spot", value="true"),),
            # 30 s from the notice to the loss, of which the kubelet gives ordinary Pods the first 15 s.
            spot_notice_s=15,
            accelerator_label="cloud.google.com/gke-accelerator",
            accelerators=_GKE,
            memory_label=None,
            shared_class="premium-rwx",
            note="Standard clusters from 1.35.0-gke.1171000 can extend the notice to 120 s: set hardware.spot.notice.",
        ),
        Cloud(
            name="eks",
            spot=("eks.amazonaws.com/capacityType", "SPOT"),
            spot_notice_s=120,
            note="Managed node groups drain spot nodes with best effort; the notice is two minutes.",
        ),
        Cloud(
            name="karpenter",
            spot=("karpenter.sh/capacity-type", "spot"),
            spot_notice_s=120,
            accelerator_label="karpenter.k8s.aws/instance-gpu-name",
            accelerators=_KARPENTER,
            # a100 is a p4d (40 GB) or a p4de (80 GB).
            memory_label="karpenter.k8s.aws/instance-gpu-memory",
            note="Karpenter needs --interruption-queue to see the notice at all.",
        ),
        Cloud(
            name="aks",
            spot=("kubernetes.azure.com/priority", "spot"),
            spot_taints=(Taint(key="kubernetes.azure.com/scalesetpriority", value="spot"),),
            spot_notice_s=30,
            gpu_taints=(Taint(key="nvidia.com/gpu"), Taint(key="sku", value="gpu")),
            shared_class="azurefile-csi-premium",
        ),
        Cloud(name="on-prem", spot=None),
        Cloud(name="local", spot=None),
    )
}


def weights_class(fleet: Fleet) -> str | None:
    """The storage class that a fleet's volume for weights names: the spec's, or the cloud's shared one where many nodes
    read it. None: none is named, and the cluster's default makes the volume."""
    cache = fleet.spec.cache
    if cache.storage_class or cache.access_mode != "ReadWriteMany":
        return cache.storage_class
    return CLOUDS[fleet.spec.hardware.cloud].shared_class

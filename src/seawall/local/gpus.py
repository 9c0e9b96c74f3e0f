"""This machine's GPUs and the replica that holds each: two engines on one GPU would each claim 90% of it and die.

On Kubernetes the device plugin does this. A fleet whose `engine.env` sets CUDA_VISIBLE_DEVICES itself is left alone.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from seawall.domain.action import Plan
from seawall.domain.catalog.gpus import find_gpu
from seawall.domain.spec import Fleet

VISIBLE = "CUDA_VISIBLE_DEVICES"
QUERY = ("nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader")
NAMES = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")


@dataclass
class Gpus:
    """The ledger, shared by all fleets of one `seawall up`."""

    devices: tuple[str, ...]
    """Devices as CUDA_VISIBLE_DEVICES names them: UUIDs, indices or MIG instances."""
    _held: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _lent: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def take(self, replica: str, count: int) -> tuple[str, ...] | None:
        """`count` devices that no other replica holds; None while there are too few."""
        free = self.free()
        if len(free) < count:
            return None
        self._held[replica] = free[:count]
        return self._held[replica]

    def lend(self, replica: str) -> None:
        """Lends a sleeping replica's devices to whoever is awake, until it takes them again."""
        if replica in self._held:
            self._lent[replica] = self._held.pop(replica)

    def reclaim(self, replica: str) -> bool:
        """Takes back a sleeping replica's own devices; False while somebody else holds one of them."""
        devices = self._lent.get(replica, ())
        if not set(devices) <= set(self.free()):
            return False
        if devices:
            self._held[replica] = self._lent.pop(replica)
        return True

    def give_back(self, replica: str) -> None:
        """Frees the devices of a replica whose process is gone. Harmless for one that holds nothing."""
        self._held.pop(replica, None)
        self._lent.pop(replica, None)

    def free(self) -> tuple[str, ...]:
        held = {d for devices in self._held.values() for d in devices}
        return tuple(d for d in self.devices if d not in held)


def wanted(fleet: Fleet, plan: Plan | None = None) -> int:
    """GPUs that one replica must be given: the plan's; 0 on a CPU, or when the spec gives them itself."""
    hardware = fleet.spec.hardware
    if hardware.gpu == "cpu" or VISIBLE in fleet.spec.engine.env:
        return 0
    if plan is not None:
        return plan.gpus_per_replica
    ranks = (
        (hardware.tensor_parallel or 1) * (hardware.pipeline_parallel or 1) * (hardware.data_parallel or 1)
    )
    return hardware.gpus_per_replica or ranks


def visible(env: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """GPUs that may be used: those in the caller's CUDA_VISIBLE_DEVICES, else all that nvidia-smi lists; maybe none."""
    if (given := env.get(VISIBLE)) is not None:
        names = [name.strip() for name in given.split(",")]
        # As CUDA reads it: what follows an invalid entry is not visible either.
        return tuple(names[: next((i for i, n in enumerate(names) if n in ("", "-1")), len(names))])
    return _asked(QUERY, env)


def amd(sys: Path = Path("/sys")) -> int:
    """How many AMD GPUs the kernel's driver (amdkfd) lists; a CPU is a node of its topology too, with id 0."""
    count = 0
    for node in sys.glob("class/kfd/kfd/topology/nodes/*/gpu_id"):
        try:
            count += node.read_text().strip() not in ("", "0")
        except OSError:
            continue
    return count


def model(env: Mapping[str, str] = os.environ) -> str | None:
    """What the driver calls this machine's GPUs, the smallest where they differ; None when the catalogue has none."""
    found = [(gpu.memory_gib, name) for name in _asked(NAMES, env) if (gpu := find_gpu(name)) is not None]
    return min(found)[1] if found else None


def _asked(query: Sequence[str], env: Mapping[str, str]) -> tuple[str, ...]:
    """One answer of nvidia-smi for each GPU; none where there is no driver."""
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True, env=dict(env))
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in found.stdout.splitlines() if line.strip())

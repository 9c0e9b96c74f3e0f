"""The start-up budget and the host's share: memory, /dev/shm, ephemeral disk, volume. Pure.

One number, the budget, feeds the startup probe, vLLM's own ready timeout, progressDeadlineSeconds and the
download Job's deadline: when they disagree, the shortest one kills a replica that was only slow.
"""

from __future__ import annotations

from dataclasses import dataclass

from seawall.decide.plan.memory import GpuMemory
from seawall.decide.plan.setup import GIB, EngineSetup
from seawall.domain.action import StartupBudget
from seawall.domain.catalog.storage import IMAGE_BYTES, image_bandwidth, weights_bandwidth
from seawall.domain.spec import Fleet

SAFETY = 1.5
COMPILE_S = 60.0
"""torch.compile of a mid-size model on a cold cache."""
GRAPHS_S = 25.0
CPU_LOAD_S = 95.0
"""Imports, load and warm-up on a small CPU machine (measured 31 to 95 s)."""


@dataclass(frozen=True)
class Host:
    memory_bytes: int
    shm_bytes: int
    ephemeral_bytes: int
    volume_bytes: int


def startup_budget(fleet: Fleet, setup: EngineSetup, weights_bytes: int) -> tuple[StartupBudget, str]:
    """Seconds until a replica serves, x 1.5, and where the storage's speed is from."""
    spec = fleet.spec
    if spec.cache.bandwidth:
        rate, source = spec.cache.bandwidth, "spec.cache.bandwidth"
    else:
        kind = "host-path" if spec.hardware.cloud == "local" else spec.cache.kind
        rate, source = weights_bandwidth(kind, spec.cache.storage_class)
    image = 0.0 if spec.hardware.cloud == "local" else IMAGE_BYTES / image_bandwidth(spec.hardware.cloud)
    weights = weights_bytes / max(1, rate)
    load = CPU_LOAD_S if setup.gpu.name == "cpu" else gpu_load_s(weights_bytes, setup.eager, setup.world)
    total = SAFETY * (image + weights + load)
    return StartupBudget(image_s=image, weights_s=weights, load_s=load, total_s=total), source


def gpu_load_s(weights_bytes: int, eager: bool, world: int) -> float:
    """Seconds that an engine on GPUs takes beside reading its weights from storage."""
    load = 30.0 + weights_bytes / (8 * GIB) + (0.0 if eager else COMPILE_S + GRAPHS_S)
    return load + (20.0 if world > 1 else 0.0)


def host_needs(fleet: Fleet, setup: EngineSetup, memory: GpuMemory) -> Host:
    """Memory and disk that one replica needs on its node, bytes."""
    disk = memory.weights.total
    shm = (2 * GIB + setup.world * GIB // 2) if setup.world > 1 else GIB // 4
    if setup.gpu.name == "cpu":
        kv = int(memory.kv_gib * GIB)
        host = int(disk * 1.25) + kv + 2 * GIB + shm
    else:
        # API server and engine core 2 GiB each, 3 GiB per worker, and page cache for one shard in flight.
        host = 4 * GIB + 3 * GIB * setup.world + min(disk, 8 * GIB) + shm
    volume = fleet.spec.cache.size or _round_up(int(disk * 1.2), GIB)
    ephemeral = 4 * GIB + (2 * GIB if not setup.eager else 0)
    return Host(fleet.spec.hardware.memory or _round_up(host, GIB), shm, ephemeral, volume)


def _round_up(value: int, to: int) -> int:
    return -(-value // to) * to

"""The command line of one replica: a Fleet's fields as `vllm serve` flags, for this machine.

Pure but for reading the CPU count. The simulated engine takes the same flags, so a fleet that starts under
`--engine sim` starts with the flags that real vLLM will see.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from seawall.domain.action import Plan
from seawall.domain.spec import Fleet
from seawall.errors import InputError
from seawall.local import gpus
from seawall.local.keeper import base_env

HOST = "127.0.0.1"
RANKS = (16, 32, 64, 128, 256, 320, 512)
"""vLLM's default for --max-lora-rank, and what else it takes (vllm/config/lora.py, 0.32)."""
QUIET = "/health,/metrics,/v1/models,/ping"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything a replica of one fleet is started with, but its port."""

    fleet: Fleet
    engine: str
    """`vllm` or `sim`."""
    program: tuple[str, ...]
    """What comes before the flags, the model among it."""
    env: Mapping[str, str]
    plan: Plan | None = None
    """What the fleet scales by where its spec names no target; None: its model's shape is not known offline."""
    gpus: int = 0
    """Devices that each replica is to be given."""
    adapters: Mapping[str, str] = field(default_factory=dict)
    """LoRA adapter -> folder."""
    lora_rank: int = 0
    """The largest rank among the adapters; 0: not known."""

    def command(self, port: int) -> tuple[list[str], dict[str, str]]:
        """argv and environment of a replica on `port`."""
        own = flags(self.fleet, lora_flags(self.fleet, self.adapters, self.lora_rank))
        return [*self.program, "--host", HOST, "--port", str(port), *own], dict(self.env)

    @property
    def loads(self) -> bool:
        """Adapters are loaded while it runs, not by its command line."""
        return self.fleet.spec.model.adapter_slots is not None


def flags(fleet: Fleet, lora: Sequence[str] = ()) -> list[str]:
    """The flags that the spec asks for. What is left out is vLLM's own default, but for three that keep promises:
    a drain on SIGTERM, a bounded queue, and no log line per health check."""
    spec, engine = fleet.spec, fleet.spec.engine
    args = ["--served-model-name", *fleet.served_names]
    args += ["--shutdown-timeout", str(round(spec.rollout.drain))]
    args += ["--max-num-queued-reqs", str(engine.max_queued_requests or queue_bound(fleet))]
    args += ["--disable-access-log-for-endpoints", QUIET]
    single: dict[str, float | None] = {
        "--max-model-len": spec.traffic.max_context,
        "--max-num-seqs": engine.max_num_seqs,
        "--max-num-batched-tokens": engine.max_num_batched_tokens,
        "--kv-cache-memory-bytes": engine.kv_cache_memory,
        "--tensor-parallel-size": spec.hardware.tensor_parallel or spec.hardware.gpus_per_replica,
        "--pipeline-parallel-size": spec.hardware.pipeline_parallel,
        "--data-parallel-size": spec.hardware.data_parallel,
    }
    if spec.hardware.gpu != "cpu":
        single["--gpu-memory-utilization"] = engine.gpu_memory_utilization
    for flag, value in single.items():
        if value is not None:
            args += [flag, str(value)]
    if spec.model.dtype != "auto":
        args += ["--dtype", spec.model.dtype]
    if spec.model.quantization not in (None, "none"):
        args += ["--quantization", str(spec.model.quantization)]
    if engine.kv_cache_dtype != "auto":
        args += ["--kv-cache-dtype", engine.kv_cache_dtype]
    args.append("--enable-prefix-caching" if engine.prefix_caching else "--no-enable-prefix-caching")
    if engine.enforce_eager:
        args.append("--enforce-eager")
    if spec.pool is not None and spec.pool.sleep:
        args.append("--enable-sleep-mode")
    return [*args, *lora, *engine.extra_args]


def lora_flags(fleet: Fleet, adapters: Mapping[str, str], rank: int) -> list[str]:
    """As rendered for a cluster; here the adapters' rank is known, and vLLM refuses one above its default of 16."""
    slots = fleet.spec.model.adapter_slots
    if slots is None and not adapters:
        return []
    args = ["--enable-lora", "--max-loras", str(slots or len(adapters))]
    if rank > RANKS[0] and "--max-lora-rank" not in fleet.spec.engine.extra_args:
        args += ["--max-lora-rank", str(next((r for r in RANKS if r >= rank), rank))]
    if slots is None:
        args += ["--lora-modules", *(f"{name}={path}" for name, path in adapters.items())]
    return args


def switches(fleet: Fleet) -> dict[str, str]:
    """Environment that opens the engine's own admin routes, only where the spec needs them. The engine listens on
    the loopback address alone, and the gateway passes none of them on."""
    pool, opened = fleet.spec.pool, {}
    if pool is not None and pool.sleep:
        opened["VLLM_SERVER_DEV_MODE"] = "1"
    if fleet.spec.model.adapter_slots is not None:
        opened["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
    return opened


def queue_bound(fleet: Fleet) -> int:
    """Waiting plus running that one engine accepts: four times what it decodes at once. The gateway sends less;
    this is the second line, for whoever talks to the engine directly."""
    return 4 * (fleet.spec.engine.max_num_seqs or 256)


def sim_recipe(fleet: Fleet) -> Recipe:
    """The simulated engine, of this same Python. It takes any folder for an adapter."""
    return Recipe(
        fleet=fleet,
        engine="sim",
        program=(sys.executable, "-m", "seawall", "engine", "sim", fleet.name),
        env=base_env() | switches(fleet) | fleet.spec.engine.env,
        adapters={a.name: a.source for a in fleet.spec.model.adapters},
    )


def vllm_recipe(fleet: Fleet, vllm: Path, model: Path, cache: Path) -> Recipe:
    """Real vLLM, from its own environment."""
    env = base_env() | {
        "PATH": f"{vllm.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_CACHE_ROOT": str(cache / "vllm"),
        "TOKENIZERS_PARALLELISM": "false",
    }
    if fleet.spec.hardware.gpu == "cpu":
        # nobind: replicas share the cores; a legacy VLLM_CPU_KVCACHE_SPACE would override --kv-cache-memory-bytes.
        env.pop("VLLM_CPU_KVCACHE_SPACE", None)
        env |= {
            "VLLM_TARGET_DEVICE": "cpu",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(threads(fleet, os.cpu_count() or 1)),
        }
        if not is_parallel(fleet):
            # The worker lives in the engine core's process. In one of its own the core spins while it waits for it:
            # twice the CPU per token, 25 s more at the start, 400 MB more. vLLM's reason for it is thread binding.
            env["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    for name in [n for n in env if n.startswith("VLLM_PORT")]:
        del env[name]
    return Recipe(
        fleet=fleet,
        engine="vllm",
        program=(str(vllm), "serve", str(model)),
        env=env | switches(fleet) | fleet.spec.engine.env,
        gpus=gpus.wanted(fleet),
    )


def is_parallel(fleet: Fleet) -> bool:
    """Whether one replica runs in several workers."""
    hardware = fleet.spec.hardware
    sizes = (
        hardware.tensor_parallel,
        hardware.pipeline_parallel,
        hardware.data_parallel,
        hardware.gpus_per_replica,
    )
    return any((size or 1) > 1 for size in sizes)


def threads(fleet: Fleet, cores: int) -> int:
    """OpenMP threads of one replica: the spec's CPU share, else the cores divided by the most replicas."""
    if fleet.spec.hardware.cpu:
        return max(1, round(fleet.spec.hardware.cpu))
    return max(1, cores // fleet.spec.scaling.max)


def own_vllm(env: Mapping[str, str] = os.environ) -> Path:
    """The user's own vLLM for GPUs: $SEAWALL_VLLM, or `vllm` on the PATH. InputError says how to get one."""
    if given := env.get("SEAWALL_VLLM"):
        path = Path(given)
        if os.access(path, os.X_OK):
            return path.absolute()
        raise InputError(
            f"SEAWALL_VLLM: {given} cannot be run.", "Set it to the `vllm` program of your environment."
        )
    if found := shutil.which("vllm", path=env.get("PATH")):
        return Path(found)
    raise InputError(
        "this fleet wants GPUs, and no `vllm` is on the PATH.",
        "Set SEAWALL_VLLM to your vllm program; or set hardware.gpu: cpu, or run with --engine sim.",
    )

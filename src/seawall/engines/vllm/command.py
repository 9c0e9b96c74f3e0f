"""`vllm serve`, spelt once: the command line and environment of one replica, on this machine and in a Pod.

Why: when the local mode and the renderer each spelt it, they drifted, and what was planned was not what started.
The numbers are the plan's (`decide/plan/limits.py`), the rest is the spec's; `EnginePlace` holds all that may differ
between two places. The simulated engine takes the same flags. Forbidden here: choosing a number, and reading this
machine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from seawall.decide.plan.limits import EngineLimits, limits_of
from seawall.domain.action import Plan
from seawall.domain.spec import Fleet
from seawall.engines.vllm import environment
from seawall.engines.vllm.versions import find_flag, parse_version

RANKS = (16, 32, 64, 128, 256, 320, 512)
"""vLLM's default for --max-lora-rank, and what else it takes (vllm/config/lora.py, 0.32)."""
QUIET = "/health,/metrics,/v1/models,/ping"
"""Routes that probes and scrapers ask all day: no log line each."""
WATCHDOG_S = 12
"""Seconds without a step: less than the 15 s in which an engine that computes nothing is found to be dead."""
OWNED = ("--port", "--host", "--headless", "--nnodes", "--node-rank", "--master-addr", "--shutdown-timeout")
"""What a user's own flags may not set: routing and draining stand on them."""


@dataclass(frozen=True, kw_only=True)
class NodeFlags:
    """How the nodes of a replica that spans several find each other."""

    count: str
    rank: str
    address: str
    port: int


@dataclass(frozen=True, kw_only=True)
class EnginePlace:
    """Where an engine runs: all of its command line that neither spec nor plan says."""

    program: tuple[str, ...]
    """What comes before the model: `vllm serve`."""
    model: str
    """The folder of the weights, or the bucket that they are streamed from."""
    port: int
    host: str | None = None
    """The address to listen on; None: all of them, as in a Pod."""
    drain_s: int | None = None
    """Where less than the spec's drain is left to a stopped engine: a spot node's notice."""
    ready_s: int | None = None
    """Seconds until it must serve; None: vLLM's own patience."""
    streamed: bool = False
    """The weights come out of a bucket while they are loaded."""
    adapters: Mapping[str, str] = field(default_factory=dict)
    """LoRA adapter -> folder."""
    lora_rank: int = 0
    """The largest rank among the adapters; 0: not known."""
    cores: int = 0
    """CPU cores of one replica, for an engine that computes on them."""
    nodes: NodeFlags | None = None
    headless: bool = False
    """A further node of a replica that spans several: it serves no HTTP."""
    env: Mapping[str, str] = field(default_factory=dict)
    """This place's own variables: caches, paths, devices."""
    stacks: str = ""
    """A folder for the stacks of an engine that stands still, where its vLLM writes them; empty: none."""


@dataclass(frozen=True, kw_only=True)
class ServeCommand:
    """What to execute. `args` follow `program`; the user's own come last, so that they win."""

    program: tuple[str, ...]
    args: tuple[str, ...]
    env: Mapping[str, str]

    @property
    def argv(self) -> list[str]:
        return [*self.program, *self.args]


def serve_command(fleet: Fleet, plan: Plan | None, place: EnginePlace) -> ServeCommand:
    """The command of one replica; without a plan (nobody knows the model's shape) the spec alone speaks."""
    limits = limits_of(fleet, plan)
    spec = fleet.spec
    args = [place.model, "--served-model-name", *fleet.served_names]
    args += _serving(fleet, limits, place)
    args += _parallel(limits, place)
    args += _memory(fleet, limits)
    args += _weights(fleet, limits, place)
    args += lora_flags(fleet, place.adapters, place.lora_rank)
    args.append("--enable-prefix-caching" if spec.engine.prefix_caching else "--no-enable-prefix-caching")
    if spec.engine.prefix_caching:
        args.append("--enable-prompt-tokens-details")  # how the gateway learns what the cache really had
    args += _media(fleet)
    args += _watchdog(fleet, place)
    if spec.engine.enforce_eager:
        args.append("--enforce-eager")
    if spec.pool is not None and spec.pool.sleep:
        args.append("--enable-sleep-mode")
    return ServeCommand(
        program=place.program,
        args=(*args, *spec.engine.extra_args),
        env={**place.env, **_environment(fleet, limits, place), **spec.engine.env},
    )


def _media(fleet: Fleet) -> list[str]:
    """Where the engine itself may fetch from. The gateway looks first; this holds behind a redirect, too."""
    hosts, flag = fleet.spec.gateway.media_hosts or [], "--allowed-media-domains"
    if not hosts or "*" in hosts or not _takes(fleet, flag):
        return []
    return [flag, *hosts]


def _watchdog(fleet: Fleet, place: EnginePlace) -> list[str]:
    """Since 0.33 vLLM writes the stacks of all threads when no step has ended for so long. It ends nothing by that: the
    stacks are there when those who go by evidence end it, half a minute later at the earliest."""
    flag = "--watchdog-config"
    if not place.stacks or not _takes(fleet, flag, unknown=False):
        return []
    told = {"timeout": WATCHDOG_S, "check_interval": 2, "dump_dir": place.stacks}
    return [flag, json.dumps(told, separators=(",", ":"))]


def _takes(fleet: Fleet, name: str, *, unknown: bool = True) -> bool:
    """Whether the fleet's vLLM knows a flag that its user has not set. `unknown`: of a version that nobody knows."""
    engine, flag = fleet.spec.engine, find_flag(name)
    version = parse_version(engine.version)
    known = flag is not None and (unknown if version is None else flag.known_to(version))
    return known and not any(arg == name or arg.startswith(f"{name}=") for arg in engine.extra_args)


def _serving(fleet: Fleet, limits: EngineLimits, place: EnginePlace) -> list[str]:
    """A drain on SIGTERM and a bounded queue are promises. Nothing is asked of vLLM that the gateway does itself: with
    --enable-force-include-usage every chunk of every stream would carry a count."""
    drain = math.ceil(fleet.spec.rollout.drain) if place.drain_s is None else place.drain_s
    out = [] if place.host is None else ["--host", place.host]
    out += ["--port", str(place.port), "--shutdown-timeout", str(drain)]
    out += ["--max-num-queued-reqs", str(limits.queue_bound)] if limits.queue_bound else []
    if fleet.spec.gateway.batch is not None and _takes(fleet, "--scheduling-policy"):
        out += ["--scheduling-policy", "priority"]  # lines of batches come last
    return [*out, "--disable-access-log-for-endpoints", QUIET]


def _parallel(limits: EngineLimits, place: EnginePlace) -> list[str]:
    out = ["--tensor-parallel-size", str(limits.tensor_parallel)]
    if limits.pipeline_parallel > 1:
        out += ["--pipeline-parallel-size", str(limits.pipeline_parallel)]
    if limits.data_parallel > 1:
        out += ["--data-parallel-size", str(limits.data_parallel)]
    if limits.expert_parallel:
        out.append("--enable-expert-parallel")
    if (nodes := place.nodes) is not None:
        out += ["--nnodes", nodes.count, "--node-rank", nodes.rank]
        out += ["--master-addr", nodes.address, "--master-port", str(nodes.port)]
        if place.headless:
            out.append("--headless")
    return out


def _memory(fleet: Fleet, limits: EngineLimits) -> list[str]:
    share = limits.gpu_memory_utilization
    rows = (
        ("--max-model-len", limits.max_model_len),
        ("--max-num-seqs", limits.max_num_seqs),
        ("--max-num-batched-tokens", limits.max_num_batched_tokens),
        ("--kv-cache-memory-bytes", limits.kv_cache_bytes),
        ("--gpu-memory-utilization", None if share is None else f"{share:g}"),
    )
    out = [word for flag, value in rows if value is not None for word in (flag, str(value))]
    dtype = fleet.spec.engine.kv_cache_dtype
    return out if dtype == "auto" else [*out, "--kv-cache-dtype", dtype]


def _weights(fleet: Fleet, limits: EngineLimits, place: EnginePlace) -> list[str]:
    """How the weights are read. Pickles can run code, so they are read only where the spec says so."""
    model, out = fleet.spec.model, []
    if limits.quantization is not None:
        out += ["--quantization", limits.quantization]
    if model.dtype != "auto":
        out += ["--dtype", model.dtype]
    if place.streamed:
        out += ["--revision", model.revision] if model.revision else []
        out += ["--load-format", "runai_streamer"]
        if limits.tensor_parallel > 1:
            out += ["--model-loader-extra-config", '{"distributed":true}']
    elif not model.allow_pickle and not model.source.endswith(".gguf"):
        mistral = weights_form(fleet.spec.engine.extra_args) == "mistral"
        out += ["--load-format", "mistral" if mistral else "safetensors"]
    return out


def weights_form(extra_args: Sequence[str]) -> Literal["hf", "mistral"]:
    """The copy of the weights that vLLM loads where a repository has Mistral's own beside Hugging Face's.

    Ours is Hugging Face's: without the consolidated files vLLM takes config.json, too. A user's flags come last and
    win; `--load-format auto` takes Mistral's, and `--config-format mistral` goes with its weights.
    """
    said: dict[str, str] = {}
    for flag, following in zip(extra_args, [*extra_args, ""][1:], strict=True):
        name, eq, value = flag.partition("=")
        if name.replace("_", "-") in ("--load-format", "--config-format"):
            said[name.replace("_", "-")] = value if eq else following
    own = said.get("--config-format", "auto")
    load = said.get("--load-format", "mistral" if own == "mistral" else "hf")
    return "mistral" if load == "mistral" or (load == "auto" and own != "hf") else "hf"


def lora_flags(fleet: Fleet, adapters: Mapping[str, str], rank: int) -> list[str]:
    """Adapters by the command line, or slots that they are loaded into later. vLLM refuses a rank above its default of
    16 unless it is told, so a known rank is."""
    slots = fleet.spec.model.adapter_slots
    if slots is None and not adapters:
        return []
    args = ["--enable-lora", "--max-loras", str(slots or len(adapters))]
    if rank > RANKS[0] and "--max-lora-rank" not in fleet.spec.engine.extra_args:
        args += ["--max-lora-rank", str(next((r for r in RANKS if r >= rank), rank))]
    if slots is None:
        args += ["--lora-modules", *(f"{name}={path}" for name, path in adapters.items())]
    return args


def _environment(fleet: Fleet, limits: EngineLimits, place: EnginePlace) -> dict[str, str]:
    """Offline and silent; admin routes only where the spec needs them (nobody but the gateway's side reaches an
    engine, and the gateway passes them on to nobody)."""
    spec, env = fleet.spec, {}
    if spec.engine.kind == "vllm":
        env = {
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            environment.NO_STATS: "1",
            "DO_NOT_TRACK": "1",
        }
        if place.ready_s is not None:
            # vLLM gives up after 600 s by itself, whatever the probes allow.
            env[environment.READY_TIMEOUT_S] = str(place.ready_s)
        if spec.hardware.gpu.lower() == "cpu":
            env |= _on_cpu(limits, place)
    if spec.pool is not None and spec.pool.sleep:
        env[environment.DEV_MODE] = "1"
    if spec.model.adapter_slots is not None:
        env[environment.LORA_UPDATES] = "True"
    return env


def _on_cpu(limits: EngineLimits, place: EnginePlace) -> dict[str, str]:
    """Threads: as many as the replica's cores, bound to none, because replicas share them."""
    env = {
        environment.TARGET_DEVICE: "cpu",
        environment.CPU_THREADS_BIND: "nobind",
        "OMP_NUM_THREADS": str(max(1, place.cores)),
    }
    if not limits.parallel:
        # The worker lives in the engine core's process. In one of its own the core spins while it waits for it:
        # twice the CPU per token, 25 s more at the start, 400 MB more. vLLM's reason for it is thread binding.
        env[environment.OWN_CORE_PROCESS] = "0"
    return env

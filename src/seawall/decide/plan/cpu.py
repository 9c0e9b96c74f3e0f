"""Planning for `gpu: cpu`: vLLM's CPU backend. Pure.

Weights and cache lie in host memory; the cache's size is set by hand (`kvCacheMemory`), because the
backend's default takes a share of the machine that a second replica then misses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from seawall.decide.plan.draw import draw
from seawall.decide.plan.kv import kept_blocks, layout
from seawall.decide.plan.memory import GpuMemory
from seawall.decide.plan.roofline import estimate, pair_flops
from seawall.decide.plan.setup import GIB, EngineSetup, batch_of, parse_version
from seawall.decide.plan.verdict import starved
from seawall.decide.plan.weights import DTYPE_BYTES, bytes_per_weight, weigh
from seawall.domain.action import Plan, Timing
from seawall.domain.catalog.gpus import Gpu
from seawall.domain.model import ModelConfig
from seawall.domain.spec import Fleet
from seawall.domain.units import show_bytes

CPU = Gpu("cpu", 64.0, 20.0, 0.1, 0.1, 10.0, 0.0, per_node=1)
DEFAULT_CACHE = 4 * GIB
"""Bytes of KV cache that serve small models well; older versions took them from VLLM_CPU_KVCACHE_SPACE."""
LEAST_CACHE = 64 * 2**20
OWN_BYTES = int(1.5 * GIB)
"""Bytes that vLLM itself takes beside weights and cache: at most 1.33 GiB were measured (0.32, a compiled model of 135M
parameters under a limit of 2 GiB), and some is left for requests."""
SURELY_OWN_BYTES = GIB
"""Bytes below which it was never seen, without compiling: a limit under that is refused."""
CORE_FLOPS = 60e9
"""bf16 operations per second of one core that a small model reaches."""
CORE_BANDWIDTH = 18e9
BASE_S = 0.004


def plan_cpu(fleet: Fleet, model: ModelConfig, calibration: Timing | None) -> Plan:
    """A replica on this machine's CPU: sizes exactly, speed roughly."""
    spec = fleet.spec
    asked = spec.traffic.max_context or model.context
    # vLLM's CPU backend has no kernels for GGUF: such a checkpoint is served from its 16 bit form.
    plain = _dequantized(model) if model.quantization and model.quantization.method == "gguf" else model
    weights = weigh(plain)
    cache = cache_of(fleet, weights.total)
    seqs, tokens = batch_of(spec.engine, 16, 2048)
    setup = EngineSetup(
        gpu=CPU,
        version=parse_version(spec.engine.version),
        utilization=1.0,
        max_model_len=asked,
        max_num_seqs=seqs,
        batched_tokens=tokens,
        eager=spec.engine.enforce_eager,
        kv_memory=cache,
        kv_dtype=spec.engine.kv_cache_dtype,
    )
    shape = layout(plain, setup)
    blocks = shape.blocks(cache)
    usable = max(0, blocks - kept_blocks(setup))
    longest = shape.longest(usable, model.context, setup)
    if spec.traffic.max_context is None and longest < asked and longest >= 1024:
        asked = longest // 1024 * 1024
        setup = replace(setup, max_model_len=asked)
    needed = shape.request_blocks(asked, setup) * shape.block_bytes / GIB
    budget = CpuBudget(
        weights=weights.total,
        cache=cache,
        needed=round(needed * GIB),
        longest=longest,
        short=shape.request_blocks(asked, setup) > usable,
    )
    verdict, reason = _judged(fleet, plain, setup, budget)
    memory = GpuMemory(
        weights=weights,
        weights_gib=weights.per_gpu / GIB,
        activation_gib=0.3,
        non_torch_gib=1.9,
        graphs_gib=0.0,
        kv_gib=cache / GIB,
        layout=shape,
        blocks=blocks,
        tokens=shape.tokens(blocks, asked, setup),
        concurrency=shape.concurrency(blocks, asked, setup),
        longest=longest,
        needed_gib=needed,
        verdict=verdict,
        reason=reason,
        tokens_range=(shape.tokens(blocks, asked, setup),) * 2,
    )
    return _to_plan(fleet, plain, setup, memory, calibration)


def cache_of(fleet: Fleet, weights_bytes: int) -> int:
    """Bytes of the KV cache: the spec's; else what is usual, as far as the replica's own memory limit leaves it."""
    engine, limit = fleet.spec.engine, fleet.spec.hardware.memory
    if engine.kv_cache_memory is not None or limit is None:
        return engine.kv_cache_memory or DEFAULT_CACHE
    return max(LEAST_CACHE, min(DEFAULT_CACHE, limit - weights_bytes - OWN_BYTES))


@dataclass(frozen=True, kw_only=True)
class CpuBudget:
    """Host memory of one replica, in bytes."""

    weights: int
    cache: int
    needed: int
    """Cache of one request of max_model_len."""
    longest: int
    """The longest context that the cache holds, in tokens."""
    short: bool
    """The cache does not hold one request."""


def _judged(fleet: Fleet, model: ModelConfig, setup: EngineSetup, b: CpuBudget) -> tuple[str, str]:
    """(verdict, reason with its cure)."""
    asked, limit = setup.max_model_len, fleet.spec.hardware.memory
    if 0 < model.reach < asked:
        return "invalid", (
            f"a context of {asked:,} tokens is beyond the model's own {model.reach:,}; set maxContext to {model.reach} "
            "or less, or give the model a rope_scaling"
        )
    if problem := starved(setup):
        return "invalid", f"{problem}; raise maxNumBatchedTokens to {setup.max_num_seqs}, or leave it out"
    least = b.weights + SURELY_OWN_BYTES + b.cache
    if limit is not None and least > limit:
        return "oom", (
            f"weights of {show_bytes(b.weights)}, a KV cache of {show_bytes(b.cache)} and vLLM's own gigabyte are more "
            f"than hardware.memory, {show_bytes(limit)}; raise it to {math.ceil(least / GIB + 0.5)}Gi"
            + (", or lower kvCacheMemory" if b.cache > LEAST_CACHE else "")
        )
    needs = f"one request of {asked:,} tokens needs {show_bytes(b.needed)}"
    if b.short:
        own = limit is None or fleet.spec.engine.kv_cache_memory is not None
        what = "kvCacheMemory" if own else "hardware.memory"
        return "refused", (
            f"{needs} of KV cache, and {what} gives {show_bytes(b.cache)}, a block of which vLLM keeps; "
            f"set maxContext to {b.longest} or raise {what}"
        )
    return "fits", f"{show_bytes(b.cache)} of KV cache, {needs}"


def _dequantized(model: ModelConfig) -> ModelConfig:
    return replace(model, quantization=None, checkpoint_bytes=None)


def _to_plan(
    fleet: Fleet, model: ModelConfig, setup: EngineSetup, memory: GpuMemory, calibration: Timing | None
) -> Plan:
    spec, weights = fleet.spec, memory.weights
    cores = spec.hardware.cpu or 1.0
    per_token = 2 * weights.active_parameters / (cores * CORE_FLOPS)
    step = calibration or Timing(
        base_s=BASE_S,
        prefill_token_s=per_token,
        decode_seq_s=per_token,
        weight_read_s=weights.per_gpu / (min(4.0, cores) * CORE_BANDWIDTH),
        kv_token_s=memory.layout.bytes_per_token / CORE_BANDWIDTH,
        prefill_pair_s=pair_flops(model) / (cores * CORE_FLOPS),
        source="rough estimate for one CPU",
    )
    speed = estimate(setup, memory, spec.traffic, step)
    # Without measured step times the roofline's knee says little on a CPU: a replica is run at its seats.
    saturating = speed.concurrency if calibration else speed.room
    rate = speed.tokens_per_s / max(1, spec.traffic.output_tokens)
    drawn = draw(fleet, model, "cpu", setup, memory, speed)
    q = model.quantization
    stored = q.format("mlp") if q is not None else None
    weight_bytes = bytes_per_weight(stored, DTYPE_BYTES[model.dtype])
    return replace(
        drawn,
        quantization=model.quantization.method if model.quantization else None,
        weights_bytes=int(weights.parameters * weight_bytes),
        gpu_memory_utilization=spec.engine.gpu_memory_utilization or 0.92,
        saturating_concurrency=saturating,
        scaling_target=spec.scaling.target or max(1.0, round(0.7 * saturating, 1)),
        engine_queue_bound=spec.engine.max_queued_requests or 2 * setup.max_num_seqs,
        gateway_queue_bound=spec.gateway.max_queued
        or max(64, math.ceil(60 * rate * max(1, spec.scaling.min))),
        notes=(
            *model.notes,
            step.told,
            *drawn.notes,
        ),
    )

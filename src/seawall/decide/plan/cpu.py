"""Planning for `gpu: cpu`: vLLM's CPU backend. Pure.

Weights and cache lie in host memory; the cache's size is set by hand (`kvCacheMemory`), because the
backend's default takes a share of the machine that a second replica then misses.
"""

from __future__ import annotations

import math
from dataclasses import replace

from seawall.decide.plan.draw import draw
from seawall.decide.plan.kv import layout
from seawall.decide.plan.memory import GpuMemory
from seawall.decide.plan.roofline import estimate, pair_flops
from seawall.decide.plan.setup import GIB, EngineSetup, parse_version
from seawall.decide.plan.weights import DTYPE_BYTES, bytes_per_weight, weigh
from seawall.domain.action import Plan, Timing
from seawall.domain.catalog.gpus import Gpu
from seawall.domain.model import ModelConfig
from seawall.domain.spec import Fleet

CPU = Gpu("cpu", 64.0, 20.0, 0.1, 0.1, 10.0, 0.0, per_node=1)
DEFAULT_CACHE = 4 * GIB
"""Bytes of KV cache that serve small models well; older versions took them from VLLM_CPU_KVCACHE_SPACE."""
CORE_FLOPS = 60e9
"""bf16 operations per second of one core that a small model reaches."""
CORE_BANDWIDTH = 18e9
BASE_S = 0.004


def plan_cpu(fleet: Fleet, model: ModelConfig, calibration: Timing | None) -> Plan:
    """A replica on this machine's CPU: sizes exactly, speed roughly."""
    spec = fleet.spec
    asked = spec.traffic.max_context or model.context
    cache = spec.engine.kv_cache_memory or DEFAULT_CACHE
    setup = EngineSetup(
        gpu=CPU,
        version=parse_version(spec.engine.version),
        utilization=1.0,
        max_model_len=asked,
        max_num_seqs=spec.engine.max_num_seqs or 16,
        batched_tokens=spec.engine.max_num_batched_tokens or 2048,
        eager=spec.engine.enforce_eager,
        kv_memory=cache,
        kv_dtype=spec.engine.kv_cache_dtype,
    )
    # vLLM's CPU backend has no kernels for GGUF: such a checkpoint is served from its 16 bit form.
    plain = _dequantized(model) if model.quantization and model.quantization.method == "gguf" else model
    weights = weigh(plain)
    shape = layout(plain, setup)
    blocks = shape.blocks(cache)
    longest = shape.longest(blocks, model.context, setup)
    if spec.traffic.max_context is None and longest < asked and longest >= 1024:
        asked = longest // 1024 * 1024
        setup = replace(setup, max_model_len=asked)
    needed = shape.request_blocks(asked, setup) * shape.block_bytes / GIB
    fits = needed <= cache / GIB
    reason = (
        f"{cache / GIB:.2f} GiB of KV cache, one request of {asked:,} tokens needs {needed:.2f} GiB"
        if fits
        else f"one request of {asked:,} tokens needs {needed:.2f} GiB of KV cache, kvCacheMemory gives "
        f"{cache / GIB:.2f}; set maxContext to {longest} or raise kvCacheMemory"
    )
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
        verdict="fits" if fits else "refused",
        reason=reason,
        tokens_range=(shape.tokens(blocks, asked, setup),) * 2,
    )
    return _to_plan(fleet, plain, setup, memory, calibration)


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

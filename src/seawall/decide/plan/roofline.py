"""How fast one replica is, from data sheets: prefill is bound by compute, decode by memory reads. Pure.

An estimate, and it says so; `seawall bench --calibrate` measures the same numbers. Efficiencies are
what served systems reach: 0.8 of the memory bandwidth (aiconfigurator's default), half of the dense FLOPS.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from seawall.decide.plan.memory import GpuMemory
from seawall.decide.plan.setup import EngineSetup
from seawall.domain.action import Timing
from seawall.domain.model import ModelConfig
from seawall.domain.spec import Traffic

BANDWIDTH_SHARE = 0.8
COMPUTE_SHARE = 0.5
KNEE = 0.9
"""Share of the best throughput at which a replica counts as saturated."""


@dataclass(frozen=True)
class Speed:
    """What one replica does at saturation. Seconds, output tokens per second, requests."""

    timing: Timing
    concurrency: int
    ttft_s: float
    tpot_s: float
    tokens_per_s: float
    bound: str
    room: int
    """Most requests that can run at once, by KV cache and max_num_seqs."""
    meets_slo: bool
    slo_reason: str


def timing(model: ModelConfig, setup: EngineSetup, memory: GpuMemory) -> Timing:
    """The numbers of an engine step, from the GPU's data sheet."""
    gpu, w = setup.gpu, memory.weights
    ranks = setup.tp * setup.dp
    eight_bit = model.quantization is not None and model.quantization.method in ("fp8", "int8", "nvfp4")
    flops = (gpu.tflops_8bit if eight_bit else gpu.tflops) * 1e12 * COMPUTE_SHARE
    layers = len(model.layers)
    per_token = 2 * w.active_parameters / ranks / flops
    base = 0.002
    if setup.tp > 1:
        # Two all-reduces per layer; each moves 2 (tp-1)/tp of one hidden state in each direction.
        moved = 2 * layers * 2 * (setup.tp - 1) / setup.tp * model.hidden * 2
        per_token += moved / (gpu.link_gbs / 2 * 1e9 * 0.7)
        base += 2 * layers * (8e-6 if gpu.link_gbs >= 300 else 2.5e-5)
    if setup.eager:
        base += 3e-5 * layers  # kernel launches, one by one
    if setup.pp > 1:
        base += 0.0005 * (setup.pp - 1)
    bandwidth = gpu.bandwidth_gbs * 1e9 * BANDWIDTH_SHARE
    read = sum(w.stages)
    if model.experts is not None:
        chosen = 1 - (1 - model.experts.used) ** 16
        read = int(w.read_per_token * setup.pp + (read - w.read_per_token * setup.pp) * chosen)
    kv = memory.layout.bytes_per_token * setup.pp / setup.dcp
    return Timing(
        base_s=base,
        prefill_token_s=per_token,
        decode_seq_s=per_token,
        weight_read_s=read / bandwidth,
        kv_token_s=kv / setup.dp / bandwidth,
        prefill_pair_s=pair_flops(model) / ranks / (gpu.tflops * 1e12 * COMPUTE_SHARE),
        source="roofline estimate",
    )


def pair_flops(model: ModelConfig) -> float:
    """Operations of one token's attention to one other, over all layers that look back without a bound: a multiply
    and an add per element for the scores and again for the values. Heads see the whole key in MLA's prefill too.
    Sliding and chunked layers attend to so many tokens at most: they do not make long prompts quadratic. Sparse
    attention does so only with its index."""
    latent, indexer = model.latent, model.indexer
    far = [layer for layer in model.layers if layer.kind in ("full", "shared")]
    if indexer is not None:
        indexed = [max(1, layer.ratio) for layer in model.layers if layer.indexed]
        return sum(2.0 * indexer.heads * indexer.head_dim / ratio for ratio in indexed)
    if latent is not None:
        return sum(2.0 * layer.heads * (latent.nope_dim + latent.rope_dim + latent.v_dim) for layer in far)
    return sum(2.0 * layer.heads * (layer.head_dim + layer.head_dim_v) for layer in far)


def prompt_s(t: Timing, tokens: float) -> float:
    """Seconds of compute for one whole prompt."""
    return tokens * t.prefill_token_s + tokens * tokens / 2 * t.prefill_pair_s


def step_s(t: Timing, running: float, traffic: Traffic) -> float:
    """Seconds of a steady step: every running request gets one token, and new prompts replace those that end."""
    prompts = running * traffic.prompt_tokens / max(1, traffic.output_tokens)
    held = running * (traffic.prompt_tokens + traffic.output_tokens / 2)
    return t.step_s(prompts, running, held, prompts * traffic.prompt_tokens / 2)


def estimate(setup: EngineSetup, memory: GpuMemory, traffic: Traffic, t: Timing) -> Speed:
    """Saturating concurrency and what it gives, for the fleet's traffic shape."""
    per_request = traffic.prompt_tokens + traffic.output_tokens
    shape = min(per_request, setup.max_model_len)
    room = max(1, int(memory.layout.room(memory.blocks, shape, setup) * setup.dp)) if memory.blocks else 1
    seats = setup.max_num_seqs * setup.dp
    limit = min(room, seats)
    allowed = _largest(limit, lambda n: step_s(t, n, traffic) <= traffic.slo.tpot)
    meets = allowed >= 1
    top = max(1, allowed)
    best = top / step_s(t, top, traffic)
    running = _smallest(top, lambda n: n / step_s(t, n, traffic) >= KNEE * best)
    tpot = step_s(t, running, traffic)
    ttft = t.base_s + max(prompt_s(t, traffic.prompt_tokens), t.weight_read_s) + tpot
    compute = running * (prompt_s(t, traffic.prompt_tokens) / max(1, traffic.output_tokens) + t.decode_seq_s)
    if running < top or (allowed == top and top < limit and compute > t.weight_read_s):
        bound = "compute" if compute > t.weight_read_s else "memory bandwidth"
    elif top < limit:
        bound = "TPOT objective"
    else:
        bound = "KV capacity" if room <= seats else "max_num_seqs"
    slo = ""
    if not meets:
        slo = f"one token takes {step_s(t, 1, traffic) * 1e3:.0f} ms, the objective is {traffic.slo.tpot * 1e3:.0f} ms"
    elif ttft > traffic.slo.ttft:
        meets, slo = False, f"a prompt takes {ttft:.2g} s, the objective is {traffic.slo.ttft:.2g} s"
    return Speed(t, running, ttft, tpot, running / tpot, bound, limit, meets, slo)


def _largest(limit: int, good: Callable[[int], bool]) -> int:
    """Largest n in 1..limit with good(n), good being true up to some n; 0 when never."""
    if not good(1):
        return 0
    low, high = 1, limit
    while low < high:
        mid = math.ceil((low + high) / 2)
        low, high = (mid, high) if good(mid) else (low, mid - 1)
    return low


def _smallest(limit: int, good: Callable[[int], bool]) -> int:
    """Smallest n in 1..limit with good(n), good being true from some n on; good(limit) holds."""
    low, high = 1, limit
    while low < high:
        mid = (low + high) // 2
        low, high = (low, mid) if good(mid) else (mid + 1, high)
    return low

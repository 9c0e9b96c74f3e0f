"""One GPU's memory, spent as vLLM spends it. Pure.

    total x utilization - weights - activation peak - non-torch (- CUDA graphs from 0.21) = KV cache

Formulas and constants were read off start-up logs of 0.6 to 0.30 and vLLM's sources; what each one is for
stands beside it. They are about tensors' shapes, not about single models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from seawall.decide.plan.kv import Layout, layout
from seawall.decide.plan.setup import GIB, Setup
from seawall.decide.plan.weights import DTYPE_BYTES, Weights, pad_vocab, weigh
from seawall.domain.model import ModelConfig

GRAPHS_INSIDE = (0, 20, 2)
"""From here CUDA graphs come out of the budget: 0.21, and the development builds that led to it."""
CONTEXT_GIB = 0.35
"""CUDA context and driver: gone before vLLM looks at free memory."""
MULTIMODAL_GIB = 0.13
"""Encoder cache and the tower's own activations at start-up (V1)."""


@dataclass(frozen=True)
class Memory:
    """GiB per GPU and what the cache holds. `verdict`: fits, tight, refused, oom, or invalid."""

    weights: Weights
    weights_gib: float
    activation_gib: float
    non_torch_gib: float
    graphs_gib: float
    kv_gib: float
    layout: Layout
    blocks: int
    tokens: int
    concurrency: float
    longest: int
    """The largest max_model_len that vLLM would accept."""
    needed_gib: float
    """KV cache of one request of max_model_len."""
    verdict: str
    reason: str

    @property
    def fits(self) -> bool:
        return self.verdict == "fits"


def sampler_bytes_per_logit(setup: Setup, dtype_bytes: int) -> float:
    """Bytes that sampling max_num_seqs x vocabulary logits peaks at.

    Up to 0.16 top-k/top-p sorted all logits (fp32 copies, int64 indices); from 0.17 it does not; the V2
    runner (0.30) keeps the logits, an fp32 copy and the probabilities.
    """
    if setup.version >= (0, 30, 0):
        base = 10.0
    elif setup.version >= (0, 17, 0):
        base = 14.8
    else:
        base = 38.4
    return base + (dtype_bytes - 2)


def activation_gib(model: ModelConfig, setup: Setup) -> float:
    """Peak of the profiling run: the larger of sampler and forward pass, plus the experts' workspace."""
    each = DTYPE_BYTES[model.dtype]
    tokens, h = setup.batched_tokens, model.hidden
    sampler = setup.max_num_seqs * model.vocab * sampler_bytes_per_logit(setup, each) + each * tokens * h
    widest = max((layer.intermediate for layer in model.layers), default=0)
    if model.experts is not None:
        widest = max(widest, model.experts.shared_intermediate)
    forward = each * tokens * (3 * widest / setup.tp + 4.3 * h)
    peak = max(sampler, forward)
    moe = model.experts
    if moe is not None and not (model.quantization and model.quantization.method == "mxfp4"):
        peak += each * tokens * moe.per_token * (h + 2 * moe.intermediate / setup.tp)
    if model.multimodal:
        # The V0 engine profiled as many image tokens as the context holds.
        peak += forward if setup.version < (0, 8, 0) else MULTIMODAL_GIB * GIB
    return peak / GIB


def non_torch_gib(setup: Setup) -> float:
    """NCCL, custom all-reduce and kernel workspaces outside of torch's allocator."""
    if setup.tp * setup.dp == 1:
        return 0.25 if setup.version >= (0, 18, 0) else 0.13
    nvlink = setup.gpu.link_gbs >= 300
    if setup.version >= (0, 18, 0):
        return (2.05 if nvlink else 1.0) + 0.03 * math.log2(setup.tp * setup.dp)
    # Before, only the all-reduce buffers of every peer; none without peer access.
    return 0.13 + 0.21 * setup.tp * setup.dp if nvlink else 0.3


def graphs_gib(model: ModelConfig, setup: Setup) -> float:
    """CUDA graphs: a pool that grows with layers and width, and with how many batch sizes are captured."""
    if setup.eager:
        return 0.0
    layers = math.ceil(len(model.layers) / setup.pp)
    each = 0.0064 + 0.00255 * model.hidden / 1024 / setup.tp
    full = 0.38 + layers * each * (1.8 if model.latent is not None else 1.0)  # MLA: more kernels per layer
    if model.experts is not None:
        full += 0.5
    largest = 1024 if model.architecture == "gpt_oss" else 512  # vLLM raises it for GPT-OSS
    captured = min(2 * setup.max_num_seqs, largest) / 512
    # V0 captured fewer sizes without piecewise graphs; the V2 runner (0.30) shares more of the pool.
    engine = 0.4 if setup.version >= (0, 30, 0) else 0.5 if setup.version < (0, 8, 0) else 1.0
    return full * engine * (0.25 + 0.75 * captured)


def headroom_gib(model: ModelConfig, setup: Setup, graphs: float) -> float:
    """What must stay free above the budget, or the process dies after its KV cache is allocated."""
    need = CONTEXT_GIB
    if setup.version < GRAPHS_INSIDE:
        need += graphs
        if setup.tp > 1 and setup.gpu.link_gbs < 100 and setup.version < (0, 18, 0) and not setup.eager:
            need += 0.8  # NCCL buffers that every captured graph keeps when there is no peer access
        if model.quantization is not None and model.quantization.method == "mxfp4":
            need += 2.0  # repacked expert weights leave torch's pool fragmented
    return need


def margin_gib(setup: Setup) -> float:
    """How far the forecast may be off before "fits" would be a lie: 2% of the GPU, 0.2 to 0.5 GiB."""
    return min(0.5, max(0.2, 0.02 * setup.gpu.memory_gib))


def spend(model: ModelConfig, setup: Setup) -> Memory:
    """How one GPU's memory goes when vLLM starts like this, and whether it starts."""
    if reason := invalid(model, setup):
        return _nothing(model, setup, "invalid", reason)
    weights = weigh(model, setup.tp, setup.pp, setup.dp, draft=setup.draft_tokens > 0)
    activation, outside = activation_gib(model, setup), non_torch_gib(setup)
    graphs = graphs_gib(model, setup)
    inside = graphs if setup.version >= GRAPHS_INSIDE else 0.0
    worst: tuple[int, float, Layout] | None = None
    for stage in range(setup.pp):
        own = weights.stages[stage] / GIB
        cache = setup.gpu.memory_gib * setup.utilization - own - activation - outside - inside
        if setup.kv_memory is not None:
            cache = setup.kv_memory / GIB
        shape = layout(model, setup, stage if setup.pp > 1 else None)
        blocks = shape.blocks(cache * GIB)
        if worst is None or blocks < worst[0]:
            worst = (blocks, cache, shape)
    assert worst is not None
    blocks, cache, shape = worst
    # vLLM 0.13 to 0.15 compared every stage's memory with the need of all layers.
    check = (
        layout(model, replace(setup, pp=1))
        if setup.pp > 1 and (0, 13, 0) <= setup.version < (0, 16, 0)
        else shape
    )
    check_blocks = check.blocks(cache * GIB)
    need_blocks = check.request_blocks(setup.max_model_len, setup)
    needed = need_blocks * check.block_bytes / GIB
    longest = check.longest(check_blocks, max(model.context, setup.max_model_len), setup)
    verdict, reason = _verdict(
        model, setup, cache, needed, longest, headroom_gib(model, setup, graphs), weights
    )
    return Memory(
        weights=weights,
        weights_gib=weights.per_gpu / GIB,
        activation_gib=activation,
        non_torch_gib=outside,
        graphs_gib=graphs,
        kv_gib=cache,
        layout=shape,
        blocks=blocks,
        tokens=shape.tokens(blocks, setup.max_model_len, setup),
        concurrency=shape.concurrency(blocks, setup.max_model_len, setup),
        longest=longest,
        needed_gib=needed,
        verdict=verdict,
        reason=reason,
    )


def invalid(model: ModelConfig, setup: Setup) -> str:
    """Why vLLM refuses the split whatever the memory; empty when it does not."""
    tp, heads, kv = setup.tp, model.heads, model.kv_heads
    if heads and heads % tp:
        return f"tensor parallel {tp} does not divide {heads} attention heads"
    if kv and model.latent is None and kv % tp and tp % kv:
        return f"tensor parallel {tp} and {kv} KV heads do not divide each other"
    if pad_vocab(model.vocab) % tp:
        return f"tensor parallel {tp} does not divide the vocabulary of {model.vocab}"
    if problem := _uneven(model, setup):
        return problem
    if setup.pp > len(model.layers):
        return f"{setup.pp} pipeline stages are more than {len(model.layers)} layers"
    if setup.dcp > 1 and tp % setup.dcp:
        return f"decode-context parallel {setup.dcp} does not divide tensor parallel {tp}"
    if setup.ep and model.experts is None:
        return "expert parallelism needs a mixture of experts"
    return ""


def _uneven(model: ModelConfig, setup: Setup) -> str:
    """Why a rank's share of a matrix cannot be cut: sizes, and the blocks that share a scale."""
    q, tp = model.quantization, setup.tp
    block = 1
    if q is not None and q.group > 1:
        block = math.isqrt(q.group) if q.method == "fp8" else q.group
    widths = {layer.intermediate for layer in model.layers if layer.intermediate}
    if q is not None and "mlp" in q.kept:
        widths = set()
    if model.experts is not None and not setup.ep and not (q and q.method == "mxfp4"):
        widths.add(model.experts.intermediate)
    for width in sorted(widths):
        if width % tp:
            return f"tensor parallel {tp} does not divide the MLP's width of {width}"
        if q is not None and q.method in ("fp8", "awq", "gptq") and tp > 1 and width // tp % block:
            return (
                f"tensor parallel {tp} cuts the MLP's width of {width} into {width // tp}, "
                f"which is not a multiple of the {q.method} block of {block}"
            )
    return ""


def _verdict(
    model: ModelConfig,
    setup: Setup,
    cache: float,
    needed: float,
    longest: int,
    headroom: float,
    weights: Weights,
) -> tuple[str, str]:
    gpu, own = setup.gpu, weights.per_gpu / GIB
    if 0 < model.reach < setup.max_model_len:
        return (
            "invalid",
            f"a context of {setup.max_model_len:,} tokens is beyond the model's own {model.reach:,}",
        )
    if own > gpu.memory_gib - CONTEXT_GIB:
        return "oom", f"weights alone take {own:.1f} GiB of {gpu.memory_gib:.1f} GiB per GPU"
    if cache <= 0:
        return "oom", f"weights {own:.1f} GiB leave no memory for a KV cache ({cache:.1f} GiB)"
    above = gpu.memory_gib * (1 - setup.utilization)
    if above < headroom - 1e-9 and setup.kv_memory is None:
        return "oom", (
            f"gpu_memory_utilization {setup.utilization:g} leaves {above:.1f} GiB above the budget; "
            f"{headroom:.1f} GiB are needed there"
        )
    if needed > cache:
        return "refused", (
            f"{cache:.1f} GiB left for KV cache, one request of {setup.max_model_len:,} tokens needs {needed:.1f} GiB; "
            f"at most {longest:,} tokens are accepted"
        )
    margin = margin_gib(setup) if setup.kv_memory is None else 0.0
    if needed > cache - margin:
        return "tight", (
            f"{cache:.1f} GiB for KV cache and {needed:.1f} GiB needed: nearer than the forecast's margin, "
            f"{margin:.1f} GiB"
        )
    return (
        "fits",
        f"{cache:.1f} GiB left for KV cache, one request of {setup.max_model_len:,} tokens needs {needed:.1f} GiB",
    )


def _nothing(model: ModelConfig, setup: Setup, verdict: str, reason: str) -> Memory:
    weights = weigh(model, 1, 1)
    return Memory(
        weights, weights.per_gpu / GIB / max(1, setup.world), 0, 0, 0, 0, layout(model, replace(setup, tp=1, pp=1)),
        0, 0, 0.0, 0, 0.0, verdict, reason,
    )  # fmt: skip

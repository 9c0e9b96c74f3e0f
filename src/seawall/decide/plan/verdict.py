"""What a forecast of memory comes to: fits, tight, refused, oom, unknown or invalid, and the sentence that says why.

"Does not fit" (`oom`, `refused`) is only said when the forecast's whole range agrees; `fits` likewise. In between it
is `tight`; where the architecture or the GPU itself is a guess, `unknown`. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from seawall.decide.plan.certainty import Certainty
from seawall.decide.plan.setup import EngineSetup
from seawall.decide.plan.weights import pad_vocab
from seawall.domain.model import ModelConfig

CONTEXT_GIB = 0.35
"""CUDA context and driver: gone before vLLM looks at free memory."""
CHECKS_FREE = (0, 9, 0)
"""From here vLLM refuses to start when less than its budget is free; before it went ahead."""
HEADROOM_DOUBT_GIB = 0.15


@dataclass(frozen=True, kw_only=True)
class Budget:
    """GiB per GPU as they were worked out."""

    weights: float
    cache: float
    off: float
    """Half-width of `cache`."""
    needed: float
    """Cache of one request of max_model_len."""
    longest: int
    headroom: float
    """What must stay free above the budget."""


def judge(model: ModelConfig, setup: EngineSetup, b: Budget, sure: Certainty) -> tuple[str, str]:
    """(verdict, reason)."""
    if 0 < model.reach < setup.max_model_len:
        return (
            "invalid",
            f"a context of {setup.max_model_len:,} tokens is beyond the model's own {model.reach:,}",
        )
    verdict, reason = _judged(setup, b)
    if verdict in ("oom", "refused", "tight") and not sure.known:
        why = sure.doubts[0].why if sure.doubts else "a guess"
        return "unknown", f"{reason}; but that is a guess, off by up to {b.off:.1f} GiB: {why}"
    if verdict == "tight" and sure.doubts:
        reason += f" ({sure.doubts[0].why})"
    return verdict, reason


def _judged(setup: EngineSetup, b: Budget) -> tuple[str, str]:
    gpu = setup.gpu
    if b.weights - b.off > gpu.memory_gib - CONTEXT_GIB:
        return "oom", f"weights alone take {b.weights:.1f} GiB of {gpu.memory_gib:.1f} GiB per GPU"
    if b.cache + b.off <= 0:
        return "oom", f"weights {b.weights:.1f} GiB leave no memory for a KV cache ({b.cache:.1f} GiB)"
    above = gpu.memory_gib * (1 - setup.utilization)
    short = b.headroom - above if setup.kv_memory is None else 0.0
    if short > 1e-9:
        told = (
            f"gpu_memory_utilization {setup.utilization:g} leaves {above:.1f} GiB above the budget; "
            f"{b.headroom:.1f} GiB are needed there"
        )
        return ("oom" if short > HEADROOM_DOUBT_GIB and setup.version >= CHECKS_FREE else "tight"), told
    if b.needed > b.cache + b.off:
        return "refused", (
            f"{max(0.0, b.cache):.1f} GiB left for KV cache, one request of {setup.max_model_len:,} tokens needs "
            f"{b.needed:.1f} GiB; at most {b.longest:,} tokens are accepted"
        )
    if b.needed > b.cache - b.off:
        return "tight", (
            f"{b.cache:.1f} GiB for KV cache and {b.needed:.1f} GiB needed: nearer than the forecast is sure of, "
            f"{b.off:.1f} GiB"
        )
    return (
        "fits",
        f"{b.cache:.1f} GiB left for KV cache, one request of {setup.max_model_len:,} tokens needs {b.needed:.1f} GiB",
    )


def invalid(model: ModelConfig, setup: EngineSetup) -> str:
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
    if (
        setup.dcp > 1
        and kv
        and heads
        and model.latent is None
        and (problem := _context_split(setup, heads, kv))
    ):
        return problem
    if setup.ep and model.experts is None:
        return "expert parallelism needs a mixture of experts"
    return starved(setup)


def _context_split(setup: EngineSetup, heads: int, kv: int) -> str:
    """Why KV heads cannot be shared out over contexts: ranks that hold the same heads split the context between them
    (vllm/config/model.py, verify_with_parallel_config)."""
    tp, dcp = setup.tp, setup.dcp
    if tp <= kv:
        return f"decode-context parallel {dcp} needs tensor parallel above {kv} KV heads, not {tp}"
    if dcp > tp // kv:
        return f"decode-context parallel is at most {tp // kv} with tensor parallel {tp} and {kv} KV heads"
    if heads // kv % dcp:
        return f"decode-context parallel {dcp} does not divide {heads // kv} query heads per KV head"
    return ""


def starved(setup: EngineSetup) -> str:
    """Why vLLM's scheduler refuses the batch; empty when it does not (vllm/config/scheduler.py)."""
    if setup.batched_tokens >= setup.max_num_seqs:
        return ""
    return (
        f"a batch of {setup.batched_tokens} tokens cannot give each of {setup.max_num_seqs} sequences its token "
        "(maxNumBatchedTokens is below maxNumSeqs)"
    )


def _uneven(model: ModelConfig, setup: EngineSetup) -> str:
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

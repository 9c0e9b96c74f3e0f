"""How many bytes of weights each GPU holds, from the model's shape, its storage format and the split. Pure.

Tensor parallelism divides linear layers and the vocabulary; KV projections are repeated when there are
fewer KV heads than ranks; norms, routers and MLA's down-projections are whole on every rank. Pipeline
stages hold whole layers, the first one the embedding, the last one lm_head (vLLM: distributed/utils.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from seawall.domain.model import CheckpointQuantization, Layer, ModelConfig

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, "auto": 2}


@dataclass(frozen=True)
class Weights:
    """Bytes of weights: in all (one copy of the model), and of the fullest GPU."""

    total: int
    """Of the checkpoint's loaded tensors, drafts excluded."""
    per_gpu: int
    stages: tuple[int, ...]
    """Per GPU of each pipeline stage."""
    read_per_token: int
    """Bytes per GPU that one decode step reads at batch 1: all but unchosen experts."""
    active_parameters: int
    """Parameters that one token passes through."""
    parameters: int


@dataclass(frozen=True)
class _Part:
    """Parameters of one tensor group: whole, and as one rank holds them."""

    whole: float
    rank: float
    bytes_each: float
    used: float = 1.0
    """Share that one token reads."""


def stage_layers(count: int, stages: int) -> list[int]:
    """Layers per pipeline stage: even, the rest to the last but one stages (vLLM: get_pp_indices)."""
    sizes = [count // stages] * stages
    for i in range(2, count % stages + 2):
        sizes[-i if i <= stages else -1] += 1
    return sizes


def bytes_per_weight(q: CheckpointQuantization | None, plain: int) -> float:
    """Bytes of one quantized weight with its scales and zero points."""
    if q is None:
        return plain
    scales = {
        "awq": 2.5,
        "gptq": 2.1,
        "fp8": 4.0,
        "int8": 2.0,
        "mxfp4": 1.0,
        "nvfp4": 1.0,
        "bitsandbytes": 1.15,
    }
    if q.method == "gguf":
        return q.bits / 8
    return q.bits / 8 + (scales.get(q.method, 2.0) / q.group if q.group else 0.0)


def pad_vocab(vocab: int) -> int:
    """vLLM pads the vocabulary to a multiple of 64."""
    return -(-vocab // 64) * 64


def attention_parameters(model: ModelConfig, layer: Layer, tp: int) -> tuple[float, float]:
    """(whole, per rank) parameters of one layer's attention projections."""
    h = model.hidden
    latent = model.latent
    if latent is not None and layer.kind in ("full", "shared"):
        qk = latent.nope_dim + latent.rope_dim
        down = h * (latent.kv_lora_rank + latent.rope_dim)
        up = latent.kv_lora_rank * layer.heads * (latent.nope_dim + latent.v_dim)
        out = layer.heads * latent.v_dim * h
        if latent.q_lora_rank:
            down += h * latent.q_lora_rank
            up += latent.q_lora_rank * layer.heads * qk
        else:
            up += h * layer.heads * qk
        if model.indexer is not None:
            q_in = latent.q_lora_rank or h
            down += q_in * model.indexer.heads * model.indexer.head_dim + h * (
                model.indexer.head_dim + model.indexer.heads
            )
        return down + up + out, down + (up + out) / tp
    dim = layer.head_dim
    q_and_o = (3 if model.gated_attention else 2) * h * layer.heads * dim
    if layer.kind == "shared":
        return q_and_o, q_and_o / tp
    kv = h * layer.kv_heads * (dim + layer.head_dim_v)
    kv_rank = kv / layer.kv_heads * max(1.0, layer.kv_heads / tp) if layer.kv_heads else 0.0
    return q_and_o + kv, q_and_o / tp + kv_rank


def _layer_parts(model: ModelConfig, layer: Layer, tp: int, expert_ranks: int) -> list[_Part]:
    plain = DTYPE_BYTES[model.dtype]
    q = model.quantization
    small = bytes_per_weight(q, plain)
    linear = plain if q is not None and q.experts_only else small
    h = model.hidden
    parts = [_Part(2 * h, 2 * h, plain)]
    if layer.kind == "recurrent":
        if model.recurrent is not None:
            each = linear if q is None or q.attention else plain
            parts.append(_Part(model.recurrent.parameters, model.recurrent.parameters / tp, each))
    elif layer.kind != "none":
        whole, rank = attention_parameters(model, layer, tp)
        each = linear if q is None or q.attention else plain
        parts.append(_Part(whole, rank, each))
    if layer.experts and model.experts is not None:
        moe = model.experts
        width = float(h)
        each = 3.0 * h * moe.intermediate
        rank_each = each
        if (
            q is not None and q.method == "mxfp4"
        ):  # Marlin pads both sides: hidden to 256, the rank's width to 128
            ranks = 1 if expert_ranks != tp else tp
            padded = -(-(moe.intermediate / ranks) // 128) * 128 * ranks
            rank_each = 3.0 * (-(-width // 256) * 256) * padded
        parts.append(
            _Part(moe.count * each, moe.count * rank_each / expert_ranks, small, moe.per_token / moe.count)
        )
        parts.append(_Part(moe.count * h, moe.count * h, plain))
        if moe.shared_intermediate:
            shared = 3.0 * h * moe.shared_intermediate
            parts.append(_Part(shared, shared / tp, linear if q is None or q.shared_experts else plain))
    elif layer.intermediate:
        mlp = (3.0 if model.gated_mlp else 2.0) * h * layer.intermediate
        parts.append(_Part(mlp, mlp / tp, linear))
    return parts


def _absorbed(model: ModelConfig, tp: int) -> float:
    """Bytes per layer of MLA's up-projections kept a second time in 16 bit, for decoding in latent space."""
    latent = model.latent
    if latent is None:
        return 0.0
    return 2.0 * latent.kv_lora_rank * model.heads * (latent.nope_dim + latent.v_dim) / tp


def weigh(model: ModelConfig, tp: int = 1, pp: int = 1, dp: int = 1, draft: bool = False) -> Weights:
    """Bytes of weights for one split. Expert and tensor split of experts hold the same share per rank.

    When the checkpoint's exact size is known, the computed shares are scaled to it.
    """
    plain = DTYPE_BYTES[model.dtype]
    q = model.quantization
    head_bytes = bytes_per_weight(q, plain) if q is not None and q.head else plain
    vocab = pad_vocab(model.vocab) * model.hidden
    expert_ranks = tp * dp
    per_layer = [_layer_parts(model, layer, tp, expert_ranks) for layer in model.layers]
    draft_parts = [p for _ in range(model.draft_layers) for p in (per_layer[-1] if per_layer else [])]
    embed = _Part(vocab, vocab / tp, head_bytes, 0.0)
    head = _Part(vocab, vocab / tp, head_bytes)
    tower = _Part(model.extra_parameters, model.extra_parameters / tp, plain, 0.0)
    stages = []
    at = 0
    for s, size in enumerate(stage_layers(len(model.layers), pp)):
        parts = [p for layer in per_layer[at : at + size] for p in layer]
        at += size
        if s == 0:
            parts += [embed, tower]
        if s == pp - 1:
            parts += draft_parts if draft else []
            if not model.tied or pp > 1:
                parts.append(head)
        stages.append(parts)
    everything = [p for layer in per_layer for p in layer] + [embed, tower] + ([] if model.tied else [head])
    total = sum(p.whole * p.bytes_each for p in everything)
    scale = 1.0
    if model.checkpoint_bytes:
        with_draft = total + sum(p.whole * p.bytes_each for p in draft_parts)
        scale = model.checkpoint_bytes / with_draft
        if (
            not 0.6 < scale < 1.6
        ):  # another model's index, or weights stored in a wider dtype than they are loaded in
            scale = 1.0
    tables = model.rope_elements * plain
    sizes = tuple(
        int(scale * sum(p.rank * p.bytes_each for p in parts) + tables + size * _absorbed(model, tp))
        for parts, size in zip(stages, stage_layers(len(model.layers), pp), strict=True)
    )
    read = max(sum(p.rank * p.bytes_each * p.used for p in parts) for parts in stages) * scale
    read += head.rank * head.bytes_each if model.tied else 0
    active = sum(p.whole * p.used for p in everything) + (vocab if model.tied else 0)
    return Weights(
        total=int(total * scale),
        per_gpu=max(sizes),
        stages=sizes,
        read_per_token=int(read),
        active_parameters=int(active),
        parameters=int(sum(p.whole for p in everything)),
    )

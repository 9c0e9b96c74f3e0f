"""How many bytes of weights each GPU holds, from the model's shape, its storage format and the split. Pure.

Tensor parallelism divides linear layers and the vocabulary; KV projections are repeated when there are
fewer KV heads than ranks; norms, routers and MLA's down-projections are whole on every rank. Pipeline
stages hold whole layers, the first one the embedding, the last one lm_head (vLLM: distributed/utils.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from seawall.domain.model import Format, Layer, ModelConfig

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, "auto": 2}


@dataclass(frozen=True)
class Weights:
    """Bytes of weights: in all (one copy of the model), and of the fullest GPU."""

    total: int
    """Bytes of the checkpoint's loaded tensors, drafts excluded."""
    per_gpu: int
    stages: tuple[int, ...]
    """Bytes per GPU, for each pipeline stage."""
    read_per_token: int
    """Bytes per GPU that one decode step reads at batch 1: all but unchosen experts."""
    active_parameters: int
    """Parameters that one token passes through: no embedding, and only the experts that it is routed to."""
    parameters: int
    layers: tuple[int, ...] = ()
    """Bytes per GPU of each layer."""
    embedding: int = 0
    """Parameters of the input embedding where it is not the head too: what some model cards count as active."""


@dataclass(frozen=True)
class Part:
    """Parameters of one group of tensors: whole, and as one rank holds them."""

    name: str
    """One of `domain.model.PARTS`; empty: kept in the model's own dtype by every checkpoint."""
    whole: float
    rank: float
    used: float = 1.0
    """Share of these weights that one token reads."""
    bytes_each: float = 0.0
    """Bytes of one number, where it is stored like this whatever the checkpoint says (hyper-connections in 32 bit)."""


def stage_layers(count: int, stages: int) -> list[int]:
    """Layers per pipeline stage: even, the rest to the last but one stages (vLLM: get_pp_indices)."""
    sizes = [count // stages] * stages
    for i in range(2, count % stages + 2):
        sizes[-i if i <= stages else -1] += 1
    return sizes


_SCALES = {
    "awq": 2.5, "gptq": 2.1, "fp8": 4.0, "mxfp8": 1.0, "int8": 2.0, "mxfp4": 1.0, "nvfp4": 1.0, "bitsandbytes": 1.15,
}  # fmt: skip
"""Bytes of scale (and zero point) per group."""


def bytes_per_weight(stored: Format | None, plain: int) -> float:
    """Bytes of one weight with its scales and zero points; None: not quantized."""
    if stored is None:
        return plain
    if stored.method == "gguf":
        return stored.bits / 8
    return stored.bits / 8 + (_SCALES.get(stored.method, 2.0) / stored.group if stored.group else 0.0)


def pad_vocab(vocab: int) -> int:
    """The vocabulary's size as vLLM pads it: a multiple of 64."""
    return -(-vocab // 64) * 64


def attention_parts(model: ModelConfig, layer: Layer, tp: int) -> list[Part]:
    """One layer's attention projections."""
    h = model.hidden
    if layer.kind == "compressed" and model.compressed is not None:
        return _compressed_parts(model, layer, tp)
    latent = model.latent
    out = _index_parts(model, layer)
    if latent is not None and layer.kind in ("full", "shared"):
        qk, heads = latent.nope_dim + latent.rope_dim, layer.heads
        down = h * (latent.kv_lora_rank + latent.rope_dim)
        up = latent.kv_lora_rank * heads * (latent.nope_dim + latent.v_dim)
        back = heads * latent.v_dim * h
        out += [Part("kv_a", down, down), Part("kv_b", up, up / tp), Part("o", back, back / tp)]
        if latent.gated:
            out.append(Part("gate", back, back / tp))
        if latent.q_lora_rank:
            q_down = h * latent.q_lora_rank
            out.append(Part("q_a", q_down, q_down))
        queries = (latent.q_lora_rank or h) * heads * qk
        return [*out, Part("q_b" if latent.q_lora_rank else "q", queries, queries / tp)]
    wide = layer.heads * layer.head_dim
    queries = model.query_rank * (h + wide) if model.query_rank else h * wide
    if model.gated_attention:
        queries += h * wide
    back = h * layer.heads * (layer.head_dim_v or layer.head_dim)
    out += [Part("q", queries, queries / tp), Part("o", back, back / tp)]
    if layer.kind != "shared" and layer.kv_heads:
        each = h * (layer.head_dim + layer.head_dim_v)
        out.append(Part("kv", each * layer.kv_heads, each * max(1.0, layer.kv_heads / tp)))
    return out


def _index_parts(model: ModelConfig, layer: Layer) -> list[Part]:
    """Sparse attention's index: its queries, its keys and a weight per head, whole on every rank."""
    index, h = model.indexer, model.hidden
    if index is None or not layer.indexed:
        return []
    low = model.latent.q_lora_rank if model.latent is not None else 0
    queries = (h if index.separate_query else low or h) * index.heads * index.head_dim
    whole = queries + h * (index.head_dim + (0 if index.separate_query else index.heads))
    return [Part("indexer", whole, whole)]


def _compressed_parts(model: ModelConfig, layer: Layer, tp: int) -> list[Part]:
    """DeepSeek V4's attention: low-rank queries and outputs, one key for all heads, compressors and an index."""
    own, h, dim = model.compressed, model.hidden, layer.head_dim
    assert own is not None
    wide = layer.heads * dim
    q_down, q_up, keys = h * own.q_lora_rank, own.q_lora_rank * wide, h * dim
    o_down, o_up = wide * own.o_lora_rank, own.o_groups * own.o_lora_rank * h
    out = [
        Part("q_a", q_down, q_down), Part("q_b", q_up, q_up / tp), Part("kv_a", keys, keys),
        Part("o_a", o_down, o_down / tp), Part("o", o_up, o_up / tp),
    ]  # fmt: skip
    if layer.ratio:
        # Keys and scores of every entry; those of 4 tokens overlap, and take two of each.
        each = 2 * h * (2 if layer.ratio == 4 else 1)
        out.append(Part("", each * dim, each * dim))
        if model.indexer is not None and layer.indexed:
            index = model.indexer
            queries = own.q_lora_rank * index.heads * index.head_dim
            rest = h * index.heads + each * index.head_dim
            out += [Part("indexer", queries, queries), Part("", rest, rest)]
    mixing = 2 * (2 + own.streams) * own.streams * own.streams * h if own.streams > 1 else 0
    return [*out, Part("", mixing, mixing, 1.0, 4.0)]


def _layer_parts(model: ModelConfig, layer: Layer, tp: int, expert_ranks: int) -> list[Part]:
    h = model.hidden
    parts = [Part("", 2 * h, 2 * h)]
    if model.recurrent is not None and (layer.kind == "recurrent" or layer.state):
        parts.append(Part("state", model.recurrent.parameters, model.recurrent.parameters / tp))
    if layer.again:
        return parts
    if layer.kind not in ("recurrent", "none"):
        parts += attention_parts(model, layer, tp)
    if layer.experts and model.experts is not None:
        parts += _expert_parts(model, tp, expert_ranks)
    if layer.intermediate:
        mlp = (3.0 if model.gated_mlp else 2.0) * h * layer.intermediate
        parts.append(Part("mlp", mlp, mlp / tp))
    return parts


def _expert_parts(model: ModelConfig, tp: int, expert_ranks: int) -> list[Part]:
    moe, h, q = model.experts, model.hidden, model.quantization
    assert moe is not None
    width = moe.latent or h
    each = float(moe.matrices * width * moe.intermediate)
    rank_each = each
    if (
        q is not None and q.method == "mxfp4"
    ):  # Marlin pads both sides: hidden to 256, the rank's width to 128
        ranks = 1 if expert_ranks != tp else tp
        padded = -(-(moe.intermediate / ranks) // 128) * 128 * ranks
        rank_each = moe.matrices * float(-(-width // 256) * 256) * padded
    parts = [
        Part("experts", moe.count * each, moe.count * rank_each / expert_ranks, moe.used),
        Part("", (moe.count + moe.idle) * h, (moe.count + moe.idle) * h),  # the router
    ]
    if moe.latent:
        parts.append(Part("latent", 2 * h * moe.latent, 2 * h * moe.latent))
    if moe.shared_intermediate:
        shared = float(moe.matrices * h * moe.shared_intermediate)
        parts.append(Part("shared", shared, shared / tp))
    return parts


def _absorbed(model: ModelConfig, tp: int) -> float:
    """Bytes per layer of MLA's up-projections kept a second time in 16 bit, for decoding in latent space."""
    latent = model.latent
    if latent is None or latent.expanded:
        return 0.0
    return 2.0 * latent.kv_lora_rank * model.heads * (latent.nope_dim + latent.v_dim) / tp


def weigh(
    model: ModelConfig, tp: int = 1, pp: int = 1, dp: int = 1, *, draft: bool = False, towers: bool = True
) -> Weights:
    """Bytes of weights for one split. Expert and tensor split of experts hold the same share per rank.

    `draft`: with multi-token-prediction layers; `towers` False: without encoders.

    When the checkpoint's exact size is known, the computed shares are scaled to it.
    """
    plain = DTYPE_BYTES[model.dtype]
    vocab = pad_vocab(model.vocab) * model.hidden
    per_layer = [
        [_priced(model, p, i, plain) for p in _layer_parts(model, layer, tp, tp * dp)]
        for i, layer in enumerate(model.layers)
    ]
    embed = _priced(model, Part("embed", vocab, vocab / tp, 0.0), None, plain)
    head = _priced(model, Part("head", vocab, vocab / tp), None, plain)
    outside = model.extra_parameters if towers else 0
    tower = Part("", outside, outside / tp, 0.0, plain)
    small = Part("", model.layer_embeddings, model.layer_embeddings / tp, 0.0, plain)
    draft_parts = [p for _ in range(model.draft_layers) for p in (per_layer[-1] if per_layer else [])]
    stages = []
    at = 0
    sizes = stage_layers(len(model.layers), pp)
    for s, size in enumerate(sizes):
        parts = [p for layer in per_layer[at : at + size] for p in layer]
        at += size
        if s == 0:
            parts += [embed, small, tower]
        if s == pp - 1:
            parts += draft_parts if draft else []
            if not model.tied or pp > 1:
                parts.append(head)
        stages.append(parts)
    everything = (
        [p for layer in per_layer for p in layer] + [embed, small, tower] + ([] if model.tied else [head])
    )
    total = sum(p.whole * p.bytes_each for p in everything)
    scale = _scale(model, total, sum(p.whole * p.bytes_each for p in draft_parts))
    tables = model.rope_elements * plain
    per_stage = tuple(
        int(scale * sum(p.rank * p.bytes_each for p in parts) + tables + size * _absorbed(model, tp))
        for parts, size in zip(stages, sizes, strict=True)
    )
    read = max(sum(p.rank * p.bytes_each * p.used for p in parts) for parts in stages) * scale
    read += head.rank * head.bytes_each if model.tied else 0
    active = sum(p.whole * p.used for p in everything) + (vocab if model.tied else 0)
    return Weights(
        total=int(total * scale),
        per_gpu=max(per_stage),
        stages=per_stage,
        read_per_token=int(read),
        active_parameters=int(active),
        parameters=int(sum(p.whole for p in everything)) + model.adapter_parameters,
        layers=tuple(
            int(scale * sum(p.rank * p.bytes_each for p in layer) + _absorbed(model, tp))
            for layer in per_layer
        ),
        embedding=0 if model.tied else int(vocab),
    )


def unread_keys(model: ModelConfig, tp: int) -> int:
    """Bytes per GPU of the key and value projections that layers hold which read another layer's cache.

    Zero where the checkpoint's own size is known, which has them in it.
    """
    if model.checkpoint_bytes:
        return 0
    plain, held = DTYPE_BYTES[model.dtype], 0.0
    for i, layer in enumerate(model.layers):
        if layer.kind == "shared" and layer.kv_heads:
            each = model.hidden * (layer.head_dim + layer.head_dim_v)
            part = Part("kv", each * layer.kv_heads, each * max(1.0, layer.kv_heads / tp))
            priced = _priced(model, part, i, plain)
            held += priced.rank * priced.bytes_each
    return int(held)


def _priced(model: ModelConfig, part: Part, layer: int | None, plain: int) -> Part:
    """The part with the bytes that each of its weights takes in this checkpoint."""
    if part.bytes_each:
        return part
    stored = model.quantization.format(part.name, layer) if model.quantization and part.name else None
    return replace(part, bytes_each=bytes_per_weight(stored, plain))


def _scale(model: ModelConfig, total: float, drafts: float) -> float:
    """Exact over computed size, where the checkpoint's index tells the exact one."""
    if not model.checkpoint_bytes:
        return 1.0
    scale = model.checkpoint_bytes / (total + drafts)
    # Else another model's index, or weights stored in a wider dtype than they are loaded in.
    return scale if 0.6 < scale < 1.6 else 1.0

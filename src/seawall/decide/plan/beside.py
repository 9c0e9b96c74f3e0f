"""Memory of a GPU that features ask for beside the model itself: LoRA adapters, draft models, weights in host memory.

Shapes are vLLM's (lora/layers, v1/spec_decode, model_executor/offloader as of 0.32). Pure. Forbidden here: how sure
these numbers are, which `certainty.py` says.
"""

from __future__ import annotations

from dataclasses import replace

from seawall.decide.plan.setup import GIB, EngineSetup
from seawall.decide.plan.weights import (
    DTYPE_BYTES,
    Weights,
    attention_parts,
    stage_layers,
    unread_keys,
    weigh,
)
from seawall.domain.model import Layer, ModelConfig

EXPERT_ADAPTERS = (0, 11, 1)
"""From here every routed expert has buffers for adapters, and graphs are captured with and without them."""
WIDE_ADAPTERS = frozenset({
    "llama", "mixtral", "qwen3", "qwen3_moe", "qwen3_5_text", "qwen3_5_moe_text", "granite", "granitemoe",
    "granitemoeshared", "granitemoehybrid", "nemotron", "nemotron_h", "nemotron-nas", "jamba", "exaone", "exaone4",
    "exaone_moe", "phimoe", "lfm2", "lfm2_moe", "falcon_h1", "solar", "apertus", "minicpm", "hyperclovax",
})  # fmt: skip
"""Architectures whose embedding and head have buffers too (`embedding_modules` of vLLM's model classes)."""


def adapters_gib(model: ModelConfig, setup: EngineSetup) -> float:
    """Buffers for LoRA adapters: two thin matrices beside every linear layer, for each slot.

    As vllm/lora/layers allocates them: the first matrix of column-parallel layers (and the second of row-parallel
    ones) is whole on every rank; a packed layer (QKV, gate and up) has a pair for each of its parts.
    """
    extra = setup.extra
    if not extra.adapters:
        return 0.0
    thin = sum(_adapter_width(model, layer, setup) for layer in model.layers)
    if model.architecture in WIDE_ADAPTERS:
        thin += 2 * (model.vocab + model.hidden) * setup.pp  # whole on the stage that has them
    return extra.adapters * extra.rank * thin * DTYPE_BYTES[model.dtype] / GIB / setup.pp


def _adapter_width(model: ModelConfig, layer: Layer, setup: EngineSetup) -> float:
    """Elements per unit of rank beside one layer's linear layers, on one rank."""
    tp = setup.tp
    shared = tp if setup.extra.sharded_adapters else 1  # --fully-sharded-loras divides the whole ones as well
    h = model.hidden / shared
    width = 0.0
    if layer.heads:
        # A projection of so many parameters from the hidden state has parameters / hidden outputs.
        outputs = sum(part.whole for part in attention_parts(model, layer, 1)) / max(1, model.hidden)
        width += 4 * h + outputs / tp
    elif layer.kind == "recurrent" and model.recurrent is not None:
        width += 5 * h + model.recurrent.parameters / max(1, model.hidden) / tp
    matrices = 3 if model.gated_mlp else 2
    if layer.intermediate:
        width += matrices * (h + layer.intermediate / tp)
    moe = model.experts
    if layer.experts and moe is not None:
        if moe.shared_intermediate:
            width += moe.matrices * (h + moe.shared_intermediate / tp)
        if setup.version >= EXPERT_ADAPTERS:
            width += _expert_width(model, setup, h)
    return width


def _expert_width(model: ModelConfig, setup: EngineSetup, hidden: float) -> float:
    """Elements per unit of rank beside all routed experts of one layer (vllm/lora/layers/fused_moe.py)."""
    moe = model.experts
    assert moe is not None
    local, tp = (moe.count / (setup.tp * setup.dp), 1) if setup.ep else (moe.count, setup.tp)
    inside = hidden * moe.latent / model.hidden if moe.latent else hidden
    return local * moe.matrices * (inside + moe.intermediate / tp)


LEAN_SHARED_LAYERS = (0, 32, 0)
"""From here (vLLM pull request 54917) layers that read another's cache have no projections for keys and values."""


def shared_layers_gib(model: ModelConfig, setup: EngineSetup) -> float:
    """What Gemma 3n and 4 hold beside the parameters that they use, whole on every stage.

    Layers that share another's cache had key and value projections all the same; and where images are served, the
    small embeddings of one step's tokens have a buffer of their own (models/gemma3n_mm.py, gemma4_mm.py in vLLM).
    """
    unread = unread_keys(model, setup.tp) if setup.version < LEAN_SHARED_LAYERS else 0
    small = 0
    if model.multimodal and setup.extra.towers and model.architecture.startswith(("gemma3n", "gemma4")):
        each = model.layer_embeddings // max(1, model.vocab)
        small = each * setup.batched_tokens * DTYPE_BYTES[model.dtype]
    return unread / setup.pp / GIB + small / GIB


def draft_gib(model: ModelConfig, setup: EngineSetup) -> float:
    """Weights of a separate draft model on one GPU: its own where its shape is known, else one layer of the target."""
    draft = setup.extra.draft
    if draft is None or not draft.separate:
        return 0.0
    if model.draft is not None:
        return weigh(model.draft, setup.tp).per_gpu / GIB
    h = model.hidden
    inner = max((layer.intermediate for layer in model.layers), default=0) or 4 * h
    attention = sum(p.whole for p in attention_parts(model, last_full(model), 1))
    # EAGLE: one layer, a projection of three hidden states, and a head of 32,000 tokens.
    parameters = attention + 3 * h * inner + 3 * h * h + 32_000 * h
    return parameters * DTYPE_BYTES[model.dtype] / setup.tp / GIB


def last_full(model: ModelConfig) -> Layer:
    """The last layer that attends to everything: what a draft layer of the model's family looks like."""
    return next((layer for layer in reversed(model.layers) if layer.kind == "full"), model.layers[-1])


def drafting_layers(model: ModelConfig, setup: EngineSetup) -> list[tuple[ModelConfig, Layer]]:
    """Layers of a separate draft model that cache beside the target's, each with the model that it belongs to.

    A draft whose shape is not known counts as one layer of the target: what EAGLE's have. Medusa and MLP
    speculators cache nothing.
    """
    draft = setup.extra.draft
    if draft is None or not draft.separate or draft.method in ("medusa", "mlp_speculator"):
        return []
    if model.draft is None:
        return [(model, replace(last_full(model), state=False))]
    return [
        (model.draft, layer) for layer in model.draft.layers if layer.kind in ("full", "sliding", "chunked")
    ]


def offloaded_gib(weights: Weights, setup: EngineSetup, stage: int) -> float:
    """Weights of one stage that lie in host memory; embedding and head never do.

    `--cpu-offload-gb` moves so many GiB of the layers (vllm: model_executor/offloader/uva.py).
    `--offload-group-size` moves the last layers of every group, and keeps buffers for as many as are fetched ahead
    (prefetch.py beside it).
    """
    extra = setup.extra
    sizes = stage_layers(len(weights.layers), setup.pp)
    begin = sum(sizes[:stage])
    own = weights.layers[begin : begin + sizes[stage]]
    if extra.offload_gib:
        return min(extra.offload_gib, sum(own) / GIB)
    size, count = extra.offload_group, extra.offload_in_group
    if not size or count > size:
        return 0.0
    away = [b for i, b in enumerate(own) if i % size >= size - count]
    buffers = extra.offload_ahead * max(away, default=0)
    return max(0, sum(away) - buffers) / GIB

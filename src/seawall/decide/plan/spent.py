"""Memory of a GPU beside weights and cache: activations, NCCL, CUDA graphs, adapters. Pure.

Formulas and constants were read off start-up logs of vLLM 0.6 to 0.30 and its sources; what each one is for
stands beside it. They are about tensors' shapes, not about single models.
"""

from __future__ import annotations

import math

from seawall.decide.plan.setup import GIB, EngineSetup
from seawall.decide.plan.weights import DTYPE_BYTES, attention_parts
from seawall.domain.model import Layer, ModelConfig

MULTIMODAL_GIB = 0.13
"""Encoder cache and a small tower's own activations at start-up (V1)."""
MIXING_BYTES = 12.5
"""Per element that a Gated DeltaNet layer projects to, and token: its chunked kernels keep several copies."""
MIXING_HIDDEN_BYTES = 12.0
"""Per element of the hidden state, and token, around such a layer."""
ESTIMATED = (0, 20, 0), (0, 30, 0)
"""From and to: vLLM takes its own estimate of CUDA graphs, of two captures per kind, out of the budget."""
COLLECTIVE_MIB = 0.4
"""What one all-reduce costs in one captured graph, between nodes or between GPUs of compute capability 12."""


def activation_gib(model: ModelConfig, setup: EngineSetup) -> float:
    """Peak of the profiling run: the language model's pass beside what encoders left, or the encoder's own."""
    each = DTYPE_BYTES[model.dtype]
    language = _language_bytes(model, setup, each)
    if not model.multimodal or not setup.extra.towers:
        return language / GIB
    if setup.version < (0, 8, 0):  # the V0 engine profiled as many image tokens as the context holds
        return (language + _forward_bytes(model, setup, each)) / GIB
    if model.tower is None or not setup.extra.profiles_towers:
        return language / GIB + MULTIMODAL_GIB
    return max(tower_gib(model, setup), (language + _outputs_bytes(model, setup, each)) / GIB)


def tower_gib(model: ModelConfig, setup: EngineSetup) -> float:
    """Peak of the vision encoder on as many of the largest images as one step may hold."""
    tower = model.tower
    if tower is None or not setup.extra.towers or not setup.extra.profiles_towers:
        return 0.0
    patches = tower.patches * _images(model, setup)
    return patches * DTYPE_BYTES[model.dtype] * (2 * tower.hidden + tower.inner) / GIB


def _images(model: ModelConfig, setup: EngineSetup) -> int:
    assert model.tower is not None
    tokens = max(1, model.tower.patches // model.tower.merged)
    return max(1, min(setup.max_num_seqs, setup.batched_tokens // tokens))


def _outputs_bytes(model: ModelConfig, setup: EngineSetup, each: int) -> float:
    assert model.tower is not None
    tokens = model.tower.patches // model.tower.merged * _images(model, setup)
    return float(tokens * model.hidden * each * model.tower.outputs)


def sampler_bytes_per_logit(setup: EngineSetup, dtype_bytes: int) -> float:
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


def _language_bytes(model: ModelConfig, setup: EngineSetup, each: int) -> float:
    """The larger of sampler and forward pass, plus the experts' workspace."""
    tokens, h = setup.batched_tokens, model.hidden
    sampler = setup.max_num_seqs * model.vocab * sampler_bytes_per_logit(setup, each) + each * tokens * h
    peak = max(sampler, _forward_bytes(model, setup, each), mixing_bytes(model, setup))
    moe = model.experts
    if moe is not None and not (model.quantization and model.quantization.method == "mxfp4"):
        peak += each * tokens * moe.per_token * ((moe.latent or h) + 2 * moe.intermediate / setup.tp)
    return peak


def _forward_bytes(model: ModelConfig, setup: EngineSetup, each: int) -> float:
    widest = max((layer.intermediate for layer in model.layers), default=0)
    if model.experts is not None:
        widest = max(widest, model.experts.shared_intermediate)
    return each * setup.batched_tokens * (3 * widest / setup.tp + 4.3 * model.hidden)


def mixing_bytes(model: ModelConfig, setup: EngineSetup) -> float:
    """What a recurrent layer's chunked pass holds: Gated DeltaNet and its like. Zero without such layers."""
    r = model.recurrent
    if r is None or not model.recurs:
        return 0.0
    return setup.batched_tokens * (MIXING_BYTES * r.width / setup.tp + MIXING_HIDDEN_BYTES * model.hidden)


def non_torch_gib(setup: EngineSetup) -> float:
    """NCCL, custom all-reduce and kernel workspaces outside of torch's allocator."""
    if setup.tp * setup.dp == 1:
        return 0.25 if setup.version >= (0, 18, 0) else 0.13
    if setup.version >= (0, 18, 0):
        if setup.nvlink and 0 < setup.gpu.capability < 9:
            return 0.3  # multicast buffers are Hopper's and later: an A100 of four was seen to keep 0.13
        return (2.05 if setup.nvlink else 1.0) + 0.03 * math.log2(setup.tp * setup.dp)
    # Before, only the all-reduce buffers of every peer; none without peer access.
    return 0.13 + 0.21 * setup.tp * setup.dp if setup.nvlink else 0.3


def largest_graph(model: ModelConfig, setup: EngineSetup) -> int:
    """The largest batch that a CUDA graph is captured for."""
    extra = setup.extra
    if extra.captured:
        return max(extra.captured)
    own = 1024 if model.architecture == "gpt_oss" else 512  # vLLM raises it for GPT-OSS
    return min(2 * setup.max_num_seqs * (1 + setup.draft_tokens), extra.largest or own)


def graph_count(model: ModelConfig, setup: EngineSetup) -> int:
    """How many batch sizes are captured: 1, 2, 4, then every eighth, from 256 every sixteenth."""
    if setup.extra.captured:
        return len(setup.extra.captured)
    return _sizes(largest_graph(model, setup))


def _sizes(largest: int) -> int:
    return sum(1 for n in (1, 2, 4) if n <= largest) + min(largest, 256) // 8 + max(0, largest - 256) // 16


def graphs_gib(model: ModelConfig, setup: EngineSetup) -> float:
    """CUDA graphs: a pool that grows with layers and width, and with how many batch sizes are captured."""
    if setup.eager or setup.extra.graphs == "none":
        return 0.0
    layers = math.ceil(len(model.layers) / setup.pp)
    each = 0.0064 + 0.00255 * model.hidden / 1024 / setup.tp
    full = 0.38 + layers * each * (1.8 if model.latent is not None else 1.0)  # MLA: more kernels per layer
    if model.experts is not None:
        full += 0.5
    # V0 captured fewer sizes without piecewise graphs; the V2 runner (0.30) shares more of the pool.
    engine = 0.4 if setup.version >= (0, 30, 0) else 0.5 if setup.version < (0, 8, 0) else 1.0
    mode = 1.0 if setup.extra.graphs == "full" else 0.6
    count = graph_count(model, setup)
    if ESTIMATED[0] <= setup.version < ESTIMATED[1]:  # whole-model graphs weigh most, and end at max_num_seqs
        count = min(count, _sizes(setup.max_num_seqs * (1 + setup.draft_tokens)))
    return full * engine * mode * (0.25 + 0.75 * count / 51) + collectives_gib(model, setup)


def collectives_gib(model: ModelConfig, setup: EngineSetup) -> float:
    """All-reduces inside captured graphs, where ranks have neither NVLink nor vLLM's own all-reduce.

    Seen on RTX PRO 6000 and GB10 (4.8 and 5.1 GiB where the graphs alone are 1): 0.3 to 0.8 MiB each.
    """
    if setup.tp == 1 or setup.nvlink or not (setup.gpu.capability >= 12 or setup.tp > setup.gpu.per_node):
        return 0.0
    graphs = graph_count(model, setup) * (2 if setup.extra.graphs == "full" else 1)
    return COLLECTIVE_MIB / 1024 * 2 * math.ceil(len(model.layers) / setup.pp) * graphs


def adapters_gib(model: ModelConfig, setup: EngineSetup) -> float:
    """Buffers for LoRA adapters: two thin matrices beside every linear layer, for each slot.

    The first matrix of column-parallel layers is whole on every rank, and the second of row-parallel ones.
    """
    slots, rank = setup.extra.adapters, setup.extra.rank
    if not slots:
        return 0.0
    thin = sum(_adapter_width(model, layer, setup.tp) for layer in model.layers)
    return slots * rank * thin * DTYPE_BYTES[model.dtype] / GIB / setup.pp


def _adapter_width(model: ModelConfig, layer: Layer, tp: int) -> float:
    """Elements per unit of rank beside one layer's linear layers."""
    h = model.hidden
    width = 0.0
    if layer.heads:
        # A projection of so many parameters from h has parameters / h outputs.
        outputs = sum(part.whole for part in attention_parts(model, layer, 1)) / max(1, h)
        width += 4 * h + outputs / tp
    if layer.intermediate:
        width += (3 if model.gated_mlp else 2) * (h + layer.intermediate / tp)
    if layer.experts and model.experts is not None and model.experts.shared_intermediate:
        width += model.experts.matrices * (h + model.experts.shared_intermediate / tp)
    return width


def draft_gib(model: ModelConfig, setup: EngineSetup) -> float:
    """Weights of a separate draft model on one GPU: its own where its shape is known, else one layer of the target."""
    draft = setup.extra.draft
    if draft is None or draft.built_in or draft.method in ("ngram", "suffix"):
        return 0.0
    if model.draft is not None:
        from seawall.decide.plan.weights import weigh

        return weigh(model.draft, setup.tp).per_gpu / GIB
    h = model.hidden
    inner = max((layer.intermediate for layer in model.layers), default=0) or 4 * h
    attention = sum(p.whole for p in attention_parts(model, _last_full(model), 1))
    # EAGLE: one layer, a projection of three hidden states, and a head of 32,000 tokens.
    parameters = attention + 3 * h * inner + 3 * h * h + 32_000 * h
    return parameters * DTYPE_BYTES[model.dtype] / setup.tp / GIB


def _last_full(model: ModelConfig) -> Layer:
    return next((layer for layer in reversed(model.layers) if layer.kind == "full"), model.layers[-1])

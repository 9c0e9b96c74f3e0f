"""Memory of a GPU beside weights and cache: activations, NCCL, CUDA graphs. Pure.

Formulas and constants were read off start-up logs of vLLM 0.6 to 0.30 and its sources; what each one is for
stands beside it. They are about tensors' shapes, not about single models.
"""

from __future__ import annotations

import math

from seawall.decide.plan.beside import EXPERT_ADAPTERS
from seawall.decide.plan.setup import GIB, EngineSetup
from seawall.decide.plan.weights import DTYPE_BYTES
from seawall.domain.model import ModelConfig

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
        # vLLM's workspace (v1/worker/workspace.py) keeps every token once for each of its experts, for good.
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


LARGER_GRAPHS = (0, 32, 0)
"""From here (as read in 0.32) graphs of Blackwell's data-centre GPUs reach 1024, and speculative decoding's batches of
whole requests are captured beside the others."""


def largest_graph(model: ModelConfig, setup: EngineSetup) -> int:
    """The largest batch that a CUDA graph is captured for (vllm/config/vllm.py): never above a step's tokens."""
    extra = setup.extra
    if extra.captured:
        return max((n for n in extra.captured if n <= setup.batched_tokens), default=0)
    if extra.largest:
        return min(extra.largest, setup.batched_tokens)
    wide = model.architecture == "gpt_oss" or (
        setup.version >= LARGER_GRAPHS and 10 <= setup.gpu.capability < 11
    )
    return min(2 * setup.max_num_seqs * (1 + setup.draft_tokens), 1024 if wide else 512, setup.batched_tokens)


def graph_count(model: ModelConfig, setup: EngineSetup) -> int:
    """How many graphs are captured of one kind: for batches of 1, 2, 4, every eighth, from 256 every sixteenth.

    With adapters each is captured twice, with and without them (vLLM specializes CUDA graphs for LoRA).
    """
    largest = largest_graph(model, setup)
    if setup.extra.captured:
        return len({n for n in setup.extra.captured if n <= largest}) * _kinds(setup)
    sizes = _grid(largest)
    if setup.draft_tokens and setup.version >= LARGER_GRAPHS:
        each = 1 + setup.draft_tokens
        sizes |= {n * each for n in _grid(setup.max_num_seqs) | {setup.max_num_seqs} if n * each <= largest}
    return len(sizes) * _kinds(setup)


def _grid(largest: int) -> set[int]:
    return {n for n in (1, 2, 4) if n <= largest} | {
        *range(8, min(largest + 1, 256), 8),
        *range(256, largest + 1, 16),
    }


def _sizes(largest: int) -> int:
    return len(_grid(largest))


def _kinds(setup: EngineSetup) -> int:
    return 2 if setup.extra.adapters and setup.version >= EXPERT_ADAPTERS else 1


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
        count = min(count, _kinds(setup) * _sizes(setup.max_num_seqs * (1 + setup.draft_tokens)))
    return full * engine * mode * (0.25 + 0.75 * count / 51) + collectives_gib(model, setup)


def collectives_gib(model: ModelConfig, setup: EngineSetup) -> float:
    """All-reduces inside captured graphs, where ranks have neither NVLink nor vLLM's own all-reduce.

    Seen on RTX PRO 6000 and GB10 (4.8 and 5.1 GiB where the graphs alone are 1): 0.3 to 0.8 MiB each.
    """
    if setup.tp == 1 or setup.nvlink or not (setup.gpu.capability >= 12 or setup.tp > setup.gpu.per_node):
        return 0.0
    graphs = graph_count(model, setup) * (2 if setup.extra.graphs == "full" else 1)
    return COLLECTIVE_MIB / 1024 * 2 * math.ceil(len(model.layers) / setup.pp) * graphs

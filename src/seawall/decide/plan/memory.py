"""One GPU's memory, spent as vLLM spends it. Pure.

    total x utilization - weights - activation peak - non-torch (- CUDA graphs from 0.21) = KV cache

Formulas and constants were read off start-up logs of 0.6 to 0.30 and vLLM's sources; what each one is for
stands beside it. They are about tensors' shapes, not about single models.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from seawall.decide.plan.beside import adapters_gib, draft_gib, offloaded_gib, shared_layers_gib
from seawall.decide.plan.certainty import Doubt, certainty
from seawall.decide.plan.kv import Layout, kept_blocks, layout
from seawall.decide.plan.setup import GIB, EngineSetup
from seawall.decide.plan.spent import activation_gib, graphs_gib, non_torch_gib
from seawall.decide.plan.verdict import CONTEXT_GIB, Budget, invalid, judge
from seawall.decide.plan.weights import Weights, weigh
from seawall.domain.model import ModelConfig


@dataclass(frozen=True)
class GpuMemory:
    """GiB per GPU and what the cache holds. `verdict`: fits, tight, refused, oom, unknown, or invalid."""

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
    off_gib: float = 0.0
    """Half-width of the forecast of `kv_gib`."""
    tokens_range: tuple[int, int] = (0, 0)
    doubts: tuple[Doubt, ...] = ()

    @property
    def fits(self) -> bool:
        return self.verdict == "fits"


def headroom_gib(model: ModelConfig, setup: EngineSetup, graphs: float) -> float:
    """What must stay free above the budget, or the process dies after its KV cache is allocated."""
    need = CONTEXT_GIB
    if not setup.counts_graphs:
        need += graphs
        if setup.tp > 1 and setup.gpu.link_gbs < 100 and setup.version < (0, 18, 0) and not setup.eager:
            need += 0.8  # NCCL buffers that every captured graph keeps when there is no peer access
        if model.quantization is not None and model.quantization.method == "mxfp4":
            need += 2.0  # repacked expert weights leave torch's pool fragmented
    return need


def spend(model: ModelConfig, setup: EngineSetup) -> GpuMemory:
    """How one GPU's memory goes when vLLM starts like this, and whether it starts."""
    if reason := invalid(model, setup):
        return _nothing(model, setup, "invalid", reason)
    weights = weigh(model, setup.tp, setup.pp, setup.dp, draft=setup.drafts_itself, towers=setup.extra.towers)
    activation, outside = activation_gib(model, setup), non_torch_gib(setup)
    graphs = graphs_gib(model, setup)
    beside = adapters_gib(model, setup) + draft_gib(model, setup) + shared_layers_gib(model, setup)
    inside = graphs if setup.counts_graphs else 0.0
    worst: tuple[int, float, Layout] | None = None
    for stage in range(setup.pp):
        own = weights.stages[stage] / GIB - offloaded_gib(weights, setup, stage) + beside
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
    ).checked()
    kept = kept_blocks(setup)
    check_blocks = max(0, check.blocks(cache * GIB) - kept)
    need_blocks = check.request_blocks(setup.max_model_len, setup)
    held = beside + max(
        bytes_ / GIB - offloaded_gib(weights, setup, stage) for stage, bytes_ in enumerate(weights.stages)
    )
    sure = certainty(model, setup, held)
    off = 0.0 if setup.kv_memory is not None else sure.gib
    budget = Budget(
        weights=held,
        cache=cache - kept * check.block_bytes / GIB,
        off=off,
        needed=need_blocks * check.block_bytes / GIB,
        longest=check.longest(check_blocks, max(model.context, setup.max_model_len), setup),
        headroom=headroom_gib(model, setup, graphs),
    )
    verdict, reason = judge(model, setup, budget, sure)
    tokens = [
        int(shape.tokens(shape.blocks((cache + d) * GIB), setup.max_model_len, setup) * (1 + share))
        for d, share in ((-off, -sure.tokens), (off, sure.tokens))
    ]
    return GpuMemory(
        weights=weights,
        weights_gib=held,
        activation_gib=activation,
        non_torch_gib=outside,
        graphs_gib=graphs,
        kv_gib=cache,
        layout=shape,
        blocks=blocks,
        tokens=shape.tokens(blocks, setup.max_model_len, setup),
        concurrency=shape.concurrency(blocks, setup.max_model_len, setup),
        longest=budget.longest,
        needed_gib=budget.needed,
        verdict=verdict,
        reason=reason,
        off_gib=off,
        tokens_range=(tokens[0], tokens[1]),
        doubts=sure.doubts,
    )


def _nothing(model: ModelConfig, setup: EngineSetup, verdict: str, reason: str) -> GpuMemory:
    weights = weigh(model, 1, 1)
    return GpuMemory(
        weights, weights.per_gpu / GIB / max(1, setup.world), 0, 0, 0, 0, layout(model, replace(setup, tp=1, pp=1)),
        0, 0, 0.0, 0, 0.0, verdict, reason,
    )  # fmt: skip

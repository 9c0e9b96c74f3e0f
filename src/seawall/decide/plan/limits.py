"""The limits that one engine is started with: the plan's, or the spec's where there is no plan. Pure.

Why: the plan says "fits" of these very numbers. Whoever starts an engine with others (or leaves one to vLLM's own
default) starts something that nobody planned. Forbidden here: how an engine spells them (`engines/vllm`).
"""

from __future__ import annotations

from dataclasses import dataclass

from seawall.decide.plan.cpu import DEFAULT_CACHE
from seawall.decide.plan.flags import absorbed
from seawall.decide.plan.setup import GIB
from seawall.domain.action import Plan
from seawall.domain.spec import Fleet

SEQS_UNPLANNED = 256
"""What vLLM runs at once by default, on all but the largest GPUs."""


@dataclass(frozen=True, kw_only=True)
class EngineLimits:
    """The numbers of one engine. None: the engine's own default, because neither spec nor plan says."""

    tensor_parallel: int
    pipeline_parallel: int
    data_parallel: int
    expert_parallel: bool
    nodes: int
    max_model_len: int | None
    max_num_seqs: int | None
    max_num_batched_tokens: int | None
    queue_bound: int
    """Requests that the engine accepts, waiting and running together."""
    kv_cache_bytes: int | None
    """The KV cache's size where it is set by hand, as on every CPU: vLLM's own choice there is nearly all memory."""
    gpu_memory_utilization: float | None
    """None on a CPU, and where the KV cache has a size of its own."""
    quantization: str | None
    """What the engine is told to use; None: as the checkpoint says."""

    @property
    def parallel(self) -> bool:
        """One replica runs in several workers."""
        return self.tensor_parallel * self.pipeline_parallel * self.data_parallel > 1


def limits_of(fleet: Fleet, plan: Plan | None) -> EngineLimits:
    """Limits of a fleet's engines. `plan` None: the model's shape is not known, and the spec alone decides."""
    fleet = absorbed(fleet)
    spec, engine, hardware = fleet.spec, fleet.spec.engine, fleet.spec.hardware
    cpu = hardware.gpu.lower() == "cpu"
    told = spec.model.quantization
    if plan is None:
        seqs = engine.max_num_seqs
        return EngineLimits(
            tensor_parallel=hardware.tensor_parallel or hardware.gpus_per_replica or 1,
            pipeline_parallel=hardware.pipeline_parallel or 1,
            data_parallel=hardware.data_parallel or 1,
            expert_parallel=hardware.expert_parallel,
            nodes=1,
            max_model_len=spec.traffic.max_context,
            max_num_seqs=seqs,
            max_num_batched_tokens=engine.max_num_batched_tokens,
            queue_bound=engine.max_queued_requests or 4 * (seqs or SEQS_UNPLANNED),
            kv_cache_bytes=engine.kv_cache_memory or (DEFAULT_CACHE if cpu else None),
            gpu_memory_utilization=None if cpu or engine.kv_cache_memory else engine.gpu_memory_utilization,
            quantization=told if told != "none" else None,
        )
    cache = engine.kv_cache_memory or (round(plan.kv_cache_gib_per_gpu * GIB) if cpu else None)
    say_format = (told or plan.converted) and plan.quantization not in (None, "none")
    return EngineLimits(
        tensor_parallel=plan.tensor_parallel,
        pipeline_parallel=plan.pipeline_parallel,
        data_parallel=plan.data_parallel,
        expert_parallel=plan.expert_parallel,
        nodes=plan.nodes_per_replica,
        max_model_len=spec.traffic.max_context or plan.max_model_len or None,
        max_num_seqs=engine.max_num_seqs or plan.max_num_seqs,
        max_num_batched_tokens=engine.max_num_batched_tokens or plan.max_num_batched_tokens,
        queue_bound=engine.max_queued_requests or plan.engine_queue_bound,
        kv_cache_bytes=cache,
        gpu_memory_utilization=None
        if cache
        else engine.gpu_memory_utilization or plan.gpu_memory_utilization,
        quantization=plan.quantization if say_format else None,
    )

"""A Plan's fields from what was worked out, for GPUs and CPUs alike. Pure. Forbidden here: any choice."""

from __future__ import annotations

from dataclasses import replace

from seawall.decide.plan.certainty import UNKNOWN_WEIGHTS
from seawall.decide.plan.memory import GpuMemory
from seawall.decide.plan.roofline import Speed
from seawall.decide.plan.setup import EngineSetup
from seawall.decide.plan.startup import host_needs, startup_budget
from seawall.domain.action import Plan
from seawall.domain.model import ModelConfig
from seawall.domain.spec import Fleet


def draw(
    fleet: Fleet, model: ModelConfig, gpu: str, setup: EngineSetup, memory: GpuMemory, speed: Speed | None
) -> Plan:
    """The plan of one replica on `setup`; speed None: it does not fit. Price, bounds and scaling are the caller's."""
    startup, storage = startup_budget(fleet, setup, memory.weights.total)
    host = host_needs(fleet, setup, memory)
    sized = Plan(
        fleet=fleet.name,
        model=model.name,
        fits=memory.fits,
        verdict=memory.verdict,
        reason=memory.reason,
        gpu=gpu,
        gpus_per_replica=0,
        tensor_parallel=setup.tp,
        pipeline_parallel=setup.pp,
        data_parallel=setup.dp,
        expert_parallel=setup.ep,
        decode_context_parallel=setup.dcp,
        dtype=model.dtype,
        weights_bytes=memory.weights.total,
        parameters=memory.weights.parameters,
        active_parameters=memory.weights.active_parameters + memory.weights.embedding,
        parameters_range=_range(memory.weights.parameters, 0.0 if model.known else UNKNOWN_WEIGHTS),
        weights_gib_per_gpu=memory.weights_gib,
        activation_gib_per_gpu=memory.activation_gib,
        non_torch_gib_per_gpu=memory.non_torch_gib,
        cuda_graph_gib_per_gpu=memory.graphs_gib,
        kv_cache_gib_per_gpu=max(0.0, memory.kv_gib),
        kv_cache_gib_range=(
            max(0.0, memory.kv_gib - memory.off_gib),
            max(0.0, memory.kv_gib + memory.off_gib),
        ),
        kv_cache_tokens=memory.tokens,
        kv_cache_tokens_range=memory.tokens_range,
        unsure=tuple(f"{d.gib:.1f} GiB: {d.why}" for d in memory.doubts),
        kv_cache_blocks=memory.blocks,
        kv_bytes_per_token=memory.layout.bytes_per_token,
        needed_kv_gib_per_gpu=memory.needed_gib,
        block_size=memory.layout.block,
        max_model_len=setup.max_model_len,
        max_model_len_limit=memory.longest,
        max_concurrency=memory.concurrency,
        max_num_seqs=setup.max_num_seqs,
        max_num_batched_tokens=setup.batched_tokens,
        gpu_memory_utilization=setup.utilization,
        startup=startup,
        host_memory_bytes=host.memory_bytes,
        shm_bytes=host.shm_bytes,
        ephemeral_bytes=host.ephemeral_bytes,
        volume_bytes=host.volume_bytes,
        notes=(f"weights arrive at the speed of: {storage}",),
    )
    if speed is None:
        return sized
    return replace(
        sized,
        timing=speed.timing,
        ttft_s=speed.ttft_s,
        tpot_s=speed.tpot_s,
        tokens_per_s=speed.tokens_per_s,
        bound=speed.bound,
    )


def _range(value: int, share: float) -> tuple[int, int]:
    return int(value * (1 - share)), int(value * (1 + share))

"""Other ways to run one replica of a fleet, each planned: what `advise` has to choose from. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from seawall.decide.advise import ReplicaOption
from seawall.decide.plan import plan
from seawall.domain.action import Plan
from seawall.domain.catalog.gpus import GPUS, find_gpu
from seawall.domain.model import ModelConfig
from seawall.domain.spec import Fleet


def options_of(fleet: Fleet, today: Plan, model: ModelConfig) -> list[ReplicaOption]:
    """Other ways to run a replica: fp8 KV cache, twice the GPUs, and every bigger GPU that clouds sell."""
    here = find_gpu(today.gpu)
    if here is None:
        return []
    hardware = replace(
        fleet.spec.hardware,
        gpu=here.name,
        gpus_per_replica=today.gpus_per_replica,
        tensor_parallel=today.tensor_parallel,
    )

    def option(change: str, caution: str = "", kv: Any = None, **other: Any) -> ReplicaOption:
        engine = replace(fleet.spec.engine, kv_cache_dtype=kv or fleet.spec.engine.kv_cache_dtype)
        traffic = replace(fleet.spec.traffic, max_context=today.max_model_len)
        spec = replace(fleet.spec, hardware=replace(hardware, **other), engine=engine, traffic=traffic)
        return ReplicaOption(change=change, plan=plan(replace(fleet, spec=spec), model), caution=caution)

    found = []
    if fleet.spec.engine.kv_cache_dtype == "auto" and here.capability >= 8.9:
        found.append(
            option(
                "engine.kvCacheDtype: fp8", "It rounds keys and values: check answers on your data.", kv="fp8"
            )
        )
    tp = 2 * today.tensor_parallel
    if tp <= here.per_node and today.gpus_per_replica == today.tensor_parallel:
        found.append(
            option(
                f"hardware.gpusPerReplica and tensorParallel: {tp}", gpus_per_replica=tp, tensor_parallel=tp
            )
        )
    for gpu in GPUS:
        if gpu.auto and gpu.memory_gib > here.memory_gib and today.gpus_per_replica <= gpu.per_node:
            found.append(option(f"hardware.gpu: {gpu.name}", gpu=gpu.name))
    return found

"""Ways of running a model that are worth looking at: GPUs, counts, splits, formats. Pure; nothing is judged."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from seawall.decide.plan.flags import Extra, read_flags
from seawall.decide.plan.setup import (
    EngineSetup,
    PatchVersion,
    batch_of,
    default_batch,
    default_utilization,
    parse_version,
)
from seawall.domain.catalog.gpus import GPUS, Gpu, find_gpu, known_names
from seawall.domain.model import CheckpointQuantization, ModelConfig, experts_only
from seawall.domain.spec import Fleet
from seawall.errors import InputError

_MAX_NODES = 8


@dataclass(frozen=True)
class Split:
    """How one replica's GPUs share the model."""

    tp: int
    pp: int
    dp: int

    @property
    def gpus(self) -> int:
        return self.tp * self.pp * self.dp

    def __str__(self) -> str:
        parts = [f"tensor parallel {self.tp}"] if self.tp > 1 or self.gpus == 1 else []
        parts += [f"pipeline parallel {self.pp}"] if self.pp > 1 else []
        parts += [f"data parallel {self.dp}"] if self.dp > 1 else []
        return ", ".join(parts)


def gpus_for(fleet: Fleet) -> list[Gpu]:
    """The GPU that the spec names, or with `auto` every one that clouds sell. InputError for an unknown name."""
    name = fleet.spec.hardware.gpu
    if name == "auto":
        return [g for g in GPUS if g.auto]
    found = find_gpu(name)
    if found is None:
        near = difflib.get_close_matches(name.upper(), known_names(), 3, 0.5)
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        raise InputError(
            f"spec.hardware.gpu: {name!r:.80} is not a GPU that is known here.",
            f"{hint}Use auto, cpu, a node's nvidia.com/gpu.product label, or one of: {', '.join(known_names())}.",
        )
    return [found]


def splits_for(fleet: Fleet, model: ModelConfig, gpu: Gpu) -> list[Split]:
    """Splits in order of GPUs, tensor parallel first: what the spec fixes is kept, the rest is tried."""
    hw = fleet.spec.hardware
    per_node = hw.gpus_per_node or gpu.per_node
    dp = hw.data_parallel or 1
    fixed = hw.gpus_per_replica
    if hw.tensor_parallel or hw.pipeline_parallel:
        tp = hw.tensor_parallel or max(1, (fixed or 1) // ((hw.pipeline_parallel or 1) * dp))
        pp = hw.pipeline_parallel or max(1, (fixed or tp * dp) // (tp * dp))
        return [_checked(Split(tp, pp, dp), fixed)]
    if fixed:
        if fixed % dp:
            raise InputError(
                f"spec.hardware.gpusPerReplica: {fixed} is not a multiple of dataParallel {dp}.",
                f"Use {dp * math.ceil(fixed / dp)}.",
            )
        ways = [Split(t, fixed // dp // t, dp) for t in range(fixed // dp, 0, -1) if (fixed // dp) % t == 0]
        return [w for w in ways if w.tp <= per_node] or ways
    sizes = [t for t in range(1, per_node + 1) if _divides(model, t)]
    one_node = [Split(t, 1, dp) for t in sizes]
    widest = max(sizes)
    nodes = [Split(widest, p, dp) for p in (2, 4, 8) if p <= min(_MAX_NODES, len(model.layers))]
    return one_node + nodes


def _checked(split: Split, fixed: int | None) -> Split:
    if fixed and split.gpus != fixed:
        raise InputError(
            f"spec.hardware.gpusPerReplica: {fixed} is not tensorParallel x pipelineParallel "
            f"x dataParallel = {split.gpus}.",
            f"Write {split.gpus}, or leave it out.",
        )
    return split


def _divides(model: ModelConfig, tp: int) -> bool:
    heads, kv = model.heads, model.kv_heads
    if tp & (tp - 1):  # 3, 5, 6, 7 work for few models and match no node's topology
        return False
    if heads and heads % tp:
        return False
    return not (kv and model.latent is None and kv % tp and tp % kv)


def formats_for(fleet: Fleet, model: ModelConfig) -> Iterator[tuple[ModelConfig, str | None]]:
    """The model as the spec stores it; then, only if the user allows them, smaller formats."""
    spec = fleet.spec.model
    if spec.quantization and spec.quantization != "none":
        yield quantized(model, spec.quantization), spec.quantization
        return
    yield model, model.quantization.method if model.quantization else None
    if spec.quantization is None and model.quantization is None:
        for name in spec.allow_quantizations:
            if name != "none":
                yield quantized(model, name), name


def quantized(model: ModelConfig, name: str) -> ModelConfig:
    """The model with its linear layers in another format (quantized on load, or another checkpoint)."""
    own = model.quantization
    if own is not None and (own.method == name or name == "compressed-tensors"):
        return model
    table = {
        "fp8": CheckpointQuantization("fp8", 8),
        "int8": CheckpointQuantization("int8", 8),
        "awq": CheckpointQuantization("awq", 4, 128),
        "gptq": CheckpointQuantization("gptq", 4, 128),
        "mxfp4": experts_only("mxfp4", 4, 32)
        if model.experts is not None
        else CheckpointQuantization("mxfp4", 4, 32),
        "nvfp4": CheckpointQuantization("nvfp4", 4, 16),
        "bitsandbytes": CheckpointQuantization("bitsandbytes", 4, 64),
        "gguf": CheckpointQuantization("gguf", 4.83, 32, kept=frozenset()),
        "compressed-tensors": CheckpointQuantization("int8", 8),
    }
    return replace(model, quantization=table[name], checkpoint_bytes=None, assumed_format=True)


def setup_for(fleet: Fleet, model: ModelConfig, gpu: Gpu, split: Split, length: int) -> EngineSetup:
    """The flags of one candidate, with vLLM's defaults for what the spec leaves open."""
    engine = fleet.spec.engine
    version: PatchVersion = parse_version(engine.version)
    extra = _with_adapters(read_flags(engine.extra_args, engine.env), fleet)
    seqs, tokens = default_batch(gpu, version, length)
    seqs, tokens = batch_of(engine, seqs, tokens)
    if version < (0, 8, 0) and model.multimodal and engine.max_num_batched_tokens is None:
        tokens = max(tokens, length)
    return EngineSetup(
        gpu=gpu,
        tp=split.tp,
        pp=split.pp,
        dp=split.dp,
        ep=fleet.spec.hardware.expert_parallel,
        dcp=extra.dcp,
        version=version,
        utilization=engine.gpu_memory_utilization or default_utilization(version),
        max_model_len=length,
        max_num_seqs=seqs,
        batched_tokens=tokens,
        kv_dtype=engine.kv_cache_dtype,
        eager=engine.enforce_eager,
        prefix_caching=engine.prefix_caching,
        draft_tokens=extra.draft.tokens if extra.draft is not None else 0,
        kv_memory=engine.kv_cache_memory,
        extra=extra,
        version_stated=re.search(r"\d+\.\d", engine.version) is not None,
        fork=re.search(r"fork|rc\d|dev|nightly|custom", engine.version) is not None,
    )


def _with_adapters(extra: Extra, fleet: Fleet) -> Extra:
    """The spec's own adapters, which rendering turns into flags."""
    model = fleet.spec.model
    slots = model.adapter_slots or len(model.adapters)
    return replace(extra, adapters=max(extra.adapters, slots)) if slots else extra

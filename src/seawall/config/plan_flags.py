"""`seawall plan` without a spec: vLLM's flags and a config.json -> the Fleet and ModelConfig they mean.

Only translation, so that flags and specs are planned by one code path. Free spellings (GPU, version,
quantization, cache dtype) are read as logs and labels write them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from seawall.decide.plan.setup import caches_states
from seawall.domain.catalog.gpus import ambiguous
from seawall.domain.catalog.models import find_config
from seawall.domain.model import ModelConfig
from seawall.domain.spec import EngineSpec, Fleet, FleetSpec, Hardware, Metadata, Model, Scaling, Traffic
from seawall.errors import InputError
from seawall.shapes.config import parse, quantization_override, read_config, with_draft

KvDtype = Literal["auto", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2", "nvfp4"]


@dataclass(frozen=True, kw_only=True)
class PlanFlags:
    """What the command line gave. None: left to vLLM's default or to the planner."""

    model_config: str
    gpu: str = "auto"
    gpus: int | None = None
    tensor_parallel: int | None = None
    pipeline_parallel: int | None = None
    data_parallel: int | None = None
    expert_parallel: bool = False
    decode_context_parallel: int | None = None
    max_model_len: int | None = None
    gpu_memory_utilization: float | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    kv_cache_dtype: str = "auto"
    kv_cache_memory: int | None = None
    quantization: str | None = None
    dtype: str | None = None
    enforce_eager: bool = False
    vllm_version: str | None = None
    vllm_args: tuple[str, ...] = ()
    """Further flags of `vllm serve`, as they would stand in `engine.extraArgs`."""
    prompt_tokens: int = 1024
    output_tokens: int = 256


def from_flags(flags: PlanFlags) -> tuple[Fleet, ModelConfig]:
    """The fleet of one replica that these flags describe, and its model's shape."""
    if sizes := ambiguous(flags.gpu):
        raise InputError(f"--gpu: {flags.gpu!r} is sold with {sizes}.")
    model = model_of(flags.model_config)
    if flags.quantization:
        model = quantization_override(model, flags.quantization)
    if flags.dtype and flags.dtype != "auto":
        model = replace(model, dtype=_dtype(flags.dtype))
    model = with_draft(model, flags.vllm_args)
    extra = list(flags.vllm_args)
    if flags.decode_context_parallel and flags.decode_context_parallel > 1:
        extra += ["--decode-context-parallel-size", str(flags.decode_context_parallel)]
    engine = EngineSpec(
        version=flags.vllm_version or EngineSpec.version,
        max_num_seqs=flags.max_num_seqs,
        max_num_batched_tokens=flags.max_num_batched_tokens,
        gpu_memory_utilization=flags.gpu_memory_utilization,
        kv_cache_dtype=_kv_dtype(flags.kv_cache_dtype),
        kv_cache_memory=flags.kv_cache_memory,
        enforce_eager=flags.enforce_eager,
        prefix_caching=not model.recurs or caches_states(flags.vllm_version),  # what vLLM does unasked
        extra_args=extra,
    )
    hardware = Hardware(
        gpu=flags.gpu,
        gpus_per_replica=flags.gpus,
        tensor_parallel=flags.tensor_parallel,
        pipeline_parallel=flags.pipeline_parallel,
        data_parallel=flags.data_parallel,
        expert_parallel=flags.expert_parallel,
    )
    traffic = Traffic(
        max_context=flags.max_model_len, prompt_tokens=flags.prompt_tokens, output_tokens=flags.output_tokens
    )
    fleet = Fleet(
        metadata=Metadata(name=_label(model.name)),
        spec=FleetSpec(
            model=Model(source=f"file://{flags.model_config}"),
            engine=engine,
            hardware=hardware,
            traffic=traffic,
            scaling=Scaling(min=1, max=1),
        ),
    )
    return fleet, model


def model_of(where: str) -> ModelConfig:
    """A path to a config.json (or its directory), or the id of a model in the built-in catalogue."""
    path = Path(where)
    if path.exists():
        return read_config(path)
    entry = find_config(where)
    if entry is None:
        raise InputError(
            f"--model-config: {where[:200]!r} is neither a file nor a model of the built-in catalogue.",
            "Pass the path of a config.json, or a model id such as meta-llama/Llama-3.1-8B.",
        )
    return parse(entry[1], where)


def _kv_dtype(text: str) -> KvDtype:
    """`fp8 (fp8_ds_mla)`, `fp8_e5m2`, `bfloat16`, `auto`."""
    low = text.lower()
    if "e5m2" in low:
        return "fp8_e5m2"
    if "e4m3" in low:
        return "fp8_e4m3"
    if "fp8" in low:
        return "fp8"
    if "nvfp4" in low:
        return "nvfp4"
    if low in ("", "auto", "none"):
        return "auto"
    if low in ("bfloat16", "float16", "bf16", "fp16", "half"):
        return "bfloat16"
    raise InputError(
        f"--kv-cache-dtype: {text[:60]!r} is not known here.",
        "Use auto, bfloat16, fp8, fp8_e4m3, fp8_e5m2 or nvfp4.",
    )


def _dtype(text: str) -> str:
    low = text.lower().removeprefix("torch.")
    names = {"bf16": "bfloat16", "half": "float16", "fp16": "float16", "float": "float32", "fp32": "float32"}
    name = names.get(low, low)
    if name not in ("bfloat16", "float16", "float32"):
        raise InputError(f"--dtype: {text[:60]!r} is not known here.", "Use bfloat16, float16 or float32.")
    return name


def _label(name: str) -> str:
    text = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.rsplit("/", 1)[-1].lower())
    return text.strip("-")[:63].strip("-") or "model"

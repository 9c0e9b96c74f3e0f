"""Rules of arithmetic: whether the model fits the GPUs, by the planner's own sums."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from seawall.decide.plan.memory import GpuMemory, spend
from seawall.decide.plan.setup import EngineSetup, PatchVersion, default_batch, default_utilization
from seawall.decide.plan.weights import weigh
from seawall.domain.catalog.gpus import GPUS, Gpu, find_gpu
from seawall.domain.model import ModelConfig
from seawall.engines.vllm import environment
from seawall.lint.controllers import azure_gpus
from seawall.lint.finding import Finding, Say, rule
from seawall.lint.node import YamlNode
from seawall.lint.objects import Container, Workload
from seawall.lint.size import model_of
from seawall.lint.world import Manifests

_GPU_KEYS = (
    "nvidia.com/gpu.product",
    "cloud.google.com/gke-accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
    "gpu",
    "gpu-type",
    "accelerator",
    "amd.com/gpu.product-name",
)
_INSTANCES = (
    ("p6-b300", "B300"),
    ("p6-b200", "B200"),
    ("p5en", "H200"),
    ("p5e", "H200"),
    ("p5", "H100-80GB"),
    ("p4de", "A100-80GB"),
    ("p4d", "A100-40GB"),
    ("g6e", "L40S"),
    ("g6", "L4"),
    ("g5", "A10G"),
    ("g4dn", "T4"),
    ("a3-ultra", "H200"),
    ("a3-high", "H100-80GB"),
    ("a3-mega", "H100-80GB"),
    ("a2-ultra", "A100-80GB"),
    ("a2-high", "A100-40GB"),
    ("a4-high", "B200"),
    ("g2-standard", "L4"),
)


_LONGER = re.compile(r"(?<!\d)(2[5-9]\d\d|\d{2,4}k|\d+m)(?![a-z0-9])|long|yarn|rope", re.I)
_NEARLY = 0.8
"""The share of a GPU's memory that weights have to take before a refusal that rests on estimates is worth a word."""
_SURE = 1.2
"""How far the need has to be above what is left before a refusal is called certain: the estimate errs by less."""


def gpu_of(pod: YamlNode) -> Gpu | None:
    """The GPU that node selector or required affinity names; None when it is open."""
    wanted: list[tuple[str, str]] = [(k, v.text()) for k, v in pod["nodeSelector"].items()]
    terms = pod.at(
        "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"
    )
    for term in terms:
        for e in term["matchExpressions"]:
            values = [v.text() for v in e["values"]]
            if e["operator"].text() == "In" and len(values) == 1:
                wanted.append((e["key"].text(), values[0]))
    for key, value in wanted:
        if key in _GPU_KEYS and (found := find_gpu(value.removeprefix("nvidia-"), near=False)):
            return found
        if key in ("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type"):
            if azure := azure_gpus(value)[0]:
                return find_gpu(azure, near=False)
            for start, name in _INSTANCES:
                if value.startswith(start):
                    return find_gpu(name)
    return None


def gpu_for(workload: Workload) -> Gpu | None:
    """The GPU that the Pod's placement names, or the machine size of a KAITO Workspace with a template of its own."""
    found = gpu_of(workload.pod)
    if found is None and workload.obj.kind in ("Workspace", "InferenceSet"):
        name = azure_gpus(workload.obj.node.at("resource", "instanceType").text())[0]
        return find_gpu(name, near=False) if name else None
    return found


def _setup(engine: Container, model: ModelConfig, gpu: Gpu) -> EngineSetup:
    c = engine.command
    version: PatchVersion = (*engine.version, 0)
    length = c.integer("--max-model-len") or model.max_position
    seqs, tokens = default_batch(gpu, version, length)
    try:
        utilization = float(c.value("--gpu-memory-utilization") or "")
    except ValueError:
        utilization = 0.0
    if not 0 < utilization <= 1:
        utilization = default_utilization(version)
    return EngineSetup(
        gpu=gpu,
        tp=engine.tensor_parallel,
        pp=c.integer("--pipeline-parallel-size") or 1,
        dp=c.integer("--data-parallel-size") or 1,
        ep=c.on("--enable-expert-parallel"),
        version=version,
        utilization=utilization,
        max_model_len=length,
        max_num_seqs=c.integer("--max-num-seqs") or seqs,
        batched_tokens=c.integer("--max-num-batched-tokens") or tokens,
        kv_dtype=c.value("--kv-cache-dtype") or "auto",
        eager=c.on("--enforce-eager"),
    )


def _open(engine: Container) -> bool:
    """True when the command line leaves out what the sum needs: a config file, variables, offloading, wrappers."""
    c = engine.command
    unsure = (
        "--config",
        "--cpu-offload-gb",
        "--kv-cache-memory-bytes",
        "--hf-overrides",
        "--nnodes",
        "--speculative-config",
        "--offload-backend",
        "--rope-scaling",
        "--quantization-config",
        "--limit-mm-per-prompt",
        "--decode-context-parallel-size",
    )
    return (
        (not c.known_flags and c.entry not in ("kwargs", "dynamo"))
        or c.entry == "run-batch"
        or any(c.option(n) for n in unsure)
        or any("$" in (o.value or "") for o in c.options)
    )


def _judged(world: Manifests) -> Iterator[tuple[Workload, Container, ModelConfig, Gpu | None]]:
    for workload, engine, model in _known(world):
        if not workload.multi_node:
            given = find_gpu(engine.given.gpu_name, near=False) if engine.given.gpu_name else None
            yield workload, engine, model, given or gpu_for(workload)


def _known(world: Manifests) -> Iterator[tuple[Workload, Container, ModelConfig]]:
    """Engines whose model is known, on however many nodes."""
    for workload in world.workloads:
        for engine in workload.engines:
            if workload.simulated or _open(engine):
                continue
            model = model_of(world, engine)
            if model is not None:
                yield workload, engine, model


def _holds(engine: Container, model: ModelConfig, gpu: Gpu, length: int | None = None) -> GpuMemory:
    setup = _setup(engine, model, gpu)
    return spend(model, setup if length is None else replace(setup, max_model_len=length))


def _smallest_split(engine: Container, model: ModelConfig, gpu: Gpu) -> int | None:
    for tp in (1, 2, 4, 8):
        setup = replace(_setup(engine, model, gpu), tp=tp, max_model_len=min(16384, model.max_position))
        if tp <= gpu.per_node and spend(model, setup).verdict == "fits":
            return tp
    return None


@rule(
    "fit/does-not-fit",
    "error",
    "The model does not fit the GPUs",
    story="""vLLM loads the weights, measures activations, and takes what is left of the GPU's memory x
    --gpu-memory-utilization (0.92 since 0.30) as KV cache. A 70B model in bf16 is 131 GiB: on one H100
    58 GiB are missing, on one H200 2 GiB; one B200 or MI300X holds it. vLLM dies with CUDA out of
    memory while loading, again and again. When the manifest names no GPU, the verdict is a warning: it
    says which ones would do.""",
    cure="More tensor parallelism, a larger GPU, or a quantized checkpoint; `seawall plan` "
    "names the cheapest.",
)
def does_not_fit(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine, model, gpu in _judged(world):
        tp = engine.tensor_parallel
        gib = weigh(model, tp, engine.command.integer("--pipeline-parallel-size") or 1).per_gpu / 2**30
        if gpu is not None:
            memory = _holds(engine, model, gpu, 2048)
            if memory.verdict in ("oom", "invalid") or (memory.verdict == "refused" and memory.kv_gib <= 0):
                if memory.verdict != "invalid" and gib < _NEARLY * gpu.memory_gib:
                    continue  # by a hair, on what is estimated: silence
                tp_fits = _smallest_split(engine, model, gpu)
                cure = (
                    f"--tensor-parallel-size {tp_fits} fits on {gpu.name}."
                    if tp_fits and tp_fits != tp
                    else None
                )
                certain = gib > gpu.memory_gib * _setup(engine, model, gpu).utilization
                if memory.verdict == "invalid" and not certain:
                    continue  # a split that cannot be: fit/heads-do-not-divide says so
                yield say(
                    workload.obj,
                    engine.model_node,
                    f"{model.name} in {_format(model)} needs {gib:.0f} GiB of weights per GPU at tensor "
                    f"parallel {tp}; "
                    f"{gpu.name} has {gpu.memory_gib * _setup(engine, model, gpu).utilization:.0f} GiB "
                    f"for everything: {memory.reason or 'out of memory'}.",
                    cure,
                    severity=None if certain else "warning",
                )
            continue
        if engine.vendor != "nvidia":
            continue  # what is said below is said of NVIDIA's cards
        common = [g for g in GPUS if g.auto]
        fitting = [
            g
            for g in common
            if _holds(engine, model, g, min(8192, model.max_position)).verdict in ("fits", "tight")
        ]
        small = next(g for g in common if g.name.startswith("H100"))
        if gib > 40 and not any(g.memory_gib <= 80 for g in fitting):
            tp_fits = _smallest_split(engine, model, small)
            hint = f"--tensor-parallel-size {tp_fits} fits on {small.name}; " if tp_fits else ""
            where = (
                f"only {', '.join(g.name for g in fitting)} hold it"
                if fitting
                else "no GPU of the catalogue holds it"
            )
            yield say(
                workload.obj,
                engine.model_node,
                f"{model.name} in {_format(model)} is {gib:.0f} GiB of weights per GPU at tensor "
                f"parallel {tp}: on 80 GB cards "
                f"it dies with CUDA out of memory; {where}, and the manifest asks for none by name.",
                f"{hint}an fp8 checkpoint needs half; `seawall plan` names the cheapest.",
                severity="warning",
            )


@rule(
    "fit/context-too-long",
    "error",
    "The KV cache does not hold one request",
    story="""Without --max-model-len vLLM takes the model's own limit (131,072 tokens for Llama 3.1: 40
    GiB of KV cache for 70B) and refuses to start when the cache cannot hold one request of that length:
    `... is larger than the maximum number of tokens that can be stored in KV cache`.""",
    cure="Set --max-model-len to what your traffic needs.",
)
def context_too_long(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine, model, gpu in _judged(world):
        if gpu is None:
            continue
        if _holds(engine, model, gpu, 2048).verdict in ("oom", "invalid"):
            continue
        memory = _holds(engine, model, gpu)
        if memory.verdict == "refused" and memory.kv_gib > 0:
            length = _setup(engine, model, gpu).max_model_len
            certain = memory.needed_gib > _SURE * max(memory.kv_gib, 0.0)
            option = engine.command.option("--max-model-len")
            yield say(
                workload.obj,
                option.node if option else engine.model_node,
                f"one request of {length:,} tokens needs {memory.needed_gib:.1f} GiB of KV cache and "
                f"{max(0.0, memory.kv_gib):.1f} GiB are "
                f"left on {gpu.name}: vLLM refuses to start"
                + ("." if certain else ", if this estimate is no worse than usual."),
                f"Set --max-model-len {memory.longest} or less." if memory.longest > 0 else None,
                severity=None if certain else "warning",
            )


@rule(
    "fit/beyond-the-model",
    "error",
    "A context longer than the model's own",
    story="""--max-model-len above what the model's config allows is refused: `User-specified
    max_model_len is greater than the derived max_model_len`. VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 or scaled
    positions (--hf-overrides) lift it, with answers of unknown quality.""",
    cure="Set --max-model-len to the model's own limit or less, or extend it with --hf-overrides.",
)
def beyond_the_model(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine, model in _known(world):
        length, option = engine.command.integer("--max-model-len"), engine.command.option("--max-model-len")
        limit = model.max_position
        if _LONGER.search(engine.model or ""):
            continue  # a variant with a longer context than its family's
        allowed = engine.env_value(environment.ALLOW_LONGER) in ("1", "true", "True")
        if option is not None and length and 0 < limit < length and not allowed:
            yield say(
                workload.obj,
                option.value_node,
                f"{model.name} has positions for {limit:,} tokens, {length:,} are asked for: vLLM refuses to start.",
            )


@rule(
    "fit/heads-do-not-divide",
    "error",
    "Tensor parallel does not divide the model",
    story="""The attention heads are shared out among the ranks; vLLM refuses a size that does not
    divide them: `Total number of attention heads must be divisible by tensor parallel size`.""",
    cure="Use a power of two that divides the heads.",
)
def heads(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine, model in _known(world):
        tp = engine.tensor_parallel
        option = engine.command.option("--tensor-parallel-size")
        if option is not None and model.heads and model.heads % tp:
            yield say(
                workload.obj,
                option.node,
                f"{model.heads} attention heads cannot be shared by {tp} ranks: vLLM refuses to start.",
            )


def _format(model: ModelConfig) -> str:
    return (
        model.quantization.method
        if model.quantization
        else {"bfloat16": "bf16", "float16": "fp16"}.get(model.dtype, model.dtype)
    )

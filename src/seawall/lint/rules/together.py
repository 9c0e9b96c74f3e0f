"""Rules about options that vLLM refuses beside each other, and about what stands inside its JSON options.

Read off vLLM's own validators (vllm/config, vllm/engine/arg_utils.py, vllm/entrypoints), each with the first release
that is known to check it: an older one is not judged. Forbidden here: an option's own value (`values.py`).
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from seawall.domain.model import ModelConfig
from seawall.engines.vllm.values import CONNECTORS, GRAPH_MODES, KEYS, METHODS, STRUCTURED
from seawall.engines.vllm.versions import Version
from seawall.lint.command import Command
from seawall.lint.finding import Finding, Say, Severity, rule
from seawall.lint.objects import Container, Workload
from seawall.lint.rules.engine import is_sure
from seawall.lint.size import model_of
from seawall.lint.world import Manifests


@dataclass(frozen=True)
class Contradiction:
    """Options that do not go together. `wrong` says what is wrong, or nothing."""

    at: str
    """The option at which it is said."""
    since: Version
    wrong: Callable[[Container, Command], str]


def _with(option: str, other: str, why: str) -> Callable[[Container, Command], str]:
    return lambda e, c: f"{option} and {other}: {why}" if c.on(option) and c.on(other) else ""


def _without(option: str, other: str) -> Callable[[Container, Command], str]:
    return lambda e, c: f"{option} needs {other}" if c.on(option) and not c.on(other) else ""


def _above(option: str, other: str, why: str) -> Callable[[Container, Command], str]:
    """`option` is above `other`, both numbers."""

    def wrong(e: Container, c: Command) -> str:
        mine, most = c.integer(option), c.integer(other)
        return f"{option} {mine} is above {other} {most}: {why}" if mine and most and mine > most else ""

    return wrong


def _chunked(e: Container, c: Command) -> str:
    tokens, length = c.integer("--max-num-batched-tokens"), c.integer("--max-model-len")
    small = tokens and length and tokens < length and c.off("--enable-chunked-prefill")
    return (
        f"--max-num-batched-tokens {tokens} is below --max-model-len {length}, and chunked prefill is off"
        if small
        else ""
    )


def _nodes(e: Container, c: Command) -> str:
    nodes, rank = c.integer("--nnodes") or 1, c.integer("--node-rank")
    sizes = ("--pipeline-parallel-size", "--data-parallel-size", "--prefill-context-parallel-size")
    if any(
        o.open for o in c.options if o.name in ("--nnodes", "--node-rank", "--tensor-parallel-size", *sizes)
    ):
        return ""
    world = e.tensor_parallel
    for size in sizes:
        world *= c.integer(size) or 1
    if rank is not None and not 0 <= rank < nodes:
        return f"--node-rank {rank} of {nodes} nodes: they are counted from 0"
    if nodes > 1 and world % nodes:
        return f"--nnodes {nodes} does not divide the {world} ranks"
    if nodes > 1 and c.value("--distributed-executor-backend") == "ray":
        return "--nnodes goes with --distributed-executor-backend mp"
    if nodes > 1 and not c.option("--master-addr") and c.option("--nnodes"):
        return f"--nnodes {nodes} without --master-addr (it is 127.0.0.1): the nodes do not find each other"
    return ""


def _data_rank(e: Container, c: Command) -> str:
    rank, size = c.integer("--data-parallel-rank"), c.integer("--data-parallel-size") or 1
    fits = rank is None or c.option("--data-parallel-rank") is None or rank < size
    return "" if fits else f"--data-parallel-rank {rank} of {size}: ranks are counted from 0"


def _hybrid(e: Container, c: Command) -> str:
    local = c.option("--data-parallel-size-local") or c.option("--data-parallel-start-rank")
    return (
        "--data-parallel-hybrid-lb needs --data-parallel-size-local"
        if c.on("--data-parallel-hybrid-lb") and not local
        else ""
    )


def _context(e: Container, c: Command) -> str:
    dcp = c.integer("--decode-context-parallel-size") or 1
    alone = not c.option("--prefill-context-parallel-size")
    return (
        f"--decode-context-parallel-size {dcp} does not divide {e.tensor_parallel} ranks"
        if alone and e.tensor_parallel % dcp
        else ""
    )


def _eplb(e: Container, c: Command) -> str:
    redundant = inside(c, "--eplb-config").get("num_redundant_experts")
    if c.on("--enable-eplb") and not c.on("--enable-expert-parallel"):
        return "--enable-eplb needs --enable-expert-parallel"
    return "num_redundant_experts without --enable-eplb" if redundant and not c.on("--enable-eplb") else ""


def _one_each(option: str, json_option: str, key: str) -> Callable[[Container, Command], str]:
    def wrong(e: Container, c: Command) -> str:
        both = c.option(option) and inside(c, json_option).get(key) is not None
        return f"{option} and {key} of {json_option} say the same thing twice" if both else ""

    return wrong


def _objects(e: Container, c: Command) -> str:
    form = c.value("--load-format") or "auto"
    remote = (e.model or "").startswith(("s3://", "gs://", "az://"))
    fits = form in (
        "auto",
        "runai_streamer",
        "runai_streamer_sharded",
        "modelexpress",
        "tensorizer",
        "remote",
    )
    return (
        f"{e.model} is in an object store, and --load-format {form} reads files"
        if remote and not fits
        else ""
    )


def _adapters(e: Container, c: Command) -> str:
    if c.option("--lora-modules") and not c.on("--enable-lora"):
        return "--lora-modules without --enable-lora: `LoRA is not enabled`"
    several = (c.integer("--api-server-count") or 1) > 1
    if several and (e.env_value("VLLM_ALLOW_RUNTIME_LORA_UPDATING") or "").lower() in ("1", "true"):
        return "--api-server-count above 1 and VLLM_ALLOW_RUNTIME_LORA_UPDATING"
    return ""


def _headless(e: Container, c: Command) -> str:
    several = (c.integer("--api-server-count") or 0) > 0
    return (
        "--headless starts no API server, and --api-server-count asks for some"
        if c.on("--headless") and several
        else ""
    )


def _traces(e: Container, c: Command) -> str:
    asked = (c.value("--collect-detailed-traces") or "None") != "None"
    return (
        "--collect-detailed-traces needs --otlp-traces-endpoint"
        if asked and not c.option("--otlp-traces-endpoint")
        else ""
    )


def _old_float(e: Container, c: Command) -> str:
    fp8 = bool(re.search(r"-fp8(-|$)", (e.model or "").lower()))
    clash = fp8 and c.value("--kv-cache-dtype") == "fp8_e5m2"
    return f"--kv-cache-dtype fp8_e5m2 and {e.model}, a checkpoint in fp8" if clash else ""


def _only_amd(e: Container, c: Command) -> str:
    return (
        "--quantization ptpc_fp8 is for AMD's GPUs"
        if c.value("--quantization") == "ptpc_fp8" and e.vendor == "nvidia"
        else ""
    )


def _graphs(e: Container, c: Command) -> str:
    body = inside(c, "--compilation-config")
    mode, graph = body.get("mode"), body.get("cudagraph_mode")
    if isinstance(mode, int) and not 0 <= mode <= 3:
        return f"--compilation-config has mode {mode}, and there are 0 to 3"
    if isinstance(graph, str) and graph.upper() not in GRAPH_MODES:
        return f"cudagraph_mode {graph} is none of {', '.join(GRAPH_MODES)}"
    return ""


def _grammar(e: Container, c: Command) -> str:
    name = inside(c, "--structured-outputs-config").get("backend")
    fits = name is None or name in STRUCTURED
    return (
        "" if fits else f"--structured-outputs-config has backend {name}, and takes {', '.join(STRUCTURED)}"
    )


def _loras(e: Container, c: Command) -> str:
    on_cpu, at_once = c.integer("--max-cpu-loras"), c.integer("--max-loras") or 1
    return (
        f"--max-cpu-loras {on_cpu} is below --max-loras {at_once}"
        if on_cpu is not None and on_cpu < at_once
        else ""
    )


_TABLE = (
    Contradiction("--enable-log-outputs", (0, 11), _without("--enable-log-outputs", "--enable-log-requests")),
    Contradiction("--headless", (0, 10), _headless),
    Contradiction("--data-parallel-hybrid-lb", (0, 11),
            _with("--data-parallel-hybrid-lb", "--data-parallel-external-lb", "one way to balance at a time")),
    Contradiction("--data-parallel-hybrid-lb", (0, 12), _hybrid),
    Contradiction("--data-parallel-rank", (0, 9), _data_rank),
    Contradiction("--nnodes", (0, 12), _nodes),
    Contradiction("--node-rank", (0, 12), lambda e, c: "" if c.option("--nnodes") else _nodes(e, c)),
    Contradiction("--max-num-batched-tokens", (0, 9), _chunked),
    Contradiction("--long-prefill-token-threshold", (0, 9),
            _above("--long-prefill-token-threshold", "--max-model-len", "no prompt is that long")),
    Contradiction("--max-num-active-seqs", (0, 30),
            _above("--max-num-active-seqs", "--max-num-seqs", "no more are batched")),
    Contradiction("--decode-context-parallel-size", (0, 11), _context),
    Contradiction("--enable-eplb", (0, 10), _eplb),
    Contradiction("--eplb-config", (0, 11), lambda e, c: "" if c.option("--enable-eplb") else _eplb(e, c)),
    Contradiction("--attention-backend", (0, 16), _one_each("--attention-backend", "--attention-config", "backend")),
    Contradiction("--cudagraph-capture-sizes", (0, 13),
            _one_each("--cudagraph-capture-sizes", "--compilation-config", "cudagraph_capture_sizes")),
    Contradiction("--max-cudagraph-capture-size", (0, 13),
            _one_each("--max-cudagraph-capture-size", "--compilation-config", "max_cudagraph_capture_size")),
    Contradiction("--load-format", (0, 11), _objects),
    Contradiction("--lora-modules", (0, 8), _adapters),
    Contradiction("--api-server-count", (0, 10), lambda e, c: "" if c.option("--lora-modules") else _adapters(e, c)),
    Contradiction("--max-cpu-loras", (0, 8), _loras),
    Contradiction("--enable-per-request-metrics", (0, 30),
            _with("--enable-per-request-metrics", "--disable-log-stats", "there is nothing to tell")),
    Contradiction("--collect-detailed-traces", (0, 8), _traces),
    Contradiction("--kv-cache-dtype", (0, 8), _old_float),
    Contradiction("--quantization", (0, 8), _only_amd),
    Contradiction("--compilation-config", (0, 12), _graphs),
    Contradiction("--structured-outputs-config", (0, 11), _grammar),
    Contradiction("--mamba-block-size", (0, 13), lambda e, c: "--mamba-block-size needs --enable-prefix-caching"
            if c.option("--mamba-block-size") and c.off("--enable-prefix-caching") else ""),
)  # fmt: skip


def inside(command: Command, name: str) -> dict[str, Any]:
    """What a JSON option holds; empty when it is absent, set key by key, or no JSON."""
    option = command.option(name)
    if option is None or "." in option.word or option.open:
        return {}
    try:
        found = json.loads(option.value or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _judged(world: Manifests) -> Iterator[tuple[Workload, Container]]:
    """Engines whose whole command line is in sight."""
    for workload in world.workloads:
        for engine in workload.engines:
            c = engine.command
            if engine.plain_flags and not c.is_open and not c.option("--config") and not c.demo:
                yield workload, engine


@rule(
    "values/not-together",
    "error",
    "Options that vLLM refuses together",
    story="""vLLM looks at its options as a whole before it loads anything: --enable-log-outputs needs
    --enable-log-requests, --nnodes divides the ranks, --lora-modules needs --enable-lora, --max-cpu-loras is not below
    --max-loras, one setting is made in one place. Otherwise it ends with a ValueError, and the Pod crash-loops. Of
    releases from before the check is known nothing is said.""",
    cure="Change one of the two.",
)
def not_together(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _judged(world):
        for entry in _TABLE:
            option = engine.command.option(entry.at)
            if option is None or engine.version < entry.since:
                continue
            if why := entry.wrong(engine, engine.command):
                severity: Severity | None = None if is_sure(engine) else "warning"
                yield say(workload.obj, option.node, f"{why}: vLLM refuses to start.", severity=severity)


@rule(
    "values/wrong-key",
    "error",
    "A key or value inside a JSON option that vLLM refuses",
    story="""The keys of --speculative-config and --kv-transfer-config are checked, an unknown one ends vLLM
    (`Unexpected keyword argument`). A draft needs num_speculative_tokens above 0, a method that vLLM has and
    draft_tensor_parallel_size (1, or that of the model), not tensor_parallel_size. A connector that no release has
    needs kv_connector_module_path (`Unsupported connector type`).""",
    cure="Write the key as vLLM's documentation has it.",
)
def wrong_key(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        for engine in workload.engines:
            for name, known in KEYS.items():
                option, body = engine.command.option(name), inside(engine.command, name)
                if option is None or not body or engine.command.entry == "wrapper":
                    continue
                severity: Severity | None = None if is_sure(engine) else "warning"
                for key in body:
                    if key not in known:
                        near = difflib.get_close_matches(key, known, 1, 0.6)
                        yield say(workload.obj, option.node, f"{name} has no key {key}: vLLM refuses to start.",
                                  f"Did you mean {near[0]}?" if near else None, severity=severity)  # fmt: skip
                check = _draft if name == "--speculative-config" else _connector
                for why in check(engine, body):
                    yield say(workload.obj, option.node, f"{why}: vLLM refuses to start.", severity=severity)


def _draft(engine: Container, body: dict[str, Any]) -> Iterator[str]:
    method, count = str(body.get("method") or ""), body.get("num_speculative_tokens")
    if method and method not in METHODS:
        near = difflib.get_close_matches(method.lower(), METHODS, 1, 0.5)
        yield f"no vLLM that we know drafts by {method}" + (f" (there is {near[0]})" if near else "")
    if body.get("tensor_parallel_size") is not None:
        yield "tensor_parallel_size of a draft is called draft_tensor_parallel_size"
    if isinstance(count, int) and count < 1:
        yield f"num_speculative_tokens is {count}"
    if count is None and (
        method in ("ngram", "eagle", "eagle3", "draft_model", "suffix") and method != "suffix"
    ):
        yield f"{method} needs num_speculative_tokens"
    if count is not None and not body.get("model") and not method:
        yield "num_speculative_tokens without a model or a method"
    if method == "eagle" and re.search(r"eagle-?3", str(body.get("model") or ""), re.I):
        yield f"{body['model']} is an EAGLE3 draft, and the method is eagle"
    ranks, least, most = (
        body.get("draft_tensor_parallel_size"),
        body.get("prompt_lookup_min"),
        body.get("prompt_lookup_max"),
    )
    if isinstance(ranks, int) and ranks not in (1, engine.tensor_parallel):
        yield f"draft_tensor_parallel_size {ranks} is neither 1 nor the model's {engine.tensor_parallel}"
    if isinstance(least, int) and isinstance(most, int) and least > most:
        yield f"prompt_lookup_min {least} is above prompt_lookup_max {most}"


def _connector(engine: Container, body: dict[str, Any]) -> Iterator[str]:
    name = str(body.get("kv_connector") or "")
    near = difflib.get_close_matches(name, CONNECTORS, 1, 0.8)
    if name and name not in CONNECTORS and not body.get("kv_connector_module_path") and near:
        yield f"no vLLM that we know has a connector {name} (there is {near[0]})"


_CHECKPOINTS = (
    "awq",
    "awq_marlin",
    "gptq",
    "gptq_marlin",
    "compressed-tensors",
    "modelopt",
    "modelopt_fp4",
    "mxfp4",
)
"""Methods that need a checkpoint made by them; others (fp8, bitsandbytes) can be made while vLLM loads."""
_FAMILY = {
    "awq_marlin": "awq",
    "gptq_marlin": "gptq",
    "modelopt_fp4": "modelopt",
    "auto_awq": "awq",
    "auto_gptq": "gptq",
}


@rule(
    "values/other-quantization",
    "error",
    "A quantization that the checkpoint does not have",
    story="""--quantization awq, gptq and compressed-tensors name what the checkpoint was made with; vLLM reads it off
    the checkpoint by itself. On one that is not quantized it ends with `Cannot find the config file for awq`, on one of
    another method with `Quantization method specified in the model config (...) does not match`.""",
    cure="Leave --quantization out: vLLM takes what the checkpoint says.",
)
def other_quantization(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _judged(world):
        option = engine.command.option("--quantization")
        if option is None or option.value not in _CHECKPOINTS or not engine.model:
            continue
        has, wanted = _made_with(world, engine), _FAMILY.get(option.value, option.value)
        if has is None or _FAMILY.get(has, has) == wanted:
            continue
        what = f"was made with {has}" if has else "is not quantized"
        severity: Severity | None = None if is_sure(engine) else "warning"
        text = f"{engine.model} {what}: with --quantization {option.value} vLLM refuses to start."
        yield say(workload.obj, option.node, text, severity=severity)


def _made_with(world: Manifests, engine: Container) -> str | None:
    """The method that the checkpoint itself names, empty for none; None when nobody knows."""
    model: ModelConfig | None = world.models(engine.model or "", None)
    last = (engine.model or "").rsplit("/", 1)[-1].lower()
    named = next((m for m in ("awq", "gptq") if f"-{m}" in last), None)
    if named:
        return named
    if model is None or not _same(engine, model):
        return None
    return model.quantization.method if model.quantization else ""


def _same(engine: Container, model: ModelConfig) -> bool:
    """Whether the catalogue's model is the one that is served, tuned or not, and not another one of its family."""
    served, known = (
        _TUNED.sub("", n.rstrip("/").rsplit("/", 1)[-1].lower()) for n in (engine.model or "", model.name)
    )
    return served == known


_TUNED = re.compile(r"-(instruct|chat|it|base|hf)(?=-|$)")


@rule(
    "values/no-experts",
    "error",
    "Expert parallelism without experts",
    story="""--enable-expert-parallel shares the experts of a mixture out among the ranks. A dense model has none: vLLM
    ends with `Number of experts in the model must be greater than 0 when expert parallelism is enabled`.""",
    cure="Remove --enable-expert-parallel.",
)
def no_experts(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _judged(world):
        option = engine.command.option("--enable-expert-parallel")
        model = (
            model_of(world, engine)
            if option is not None and engine.command.on("--enable-expert-parallel")
            else None
        )
        if (
            option is not None
            and model is not None
            and model.experts is None
            and _same(engine, model)
            and engine.version >= (0, 9)
        ):
            yield say(workload.obj, option.node, f"{model.name} has no experts: vLLM refuses to start.",
                      severity=None if is_sure(engine) else "warning")  # fmt: skip

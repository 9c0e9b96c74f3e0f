"""Rules about the vLLM command line and image: flags by version, what the engine needs beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.engines.vllm import environment
from seawall.engines.vllm.versions import check_flag
from seawall.lint.command import Option, is_vllm_image
from seawall.lint.finding import Finding, Say, rule
from seawall.lint.patch import Edits, Patcher
from seawall.lint.world import Container, Workload, World


def _engines(world: World) -> Iterator[tuple[Workload, Container]]:
    for workload in world.workloads:
        for engine in workload.engines:
            yield workload, engine


def _flag_findings(world: World, say: Say, kind: str, effect: str) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload, engine in _engines(world):
        if not engine.command.known_flags or engine.command.entry == "run-batch":
            continue
        for option in engine.command.options:
            if option.word.startswith(("--$", "-$")) or "{" in option.word:
                continue
            problem = check_flag(option.word, engine.version)
            if problem is None or problem.kind != kind:
                continue
            cure = _instead(option.word, problem.instead)
            edits: Edits = ()
            if problem.instead.startswith("nothing"):
                edits = _drop(patch, engine, option)
            elif kind == "unknown" and problem.instead and "=" not in option.node.text():
                edits = patch.replace(option.node, problem.instead)
            yield say(workload.obj, option.node, f"{problem.message}{effect}", cure, edits=edits)


def _instead(word: str, instead: str) -> str:
    if not instead:
        return f"Remove {word}, or pin an image whose vLLM has it."
    if instead.startswith("nothing"):
        return f"Remove {word}" + instead.removeprefix("nothing") + "."
    return f"Use {instead}."


def _drop(patch: Patcher, engine: Container, option: Option) -> Edits:
    items = [option.node] if option.value_node is option.node else [option.node, option.value_node]
    for words in (engine.node["args"], engine.node["command"]):
        if words and all(i in (words.elements or []) for i in items):
            return patch.remove_items(words, items)
    return ()


@rule(
    "engine/removed-flag",
    "error",
    "A flag that this vLLM no longer has",
    story="""vLLM's parser exits with status 2 on an argument it does not know, before it loads anything.
    The container restarts at once and ends in CrashLoopBackOff. Old blog posts and charts are full of flags
    of the V0 engine. The table of flags was read off the parsers of vLLM 0.8 to 0.32.""",
    cure="Remove the flag, or write what replaced it.",
    fixable=True,
)
def removed_flag(world: World, say: Say) -> Iterator[Finding]:
    yield from _flag_findings(world, say, "removed", ": vLLM exits with status 2 and the Pod crash-loops.")


@rule(
    "engine/unknown-flag",
    "error",
    "A flag that no vLLM knows",
    story="""A typo in a flag is fatal: vLLM exits with status 2 and the Pod crash-loops. (An unambiguous
    beginning of a flag is accepted, as vLLM's parser does; flags newer than the newest version in our table
    may be reported here.)""",
    cure="Correct the spelling.",
    fixable=True,
)
def unknown_flag(world: World, say: Say) -> Iterator[Finding]:
    yield from _flag_findings(world, say, "unknown", ": it exits with status 2 and the Pod crash-loops.")


@rule(
    "engine/flag-too-new",
    "error",
    "A flag that this vLLM does not have yet",
    story="""The flag exists, but in a later vLLM than the image's tag names. The parser exits with status 2
    and the Pod crash-loops.""",
    cure="Pin a newer image, or leave the flag out.",
)
def flag_too_new(world: World, say: Say) -> Iterator[Finding]:
    yield from _flag_findings(world, say, "too new", ": it exits with status 2 and the Pod crash-loops.")


@rule(
    "engine/deprecated-flag",
    "warning",
    "A flag that the next vLLM will refuse",
    story="The flag still works, with a warning in the log. After the upgrade that removes it, "
    "the Pod crash-loops.",
    cure="Write what replaces it now.",
    fixable=True,
)
def deprecated_flag(world: World, say: Say) -> Iterator[Finding]:
    yield from _flag_findings(world, say, "deprecated", ": a later vLLM will refuse to start.")


@rule(
    "engine/deprecated-entrypoint",
    "warning",
    "Started through the old API server module",
    story="""`python -m vllm.entrypoints.openai.api_server` is deprecated in favour of `vllm serve` (vLLM
    0.32 logs it). The day the module goes, the Pod crash-loops.""",
    cure='Start it with command: ["vllm", "serve"].',
    fixable=True,
)
def deprecated_entrypoint(world: World, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload, engine in _engines(world):
        if engine.command.entry != "module":
            continue
        words = engine.node["command"]
        edits: Edits = ()
        if (
            len(words.elements or []) == 3
            and re.fullmatch(r".*python3?", words[0].text())
            and words[1].text() == "-m"
        ):
            edits = (
                *patch.replace(words[0], "vllm"),
                *patch.replace(words[1], "serve"),
                *patch.remove_items(words, [words[2]]),
            )
        yield say(
            workload.obj,
            engine.command.node,
            "the module vllm.entrypoints.openai.api_server is deprecated; the release that "
            "removes it crash-loops this Pod.",
            edits=edits,
        )


@rule(
    "engine/image-not-pinned",
    "warning",
    "An image that changes under you",
    story="""`latest`, `nightly` or no tag: two replicas that start on different days run different vLLM
    versions, with different flags, metrics and numerics; a node that comes up at night can bring a version
    that refuses your flags. A rollback rolls back nothing.""",
    cure="Pin a version tag, better a digest: vllm/vllm-openai:v0.32.0@sha256:...",
)
def image_not_pinned(world: World, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        for node in [*workload.pod["containers"], *workload.pod["initContainers"]]:
            image = node["image"].text()
            if not image or "@sha256:" in image or "$" in image:
                continue
            tag = image.rsplit("/", 1)[-1].partition(":")[2]
            if tag in ("", "latest", "nightly", "main", "dev", "stable"):
                shown = f":{tag}" if tag else "no tag at all"
                yield say(
                    workload.obj,
                    node["image"],
                    f"{image} has {shown}: replicas that start on different days run different versions, "
                    "and a restart "
                    "can bring one that refuses these flags.",
                )


@rule(
    "engine/no-stats",
    "error",
    "Metrics switched off",
    story="""`--disable-log-stats` does not only quiet the log: it stops the `vllm:` metrics from being
    updated. Autoscaling, dashboards and alerts go blind. It is often written in place of the removed
    `--disable-log-requests`.""",
    cure="Remove --disable-log-stats.",
    fixable=True,
)
def no_stats(world: World, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload, engine in _engines(world):
        option = engine.command.option("--disable-log-stats")
        if workload.serves and option is not None and engine.command.on("--disable-log-stats"):
            yield say(
                workload.obj,
                option.node,
                "--disable-log-stats freezes every vllm: metric: autoscaling, dashboards and alerts "
                "go blind.",
                edits=_drop(patch, engine, option),
            )


@rule(
    "engine/unbounded-queue",
    "warning",
    "An unbounded queue",
    story="""vLLM's queue has no bound and its requests have no timeout. Measured: at 50 requests/s of 256
    tokens on a server that cannot follow, all 750 were accepted, 375 waited, and the median time to first
    token rose to 7.7 s; with --max-num-queued-reqs 64 the surplus got 503 in 2.6 ms and the accepted ones
    1.7 s. KV cache is preallocated: overload does not run out of memory, it queues.""",
    cure="Add --max-num-queued-reqs (it counts waiting plus running), e.g. 1.5 x the "
    "concurrency that meets your SLO.",
)
def unbounded_queue(world: World, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        command = engine.command
        if not workload.serves or workload.partial or not command.known_flags or engine.version < (0, 29):
            continue
        if command.option("--max-num-queued-reqs") is None and command.option("--config") is None:
            yield say(
                workload.obj,
                engine.node["args"] or engine.node,
                "under overload every request is accepted and waits without limit: all clients time "
                "out instead of some getting 503.",
            )


@rule(
    "engine/parallel-exceeds-gpus",
    "error",
    "More tensor-parallel ranks than GPUs",
    story="""tensor x pipeline (x data) parallel ranks each need a GPU. With fewer in the Pod vLLM fails at
    start; with more, GPUs that you pay for are idle.""",
    cure="Make the GPU limit equal to --tensor-parallel-size x --pipeline-parallel-size (x "
    "--data-parallel-size).",
)
def parallel_exceeds_gpus(world: World, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        count, node = engine.gpus
        command = engine.command
        if not count or workload.multi_node or not command.known_flags or command.option("--config"):
            continue
        pp = command.integer("--pipeline-parallel-size") or 1
        dp = command.integer("--data-parallel-size-local") or command.integer("--data-parallel-size") or 1
        if command.option("--nnodes") is not None or any(
            "$" in (o.value or "") for o in command.options if "parallel" in o.name
        ):
            continue
        need = engine.tensor_parallel * pp * dp
        if need > count:
            yield say(
                workload.obj,
                node,
                f"{need} ranks are asked for and the container gets {count} GPUs: vLLM fails at start.",
            )
        elif need < count:
            yield say(
                workload.obj,
                node,
                f"the container gets {count} GPUs and vLLM uses {need}: the others are paid for and idle.",
                f"Add --tensor-parallel-size {count}, or ask for {need}.",
                severity="warning",
            )


@rule(
    "engine/no-shm",
    "error",
    "Tensor parallelism without /dev/shm",
    story="""NCCL and the workers of one replica talk through /dev/shm, which is 64 MiB in a Pod. With
    tensor-parallel size above 1 start-up dies with an NCCL error or a bus error. An emptyDir with medium
    Memory mends it; it counts into the container's memory limit.""",
    cure="Mount an emptyDir {medium: Memory, sizeLimit: 8Gi} at /dev/shm.",
)
def no_shm(world: World, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        if workload.partial or engine.tensor_parallel < 2 or workload.pod["hostIPC"].value is True:
            continue
        mounts = {m["mountPath"].text().rstrip("/"): v for m, v in workload.mounts(engine.node)}
        volume = mounts.get("/dev/shm")
        if volume is None:
            yield say(
                workload.obj,
                engine.node["volumeMounts"],
                f"tensor parallel {engine.tensor_parallel} with the default 64 MiB /dev/shm: NCCL "
                "fails at start (bus error).",
            )
        elif "emptyDir" in volume and volume.at("emptyDir", "medium").text() != "Memory":
            yield say(
                workload.obj,
                volume["emptyDir"],
                "/dev/shm on disk: every exchange between the ranks goes through the file system.",
                "Set medium: Memory.",
                severity="warning",
            )


@rule(
    "engine/no-gpu",
    "error",
    "A GPU image without a GPU",
    story="""Without a GPU in its limits (or a DRA claim) the Pod is placed on any node and vLLM dies with
    `Failed to infer device type`.""",
    cure="Set resources.limits: {nvidia.com/gpu: N}.",
)
def no_gpu(world: World, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        image = engine.node["image"].text()
        if workload.partial or not is_vllm_image(image) or "cpu" in image or "tpu" in image or engine.gpus[0]:
            continue
        if (
            engine.node.at("resources", "claims")
            or workload.pod["resourceClaims"]
            or workload.pod["resources"]
        ):
            continue
        if workload.multi_node or workload.obj.kind in ("InferenceService", "LLMInferenceService"):
            continue
        if engine.env(environment.TARGET_DEVICE) or engine.command.value("--device") == "cpu":
            continue
        if any(
            re.search(r"/(gpu|tpu|neuron\w*|gaudi|npu|accelerator)", k)
            for k, _ in engine.node.at("resources", "limits").items()
        ):
            continue
        yield say(
            workload.obj,
            engine.node["resources"],
            "no GPU is asked for: the Pod lands on any node and vLLM dies with `Failed to infer "
            "device type`.",
        )


@rule(
    "engine/no-compile-cache",
    "note",
    "Compiled kernels are thrown away",
    story="""vLLM compiles kernels and graphs at start and keeps them under ~/.cache/vllm (VLLM_CACHE_ROOT).
    In a container that is gone with the Pod: every scale-up compiles again. llm-d measured 135 s to 100 s
    Pod-ready for a 32B model with a cache.""",
    cure="Mount a volume (PVC or hostPath) and set VLLM_CACHE_ROOT to it.",
)
def no_compile_cache(world: World, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        if (
            workload.partial
            or not workload.serves
            or engine.command.on("--enforce-eager")
            or engine.env(environment.CACHE_ROOT)
        ):
            continue
        if workload.simulated or not engine.command.known_flags:
            continue
        paths = [m["mountPath"].text().rstrip("/") for m in engine.node["volumeMounts"]]
        if not any(p.endswith(("/.cache", "/.cache/vllm", "/.cache/torch")) for p in paths):
            yield say(
                workload.obj,
                engine.node["volumeMounts"],
                "each new replica compiles its kernels again (30 s and more of every scale-up): the "
                "cache dies with the Pod.",
            )

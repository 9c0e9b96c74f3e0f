"""Rules about the vLLM command line and image: flags by version, what the engine needs beside it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from seawall.engines.vllm import environment
from seawall.engines.vllm.models import first_version
from seawall.engines.vllm.versions import LATEST, OLDEST, FlagProblem, check_flag, find_flag
from seawall.lint.command import Option
from seawall.lint.finding import Finding, Say, rule
from seawall.lint.image import MOVING, is_official, is_vllms_own, newest_inside, split
from seawall.lint.objects import Container, Workload
from seawall.lint.patch import Edits, Patcher
from seawall.lint.world import Manifests

_PLACEHOLDER = re.compile(r"[${<]|^[A-Z_]+$|YOUR|REPLACE|PLACEHOLDER|your[-_]|example\.com/your")
"""An image that its reader is to fill in."""
_SERVE_SINCE = (0, 6)
"""The first release with `vllm serve`."""
_NEAR = 0.85
"""How alike a word and a real flag are when the one is a misspelling of the other."""


def _engines(world: Manifests) -> Iterator[tuple[Workload, Container]]:
    for workload in world.workloads:
        for engine in workload.engines:
            yield workload, engine


def is_sure(engine: Container) -> bool:
    """The version is on the image and every option goes to vLLM's own parser: what it refuses, it refuses."""
    return engine.pinned and engine.plain_flags


def shown(option: Option, engine: Container) -> str:
    """The option as its author wrote it: a flag, or a key of somebody's YAML."""
    return option.word if engine.command.entry != "kwargs" else option.word[2:].replace("-", "_")


def _problems(world: Manifests, kind: str) -> Iterator[tuple[Workload, Container, Option, FlagProblem]]:
    for workload, engine in _engines(world):
        if engine.command.entry == "run-batch":
            continue
        for option in engine.command.options:
            if (
                option.word.startswith(("--$", "-$"))
                or "{" in option.word
                or (option.open and "$" in option.word)
            ):
                continue
            problem = check_flag(option.word, engine.version)
            if problem is not None and problem.kind == kind:
                yield workload, engine, option, problem


def _edits(patch: Patcher, engine: Container, option: Option, instead: str) -> Edits:
    if instead.startswith("nothing"):
        return _drop(patch, engine, option)
    return ()


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
    story="""vLLM's parser exits with status 2 on an argument it does not know, before it loads
    anything. The container restarts at once and ends in CrashLoopBackOff. Old blog posts and charts are
    full of flags of the V0 engine. The table of flags was read off the parsers of vLLM 0.8 to 0.33.""",
    cure="Remove the flag, or write what replaced it.",
    fixable=True,
)
def removed_flag(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload, engine, option, problem in _problems(world, "removed"):
        flag = find_flag(option.word)
        gone = flag.removed if flag else None
        if engine.version < OLDEST and gone == OLDEST:
            continue  # the table does not look further back
        since = f"{gone[0]}.{gone[1]}" if gone else "a later release"
        word = shown(option, engine)
        cure = _instead(word, problem.instead)
        edits = _edits(patch, engine, option, problem.instead)
        if is_sure(engine):
            message = f"{word} was removed in vLLM {since}: vLLM exits with status 2 and the Pod crash-loops."
            yield say(workload.obj, option.node, message, cure, edits=edits)
        else:
            message = (
                f"{word} was removed in vLLM {since}; no version of vLLM is named here, and {since} or a later one "
                "refuses to start with it."
            )
            yield say(workload.obj, option.node, message, cure, severity="warning", edits=edits)


@rule(
    "engine/unknown-flag",
    "error",
    "A flag that no vLLM knows",
    story="""A typo in a flag is fatal: vLLM exits with status 2 and the Pod crash-loops. (An
    unambiguous beginning of a flag is accepted, as vLLM's parser does; flags newer than the newest
    version in our table may be reported here.)""",
    cure="Correct the spelling.",
    fixable=True,
)
def unknown_flag(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload, engine, option, problem in _problems(world, "unknown"):
        word = shown(option, engine)
        near = problem.instead
        alike = bool(near) and difflib.SequenceMatcher(None, word.split("=", 1)[0], near).ratio() >= _NEAR
        plain, known = engine.plain_flags, OLDEST <= engine.version <= LATEST
        if engine.command.entry == "dynamo" or (not alike and not (plain and known)):
            continue  # a fork's or a wrapper's own option, or one that came after our table
        cure = f"Did you mean {near}?" if alike else f"Remove {word}, or pin an image whose vLLM has it."
        if is_sure(engine) and known and is_vllms_own(engine.image):
            fixed = near if alike and "=" not in option.node.text() else ""
            message = f"{problem.message}: it exits with status 2 and the Pod crash-loops."
            edits = patch.replace(option.node, fixed) if fixed else ()
            yield say(workload.obj, option.node, message, cure, edits=edits)
        else:
            newest = f"{LATEST[0]}.{LATEST[1]}"
            oldest = f"{OLDEST[0]}.{OLDEST[1]}"
            message = f"no vLLM from {oldest} to {newest} knows {word}, and it refuses what it does not know."
            yield say(workload.obj, option.node, message, cure, severity="warning")


@rule(
    "engine/flag-too-new",
    "error",
    "A flag that this vLLM does not have yet",
    story="""The flag exists, but in a later vLLM than the image's tag names. The parser exits with
    status 2 and the Pod crash-loops.""",
    cure="Pin a newer image, or leave the flag out.",
)
def flag_too_new(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine, option, problem in _problems(world, "too new"):
        if is_sure(engine):
            message = f"{problem.message}: it exits with status 2 and the Pod crash-loops."
            cure = f"Pin a newer image, or leave {option.word} out."
            own = is_vllms_own(engine.image)
            yield say(workload.obj, option.node, message, cure, severity=None if own else "warning")
        elif newest_inside(engine.image) is not None and engine.command.known_flags:
            text = f"{option.word} came after the day in the image's tag: vLLM exits with status 2."
            yield say(workload.obj, option.node, text, "Pin a newer image.", severity="warning")


@rule(
    "engine/deprecated-flag",
    "warning",
    "A flag that the next vLLM will refuse",
    story="The flag still works, with a warning in the log. After the upgrade that removes it, "
    "the Pod crash-loops.",
    cure="Write what replaces it now.",
    fixable=True,
)
def deprecated_flag(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload, engine, option, problem in _problems(world, "deprecated"):
        message = f"{problem.message}: a later vLLM will refuse to start."
        edits = _edits(patch, engine, option, problem.instead) if is_sure(engine) else ()
        yield say(workload.obj, option.node, message, _instead(option.word, problem.instead), edits=edits)


@rule(
    "engine/deprecated-entrypoint",
    "note",
    "Started through the old API server module",
    story="""`python -m vllm.entrypoints.openai.api_server` is deprecated in favour of `vllm serve`
    (vLLM 0.32 logs it). The day the module goes, the Pod crash-loops.""",
    cure='Start it with command: ["vllm", "serve"].',
    fixable=True,
)
def deprecated_entrypoint(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload, engine in _engines(world):
        if engine.command.entry != "module" or engine.version < _SERVE_SINCE or engine.command.demo:
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
    "engine/demo-server",
    "warning",
    "The demonstration server, not the OpenAI one",
    story="""`python -m vllm.entrypoints.api_server` is vLLM's example of how its engine is used: it answers
    /generate and /health, and has no /v1, no /metrics, no tools, no graceful end. Clients of the OpenAI API get 404,
    and autoscalers that read vLLM's metrics see nothing. Images of one's own may have replaced the module.""",
    cure="Start `vllm serve MODEL` (or, before 0.6, python -m vllm.entrypoints.openai.api_server).",
)
def demo_server(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        if engine.command.demo:
            yield say(
                workload.obj,
                engine.command.node,
                "vllm.entrypoints.api_server is a demonstration: it has no /v1 and no /metrics.",
            )


@rule(
    "engine/no-model",
    "warning",
    "No model is named",
    story="""vLLM's image without a model argument serves vLLM's own default, a tiny model for trying out
    (facebook/opt-125m in older releases, Qwen/Qwen3-0.6B in newer ones). It does not read MODEL,
    MODEL_NAME or MODEL_ID from the environment: they mean something only to scripts that pass them on.""",
    cure="Name the model in args: [MODEL], or --model for images before 0.6.",
)
def no_model(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        command, args = engine.command, engine.node["args"]
        if workload.partial or not is_official(engine.image) or not engine.plain_flags or command.is_open:
            continue
        if command.positional or command.option("--model") or command.option("--config") or command.several:
            continue
        if command.script or command.one_string or command.doubled or args.elements == []:
            continue
        named = next((n for n in _MODEL_ENV if engine.env(n)), "")
        why = f", and vLLM does not read {named}" if named else ""
        yield say(
            workload.obj,
            engine.env(named) if named else args or engine.node["image"],
            f"no argument names a model{why}: a tiny default model of vLLM's is served.",
        )


@rule(
    "engine/model-too-new",
    "error",
    "A model that this vLLM does not know yet",
    story="""Every family of models needs code of its own in vLLM (and often a newer Transformers). An image from before
    that ends with `Model architectures [...] are not supported for now` or `... model type ... but Transformers does
    not recognize this architecture`, after the configuration has been downloaded. The table goes by the model's
    name and by vLLM's release notes.""",
    cure="Pin an image of the version that brought the model, or a later one.",
)
def model_too_new(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        since = first_version(engine.model or "")
        dated = newest_inside(engine.image) is not None
        if since is None or engine.version >= since or not (engine.pinned or dated):
            continue
        sure = engine.pinned and is_official(engine.image) and not engine.command.script
        text = (
            f"{engine.model} needs vLLM {since[0]}.{since[1]} or later, and the image has "
            f"{'' if engine.pinned else 'at most '}{engine.version[0]}.{engine.version[1]}: it refuses the model."
        )
        yield say(workload.obj, engine.model_node, text, severity=None if sure else "warning")


_MODEL_ENV = ("MODEL", "MODEL_NAME", "MODEL_ID", "MODEL_PATH", "VLLM_MODEL", "HF_MODEL", "HF_MODEL_ID")


@rule(
    "engine/image-not-pinned",
    "warning",
    "An image that changes under you",
    story="""`latest`, `nightly` or no tag: two replicas that start on different days run different vLLM
    versions, with different flags, metrics and numerics; a node that comes up at night can bring a
    version that refuses your flags. A rollback rolls back nothing.""",
    cure="Pin a version tag, better a digest: vllm/vllm-openai:v0.32.0@sha256:...",
)
def image_not_pinned(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        for node in [*workload.pod["containers"], *workload.pod["initContainers"]]:
            image = node["image"].text()
            if not image or "@sha256:" in image or _PLACEHOLDER.search(image):
                continue
            tag = image.rsplit("/", 1)[-1].partition(":")[2]
            if tag in MOVING:
                shown = f":{tag}" if tag else "no tag at all"
                text = f"{image} has {shown}: replicas that start on different days run different versions"
                if any(e.node is node or e.image == image for e in workload.engines):
                    text += ", and a restart can bring one that refuses these flags"
                yield say(workload.obj, node["image"], text + ".")


@rule(
    "engine/no-such-tag",
    "error",
    "A tag that vLLM does not publish",
    story="""vLLM's releases on Docker Hub are tagged with a v: vllm/vllm-openai:v0.32.0. Without it
    there is no such image: ErrImagePull, then ImagePullBackOff.""",
    cure="Write the v.",
    fixable=True,
)
def no_such_tag(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload, engine in _engines(world):
        name, tag = split(engine.image)
        hub = name in ("vllm/vllm-openai", "docker.io/vllm/vllm-openai", "index.docker.io/vllm/vllm-openai")
        if hub and re.fullmatch(r"0\.\d+(\.\d+)?(\.post\d+)?", tag):
            node = engine.node["image"]
            edits = patch.substitute(node, f":{tag}", f":v{tag}")
            yield say(
                workload.obj,
                node,
                f"there is no vllm/vllm-openai:{tag}, only v{tag}: ImagePullBackOff.",
                f"Write v{tag}.",
                edits=edits,
            )


@rule(
    "engine/no-stats",
    "error",
    "Metrics switched off",
    story="""`--disable-log-stats` does not only quiet the log: it stops the `vllm:` metrics from being
    updated. Autoscaling, dashboards and alerts go blind. It is often written in place of the removed
    `--disable-log-requests`. A warning where nothing in sight reads the metrics.""",
    cure="Remove --disable-log-stats.",
    fixable=True,
)
def no_stats(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload, engine in _engines(world):
        option = engine.command.option("--disable-log-stats")
        read = world.scalers(workload) or any(world.kinds("ServiceMonitor", "PodMonitor", "PrometheusRule"))
        shown = workload.serves and not engine.command.demo  # the demonstration has no metrics to lose
        if shown and option is not None and engine.command.on("--disable-log-stats"):
            yield say(
                workload.obj,
                option.node,
                "--disable-log-stats freezes every vllm: metric: autoscaling, dashboards and alerts "
                "go blind.",
                severity=None if read else "warning",
                edits=_drop(patch, engine, option),
            )


@rule(
    "engine/unbounded-queue",
    "warning",
    "An unbounded queue",
    story="""vLLM's queue has no bound and its requests have no timeout. Measured: at 50 requests/s of
    256 tokens on a server that cannot follow, all 750 were accepted, 375 waited, and the median time to
    first token rose to 7.7 s; with --max-num-queued-reqs 64 the surplus got 503 in 2.6 ms and the
    accepted ones 1.7 s. KV cache is preallocated: overload does not run out of memory, it queues.""",
    cure="Add --max-num-queued-reqs (vLLM 0.29 and later; it counts waiting plus running), e.g. 1.5 x the "
    "concurrency that meets your SLO.",
)
def unbounded_queue(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        command = engine.command
        if not workload.serves or workload.partial or not engine.plain_flags or engine.version < (0, 29):
            continue
        if command.demo:
            continue
        if command.option("--max-num-queued-reqs") is None and command.option("--config") is None:
            yield say(
                workload.obj,
                engine.node["args"] or engine.node,
                "under overload every request is accepted and waits without limit: all clients time "
                "out instead of some getting 503.",
                severity=None if engine.pinned else "note",
            )


@rule(
    "engine/no-compile-cache",
    "note",
    "Compiled kernels are thrown away",
    story="""vLLM compiles kernels and graphs at start and keeps them under ~/.cache/vllm
    (VLLM_CACHE_ROOT). In a container that is gone with the Pod: every scale-up compiles again. llm-d
    measured 135 s to 100 s Pod-ready for a 32B model with a cache.""",
    cure="Mount a volume (PVC or hostPath) and set VLLM_CACHE_ROOT to it.",
)
def no_compile_cache(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        if (
            workload.partial
            or not workload.serves
            or engine.command.on("--enforce-eager")
            or engine.env(environment.CACHE_ROOT)
        ):
            continue
        if workload.simulated or not engine.plain_flags or engine.version < (0, 8) or engine.vendor == "tpu":
            continue
        paths = [m["mountPath"].text().rstrip("/") for m in engine.node["volumeMounts"]]
        if not any(p.endswith(("/.cache", "/.cache/vllm", "/.cache/torch")) for p in paths):
            yield say(
                workload.obj,
                engine.node["volumeMounts"],
                "each new replica compiles its kernels again (30 s and more of every scale-up): the "
                "cache dies with the Pod.",
            )

"""Rules about where the weights come from."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.lint.finding import Finding, Say, rule
from seawall.lint.image import is_vllm_image
from seawall.lint.node import YamlNode
from seawall.lint.objects import Container, Workload
from seawall.lint.patch import Edits, Patcher
from seawall.lint.size import weights_bytes
from seawall.lint.world import Manifests

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_GATED = re.compile(
    r"^(meta-llama/|google/gemma(?!-4)|mistralai/(Mistral-Large|Codestral|Mixtral-8x22B)|CohereForAI/|CohereLabs/|black-forest-labs/)",
    re.I,
)
_NO_TOKENS = (
    "HUGGINGFACE_TOKEN",
    "HF_API_TOKEN",
    "HUGGINGFACE_API_TOKEN",
    "HF_HUB_TOKEN",
    "HUGGINGFACEHUB_API_TOKEN",
    "TOKEN",
)
_TOOLS = re.compile(
    r"\b(git[- ]lfs|git clone|aria2c?|hf download|huggingface-cli|python3?|aws "
    r"s3|gsutil|gcloud|azcopy|s5cmd|rclone|curl)\b"
)
_BARE_IMAGES = re.compile(r"(^|/)(busybox|alpine|debian|ubuntu)(:|@|$)")


def hub_id(engine: Container) -> str | None:
    """The model when it is a hub id (`org/name`), not a path or a URL."""
    model = engine.model
    return model if model and _HUB_ID.fullmatch(model) else None


def offline(engine: Container) -> bool:
    return (engine.env_value("HF_HUB_OFFLINE") or "").lower() in ("1", "true", "yes", "on")


def _script(container: YamlNode) -> tuple[YamlNode, str]:
    words = [*container["command"], *container["args"]]
    if words and words[0].text().rsplit("/", 1)[-1] in ("sh", "bash", "ash"):
        for node in words[1:]:
            if not re.fullmatch(r"-\w+", node.text()):
                return node, node.text()
    return container["args"], ""


def _servers(world: Manifests) -> Iterator[tuple[Workload, Container]]:
    for workload in world.servers:
        for engine in workload.engines:
            yield workload, engine


def _shared_mounts(workload: Workload, engine: Container) -> Iterator[tuple[YamlNode, YamlNode, YamlNode]]:
    """(init container, its mount, the engine's mount) of volumes that both have."""
    mine = {m["name"].text(): m for m in engine.node["volumeMounts"]}
    for init in workload.pod["initContainers"]:
        if is_vllm_image(init["image"].text()):
            continue
        for mount in init["volumeMounts"]:
            if mount["name"].text() in mine:
                yield init, mount, mine[mount["name"].text()]


def _at(script: YamlNode, text: str, needle: str) -> YamlNode:
    """A node on the line of a script on which `needle` stands."""
    at = text.find(needle)
    if at < 0 or script.style not in ("|", ">"):
        return script
    line = script.span.line + 1 + text.count("\n", 0, at)
    span = type(script.span)(line, script.span.column, 0, 0, line)
    return YamlNode(script.path, span, script.file, value="")


@rule(
    "weights/init-never-succeeds",
    "error",
    "An init container that always fails",
    story="""The script's last command is `exit 1` (a placeholder for the download that nobody wrote).
    Unless the files are there already, the init container fails, the kubelet restarts it, and the Pod stays
    in Init:CrashLoopBackOff.""",
    cure="Download for real: a Job that runs `seawall pull` with a lockfile into the volume.",
)
def init_never_succeeds(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        for init in workload.pod["initContainers"]:
            node, text = _script(init)
            lines = [
                line.strip()
                for line in text.strip().splitlines()
                if line.strip() and not line.strip().startswith("#")
            ]
            if lines and re.fullmatch(r"exit [1-9]\d*", lines[-1]):
                yield say(
                    workload.obj,
                    _at(node, text, lines[-1]),
                    f"the init container {init['name'].text()} ends in `{lines[-1]}` and downloads nothing: "
                    "Init:CrashLoopBackOff for ever.",
                )


@rule(
    "weights/tool-missing",
    "error",
    "A download tool that the image does not have",
    story="""busybox, alpine and the plain distributions carry no git-lfs, aria2, hf or Python: the script
    ends with `not found` (exit 127) and the Pod stays in Init:CrashLoopBackOff.""",
    cure="Use an image that has the tool, or `seawall pull`.",
)
def tool_missing(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        for init in workload.pod["initContainers"]:
            node, text = _script(init)
            m = _BARE_IMAGES.search(init["image"].text())
            if m is None or re.search(r"\b(apk add|apt-get install|apt install)\b", text):
                continue
            for line in text.splitlines():
                bare = re.sub(r"(['\"]).*?\1", "", line.split("#")[0])
                tool = _TOOLS.search(bare)
                if tool is not None and "echo" not in bare:
                    yield say(
                        workload.obj,
                        _at(node, text, line.strip()),
                        f"{m[2]} has no {tool[1]}: the init container ends with exit 127.",
                    )


@rule(
    "weights/single-file",
    "error",
    "Looks for a file that sharded models do not have",
    story="""Models above a few GB are stored in shards, model-00001-of-00030.safetensors and so on, with an
    index; `model.safetensors` never exists. A check for it always says "not there": everything is
    downloaded again, or the init container fails.""",
    cure="Check for model.safetensors.index.json, or better for the lockfile that `seawall pull` leaves.",
)
def single_file(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _servers(world):
        size = weights_bytes(world, engine)
        big = (size is not None and size > 10e9) or (
            size is None and bool(re.search(r"\b([3-9]\d|\d{3})b\b", (engine.model or "").lower()))
        )
        for init in workload.pod["initContainers"]:
            node, text = _script(init)
            if big and re.search(r"/model\.safetensors\b(?!\.index)", text):
                yield say(
                    workload.obj,
                    _at(node, text, "model.safetensors"),
                    f"{engine.model} is stored in shards: model.safetensors never exists, the check "
                    "always says no.",
                )


@rule(
    "weights/wrong-place",
    "error",
    "Downloaded to one place, looked for in another",
    story="""Given a hub id, vLLM looks in the hub's cache layout (models--org--name/snapshots/<commit>/)
    under HF_HOME. Files that an init container puts anywhere else on the volume are not seen: vLLM
    downloads everything again, from the internet, into the volume or the container's disk.""",
    cure="Serve the local path (`vllm serve /models/<name>`) with HF_HUB_OFFLINE=1.",
)
def wrong_place(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _servers(world):
        name = hub_id(engine)
        if name is None:
            continue
        for init, mount, mine in _shared_mounts(workload, engine):
            _, text = _script(init)
            uses_cache = re.search(r"huggingface|\bhf\b|models--|HF_HOME|snapshot_download", text) or any(
                e["name"].text() in ("HF_HOME", "HF_HUB_CACHE") for e in init["env"]
            )
            at = mount["mountPath"].text().rstrip("/")
            if text and not uses_cache and at and f"{at}/" in text:
                yield say(
                    workload.obj,
                    mine["mountPath"],
                    f"the init container writes below {at}, vLLM looks for models--{name.replace('/', '--')} "
                    "below "
                    f"{mine['mountPath'].text()}: it downloads everything again.",
                )


@rule(
    "weights/not-local",
    "note",
    "A volume for the weights, and still the hub is asked",
    story="""With a hub id and no HF_HUB_OFFLINE=1 vLLM asks the hub at every start, and downloads what it
    does not find. The hub's outage, rate limit (429) or a moved `main` becomes yours. --load-format
    safetensors names a file format; it does not mean "from the volume".""",
    cure="Serve the local path, and set HF_HUB_OFFLINE=1.",
)
def not_local(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _servers(world):
        if (
            workload.partial
            or hub_id(engine) is None
            or offline(engine)
            or not _has_weight_volume(workload, engine)
        ):
            continue
        if engine.command.option("--config") or workload.obj.kind.endswith("InferenceService"):
            continue
        option = engine.command.option("--load-format")
        trap = option is not None and option.value == "safetensors"
        said = "--load-format safetensors is a file format, not a place: " if trap else ""
        yield say(
            workload.obj,
            option.node if trap and option else engine.model_node,
            f"{said}vLLM asks the hub at every start: its outage, its rate limit or a moved `main` becomes yours.",
            severity="warning" if trap else None,
        )


def _has_weight_volume(workload: Workload, engine: Container) -> bool:
    return any(
        any(v[key] for key in ("persistentVolumeClaim", "hostPath", "image", "nfs", "csi"))
        and m["mountPath"].text() != "/dev/shm"
        for m, v in workload.mounts(engine.node)
    )


@rule(
    "weights/downloaded-each-start",
    "warning",
    "Every replica downloads the model",
    story="""A hub id and no volume under the cache: each start and each scale-up downloads all weights into
    the container's disk, and is evicted when the disk is full. Ten replicas that start together are ten
    times the traffic; the hub answers 429.""",
    cure="Keep the weights on a shared volume, an OCI image volume, or stream them from your own bucket.",
)
def downloaded_each_start(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _servers(world):
        name = hub_id(engine)
        if (
            workload.partial
            or name is None
            or _fetched_by_kserve(workload)
            or _has_weight_volume(workload, engine)
        ):
            continue
        if (
            offline(engine)
            or "runai" in (engine.command.value("--load-format") or "")
            or any("Template" in k for k, _ in workload.obj.spec.items() if "volumeClaim" in k)
        ):
            continue
        yield say(
            workload.obj,
            engine.model_node,
            f"every start and every scale-up downloads {name} again; the hub limits the rate "
            "(429) when replicas start together.",
        )


def _fetched_by_kserve(workload: Workload) -> bool:
    """Whether KServe brings the weights: not into a predictor that is a container of the user's own."""
    own = workload.obj.node.at("spec", "predictor", "containers")
    return workload.obj.kind.endswith("InferenceService") and not own


@rule(
    "weights/no-revision",
    "note",
    "The model can change under you",
    story="""Without --revision vLLM takes `main`. Two replicas that start on different days can serve
    different weights under one name, and a rollback brings nothing back.""",
    cure="Pin --revision to a commit; `seawall pull` locks every file's hash.",
)
def no_revision(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _servers(world):
        if (
            hub_id(engine)
            and not offline(engine)
            and not engine.command.option("--revision")
            and engine.command.known_flags
            and not workload.partial
        ):
            yield say(
                workload.obj,
                engine.model_node,
                "whatever `main` is on the day a replica starts is served: replicas can differ.",
            )


@rule(
    "weights/renamed-repo",
    "warning",
    "The repository has another name now",
    story="""meta-llama/Meta-Llama-3.1-* became meta-llama/Llama-3.1-*. The hub redirects for now; mirrors,
    offline caches and lockfiles do not.""",
    cure="Use the new name.",
    fixable=True,
)
def renamed_repo(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload, engine in _servers(world):
        name = engine.model or ""
        m = re.fullmatch(r"meta-llama/Meta-(Llama-3\.[123]-.*)", name)
        if m:
            node = engine.model_node
            edits: Edits = patch.substitute(node, name, f"meta-llama/{m[1]}") if node.span.end else ()
            yield say(
                workload.obj,
                node,
                f"{name} is meta-llama/{m[1]} now: mirrors and offline caches know only that.",
                f"Write meta-llama/{m[1]}.",
                edits=edits,
            )


@rule(
    "weights/gated-no-token",
    "warning",
    "A gated model without a token",
    story="""The repository is gated: without an HF_TOKEN of an account that has accepted the licence the
    download ends with 401 or 403 (`GatedRepoError`), and the Pod crash-loops.""",
    cure="Set HF_TOKEN from a Secret (on the loader Job only, if the weights are local), or "
    "serve from a local path.",
)
def gated_no_token(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _servers(world):
        name = hub_id(engine)
        if (
            name is None
            or workload.partial
            or not _GATED.match(name)
            or engine.env_value("VLLM_USE_MODELSCOPE")
            or re.search(r"HF_TOKEN|HUGGING_FACE_HUB_TOKEN", workload.obj.spec["serveConfigV2"].text())
            or offline(engine)
            or engine.node["envFrom"]
        ):
            continue
        if any(
            engine.env(n) for n in ("HF_TOKEN", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT")
        ) or engine.command.option("--hf-token"):
            continue
        wrong = next((n for n in _NO_TOKENS if engine.env(n)), None)
        if not workload.obj.kind.endswith("InferenceService"):
            yield say(
                workload.obj,
                engine.env(wrong) if wrong else engine.model_node,
                f"{name} is gated"
                + (f", and nothing reads {wrong}" if wrong else "")
                + ": without HF_TOKEN the download ends with 401 (GatedRepoError).",
            )

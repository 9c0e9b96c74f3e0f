"""Rules about what a replica writes, and whether it may and can: disk, memory, folders, users."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.lint.finding import Finding, Say, rule
from seawall.lint.image import is_official, runs_as_root
from seawall.lint.node import YamlNode
from seawall.lint.objects import Container, Workload
from seawall.lint.rules.resources import quantity
from seawall.lint.rules.schema import open_text
from seawall.lint.rules.weights import hub_id, offline
from seawall.lint.size import weights_bytes
from seawall.lint.world import Manifests

_HOMES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME")


def _engines(world: Manifests) -> Iterator[tuple[Workload, Container]]:
    for workload in world.whole_servers:
        for engine in workload.engines:
            if workload.obj.kind != "InferenceService":
                yield workload, engine


def hub_cache(engine: Container) -> str:
    """The folder in which the engine keeps what it has downloaded."""
    set_ = engine.command.value("--download-dir") or next(
        (v for n in _HOMES if (v := engine.env_value(n))), None
    )
    return (set_ or (engine.env_value("HOME") or "/root") + "/.cache/huggingface").rstrip("/")


def _mount_of(workload: Workload, engine: Container, path: str) -> tuple[YamlNode, YamlNode] | None:
    """(mount, volume) in which a path lies: the deepest one."""
    found = [
        (m, v)
        for m, v in workload.mounts(engine.node)
        if f"{path}/".startswith(m["mountPath"].text().rstrip("/") + "/")
    ]
    return max(found, key=lambda f: len(f[0]["mountPath"].text()), default=None)


def _fetches(engine: Container) -> bool:
    streams = (engine.command.value("--load-format") or "").startswith(("runai", "tensorizer"))
    return hub_id(engine) is not None and not offline(engine) and not streams


@rule(
    "storage/no-room",
    "error",
    "No room for the weights that are downloaded",
    story="""The hub's files go to the cache's folder. On an emptyDir with a sizeLimit, or under a limit of
    ephemeral-storage, the kubelet evicts the Pod as soon as they are larger (`Usage of EmptyDir volume exceeds
    the limit`, `ephemeral local storage usage exceeds the total limit`), and the next one begins again. On an
    emptyDir in memory they count into the memory limit.""",
    cure="Raise it above the weights (1.2 times), or keep them on a claim.",
)
def no_room(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        size = weights_bytes(world, engine)
        if size is None or not _fetches(engine) or "$" in hub_cache(engine):
            continue
        found = _mount_of(workload, engine, hub_cache(engine))
        own_disk = found is None or (
            found[1]["emptyDir"] and found[1].at("emptyDir", "medium").text() != "Memory"
        )
        limits = [engine.node.at("resources", "limits", "ephemeral-storage")] if own_disk else []
        limits += [found[1].at("emptyDir", "sizeLimit")] if found is not None else []
        for node in limits:
            have = quantity(node)
            if have is not None and have < size:
                what = "sizeLimit" if node.path[-1] == "sizeLimit" else "ephemeral-storage"
                text = (
                    f"{what} {node.text()} does not hold {size / 2**30:.0f} GiB of weights: the "
                    "Pod is evicted while it downloads."
                )
                yield say(workload.obj, node, text)


@rule(
    "storage/read-only-cache",
    "error",
    "A cache that may not be written",
    story="""vLLM writes what it compiles below VLLM_CACHE_ROOT (~/.cache/vllm), and the hub's client what it
    downloads, with its locks, below HF_HOME. On a mount with readOnly both end with `Read-only file system`. Of
    a hub cache that somebody has filled it is a warning: with HF_HUB_OFFLINE=1 nothing is written there.""",
    cure="Remove readOnly, or set HF_HUB_OFFLINE=1 for a filled hub cache and VLLM_CACHE_ROOT to an emptyDir.",
)
def read_only_cache(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        root = engine.env_value("VLLM_CACHE_ROOT") or (engine.env_value("HOME") or "/root") + "/.cache/vllm"
        places = [(root, "error")] if not engine.command.on("--enforce-eager") else []
        if _fetches(engine):
            places.append((hub_cache(engine), "warning"))
        for path, severity in places:
            found = _mount_of(workload, engine, path) if "$" not in path else None
            if found is None:
                continue
            mount, volume = found
            claim = volume.at("persistentVolumeClaim", "readOnly")
            node = mount["readOnly"] if mount["readOnly"].value is True else claim
            if node.value is True:
                yield say(workload.obj, node, f"{path} is written to at start, and its volume may only be read.",
                          severity="error" if severity == "error" else "warning")  # fmt: skip


@rule(
    "resources/host-memory-offload",
    "error",
    "More host memory promised than the container has",
    story="""--cpu-offload-gb puts so many GiB of each rank's weights into host memory, --kv-offloading-size so
    many GiB of KV cache of all ranks, both pinned: with a memory limit below that the kernel kills the
    container (OOMKilled) while it starts.""",
    cure="Raise the memory limit above both, with 16 GiB for vLLM itself.",
)
def host_memory_offload(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        node = engine.node.at("resources", "limits", "memory")
        limit = quantity(node)
        weights, cache = (_number(engine, n) for n in ("--cpu-offload-gb", "--kv-offloading-size"))
        need = int((weights * engine.tensor_parallel + cache) * 2**30)
        if limit is not None and need and limit < need:
            text = (
                f"{node.text()} do not hold the {need / 2**30:.0f} GiB that are put into host "
                "memory: OOMKilled."
            )
            yield say(workload.obj, node, text)


def _number(engine: Container, name: str) -> float:
    try:
        return float(engine.command.value(name) or 0)
    except ValueError:
        return 0.0


@rule(
    "security/root-refused",
    "error",
    "An image that runs as root, and may not",
    story="""With runAsNonRoot and without a runAsUser the kubelet takes the image's own user, and vLLM's images
    have root: `CreateContainerConfigError: container has runAsNonRoot and image will run as root`.""",
    cure="Add runAsUser: 1000 (with HOME and the caches on a volume).",
)
def root_refused(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        for engine in () if workload.partial else workload.engines:
            mine, pod = engine.node["securityContext"], workload.pod["securityContext"]
            asked = mine["runAsNonRoot"] or pod["runAsNonRoot"]
            user = mine["runAsUser"] or pod["runAsUser"]
            if asked.value is not True or not runs_as_root(engine.image) or open_text(user):
                continue
            if not user or user.number() == 0:
                yield say(
                    workload.obj,
                    asked,
                    "runAsNonRoot, and vLLM's image runs as root: CreateContainerConfigError.",
                )


@rule(
    "security/no-home",
    "warning",
    "A user without a home",
    story="""A user that the image's /etc/passwd does not know has `/` for a home, where nobody but root may
    write: `PermissionError: [Errno 13] Permission denied: '/.cache'`, `'/.triton'` or `'/.config'`, from the hub's
    client, Triton, torch.compile or vLLM. Its image knows root.""",
    cure="Set HOME to a folder on a volume, or /tmp.",
)
def no_home(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        user = engine.node.at("securityContext", "runAsUser") or workload.pod.at(
            "securityContext", "runAsUser"
        )
        known = engine.env("HOME") or engine.env("XDG_CACHE_HOME") or engine.node["envFrom"]
        caches = engine.env("HF_HOME") and engine.env("VLLM_CACHE_ROOT")
        paths = [m["mountPath"].text().rstrip("/") for m in engine.node["volumeMounts"]]
        script = " ".join(n.text() for n in [*engine.node["command"], *engine.node["args"]])
        if not user.number() or known or caches or not is_official(engine.image) or "HOME=" in script:
            continue
        if not any(re.match(r"/root(/|$)|$|/\.triton$", p) for p in paths):
            where = "`/.triton` and `/.config`" if "/.cache" in paths else "`/.cache`"
            text = f"the image has no home for user {user.text()}: {where} cannot be written."
            yield say(workload.obj, user, text)


_INTO = re.compile(r"(?:--local-dir|--dest|-o|--output-dir|local_dir)[= ]+[\"']?(/[\w./-]+)")


@rule(
    "weights/written-nowhere",
    "error",
    "A download into a folder that nobody else sees",
    story="""An init container has a file system of its own: what it downloads to a folder that is no volume of
    its own is gone when it ends, and the engine finds an empty one.""",
    cure="Mount the volume in the init container too, at the folder that it writes to.",
)
def written_nowhere(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        for init in workload.pod["initContainers"]:
            paths = [m["mountPath"].text().rstrip("/") for m in init["volumeMounts"]]
            for node in [*init["command"], *init["args"]]:
                for path in _INTO.findall(node.text()):
                    inside = any(f"{path}/".startswith(f"{m}/") for m in paths)
                    if not inside and f"{path}/".startswith(f"{(engine.model or '?').rstrip('/')}/"):
                        text = (
                            f"nothing is mounted at {path} in {init['name'].text()}: the engine finds none."
                        )
                        yield say(workload.obj, node, text)

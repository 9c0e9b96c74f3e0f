"""Rules about environment variables: values that vLLM, the kubelet or CUDA cannot do anything with."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.engines.vllm import environment
from seawall.lint.finding import Finding, Say, Severity, rule
from seawall.lint.image import is_official
from seawall.lint.node import YamlNode
from seawall.lint.objects import Container, Workload
from seawall.lint.rules.engine import is_sure
from seawall.lint.rules.schema import open_text, whole
from seawall.lint.rules.weights import hub_id, offline
from seawall.lint.world import Manifests

_NUMBERS_SINCE = (0, 8)


def _engines(world: Manifests) -> Iterator[tuple[Workload, Container]]:
    for workload in world.workloads:
        for engine in workload.engines:
            yield workload, engine


def _values(engine: Container) -> Iterator[tuple[str, str, YamlNode]]:
    for item in (*engine.given.env, *engine.node["env"], *engine.given.from_maps):
        value = item["value"]
        if value.value is not None and value.text().strip() and not open_text(value):
            yield item["name"].text(), value.text().strip(), value


@rule(
    "values/wrong-variable",
    "error",
    "A variable with a value that vLLM does not take",
    story="""Of most of its variables vLLM makes a number: `VLLM_USE_DEEP_GEMM=true` ends it with `ValueError: invalid
    literal for int() with base 10: 'true'` as soon as somebody reads it. Some take one of a few words
    (VLLM_WORKER_MULTIPROC_METHOD: spawn or fork). VLLM_PORT is the workers' first port, a number.""",
    cure="Write 1 or 0, or the number.",
)
def wrong_variable(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        severity: Severity | None = (
            None if is_sure(engine) and engine.version >= _NUMBERS_SINCE else "warning"
        )
        for name, text, node in _values(engine):
            numbers = name in environment.INTEGERS or name == environment.PORT
            if numbers and not re.fullmatch(r"[-+]?\d+", text):
                said = f"{name} is {text!r}, and vLLM makes a number of it: it ends with a ValueError."
                yield say(workload.obj, node, said, severity=severity)
            takes = environment.CHOICES.get(name, ())
            if takes and text.upper() not in [t.upper() for t in takes]:
                said = f"{name} takes {', '.join(takes)}, not {text}: vLLM ends with a ValueError."
                yield say(workload.obj, node, said, "Write one of them.", severity=severity)


_VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


@rule(
    "devices/hidden",
    "error",
    "Devices that the container is not allowed to see",
    story="""CUDA_VISIBLE_DEVICES numbers the devices of the container, from 0: with fewer than the ranks vLLM does not
    start (`World size (4) is larger than the number of available GPUs (2)`), and a number above the container's last
    device hides those behind it. NVIDIA_VISIBLE_DEVICES is set by the device plugin; `none` or `void` hides every
    GPU. On ROCm HIP_VISIBLE_DEVICES and CUDA_VISIBLE_DEVICES have to say the same.""",
    cure="Leave the variable out: the container sees the devices that it asked for.",
)
def hidden_devices(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        count = engine.gpus[0]
        seen = {name: (text, node) for name, text, node in _values(engine)}
        all_of_node = (
            "NVIDIA_VISIBLE_DEVICES" in seen or engine.node.at("securityContext", "privileged").value is True
        )
        for name in _VISIBLE:
            text, node = seen.get(name, ("", None))
            if node is None or not re.fullmatch(r"\d+(,\s*\d+)*", text):
                continue
            numbers = [int(n) for n in text.split(",")]
            ranks = engine.tensor_parallel * (engine.command.integer("--pipeline-parallel-size") or 1)
            usable = [n for n in numbers if not count or all_of_node or n < count]
            if len(usable) < ranks and not workload.multi_node and not engine.command.several:
                why = f"{name}={text} leaves {len(usable)} of the {count or len(numbers)} devices for {ranks} ranks"
                yield say(workload.obj, node, f"{why}: vLLM does not start.")
        text, node = seen.get("NVIDIA_VISIBLE_DEVICES", ("", None))
        if node is not None and text in ("none", "void") and engine.vendor == "nvidia" and count:
            yield say(
                workload.obj,
                node,
                f"NVIDIA_VISIBLE_DEVICES={text} hides every GPU: `Failed to infer device type`.",
            )
        pair = [seen[n] for n in ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES") if n in seen]
        if engine.vendor == "amd" and len(pair) == 2 and pair[0][0] != pair[1][0]:
            yield say(workload.obj, pair[1][1], "HIP_VISIBLE_DEVICES and CUDA_VISIBLE_DEVICES differ: vLLM ends with "
                      "`Inconsistent GPU visibility env vars`.")  # fmt: skip


_GROUP = "LeaderWorkerSet"


@rule(
    "command/variable-too-late",
    "error",
    "A variable that is used before it is there",
    story="""The kubelet puts `$(NAME)` into args and command from all variables of the container, and into a variable
    from those above it in the list. What it does not know stays as it is written: vLLM serves, or is asked to log
    in with, the text `$(NAME)`.""",
    cure="Move the variable up, or add it.",
)
def too_late(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        names = [item["name"].text() for item in engine.node["env"]]
        if (
            engine.node["envFrom"]
            or engine.given.env
            or not (whole(workload.obj) or workload.obj.kind == _GROUP)
        ):
            continue  # controllers add variables of their own
        for i, item in enumerate(engine.node["env"]):
            for used in re.findall(r"(?<!\$)\$\(([\w.-]+)\)", item["value"].text()):
                if used in names[i:] and used not in names[:i]:
                    text = f"{item['name'].text()} takes $({used}), which stands below it: it stays as it is written."
                    yield say(workload.obj, item["value"], text)
        for node in () if engine.command.script else [*engine.node["command"], *engine.node["args"]]:
            for used in re.findall(r"(?<!\$)\$\(([A-Z][A-Z0-9_]*)\)", node.text()):
                if (
                    used not in names
                    and not used.startswith(("LWS_", "KUBERNETES_", "JOB_", "RAY_"))
                    and "_SERVICE_" not in used
                ):
                    text = f"the container has no variable {used}: $({used}) reaches vLLM as it is written."
                    yield say(workload.obj, node, text, "Add it to env.")


_CACHES = {
    "HF_HOME": "/hub",
    "HF_HUB_CACHE": "",
    "HUGGINGFACE_HUB_CACHE": "",
    "TRANSFORMERS_CACHE": "",
    "XDG_CACHE_HOME": "",
}


@rule(
    "weights/offline-and-empty",
    "error",
    "Told not to ask the hub, and nothing is there",
    story="""With HF_HUB_OFFLINE=1 a hub id is looked for in the cache only ($HF_HOME/hub, /root/.cache/huggingface/hub
    for root). The image has no models, and where no volume is mounted there either, vLLM ends with
    `LocalEntryNotFoundError` or `Cannot find the requested files in the disk cache`.""",
    cure="Mount the volume that holds the cache there and set HF_HOME, serve a local path, or remove HF_HUB_OFFLINE.",
)
def offline_and_empty(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        plain = (
            is_official(engine.image)
            and engine.plain_flags
            and not workload.partial
            and not engine.command.script
        )
        if (
            not plain
            or not offline(engine)
            or hub_id(engine) is None
            or engine.command.option("--download-dir")
        ):
            continue
        if (
            workload.obj.kind == "InferenceService"
            or engine.node["envFrom"]
            or engine.node["workingDir"]
            or engine.env("VLLM_USE_MODELSCOPE")
        ):
            continue
        set_ = next((engine.env_value(n) for n in _CACHES if engine.env_value(n)), None)
        place = set_ or (engine.env_value("HOME") or "/root") + "/.cache/huggingface"
        mounts = [m["mountPath"].text().rstrip("/") or "/" for m in engine.node["volumeMounts"]]
        if "$" in place or any("$" in m or "{" in m for m in mounts):
            continue
        reached = any(f"{place}/".startswith(f"{m}/") or f"{m}/".startswith(f"{place}/") for m in mounts)
        if not reached:
            text = (
                f"{engine.model} is looked for below {place} only, and "
                "nothing is mounted there: vLLM finds no model and ends."
            )
            yield say(workload.obj, engine.env("HF_HUB_OFFLINE"), text)

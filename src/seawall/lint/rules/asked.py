"""Rules about what a manifest asks of a vLLM that cannot give it: probes' paths, another vendor's image, roles of a KV
connector, variables that vLLM has no longer.

Forbidden here: flags and their values as such (`engine.py`, `values.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from seawall.engines.vllm import environment
from seawall.engines.vllm.versions import find_flag
from seawall.lint.finding import Finding, Say, rule
from seawall.lint.image import chips, is_vllms_own
from seawall.lint.objects import Container, Workload
from seawall.lint.rules.probes import PROBES, listens_alone
from seawall.lint.world import Manifests

_PATHS = (
    "/health",
    "/ping",
    "/version",
    "/metrics",
    "/load",
    "/docs",
    "/openapi.json",
    "/v1/models",
    "/is_sleeping",
)
"""What vLLM answers to a GET with 200, for any model."""


def _asked(world: Manifests) -> Iterator[tuple[Workload, Container, str, str]]:
    """(workload, engine, probe, path) of every HTTP probe of a container that is vLLM and nothing before it."""
    for workload in world.servers:
        for engine in workload.engines:
            alone = listens_alone(workload, engine) and is_vllms_own(engine.image)
            for probe in PROBES if alone else ():
                path = engine.node.at(probe, "httpGet", "path")
                if path and "{" not in path.text():
                    yield workload, engine, probe, "/" + path.text().split("?")[0].strip("/")


@rule(
    "probes/wrong-path",
    "error",
    "A probe asks for a path that vLLM does not have",
    story="""vLLM answers /health (and /ping, /version, /metrics, /v1/models). /healthz, /ready, /v1/health and other
    servers' paths get 404, which a probe takes for a failure: the Pod never becomes ready, or is killed for ever.""",
    cure="Ask for /health.",
)
def wrong_path(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine, probe, path in _asked(world):
        root = "/" + (engine.command.value("--root-path") or "").strip("/")
        if path in _PATHS or path == "/" or (root != "/" and path.startswith(root)):
            continue
        yield say(
            workload.obj,
            engine.node.at(probe, "httpGet", "path"),
            f"{probe} asks for {path}, and vLLM has no such path (404): it always fails.",
        )


@rule(
    "probes/wants-key",
    "error",
    "A probe without the key that its path wants",
    story="""With --api-key (or VLLM_API_KEY) vLLM answers 401 on everything below /v1 that brings no key; /health,
    /ping and /metrics stay open. A probe on /v1/models then fails for ever.""",
    cure="Ask for /health.",
)
def wants_key(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine, probe, path in _asked(world):
        keyed = engine.command.value("--api-key") is not None or bool(engine.env("VLLM_API_KEY"))
        headers = engine.node.at(probe, "httpGet", "httpHeaders")
        if keyed and path.startswith("/v1/") and not headers:
            yield say(
                workload.obj,
                engine.node.at(probe, "httpGet", "path"),
                f"{probe} asks for {path} without the API key that this vLLM wants there (401): it always fails.",
            )


_VENDORS = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel", "tpu": "TPU"}


@rule(
    "devices/other-vendor",
    "error",
    "An image for another vendor's devices",
    story="""vllm/vllm-openai holds CUDA kernels, vllm/vllm-openai-rocm HIP's, and each finds no device of the other:
    `No HIP GPUs are available`, `Failed to infer device type`. The resource in the limits says to which nodes the Pod
    goes.""",
    cure="Take the image for the devices that the limits name.",
)
def other_vendor(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        for engine in workload.engines:
            asked, image = engine.accelerators[0], chips(engine.image)
            made_for = image or ("nvidia" if is_vllms_own(engine.image) else "")
            if asked not in _VENDORS or made_for not in _VENDORS or asked == made_for:
                continue
            yield say(
                workload.obj,
                engine.node["image"],
                f"the image is for {_VENDORS[made_for]}, and the container gets {_VENDORS[asked]}'s devices: vLLM "
                "finds none and ends.",
            )


_ROLES = ("kv_producer", "kv_consumer", "kv_both")


@rule(
    "values/connector-role",
    "error",
    "A KV connector without a role that vLLM knows",
    story="""--kv-transfer-config wants kv_connector and kv_role together; kv_role is kv_producer, kv_consumer or
    kv_both. Anything else ends vLLM with `Unsupported kv_role` or `Please specify kv_role`.""",
    cure='Write "kv_role": "kv_producer", "kv_consumer" or "kv_both".',
)
def connector_role(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        for engine in workload.engines:
            option = engine.command.option("--kv-transfer-config")
            try:
                said = json.loads((option.value if option else "") or "null")
            except ValueError:
                continue
            if option is None or not isinstance(said, dict) or not said.get("kv_connector"):
                continue
            role = said.get("kv_role")
            if role not in _ROLES:
                yield say(
                    workload.obj,
                    option.node,
                    f"kv_role {role!r} is none that vLLM knows: it refuses to start."
                    if role
                    else "kv_connector without kv_role: vLLM refuses to start.",
                )


_GONE = {
    "VLLM_USE_V1": ((0, 11), "there is one engine since vLLM 0.11"),
    "VLLM_ATTENTION_BACKEND": ((0, 22), "--attention-backend takes its place"),
    "VLLM_USE_RAY_SPMD_WORKER": ((0, 11), "it went with the old engine"),
}


@rule(
    "engine/dead-variable",
    "warning",
    "A variable that this vLLM does not read",
    story="""What a variable once chose, a flag chooses now, or nothing does. vLLM logs `Unknown vLLM environment
    variable detected` and goes on without it: what was meant does not happen.""",
    cure="Remove it, or use the flag that took its place.",
)
def dead_variable(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        for engine in workload.engines:
            for name, (since, why) in _GONE.items():
                item = engine.env(name)
                if item and engine.pinned and engine.version >= since:
                    yield say(
                        workload.obj, item, f"{name} changes nothing in vLLM {_shown(engine.version)}: {why}."
                    )


@rule(
    "engine/option-as-variable",
    "warning",
    "A flag that is written as a variable",
    story="""vLLM reads its options from the command line (or --config) only. VLLM_TENSOR_PARALLEL_SIZE,
    VLLM_MAX_MODEL_LEN and the like are nobody's variables: it logs `Unknown vLLM environment variable
    detected` and starts with its defaults, one GPU and the model's whole context. Not said of images that
    are not vLLM's, and of scripts, which may put the variable into the command.""",
    cure="Write it as an argument.",
)
def option_as_variable(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        for engine in workload.engines:
            words = " ".join(n.text() for n in [*engine.node["command"], *engine.node["args"]])
            if not is_vllms_own(engine.image) or engine.command.script:
                continue
            for item in engine.node["env"]:
                name = item["name"].text()
                flag = find_flag("--" + name.removeprefix("VLLM_").lower().replace("_", "-"))
                if (
                    not name.startswith("VLLM_")
                    or name in environment.LIKE_FLAGS
                    or flag is None
                    or f"({name})" in words
                ):
                    continue
                if "--" + name.removeprefix("VLLM_").lower().replace("_", "-") != flag.name:
                    continue
                yield say(
                    workload.obj,
                    item,
                    f"no vLLM reads {name}: it has no effect.",
                    f"Write {flag.name}={item['value'].text('...')} as an argument.",
                )


def _shown(version: tuple[int, ...]) -> str:
    return ".".join(str(n) for n in version[:2])

"""Kinds that start vLLM from YAML of their own: what they hand to `vllm serve`, on which GPUs, in how many Pods.

KServe (InferenceService, LLMInferenceService), Ray Serve (serveConfigV2), Dynamo, KubeAI, kthena, KAITO and
production-stack. Their controllers add probes, hooks and volumes that no manifest shows: what they start is marked
partial, so that only what is written is judged. No rule here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from seawall.engines.vllm.versions import Version
from seawall.lint.command import Command, read_args, read_command, read_keys, read_line
from seawall.lint.image import image_version, is_stand_in, newest_inside
from seawall.lint.node import YamlNode, embedded
from seawall.lint.objects import Container, Given, Obj, Workload, env_items

_OTHER_ENGINES = re.compile(
    r"sglang|tensorrt|trtllm|ollama|llama\.?cpp|triton|tgi|infinity|text-generation", re.I
)


def reads(kind: str) -> bool:
    """Whether the kind's controller writes the command line, of which no manifest shows all."""
    return kind in _READERS


def read(obj: Obj, default: Version) -> Iterator[Workload]:
    """The engines of one object of such a kind; nothing for every other kind."""
    reader = _READERS.get(obj.kind)
    if reader is not None:
        yield from reader(obj, default)


def _engine(node: YamlNode, command: Command, default: Version, given: Given | None = None) -> Container:
    image = node["image"].text()
    version = image_version(image)
    known = version or newest_inside(image) or default
    return Container(node, command, known, version is not None, given or Given())


def _int(node: YamlNode) -> int | None:
    number = node.number()
    return int(number) if number else None


def _source(node: YamlNode) -> tuple[str, YamlNode] | None:
    """A model from `hf://org/name`, `pvc://claim/path`, `s3://...` or a bare name."""
    text = node.text()
    return (re.sub(r"^(hf|huggingface)://", "", text), node) if text else None


def _inference_service(obj: Obj, default: Version) -> Iterator[Workload]:
    """The model server that KServe adds itself (`predictor.model`)."""
    predictor = obj.node.at("spec", "predictor")
    model = predictor["model"]
    kind = model.at("modelFormat", "name").text().lower()
    runtime = model["runtime"].text().lower()
    if (
        not model
        or _OTHER_ENGINES.search(runtime)
        or not ("vllm" in f"{kind} {runtime}" or kind == "huggingface")
    ):
        return
    command = read_args(model["args"] or model, _source(model["storageUri"]))
    if "vllm" not in runtime:  # another server with options of its own, or one that nobody names
        command.known_flags, command.entry = False, "wrapper"
    workers = predictor["workerSpec"]
    given = Given(
        tensor_parallel=_int(workers["tensorParallelSize"]),
        pipeline_parallel=_int(workers["pipelineParallelSize"]),
    )
    labels = {k: v.text() for k, v in obj.node.at("metadata", "labels").items()}
    nodes = int(workers["pipelineParallelSize"].number(1) or 1)
    yield Workload(obj, predictor, labels, [_engine(model, command, default, given)], True, nodes)


def _llm_inference_service(obj: Obj, default: Version) -> Iterator[Workload]:
    """`vllm serve` as KServe's presets start it: the model, the parallelism and VLLM_ADDITIONAL_ARGS.

    Without `worker` the presets hand on no `pipeline` (kserve#6044, open at 0.20).
    """
    spec = obj.spec
    for part, pods in ((spec, ("template", "worker")), (spec["prefill"], ("template", "worker"))):
        shape = part["parallelism"]
        data, local = shape["data"].number(1) or 1, shape["dataLocal"].number(1) or 1
        nodes = int(max(data / max(local, 1), shape["pipeline"].number(1) or 1)) if part["worker"] else 1
        for name in pods:
            for node in part[name]["containers"]:
                command = _preset_command(node, spec.at("model", "uri"))
                if command is None:
                    continue
                given = Given(
                    tensor_parallel=_int(shape["tensor"]),
                    pipeline_parallel=_int(shape["pipeline"]) if part["worker"] else None,
                    data_parallel=_int(shape["data"]),
                    data_local=_int(shape["dataLocal"]),
                )
                labels = {k: v.text() for k, v in obj.node.at("metadata", "labels").items()}
                yield Workload(obj, part[name], labels, [_engine(node, command, default, given)], True, nodes)


def _preset_command(node: YamlNode, uri: YamlNode) -> Command | None:
    image = node["image"].text()
    if (
        (node["name"].text() != "main" and not _asks_gpu(node))
        or is_stand_in(image)
        or _OTHER_ENGINES.search(image)
    ):
        return None
    more = next((e["value"] for e in node["env"] if e["name"].text() == "VLLM_ADDITIONAL_ARGS"), node["..."])
    own = read_command(node)
    if own is not None and own.entry not in ("wrapper", "image"):
        return own
    command = read_line(more, more.text()) if more.text() else Command("image", node)
    if node["command"]:
        command.known_flags, command.entry = False, "wrapper"
    elif node["args"]:
        command = read_args(node["args"], None)
    model = _source(uri)
    if model and not command.positional:
        command.positional.append(model)
    return command


def _asks_gpu(node: YamlNode) -> bool:
    return any(k.endswith("/gpu") for k, _ in node.at("resources", "limits").items())


def _ray(obj: Obj, default: Version) -> Iterator[Workload]:
    """Ray Serve's LLM applications: `llm_configs[].engine_kwargs` become engine arguments."""
    from seawall.lint.kinds import group, ray_cluster

    cluster = ray_cluster(obj)
    pods = [g.at("template", "spec") for g in cluster["workerGroupSpecs"]] or [
        cluster.at("headGroupSpec", "template", "spec")
    ]
    pod = next((p for p in pods if p), obj.spec)
    text = obj.spec["serveConfigV2"]
    apps = [(app, config) for app in embedded(text)["applications"] for config in _llm_configs(app)]
    configs = [config for _, config in apps]
    if not configs and re.search(r"ray\.serve\.llm|vllm", text.text()):
        container = next(iter(pod["containers"]), obj.node["..."])
        command = Command("wrapper", container, known_flags=False)
        given = Given(env=tuple(i for app in embedded(text)["applications"] for i in _runtime_env(app)))
        yield Workload(obj, pod, {}, [_engine(container, command, default, given)], False, *group(obj, pod))
    for app, config in apps:
        kwargs, where = config["engine_kwargs"], config["model_loading_config"]
        command = read_keys(
            kwargs.items(), kwargs or config, _source(where["model_source"]) or _source(where["model_id"])
        )
        container = next(iter(pod["containers"]), obj.node["..."])
        given = Given(
            gpu_name=config["accelerator_type"].text(),
            replicas=_least(config["deployment_config"]),
            env=(*_runtime_env(config), *_runtime_env(app)),
        )
        engine = _engine(container, command, default, given)
        yield Workload(obj, pod, {}, [engine], False, *group(obj, pod))


def _least(deployment: YamlNode) -> int:
    """The fewest replicas of a Ray Serve deployment: without a word one."""
    scaled, fixed = deployment.at("autoscaling_config", "min_replicas"), deployment["num_replicas"]
    number = scaled.number() if scaled else fixed.number()
    return int(number) if number is not None and number >= 0 else 1


def _runtime_env(node: YamlNode) -> tuple[YamlNode, ...]:
    """Variables that Ray sets for the actors of an application, a deployment or a job."""
    return env_items(node.at("runtime_env", "env_vars"))


def _ray_job(obj: Obj, default: Version) -> Iterator[Workload]:
    """A job whose own Python starts vLLM: what it is asked is not seen, its variables are."""
    from seawall.lint.kinds import group, ray_cluster

    runtime, entry = obj.spec["runtimeEnvYAML"], obj.spec["entrypoint"]
    if not re.search(r"\bvllm\b", f"{runtime.text()} {entry.text()}"):
        return
    cluster = ray_cluster(obj)
    pods = [g.at("template", "spec") for g in cluster["workerGroupSpecs"]]
    pod = next((p for p in pods if p), cluster.at("headGroupSpec", "template", "spec") or obj.spec)
    container = next(iter(pod["containers"]), obj.node["..."])
    given = Given(env=env_items(embedded(runtime)["env_vars"]) if runtime.text() else ())
    command = Command("wrapper", container, known_flags=False)
    yield Workload(obj, pod, {}, [_engine(container, command, default, given)], True, *group(obj, pod))


def _llm_configs(app: YamlNode) -> Iterator[YamlNode]:
    args = app["args"]
    for key in ("llm_configs", "models"):
        yield from (n for n in args[key] if n.entries is not None)
    for key in ("llm_config", "prefill_config", "decode_config"):
        if args[key].entries is not None:
            yield args[key]


def _dynamo(obj: Obj, default: Version) -> Iterator[Workload]:
    """Workers of a DynamoGraphDeployment: `services` of v1alpha1, `components` of v1beta1."""
    for name, part in obj.spec["services"].items():
        pod = part["extraPodSpec"]
        limits = part.at("resources", "limits", "gpu") or part.at("resources", "requests", "gpu")
        given = Given(int(limits.number(0) or 0), limits) if limits else Given()
        yield from _dynamo_worker(obj, part, pod, pod["mainContainer"], given, default, name)
    for part in obj.spec["components"]:
        pod = part.at("podTemplate", "spec")
        main = next((c for c in pod["containers"] if c["name"].text() == "main"), part["..."])
        yield from _dynamo_worker(obj, part, pod, main, Given(), default, part["name"].text())


def _dynamo_worker(
    obj: Obj, part: YamlNode, pod: YamlNode, main: YamlNode, given: Given, default: Version, name: str
) -> Iterator[Workload]:
    command = read_command(main) if main else None
    if command is None or command.entry != "dynamo":
        return
    nodes = int(part.at("multinode", "nodeCount").number(1) or 1)
    yield Workload(obj, pod, {"component": name}, [_engine(main, command, default, given)], True, nodes)


def _kubeai(obj: Obj, default: Version) -> Iterator[Workload]:
    """KubeAI's Model: args for vLLM, GPUs by the name and count of a resource profile."""
    spec = obj.spec
    if not obj.api.startswith("kubeai.org/") or spec["engine"].text() != "VLLM":
        return
    command = read_args(spec["args"], _source(spec["url"]))
    profile = spec["resourceProfile"]
    name, _, count = profile.text().partition(":")
    given = Given()
    vendor = next((v for v in ("nvidia", "amd", "google-tpu") if name.startswith(v)), "")
    if vendor and (count or "1").isdigit():
        short = re.sub(r"^(nvidia-gpu|amd-gpu|google-tpu)-?", "", name)
        given = Given(int(count or 1), profile, {"google-tpu": "tpu"}.get(vendor, vendor), short)
    elif name.startswith("cpu"):
        given = Given(vendor="cpu")
    yield Workload(obj, spec, {}, [_engine(spec, command, default, given)], True)


def roles(obj: Obj) -> Iterator[YamlNode]:
    """Roles of kthena's ModelServing and of AIBrix' StormService."""
    yield from obj.node.at("spec", "template", "roles")
    yield from obj.node.at("spec", "template", "spec", "roles")


def _model_booster(obj: Obj, default: Version) -> Iterator[Workload]:
    """kthena's ModelBooster: each worker's `config` becomes vLLM's flags."""
    backends = [b for b in (obj.spec["backend"], *obj.spec["backends"]) if b]
    for backend in backends:
        if not backend["type"].text().lower().startswith("vllm"):
            continue
        for worker in backend["workers"]:
            command = read_keys(
                worker["config"].items(), worker["config"] or worker, _source(backend["modelURI"])
            )
            nodes = int(worker["pods"].number(1) or 1)
            yield Workload(obj, worker, {}, [_engine(worker, command, default)], True, nodes)


_AZURE = (
    (r"NC(\d+)ads_A100_v4", "A100-80GB", 24), (r"NC(\d+)a[d]?is?_H100_v5|NC(\d+)ad(?:i?s)_H100_v5", "H100-NVL", 40),
    (r"NV(\d+)ads_A10_v5", "A10", 36), (r"NC(\d+)as_T4_v3", "T4", 16), (r"NC(\d+)r?s_v3", "V100-16GB", 6),
    (r"ND96asr_v4", "A100-40GB", 0), (r"ND96amsr_A100_v4", "A100-80GB", 0), (r"ND96isr_H100_v5", "H100-80GB", 0),
    (r"ND96isr_H200_v5", "H200", 0),
)  # fmt: skip


def azure_gpus(size: str) -> tuple[str, int]:
    """(GPU, how many) of an Azure machine size; ("", 0) when it is not known. Source: Azure's size tables."""
    for pattern, gpu, per in _AZURE:
        m = re.search(pattern, size)
        if m:
            cores = next((int(g) for g in m.groups() if g), 0)
            return gpu, max(1, cores // per) if per else 8
    return "", 0


def _kaito(obj: Obj, default: Version) -> Iterator[Workload]:
    """KAITO's Workspace and InferenceSet: a preset on a machine size; tensor parallel over all GPUs of a node,
    pipeline parallel over the nodes."""
    root = obj.spec["template"] if obj.kind == "InferenceSet" else obj.node
    resource, preset = root["resource"], root.at("inference", "preset", "name")
    gpu, count = azure_gpus(resource["instanceType"].text())
    if not preset:
        return
    if obj.node.at("metadata", "annotations", "kaito.sh/runtime").text() == "transformers":
        return  # its other runtime: no vLLM in it
    command = read_keys([], preset, (preset.text(), preset))
    nodes = int(resource["count"].number(1) or 1)
    if not count:  # nodes of one's own: tensor parallel over GPUs that stand nowhere
        command.known_flags, command.entry = False, "wrapper"
    given = Given(count, resource["instanceType"], "nvidia", gpu, count or None, nodes)
    yield Workload(obj, root["inference"], {}, [_engine(preset, command, default, given)], True, nodes)


def _kaito_config(obj: Obj, default: Version) -> Iterator[Workload]:
    """The ConfigMap that a KAITO workspace names: the keys under `vllm` become engine arguments."""
    text = obj.node.at("data", "inference_config.yaml")
    keys = embedded(text)["vllm"] if text else obj.node["..."]
    if keys.entries:
        command = read_keys(keys.items(), keys, None)
        yield Workload(obj, keys, {}, [_engine(keys, command, default)], True)


_RUNTIME_FIELDS = {
    "enableTool": "enable-auto-tool-choice", "toolCallParser": "tool-call-parser", "maxModelLen": "max-model-len",
    "dtype": "dtype", "maxNumSeqs": "max-num-seqs", "gpuMemoryUtilization": "gpu-memory-utilization",
}  # fmt: skip
"""Fields of production-stack's operator and the flags it writes for them; it leaves out what is empty or zero."""


def _vllm_runtime(obj: Obj, default: Version) -> Iterator[Workload]:
    """production-stack's VLLMRuntime."""
    spec = obj.spec
    if not obj.api.startswith("production-stack.vllm.ai/"):
        return
    config, model, deployment = spec["vllmConfig"], spec["model"], spec["deploymentConfig"]
    fields = [
        (flag, (config if field in config else model)[field]) for field, flag in _RUNTIME_FIELDS.items()
    ]
    command = read_args(config["extraArgs"] or config, _source(model["modelURL"]))
    said = read_keys(
        [(flag, node) for flag, node in fields if node.text() not in ("", "0", "false")], spec, None
    )
    command.options[:0] = [
        replace(o, value=None) if o.name == "--enable-auto-tool-choice" else o for o in said.options
    ]
    gpus = deployment.at("resources", "gpu")
    vendor = {"nvidia": "nvidia", "amd": "amd"}.get(
        deployment.at("resources", "gpuType").text().split(".")[0], ""
    )
    given = Given(int(gpus.number(0) or 0), gpus, vendor, tensor_parallel=_int(config["tensorParallelSize"]))
    version = image_version(deployment.at("image", "name").text())
    engine = Container(deployment, command, version or default, version is not None, given)
    yield Workload(obj, deployment, {}, [engine], True)


_READERS: dict[str, Callable[[Obj, Version], Iterator[Workload]]] = {
    "InferenceService": _inference_service,
    "LLMInferenceService": _llm_inference_service,
    "LLMInferenceServiceConfig": _llm_inference_service,
    "RayService": _ray,
    "RayJob": _ray_job,
    "DynamoGraphDeployment": _dynamo,
    "Model": _kubeai,
    "ModelBooster": _model_booster,
    "Workspace": _kaito,
    "InferenceSet": _kaito,
    "ConfigMap": _kaito_config,
    "VLLMRuntime": _vllm_runtime,
}

"""Rules about the accelerators a replica gets: how many, which, and how the driver is found."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.domain.catalog.gpus import find_gpu
from seawall.engines.vllm import environment
from seawall.lint.charts import VALUES
from seawall.lint.finding import Finding, Say, rule
from seawall.lint.image import chips, is_official, is_vllm_image
from seawall.lint.node import YamlNode
from seawall.lint.objects import Container, Workload
from seawall.lint.rules.fit import gpu_for
from seawall.lint.rules.resources import quantity
from seawall.lint.size import model_of
from seawall.lint.world import Manifests

_ELSEWHERE = (
    "--nnodes", "--node-rank", "--master-addr", "--headless", "--data-parallel-rank", "--data-parallel-start-rank",
    "--data-parallel-address", "--data-parallel-hybrid-lb", "--data-parallel-external-lb",
)  # fmt: skip
"""Flags of a replica whose ranks run in several containers that one manifest need not show together."""
_RANKS = (
    "--tensor-parallel-size",
    "--pipeline-parallel-size",
    "--data-parallel-size",
    "--data-parallel-size-local",
)
_NO_VOLTA_SINCE = (0, 9)
"""The first release whose images carry no kernels for compute capability 7.0 (PyTorch 2.7 for CUDA 12.8)."""
_CASTS_SINCE = (0, 8)
"""From about then on vLLM casts a bfloat16 model by itself where the GPU has none."""
_NO_HALF_SINCE = (0, 10)
"""vLLM refuses float16 for some families (numbers overflow); it came during 0.9."""
_NO_HALF = re.compile(r"(?:^|/)(?:med|shield)?gemma-?[23]-|(?:^|/)GLM-4-(?:9B|32B)-0414|(?:^|/)plamo-2", re.I)
_BFLOAT16_ONLY = re.compile(r"(?:^|/)gpt-oss-", re.I)
"""MXFP4 experts, which vLLM computes in bfloat16 only (`Mxfp4Config.get_supported_act_dtypes`)."""
_SMALL_SHM = 128 * 2**20
"""NCCL takes some 10 MiB for each pair of ranks, vLLM's own queue of broadcasts 160 MiB."""
_GKE_PATH = "/usr/local/nvidia/lib64"
_GKE_SINCE, _GKE_UNTIL = (0, 9), (0, 17)
_NEEDS_SHM = (
    "Deployment",
    "StatefulSet",
    "Pod",
    "Job",
    "DaemonSet",
    "ReplicaSet",
    "LeaderWorkerSet",
    "Rollout",
)


def _engines(world: Manifests) -> Iterator[tuple[Workload, Container]]:
    for workload in world.workloads:
        for engine in workload.engines:
            yield workload, engine


def _ranks(engine: Container) -> tuple[int, bool] | None:
    """(ranks asked for, whether they are those of one Pod only); None when the command line leaves it open."""
    c = engine.command
    named = c.option("--tensor-parallel-size") or engine.given.tensor_parallel is not None
    if c.entry in ("wrapper", "run-batch") and not named:
        return None
    open_ones = any((o.open or "$" in (o.value or "")) and o.name in _RANKS for o in c.options)
    if c.option("--config") or open_ones or (c.script and c.is_open):
        return None
    given = engine.given
    local = c.integer("--data-parallel-size-local") or given.data_local
    pipeline = c.integer("--pipeline-parallel-size") or given.pipeline_parallel or 1
    if local is not None:
        return engine.tensor_parallel * pipeline * local, True
    data = c.integer("--data-parallel-size") or given.data_parallel or 1
    return engine.tensor_parallel * pipeline * data, False


@rule(
    "engine/parallel-exceeds-gpus",
    "error",
    "More ranks than GPUs",
    story="""tensor x pipeline (x data) parallel ranks each need a GPU: of the Pod, or of all Pods of
    the group where a kind starts several together (LeaderWorkerSet, Ray, Dynamo's multinode, kthena's
    roles). With fewer vLLM fails at start, or Ray waits for ever for a placement; with more, GPUs that
    you pay for are idle. (An LLMInferenceService without `worker` hands on `parallelism.tensor` since KServe
    0.20, and `parallelism.pipeline` in no version yet.)""",
    cure="Make the GPUs equal to --tensor-parallel-size x --pipeline-parallel-size (x --data-parallel-size).",
)
def parallel_exceeds_gpus(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        vendor, count, node = engine.accelerators
        ranks = _ranks(engine)
        if ranks is None or not count or vendor in ("neuron", "other"):
            continue
        need, here = ranks
        if workload.nodes == 1 and not here and any(engine.command.option(n) for n in _ELSEWHERE):
            continue
        if workload.nodes == 1 and engine.command.value("--distributed-executor-backend") == "ray":
            continue
        have = count
        if workload.nodes > 1 and not here:
            have = workload.total_gpus if workload.total_gpus is not None else count * workload.nodes
        where = (
            "the container gets"
            if workload.nodes == 1 or here
            else f"the {workload.nodes} Pods of a group have"
        )
        if vendor == "tpu" and need <= 2 * have:
            continue  # chips of two cores count as two devices
        if need > have:
            ray = "Ray" in workload.obj.kind
            effect = "Ray never places them" if ray else "vLLM fails at start"
            if workload.obj.kind == "LLMInferenceService" and not engine.command.option(
                "--tensor-parallel-size"
            ):
                effect += " (KServe before 0.20 hands no tensor parallelism to a single Pod: one GPU is used)"
            yield say(workload.obj, node, f"{need} ranks are asked for and {where} {_gpus(have)}: {effect}.")
        elif need < have and _alone(workload, engine):
            yield say(
                workload.obj,
                node,
                f"{where} {_gpus(have)} and vLLM uses {need}: the others are paid for and idle.",
                f"Add --tensor-parallel-size, or ask for {need}.",
                severity="warning",
            )


@rule(
    "engine/applications-exceed-gpus",
    "error",
    "More replicas than the Ray cluster has GPUs for",
    story="""A RayService starts every application of its serveConfigV2 at once: models beside each other,
    prefill and decode. Their tensor x pipeline ranks add up, times each one's smallest number of replicas,
    and what finds no GPU waits for ever: the service never becomes ready.""",
    cure="Add workers (maxReplicas of a group), or take fewer ranks or replicas.",
)
def applications_exceed_gpus(world: Manifests, say: Say) -> Iterator[Finding]:
    services: dict[int, list[tuple[Workload, Container]]] = {}
    for workload, engine in _engines(world):
        if workload.obj.kind == "RayService" and engine.command.entry == "kwargs":
            services.setdefault(id(workload.obj), []).append((workload, engine))
    for found in services.values():
        workload, engine = found[0]
        have = workload.total_gpus
        ranks = [_ranks(e) for _, e in found]
        if len(found) < 2 or not have or any(r is None for r in ranks):
            continue
        each = [r[0] * e.given.replicas for r, (_, e) in zip(ranks, found, strict=True) if r is not None]
        if sum(each) > have >= max(each):
            yield say(
                workload.obj,
                engine.command.node,
                f"the applications need {' + '.join(str(n) for n in each)} GPUs at once and the cluster has {have}: "
                "Ray never places them all.",
            )


def _alone(workload: Workload, engine: Container) -> bool:
    """Whether one engine is all that may use the GPUs: no second one in the script or the Pod, no choice of "
    "devices."""
    words = [n.text() for n in [*engine.node["command"], *engine.node["args"]]]
    chosen = engine.env("CUDA_VISIBLE_DEVICES") or any("VISIBLE_DEVICES" in w for w in words)
    one = len(workload.engines) == 1 and not engine.command.several
    return one and workload.serves and not chosen and "Ray" not in workload.obj.kind


def _gpus(count: int) -> str:
    return f"{count} GPU{'' if count == 1 else 's'}"


@rule(
    "engine/no-shm",
    "error",
    "Tensor parallelism without /dev/shm",
    story="""The workers of one replica and NCCL (RCCL) talk through /dev/shm, which is 64 MiB in a Pod.
    With more than one rank in the Pod start-up or the first large batch ends in an NCCL error or a bus
    error. An emptyDir with medium Memory mends it; it counts into the container's memory limit.
    KubeRay, Dynamo and KServe mount one by themselves.""",
    cure="Mount an emptyDir {medium: Memory, sizeLimit: 8Gi} at /dev/shm.",
)
def no_shm(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        if workload.partial or engine.tensor_parallel < 2 or workload.obj.kind not in _NEEDS_SHM:
            continue
        if workload.pod["hostIPC"].value is True or engine.vendor in ("tpu", "cpu", "neuron"):
            continue
        if workload.multi_node and engine.gpus[0] == 1:
            continue  # one rank in each Pod: the others are reached over the network
        mounts = {m["mountPath"].text().rstrip("/"): v for m, v in workload.mounts(engine.node)}
        volume = mounts.get("/dev/shm", mounts.get("/dev"))
        if volume is None:
            yield say(
                workload.obj,
                engine.node["volumeMounts"],
                f"tensor parallel {engine.tensor_parallel} with the default 64 MiB /dev/shm: start-up or the first "
                "large batch ends in an NCCL error or a bus error.",
            )
        elif (size := quantity(volume.at("emptyDir", "sizeLimit"))) is not None and size <= _SMALL_SHM:
            yield say(
                workload.obj,
                volume.at("emptyDir", "sizeLimit"),
                f"/dev/shm of {size >> 20} MiB for tensor parallel {engine.tensor_parallel}: `No space left on "
                "device`, or an NCCL error.",
                "Set sizeLimit: 8Gi.",
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
    story="""Without a GPU in its limits (or a DRA claim) the Pod is placed on any node and gets no
    device: vLLM dies with `Failed to infer device type`. Where the nodes' own runtime hands every
    container all GPUs (runtimeClassName nvidia, NVIDIA_VISIBLE_DEVICES) it starts, and shares them with
    whoever else does so: a warning there.""",
    cure="Set resources.limits: {nvidia.com/gpu: N}.",
)
def no_gpu(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        none = engine.given.gpus_node
        if workload.obj.kind == VALUES and none and engine.gpus[0] == 0 and is_official(engine.image):
            text = "no GPU is asked for, and the image is for GPUs: vLLM dies with `Failed to infer device type`."
            cure = "requestGPU: 1, or an image for CPUs (public.ecr.aws/q9t5s3a7/vllm-cpu-release-repo)."
            if not _on_cpu_nodes(workload.pod):
                yield say(workload.obj, none, text, cure, severity="warning")
            continue
        if (
            workload.partial
            or not is_vllm_image(engine.image)
            or chips(engine.image)
            or engine.asks_for_a_device
        ):
            continue
        if workload.pod["resourceClaims"] or workload.pod["resources"] or workload.multi_node:
            continue
        if engine.command.value("--device") == "cpu":
            if is_official(engine.image):
                text = "--device cpu, and the image is built for CUDA: it has no kernels for a CPU."
                cure = "Use vLLM's image for CPUs (public.ecr.aws/q9t5s3a7/vllm-cpu-release-repo)."
                yield say(workload.obj, engine.node["image"], text, cure, severity="warning")
            continue
        if engine.env(environment.TARGET_DEVICE) or engine.node["envFrom"]:
            continue
        if _on_cpu_nodes(workload.pod):
            continue
        shares = (
            workload.pod["runtimeClassName"]
            or engine.env("NVIDIA_VISIBLE_DEVICES")
            or workload.pod["nodeName"]
            or workload.pod["nodeSelector"]
            or workload.pod.at("affinity", "nodeAffinity")
        )
        if shares or not is_official(engine.image):
            yield say(
                workload.obj,
                engine.node["resources"],
                "no GPU is asked for: where the node's runtime does not hand out its GPUs by itself, vLLM dies with "
                "`Failed to infer device type`; where it does, Pods share a GPU without knowing.",
                severity="warning",
            )
        else:
            yield say(
                workload.obj,
                engine.node["resources"],
                "no GPU is asked for: the Pod lands on any node and vLLM dies with `Failed to infer device type`.",
            )


_CPU_FAMILY = re.compile(r"^(m|c|r|t|hpc|x)\d\w*(\.|$)|^(n2|n4|c3|c4|e2|t2)\w*-|graviton|(^|[-_])cpu([-_]|$)")
"""Families and names of machines without GPUs (AWS's m, c, r, t; Google's n, c, e)."""


def _on_cpu_nodes(pod: YamlNode) -> bool:
    return any(_CPU_FAMILY.search(value.text()) for _, value in pod["nodeSelector"].items())


_GPU_WORDS = re.compile(r"gpu|accelerator|instance-type|machine", re.I)


def named_gpu(workload: Workload, engine: Container) -> tuple[str, float, YamlNode] | None:
    """(name, compute capability, where it stands) of the GPU that placement or a profile names; None when open."""
    node: YamlNode = engine.given.gpus_node or workload.pod
    if engine.given.gpu_name:
        found = find_gpu(engine.given.gpu_name, near=False)
        return (found.name, found.capability, node) if found else None
    gpu = gpu_for(workload)
    if gpu is not None:
        placed = workload.pod["nodeSelector"] or workload.pod["affinity"]
        return gpu.name, gpu.capability, placed or workload.obj.node.at("resource", "instanceType")
    for key, value in workload.pod["nodeSelector"].items():
        if _GPU_WORDS.search(key) and re.search(r"v100", value.text(), re.I):
            return "V100", 7.0, value
    terms = workload.pod.at(
        "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"
    )
    for term in terms:
        for e in term["matchExpressions"]:
            values = [v.text() for v in e["values"]]
            if e["operator"].text() == "In" and values and all(re.search(r"v100", v, re.I) for v in values):
                return "V100", 7.0, e["key"]
    return None


@rule(
    "devices/capability",
    "error",
    "A GPU that this vLLM has no kernels for",
    story="""vLLM's images carry kernels for the GPUs that their PyTorch was built for. Since 0.9 that
    begins at compute capability 7.5: a V100 (7.0) ends with `no kernel image is available for execution
    on the device`. bfloat16 needs 8.0: with --dtype bfloat16 a T4 or V100 ends with `Bfloat16 is only
    supported on GPUs with compute capability of at least 8.0`. Gemma 2 and 3 and GLM-4-0414 overflow in
    float16 and are refused with it.""",
    cure="Use an image up to 0.8.5 or a build of your own for V100; --dtype half on T4 and V100, float32 for the "
    "families "
    "that overflow in it.",
)
def capability(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        yield from _half_refused(workload, engine, say)
        named = named_gpu(workload, engine)
        if named is None or not named[1] or engine.vendor != "nvidia":
            continue
        name, level, node = named
        if level < 7.5 and engine.version >= _NO_VOLTA_SINCE:
            sure = engine.pinned and is_official(engine.image)
            message = (
                f"{name} has compute capability {level:g}, and images of vLLM 0.9 and later carry no kernels for it: "
                "`no kernel image is available for execution on the device`."
            )
            yield say(workload.obj, node, message, severity=None if sure else "warning")
        option = engine.command.option("--dtype")
        model = model_of(world, engine)
        if (
            level < 8.0
            and option is None
            and engine.pinned
            and engine.version < _CASTS_SINCE
            and model is not None
            and model.dtype == "bfloat16"
            and model.quantization is None
        ):
            yield say(
                workload.obj,
                node,
                f"{name} has compute capability {level:g} and {model.name} is bfloat16: vLLM {engine.version[0]}."
                f"{engine.version[1]} refuses to start without another --dtype.",
                _without_bfloat16(engine.model),
                severity="warning",
            )
        if level < 8.0 and option is not None and option.value == "bfloat16":
            yield say(
                workload.obj,
                option.value_node,
                f"{name} has compute capability {level:g} and no bfloat16: vLLM refuses to start.",
                _without_bfloat16(engine.model),
            )


def _without_bfloat16(model: str | None) -> str:
    """What a GPU without bfloat16 is to be told: float16, but for families that overflow in it, or know one format."""
    if _BFLOAT16_ONLY.search(model or ""):
        return f"Use another GPU (compute capability 8.0 and above): {model} knows no other format."
    if _NO_HALF.search(model or ""):
        return "Use --dtype float32, which takes twice the memory (this family overflows in float16), or another GPU."
    return "Use --dtype half."


def _half_refused(workload: Workload, engine: Container, say: Say) -> Iterator[Finding]:
    """--dtype half for the families that overflow in it."""
    option, model = engine.command.option("--dtype"), engine.model
    if option is None or option.value not in ("half", "float16") or not model:
        return
    if _NO_HALF.search(model) and engine.version >= _NO_HALF_SINCE:
        yield say(
            workload.obj,
            option.value_node,
            f"{model} overflows in float16: vLLM refuses to start (`does not support torch.float16`).",
            "Remove --dtype, or --dtype bfloat16 (GPUs from compute capability 8.0) or float32.",
            severity=None if engine.pinned else "warning",
        )


@rule(
    "devices/gke-driver-path",
    "warning",
    "The driver's libraries are not on the path",
    story="""GKE's nodes mount the NVIDIA driver at /usr/local/nvidia. The CUDA 12 images of vLLM from
    0.9 on no longer look there: libcuda.so.1 is not found, and vLLM dies with `Failed to infer device
    type` although the Pod has a GPU. An LD_LIBRARY_PATH of your own without that folder hides the
    driver in every version.""",
    cure="Set LD_LIBRARY_PATH to /usr/local/nvidia/lib64:/usr/local/cuda/lib64.",
)
def gke_driver_path(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        on_gke = any(k.startswith("cloud.google.com/gke-") for k in _placement(workload.pod))
        if not on_gke or engine.vendor != "nvidia" or not engine.asks_for_a_device or workload.partial:
            continue
        script = " ".join(n.text() for n in [*engine.node["command"], *engine.node["args"]])
        if "ldconfig" in script or _GKE_PATH in script or workload.pod["runtimeClassName"]:
            continue
        path = engine.env("LD_LIBRARY_PATH")
        if path and not path["valueFrom"] and _GKE_PATH not in path["value"].text():
            yield say(
                workload.obj,
                path["value"] or path,
                f"LD_LIBRARY_PATH without {_GKE_PATH}: on GKE libcuda.so.1 is not found and vLLM dies with "
                "`Failed to infer device type`.",
                severity="error",
            )
        elif (
            not path
            and engine.pinned
            and _GKE_SINCE <= engine.version <= _GKE_UNTIL
            and is_official(engine.image)
        ):
            yield say(
                workload.obj,
                engine.node["env"],
                "vLLM's CUDA 12 images from 0.9 on do not look for GKE's driver: `Failed to infer device type`.",
            )


def _placement(pod: YamlNode) -> Iterator[str]:
    yield from (pod["nodeSelector"].entries or {})
    terms = pod.at(
        "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"
    )
    for term in terms:
        for e in term["matchExpressions"]:
            yield e["key"].text()

"""Rules about CPU, memory and disk of the Pods."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.domain.units import parse_bytes
from seawall.lint.finding import Finding, Say, rule
from seawall.lint.node import YamlNode
from seawall.lint.patch import Patcher
from seawall.lint.size import weights_bytes
from seawall.lint.world import Manifests


def quantity(node: YamlNode) -> int | None:
    """A memory quantity in bytes; None when it is absent or odd."""
    try:
        return parse_bytes(node.value if isinstance(node.value, int) else node.text()) if node else None
    except ValueError:
        return None


def cores(node: YamlNode) -> float | None:
    text = node.text()
    try:
        return float(text[:-1]) / 1000 if text.endswith("m") else float(text)
    except ValueError:
        return None


@rule(
    "resources/not-guaranteed",
    "warning",
    "Meant to be Guaranteed, but Burstable",
    story="""A Pod is Guaranteed only when every container, init containers included, has limits for CPU
    and memory and requests equal to them (kubelet qos.go). With one difference it is Burstable: evicted
    under node pressure before Guaranteed ones, a higher OOM score, no exclusive CPUs. Reported when
    memory is written as request = limit, which says what was meant.""",
    cure="Make CPU request = limit as well, and give every init container resources.",
    fixable=True,
)
def not_guaranteed(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload in world.whole_servers:
        engine, pod = workload.engine.node, workload.pod
        want, limit = engine.at("resources", "requests"), engine.at("resources", "limits")
        if pod["resources"] or not limit["memory"] or quantity(want["memory"]) != quantity(limit["memory"]):
            continue
        asked, most = want["cpu"], limit["cpu"]
        if asked and most and cores(asked) != cores(most):
            yield say(
                workload.obj,
                asked,
                f"CPU request {asked.text()} is not its limit {most.text()}: the Pod is Burstable, "
                "evicted under node pressure before Guaranteed ones.",
                edits=patch.replace(asked, most.text()),
            )
        for init in pod["initContainers"]:
            if not init.at("resources", "limits", "cpu") or not init.at("resources", "limits", "memory"):
                yield say(
                    workload.obj,
                    init["resources"],
                    f"the init container {init['name'].text()} has no CPU and memory limits: "
                    "that alone makes the whole Pod Burstable.",
                    "Give it requests = limits.",
                )


@rule(
    "resources/no-ephemeral-storage",
    "note",
    "No ephemeral storage asked for",
    story="""Images of 10 GB, compile caches and logs live on the node's disk. A Pod that asks for none
    is the first to be evicted under DiskPressure, and the scheduler puts it on nodes whose disk is
    full.""",
    cure="Request ephemeral-storage (20Gi and the caches on emptyDir).",
)
def no_ephemeral_storage(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.whole_servers:
        resources = workload.engine.node["resources"]
        if (
            resources
            and not resources.at("requests", "ephemeral-storage")
            and not resources.at("limits", "ephemeral-storage")
        ):
            yield say(
                workload.obj,
                resources,
                "evicted first when the node's disk fills up (images and caches live there).",
            )


@rule(
    "resources/host-memory",
    "note",
    "As much host memory as the model is big",
    story="""vLLM maps safetensors files and copies them to the GPU piece by piece; it does not hold the
    model in host memory. Asking for the model's size only makes nodes hard to find and strands their
    memory.""",
    cure="Start with 16-32 GiB (plus /dev/shm and --kv-offloading-size) and watch "
    "container_memory_working_set_bytes.",
)
def host_memory(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.whole_servers:
        engine = workload.engine
        node = engine.node.at("resources", "requests", "memory")
        size, asked = weights_bytes(world, engine), quantity(node)
        if size and asked and size > 40 * 2**30 and asked >= 0.9 * size and not workload.simulated:
            if engine.command.option("--kv-offloading-size") or engine.command.option("--cpu-offload-gb"):
                continue
            yield say(
                workload.obj,
                node,
                f"{node.text()} of host memory is not needed to load {size / 1e9:.0f} GB of weights "
                "(they are mapped): fewer nodes fit.",
            )


@rule(
    "resources/shm-eats-memory",
    "warning",
    "/dev/shm as large as the memory limit",
    story="""What is written to an emptyDir with medium Memory counts into the container's memory limit. sizeLimit is
    only how far it may grow: with one as large as the limit a leak in /dev/shm ends in OOMKilled instead of `No space
    left on device`.""",
    cure="Keep sizeLimit well below the memory limit (8Gi is plenty for NCCL).",
)
def shm_eats_memory(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.servers:
        limit = quantity(workload.engine.node.at("resources", "limits", "memory"))
        for mount, volume in workload.mounts(workload.engine.node):
            size = volume.at("emptyDir", "sizeLimit")
            used = quantity(size)
            if mount["mountPath"].text() == "/dev/shm" and limit and used and used >= limit:
                yield say(
                    workload.obj,
                    size,
                    f"/dev/shm may grow to {size.text()}, the container's whole memory limit: what fills it ends "
                    "in OOMKilled.",
                )


LEAST_HOST = 4 * 2**30
"""What the API server, the engine and one worker take of host memory with CUDA loaded, seen on small models."""


@rule(
    "resources/host-memory-too-small",
    "warning",
    "Less host memory than vLLM itself takes",
    story="""The API server, the engine core and each rank are processes of their own, with Python,
    PyTorch and CUDA loaded: about 4 GiB together before any weight is read, plus /dev/shm and pinned
    buffers. With a smaller limit the kernel kills the container (OOMKilled, exit 137) while it starts
    or loads.""",
    cure="Start with 16 GiB and watch container_memory_working_set_bytes.",
)
def host_memory_too_small(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        for engine in workload.engines:
            node = engine.node.at("resources", "limits", "memory")
            limit = quantity(node)
            shm = sum(
                quantity(v.at("emptyDir", "sizeLimit")) or 0
                for m, v in workload.mounts(engine.node)
                if v.at("emptyDir", "medium").text() == "Memory"
            )
            if limit is not None and engine.gpus[0] and limit < LEAST_HOST:
                yield say(
                    workload.obj,
                    node,
                    f"{node.text()} of host memory: vLLM's own processes take about 4 GiB, the kernel kills it "
                    "(OOMKilled)" + (f"; /dev/shm of {shm / 2**30:.0f} GiB counts too." if shm else "."),
                )


@rule(
    "resources/device-count",
    "error",
    "A number of devices that Kubernetes refuses",
    story="""Devices (nvidia.com/gpu, amd.com/gpu, google.com/tpu) are extended resources: whole numbers,
    and limits equal to requests. The API server refuses `0.5` (`must be an integer`) and requests that
    differ from the limits. Parts of a GPU come from MIG or time slicing, by resource names of their own.""",
    cure="Write the same whole number under limits and requests, or under limits alone.",
)
def device_count(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        for engine in workload.engines:
            resources = engine.node["resources"]
            for key, node in resources["limits"].items():
                if not _DEVICE.fullmatch(key):
                    continue
                text, asked = node.text(), resources.at("requests", key)
                if re.fullmatch(r"\d*\.\d*[1-9]\d*|\d+m", text) and not text.endswith("000m"):
                    yield say(
                        workload.obj,
                        node,
                        f"{text} {key}: only whole ones can be had, the object is refused.",
                    )
                elif asked.text().isdigit() and text.isdigit() and int(asked.text()) != int(text):
                    said = f"{asked.text()} {key} requested and {text} as the limit: they must be equal, "
                    yield say(workload.obj, asked, said + "the object is refused.")


_DEVICE = re.compile(r"(nvidia|amd)\.com/gpu|google\.com/tpu")

"""Rules about parts of GPUs, names of devices, and Pods of one group that wait for each other."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from seawall.decide.plan.weights import weigh
from seawall.lint.finding import Finding, Say, rule
from seawall.lint.kinds import pod_specs
from seawall.lint.objects import Container, Workload
from seawall.lint.rules.rollout import surge_of
from seawall.lint.size import model_of
from seawall.lint.world import Manifests

_MIG = re.compile(r"nvidia\.com/mig-\d+g\.(\d+)gb(\..*)?")
_SHARED = re.compile(r"nvidia\.com/gpu\.shared")
_DEVICES = ("nvidia.com/gpu", "amd.com/gpu", "google.com/tpu", "habana.ai/gaudi", "intel.com/gpu")


def _engines(world: Manifests) -> Iterator[tuple[Workload, Container]]:
    for workload in world.workloads:
        for engine in workload.engines:
            yield workload, engine


@rule(
    "devices/parts-of-one",
    "error",
    "Ranks on parts of GPUs",
    story="""Parts of a GPU (MIG instances, time slices) are no GPUs to NCCL: two ranks on one card end with
    `Duplicate GPU detected`, and two MIG instances have no way to each other. A replica of several ranks takes
    whole GPUs.""",
    cure="Ask for nvidia.com/gpu, or serve with one rank on one part.",
)
def parts_of_one(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        ranks = engine.tensor_parallel * (engine.command.integer("--pipeline-parallel-size") or 1)
        for key, node in engine.node.at("resources", "limits").items():
            if ranks > 1 and (_MIG.fullmatch(key) or _SHARED.fullmatch(key)):
                yield say(
                    workload.obj, node, f"{ranks} ranks on {key}: NCCL ends with `Duplicate GPU detected`."
                )


@rule(
    "devices/part-too-small",
    "error",
    "A part of a GPU that does not hold the weights",
    story="""A MIG instance has the memory that its name says: nvidia.com/mig-1g.10gb 10 GB. vLLM dies with CUDA
    out of memory while it loads.""",
    cure="Take a larger part, a whole GPU, or a quantized checkpoint.",
)
def part_too_small(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        model = model_of(world, engine)
        for key, node in engine.node.at("resources", "limits").items():
            mig = _MIG.fullmatch(key)
            if mig is None or model is None or engine.command.option("--cpu-offload-gb"):
                continue
            gib = weigh(model, 1, 1).per_gpu / 2**30
            if gib > float(mig[1]):
                text = f"{model.name} is {gib:.0f} GiB of weights and {key} has {mig[1]} GB: out of memory."
                yield say(workload.obj, node, text)


@rule(
    "resources/no-such-device",
    "error",
    "A device that no plugin offers",
    story="""Devices are asked for under the name that the device plugin gives them: nvidia.com/gpu, not
    nvidia.com/gpus or nvidia/gpu. Nobody offers the other one, and the Pod stays Pending (`Insufficient
    nvidia.com/gpus`).""",
    cure="Write the plugin's name.",
)
def no_such_device(world: Manifests, say: Say) -> Iterator[Finding]:
    for obj in world.objects:
        for pod, _ in () if obj.fragment else pod_specs(obj):
            for container in [*pod["initContainers"], *pod["containers"]]:
                for key, node in container.at("resources", "limits").items():
                    near = difflib.get_close_matches(key.lower(), _DEVICES, 1, 0.9)
                    if near and key not in _DEVICES and "{" not in key:
                        yield say(
                            obj, node, f"nobody offers {key}: the Pod stays Pending.", f"Write {near[0]}."
                        )


@rule(
    "rollout/waits-for-itself",
    "error",
    "Pods of one group that wait for each other",
    story="""The ranks of a replica over several Pods find each other by the leader's name, and serve when all
    are there. A StatefulSet starts its second Pod when the first is ready (podManagementPolicy OrderedReady),
    and a headless Service tells the name of a Pod that is not ready only with publishNotReadyAddresses: with a
    readiness probe on the leader both wait for ever.""",
    cure="Set podManagementPolicy: Parallel and publishNotReadyAddresses: true, or use a LeaderWorkerSet.",
)
def waits_for_itself(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.servers:
        obj, engine = workload.obj, workload.engine
        script = " ".join(n.text() for n in [*engine.node["command"], *engine.node["args"]])
        group = bool(engine.command.option("--nnodes")) or "ray start" in script
        probed = engine.node["readinessProbe"] or engine.node["startupProbe"]
        if obj.kind != "StatefulSet" or not group or not probed or world.min_replicas(workload) < 2:
            continue
        policy = obj.spec["podManagementPolicy"]
        if policy.text("OrderedReady") == "OrderedReady":
            yield say(
                obj,
                policy,
                "the second Pod is made when the first is ready, and the first waits for the second.",
            )
        name = obj.spec["serviceName"].text()
        for service in world.selecting(workload, "Service"):
            hidden = service.spec["publishNotReadyAddresses"].value is not True
            if service.name == name and service.spec["clusterIP"].text() == "None" and hidden:
                text = "the leader's name is not told before it is ready, and is ready when the others have found it."
                yield say(service, service.spec, text, "Set publishNotReadyAddresses: true.")


@rule(
    "rollout/port-taken",
    "warning",
    "A port of the node, and a rollout that needs it twice",
    story="""With hostPort or hostNetwork a Pod holds the port of its node. A rollout that starts the new Pod
    first (maxSurge 1, maxUnavailable 0) finds it taken wherever an old one runs: where every node has one, the
    new Pod stays Pending (`didn't have free ports`) for ever.""",
    cure="Use a Service instead of hostPort; else maxSurge: 0 and maxUnavailable: 1.",
)
def port_taken(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.whole_servers:
        if workload.obj.kind != "Deployment" or workload.obj.spec.at("strategy", "type").text() == "Recreate":
            continue
        surge, gone = surge_of(workload, max(1, world.min_replicas(workload)))
        held = next((p["hostPort"] for p in workload.engine.node["ports"] if p["hostPort"]), None)
        if workload.pod["hostNetwork"].value is True:
            held = workload.pod["hostNetwork"]
        if held is not None and surge and not gone:
            text = "a rollout starts the new Pod first, and finds the port taken on nodes with an old one."
            yield say(workload.obj, held, text)

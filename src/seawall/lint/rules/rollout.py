"""Rules about how a new version replaces the old one."""

from __future__ import annotations

from collections.abc import Iterator

from seawall.lint.finding import Finding, Say, rule
from seawall.lint.node import YamlNode
from seawall.lint.objects import Workload
from seawall.lint.patch import Patcher
from seawall.lint.world import Manifests


def surge_of(workload: Workload, replicas: int) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) in Pods: defaults 25%, surge rounded up, unavailable down."""
    rolling = workload.obj.spec.at("strategy", "rollingUpdate")
    surge, gone = (
        _pods(rolling["maxSurge"], replicas, up=True),
        _pods(rolling["maxUnavailable"], replicas, up=False),
    )
    return (surge, gone) if surge or gone else (0, 1)


def _pods(node: YamlNode, replicas: int, *, up: bool) -> int:
    text = node.text("25%")
    if text.endswith("%") and text[:-1].isdigit():
        exact = int(text[:-1]) * replicas
        return -(-exact // 100) if up else exact // 100
    return int(text) if text.isdigit() else 0


@rule(
    "rollout/surge-needs-gpu",
    "note",
    "The rollout waits for a free GPU",
    story="""maxSurge 1 with maxUnavailable 0 starts the new Pod before an old one stops: it needs a whole
    spare set of GPUs. Without one the new Pod stays Pending (`Insufficient nvidia.com/gpu`), nothing is
    replaced, and after progressDeadlineSeconds the rollout counts as failed. Reported when the manifest
    leaves progressDeadlineSeconds to its default, a sign that nobody planned for it.""",
    cure="Keep one GPU set free (or an autoscaled pool) and set progressDeadlineSeconds; "
    "without spare GPUs use maxSurge 0, maxUnavailable 1.",
)
def surge_needs_gpu(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.servers:
        gpus, _ = workload.engine.gpus
        spec = workload.obj.spec
        if workload.obj.kind != "Deployment" or not gpus or spec["progressDeadlineSeconds"]:
            continue
        if spec.at("strategy", "type").text("RollingUpdate") != "RollingUpdate":
            continue
        surge, gone = surge_of(workload, max(1, world.min_replicas(workload)))
        if surge and not gone:
            yield say(
                workload.obj,
                spec.at("strategy", "rollingUpdate", "maxSurge"),
                f"every update needs {gpus} free GPU{'s' * (gpus > 1)} for the surge Pod; without "
                "them it stays Pending and nothing is replaced.",
            )


@rule(
    "rollout/recreate",
    "warning",
    "Every update is an outage",
    story="""strategy Recreate stops all replicas before the first new one starts to load: minutes without
    service at every change.""",
    cure="Use RollingUpdate; without spare GPUs maxSurge 0 and maxUnavailable 1.",
)
def recreate(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.servers:
        node = workload.obj.spec.at("strategy", "type")
        if node.text() == "Recreate":
            yield say(
                workload.obj,
                node,
                "all replicas stop before the first new one has loaded: an outage of the whole "
                "start-up time at every change.",
                severity="note" if world.min_replicas(workload) <= 1 else None,
            )


@rule(
    "rollout/all-at-once",
    "error",
    "An update may stop every replica",
    story="""maxUnavailable as large as the number of replicas lets the Deployment controller stop all old
    Pods before a new one is ready.""",
    cure="Set maxUnavailable: 0 with spare GPUs, or 1 with two replicas or more.",
    fixable=True,
)
def all_at_once(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload in world.whole_servers:
        node = workload.obj.spec.at("strategy", "rollingUpdate", "maxUnavailable")
        low = world.min_replicas(workload)
        if node and low > 1 and workload.obj.kind == "Deployment" and _pods(node, low, up=False) >= low:
            yield say(
                workload.obj,
                node,
                f"an update may stop all {low} replicas before a new one is ready.",
                edits=patch.replace(node, "1"),
            )

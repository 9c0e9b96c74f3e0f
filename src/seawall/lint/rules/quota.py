"""Rules about what a namespace allows: quotas that the objects in the same files exceed together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from seawall.lint.finding import Finding, Say, rule
from seawall.lint.kinds import pod_specs
from seawall.lint.node import YamlNode
from seawall.lint.objects import Obj
from seawall.lint.rules.resources import cores, quantity
from seawall.lint.rules.schema import whole
from seawall.lint.world import Manifests

_Amount = Callable[[YamlNode], float | None]


@rule(
    "resources/quota-too-small",
    "error",
    "A quota that these objects exceed",
    story="""A ResourceQuota counts what the namespace asks for: claims' sizes against requests.storage, Pods'
    devices against requests.nvidia.com/gpu, memory and CPU. What comes last is refused: a claim with `exceeded
    quota`, a Deployment's Pods with FailedCreate in its ReplicaSet's events, and nobody is told. Reported when
    the objects of the same files exceed it by themselves.""",
    cure="Raise the quota, or ask for less.",
)
def quota_too_small(world: Manifests, say: Say) -> Iterator[Finding]:
    for quota in world.kinds("ResourceQuota"):
        if quota.spec["scopes"] or quota.spec["scopeSelector"]:
            continue  # counts some of the Pods only
        for key, node in quota.spec["hard"].items():
            amount: _Amount = cores if key.endswith("cpu") or "/" in key else quantity
            most, asked = amount(node), _asked(world, quota, key, amount)
            if most is not None and asked is not None and asked > most:
                text = f"{key} is {node.text()}, and {_shown(asked, key)} are asked for here: the rest is refused."
                yield say(quota, node, text)


def _asked(world: Manifests, quota: Obj, key: str, amount: _Amount) -> float | None:
    """What the namespace's objects in sight ask for of one resource; None for resources that are not summed here."""
    if key == "requests.storage":
        claims = [c for c in world.kinds("PersistentVolumeClaim") if c.namespace == quota.namespace]
        return sum(amount(c.spec.at("resources", "requests", "storage")) or 0 for c in claims)
    block, _, name = key.partition(".")
    if block not in ("requests", "limits") or not name:
        return None
    total = 0.0
    for obj in world.kinds("Deployment", "StatefulSet", "Pod"):
        if obj.namespace != quota.namespace or not whole(obj):
            continue
        times = 1 if obj.kind == "Pod" else obj.spec["replicas"].number(1) or 0
        for pod, _ in pod_specs(obj):
            for container in pod["containers"]:
                resources = container["resources"]
                total += times * (amount(resources.at(block, name) or resources.at("limits", name)) or 0)
    return total


def _shown(asked: float, key: str) -> str:
    if key.endswith("cpu") or "/" in key:
        return f"{asked:g}"
    return f"{asked / 2**30:.0f}Gi"


_SLOW = {
    "VLLM_TRACE_FUNCTION": "every call of a Python function is written to a file: loading takes many times as long",
    "CUDA_LAUNCH_BLOCKING": "each kernel waits for the one before it: tokens come at a fraction of the pace",
}


@rule(
    "engine/debugging",
    "warning",
    "A switch for debugging",
    story="""VLLM_TRACE_FUNCTION=1 and CUDA_LAUNCH_BLOCKING=1 are for finding a hang. With them a start takes
    many times as long, the startup probe kills it (`KeyboardInterrupt: terminated`), and tokens come slowly.""",
    cure="Remove it.",
)
def debugging(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.servers:
        for engine in workload.engines:
            for name, effect in _SLOW.items():
                item = engine.env(name)
                if item and item["value"].text() in ("1", "true", "True"):
                    yield say(workload.obj, item, f"{name}: {effect}.")

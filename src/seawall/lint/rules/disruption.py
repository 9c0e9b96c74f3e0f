"""Rules about PodDisruptionBudgets: what node drains may do."""

from __future__ import annotations

from collections.abc import Iterator

from seawall.lint.finding import Finding, Say, rule
from seawall.lint.node import YamlNode
from seawall.lint.objects import Obj, Workload
from seawall.lint.patch import Edits, Patcher
from seawall.lint.world import Manifests


def _budgets(world: Manifests) -> Iterator[tuple[Obj, Workload]]:
    for workload in world.servers:
        for budget in world.selecting(workload, "PodDisruptionBudget"):
            yield budget, workload


def _share(node: YamlNode, replicas: int) -> int | None:
    """A count or a percentage of replicas, rounded up as Kubernetes does for budgets."""
    text = node.text()
    if text.endswith("%") and text[:-1].isdigit():
        return -(-int(text[:-1]) * replicas // 100)
    return int(text) if text.isdigit() else None


@rule(
    "disruption/pdb-blocks-drain",
    "error",
    "A budget that allows no disruption at all",
    story="""minAvailable equal to the replicas that there are (or maxUnavailable 0) leaves
    disruptionsAllowed at 0: every eviction gets HTTP 429, `kubectl drain` and node upgrades hang until
    somebody deletes the budget, and autoscalers cannot remove the node. minAvailable: 1 does not mean
    "never more than one": it allows N-1. Budgets govern evictions only, not rollouts, HPA scale-down or
    node loss.""",
    cure="Use maxUnavailable: 1, and at least 2 replicas.",
    fixable=True,
)
def blocks_drain(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for budget, workload in _budgets(world):
        low = world.min_replicas(workload)
        least, most = budget.spec["minAvailable"], budget.spec["maxUnavailable"]
        if most and _share(most, max(low, 1)) == 0:
            yield say(
                budget,
                most,
                "no Pod may ever be evicted: node drains and upgrades hang.",
                edits=patch.replace(most, "1"),
            )
        kept = _share(least, low) if least else None
        if kept is not None and low > 0 and kept >= low:
            span = budget.spec.key_spans["minAvailable"]
            edits: Edits = ()
            if least.text().isdigit() and least.span.line == span.line:
                key = YamlNode((), span, budget.node.file, value="minAvailable")
                edits = (*patch.replace(key, "maxUnavailable"), *patch.replace(least, "1"))
            yield say(
                budget,
                least,
                f"with {low} replica{'s' * (low != 1)} it allows 0 disruptions: evictions get 429 and "
                "every node drain or upgrade hangs.",
                edits=edits,
            )


@rule(
    "disruption/unhealthy-stay",
    "warning",
    "Unready Pods block node drains",
    story="""By default a Pod that is not ready (still loading, crash-looping) can only be evicted while the
    budget is met without it. A crash-looping replica then blocks the drain of its node for ever.
    unhealthyPodEvictionPolicy: AlwaysAllow is GA since Kubernetes 1.31.""",
    cure="Set unhealthyPodEvictionPolicy: AlwaysAllow.",
    fixable=True,
)
def unhealthy_stay(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for budget, _ in _budgets(world):
        node = budget.spec["unhealthyPodEvictionPolicy"]
        if node.text() != "AlwaysAllow" and world.target >= (1, 27):
            edits = (
                patch.replace(node, "AlwaysAllow")
                if node
                else patch.add_key(budget.spec, ["unhealthyPodEvictionPolicy: AlwaysAllow"])
            )
            yield say(
                budget, node, "a replica that loads or crash-loops blocks the drain of its node.", edits=edits
            )


@rule(
    "disruption/no-pdb",
    "note",
    "No PodDisruptionBudget",
    story="""A node upgrade may evict all replicas at once. Only reported when other objects around the
    workload are in sight and there are two replicas or more.""",
    cure="Add a PodDisruptionBudget with maxUnavailable: 1 and unhealthyPodEvictionPolicy: AlwaysAllow.",
)
def no_pdb(world: Manifests, say: Say) -> Iterator[Finding]:
    if not any(world.kinds("Service", "ScaledObject", "HorizontalPodAutoscaler")):
        return
    for workload in world.whole_servers:
        if world.min_replicas(workload) >= 2 and not world.selecting(workload, "PodDisruptionBudget"):
            yield say(
                workload.obj,
                workload.obj.node.at("metadata", "name"),
                "a node upgrade may evict all replicas at the same time.",
            )


@rule(
    "disruption/two-budgets",
    "error",
    "Two budgets over the same Pods",
    story="""The eviction API refuses a Pod that two budgets select: HTTP 500 `This pod has more than one
    PodDisruptionBudget, which the eviction subresource does not support`. Drains hang.""",
    cure="Keep one.",
)
def two_budgets(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.servers:
        budgets = world.selecting(workload, "PodDisruptionBudget")
        for budget in budgets[1:]:
            yield say(
                budget,
                budget.spec["selector"],
                f"{budgets[0].shown} selects the same Pods: the eviction API refuses them with 500, "
                "drains hang.",
            )

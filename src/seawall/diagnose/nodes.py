"""What becomes of nodes, and of Pods that lose their place on one. Pure rules."""

from __future__ import annotations

from collections.abc import Iterator

from seawall.diagnose.cause import Cause, rule
from seawall.diagnose.facts import Facts, condition, items, meta, name_of, part, shown


@rule
def preempted(facts: Facts) -> Iterator[Cause]:
    """Pods of ours that a higher priority pushed out."""
    for event in facts.events:
        if event.get("reason") in ("Preempted", "PreemptionByScheduler"):
            about = part(event, "involvedObject")
            yield Cause(
                id="scheduling/preempted",
                certainty="certain",
                subject=f"Pod/{about.get('name', '')}",
                weight=80,
                what="a Pod of higher priority took its place",
                evidence=(shown(event),),
                do="give serving Pods a PriorityClass above batch work: kubectl get priorityclass",
            )
    for pod in facts.pods:
        target = condition(pod, "DisruptionTarget")
        if target.get("status") == "True" and target.get("reason") == "PreemptionByScheduler":
            yield Cause(
                id="scheduling/preempted",
                certainty="certain",
                subject=f"Pod/{name_of(pod)}",
                weight=80,
                what="a Pod of higher priority took its place",
                evidence=(str(target.get("message"))[:240],),
                do="give serving Pods a PriorityClass above batch work: kubectl get priorityclass",
            )


@rule
def bad_nodes(facts: Facts) -> Iterator[Cause]:
    """Nodes that push Pods away: not ready, under pressure, being drained or lost to spot."""
    used = {str(part(p, "spec").get("nodeName")) for p in facts.pods} - {"None"}
    for node in facts.nodes:
        name = name_of(node)
        if used and name not in used:
            continue
        for kind in ("DiskPressure", "MemoryPressure", "PIDPressure"):
            if condition(node, kind).get("status") == "True":
                yield Cause(
                    id="node/pressure",
                    certainty="certain",
                    subject=f"Node/{name}",
                    weight=85,
                    what=f"the node is under {kind}: it evicts Pods and takes no new ones",
                    evidence=(str(condition(node, kind).get("message") or kind)[:240],),
                    do=f"kubectl describe node {name}; request ephemeral-storage, clean images and caches",
                )
        ready = condition(node, "Ready")
        if ready and ready.get("status") != "True":
            yield Cause(
                id="node/not-ready",
                certainty="certain",
                subject=f"Node/{name}",
                weight=90,
                what="the node is not ready: its Pods are lost to the cluster",
                evidence=(str(ready.get("message"))[:240],),
                do=f"kubectl describe node {name}; replace it",
            )
        if meta(node).get("deletionTimestamp") or any(
            "disrupted" in str(t.get("key"))
            or ("spot" in str(t.get("key")) and "termination" in str(t.get("key")))
            for t in items(node, "spec", "taints")
        ):
            yield Cause(
                id="node/going",
                certainty="certain",
                subject=f"Node/{name}",
                weight=60,
                what="the node is being taken away (spot, consolidation or a drain): its streams move to "
                "other replicas",
                evidence=("taints: " + ", ".join(str(t.get("key")) for t in items(node, "spec", "taints")),),
                do="nothing, if an on-demand floor serves; else raise hardware.spot.onDemandFloor",
            )

"""Why a Pod is not placed though GPUs are free: what the Pod itself, its claims or a queue demand. Pure rules."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.diagnose.cause import Cause, rule
from seawall.diagnose.controllers import cure_of_words
from seawall.diagnose.facts import Facts, condition, items, name_of, part, when
from seawall.diagnose.scheduling import pending


@rule
def gated(facts: Facts) -> Iterator[Cause]:
    """A gate is a queue's (Kueue's, say): the scheduler does not even look at the Pod."""
    for pod in facts.pods:
        scheduled = condition(pod, "PodScheduled")
        if scheduled.get("reason") == "SchedulingGated":
            words = _of_the_queue(facts)
            gates = ", ".join(str(g.get("name")) for g in items(pod, "spec", "schedulingGates")) or "a gate"
            yield Cause(
                id="scheduling/gated",
                certainty="certain",
                subject=f"Pod/{name_of(pod)}",
                weight=90,
                what=f"{gates} holds the Pod back: it waits in a queue, not for a node"
                + (f"; the queue says: {words}" if words else ""),
                evidence=(f"PodScheduled=False: {str(scheduled.get('message'))[:200]}",),
                do=cure_of_words(words)
                or "kubectl get workloads,localqueues (Kueue): its quota, or the controller that owns the gate",
            )


def _of_the_queue(facts: Facts) -> str:
    """The last words of a queue about a group of Pods that it does not let go; empty when it has none."""
    said = [
        " ".join(str(e.get("message") or "").split())
        for e in sorted(facts.events, key=when)
        if part(e, "involvedObject").get("kind") in ("Workload", "PodGroup", "AdmissionCheck")
    ]
    return said[-1][:220] if said else ""


@rule
def demands(facts: Facts) -> Iterator[Cause]:
    """Anti-affinity, spread, host ports and claims of devices, as the scheduler words them."""
    table = (
        (
            "scheduling/affinity",
            r"didn't (?:match|satisfy existing) pod[s]? (?:anti-)?affinity|pod topology spread constraints",
            "the Pod's own affinity or spread rules leave no node",
            "use whenUnsatisfiable: ScheduleAnyway and preferred anti-affinity (seawall render does)",
        ),
        (
            "scheduling/dra",
            r"cannot allocate all claims|resourceclaim[^\n]{0,60}not found|waiting for resource driver",
            "no device fits the Pod's ResourceClaim",
            "kubectl get resourceslices,resourceclaims; does the DRA driver run on the GPU nodes?",
        ),
        (
            "scheduling/volume-limit",
            r"exceed max volume count",
            "every node that fits has as many volumes attached as it may",
            "kubectl get csinodes -o yaml (allocatable.count); larger nodes, or one shared volume for weights",
        ),
        (
            "scheduling/host-port",
            r"didn't have free ports for the requested pod ports",
            "every node that fits has the host port taken: one such Pod fits on a node",
            "remove hostPort or hostNetwork; a Service needs neither",
        ),
    )
    for pod, message, evidence in pending(facts):
        for name, pattern, what, do in table:
            if re.search(pattern, message, re.IGNORECASE):
                yield Cause(
                    id=name,
                    certainty="certain",
                    subject=f"Pod/{name_of(pod)}",
                    weight=85,
                    what=what,
                    evidence=(evidence,),
                    do=do,
                )

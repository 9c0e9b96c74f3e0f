"""Machines that an autoscaler wants and does not get, and groups of Pods that start together or not at all. Pure.

Forbidden here: what stands on the nodes that there are (that is `scheduling.py`).
"""

from __future__ import annotations

import re

from seawall.diagnose.cause import Cause
from seawall.diagnose.facts import Facts, Object, name_of, part, shown

_NO_CAPACITY = re.compile(
    r"(?P<limit>\w*LimitExceeded|QuotaExceeded|QUOTA_EXCEEDED|quota[^\n]{0,40}exceeded|vCPU limit)"
    r"|(?P<none>[Ii]nsufficient ?[Cc]apacity|ZONE_RESOURCE_POOL_EXHAUSTED|SkuNotAvailable|OverconstrainedAllocation"
    r"|AllocationFailed|GCE_STOCKOUT|out of (?:resources|stock|capacity)|all requested instance types were unavailable)"
)
"""What clouds answer to who asks for a machine."""


def no_machine(facts: Facts, message: str, subject: str, evidence: str) -> Cause | None:
    """Why the machine that an autoscaler wants is not made; None: no autoscaler says so."""
    if re.search(
        r"incompatible with (?:nodepool|provisioner)|no instance type (?:satisfied|which|has|met)", message
    ):
        return Cause(
            id="scheduling/no-node-type",
            certainty="likely",
            subject=subject,
            weight=97,
            what="Karpenter may make no node that the Pod fits on: no instance type of a NodePool has all "
            "that it asks for",
            evidence=(evidence,),
            do="the NodePool's requirements (instance types, zones, capacity type), taints and limits against "
            "the Pod's GPUs, "
            "memory, selector and tolerations: kubectl get nodepools -o yaml; where they fit, the cloud has "
            "none of these "
            "instance types left: allow more",
        )
    lost = _never_joined(facts, subject, evidence)
    if lost is not None:
        return lost
    for event in facts.events:
        kind = part(event, "involvedObject").get("kind")
        said = _NO_CAPACITY.search(f"{event.get('reason')} {event.get('message')}")
        scales = kind in ("NodeClaim", "Machine") or re.search("ScaleUp|Scale-up", str(event.get("reason")))
        if said and (scales or "instance" in str(event.get("message"))):
            return Cause(
                id="scheduling/cloud-capacity",
                certainty="certain",
                subject=subject,
                weight=101,
                what="the autoscaler asks for a GPU node and the cloud gives none: "
                + (
                    "the account's quota is used up"
                    if said["limit"]
                    else "it has no capacity of that kind there now"
                ),
                evidence=(shown(event), evidence),
                do="raise the account's quota for that family of instances (vCPUs, GPUs) in that region with "
                "the cloud (AWS: "
                "Service Quotas)"
                if said["limit"]
                else "allow more instance types and zones, on-demand beside spot, or a reservation; it is tried again",
            )
    return None


_NEVER_JOINED = re.compile(
    r"not registered|[Rr]egistration(?:Failed| failed| timeout)|never (?:joined|became ready)|UnregisteredTaint"
    r"|NodeClassNotReady|NotInitialized|did not (?:join|register)"
)
"""What autoscalers say of a machine that was made and is no node."""


def _never_joined(facts: Facts, subject: str, evidence: str) -> Cause | None:
    """Machines that are made and do not become nodes: an autoscaler says so, or names a new one again and again."""
    said = next(
        (
            e
            for e in facts.events
            if part(e, "involvedObject").get("kind") in ("NodeClaim", "Machine", "NodePool")
            and _NEVER_JOINED.search(f"{e.get('reason')} {e.get('message')}")
        ),
        None,
    )
    named = {
        m[1]
        for e in facts.events
        if e.get("reason") == "Nominated"
        and f"Pod/{part(e, 'involvedObject').get('name')}" == subject
        and (m := re.search(r"nodeclaim/(\S+)", str(e.get("message"))))
    }
    if said is None and len(named) < 3:
        return None
    return Cause(
        id="scheduling/node-never-joins",
        certainty="likely",
        subject=subject,
        weight=102,
        what="the autoscaler makes machines for it, and they do not become nodes of the cluster"
        + (f" ({', '.join(sorted(named)[:3])})" if named else ""),
        evidence=(shown(said), evidence) if said else (evidence,),
        do="kubectl describe nodeclaim, and the machine's own console: its image (AMI) and bootstrap data, the "
        "role that may "
        "join (access entry, aws-auth), the subnet's way to the API server, security groups; the log of karpenter",
    )


def in_a_gang(pod: Object, message: str, evidence: str) -> Cause:
    """Volcano starts all Pods of a group or none, within its queue."""
    quota = "quota" in message
    return Cause(
        id="scheduling/gated",
        certainty="certain" if quota else "likely",
        subject=f"Pod/{name_of(pod)}",
        weight=92,
        what="its Volcano queue has no quota left for it"
        if quota
        else "Volcano places the Pods of its group together or not at all, and not all of them can be placed",
        evidence=(evidence,),
        do="kubectl get queue -o yaml: capability and allocated (a resource that the queue does not list, or "
        "one that no node "
        "has, counts as none)"
        if quota
        else "kubectl describe podgroup: minMember and what one Pod lacks; kubectl get queue; GPUs for the "
        "whole group at once",
    )

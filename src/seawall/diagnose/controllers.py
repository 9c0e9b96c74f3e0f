"""What controllers and kubelets say in Warning events that no rule knows: in their own words, rather than nothing.

The kinds of a cluster's add-ons are without end (LLMInferenceService, LeaderWorkerSet, Workload, NodeClaim, ...), and
so are their messages; what they ask for is of few kinds. Pure. Forbidden here: to say more than the message does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.diagnose.cause import Cause
from seawall.diagnose.facts import Facts, condition, name_of, part, shown

_KNOWN_KINDS = (
    "ReplicaSet", "Deployment", "Node", "HorizontalPodAutoscaler", "ScaledObject", "PersistentVolumeClaim", "Service",
    "Endpoints", "EndpointSlice", "Ingress", "Event",
)  # fmt: skip
"""Kinds that have rules of their own: what these leave unsaid is no news."""
_NO_NEWS = re.compile(
    r"^(?:Scheduled|FailedScheduling|Pulling|Pulled|Created|Started|Nominated|Successful\w+|Killing|BackOff|Unhealthy"
    r"|Preempted|NotTriggerScaleUp|TriggeredScaleUp|Evicted|Completed|ScalingReplicaSet|DisruptionBlocked|Unconsolidatable"
    r"|Updated|Ready|Admitted|QuotaReserved|Finished\w*|FailedToUpdateEndpoint\w*|ProbeWarning)$"
)
"""Reasons that say nothing of a fault, or that a rule reads."""

_CURES = (
    (
        r"(?:GPU|compute) instance|MIG[^\n]{0,120}(?:Insufficient Resources|profile|failed)",
        "the GPU has no room for a slice of that profile: other slices take its memory or places (nvidia-smi mig "
        "-lgi), "
        "so free these, ask for a smaller profile, or keep one layout per node",
    ),
    (
        r"NodePrepareResources|prepare dynamic resources|preparing devices for claim",
        "the DRA driver's plugin on that node: its Pod's log, kubectl get resourceslices, kubectl describe "
        "resourceclaim; restart it where it lost its state",
    ),
    (
        r"(?P<kind>[A-Z]\w+)(?:\.[\w.-]+)? \\?\"(?P<name>[^\"\\]{1,120})\\?\" not found",
        "there is no {kind} {name}: make it, install what brings it along (presets and configurations come with the "
        "controller's own chart), or correct the name: kubectl get {kind} -A",
    ),
    (
        r"no matches for kind|could not find the requested resource|the server doesn't have a resource type"
        r"|no kind \S+ is registered",
        "the program and the API server do not speak the same version of that kind: kubectl api-resources, kubectl "
        "get crds; "
        "the release of the driver or controller that is made for this Kubernetes",
    ),
    (
        r"is forbidden|cannot (?:get|list|create|patch)|[Uu]nauthorized",
        "give the account that it names a Role and a RoleBinding for it",
    ),
    (
        r"topolog",
        "the nodes lack the label of that level, or too few of them share a value: kubectl get nodes --show-labels "
        "against "
        "the Topology (Kueue: kubectl get topologies,resourceflavors -o yaml); leave the topology annotation out, "
        "or ask "
        "for `preferred`",
    ),
    (
        r"quota|[Ii]nsufficient|exceeds|capacity|borrowing|unavailable",
        "more of what it counts, or ask for less: kubectl describe of that object shows what is used",
    ),
    (
        r"deadline exceeded|timed? ?out|connection refused|no endpoints|dial tcp|failed calling webhook",
        "what it calls does not answer: are the Pods behind that name ready, and may it reach them?",
    ),
    (r"[Ii]nvalid|must be|unsupported|unknown field", "correct the field that it names, and apply again"),
)


def cure_of_words(message: str) -> str:
    """What a controller's message asks for; empty when it does not say."""
    for pattern, do in _CURES:
        m = re.search(pattern, message)
        if m is not None:
            return do.format(**{k: v or "" for k, v in m.groupdict().items()})
    return ""


def untold(facts: Facts, told: set[str]) -> Iterator[Cause]:
    """Warnings about objects of which no cause has been named. `told`: `Kind/name` of those that have one."""
    ready = {name_of(p) for p in facts.pods if condition(p, "Ready").get("status") == "True"}
    seen = set(told)
    for event in facts.events:
        about = part(event, "involvedObject")
        kind, name = str(about.get("kind") or ""), str(about.get("name") or "")
        subject, message = f"{kind}/{name}", " ".join(str(event.get("message") or "").split())
        if not _says_a_fault(event, kind, message) or subject in seen or (kind == "Pod" and name in ready):
            continue
        if kind == "Pod" and name not in {name_of(p) for p in facts.pods}:
            continue
        seen.add(subject)
        yield Cause(
            id="controller/warns",
            certainty="possible",
            subject=subject,
            weight=20,
            what=f"{_who(kind)} says {event.get('reason') or 'a warning'}: {message[:220]}",
            evidence=(shown(event),),
            do=cure_of_words(message) or f"kubectl describe {kind.lower()} {name}; the log of what wrote it",
        )


def _says_a_fault(event: dict[str, object], kind: str, message: str) -> bool:
    if not message or kind in _KNOWN_KINDS or event.get("type") == "Normal":
        return False
    return not _NO_NEWS.match(str(event.get("reason") or ""))


def _who(kind: str) -> str:
    return "the kubelet" if kind == "Pod" else f"the controller of {kind or 'the object'}"

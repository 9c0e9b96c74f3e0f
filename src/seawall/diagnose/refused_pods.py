"""Pods that the kubelet refused at its own door, after the scheduler had placed them there. Pure rules.

Such a Pod has failed for good (`status.phase: Failed`) and its owner makes another: many of them in a row are the sign.
The reasons are the kubelet's (`pkg/kubelet/lifecycle`, `nodeshutdown`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.diagnose.cause import Cause, rule
from seawall.diagnose.facts import Facts, name_of, part

_REASONS = (
    (
        r"NodeAffinity|NodeSelectorMismatching",
        "node/refused",
        "the node had lost the label that the Pod chooses it by when the kubelet looked: mostly after a restart, "
        "before GPU "
        "feature discovery has put its labels again",
        "delete the failed Pods (kubectl delete pods --field-selector status.phase=Failed); choose by labels "
        "that a cloud or "
        "a node pool sets at registration, not by those that a DaemonSet writes",
    ),
    (
        r"OutOf.+",
        "node/refused",
        "the node had no room for it any more when it came: {message}",
        "delete the failed Pods; two schedulers, a static Pod or a device plugin that restarts give one place "
        "twice: does "
        "one scheduler alone place on GPU nodes?",
    ),
    (
        r"TopologyAffinityError",
        "node/refused",
        "the kubelet's Topology Manager finds no CPUs and devices of one NUMA node for it",
        "fewer GPUs or CPUs per Pod than one NUMA node has, or --topology-manager-policy best-effort "
        "(restricted) on the "
        "node; requests equal to limits and whole CPUs count",
    ),
    (
        r"Terminated|NodeShutdown|Shutdown",
        "node/going",
        "the node was shut down, and its kubelet ended the Pod: {message}",
        "a spot machine, an update or a scale-down of nodes: a replacement is made elsewhere; more than one "
        "replica, a "
        "PodDisruptionBudget, and shutdownGracePeriod on the node as long as a drain",
    ),
    (
        r"PodFeatureUnsupported|AppArmor|SysctlForbidden|UnexpectedPodAdmission\w*|.+Forbidden",
        "node/refused",
        "the kubelet of that node does not allow what the Pod asks for: {message}",
        "take it out of the Pod's spec, or allow it on the node (--allowed-unsafe-sysctls, AppArmor profiles, "
        "the node's "
        "version)",
    ),
)
"""The reason's pattern, the cause's id, what it means, what to do."""


@rule
def refused_pods(facts: Facts) -> Iterator[Cause]:
    """Pods that failed at the kubelet's admission, by its reason."""
    for pod in facts.pods:
        status = part(pod, "status")
        reason, message = str(status.get("reason") or ""), str(status.get("message") or "")
        if status.get("phase") != "Failed" or not reason:
            continue
        for pattern, name, what, do in _REASONS:
            if re.fullmatch(pattern, reason):
                yield Cause(
                    id=name,
                    certainty="certain",
                    subject=f"Pod/{name_of(pod)}",
                    weight=84,
                    what=what.format(message=message[:160] or reason),
                    evidence=(f"{reason}: {message}"[:240],),
                    do=do,
                )
                break

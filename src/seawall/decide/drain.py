"""Which replicas must stop taking work because their node is about to go. Pure.

Clouds announce the loss of a node by taints, conditions and labels; each row of SIGNALS is one of them, with
its source. A replica on such a node is drained now: what it decodes is finished or resumed elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TAINTS: dict[str, str] = {
    "karpenter.sh/disrupted": "Karpenter is removing the node",
    "karpenter.sh/disruption": "Karpenter is removing the node",
    "cloud.google.com/impending-node-termination": "GKE announced the end of the node",
    "ToBeDeletedByClusterAutoscaler": "the cluster autoscaler is removing the node",
    "aws-node-termination-handler/spot-itn": "EC2 announced a spot interruption",
    "aws-node-termination-handler/scheduled-maintenance": "EC2 announced maintenance",
    "aws-node-termination-handler/rebalance-recommendation": "EC2 recommends leaving the node",
    "node.kubernetes.io/out-of-service": "the node is out of service",
    "node.cloudprovider.kubernetes.io/shutdown": "the cloud has shut the node down",
    "kubernetes.azure.com/scheduled-event": "Azure announced an event for the node",
}
"""Taint key -> what it means. Sources: the providers' documentation; Karpenter v1, AWS NTH, cluster-autoscaler."""
ADVICE = ("aws-node-termination-handler/rebalance-recommendation",)
"""Signals that may be withdrawn: drained, not replaced."""
CONDITIONS: dict[str, str] = {
    "VMEventScheduled": "Azure scheduled an event for the node",
    "PreemptScheduled": "Azure announced the preemption of the node",
    "TerminateScheduled": "Azure announced the end of the node",
    "GracefulNodeShutdown": "the node is shutting down",
}


@dataclass(frozen=True)
class NodeSeen:
    """The facts about a node that matter here."""

    name: str
    taints: frozenset[str] = frozenset()
    conditions: frozenset[str] = frozenset()
    """Types of the conditions that are True."""
    unschedulable: bool = False


@dataclass(frozen=True)
class ReplicaSeen:
    """One engine Pod as the operator sees it."""

    namespace: str
    name: str
    fleet: str
    node: str
    draining: bool
    ready: bool = True


@dataclass(frozen=True)
class Drain:
    """Take no new work on this replica. `reason` is what status and logs say; `replace`: the node will go for
    certain, so ask for the replacement now instead of when the node is gone."""

    namespace: str
    name: str
    fleet: str
    reason: str
    replace: bool = True


@dataclass(frozen=True)
class Undrain:
    """The node stays after all: the replica may work again."""

    namespace: str
    name: str
    fleet: str
    reason: str


def leaving(node: NodeSeen) -> str:
    """Why the node is about to go; empty when it is not. A cordon alone (`unschedulable`) ends nothing."""
    for key, why in TAINTS.items():
        if key in node.taints:
            return why
    for key, why in CONDITIONS.items():
        if key in node.conditions:
            return why
    return ""


def decide(nodes: Mapping[str, NodeSeen], replicas: list[ReplicaSeen]) -> list[Drain | Undrain]:
    """Drains and their withdrawals. A node that is not seen is taken for staying: its replicas die or recover alone.

    A drain is taken back only when its node is seen without any signal (a rebalance recommendation that was
    withdrawn); never because the picture lacks the node.
    """
    out: list[Drain | Undrain] = []
    for r in replicas:
        node = nodes.get(r.node)
        if node is None:
            continue
        why = leaving(node)
        if why and not r.draining:
            certain = why not in (TAINTS[k] for k in ADVICE)
            out.append(Drain(r.namespace, r.name, r.fleet, f"{why} ({r.node})", replace=certain))
        elif not why and r.draining:
            out.append(Undrain(r.namespace, r.name, r.fleet, f"{r.node} stays after all"))
    return out


def deletion_costs(in_flight: Mapping[str, int], known: Mapping[str, int]) -> dict[str, int]:
    """Pod -> the new `controller.kubernetes.io/pod-deletion-cost`, only where it should change.

    The ReplicaSet removes the cheapest Pod first, so the cost follows the streams in flight, in powers of two:
    KEP-2255 warns of frequent updates, and within a factor of two the choice does not matter.
    """
    wanted = {pod: 0 if n <= 0 else 1 << (n.bit_length() - 1) for pod, n in in_flight.items()}
    return {pod: cost for pod, cost in wanted.items() if known.get(pod, 0) != cost}


@dataclass(frozen=True)
class SurgeFloor:
    """The fewest replicas that a fleet should have while one that must leave is not allowed to."""

    floor: int
    reason: str


def surge(
    stuck: Mapping[str, float], base: int, highest: int, notice_s: float, now: float
) -> SurgeFloor | None:
    """`stuck`: replicas on a leaving node whose eviction was refused, and since when they are to go. None: no need.

    An eviction that is granted needs no surge: the replica's successor is made while it finishes its streams. A
    disruption budget refuses when nobody may be missing; one replica more, and it grants. `base`: replicas when
    the first of them got stuck, so that the successor, once it is there, does not raise the floor again.
    """
    waiting = sorted(name for name, since in stuck.items() if now - since < notice_s)
    if not waiting or base >= highest:
        return None
    return SurgeFloor(base + 1, f"{waiting[0]} must leave and may not before another one serves")

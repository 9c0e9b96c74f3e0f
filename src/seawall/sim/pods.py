"""Pods and nodes of a simulated cluster: what starting, stopping and paying for a replica takes.

Why: an autoscaler's answer comes minutes after its decision, and those minutes are most of the story.
Forbidden here: requests, and deciding how many. Times are seconds of simulated time.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

from seawall.sim import setup as s
from seawall.sim.engine import Engine

CanarySide = Literal["stable", "canary"]
Phase = Literal["starting", "ready", "draining", "down", "gone"]


@dataclass(eq=False, slots=True)
class Node:
    spot: bool
    since_s: float
    until_s: float | None = None
    """When it was given back; None: still paid."""
    free_until_s: float = -1.0


@dataclass(eq=False, slots=True)
class Pod:
    name: str
    engine: Engine
    node: Node
    version: int
    group: CanarySide
    created_s: float
    ready_s: float
    phase: Phase = "starting"
    ready_since_s: float = 0.0
    up_s: float = 0.0
    """Seconds it was ready so far."""
    gone_s: float = 0.0
    epoch: int = 0
    """Grows when it restarts: an event for an older epoch is void."""
    errors: float = 0.0
    """Share of the requests given to it that it fails before a token."""


class Nodes:
    """Gives nodes to pods: a free one at once and with the image on it, else a new one after a while."""

    def __init__(self, setup: s.Setup, rng: Random) -> None:
        self.setup = setup
        self.rng = rng
        self.free: list[Node] = []
        self.all: list[Node] = []

    def acquire(self, spot: bool, now: float) -> tuple[Node, float]:
        """-> (node, seconds until a replica created now serves and is Ready)."""
        self._give_back(now)
        cold_s, warm_s = self.setup.start_s
        jitter = 0.95 + 0.1 * self.rng.random()
        for i, node in enumerate(self.free):
            if node.spot == spot:
                del self.free[i]
                if self.setup.keep_nodes:
                    node = self._new(spot, now)
                return node, s.SCHEDULE_S + warm_s * jitter + s.PROBE_S
        node = self._new(spot, now + (self.setup.provision_s if self.setup.provision_s else 0.0))
        return node, s.SCHEDULE_S + (self.setup.provision_s + cold_s) * jitter + s.PROBE_S

    def warm(self, spot: bool) -> Node:
        """A node that has been there from the start."""
        return self._new(spot, 0.0)

    def release(self, node: Node, now: float, lost: bool = False) -> None:
        """The pod has left. A cloud's node stays, paid, for a while; our own is free, and keeps the image."""
        if lost:
            node.until_s = now
            return
        if self.setup.keep_nodes:
            node.until_s = max(now, node.since_s)
            node.free_until_s = float("inf")
        else:
            node.free_until_s = now + s.NODE_IDLE_S
        self.free.append(node)

    def seconds(self, now: float) -> tuple[float, float]:
        """Node-seconds paid until `now`: (on demand, spot)."""
        self._give_back(now)
        paid = {False: 0.0, True: 0.0}
        for node in self.all:
            until = now if node.until_s is None else min(node.until_s, now)
            paid[node.spot] += max(0.0, until - node.since_s)
        return paid[False], paid[True]

    def _new(self, spot: bool, since_s: float) -> Node:
        node = Node(spot, since_s)
        self.all.append(node)
        return node

    def _give_back(self, now: float) -> None:
        if self.setup.keep_nodes:
            return
        kept = []
        for node in self.free:
            if node.free_until_s <= now:
                node.until_s = node.free_until_s
            else:
                kept.append(node)
        self.free = kept


def victims(pods: list[Pod], count: int) -> list[Pod]:
    """Whom a scale-down takes: those that are not ready first, then (pod-deletion-cost) the least loaded, then the
    newest. Kubernetes' order (controller_utils.go) with our controller's deletion cost."""

    def rank(pod: Pod) -> tuple[int, int, float]:
        running, waiting = pod.engine.load
        return (pod.phase == "ready", running + waiting, -pod.created_s)

    return sorted(pods, key=rank)[:count]

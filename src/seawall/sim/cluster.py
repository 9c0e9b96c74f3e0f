"""The cluster's side of a simulation: a Deployment's pods, rollouts, canaries, losses of nodes and processes.

Why: what scales, restarts, drains and dies here does it with Kubernetes' delays and in Kubernetes' order, as far
as a request can feel it. Forbidden here: requests' order and time, which are the engine's and the gateway's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Literal, Protocol

from seawall.decide.route.evidence import LEFT, Sight, bound_s
from seawall.decide.route.pace import pace_of
from seawall.decide.route.pick import side
from seawall.domain.spec import Canary
from seawall.domain.units import counted
from seawall.sim.engine import Engine, Seq, slower
from seawall.sim.pods import CanarySide, Node, Nodes, Pod, victims
from seawall.sim.setup import CANARY_LOOK_S, NODE_LOST_S, RESTART_S, Happening, Setup
from seawall.sim.trial import Trial

DRAIN_POLL_S = 1.0


class Around(Protocol):
    """What surrounds a cluster: time, chance, a log, and the requests that feel what happens here."""

    rng: Random
    log: list[tuple[float, str]]
    horizon: float

    def at(self, t: float, action: Callable[[float], None]) -> None: ...

    def discovered(self) -> None: ...

    def pump(self, now: float) -> None: ...

    def broken(self, seqs: list[Seq], now: float, seen_in_s: float, why: str) -> None: ...


class Cluster:
    """One Deployment (and, during a canary, a second one)."""

    def __init__(self, setup: Setup, world: Around) -> None:
        self.setup = setup
        self.world = world
        self.nodes = Nodes(setup, world.rng)
        self.pods: list[Pod] = []
        self.gone_ready_s = self.gone_busy_s = 0.0
        self.gone_preempted = 0
        self.wanted = 0
        self.version = 1
        self.named = 0
        self.rolling = False
        self.shape, self.errors = setup.shape, 0.0
        """What a pod of the fleet is, and the share of requests that it fails by itself."""
        self.candidate = self.shape, self.errors
        self.trial: Trial | None = None
        self.canary_percent = 0
        self.canary_wanted = 0

    # -- what others ask ------------------------------------------------------------------------------------

    @property
    def ready_count(self) -> int:
        return sum(p.phase == "ready" for p in self.pods)

    def load(self) -> tuple[int, int]:
        """Sums over the pods that serve: running, waiting."""
        running = waiting = 0
        for pod in self.pods:
            if pod.phase in ("ready", "draining"):
                r, w = pod.engine.load
                running += r
                waiting += w
        return running, waiting

    def kv_usage(self) -> float:
        return max((p.engine.kv_use for p in self.pods if p.phase == "ready"), default=0.0)

    def kv_used(self) -> float:
        """Replicas' worth of KV cache in use, as a scrape of every engine that serves would sum it."""
        return sum(p.engine.kv_use for p in self.pods if p.phase in ("ready", "draining"))

    def billed_nodes(self, now: float) -> int:
        return sum(n.since_s <= now and (n.until_s is None or n.until_s > now) for n in self.nodes.all)

    def totals(self, now: float) -> tuple[float, float, int]:
        """(ready seconds, busy seconds, preemptions) over all pods that ever were."""
        ready, busy, preempted = self.gone_ready_s, self.gone_busy_s, self.gone_preempted
        for pod in self.pods:
            ready += pod.up_s + (now - pod.ready_since_s if pod.phase in ("ready", "draining") else 0.0)
            busy += pod.engine.busy_s
            preempted += pod.engine.preempted
        return ready, busy, preempted

    def side(self, rid: int) -> Literal["stable", "canary"] | None:
        return side(self.canary_percent, str(rid)) if self.canary_percent else None

    # -- pods' lives ------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The first replicas are ready at time 0."""
        self.wanted = self.setup.initial
        for _ in range(self.wanted):
            spot = self._next_is_spot()
            pod = self._add(self.nodes.warm(spot), 0.0, 0.0, "stable")
            self._ready(pod, 0, 0.0, tell=False)
        self.world.discovered()

    def scale(self, wanted: int, now: float) -> None:
        self.wanted = wanted
        self._settle(now)

    def _standing(self, group: str = "stable") -> list[Pod]:
        return [p for p in self.pods if p.group == group and p.phase in ("starting", "ready", "down")]

    def _settle(self, now: float) -> None:
        """Deployment controller: as many standing pods as wanted, one more while a rollout replaces old ones."""
        for _ in range(self.canary_wanted - len(self._standing("canary"))):
            self._create(now, "canary")
        standing = self._standing()
        old = [p for p in standing if p.version != self.version]
        surge = self.setup.fleet.spec.rollout.max_surge if self.setup.fleet.spec.hardware.spare_gpus else 0
        limit = self.wanted + (min(surge, len(old)) if self.rolling else 0)
        for _ in range(limit - len(standing)):
            self._create(now, "stable")
        if len(standing) > limit:
            for pod in victims(old or standing, len(standing) - limit):
                self.stop(pod, now)
        elif self.rolling and old:
            self._roll(now)
        if self.rolling and not [p for p in self._standing() if p.version != self.version]:
            self.rolling = False
            self.world.log.append((now, f"rollout of version {self.version} is complete"))

    def _roll(self, now: float) -> None:
        """maxUnavailable 0: an old pod goes when a new one is ready; without spare GPUs it must go first."""
        standing = self._standing()
        old = [p for p in standing if p.version != self.version]
        ready = sum(p.phase == "ready" for p in standing)
        floor = self.wanted if self.setup.fleet.spec.hardware.spare_gpus else self.wanted - 1
        for pod in victims(old, max(0, ready - max(floor, 0))):
            self.stop(pod, now)

    def _next_is_spot(self) -> bool:
        spot = self.setup.fleet.spec.hardware.spot
        if spot is None:
            return False
        on_demand = sum(not p.node.spot for p in self.pods if p.phase != "draining")
        return on_demand >= spot.on_demand_floor

    def _add(self, node: Node, now: float, ready_s: float, group: CanarySide) -> Pod:
        self.named += 1
        shape, errors = self.candidate if group == "canary" else (self.shape, self.errors)
        pod = Pod(
            name=f"{self.setup.fleet.name}-{self.named}",
            engine=Engine(shape),
            errors=errors,
            node=node,
            version=self.version,
            group=group,
            created_s=now,
            ready_s=ready_s,
        )
        self.pods.append(pod)
        return pod

    def _create(self, now: float, group: CanarySide) -> None:
        node, delay = self.nodes.acquire(self._next_is_spot(), now)
        pod = self._add(node, now, now + delay, group)
        self.world.at(pod.ready_s, lambda t: self._ready(pod, 0, t))
        per_hour = self.setup.spot_per_hour
        if node.spot and per_hour > 0:
            lives_s = -math.log(1 - self.world.rng.random()) / -math.log(1 - min(per_hour, 0.999)) * 3600
            self.world.at(now + lives_s, lambda t: self._reclaim(pod, t))

    def _ready(self, pod: Pod, epoch: int, now: float, tell: bool = True) -> None:
        if pod.epoch != epoch or pod.phase not in ("starting", "down"):
            return
        pod.phase = "ready"
        pod.ready_since_s = now
        if tell:
            self.world.discovered()
            self._settle(now)
            self.world.pump(now)

    def stop(self, pod: Pod, now: float) -> None:
        """The pod is told to stop: out of routing at once; it drains, then goes."""
        if pod.phase in ("starting", "down"):
            self._remove(pod, now)
            return
        if pod.phase != "ready":
            return
        pod.phase = "draining"
        rollout = self.setup.fleet.spec.rollout
        self.world.discovered()
        if self.setup.recipe == "guide":  # --shutdown-timeout 0 and no preStop: SIGTERM breaks the streams
            self._break(pod, now, 0.0, "the pod was stopped with streams open")
            self._remove(pod, now)
            return
        pod.gone_s = now + rollout.pre_stop
        epoch = pod.epoch
        self.world.at(now + rollout.pre_stop, lambda t: self.drained(pod, t))
        self.world.at(now + rollout.pre_stop + rollout.drain, lambda t: self._drain_over(pod, epoch, t))

    def drained(self, pod: Pod, now: float) -> None:
        """Gone when nothing runs on it and its preStop is over."""
        running, waiting = pod.engine.load
        if pod.phase == "draining" and not running and not waiting and now >= pod.gone_s:
            self._remove(pod, now)

    def _drain_over(self, pod: Pod, epoch: int, now: float) -> None:
        if pod.phase == "draining" and pod.epoch == epoch:
            self._break(pod, now, 0.0, "the drain ran out")
            self._remove(pod, now)

    def _break(self, pod: Pod, now: float, seen_in_s: float, why: str) -> None:
        streams = pod.engine.halt(now)
        if streams:
            if self.trial is not None and self.canary_percent:
                for _ in streams:
                    self.trial.lost(pod.group)
            self.world.log.append((now, f"{pod.name}: {counted(len(streams), 'request')} broken: {why}"))
            self.world.broken(streams, now, seen_in_s, why)

    def _remove(self, pod: Pod, now: float, lost: bool = False) -> None:
        if pod.phase == "gone":
            return
        self._down(pod, now, "gone")
        self.pods.remove(pod)
        self.gone_ready_s += pod.up_s
        self.gone_busy_s += pod.engine.busy_s
        self.gone_preempted += pod.engine.preempted
        self.nodes.release(pod.node, now, lost)
        self.world.discovered()
        if self.world.horizon + 1 > now:
            self._settle(now)

    def _down(self, pod: Pod, now: float, phase: Literal["down", "gone"]) -> None:
        if pod.phase in ("ready", "draining"):
            pod.up_s += now - pod.ready_since_s
        pod.phase = phase
        pod.epoch += 1

    # -- what happens to it -------------------------------------------------------------------------------------

    def happen(self, happening: Happening, now: float) -> None:
        self.world.log.append((now, f"{happening.kind} x{happening.count}"))
        match happening.kind:
            case "rollout":
                self._rollout(now)
            case "canary":
                self._canary(now, happening)
            case kind:
                ready = [p for p in self.pods if p.phase == "ready"]
                pool = [p for p in ready if p.node.spot] or ready if kind == "spot" else ready
                for pod in self.world.rng.sample(pool, min(happening.count, len(pool))):
                    if kind == "kill":
                        self._kill(pod, now)
                    elif kind == "node":
                        self._lose_node(pod, now)
                    else:
                        self._reclaim(pod, now)

    def _kill(self, pod: Pod, now: float) -> None:
        """The engine's process dies; the kubelet restarts it, and it loads its weights again."""
        self._break(pod, now, 0.0, "the engine died")
        self._down(pod, now, "down")
        self.world.discovered()
        load_s = self.setup.plan.startup.load_s or self.setup.start_s[1]
        epoch = pod.epoch
        self.world.at(now + RESTART_S + load_s, lambda t: self._ready(pod, epoch, t))

    def _lose_node(self, pod: Pod, now: float) -> None:
        """No word from the node: streams stall until there is evidence of death, or for as long as the spec allows;
        Kubernetes replaces the pod later."""
        stall_s = self.setup.fleet.spec.gateway.stall_timeout
        if stall_s is None:
            stall_s = 1.5 * bound_s(pace_of(self.setup.plan), LEFT, Sight())
        self._break(pod, now, stall_s, "the node died")
        self._down(pod, now, "down")
        self.world.discovered()
        self.world.at(now + NODE_LOST_S, lambda t: self._remove(pod, t, lost=True))

    def _reclaim(self, pod: Pod, now: float) -> None:
        """Spot: a notice, a drain as long as the notice, then the node is gone; a new pod starts meanwhile."""
        if pod.phase == "starting":
            self._remove(pod, now, lost=True)
        if pod.phase != "ready":
            return
        self.world.log.append(
            (now, f"{pod.name}: its spot node is reclaimed in {self.setup.spot_notice_s:g} s")
        )
        pod.phase = "draining"
        pod.gone_s = math.inf
        self.world.discovered()
        self._settle(now)
        self.world.at(now + self.setup.spot_notice_s, lambda t: self._node_gone(pod, t))

    def _node_gone(self, pod: Pod, now: float) -> None:
        if pod.phase == "draining":
            self._break(pod, now, 0.0, "the spot node was reclaimed")
            self._remove(pod, now, lost=True)

    def _canary(self, now: float, happening: Happening) -> None:
        """A second Deployment of the candidate; the operator's analysis gives it a growing share, or takes it back.
        The guide's recipe knows no such thing: there it is a rolling update."""
        setup = self.setup
        if setup.recipe == "guide":
            self._rollout(now)
            return
        if self.trial is not None and not self.trial.over:
            self.world.log.append((now, "a canary is under way already"))
            return
        canary = setup.fleet.spec.rollout.canary or Canary()
        self.candidate = slower(self.shape, happening.slower), happening.errors
        self.trial = Trial(canary, setup.fleet.spec.traffic.slo, now)
        self.canary_percent = self.trial.weight
        self.canary_wanted = canary.candidate.replicas if canary.candidate is not None else 1
        self._settle(now)
        self.world.at(now + CANARY_LOOK_S, self._look)

    def _look(self, now: float) -> None:
        """The operator's tick."""
        trial = self.trial
        assert trial is not None
        if trial.state.phase == "promoting":
            settled = not self.rolling
        else:
            settled = not self.canary_wanted and not any(p.group == "canary" for p in self.pods)
        decision, moved = trial.look(settled, now)
        self.canary_percent = decision.weight
        if moved:
            self.world.log.append((now, f"canary {trial.state.phase}, {decision.weight}%: {decision.reason}"))
            if trial.state.phase == "promoting":
                self.shape, self.errors = self.candidate
                self._rollout(now)
            elif trial.state.phase in ("rolling-back", "promoted"):
                self.canary_wanted = 0
                for pod in [p for p in self.pods if p.group == "canary"]:
                    self.stop(pod, now)
        if not trial.over:
            self.world.at(now + decision.next_look_s, self._look)

    def _rollout(self, now: float) -> None:
        self.version += 1
        self.rolling = True
        self._settle(now)

"""The pools of a cluster: the same decisions as `seawall up` makes, acted on by patching Deployments and by sleep.

A fleet with `spec.pool` has no KEDA and no HPA: its Deployment's `replicas` belong to this file alone. Demand comes
from the gateways; what occupies the pool is the Pods that are there, terminating ones included. What is
remembered lies in the Fleet's status, so that a restart or another leader goes on from there.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seawall.decide import pool, scale
from seawall.domain.action import Plan
from seawall.domain.labels import ASLEEP, DRAINING, DRAINING_REASON
from seawall.domain.spec import Fleet
from seawall.drivers.kube import DEPLOYMENT, POD, Kube, Object, ObjectKind, Refused
from seawall.engines.vllm.client import EngineClient
from seawall.errors import EngineError, SeawallError
from seawall.operator import gateways
from seawall.operator.engines import EnginePod

log = logging.getLogger("seawall.operator")
LOOK_S = 5.0
KEEP_S = 60.0
"""What is remembered is written at least so often while it changes; a decision is written at once."""

FleetKey = tuple[str, str]


@dataclass(frozen=True)
class Member:
    """A Fleet of a pool as it should be."""

    key: FleetKey
    fleet: Fleet
    plan: Plan
    memory: Memory


@dataclass
class Memory:
    """What is known of one fleet between looks."""

    wanted: int = 0
    replicas: int | None = None
    """What its Deployment is to have; None: not decided yet."""
    patched: int | None = None
    """What this process has told the Deployment; None: nothing yet."""
    awake: int = 0
    scale: scale.ScaleState = field(default_factory=lambda: scale.ScaleState())
    pool: pool.FleetMemory = field(default_factory=lambda: pool.FleetMemory())
    shown: tuple[object, ...] = ()
    written_s: float = 0.0


class Pools:
    """Every pool of the namespaces that are watched."""

    def __init__(
        self,
        kube: Kube,
        reach: EngineClient,
        poller: gateways.GatewayPoller,
        kind: ObjectKind,
        now: Callable[[], float],
    ) -> None:
        self._kube, self._reach, self._gateways, self._kind, self._now = kube, reach, poller, kind, now

    async def tick(
        self,
        members: Sequence[Member],
        engines: Mapping[FleetKey, Sequence[EnginePod]],
        age_s: float = LOOK_S / 2,
    ) -> None:
        """One look at every pool, at the engines of each fleet and at demand of at most `age_s` seconds ago. A
        namespace whose gateways cannot be asked stays as it is."""
        for (namespace, name), fleets in _by_pool(members).items():
            try:
                await self._look(namespace, fleets, engines, age_s)
            except SeawallError as e:
                log.warning("pool %s/%s: %s", namespace, name, e)

    async def _look(
        self,
        namespace: str,
        members: list[Member],
        engines: Mapping[FleetKey, Sequence[EnginePod]],
        age_s: float,
    ) -> None:
        # Half a look's age: the pools of one namespace share one round of questions.
        told, now = await self._gateways.heard(namespace, age_s), self._now()
        pods = {m.key: list(engines.get(m.key, ())) for m in members}
        seen = [self._seen(m, pods[m.key], told, now) for m in members]
        state = {m.fleet.name: m.memory.pool for m in members}
        decision, after = pool.decide(pool.policy_of([m.fleet for m in members]), seen, state, now)
        for m, turn in zip(members, decision.turns, strict=True):
            memory = m.memory
            memory.pool = after[m.fleet.name]
            memory.awake = turn.awake
            memory.replicas = _count(turn.awake + turn.asleep, pods[m.key])
            # What is decided is written before it is done: a leader that is lost in between has a successor that
            # does the same, and an apply meanwhile writes the new count and not the old one.
            await self._tell(m, turn, now)
            await self._act(m, turn, pods[m.key], told, now)

    def _seen(self, m: Member, pods: list[EnginePod], told: gateways.Heard, now: float) -> pool.FleetSeen:
        memory = m.memory
        mine = told.state.fleets.get(m.fleet.name)
        queued = mine.queued if mine else 0
        flying = max(0, mine.pending - queued) if mine else 0  # lines on what others leave are not demand
        awake = [e for e in pods if not e.asleep]
        ready = [e for e in awake if e.replica.ready and not e.terminating and e.slept_s is None]
        demand = scale.DemandSeen(
            replicas=memory.wanted,
            ready=len(ready),
            running=float(flying),
            queued=float(queued),
            fresh=not told.silent and mine is not None,
        )
        if demand.fresh or memory.scale:
            policy = scale.policy_of(m.fleet, m.plan)
            decided, memory.scale = scale.decide(policy, demand, memory.scale, now)
            memory.wanted = decided.replicas
        spec = m.fleet.spec.pool
        assert spec is not None
        return pool.FleetSeen(
            name=m.fleet.name,
            priority=spec.priority,
            cost=pool.cost_of(m.fleet, m.plan),
            wanted=max(memory.wanted, m.fleet.spec.scaling.min),
            lowest=m.fleet.spec.scaling.min,
            # A Pod that the Deployment was told to make occupies its place before it is seen.
            holds=max(len(awake), memory.awake),
            ready=bool(ready),
            demand=float(queued + flying),
            asleep=len(pods) - len(awake),
            can_sleep=spec.sleep,
            startup_s=m.plan.startup.total_s,
        )

    async def _act(
        self, m: Member, turn: pool.Turn, pods: list[EnginePod], told: gateways.Heard, now: float
    ) -> None:
        staying = [e for e in pods if not e.terminating]
        asleep = [e for e in staying if e.asleep]
        if turn.move == "wake":
            for e in asleep[: turn.awake - (len(staying) - len(asleep))]:
                await self._wake(e)
        dozing = [e for e in staying if e.slept_s is not None and not e.asleep]
        awake = [e for e in staying if e.slept_s is None and e.replica.ready]
        room = turn.asleep - len(asleep) - len(dozing)
        leaving = len(awake) + len(dozing) - turn.awake - len(dozing)
        emptiest = sorted(awake, key=lambda e: (_in_flight(told, e), e.replica.name))
        for e in emptiest[: max(0, min(room, leaving))]:
            await self._note(e, {DRAINING: "true", DRAINING_REASON: turn.reason, ASLEEP: f"{-now:.0f}"})
        for e in dozing:
            await self._doze(m, e, _in_flight(told, e), now)
        await self._scale(m)

    async def _scale(self, m: Member) -> None:
        memory = m.memory
        if memory.replicas == memory.patched:
            return
        try:
            await self._kube.patch(DEPLOYMENT, *m.key, {"spec": {"replicas": memory.replicas}})
        except Refused as e:
            if e.code != 404:
                raise
            return  # it is not made yet; it will be made with this count
        memory.patched = memory.replicas

    async def _doze(self, m: Member, e: EnginePod, in_flight: int, now: float) -> None:
        """To sleep when nothing is in flight, or when the drain's time is over."""
        rollout = m.fleet.spec.rollout
        waited = now - (e.slept_s or now)
        if in_flight and waited < rollout.pre_stop + rollout.drain:
            return
        try:
            await self._reach.sleep(e.url, min(10.0, rollout.drain))
        except EngineError as x:
            log.warning("%s/%s: %s; it is evicted instead", e.replica.namespace, e.replica.name, x.message)
            await self._kube.evict(e.replica.namespace, e.replica.name)
            return
        await self._note(e, {ASLEEP: f"{now:.0f}"})

    async def _wake(self, e: EnginePod) -> None:
        try:
            await self._reach.wake(e.url)
        except EngineError as x:
            log.warning("%s/%s: %s; it is evicted instead", e.replica.namespace, e.replica.name, x.message)
            await self._kube.evict(e.replica.namespace, e.replica.name)
            return
        await self._note(e, {ASLEEP: None, DRAINING: None, DRAINING_REASON: None})

    async def _note(self, e: EnginePod, notes: Mapping[str, str | None]) -> None:
        body = {"metadata": {"annotations": dict(notes)}}
        await self._kube.patch(POD, e.replica.namespace, e.replica.name, body)

    async def _tell(self, m: Member, turn: pool.Turn, now: float) -> None:
        memory = m.memory
        why = turn.reason if turn.move == "wait" else ""
        shown = (turn.move, why, turn.awake, turn.asleep, memory.wanted, memory.replicas)
        if shown == memory.shown and now - memory.written_s < KEEP_S:
            return
        if shown != memory.shown:
            log.info("%s/%s: pool: %s: %s", *m.key, turn.move, turn.reason)
        memory.shown, memory.written_s = shown, now
        told: Object = {
            "move": turn.move,
            "reason": turn.reason,
            "awake": turn.awake,
            "asleep": turn.asleep,
            "wanted": memory.wanted,
            "replicas": memory.replicas or 0,
            "memory": json.dumps({"scale": memory.scale, "pool": memory.pool}),
        }
        await self._kube.patch(self._kind, *m.key, {"status": {"pool": told}}, sub="status")


def _in_flight(told: gateways.Heard, e: EnginePod) -> int:
    """Requests at it; 0 where no gateway knows it."""
    known = told.state.replicas.get(e.replica.name)
    return known.in_flight if known else 0


def remembered(status: Mapping[str, Any]) -> Memory:
    """What a Fleet's status says of its pool, after a restart or another's lead."""
    told = status.get("pool") or {}
    try:
        kept: Any = json.loads(told.get("memory") or "{}")
        return Memory(
            wanted=int(told.get("wanted") or 0),
            replicas=int(told["replicas"]) if "replicas" in told else None,
            awake=int(told.get("awake") or 0),
            scale=kept.get("scale", scale.ScaleState()),
            pool=kept.get("pool", pool.FleetMemory()),
        )
    except (ValueError, TypeError, AttributeError):
        return Memory()


def _count(total: int, pods: Sequence[EnginePod]) -> int:
    """The Deployment's replicas: a place that a terminating Pod still holds is not given to a new one."""
    staying = sum(not e.terminating for e in pods)
    return max(min(total, staying), total - (len(pods) - staying))


def _by_pool(members: Sequence[Member]) -> dict[tuple[str, str], list[Member]]:
    out: dict[tuple[str, str], list[Member]] = {}
    for m in sorted(members, key=lambda m: m.key):
        if m.fleet.spec.pool is not None:
            out.setdefault((m.key[0], m.fleet.spec.pool.name), []).append(m)
    return out

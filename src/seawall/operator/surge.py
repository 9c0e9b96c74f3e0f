"""One replica more while a disruption budget keeps a replica on a node that is about to go.

Whoever owns the count is asked through its floor: KEDA by `minReplicaCount`, an HPA by `minReplicas`, nobody by the
Deployment's `replicas`; the scaler goes on scaling above it, so nothing fights. Nothing needs to be remembered: the
rendered floor is what the next apply writes, and a new leader applies first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from seawall.decide.drain import ADVICE, TAINTS, NodeSeen, leaving, surge
from seawall.domain.labels import COMPONENT
from seawall.domain.spec import Fleet
from seawall.drivers.kube import Kube, Object, key_of
from seawall.errors import SeawallError
from seawall.operator.engines import EnginePod

log = logging.getLogger("seawall.operator")
NOTICE_S = 120.0
"""So long a floor stays up where the spec names no notice: the longest that a cloud gives for spot nodes."""
FLOORS = {
    "ScaledObject": ("minReplicaCount", "maxReplicaCount"),
    "HorizontalPodAutoscaler": ("minReplicas", "maxReplicas"),
    "Deployment": ("replicas", None),
}
"""Kind -> (field of the floor, field of the most): the first that a fleet has owns its count."""
FleetKey = tuple[str, str]
_ADVICE = {TAINTS[key] for key in ADVICE}


@dataclass
class SurgeMemory:
    """What is remembered of one fleet."""

    stuck: dict[str, float] = field(default_factory=dict)
    """Pod -> since when it is kept on a node that goes."""
    base: int | None = None
    """Replicas when the first one got stuck."""
    raised: int | None = None
    """The floor that was set."""


@dataclass(frozen=True)
class Watched:
    """One fleet: its spec, what was rendered of it, and what is remembered."""

    key: FleetKey
    fleet: Fleet
    objects: tuple[Object, ...]
    surge: SurgeMemory


class Surges:
    """Raises and lowers the floors."""

    def __init__(self, kube: Kube, now: Callable[[], float]) -> None:
        self._kube, self._now = kube, now

    async def tick(
        self,
        fleets: Sequence[Watched],
        engines: Mapping[FleetKey, Sequence[EnginePod]],
        nodes: Mapping[str, NodeSeen],
    ) -> None:
        """`engines`: those of each fleet. Tries refused evictions again, raises and lowers."""
        for w in fleets:
            mine = [e for e in engines.get(w.key, ()) if not e.terminating]
            stuck = [e for e in mine if e.replica.draining and _certain(nodes.get(e.replica.node))]
            try:
                await self._fleet(w, stuck, len(mine))
            except SeawallError as e:
                log.warning("%s/%s: surge: %s", *w.key, e)

    async def _fleet(self, w: Watched, stuck: list[EnginePod], count: int) -> None:
        s = w.surge
        if not stuck and s.raised is None:
            s.stuck, s.base = {}, None
            return
        s.stuck = {e.replica.name: s.stuck.get(e.replica.name, self._now()) for e in stuck}
        s.base = count if s.base is None else s.base
        owner = owner_of(w.objects) if w.fleet.spec.pool is None else None
        if owner is not None:
            await self._set(w, owner, s.base)
        for e in stuck:
            await self._kube.evict(e.replica.namespace, e.replica.name)

    async def _set(self, w: Watched, owner: Object, base: int) -> None:
        key, fleet, s = w.key, w.fleet, w.surge
        floor, most = FLOORS[owner["kind"]]
        own = int(owner["spec"].get(floor) or 0)
        highest = int(owner["spec"][most]) if most else fleet.spec.scaling.max + fleet.spec.rollout.max_surge
        spot = fleet.spec.hardware.spot
        notice = spot.notice if spot and spot.notice else NOTICE_S
        up = surge(s.stuck, max(base, own), highest, notice, self._now())
        wanted = up.floor if up else own
        if wanted == (own if s.raised is None else s.raised):
            return
        kind, (namespace, name) = await self._kube.kind_of(owner), key_of(owner)
        await self._kube.patch(kind, namespace or key[0], name, {"spec": {floor: wanted}})
        if up:
            s.raised = wanted
            log.info("%s/%s: at least %d: %s", *key, wanted, up.reason)
        else:
            s.raised = None
            log.info("%s/%s: at least %d again", *key, own)


def owner_of(objects: tuple[Object, ...]) -> Object | None:
    """What holds the fleet's count, of its rendered objects: its scaler, else its engines' Deployment."""
    engines = [o for o in objects if o["kind"] in FLOORS and _of_engine(o)]
    for kind in FLOORS:
        found = [o for o in engines if o["kind"] == kind]
        if found:
            return found[-1]
    return None


def _of_engine(obj: Object) -> bool:
    labels = obj["metadata"].get("labels") or {}
    return labels.get(COMPONENT) in ("engine", "scaling")


def _certain(node: NodeSeen | None) -> bool:
    why = leaving(node) if node is not None else ""
    return bool(why) and why not in _ADVICE

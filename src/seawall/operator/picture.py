"""What the operator sees of the cluster: Fleets, engine Pods and Nodes, kept by three watches that heal themselves.

What a Node's end demands is done here at once, before any Fleet is reconciled: a spot node leaves in half a minute.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from seawall.decide.drain import Drain, NodeSeen, decide
from seawall.domain.labels import DRAINING, DRAINING_REASON, ENGINES
from seawall.drivers.kube import NODE, POD, Changed, Kube, Object, Select, Synced, key_of
from seawall.errors import SeawallError
from seawall.operator.engines import EnginePod, by_fleet, engine_seen
from seawall.operator.fleet_object import FLEET
from seawall.operator.record import FleetKey, Records

log = logging.getLogger("seawall.operator")
NODES_AGAIN_S = 600.0
"""Until it is asked again whether nodes may be watched."""


class Picture:
    """`namespace` None: of the whole cluster. `wake` is set when a Fleet has become dirty."""

    def __init__(self, kube: Kube, namespace: str | None, resync_s: float) -> None:
        self._kube, self._namespace, self._resync_s = kube, namespace, resync_s
        self.records = Records()
        self.engines: dict[FleetKey, EnginePod] = {}
        self.nodes: dict[str, NodeSeen] = {}
        self.wake = asyncio.Event()

    def mark(self, *keys: FleetKey) -> None:
        """These Fleets are to be reconciled."""
        self.records.mark(keys)
        self.wake.set()

    def by_fleet(self) -> dict[FleetKey, list[EnginePod]]:
        return by_fleet(self.engines.values())

    async def watch_fleets(self) -> None:
        async for news in self._kube.watch(Select(FLEET, self._namespace), lambda o: o, self._resync_s * 4):
            match news:
                case Synced(items):
                    for record in self.records:
                        if record.key not in items and record.obj is not None:
                            record.obj = None
                            self.mark(record.key)
                    for key, obj in items.items():
                        self.records.of(key).obj = obj
                    self.mark(*items)
                case Changed(key, None):
                    self.records.of(key).obj = None
                    self.mark(key)
                case Changed(key, obj):
                    assert obj is not None
                    record = self.records.of(key)
                    before, record.obj = record.obj, obj
                    if before is None or _generation(before) != _generation(obj):
                        record.not_before = 0.0
                        self.mark(key)

    async def watch_replicas(self) -> None:
        select = Select(POD, self._namespace, labels=ENGINES)
        async for news in self._kube.watch(select, engine_seen, self._resync_s):
            match news:
                case Synced(items):
                    self.engines = dict(items)
                    self._mark_known({e.fleet for e in items.values()})
                    await self.drain(items.values())
                case Changed(key, None):
                    gone = self.engines.pop(key, None)
                    if gone:
                        self._mark_known({gone.fleet})
                case Changed(key, item):
                    assert item is not None
                    self.engines[key] = item
                    self._mark_known({item.fleet})
                    await self.drain([item])

    def _mark_known(self, keys: Iterable[FleetKey]) -> None:
        """Engines that no Fleet object made (`seawall apply` did) are drained, and that is all."""
        self.mark(*(k for k in keys if self.records.get(k) is not None))

    async def watch_nodes(self) -> None:
        """Nodes lie in no namespace: an operator of one may lack the right. Then replicas leave when they are evicted,
        and it is asked again from time to time."""
        told = False
        while not await self._may_see_nodes():
            if not told:
                log.warning(
                    "nodes may not be listed: replicas leave when they are evicted, not before. Apply the output of "
                    "`seawall operator manifests --nodes` to watch nodes."
                )
                told = True
            await self._kube.clock.sleep(NODES_AGAIN_S)
        async for news in self._kube.watch(Select(NODE), node_seen, self._resync_s * 4):
            match news:
                case Synced(items):
                    self.nodes = {name: n for (_, name), n in items.items()}
                    await self.drain(self.engines.values())
                case Changed((_, name), None):
                    self.nodes.pop(name, None)
                case Changed((_, name), node):
                    assert node is not None
                    if self.nodes.get(name) != node:  # most news of a node are its heartbeats
                        self.nodes[name] = node
                        await self.drain(e for e in self.engines.values() if e.replica.node == name)

    async def _may_see_nodes(self) -> bool:
        try:
            return await self._kube.may("list", NODE, None) and await self._kube.may("watch", NODE, None)
        except SeawallError:
            return True  # the watch waits for the server itself

    async def drain(self, engines: Iterable[EnginePod]) -> None:
        """Tells the gateway, through an annotation that its discovery watches, which replicas are about to go."""
        for action in decide(self.nodes, [e.replica for e in engines]):
            drain, where = isinstance(action, Drain), (action.namespace, action.name)
            notes = {DRAINING: "true" if drain else None, DRAINING_REASON: action.reason if drain else None}
            try:
                await self._kube.patch(POD, *where, {"metadata": {"annotations": notes}})
                if isinstance(action, Drain) and action.replace:
                    # Evicted now, its ReplicaSet makes the replacement while this one still finishes its streams.
                    await self._kube.evict(*where)
                log.info("%s %s/%s: %s", "drain" if drain else "undrain", *where, action.reason)
            except SeawallError as e:
                log.warning("%s/%s: cannot be marked: %s", *where, e)


def _generation(obj: Object) -> object:
    return obj["metadata"].get("generation")


def node_seen(node: Object) -> NodeSeen:
    """What is kept of a Node."""
    spec, status = node.get("spec") or {}, node.get("status") or {}
    return NodeSeen(
        name=key_of(node)[1],
        taints=frozenset(str(t.get("key")) for t in spec.get("taints") or []),
        conditions=frozenset(
            str(c.get("type")) for c in status.get("conditions") or [] if c.get("status") == "True"
        ),
        unschedulable=bool(spec.get("unschedulable")),
    )

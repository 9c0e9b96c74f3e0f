"""The operator: watches Fleets, Pods and Nodes; plans, renders and applies; drains what is about to be lost.

Restart-safe: what it knows it reads again, what it decided lies in statuses and annotations. A watch that lost
an event is healed by its next relist; a Fleet whose reconciliation failed is tried again with back-off.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime

from seawall.decide.drain import Drain, NodeSeen, ReplicaSeen, decide, deletion_costs
from seawall.decide.rollout import ENDED
from seawall.drivers.kube import CONFIG_MAP, NODE, POD, Changed, Kube, Object, Select, Synced, key_of
from seawall.errors import SeawallError
from seawall.operator import canary
from seawall.operator.reconcile import FLEET, Desired, desire, status_of
from seawall.operator.status import look

log = logging.getLogger("seawall.operator")
DRAINING = "seawall.dev/draining"
REASON = "seawall.dev/draining-reason"
COST = "controller.kubernetes.io/pod-deletion-cost"
ENGINES = "seawall.dev/role=engine"
RESYNC_S = 30.0
REAPPLY_S = 600.0
"""Objects that did not change are applied again so often: it heals what somebody edited by hand."""
BACK_OFF_S = (1.0, 120.0)

Key = tuple[str, str]


class Operator:
    """One running operator. `namespace` None: the whole cluster."""

    def __init__(
        self, kube: Kube, namespace: str | None, clock: Callable[[], float], resync_s: float = RESYNC_S
    ) -> None:
        self._kube, self._namespace, self._clock, self._resync_s = kube, namespace, clock, resync_s
        self._fleets: dict[Key, Object] = {}
        self._replicas: dict[Key, tuple[ReplicaSeen, int]] = {}
        self._nodes: dict[str, NodeSeen] = {}
        self._applied_at: dict[Key, tuple[str, float]] = {}
        self._failures: dict[Key, int] = {}
        self._not_before: dict[Key, float] = {}
        self._wake = asyncio.Event()
        self._dirty: set[Key] = set()
        self._rng = random.Random()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_fleets())
            tasks.create_task(self._watch_replicas())
            tasks.create_task(self._watch_nodes())
            tasks.create_task(self._work())
            tasks.create_task(self._rollouts())

    async def _watch_fleets(self) -> None:
        async for news in self._kube.watch(Select(FLEET, self._namespace), lambda o: o, self._resync_s * 4):
            match news:
                case Synced(items):
                    self._fleets = dict(items)
                    self._mark(*items)
                case Changed(key, None):
                    self._fleets.pop(key, None)
                    self._applied_at.pop(key, None)
                case Changed(key, obj):
                    assert obj is not None
                    before = self._fleets.get(key)
                    self._fleets[key] = obj
                    if before is None or before["metadata"].get("generation") != obj["metadata"].get(
                        "generation"
                    ):
                        self._not_before.pop(key, None)
                        self._mark(key)

    async def _watch_replicas(self) -> None:
        async for news in self._kube.watch(
            Select(POD, self._namespace, labels=ENGINES), replica_seen, self._resync_s
        ):
            match news:
                case Synced(items):
                    self._replicas = dict(items)
                    self._mark(*{(r.namespace, r.fleet) for r, _ in items.values()})
                case Changed(key, None):
                    gone = self._replicas.pop(key, None)
                    if gone:
                        self._mark((gone[0].namespace, gone[0].fleet))
                case Changed(key, item):
                    assert item is not None
                    self._replicas[key] = item
                    self._mark((item[0].namespace, item[0].fleet))
            await self._drains()

    async def _watch_nodes(self) -> None:
        async for news in self._kube.watch(Select(NODE), node_seen, self._resync_s * 4):
            match news:
                case Synced(items):
                    self._nodes = {name: n for (_, name), n in items.items()}
                case Changed((_, name), None):
                    self._nodes.pop(name, None)
                case Changed((_, name), node):
                    assert node is not None
                    self._nodes[name] = node
            await self._drains()

    async def _drains(self) -> None:
        """Tells the gateway, through an annotation that its discovery watches, which replicas are about to go."""
        for action in decide(self._nodes, [r for r, _ in self._replicas.values()]):
            drain = isinstance(action, Drain)
            notes = {DRAINING: "true" if drain else None, REASON: action.reason if drain else None}
            try:
                await self._kube.patch(
                    POD, action.namespace, action.name, {"metadata": {"annotations": notes}}
                )
                if isinstance(action, Drain) and action.replace:
                    # Evicted now, its ReplicaSet makes the replacement while this one still finishes its streams.
                    await self._kube.evict(action.namespace, action.name)
                log.info(
                    "%s %s/%s: %s",
                    "drain" if drain else "undrain",
                    action.namespace,
                    action.name,
                    action.reason,
                )
            except SeawallError as e:
                log.warning("%s/%s: cannot be marked: %s", action.namespace, action.name, e)

    async def _rollouts(self) -> None:
        """Drives every canary rollout that was begun, whoever began it."""
        while True:
            await asyncio.sleep(10.0)
            try:
                found = await self._kube.list(
                    Select(CONFIG_MAP, self._namespace, labels=canary.LABEL), _rollout_of
                )
                for (namespace, _), (name, ended) in found.items():
                    if not ended:
                        told = await canary.tick(self._kube, namespace, name, time.time())
                        if told and told.moved:
                            log.info(
                                "rollout %s/%s: %s: %s", namespace, name, told.phase, told.decision.reason
                            )
            except SeawallError as e:
                log.warning("rollouts: %s", e)

    def _mark(self, *keys: Key) -> None:
        self._dirty |= set(keys)
        self._wake.set()

    async def _work(self) -> None:
        last = self._clock()
        while True:
            try:
                async with asyncio.timeout(1.0):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            if self._clock() - last > self._resync_s:
                last = self._clock()
                self._dirty |= set(self._fleets)
            now = self._clock()
            due = {k for k in self._dirty if self._not_before.get(k, 0.0) <= now}
            self._dirty -= due
            for key in sorted(due):
                await self._try(key)

    async def _try(self, key: Key) -> None:
        try:
            await self.reconcile(key)
            self._failures.pop(key, None)
        except SeawallError as e:
            n = self._failures[key] = self._failures.get(key, 0) + 1
            wait = min(BACK_OFF_S[1], BACK_OFF_S[0] * 2.0 ** min(n, 10)) * self._rng.uniform(0.5, 1.0)
            self._not_before[key] = self._clock() + wait
            self._dirty.add(key)
            log.warning("%s/%s: %s (again in %.0f s)", *key, e, wait)

    async def reconcile(self, key: Key) -> None:
        """Applies what changed, writes the status if it differs. Raises to be tried again."""
        fleet = self._fleets.get(key)
        if fleet is None or fleet["metadata"].get("deletionTimestamp"):
            return
        desired = await asyncio.to_thread(desire, fleet)
        error = ""
        digest, at = self._applied_at.get(key, ("", 0.0))
        if not desired.problem and (digest != desired.digest or self._clock() - at > REAPPLY_S):
            error = await self._apply(desired)
            if not error:
                self._applied_at[key] = (desired.digest, self._clock())
        view = next(iter(await look(self._kube, *key)), None)
        status = status_of(fleet, desired, error, view, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
        if status != fleet.get("status"):
            done = await self._kube.patch(FLEET, *key, {"status": status}, sub="status")
            self._fleets[key] = {**fleet, "status": done.get("status")}
        await self._costs(key)
        if error:
            raise SeawallError(error)

    async def _apply(self, desired: Desired) -> str:
        for obj in desired.objects:
            try:
                await self._kube.apply(obj, force=True)
            except SeawallError as e:
                return f"{obj['kind']}/{key_of(obj)[1]}: {e.message}"
        return ""

    async def _costs(self, key: Key) -> None:
        """Keeps pod-deletion-cost near the streams in flight, so that a scale-down takes the emptiest replica."""
        mine = {k: v for k, v in self._replicas.items() if (v[0].namespace, v[0].fleet) == key}
        if len(mine) < 2:
            return
        flying = await self._in_flight(key[0])
        known = {name: cost for (_, name), (_, cost) in mine.items()}
        for name, cost in deletion_costs({n: flying.get(n, 0) for n in known}, known).items():
            await self._kube.patch(POD, key[0], name, {"metadata": {"annotations": {COST: str(cost)}}})

    async def _in_flight(self, namespace: str) -> dict[str, int]:
        """Pod -> streams in flight over all gateways, from their admin ports."""
        total: dict[str, int] = {}
        select = Select(
            POD, namespace, labels="app.kubernetes.io/name=seawall-gateway", fields="status.phase=Running"
        )
        for _, name in await self._kube.list(select, key_of):
            try:
                async with asyncio.timeout(5):
                    path = POD.path(namespace, f"{name}:9090", "proxy/debug/state")
                    answer = await self._kube.request("GET", path)
            except (SeawallError, TimeoutError, json.JSONDecodeError):
                continue
            if isinstance(answer, dict):
                for pod, numbers in (answer.get("replicas") or {}).items():
                    total[pod] = total.get(pod, 0) + int(numbers.get("in_flight") or 0)
        return total


def _rollout_of(config: Object) -> tuple[str, bool]:
    """(fleet, whether nothing is left to drive)."""
    data, labels = config.get("data") or {}, (config.get("metadata") or {}).get("labels") or {}
    ended = any(f'"phase": "{phase}"' in str(data.get("state")) for phase in ENDED) and not data.get("wish")
    return str(labels.get(canary.LABEL, "")), ended


def replica_seen(pod: Object) -> tuple[ReplicaSeen, int]:
    """(replica, its pod-deletion-cost)."""
    meta, status = pod.get("metadata") or {}, pod.get("status") or {}
    labels, notes = meta.get("labels") or {}, meta.get("annotations") or {}
    ready = any(
        c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or []
    )
    cost = str(notes.get(COST, "0"))
    seen = ReplicaSeen(
        namespace=str(meta.get("namespace", "")),
        name=str(meta.get("name", "")),
        fleet=str(labels.get("seawall.dev/fleet", "")),
        node=str((pod.get("spec") or {}).get("nodeName") or ""),
        draining=notes.get(DRAINING) == "true",
        ready=ready,
    )
    return seen, int(cost) if cost.lstrip("-").isdigit() else 0


def node_seen(node: Object) -> NodeSeen:
    spec, status = node.get("spec") or {}, node.get("status") or {}
    return NodeSeen(
        name=key_of(node)[1],
        taints=frozenset(str(t.get("key")) for t in spec.get("taints") or []),
        conditions=frozenset(
            str(c.get("type")) for c in status.get("conditions") or [] if c.get("status") == "True"
        ),
        unschedulable=bool(spec.get("unschedulable")),
    )

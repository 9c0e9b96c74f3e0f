"""The operator: watches Fleets, Pods and Nodes; plans, renders and applies; drains what is about to be lost.

Restart-safe: what it knows it reads again, what it decided lies in statuses and annotations. A watch that lost
an event is healed by its next relist; a Fleet whose reconciliation failed is tried again with back-off.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from seawall.decide.drain import Drain, NodeSeen, decide, deletion_costs
from seawall.domain.labels import DELETION_COST, DRAINING, DRAINING_REASON, ENGINES
from seawall.drivers.kube import NODE, POD, Changed, Kube, Object, Refused, Select, Synced, key_of
from seawall.engines.vllm.client import EngineClient
from seawall.errors import SeawallError
from seawall.operator import canary, gateways
from seawall.operator.adapters import Adapters
from seawall.operator.engines import Engine, by_fleet, engine_seen
from seawall.operator.owned import Converged, converge, listed, refs_of
from seawall.operator.pools import LOOK_S, Member, Pools
from seawall.operator.reconcile import FLEET, Desired, desire, status_of
from seawall.operator.rollouts import Rollouts
from seawall.operator.status import FleetView, look
from seawall.operator.surge import Surges

log = logging.getLogger("seawall.operator")
RESYNC_S = 30.0
ROLLOUTS_S = 10.0
REAPPLY_S = 600.0
"""Objects that did not change are applied again so often: it heals what somebody edited by hand."""
BACK_OFF_S = (1.0, 120.0)
MANY = 8
"""Of so many fleets at once the cluster is looked at as a whole."""
AT_ONCE = 8
"""Fleets that are reconciled beside each other: one that waits (for a hub, a webhook) must not hold up the rest."""

Key = tuple[str, str]


class Operator:
    """One running operator. `namespace` None: the whole cluster."""

    def __init__(
        self, kube: Kube, namespace: str | None, clock: Callable[[], float], resync_s: float = RESYNC_S
    ) -> None:
        self._kube, self._namespace, self._clock, self._resync_s = kube, namespace, clock, resync_s
        self._fleets: dict[Key, Object] = {}
        self._engines: dict[Key, Engine] = {}
        self._nodes: dict[str, NodeSeen] = {}
        self._applied_at: dict[Key, tuple[str, float]] = {}
        self._failures: dict[Key, int] = {}
        self._not_before: dict[Key, float] = {}
        self._reach = EngineClient()
        self._gateways = gateways.GatewayPoller(kube, clock)
        self._desired: dict[Key, Desired] = {}
        self._made: dict[Key, tuple[object, Desired]] = {}
        """Fleet -> its generation, and what came of planning and rendering that one."""
        self._pools = Pools(kube, self._reach, self._gateways, FLEET, time.time)
        self._adapters = Adapters(kube, self._reach, time.time)
        self._surges = Surges(kube, clock)
        self._rollouts = Rollouts(kube, namespace)
        self._ending: set[str] = set()
        """uids of Fleets whose namespace is being terminated: that is never taken back."""
        self._mine: dict[Key, list[Engine]] = {}
        """Fleet -> its engines, as of this round of work."""
        self._wake = asyncio.Event()
        self._dirty: set[Key] = set()
        self._busy: set[Key] = set()
        """Being reconciled; a change meanwhile makes it dirty again."""
        self._rng = random.Random()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch_fleets())
                tasks.create_task(self._watch_replicas())
                tasks.create_task(self._watch_nodes())
                tasks.create_task(self._work())
                tasks.create_task(self._follow_rollouts())
                tasks.create_task(self._share())
        finally:
            await self._reach.close()

    async def _watch_fleets(self) -> None:
        async for news in self._kube.watch(Select(FLEET, self._namespace), lambda o: o, self._resync_s * 4):
            match news:
                case Synced(items):
                    gone = self._fleets.keys() - items.keys()
                    self._fleets = dict(items)
                    self._mark(*items, *gone)
                case Changed(key, None):
                    self._fleets.pop(key, None)
                    self._mark(key)
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
            Select(POD, self._namespace, labels=ENGINES), engine_seen, self._resync_s
        ):
            match news:
                case Synced(items):
                    self._engines = dict(items)
                    self._mark(*{e.fleet for e in items.values()})
                    await self._drains(items.values())
                case Changed(key, None):
                    gone = self._engines.pop(key, None)
                    if gone:
                        self._mark(gone.fleet)
                case Changed(key, item):
                    assert item is not None
                    self._engines[key] = item
                    self._mark(item.fleet)
                    await self._drains([item])

    async def _watch_nodes(self) -> None:
        async for news in self._kube.watch(Select(NODE), node_seen, self._resync_s * 4):
            match news:
                case Synced(items):
                    self._nodes = {name: n for (_, name), n in items.items()}
                    await self._drains(self._engines.values())
                case Changed((_, name), None):
                    self._nodes.pop(name, None)
                case Changed((_, name), node):
                    assert node is not None
                    if self._nodes.get(name) != node:  # most news of a node are its heartbeats
                        self._nodes[name] = node
                        await self._drains(e for e in self._engines.values() if e.replica.node == name)

    async def _drains(self, engines: Iterable[Engine]) -> None:
        """Tells the gateway, through an annotation that its discovery watches, which replicas are about to go."""
        for action in decide(self._nodes, [e.replica for e in engines]):
            drain = isinstance(action, Drain)
            notes = {DRAINING: "true" if drain else None, DRAINING_REASON: action.reason if drain else None}
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

    async def _follow_rollouts(self) -> None:
        while True:
            try:
                self._mark(*await self._rollouts.tick(self._fleets, self._desired, self._applied_at))
            except SeawallError as e:
                log.warning("rollouts: %s", e)
            await asyncio.sleep(min(ROLLOUTS_S, self._resync_s))

    async def _share(self) -> None:
        """Pools and adapters, every few seconds: demand and what engines serve are seen only by asking."""
        while True:
            span = min(LOOK_S, self._resync_s)
            await asyncio.sleep(span)
            alive = {k: d for k, d in self._desired.items() if k in self._fleets}
            members = [
                Member(k, d.fleet, d.plan, self._fleets[k].get("status") or {})
                for k, d in alive.items()
                if d.fleet and d.plan and d.fleet.spec.pool and not _leaves(self._fleets[k])
            ]
            wanted = {k: d.adapters for k, d in alive.items() if d.adapters is not None}
            before = dict(self._adapters.problems)
            try:
                await self._pools.tick(members, by_fleet(self._engines.values()), span / 2)
                if wanted or before:
                    await self._adapters.tick(wanted, self._engines)
            except SeawallError as e:
                log.warning("pools and adapters: %s", e)
            await self._surges.tick(
                {k: (d.fleet, d.objects) for k, d in alive.items() if d.fleet},
                by_fleet(self._engines.values()),
                self._nodes,
            )
            self._mark(*(k for k, why in self._adapters.problems.items() if before.get(k) != why))

    def _mark(self, *keys: Key) -> None:
        self._dirty |= set(keys)
        self._wake.set()

    async def _work(self) -> None:
        last, at_once = self._clock(), asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
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
                if not self._rollouts.known:
                    continue
                due = {k for k in self._dirty - self._busy if self._not_before.get(k, 0.0) <= now}
                self._dirty -= due
                self._busy |= due
                views, self._mine = await self._views(due), by_fleet(self._engines.values())
                for key in sorted(due):
                    tasks.create_task(self._try(key, views, at_once))

    async def _views(self, due: set[Key]) -> dict[Key, FleetView] | None:
        """Of many fleets at once: one paged list of each kind instead of one for each fleet. None: of few."""
        if len(due) < MANY:
            return None
        try:
            seen = await look(self._kube, self._namespace, ask_gateways=False)
        except SeawallError:
            return None
        return {(v.namespace, v.name): v for v in seen}

    async def _try(self, key: Key, views: dict[Key, FleetView] | None, at_once: asyncio.Semaphore) -> None:
        try:
            async with at_once:
                await self.reconcile(key, views)
            self._failures.pop(key, None)
        except SeawallError as e:
            if key not in self._fleets:
                self._forget(key)
                return
            n = self._failures[key] = self._failures.get(key, 0) + 1
            wait = min(BACK_OFF_S[1], BACK_OFF_S[0] * 2.0 ** min(n, 10)) * self._rng.uniform(0.5, 1.0)
            self._not_before[key] = self._clock() + wait
            self._dirty.add(key)
            log.warning("%s/%s: %s (again in %.0f s)", *key, e, wait)
        finally:
            self._busy.discard(key)

    def _forget(self, key: Key) -> None:
        """A Fleet that is gone, or goes, leaves nothing behind: its name may be given to another."""
        for kept in (self._applied_at, self._failures, self._not_before, self._desired, self._made):
            kept.pop(key, None)

    async def reconcile(self, key: Key, views: dict[Key, FleetView] | None = None) -> None:
        """Applies what changed, writes the status if it differs. Raises to be tried again. `views`: what was seen of
        all fleets a moment ago, for one whose objects need no apply now."""
        fleet = self._fleets.get(key)
        if fleet is None or _leaves(fleet) or fleet["metadata"].get("uid") in self._ending:
            self._forget(key)
            return
        desired = await self._planned(key, fleet)
        rollout = self._rollouts.of(key)
        if not desired.problem:
            # What cannot work changes nothing: the last good spec goes on being served.
            self._desired[key] = desired
        done = Converged()
        digest, at = self._applied_at.get(key, ("", 0.0))
        held = self._rollouts.holds(key)
        if not (desired.problem or held) and (digest != desired.digest or self._clock() - at > REAPPLY_S):
            done = await self._apply(key, fleet, desired)
            views = None
        view = await self._view(key, views)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        fleet = self._fleets.get(key, fleet)
        status = status_of(fleet, desired, done.problem, view, now, self._adapters.problems.get(key))
        told = f"{rollout.state.phase}, {rollout.weight}% of requests" if rollout else None
        await self._write(key, {**status, "rollout": told})
        await self._costs(key)
        if done.ends:
            self._ending.add(str(fleet["metadata"].get("uid")))
            self._forget(key)
        elif done.problem:
            raise SeawallError(done.problem)

    async def _planned(self, key: Key, fleet: Object) -> Desired:
        """Planned and rendered once for each spec, and once more when a rollout of it has ended."""
        rollout, meta = self._rollouts.of(key), fleet["metadata"]
        over = rollout if rollout is not None and rollout.ended else None
        now_at = (meta.get("uid"), meta.get("generation"), over.state if over else None)
        at, desired = self._made.get(key, (None, None))
        if desired is None or desired.problem or at != now_at:
            desired = await asyncio.to_thread(desire, fleet)
            if over is not None and desired.fleet and over.spec == canary.digest_of([desired.fleet]):
                desired = await asyncio.to_thread(desire, fleet, over.after)
            self._made[key] = (now_at, desired)
        return desired

    async def _view(self, key: Key, views: dict[Key, FleetView] | None) -> FleetView | None:
        if views is None:
            view = next(iter(await look(self._kube, *key, ask_gateways=False)), None)
        else:
            view = views.get(key)
        if view is not None:
            told = (await self._gateways.heard(key[0], self._resync_s)).state.fleets.get(key[1])
            if told is not None:
                view.queued, view.in_flight = told.queued, told.in_flight
        return view

    async def _write(self, key: Key, fields: Object) -> None:
        """Writes those fields of the status that differ; None takes one away. A Fleet that has gone is let go."""
        known = self._fleets.get(key)
        if known is None:
            return
        old = known.get("status") or {}
        changed = {k: v for k, v in fields.items() if old.get(k) != v}
        if not changed:
            return
        try:
            done = await self._kube.patch(FLEET, *key, {"status": changed}, sub="status")
        except Refused as e:
            if e.code == 404:
                return
            raise
        # Meanwhile the watch may have brought a newer spec, or the end: neither is undone.
        now = self._fleets.get(key)
        if now is not None and now["metadata"].get("uid") == known["metadata"].get("uid"):
            self._fleets[key] = {**now, "status": done.get("status")}

    async def _apply(self, key: Key, fleet: Object, desired: Desired) -> Converged:
        """What is to be owned is listed in the status before it is made, so that nothing is ever forgotten."""
        objects = list(desired.objects)
        if desired.fleet is not None and desired.fleet.spec.pool is not None:
            count = self._pools.replicas(key, fleet.get("status") or {})
            objects = [
                {**o, "spec": {**o["spec"], "replicas": count}}
                if o["kind"] == "Deployment" and key_of(o)[1] == key[1]
                else o
                for o in objects
            ]
        old = (fleet.get("status") or {}).get("objects") or []
        new = listed(objects)
        await self._write(key, {"objects": new + [o for o in old if o not in new]})
        before = refs_of({"objects": old}, key[0])
        done = await converge(self._kube, objects, before, str(fleet["metadata"].get("uid")))
        if not done.problem:
            self._applied_at[key] = (desired.digest, self._clock())
            await self._write(key, {"objects": new})
        return done

    async def _costs(self, key: Key) -> None:
        """Keeps pod-deletion-cost near the streams in flight, so that a scale-down takes the emptiest replica."""
        known = {e.replica.name: e.cost for e in self._mine.get(key, ())}
        if len(known) < 2:
            return
        told = (await self._gateways.heard(key[0], self._resync_s)).state.replicas
        flying = {n: told[n].in_flight if n in told else 0 for n in known}
        for name, cost in deletion_costs(flying, known).items():
            try:
                await self._kube.patch(
                    POD, key[0], name, {"metadata": {"annotations": {DELETION_COST: str(cost)}}}
                )
            except Refused as e:
                if e.code != 404:  # it went while we counted
                    raise


async def operate(kube: Kube, namespace: str | None, resync_s: float = RESYNC_S) -> None:
    """One term as the leader, with nothing remembered of an earlier one: others may have led in between."""
    await Operator(kube, namespace, time.monotonic, resync_s).run()


def _leaves(fleet: Object) -> bool:
    return bool(fleet["metadata"].get("deletionTimestamp"))


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

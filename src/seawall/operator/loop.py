"""The operator: watches Fleets, Pods and Nodes; plans, renders and applies; drains what is about to be lost.

Restart-safe: what it knows it reads again, what it decided lies in statuses and annotations. A watch that lost
an event is healed by its next relist; a Fleet whose reconciliation failed is tried again with back-off.
Time is read and waited for by the injected clock only.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from datetime import UTC, datetime

from seawall.decide.drain import deletion_costs
from seawall.domain.labels import DELETION_COST
from seawall.drivers.clock import Clock, SteadyClock
from seawall.drivers.kube import OPERATOR_MANAGER, POD, Kube, Object, Refused, key_of
from seawall.drivers.kube_refusal import NEWER
from seawall.engines.vllm.client import EngineClient
from seawall.errors import SeawallError
from seawall.operator import canary, gateways
from seawall.operator.adapters import Adapters
from seawall.operator.converge import Converged, Manner, converge
from seawall.operator.engines import EnginePod
from seawall.operator.fleet_object import FLEET
from seawall.operator.kinds import OptionalKinds, optional
from seawall.operator.ledger import FleetObjects
from seawall.operator.picture import Picture
from seawall.operator.pools import LOOK_S, Member, Memory, Pools, remembered
from seawall.operator.reconcile import Desired, desire, status_of
from seawall.operator.record import FleetKey, FleetRecord
from seawall.operator.rollouts import Rollouts
from seawall.operator.status import FleetView, heed, look
from seawall.operator.surge import Surges, Watched

log = logging.getLogger("seawall.operator")
RESYNC_S = 30.0
ROLLOUTS_S = 10.0
REAPPLY_S = 600.0
"""Objects that did not change are applied again so often: it heals what somebody edited by hand."""
BACK_OFF_S = (1.0, 120.0)
TURN_S = 1.0
"""So often it is looked whether a Fleet's time has come."""
CATCH_UP_S = 5.0
"""A gateway finds a new replica some seconds after its Pod is ready: it is asked again then."""
MANY = 8
"""Of so many fleets at once the cluster is looked at as a whole."""
AT_ONCE = 8
"""Fleets that are reconciled beside each other: one that waits (for a hub, a webhook) must not hold up the rest."""


class Operator:
    """One running operator. `namespace` None: the whole cluster."""

    def __init__(
        self, kube: Kube, namespace: str | None, clock: Clock | None = None, resync_s: float = RESYNC_S
    ) -> None:
        self._kube, self._namespace, self._resync_s = kube, namespace, resync_s
        self._clock = clock or SteadyClock()
        self._picture = Picture(kube, namespace, resync_s)
        self._records = self._picture.records
        self._reach = EngineClient()
        self._gateways = gateways.GatewayPoller(kube, self._clock.now)
        self._pools = Pools(kube, self._reach, self._gateways, FLEET, self._clock.time)
        self._adapters = Adapters(kube, self._reach, self._clock.time)
        self._surges = Surges(kube, self._clock.now)
        self._kinds = OptionalKinds(kube)
        self._rollouts = Rollouts(kube, namespace, self._clock)
        self._told_lost = False
        self._warned: set[str] = set()
        self._ending: set[str] = set()
        """uids of Fleets whose namespace is being terminated: that is never taken back."""
        self._how = Manner(manager=OPERATOR_MANAGER, heir=True, patience_s=2.0, sleep=self._clock.sleep)
        self._rng = random.Random()

    async def run(self) -> None:
        """Until cancelled."""
        picture = self._picture
        try:
            async with asyncio.TaskGroup() as tasks:
                for work in (picture.watch_fleets, picture.watch_replicas, picture.watch_nodes, self._tick,
                             self._work, self._follow_rollouts, self._follow_kinds, self._share):  # fmt: skip
                    tasks.create_task(work())
        finally:
            await self._reach.close()

    async def _tick(self) -> None:
        """Every Fleet is looked at again after each resync; in between, whose time has come."""
        last = self._clock.now()
        while True:
            await self._clock.sleep(TURN_S)
            if self._clock.now() - last >= self._resync_s:
                last = self._clock.now()
                self._picture.mark(*(r.key for r in self._records if r.obj is not None))
            self._picture.wake.set()

    async def _follow_rollouts(self) -> None:
        while True:
            try:
                self._picture.mark(*await self._rollouts.tick(self._records))
            except SeawallError as e:
                log.warning("rollouts: %s", e)
            await self._clock.sleep(min(ROLLOUTS_S, self._resync_s))

    async def _follow_kinds(self) -> None:
        """Fleets whose optional kinds have come or gone are applied again."""
        while True:
            await self._clock.sleep(self._resync_s)
            wanted = {r.key: optional(r.desired.objects) for r in self._records if r.desired is not None}
            changed = await self._kinds.changed(set().union(*wanted.values()))
            for key in (k for k, kinds in wanted.items() if kinds & changed):
                record = self._records.of(key)
                record.applied, record.not_before = None, 0.0
                self._picture.mark(key)

    async def _share(self) -> None:
        """Pools and adapters, every few seconds: demand and what engines serve are seen only by asking."""
        span = min(LOOK_S, self._resync_s)
        while True:
            await self._clock.sleep(span)
            alive = [(r, r.desired) for r in self._records if r.stays and r.desired is not None]
            engines = self._picture.by_fleet()
            try:
                await self._pools.tick([m for r, d in alive for m in self._member(r, d)], engines, span / 2)
                await self._load_adapters(alive)
            except SeawallError as e:
                log.warning("pools and adapters: %s", e)
            watched = [Watched(r.key, d.fleet, d.objects, r.surge) for r, d in alive if d.fleet]
            await self._surges.tick(watched, engines, self._picture.nodes)

    def _member(self, record: FleetRecord, desired: Desired) -> list[Member]:
        """The Fleet as a member of its pool, if it has one."""
        if not (desired.fleet and desired.plan and desired.fleet.spec.pool):
            record.pool = None
            return []
        return [Member(record.key, desired.fleet, desired.plan, self._memory(record))]

    def _memory(self, record: FleetRecord) -> Memory:
        if record.pool is None:
            record.pool = remembered((record.obj or {}).get("status") or {})
        return record.pool

    async def _load_adapters(self, alive: list[tuple[FleetRecord, Desired]]) -> None:
        wanted = {r.key: d.adapters for r, d in alive if d.adapters is not None}
        known = any(r.adapters is not None for r, _ in alive)
        problems = await self._adapters.tick(wanted, self._picture.engines) if wanted or known else {}
        for record, _ in alive:
            why = problems.get(record.key)
            if record.adapters != why:
                record.adapters = why
                self._picture.mark(record.key)

    async def _work(self) -> None:
        at_once = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._picture.wake.wait()
                self._picture.wake.clear()
                if not self._rollouts.known:
                    continue
                now = self._clock.now()
                due = [r for r in self._records if r.due(now)]
                for record in due:
                    record.dirty, record.busy, record.look_at = False, True, math.inf
                views, engines = await self._views(due), self._picture.by_fleet()
                for record in sorted(due, key=lambda r: r.key):
                    mine = engines.get(record.key, [])
                    tasks.create_task(self._try(record, views, mine, at_once))

    async def _views(self, due: list[FleetRecord]) -> dict[FleetKey, FleetView] | None:
        """Of many fleets at once: one paged list of each kind instead of one for each fleet. None: of few."""
        if len(due) < MANY:
            return None
        try:
            seen = await look(self._kube, self._namespace, ask_gateways=False)
        except SeawallError:
            return None
        return {(v.namespace, v.name): v for v in seen}

    async def _try(
        self,
        record: FleetRecord,
        views: dict[FleetKey, FleetView] | None,
        mine: list[EnginePod],
        at_once: asyncio.Semaphore,
    ) -> None:
        try:
            async with at_once:
                await self.reconcile(record, views, mine)
            record.failures = 0
        except SeawallError as e:
            if record.obj is None:
                record.forget()
                return
            record.failures += 1
            wait = min(BACK_OFF_S[1], BACK_OFF_S[0] * 2.0 ** min(record.failures, 10))
            wait *= self._rng.uniform(0.5, 1.0)
            record.not_before = self._clock.now() + wait
            record.dirty = True
            log.warning("%s/%s: %s (again in %.0f s)", *record.key, e, wait)
        finally:
            record.busy = False
            self._records.drop(record)
            if record.dirty:
                self._picture.wake.set()

    async def reconcile(
        self,
        record: FleetRecord,
        views: dict[FleetKey, FleetView] | None = None,
        mine: list[EnginePod] | None = None,
    ) -> None:
        """Applies what changed, writes the status if it differs. Raises to be tried again. `views`: what was seen of
        all fleets a moment ago, for one whose objects need no apply now; `mine`: its engines."""
        fleet = record.obj
        if fleet is None or record.leaves or record.uid in self._ending:
            record.forget()
            return
        desired = await self._planned(record, fleet)
        if not desired.problem:
            # What cannot work changes nothing: the last good spec goes on being served.
            record.desired = desired
        held = record.rollout is not None and not record.rollout.ended
        done = Converged()
        if not (desired.problem or held) and self._needs_apply(record, desired):
            done = await self._apply(record, fleet, desired)
            views = None
            self._tell_warnings()
        view = await self._view(record, views)
        now = datetime.fromtimestamp(self._clock.time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = status_of(record.obj or fleet, desired, done.problem, view, now, record.adapters)
        r = record.rollout
        await self._write(
            record, {**status, "rollout": f"{r.state.phase}, {r.weight}% of requests" if r else None}
        )
        await self._costs(record.key, mine or [])
        if done.ends:
            self._ending.add(str(fleet["metadata"].get("uid")))
            record.forget()
        elif done.problem:
            raise SeawallError(done.problem)

    def _tell_warnings(self) -> None:
        """Logs what the API server and its webhooks warned of, each once: nobody else reads it of what we apply."""
        for text in self._kube.warnings.keys() - self._warned:
            self._warned.add(text)
            log.warning("the API server warns: %s", text)

    def _needs_apply(self, record: FleetRecord, desired: Desired) -> bool:
        digest, at = record.applied or ("", 0.0)
        return digest != desired.digest or self._clock.now() - at > REAPPLY_S

    async def _planned(self, record: FleetRecord, fleet: Object) -> Desired:
        """Planned and rendered once for each spec, and once more when a rollout of it has ended."""
        rollout, meta = record.rollout, fleet["metadata"]
        over = rollout if rollout is not None and rollout.ended else None
        now_at = (meta.get("uid"), meta.get("generation"), over.state if over else None)
        at, desired = record.made or (None, None)
        if desired is None or desired.problem or at != now_at:
            desired = await asyncio.to_thread(desire, fleet, None, self._namespace is None)
            if over is not None and desired.fleet and over.spec == canary.digest_of([desired.fleet]):
                desired = await asyncio.to_thread(desire, fleet, over.after, self._namespace is None)
            record.made = (now_at, desired)
        return desired

    async def _view(self, record: FleetRecord, views: dict[FleetKey, FleetView] | None) -> FleetView | None:
        if views is None:
            view = next(iter(await look(self._kube, *record.key, ask_gateways=False)), None)
        else:
            view = views.get(record.key)
        if view is not None:
            heard = await self._gateways.heard(record.key[0], min(CATCH_UP_S, self._resync_s))
            heed(view, heard.state, f"{heard.silent} gateways do not answer" if heard.silent else "")
            if view.usable is not None and view.usable < min(view.ready, view.desired):
                # Ever more rarely: where a gateway never reaches a replica, every resync is often enough.
                wait_s = min(self._resync_s, CATCH_UP_S * 2.0 ** min(record.looks, 10))
                record.look_at, record.looks = self._clock.now() + wait_s, record.looks + 1
            else:
                record.looks = 0
        return view

    async def _write(self, record: FleetRecord, fields: Object) -> None:
        """Writes those fields of the status that differ; None takes one away. A Fleet that has gone is let go."""
        known = record.obj
        if known is None:
            return
        old = known.get("status") or {}
        changed = {k: v for k, v in fields.items() if old.get(k) != v}
        if not changed:
            return
        try:
            done = await self._kube.patch(FLEET, *record.key, {"status": changed}, sub="status")
        except Refused as e:
            if e.code == 404:
                return
            raise
        kept = done.get("status") or {}
        lost = sorted(k for k, v in changed.items() if v is not None and k not in kept)
        if lost and not self._told_lost:
            self._told_lost = True
            log.warning("the API server drops %s of a Fleet's status. %s", ", ".join(lost), NEWER)
        # Meanwhile the watch may have brought a newer spec, or the end: neither is undone.
        now = record.obj
        if now is not None and now["metadata"].get("uid") == known["metadata"].get("uid"):
            record.obj = {**now, "status": done.get("status")}

    async def _apply(self, record: FleetRecord, fleet: Object, desired: Desired) -> Converged:
        """What is to be owned is listed in the status before it is made, so that nothing is ever forgotten."""
        objects = list(desired.objects)
        if desired.fleet is not None and desired.fleet.spec.pool is not None:
            count = self._memory(record).replicas or 0
            objects = [
                {**o, "spec": {**o["spec"], "replicas": count}}
                if o["kind"] == "Deployment" and key_of(o)[1] == record.key[1]
                else o
                for o in objects
            ]
        told = tuple((fleet.get("status") or {}).get("objects") or [])
        uid = str(fleet["metadata"].get("uid"))
        ledger = FleetObjects(uid, record.key[0], told, lambda refs: self._write(record, {"objects": refs}))
        done = await converge(self._kube, objects, ledger, record.key[0], self._how)
        if not done.problem:
            record.applied = (desired.digest, self._clock.now())
            self._kinds.applied(objects)
        return done

    async def _costs(self, key: FleetKey, mine: list[EnginePod]) -> None:
        """Keeps pod-deletion-cost near the streams in flight, so that a scale-down takes the emptiest replica."""
        known = {e.replica.name: e.cost for e in mine}
        if len(known) < 2:
            return
        told = (await self._gateways.heard(key[0], self._resync_s)).state.replicas
        flying = {n: told[n].in_flight if n in told else 0 for n in known}
        for name, cost in deletion_costs(flying, known).items():
            try:
                body = {"metadata": {"annotations": {DELETION_COST: str(cost)}}}
                await self._kube.patch(POD, key[0], name, body)
            except Refused as e:
                if e.code != 404:  # it went while we counted
                    raise


async def operate(kube: Kube, namespace: str | None, clock: Clock, resync_s: float = RESYNC_S) -> None:
    """One term as the leader, with nothing remembered of an earlier one: others may have led in between."""
    await Operator(kube, namespace, clock, resync_s).run()

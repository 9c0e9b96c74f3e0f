"""`seawall up` at work: keeps the gateway and every fleet's replicas, publishes them, answers its control socket.

Structure: one TaskGroup owns a task per keeper, the tick and the control socket; when it ends, no process of
ours is left. Decisions come from `decide/`; what is decided here is only the order of a shutdown: the gateway
drains first (it answers what it has accepted), then the replicas.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from seawall.decide.replica import ReplicaPhase
from seawall.decide.truth.fingerprint import Fingerprint
from seawall.domain.seen import Replicas
from seawall.domain.spec import Fleet
from seawall.drivers import cache
from seawall.drivers.guardian import Log
from seawall.drivers.process import Child, free_port
from seawall.engines.vllm.client import EngineClient
from seawall.errors import InputError
from seawall.local.clock import Clock, SettableClock, SteadyClock
from seawall.local.documents import Documents
from seawall.local.fleet import FleetRunner, RunnerMeans, care_of
from seawall.local.gpus import Gpus
from seawall.local.keeper import Care, Keeper, Spawn
from seawall.local.launch import ReplicaRecipe
from seawall.local.loading import Loading
from seawall.local.pools import LocalPools
from seawall.local.services import (
    BATCH_GRACE_S,
    BatchService,
    GatewayPlace,
    GatewayService,
    KeeperService,
)
from seawall.weights.truth_file import truth_of

TICK_S = 0.5
EVENTS = 200


@dataclass(frozen=True)
class UpEvent:
    """One line of what happened, and why."""

    at: float
    """Unix time, seconds."""
    subject: str
    text: str


@dataclass(frozen=True, kw_only=True)
class UpSetup:
    """What to run, and where its state goes."""

    recipes: tuple[ReplicaRecipe, ...]
    place: GatewayPlace
    documents: Documents
    """What the gateway reads, from the specs that a person wrote."""
    state_dir: Path
    care: Care
    admin_port: int = 0
    """Where /metrics and the console are, whichever gateway serves; 0: at the port of the one that serves."""
    gpus: tuple[str, ...] = ()
    """The devices that may be given to replicas."""
    need_bytes: dict[str, int]
    """Fleet -> memory that one more replica takes, for the check before a start."""


class Supervisor:
    """Everything that `seawall up` keeps."""

    def __init__(
        self,
        setup: UpSetup,
        *,
        spawn: Spawn = Child.start,
        clock: Clock | None = None,
        on_event: Callable[[UpEvent], None] = lambda happening: None,
    ) -> None:
        self.setup = setup
        own = SettableClock if "steady-clock" in setup.care.without else SteadyClock
        self._clock = clock or own()
        self._spawn, self._on_event = spawn, on_event
        self.client = EngineClient()
        self.gateway: Keeper | None = None
        self._next_gateway: Keeper | None = None
        self._old_gateways: list[Keeper] = []
        self._gateways = 0
        self.holder: Keeper | None = None
        """Keeps the process that holds what the gateway would lose with its life."""
        self.batch: Keeper | None = None
        """Keeps the batch lane, if a fleet has it."""
        self.events: deque[UpEvent] = deque(maxlen=EVENTS)
        self._journal = Log(str(cache.make_private(setup.state_dir) / "events.jsonl"))
        self._logs = cache.make_private(setup.state_dir / "logs")
        self._version = 0
        self._published = ""
        self._unwritable: set[str] = set()
        """Names of files that could not be replaced the last time."""
        self._group: asyncio.TaskGroup | None = None
        self._stop = asyncio.Event()
        self._fleets: list[FleetRunner] = []
        self._pools = LocalPools(self._clock, self.note)
        self.started_at = time.time()
        self.loading = Loading(setup.state_dir / "starts.json")

    @property
    def fleets(self) -> list[FleetRunner]:
        return self._fleets

    def stop(self) -> None:
        """Ends everything: the first call drains, the second one kills."""
        if not self._stop.is_set():
            self._stop.set()
            self.note("seawall", "stopping: draining; Ctrl-C again kills")
            return
        self.note("seawall", "killing")
        for keeper in self.keepers():
            keeper.hurry()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def keepers(self) -> list[Keeper]:
        own = (self.gateway, self._next_gateway, *self._old_gateways, self.holder, self.batch)
        mine = [keeper for keeper in own if keeper]
        return mine + [k for f in self._fleets for k in f.keepers.values()]

    @property
    def gateway_service(self) -> GatewayService:
        """The service of the gateway that clients reach now."""
        assert self.gateway is not None
        assert isinstance(self.gateway.service, GatewayService)
        return self.gateway.service

    @property
    def admin_url(self) -> str:
        """Where /metrics and the console are: at the port that somebody named, else at the gateway's of now."""
        place = self.gateway_service.place if self.gateway else self.setup.place
        return replace(place, admin_port=self.setup.admin_port or place.admin_port).admin_url

    def fleet(self, name: str | None) -> FleetRunner | None:
        """The fleet of this name; without a name, the only one."""
        if name is None:
            return self._fleets[0] if len(self._fleets) == 1 else None
        return next((f for f in self._fleets if f.name == name), None)

    async def run(self) -> None:
        """Until `stop`, or the control socket's `stop`; returns when every process is gone."""
        from seawall.local import admin_door, control

        self.publish()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                server = await control.serve(self)
                self.holder = self._new_holder()
                self.gateway = self._new_gateway(self.setup.place)
                if self.setup.admin_port:
                    await admin_door.serve(
                        self.setup.admin_port, lambda: self.gateway_service.place.admin_port
                    )
                self._start_fleets()
                while not self._stop.is_set():
                    self._tick()
                    await self._wait(TICK_S)
                await self._shut_down()
                server.close()
        finally:
            self._write_state(ended=True)
            (self.setup.state_dir / "discovery.json").unlink(missing_ok=True)
            await self.client.close()

    def restart_gateway(self) -> None:
        """A new gateway listens beside the old on the same port (SO_REUSEPORT); when it serves, the old drains."""
        if "hand-over" in self.setup.care.without and self.gateway:
            self.gateway.drain("restarted")
        elif self._next_gateway is None:
            self.note("gateway", "restart: a new one starts beside the old")
            self._next_gateway = self._new_gateway(replace(self.setup.place, admin_port=free_port()))

    def note(self, subject: str, text: str) -> None:
        """Records what happened, for the view, `status` and the journal."""
        happening = UpEvent(time.time(), subject, text)
        self.events.append(happening)
        self._journal.write(json.dumps(asdict(happening)).encode() + b"\n")
        self._on_event(happening)

    def publish(self) -> None:
        """Writes the discovery document if it changed. Before anything is stopped, never after."""
        replicas = sorted((r for f in self._fleets for r in f.discovered()), key=lambda r: r.name)
        coming = tuple(f.name for f in self._fleets if f.coming and not self.stopping)
        body = asdict(Replicas(replicas=tuple(replicas), coming=coming))
        if (text := json.dumps(body)) != self._published:
            document = json.dumps(body | {"version": self._version + 1}, indent=1)
            if self._write(self.setup.place.discovery, document):
                self._published = text
                self._version += 1

    def _write(self, path: Path, text: str) -> bool:
        """Replaces a file that others read. A disk that is full is said once, and is no reason to stop serving: a text
        that fits takes the place of the old one. False: it must be tried again."""
        try:
            cache.write_atomic(path, text)
        except OSError as e:
            if path.name not in self._unwritable:
                self._unwritable.add(path.name)
                self.note("seawall", f"{path.name} cannot be replaced: {e.strerror}")
            try:
                cache.write_in_place(path, text)
            except OSError:
                return False
            return True
        if path.name in self._unwritable:
            self._unwritable.discard(path.name)
            self.note("seawall", f"{path.name} can be replaced again")
        return True

    def _new_holder(self) -> Keeper | None:
        """Starts the process that holds the gateway's connections, if there is to be one."""
        path = self.setup.place.keeper
        if path is None:
            return None
        life = replace(self.setup.care.life, backoff_first_s=0.1, backoff_max_s=2.0)
        keeper = Keeper(
            "keeper", KeeperService(path), self._logs / "keeper.log", Care(life=life, notice_s=0.0, drain_s=1.0),
            spawn=self._spawn, clock=self._clock,
            changed=lambda keeper, why: self.note("keeper", f"{keeper.life.phase}: {why}"),
        )  # fmt: skip
        self._launch(keeper)
        return keeper

    def _new_gateway(self, place: GatewayPlace) -> Keeper:
        """Starts a gateway. Two log files take turns, so that an old and a new gateway never share one."""
        log = self._logs / ("gateway.log" if self._gateways % 2 == 0 else "gateway-b.log")
        self._gateways += 1
        keeper = Keeper(
            "gateway", GatewayService(place, self.client), log,
            Care(life=self.setup.care.life, notice_s=0.0, drain_s=place.grace_s + 5),
            spawn=self._spawn, clock=self._clock, changed=self._gateway_changed,
        )  # fmt: skip
        self._launch(keeper)
        return keeper

    def _keep_gateway(self) -> None:
        """Hands over to a new gateway that serves, and replaces one that has stopped."""
        fresh = self._next_gateway
        if fresh is not None and fresh.life.phase is ReplicaPhase.READY:
            if self.gateway:
                self.gateway.drain("replaced by a new one")
                self._old_gateways.append(self.gateway)
            self.gateway, self._next_gateway = fresh, None
        self._old_gateways = [g for g in self._old_gateways if g.life.phase is not ReplicaPhase.STOPPED]
        if self.gateway is None or self.gateway.life.phase is ReplicaPhase.STOPPED:
            self.gateway = self._new_gateway(self.setup.place)

    def _keep_batch(self) -> None:
        """The lane is told of one gateway: another one takes a lane of its own, and what was under way runs again."""
        gateway = self.gateway
        if not self.setup.place.batch_port or gateway is None:
            return
        place, kept = self.gateway_service.place, self.batch
        if kept is not None and kept.life.phase is not ReplicaPhase.STOPPED:
            assert isinstance(kept.service, BatchService)
            if kept.service.place != place and kept.life.phase is not ReplicaPhase.DRAINING:
                kept.drain("the gateway was replaced")
            return
        if gateway.life.phase is ReplicaPhase.READY:
            service = BatchService(place, self.setup.state_dir / "batch", self.client)
            self.batch = Keeper(
                "batch", service, self._logs / "batch.log",
                Care(life=self.setup.care.life, notice_s=0.0, drain_s=BATCH_GRACE_S + 5),
                spawn=self._spawn, clock=self._clock,
                changed=lambda keeper, why: self.note("batch", f"{keeper.life.phase}: {why}"),
            )  # fmt: skip
            self._launch(self.batch)

    def _start_fleets(self) -> None:
        means = RunnerMeans(
            client=self.client, gateway=lambda: self.gateway_service, spawn=self._spawn, clock=self._clock,
            logs=self._logs, note=self.note, free_memory=free_memory, launch=self._launch, publish=self.publish,
            gpus=Gpus(self.setup.gpus), truth=self._truth,
        )  # fmt: skip
        for recipe in self.setup.recipes:
            care = care_of(recipe.fleet, self.setup.care)
            self._fleets.append(
                FleetRunner(recipe, care, means, self.setup.need_bytes.get(recipe.fleet.name, 0))
            )

    def _truth(self, fleet: Fleet) -> Fingerprint | None:
        """The fleet's fingerprint; one that cannot be read, or is of something else, is said by the gateway."""
        try:
            return truth_of(self.setup.documents.truth(fleet.name), fleet)
        except InputError:
            return None

    def _gateway_changed(self, keeper: Keeper, why: str) -> None:
        if keeper.life.phase in (ReplicaPhase.FAILED, ReplicaPhase.STOPPED) and isinstance(
            keeper.service, GatewayService
        ):
            keeper.service.state = None
        self.note("gateway", f"{keeper.life.phase}: {why}")

    def _launch(self, keeper: Keeper) -> None:
        assert self._group is not None
        self._group.create_task(keeper.run(), name=keeper.name)

    def _tick(self) -> None:
        self._keep_gateway()
        self._keep_batch()
        self.setup.documents.follow(self.note)
        for fleet in self._fleets:
            fleet.look()
        self._pools.turn(self._fleets)
        for fleet in self._fleets:
            fleet.act()
        self.publish()
        self._write_state()

    async def _wait(self, seconds: float) -> None:
        """The pause between two ticks; `stop` ends it."""
        end = self._clock.now() + seconds
        while self._clock.now() < end and not self._stop.is_set():
            await self._clock.sleep(min(0.1, seconds))

    async def _shut_down(self) -> None:
        for fleet in self._fleets:
            for keeper in fleet.keepers.values():
                if keeper.life.phase is not ReplicaPhase.READY:
                    keeper.drain("shutting down")
        if self.batch is not None:
            self.batch.drain("shutting down")
        gateways = [g for g in (self.gateway, self._next_gateway, *self._old_gateways) if g]
        for gateway in gateways:
            gateway.drain("shutting down")
        while any(g.life.phase is not ReplicaPhase.STOPPED for g in gateways):
            self._write_state()
            await self._clock.sleep(0.1)
        if self.holder is not None:
            self.holder.drain("shutting down")
        for fleet in self._fleets:
            fleet.stopping = True
        while any(f.keepers for f in self._fleets):
            for fleet in self._fleets:
                fleet.tick()
            self._write_state()
            await self._clock.sleep(0.1)

    def _write_state(self, ended: bool = False) -> None:
        from seawall.local.snapshot import snapshot

        self._write(
            self.setup.state_dir / "state.json", json.dumps(snapshot(self) | {"ended": ended}, indent=1)
        )


def free_memory() -> int:
    """Bytes that can be given to a new process without swapping."""
    import psutil

    return int(psutil.virtual_memory().available)


def fact_sheet(supervisor: Supervisor) -> dict[str, Any]:
    """Facts that do not change while it runs."""
    s = supervisor.setup
    return {
        "pid": os.getpid(),
        "started_at": supervisor.started_at,
        "state_dir": str(s.state_dir),
        "engine": s.recipes[0].engine if s.recipes else "vllm",
        "specs": [str(p) for p in s.documents.specs],
    }

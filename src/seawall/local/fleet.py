"""One fleet on this machine: its keepers, how many are wanted, and its rollouts. Acts on `decide/`'s answers.

`tick` is level-triggered: it looks at what is and asks `decide.replace.moves` what to do, so it can be called
at any time and after any failure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from seawall.decide import scale
from seawall.decide.pool import FleetSeen, Turn, cost_of
from seawall.decide.replace import Retire, SeenReplica, Start, moves
from seawall.decide.replica import ReplicaPhase
from seawall.decide.truth.fingerprint import Fingerprint
from seawall.domain.seen import Replica
from seawall.domain.spec import Fleet
from seawall.engines.vllm.client import EngineClient
from seawall.local.clock import Clock
from seawall.local.gpus import VISIBLE, Gpus
from seawall.local.keeper import Care, Keeper, Spawn
from seawall.local.launch import ReplicaRecipe
from seawall.local.services import EngineService, GatewayService

Note = Callable[[str, str], None]
"""(subject, what happened and why)"""

SHORT_S = 15.0
"""Seconds between two complaints that one more replica has no room."""


@dataclass(frozen=True, kw_only=True)
class RunnerMeans:
    """What a fleet's runner needs of the world."""

    client: EngineClient
    gateway: Callable[[], GatewayService]
    spawn: Spawn
    clock: Clock
    logs: Path
    note: Note
    free_memory: Callable[[], int]
    """Bytes available now."""
    launch: Callable[[Keeper], None]
    """Runs a keeper's `run()` in a task that somebody awaits."""
    publish: Callable[[], None]
    """Writes the discovery document anew."""
    gpus: Gpus
    truth: Callable[[Fleet], Fingerprint | None] = lambda fleet: None
    """What a fleet's replicas must answer before they get requests."""


HOLDS_NOTHING = (ReplicaPhase.STOPPED, ReplicaPhase.FAILED, ReplicaPhase.ASLEEP)
"""Phases in which a replica's GPUs are free."""
CRASH_LOOP = 4
"""Failed starts in a row from which on nobody waits for the replica any more."""


class FleetRunner:
    """The keepers of one fleet."""

    def __init__(self, recipe: ReplicaRecipe, care: Care, means: RunnerMeans, need_bytes: int) -> None:
        self.recipe, self.care, self._means, self._need_bytes = recipe, care, means, need_bytes
        self.fleet: Fleet = recipe.fleet
        self.keepers: dict[int, Keeper] = {}
        self.policy = scale.policy_of(self.fleet, recipe.plan)
        self.wanted = self.fleet.spec.scaling.min
        self.generation = 0
        self.pinned: int | None = None
        """Set by hand; the autoscaler then rests."""
        self.scale_reason = f"min {self.wanted}"
        self.stopping = False
        self.turn: Turn | None = None
        """What its pool allows now; nothing before the first look at a pool."""
        self._scale_state: scale.ScaleState = {}
        self._admitted: tuple[float, int] | None = None
        """When the gateway's count of admitted requests was read last, and what it was."""
        self._short_at = -SHORT_S
        self._look_at = 0.0
        self._missing: dict[str, str] = {}
        """Replica -> what was said of its adapters last."""

    @property
    def name(self) -> str:
        return self.fleet.name

    def service(self, keeper: Keeper) -> EngineService:
        assert isinstance(keeper.service, EngineService)
        return keeper.service

    def tick(self) -> None:
        """Forgets the stopped, scales, then starts and drains what `moves` says."""
        self.look()
        self.act()

    def look(self) -> None:
        """Forgets the stopped, and scales."""
        for index in [i for i, k in self.keepers.items() if k.life.phase is ReplicaPhase.STOPPED]:
            self._means.gpus.give_back(self.keepers.pop(index).name)
        for keeper in self.keepers.values():
            self._miss(keeper.name, self.service(keeper).problem)
        if not self.stopping:
            self._scale()

    def _miss(self, name: str, problem: str) -> None:
        """Says once what a replica's adapters lack, and once that they lack it no more."""
        if problem != self._missing.get(name, ""):
            self._missing[name] = problem
            self._means.note(name, f"adapters: {problem or 'all are loaded'}")

    def act(self) -> None:
        """Starts and drains what `moves` says, as far as the pool's turn allows."""
        turn = None if self.stopping else self.turn
        wanted = 0 if self.stopping else self.wanted
        if self.fleet.spec.pool is not None and not self.stopping:
            wanted = min(wanted, turn.awake) if turn else 0
        sleepers = [k for k in self.keepers.values() if k.life.phase is ReplicaPhase.ASLEEP]
        for keeper in sleepers[turn.asleep if turn else 0 :]:
            keeper.drain("shutting down" if self.stopping else turn.reason if turn else "its pool is gone")
        for move in moves(self._members(), wanted, self.generation, self._surge(wanted)):
            match move:
                case Start() if any(k.generation == self.generation for k in sleepers):
                    self._rouse(next(k for k in sleepers if k.generation == self.generation))
                    return
                case Start():
                    self._start(move)
                case Retire():
                    self._let_go(self.keepers[move.index], move.reason, turn)

    def _members(self) -> list[SeenReplica]:
        """Replicas that are not asleep, as the decision sees them; one that is falling asleep counts as draining."""
        return [
            SeenReplica(
                index=i,
                generation=k.generation,
                phase=ReplicaPhase.DRAINING if k.life.phase is ReplicaPhase.DOZING else k.life.phase,
            )
            for i, k in self.keepers.items()
            if k.life.phase is not ReplicaPhase.ASLEEP
        ]

    def _rouse(self, keeper: Keeper) -> None:
        """Wakes a sleeping replica; where another one uses its GPUs, a new replica takes its place."""
        if self._means.gpus.reclaim(keeper.name):
            keeper.rouse()
        else:
            keeper.drain("its GPUs are taken; another one starts elsewhere")

    def _let_go(self, keeper: Keeper, reason: str, turn: Turn | None) -> None:
        """Puts a replica to sleep where the pool lets it; else it drains and stops."""
        resting = sum(
            k.life.phase in (ReplicaPhase.DOZING, ReplicaPhase.ASLEEP) for k in self.keepers.values()
        )
        fresh = keeper.generation == self.generation
        if turn and resting < turn.asleep and fresh and keeper.life.phase is ReplicaPhase.READY:
            keeper.doze(turn.reason)
        else:
            why = turn.reason if turn and turn.move in ("unload", "sleep") else reason
            keeper.drain("shutting down" if self.stopping else why)

    def pooled(self) -> FleetSeen:
        """This fleet as the decision about its pool sees it."""
        pool = self.fleet.spec.pool
        assert pool is not None
        state = self._means.gateway().fleet(self.name)
        phases = [k.life.phase for k in self.keepers.values()]
        return FleetSeen(
            name=self.name,
            priority=pool.priority,
            cost=cost_of(self.fleet, self.recipe.plan),
            wanted=self.wanted,
            lowest=self.policy.lowest if self.pinned is None else self.pinned,
            holds=sum(p not in (ReplicaPhase.ASLEEP, ReplicaPhase.STOPPED) for p in phases),
            ready=ReplicaPhase.READY in phases,
            demand=float(state.pending if state else 0),
            asleep=phases.count(ReplicaPhase.ASLEEP),
            can_sleep=pool.sleep,
            startup_s=self.care.life.startup_s,
        )

    def _surge(self, wanted: int) -> int:
        """The spec's surge, as far as there are spare GPUs for it; none in a pool, whose room is others' too."""
        if self.fleet.spec.pool is not None:
            return 0
        surge = self.fleet.spec.rollout.max_surge
        if not (each := self.recipe.gpus):
            return surge
        spare = len(self.keepers) + len(self._means.gpus.free()) // each - wanted
        return max(0, min(surge, spare))

    def restart(self) -> int:
        """Begins a rolling restart; the generation that all replicas will have when it is done."""
        self.generation += 1
        self._means.note(self.name, f"rolling restart: generation {self.generation}")
        return self.generation

    def pin(self, count: int | None) -> None:
        """Sets the number of replicas by hand; None gives it back to the autoscaler."""
        self.pinned = count
        if count is not None:
            self.wanted = count
            self.scale_reason = "set by hand"
        self._means.note(
            self.name, "scaled by demand again" if count is None else f"scaled to {count} by hand"
        )

    def settled(self) -> bool:
        """Whether there are as many ready replicas of the wanted generation as wanted, and no other."""
        allowed = self.turn.awake if self.turn else self.wanted
        want = [(self.generation, ReplicaPhase.READY)] * min(self.wanted, allowed)
        return sorted((m.generation, m.phase) for m in self._members()) == want

    def discovered(self) -> list[Replica]:
        """Replicas that are published to the gateway."""
        out = []
        for k in self.keepers.values():
            if k.serving:
                draining = k.life.phase in (ReplicaPhase.DRAINING, ReplicaPhase.DOZING)
                out.append(
                    Replica(
                        name=k.name,
                        fleet=self.name,
                        url=self.service(k).url,
                        ready=not draining,
                        draining=draining,
                        adapters=self.service(k).adapters,
                    )
                )
        return out

    @property
    def coming(self) -> bool:
        """A replica is being started, or will be as soon as its back-off is over; not in a crash loop."""
        starts = (ReplicaPhase.STARTING, ReplicaPhase.PROVING, ReplicaPhase.FAILED)
        lives = [k.life for k in self.keepers.values()]
        return any(life.phase in starts and life.failures <= CRASH_LOOP for life in lives)

    def seen(self) -> scale.DemandSeen:
        """Demand as the autoscaler sees it; not fresh while the gateway does not answer."""
        state = self._means.gateway().fleet(self.name)
        ready = [k for k in self.keepers.values() if k.life.phase is ReplicaPhase.READY]
        loads = [k.load for k in ready if k.load is not None]
        running, waiting = sum(load.running for load in loads), sum(load.waiting for load in loads)
        if self.fleet.spec.gateway.batch is not None:  # engines cannot tell lines of batches from requests
            running, waiting = float(max(0, state.pending - state.queued) if state else 0), 0.0
        return scale.DemandSeen(
            replicas=self.wanted,
            ready=len(ready),
            there=sum(k.life.phase not in HOLDS_NOTHING for k in self.keepers.values()),
            running=running,
            waiting=waiting,
            queued=float(state.queued if state else 0),
            fresh="scaler-hold" in self.care.without or (state is not None and len(loads) == len(ready)),
            kv_usage=max((load.kv_usage for load in loads), default=None),
            kv_used=sum(load.kv_usage for load in loads),
            arrivals_per_s=self._arrivals(state.arrived_total if state else None),
            unix_s=self._means.clock.time(),
        )

    def _arrivals(self, admitted: object) -> float | None:
        """New requests per second since the last look; None: not known, or the gateway began to count anew."""
        now, before = self._means.clock.now(), self._admitted
        if not isinstance(admitted, int):
            self._admitted = None
            return None
        self._admitted = (now, admitted)
        if before is None or now <= before[0] or admitted < before[1]:
            return None
        return (admitted - before[1]) / (now - before[0])

    def _scale(self) -> None:
        now = self._means.clock.now()
        if self.pinned is not None or (now < self._look_at and self.wanted > 0):
            return
        seen = self.seen()
        if not seen.fresh and not self._scale_state:
            return
        decision, self._scale_state = scale.decide(self.policy, seen, self._scale_state, now)
        self._look_at = now + max(1.0, decision.next_look_s)
        self.scale_reason = decision.reason
        if decision.replicas != self.wanted:
            self._means.note(self.name, f"{self.wanted} -> {decision.replicas} replicas: {decision.reason}")
            self.wanted = decision.replicas

    def _start(self, move: Start) -> None:
        free = self._means.free_memory()
        if self.keepers and free < self._need_bytes:
            self._wait(f"about {self._need_bytes >> 20} MiB and {free >> 20} MiB are free")
            return
        name, recipe = f"{self.name}-{move.index}", self.recipe
        if each := recipe.gpus:
            devices = self._means.gpus.take(name, each)
            if devices is None:
                self._wait(f"{each} GPUs and {len(self._means.gpus.free())} are free")
                return
            recipe = replace(recipe, env={**recipe.env, VISIBLE: ",".join(devices)})
        keeper_of: list[Keeper] = []

        def idle() -> bool | None:
            return self._idle(keeper_of[0])

        service = EngineService(recipe, self._means.client, idle, self.care.probe_s, self._means.clock.now)
        service.truth = lambda: self._means.truth(self.fleet)
        keeper = Keeper(
            name, service, self._means.logs / f"{name}.log", self.care,
            spawn=self._means.spawn, clock=self._means.clock, changed=self._changed, generation=self.generation,
        )  # fmt: skip
        keeper_of.append(keeper)
        self.keepers[move.index] = keeper
        self._means.note(name, f"starting: {move.reason}")
        self._means.launch(keeper)

    def _wait(self, needs: str) -> None:
        """Says what one more replica needs and does not get, but not at every tick."""
        if (now := self._means.clock.now()) - self._short_at >= SHORT_S:
            self._short_at = now
            self._means.note(self.name, f"one more replica needs {needs}; waiting")

    def _idle(self, keeper: Keeper) -> bool | None:
        """The gateway has evicted it and nothing is in flight to it, or the gateway has ended before it."""
        if self.stopping:
            return True
        seen = self._means.gateway().replica(keeper.name, self.service(keeper).url)
        return None if seen is None else seen.state == "draining" and seen.in_flight == 0

    def _changed(self, keeper: Keeper, why: str) -> None:
        if keeper.life.phase is ReplicaPhase.ASLEEP:
            self._means.gpus.lend(keeper.name)
        self._means.publish()
        self._means.note(keeper.name, f"{keeper.life.phase}: {why}")


def care_of(fleet: Fleet, base: Care) -> Care:
    """How this fleet's processes are kept: its own drain, notice and limits over the local defaults."""
    from seawall.drivers.process import ProcessLimits

    spec = fleet.spec
    return replace(
        base,
        notice_s=spec.rollout.pre_stop,
        drain_s=spec.rollout.drain + 10,
        limits=ProcessLimits(memory_bytes=spec.hardware.memory, cpu_cores=spec.hardware.cpu),
    )

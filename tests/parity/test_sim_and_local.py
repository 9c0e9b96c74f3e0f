"""What the simulator says is what the local mode does: one trace through both gives one decision log.

The simulator runs a fleet through a step of load and records what its scaler saw at every look. The local mode's
runner is then shown the same demand, second by second under a clock that jumps, and must note the same changes
at the same times for the same reasons. (The runner is the real one; its processes are never started.)
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seawall.config.load import load_fleet
from seawall.decide.replica import LifeEvent, ReplicaPhase
from seawall.decide.scale import DemandSeen
from seawall.domain.action import Plan, ScaleDecision, StartupBudget, Timing
from seawall.domain.spec import Fleet, FleetSpec, Gateway, Hardware, Metadata, Model, Scaling, ScheduleWindow
from seawall.domain.told import FleetState
from seawall.engines.vllm.load import EngineLoad
from seawall.local.fleet import FleetRunner, RunnerMeans
from seawall.local.gpus import Gpus
from seawall.local.keeper import Care
from seawall.local.launch import ReplicaRecipe
from seawall.local.prepare import planned
from seawall.sim.scaler import FleetScaler, Scaler
from seawall.sim.setup import setup_of
from seawall.sim.world import World
from seawall.testing.clock import EPOCH, JumpClock
from seawall.workload.arrivals import parse_rate, synthetic

EXAMPLE = Path(__file__).parents[2] / "examples" / "smollm2.yaml"
TIMING = Timing(base_s=0.02, prefill_token_s=1e-4, decode_seq_s=1e-4, weight_read_s=0.01, kv_token_s=0)
PLAN = Plan(
    fleet="f",
    model="m",
    fits=True,
    reason="",
    gpu="cpu",
    gpus_per_replica=1,
    tensor_parallel=1,
    kv_cache_tokens=100_000,
    max_num_seqs=32,
    timing=TIMING,
    startup=StartupBudget(image_s=0, weights_s=5, load_s=25, total_s=45),
    saturating_concurrency=10,
    scaling_target=7.0,
)


Log = list[tuple[float, str]]
"""(time, which change and why)"""


@dataclass
class Recorder:
    """Stands between the simulation and its scaler, and writes down what passes."""

    inner: Scaler
    seen: list[tuple[float, DemandSeen]] = field(default_factory=list)

    def look(self, seen: DemandSeen, now: float) -> ScaleDecision:
        self.seen.append((now, seen))
        return self.inner.look(seen, now)


class ToldGateway:
    """The gateway's state document, with the queue that the simulation saw last."""

    def __init__(self, clock: JumpClock, seen: list[tuple[float, DemandSeen]]) -> None:
        self.clock, self.seen_at = clock, seen

    def seen(self) -> DemandSeen:
        past = (s for t, s in reversed(self.seen_at) if t <= self.clock.t + 1e-9)
        return next(past, DemandSeen(replicas=0))

    def fleet(self, name: str) -> FleetState:
        return FleetState(queued=round(self.seen().queued))

    def replica(self, name: str, url: str) -> None:
        return None


def fleet(scaling: Scaling) -> Fleet:
    return Fleet(
        metadata=Metadata(name="f"),
        spec=FleetSpec(
            model=Model(source="hf://a/b"),
            hardware=Hardware(gpu="cpu", cloud="local"),
            gateway=Gateway(max_queued=100_000, queue_timeout=3600),
            scaling=scaling,
        ),
    )


def simulated(wanted: Fleet, rate: str, made: Plan = PLAN) -> tuple[Log, list[tuple[float, DemandSeen]]]:
    world = World(
        setup_of(wanted, made, recipe="keda", begins_s=EPOCH),
        synthetic(parse_rate(rate), np.random.default_rng(1), 200, 100),
    )
    recorder = Recorder(world.scaler)
    world.scaler = recorder
    found = world.run()
    assert found.counts.lost == 0
    return [(t, text) for t, text in found.log if " replicas: " in text], recorder.seen


def show(runner: FleetRunner, seen: DemandSeen) -> None:
    """Every started replica serves at once, every drained one is gone, and together they show the engines' load."""
    for keeper in runner.keepers.values():
        if keeper.life.phase is ReplicaPhase.STARTING:
            for event in (LifeEvent.LISTENS, LifeEvent.PROVED):
                keeper._happen(event, "so the story says")
        if keeper._drain_why is not None and keeper.life.phase is ReplicaPhase.READY:
            for event in (LifeEvent.DRAIN, LifeEvent.EXITED):
                keeper._happen(event, "so the story says")
    ready = [k for k in runner.keepers.values() if k.life.phase is ReplicaPhase.READY]
    for keeper in ready:
        share = len(ready)
        keeper.load = EngineLoad(
            running=seen.running / share, waiting=seen.waiting / share, kv_usage=(seen.kv_used or 0.0) / share
        )


def played(wanted: Fleet, seen: list[tuple[float, DemandSeen]], tmp_path: Path) -> Log:
    clock, notes = JumpClock(), []
    told: Any = ToldGateway(clock, seen)
    unused: Any = None  # no process is ever started
    means = RunnerMeans(
        client=unused,
        gateway=lambda: told,
        spawn=unused,
        clock=clock,
        logs=tmp_path,
        note=lambda subject, text: notes.append((clock.t, subject, text)),
        free_memory=lambda: 1 << 60,
        launch=lambda keeper: None,
        publish=lambda: None,
        gpus=Gpus(()),
    )
    runner = FleetRunner(
        ReplicaRecipe(fleet=wanted, engine="sim", program=("none",), model="m", env={}, plan=PLAN),
        Care(),
        means,
        1,
    )
    for second in range(int(seen[-1][0]) + 1):
        clock.t = float(second)
        show(runner, told.seen())
        runner.tick()
    return [(t, text) for t, subject, text in notes if subject == "f" and " replicas: " in text]


def test_the_default_target_is_the_plans_in_the_local_mode_and_the_simulator() -> None:
    wanted = load_fleet(EXAMPLE)
    wanted = replace(wanted, spec=replace(wanted.spec, scaling=replace(wanted.spec.scaling, target=None)))
    made = planned(wanted)
    assert made is not None, "the example's model is in the catalogue"
    simulated_by = FleetScaler(setup_of(wanted, made, recipe="keda")).policy
    recipe = ReplicaRecipe(fleet=wanted, engine="sim", program=("none",), model="m", env={}, plan=made)
    idle: Any = None
    assert FleetRunner(recipe, Care(), idle, 1).policy == simulated_by
    assert simulated_by.target == made.scaling_target


@pytest.mark.parametrize(
    ("scaling", "rate"),
    [
        (Scaling(min=1, max=8, target=6), "1/s for 3m, 12/s for 6m, 1/s for 20m"),
        (Scaling(min=1, max=8), "1/s for 3m, 12/s for 6m, 1/s for 20m"),
        (
            # The story begins at 14:13; the window opens at 14:20.
            Scaling(
                min=1,
                max=8,
                target=6,
                down_window=60,
                gpu_hours_per_day=12.0,
                schedule=[ScheduleWindow(start="20 14 * * *", end="30 14 * * *", min=3, max=4)],
            ),
            "1/s for 3m, 12/s for 12m, 1/s for 10m",
        ),
        (
            Scaling(min=2, max=4, target=10, down_window=60),
            "2/s to 30/s for 5m, 30/s to 2/s for 5m, 2/s for 5m",
        ),
    ],
)
def test_one_trace_gives_one_decision_log(scaling: Scaling, rate: str, tmp_path: Path) -> None:
    wanted = fleet(scaling)
    decided, seen = simulated(wanted, rate)
    assert len(decided) >= 3, "the trace must move the fleet up and down"
    assert played(wanted, seen, tmp_path) == decided


@pytest.mark.parametrize(
    ("made", "in_flight", "reason"),
    [
        (PLAN, 500, "wait inside engines, guard 2"),
        (replace(PLAN, kv_cache_tokens=8_000, max_num_seqs=64), 26, "of the KV cache in use, guard 80%"),
    ],
    ids=["waiting", "kv-cache"],
)
def test_the_guards_speak_alike_where_the_target_is_wrong(
    made: Plan, in_flight: int, reason: str, tmp_path: Path
) -> None:
    """A target that no traffic reaches: only the guards, which a cluster has, too, see the overload."""
    wanted = fleet(Scaling(min=1, max=8, target=100_000))
    gateway = replace(wanted.spec.gateway, max_in_flight=in_flight)
    wanted = replace(wanted, spec=replace(wanted.spec, gateway=gateway))
    decided, seen = simulated(wanted, "1/s for 3m, 30/s for 6m, 1/s for 20m", made)
    assert any(reason in text for _, text in decided), decided
    assert played(wanted, seen, tmp_path) == decided

"""What a batch asks of scalers: nothing while it lives on what others leave, and its lines that wait or run once its
deadline needs them. In requests, like everything else that is demand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seawall.decide.replica import ReplicaPhase
from seawall.domain.spec import BatchSpec, Fleet, FleetSpec, Gateway, Hardware, Metadata, Model, Scaling
from seawall.domain.told import FleetState, GatewayState, merged
from seawall.engines.vllm.load import EngineLoad
from seawall.local.fleet import FleetRunner, RunnerMeans
from seawall.local.gpus import Gpus
from seawall.local.keeper import Care
from seawall.local.launch import ReplicaRecipe
from seawall.testing.clock import JumpClock

FULL = EngineLoad(running=31, waiting=2, kv_usage=0.97)
"""An engine that is full of lines."""


class Telling:
    """A gateway that tells this of its fleet."""

    def __init__(self, state: FleetState) -> None:
        self.state = state

    def fleet(self, name: str) -> FleetState:
        return self.state

    def replica(self, name: str, url: str) -> None:
        return None


def runner(told: FleetState, tmp_path: Path, lane: bool = True) -> FleetRunner:
    """A fleet of one replica that serves, as `seawall up` keeps it."""
    spec = FleetSpec(
        model=Model(source="hf://a/b"),
        hardware=Hardware(gpu="cpu", cloud="local"),
        gateway=Gateway(batch=BatchSpec() if lane else None),
        scaling=Scaling(min=1, max=8, target=16),
    )
    unused: Any = None
    gateway: Any = Telling(told)
    means = RunnerMeans(
        client=unused, gateway=lambda: gateway, spawn=unused, clock=JumpClock(), logs=tmp_path,
        note=lambda subject, text: None, free_memory=lambda: 1 << 60, launch=lambda keeper: None,
        publish=lambda: None, gpus=Gpus(()),
    )  # fmt: skip
    made = Fleet(metadata=Metadata(name="f"), spec=spec)
    recipe = ReplicaRecipe(fleet=made, engine="sim", program=("none",), model="m", env={})
    found = FleetRunner(recipe, Care(), means, 1)
    for _ in range(3):
        found.tick()
    for keeper in found.keepers.values():
        keeper.life = replace(keeper.life, phase=ReplicaPhase.READY)
        keeper.load = FULL
    assert found.keepers
    return found


@pytest.mark.parametrize(
    ("told", "demand"),
    [
        (FleetState(in_flight=31, spare=31), 0),
        (FleetState(in_flight=31, spare=28, pending=5, queued=2), 5),
        (FleetState(in_flight=31, pending=35, queued=4, queued_due=4), 35),
    ],
)
def test_up_scales_by_requests_and_by_lines_in_need(told: FleetState, demand: int, tmp_path: Path) -> None:
    found = runner(told, tmp_path)
    assert found.seen().demand == demand
    assert not found.policy.guards, "queues and caches of engines are full of lines"


def test_up_without_a_lane_scales_by_what_engines_say(tmp_path: Path) -> None:
    found = runner(FleetState(in_flight=31, queued=3), tmp_path, lane=False)
    assert found.seen().demand == 31 + 2 + 3 and found.policy.guards


def test_lines_on_what_is_left_do_not_arrive() -> None:
    """A forecast of what is to come is made of what came."""
    one = FleetState(admitted_total=1000, spare_total=900)
    two = FleetState(admitted_total=50)
    both = merged([GatewayState(fleets={"f": one}), GatewayState(fleets={"f": two})])
    assert both.fleets["f"].arrived_total == 150

"""Each replica its own devices, and what happens when they run out."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.local.fakes import JumpClock

from seawall.config.load import load_fleet
from seawall.decide.replica import LifeEvent, ReplicaPhase
from seawall.domain.spec import Fleet, RolloutSpec, Scaling
from seawall.errors import EngineError
from seawall.local import gpus
from seawall.local.fleet import FleetRunner, RunnerMeans
from seawall.local.gpus import Gpus
from seawall.local.keeper import Care, Keeper
from seawall.local.launch import ReplicaRecipe, sim_recipe, vllm_recipe
from seawall.local.prepare import check_gpus


class NoGateway:
    def fleet(self, name: str) -> None:
        return None


def fleet(replicas: int, surge: int = 1) -> Fleet:
    base = load_fleet("examples/llama-70b-4xh100.yaml")
    spec = replace(base.spec, scaling=Scaling(min=replicas, max=8), rollout=RolloutSpec(max_surge=surge))
    return replace(base, spec=spec)


class Stage:
    """A fleet on a machine of `devices`; keepers are started but never run: the story moves their phases."""

    def __init__(self, wanted: Fleet, devices: str, tmp_path: Path) -> None:
        self.clock, self.said = JumpClock(), []
        self.gpus = Gpus(tuple(devices))
        means: Any = RunnerMeans(
            client=None,  # type: ignore[arg-type]  # no process is ever started
            gateway=lambda: NoGateway(),  # type: ignore[arg-type,return-value]
            spawn=None,  # type: ignore[arg-type]
            clock=self.clock,
            logs=tmp_path,
            note=lambda subject, text: self.said.append(text),
            free_memory=lambda: 1 << 60,
            launch=lambda keeper: None,
            publish=lambda: None,
            gpus=self.gpus,
        )
        recipe = ReplicaRecipe(
            fleet=wanted, engine="vllm", program=("none",), model="m", env={"A": "b"}, gpus=2
        )
        self.runner = FleetRunner(recipe, Care(), means, 1)

    def tick(self) -> dict[str, str]:
        """The devices of every replica that lives after one more look."""
        self.clock.t += 1.0
        self.runner.tick()
        return {k.name[-1]: self.devices(k) for k in self.runner.keepers.values()}

    def devices(self, keeper: Keeper) -> str:
        recipe = self.runner.service(keeper).recipe
        assert recipe.env["A"] == "b"
        return recipe.env[gpus.VISIBLE]

    def all(self, *events: LifeEvent) -> None:
        for keeper in self.runner.keepers.values():
            for event in events:
                keeper._happen(event, "so the story says")

    def drained(self) -> list[str]:
        """Those that were told to go have gone."""
        gone = [k for k in self.runner.keepers.values() if k._drain_why is not None]
        for keeper in gone:
            keeper._happen(LifeEvent.DRAIN, "told to")
            keeper._happen(LifeEvent.EXITED, "gone")
            assert keeper.life.phase is ReplicaPhase.STOPPED
        return [k.name[-1] for k in gone]


def test_two_replicas_share_no_device(tmp_path: Path) -> None:
    assert Stage(fleet(2), "0123", tmp_path).tick() == {"0": "0,1", "1": "2,3"}


def test_one_too_many_waits_and_says_what_for(tmp_path: Path) -> None:
    stage = Stage(fleet(3), "01234", tmp_path)
    assert stage.tick() == {"0": "0,1", "1": "2,3"}
    assert stage.tick() == {"0": "0,1", "1": "2,3"}
    assert stage.said.count("one more replica needs 2 GPUs and 1 are free; waiting") == 1


def test_a_rollout_with_a_spare_starts_the_heir_first(tmp_path: Path) -> None:
    stage = Stage(fleet(1), "0123", tmp_path)
    stage.tick()
    stage.all(LifeEvent.LISTENS, LifeEvent.PROVED)
    stage.runner.restart()
    assert stage.tick() == {"0": "0,1", "1": "2,3"}
    assert stage.drained() == []


def test_a_rollout_without_a_spare_lets_one_go_first_and_arrives(tmp_path: Path) -> None:
    stage = Stage(fleet(2), "0123", tmp_path)
    stage.tick()
    stage.all(LifeEvent.LISTENS, LifeEvent.PROVED)
    generation = stage.runner.restart()
    for leaver in "01":
        stage.tick()
        assert stage.drained() == [leaver]
        assert stage.tick() == {"0": "0,1", "1": "2,3"}, "the heir has the leaver's devices"
        heir = stage.runner.keepers[int(leaver)]
        assert heir.generation == generation
        stage.tick()
        assert stage.drained() == [], "nobody else leaves before the heir serves"
        for event in (LifeEvent.LISTENS, LifeEvent.PROVED):
            heir._happen(event, "so the story says")
    stage.tick()
    assert stage.drained() == []
    assert stage.runner.settled()


def test_the_spec_may_give_devices_itself() -> None:
    base = fleet(1)
    assert gpus.wanted(base) == 4
    own = replace(base.spec, engine=replace(base.spec.engine, env={"CUDA_VISIBLE_DEVICES": "5"}))
    assert gpus.wanted(replace(base, spec=own)) == 0
    assert gpus.wanted(load_fleet("examples/smollm2.yaml")) == 0
    assert sim_recipe(base).gpus == 0
    assert vllm_recipe(base, Path("/v/vllm"), Path("/m"), Path("/c")).gpus == 4


def test_what_is_visible(tmp_path: Path) -> None:
    assert gpus.visible({"CUDA_VISIBLE_DEVICES": "GPU-a, GPU-b"}) == ("GPU-a", "GPU-b")
    assert gpus.visible({"CUDA_VISIBLE_DEVICES": "2,-1,3"}) == ("2",), "as CUDA reads it"
    assert gpus.visible({"CUDA_VISIBLE_DEVICES": ""}) == ()
    assert gpus.visible({"PATH": str(tmp_path)}) == ()
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf 'GPU-1\\nGPU-2\\n'\n")
    tool.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    assert gpus.visible({"PATH": path}) == ("GPU-1", "GPU-2")


def test_too_few_gpus_are_refused_before_anything_starts() -> None:
    recipe = vllm_recipe(fleet(2), Path("/v/vllm"), Path("/m"), Path("/c"))
    with pytest.raises(EngineError, match="need 8 GPUs, and 4 are visible"):
        check_gpus([recipe], lambda: tuple("0123"))
    assert check_gpus([recipe], lambda: tuple("01234567")) == tuple("01234567")
    assert check_gpus([sim_recipe(fleet(2))], lambda: pytest.fail("not asked")) == ()


def test_a_sleeper_lends_its_gpus_and_wakes_only_on_the_same_ones() -> None:
    ledger = Gpus(("a", "b"))
    assert ledger.take("one", 1) == ("a",)
    ledger.lend("one")
    assert ledger.take("two", 2) == ("a", "b")
    assert not ledger.reclaim("one")
    ledger.give_back("two")
    assert ledger.reclaim("one")
    assert ledger.free() == ("b",)

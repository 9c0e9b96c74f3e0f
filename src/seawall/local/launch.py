"""The program, the folder and the devices that a replica is started with on this machine.

The flags are `engines/vllm/command.py`'s, as in a Pod. The simulated engine takes the same, so a fleet that starts
under `--engine sim` starts with the flags that real vLLM will see. Forbidden here: a flag, and a number of the plan's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from seawall.decide.plan.limits import EngineLimits, limits_of
from seawall.domain.action import Plan
from seawall.domain.spec import Fleet
from seawall.engines.vllm import environment
from seawall.engines.vllm.command import EnginePlace, serve_command
from seawall.local import gpus
from seawall.local.keeper import base_env

HOST = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class ReplicaRecipe:
    """Everything a replica of one fleet is started with, but its port."""

    fleet: Fleet
    engine: str
    """`vllm` or `sim`."""
    program: tuple[str, ...]
    """The words of the command before the model."""
    model: str
    """The folder of the weights; for the simulated engine a name."""
    env: Mapping[str, str]
    """This machine's part of the environment."""
    plan: Plan | None = None
    """The plan that it is started and scaled by; None: the model's shape is not known, and the spec alone decides."""
    ready_s: int | None = None
    """The start-up budget, seconds."""
    gpus: int = 0
    """Devices that each replica is to be given."""
    cores: int = 1
    """CPU cores that each replica computes with."""
    adapters: Mapping[str, str] = field(default_factory=dict)
    """LoRA adapter -> folder."""
    lora_rank: int = 0
    """The largest rank among the adapters; 0: not known."""
    stacks: str = ""
    """A folder for the stacks of a replica that stands still."""

    def command(self, port: int) -> tuple[list[str], dict[str, str]]:
        """argv and environment of a replica on `port`."""
        place = EnginePlace(
            program=self.program,
            model=self.model,
            host=HOST,
            port=port,
            ready_s=self.ready_s,
            adapters=self.adapters,
            lora_rank=self.lora_rank,
            cores=self.cores,
            env=self.env,
            stacks=self.stacks,
        )
        made = serve_command(self.fleet, self.plan, place)
        return made.argv, dict(made.env)

    @property
    def limits(self) -> EngineLimits:
        """The numbers that it is started with."""
        return limits_of(self.fleet, self.plan)

    @property
    def loads(self) -> bool:
        """Adapters are loaded while it runs, not by its command line."""
        return self.fleet.spec.model.adapter_slots is not None


def sim_recipe(fleet: Fleet) -> ReplicaRecipe:
    """The simulated engine, of this same Python. It takes any folder for an adapter."""
    engine = replace(fleet.spec.engine, kind="sim")
    return ReplicaRecipe(
        fleet=replace(fleet, spec=replace(fleet.spec, engine=engine)),
        engine="sim",
        program=(sys.executable, "-m", "seawall", "engine", "sim"),
        model=fleet.name,
        env=base_env(),
        adapters={a.name: a.source for a in fleet.spec.model.adapters},
    )


def vllm_recipe(fleet: Fleet, vllm: Path, model: Path, cache: Path) -> ReplicaRecipe:
    """Real vLLM, from its own environment."""
    env = base_env() | {
        "PATH": f"{vllm.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        environment.CACHE_ROOT: str(cache / "vllm"),
        "TOKENIZERS_PARALLELISM": "false",
    }
    if is_cpu(fleet):
        # A legacy variable that would override --kv-cache-memory-bytes.
        env.pop(environment.CPU_CACHE_GIB, None)
    for name in [n for n in env if n.startswith(environment.PORT)]:
        del env[name]
    return ReplicaRecipe(
        fleet=fleet,
        engine="vllm",
        program=(str(vllm), "serve"),
        model=str(model),
        env=env,
        gpus=gpus.wanted(fleet),
        cores=threads(fleet, os.cpu_count() or 1),
        stacks=str(cache / "stacks"),
    )


def is_cpu(fleet: Fleet) -> bool:
    return fleet.spec.hardware.gpu.lower() == "cpu"


def threads(fleet: Fleet, cores: int) -> int:
    """OpenMP threads of one replica: the spec's CPU share, else the cores divided by the most replicas."""
    if fleet.spec.hardware.cpu:
        return max(1, round(fleet.spec.hardware.cpu))
    return max(1, cores // fleet.spec.scaling.max)

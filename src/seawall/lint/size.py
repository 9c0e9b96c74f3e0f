"""How big a served model is and how long it takes to load, from the planner's catalogue. Estimates only, no rule.

The models themselves come through `World.models`, a function that the command line passes in; without it
nothing is estimated.
"""

from __future__ import annotations

from dataclasses import dataclass

from seawall.decide.plan.weights import weigh
from seawall.domain.catalog.storage import weights_bandwidth
from seawall.domain.model import ModelConfig
from seawall.domain.units import show_seconds
from seawall.lint.world import Container, Workload, World

LOAD_S = 30.0
"""Reading into the GPU, compiling, capturing graphs: the least that a large model takes."""
OPTIMISTIC = 1.2e9
"""Bytes per second when nothing is known of the source: a fast network volume."""
SMALL = 4 * 2**30
"""Below this size start-up time is mostly imports, and no estimate is better than the author's."""


@dataclass(frozen=True)
class Load:
    """The estimated least time to load, with what it is made of."""

    weights_bytes: int
    bandwidth: float
    source: str
    total_s: float


def model_of(world: World, engine: Container) -> ModelConfig | None:
    """The planner's shape of the model that a container serves, quantization flag taken in; None when unknown."""
    name = engine.model
    return world.models(name, engine.command.value("--quantization")) if name else None


def weights_bytes(world: World, engine: Container) -> int | None:
    """Bytes of all weight files; None for a model that the catalogue does not know."""
    key = f"weights {engine.model} {engine.command.value('--quantization')}"
    if key not in world.cache:
        model = model_of(world, engine)
        world.cache[key] = None if model is None else model.checkpoint_bytes or weigh(model).total
    found: int | None = world.cache[key]
    return found


def load_s(world: World, workload: Workload, engine: Container) -> Load | None:
    """The least time that loading takes, from the claim that holds the weights; None for unknown or small models."""
    size = weights_bytes(world, engine)
    if size is None or size < SMALL:
        return None
    rate, source = OPTIMISTIC, "a fast volume"
    for claim, _, _ in world.claims_of(workload):
        name = claim.spec["storageClassName"].text()
        if name:
            known, source = weights_bandwidth("pvc", name)
            rate = float(known)
            if source.startswith("unknown"):
                rate, source = OPTIMISTIC, "a fast volume"
    return Load(size, rate, source, size / rate + LOAD_S)


def show_load(load: Load) -> str:
    """`141 GB of weights at 25 MB/s (storage class standard) take 1 h 33 min`."""
    gb, mb = load.weights_bytes / 1e9, load.bandwidth / 1e6
    return (
        f"{gb:.0f} GB of weights at {mb:,.0f} MB/s ({load.source}) take {show_seconds(load.total_s)} to load"
    )

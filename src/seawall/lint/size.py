"""How big a served model is and how long it takes to load, from the planner's catalogue. Estimates only, no rule.

The models themselves come through `World.models`, a function that the command line passes in; without it
nothing is estimated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from seawall.decide.plan.startup import gpu_load_s
from seawall.decide.plan.weights import weigh
from seawall.domain.catalog.storage import weights_bandwidth
from seawall.domain.model import ModelConfig
from seawall.domain.units import show_seconds
from seawall.lint.objects import Container, Workload
from seawall.lint.world import Manifests

FLOOR_S = 20.0
"""Imports, reading into the GPU, capturing graphs at their fastest; what is usual is the planner's."""
USUAL, FASTEST = 1.2e9, 5e9
"""Bytes per second of a volume of which nothing is known: a fast network volume; a local NVMe."""
DOWNLOAD, DOWNLOAD_FASTEST = 0.3e9, 1.25e9
"""Bytes per second from the hub: what people see; a 10 Gbit/s network at its limit."""
SMALL = 4 * 2**30
"""Below this size start-up time is mostly imports, and no estimate is better than the author's."""


@dataclass(frozen=True)
class Load:
    """How long a replica takes from its start to its first answer: what is usual, and the fastest possible."""

    weights_bytes: int
    bandwidth: float
    source: str
    total_s: float
    floor_s: float
    download: bool = False
    """The weights come from the hub first, at least at the first start."""

    @property
    def prudent_s(self) -> float:
        """Time to allow for: half as much again for a download, whose speed is the least sure of all."""
        return self.total_s * (1.5 if self.download else 1.0)


def model_of(world: Manifests, engine: Container) -> ModelConfig | None:
    """The planner's shape of the model that a container serves, quantization flag taken in; None when unknown."""
    name = engine.model
    return world.models(name, engine.command.value("--quantization")) if name else None


def weights_bytes(world: Manifests, engine: Container) -> int | None:
    """Bytes of all weight files; None for a model that the catalogue does not know."""
    key = f"weights {engine.model} {engine.command.value('--quantization')}"
    if key not in world.cache:
        model = model_of(world, engine)
        world.cache[key] = None if model is None else model.checkpoint_bytes or weigh(model).total
    found: int | None = world.cache[key]
    return found


def load_s(world: Manifests, workload: Workload, engine: Container) -> Load | None:
    """How long loading takes, the first download included where there is one; None for unknown or small models."""
    size = weights_bytes(world, engine)
    if size is None or size < SMALL:
        return None
    rate, fastest, source = USUAL, FASTEST, "a fast volume"
    for claim, _, _ in world.claims_of(workload):
        name = claim.spec["storageClassName"].text()
        if name:
            known, said = weights_bandwidth("pvc", name)
            if not said.startswith("unknown"):
                rate, fastest, source = float(known), 1.3 * known, said
    ranks = engine.tensor_parallel * (engine.command.integer("--pipeline-parallel-size") or 1)
    total = size / rate + gpu_load_s(size, engine.command.on("--enforce-eager"), ranks)
    floor = size / fastest + FLOOR_S
    if downloads(engine):
        slow = (
            source != "a fast volume" and rate < DOWNLOAD
        )  # the volume, not the network, holds the download up
        total += 0.0 if slow else size / DOWNLOAD
        return Load(size, rate, source, total, floor + size / DOWNLOAD_FASTEST, download=True)
    return Load(size, rate, source, total, floor)


def downloads(engine: Container) -> bool:
    """True when the model is a hub id that the engine fetches itself when it is not in its cache."""
    model = engine.model or ""
    offline = (engine.env_value("HF_HUB_OFFLINE") or "").lower() in ("1", "true", "yes", "on")
    streams = (engine.command.value("--load-format") or "").startswith(("runai", "tensorizer"))
    return bool(re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", model)) and not offline and not streams


def show_load(load: Load) -> str:
    """`141 GB of weights at 25 MB/s (storage class standard) take 1 h 33 min to load`."""
    gb, mb = load.weights_bytes / 1e9, load.bandwidth / 1e6
    took = show_seconds(load.total_s)
    if load.download and load.bandwidth > DOWNLOAD:
        return (
            f"{gb:.0f} GB of weights, downloaded from the hub at the first start, take about {took} to load"
        )
    return f"{gb:.0f} GB of weights at {mb:,.0f} MB/s ({load.source}) take about {took} to load"

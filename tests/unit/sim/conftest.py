"""A small fleet with a plan whose numbers are easy to reckon with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from seawall.domain.action import Plan, StartupBudget, Timing
from seawall.domain.spec import Fleet, FleetSpec, Hardware, Metadata, Model, Scaling, Traffic
from seawall.sim.setup import Setup, setup_of
from seawall.workload.arrivals import Requests, parse_rate, synthetic

TIMING = Timing(base_s=0.004, prefill_token_s=4e-5, decode_seq_s=3e-5, weight_read_s=0.012, kv_token_s=3e-8)
PLAN = Plan(
    fleet="f",
    model="m",
    fits=True,
    reason="",
    gpu="H100-80GB",
    gpus_per_replica=2,
    tensor_parallel=2,
    kv_cache_tokens=400_000,
    max_num_seqs=256,
    max_num_batched_tokens=8192,
    saturating_concurrency=128,
    scaling_target=90.0,
    usd_per_hour=6.0,
    timing=TIMING,
    startup=StartupBudget(image_s=60, weights_s=40, load_s=30, total_s=200),
)


def fleet_of(scaling: Scaling, **spec: Any) -> Fleet:
    parts: dict[str, Any] = {"hardware": Hardware(gpu="H100-80GB"), "traffic": Traffic(), **spec}
    return Fleet(
        metadata=Metadata(name="f"),
        spec=FleetSpec(model=Model(source="hf://a/b"), scaling=scaling, **parts),
    )


@pytest.fixture
def plan() -> Plan:
    return PLAN


@pytest.fixture
def load() -> Callable[..., Requests]:
    def drawn(
        rate: str, prompt: float = 512, output: float = 128, seed: int = 1, spread: float = 1.0
    ) -> Requests:
        return synthetic(parse_rate(rate), np.random.default_rng(seed), prompt, output, spread=spread)

    return drawn


@pytest.fixture
def make() -> Callable[..., Setup]:
    def build(
        scaling: Scaling | None = None,
        plan: Plan = PLAN,
        spec: dict[str, Any] | None = None,
        setup: dict[str, Any] | None = None,
        **more: Any,
    ) -> Setup:
        fleet = fleet_of(scaling or Scaling(min=2, max=10), **(spec or {}))
        made = setup_of(fleet, plan, **more)
        return replace(made, **setup) if setup else made

    return build

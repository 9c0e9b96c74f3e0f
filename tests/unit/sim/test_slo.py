"""The SLO policy ships because it beats the HPA at equal GPU-hours on these four shapes of traffic: the proof.

Equal means in sum: a policy is chosen once, before one knows the traffic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from seawall.decide.scale import slo
from seawall.domain.action import Plan, StartupBudget
from seawall.domain.spec import Hardware, Scaling
from seawall.sim.setup import Setup
from seawall.sim.world import simulate
from seawall.workload.arrivals import parse_rate, synthetic

SHAPES = {
    "step": ("1/s for 10m, 6/s for 20m, 1/s for 15m", 1.0),
    "diurnal": ("4/s +-3.5/s every 40m for 80m", 1.0),
    "bursty": ("3/s for 40m", 4.0),
    "ramp": ("1/s to 8/s for 20m, 8/s to 1/s for 20m", 1.0),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "seeds"), [(None, (3, 4, 5)), (11.0, (3, 4))], ids=["each its own target", "one target"]
)
def test_it_serves_more_requests_well_for_no_more_gpu_hours(
    make: Callable[..., Setup], plan: Plan, target: float | None, seeds: tuple[int, ...]
) -> None:
    small = replace(
        plan,
        max_num_seqs=16,
        saturating_concurrency=16,
        scaling_target=11.0,
        startup=StartupBudget(image_s=60, weights_s=60, load_s=60, total_s=270),
    )
    scaling = Scaling(min=1, max=20, by="keda-gateway", target=target)
    spec = {"hardware": Hardware(gpu="H100-80GB", cloud="karpenter")}
    hours, bad = {"keda": 0.0, "slo": 0.0}, {"keda": 0, "slo": 0}
    for rate, burst in SHAPES.values():
        for seed in seeds:
            work = synthetic(parse_rate(rate), np.random.default_rng(seed), 512, 200, burst)
            for recipe in hours:
                found = simulate(make(scaling, plan=small, spec=spec, recipe=recipe, initial=2), work)
                hours[recipe] += found.gpu_hours
                bad[recipe] += len(work) - int(found.good().sum())
    assert hours["slo"] <= hours["keda"]
    assert bad["slo"] < bad["keda"]


def looks(loads: list[slo.FleetLoad], target: float = 10, startup_s: float = 120) -> list[slo.Sized]:
    state, found = slo.SloState(), []
    for i, load in enumerate(loads):
        asked, state = slo.wanted(load, target, startup_s, state, 15.0 * i)
        found.append(asked)
    return found


def test_a_backlog_is_not_taken_for_demand() -> None:
    """1,000 waiting ask the HPA for 100 replicas; what drains them within a start-up is far less."""
    calm = [slo.FleetLoad(2, 20, 0, 5.0, 0.3)] * 20
    flood = [slo.FleetLoad(2, 20, 1000, 5.0, 0.3)]
    asked = looks(calm + flood)[-1]
    assert 2 < asked.replicas < 10
    assert "1000 waiting" in asked.reason


def test_a_ramp_is_met_before_it_arrives() -> None:
    rates = [5.0 + 0.5 * i for i in range(20)]
    ramp = looks([slo.FleetLoad(3, 4 * r, 0, r, 0.3) for r in rates])[-1]
    assert ramp.replicas > rates[-1] * 4 / 10


def test_a_full_cache_asks_for_one_more() -> None:
    assert looks([slo.FleetLoad(3, 20, 0, 5.0, 0.99)])[-1].replicas == 4


def test_before_anything_is_known_it_counts_requests_as_the_hpa_does() -> None:
    assert looks([slo.FleetLoad(1, 10, 40, 0.0, 0.3)])[-1].replicas == 5

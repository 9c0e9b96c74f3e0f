"""The SLO policy ships because, where traffic jumps, it serves more requests well for fewer GPU-hours.

`bench/scaling.py` is the long form, with intervals; these are one short day of each kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from seawall.config.load import parse_fleets
from seawall.decide.plan import plan as planned
from seawall.decide.scale import policy_of, slo
from seawall.domain.action import Plan, StartupBudget
from seawall.domain.spec import Scaling, Slo, Traffic
from seawall.shapes.config import resolve
from seawall.sim.outcome import Outcome
from seawall.sim.setup import Setup, setup_of
from seawall.sim.world import simulate
from seawall.workload.arrivals import parse_rate, synthetic

FLEET = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: chat, namespace: llm}
spec:
  model: {source: hf://meta-llama/Llama-3.1-70B-Instruct, revision: main, quantization: fp8}
  hardware: {gpu: H200, gpusPerReplica: 1, cloud: gke}
  traffic: {promptTokens: 900, outputTokens: 200, maxContext: 16k}
  scaling: {min: 1, max: 60, policy: POLICY}
"""


@pytest.fixture
def slow(plan: Plan) -> Plan:
    """Few places in each replica, and minutes to start one."""
    return replace(
        plan,
        max_num_seqs=32,
        saturating_concurrency=16,
        scaling_target=11.0,
        startup=StartupBudget(image_s=120, weights_s=120, load_s=120, total_s=540),
    )


def test_hourly_spikes_are_met_by_more_in_time_for_less() -> None:
    """A steady load, and in each hour ten minutes of three times as much; a replica takes minutes to start."""
    rate = ", ".join(["5/s for 20m, 15/s for 10m, 5/s for 30m"] * 3)
    work = synthetic(parse_rate(rate), np.random.default_rng(5), 900, 200, 1.5)

    def found(policy: str) -> Outcome:
        fleet = parse_fleets(FLEET.replace("POLICY", policy), "fleet.yaml")[0]
        return simulate(setup_of(fleet, planned(fleet, resolve(fleet)), initial=3), work)

    ours, theirs = found("slo"), found("hpa")
    assert ours.gpu_hours < theirs.gpu_hours
    assert ours.good().mean() > theirs.good().mean() + 0.1


def looks(
    loads: list[slo.FleetLoad], target: float = 10, startup_s: float = 120, every_s: float = 15.0
) -> list[slo.Sized]:
    state, found = slo.SloState(), []
    for i, load in enumerate(loads):
        asked, state = slo.wanted(load, target, startup_s, state, every_s * i)
        found.append(asked)
    return found


def load(
    rate: float, running: float, backlog: float = 0, kv: float = 0.3, replicas: int = 3
) -> slo.FleetLoad:
    return slo.FleetLoad(replicas, replicas, running, backlog, rate, kv)


def test_a_backlog_is_not_taken_for_demand() -> None:
    """1,000 waiting ask the HPA for 100 replicas; what drains them in two minutes is far less."""
    asked = looks([*[load(5.0, 20)] * 20, load(5.0, 20, 1000)])
    assert asked[-2].replicas < asked[-1].replicas < asked[-2].replicas + 40
    assert "1000 waiting" in asked[-1].reason


def test_a_step_is_answered_at_the_second_look_and_one_look_may_be_chance() -> None:
    calm = [load(2.0, 8)] * 40
    once = looks([*calm, load(20.0, 8)])[-1].replicas
    twice = looks([*calm, load(20.0, 8), load(20.0, 20)])[-1].replicas
    assert once == looks(calm)[-1].replicas
    assert twice >= 8


def test_a_ramp_is_met_before_it_arrives() -> None:
    rates = [5.0 + 0.25 * i for i in range(120)]
    ramp = looks([load(r, 4 * r) for r in rates])[-1]
    assert ramp.replicas > rates[-1] * 4 / 10


def test_what_serves_the_present_is_not_sent_away_for_a_forecast() -> None:
    """An hour ago it was quiet at this minute; now it is not."""
    quiet, busy = [load(1.0, 4)] * 240, [load(8.0, 32)] * 120
    assert looks([*quiet, *busy, *quiet, *busy])[-1].replicas >= 4


def test_a_full_cache_asks_for_one_more_and_waits_for_it() -> None:
    full = load(5.0, 20, kv=0.99, replicas=9)
    assert looks([full])[-1].replicas == 10
    starting = replace(full, ready=8)
    assert looks([starting])[-1].replicas < 10


def test_before_anything_is_known_it_counts_requests_as_the_hpa_does() -> None:
    assert looks([load(0.0, 10, 40, replicas=1)])[-1].replicas == 5


def test_a_replica_is_filled_by_the_objective_and_not_by_the_knee(slow: Plan) -> None:
    roomy, tight = Traffic(slo=Slo(tpot=0.06)), Traffic(slo=Slo(tpot=0.03))
    plan = replace(slow, max_num_seqs=256)
    filled = slo.fill(plan, roomy), slo.fill(plan, tight)
    assert filled[0] and filled[1] and filled[0] > 1.5 * filled[1] > 1.5
    step = slo.step_time(plan, roomy)
    assert step is not None and step.at(filled[0]) == pytest.approx(slo.FILL * 0.06, rel=0.02)
    assert slo.fill(plan, Traffic(slo=Slo(tpot=0.001))) is None


def test_bursts_get_room_that_a_smooth_load_does_not(slow: Plan) -> None:
    smooth = [load(5.0, 20)] * 200
    bursty = [load(5.0, 2 if i % 4 else 74, replicas=30) for i in range(200)]
    assert looks(bursty)[-1].replicas >= looks(smooth)[-1].replicas + 2


def test_the_objective_decides_the_target_only_where_the_spec_names_none(
    make: Callable[..., Setup], slow: Plan
) -> None:
    own = make(Scaling(policy="slo", target=7.0), plan=slow).fleet
    planned = make(Scaling(policy="slo"), plan=slow).fleet
    assert policy_of(own, slow).target == 7.0
    assert policy_of(planned, slow).target != slow.scaling_target

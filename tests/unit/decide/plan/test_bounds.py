"""The gateway never sends an engine more than the plan says that it takes."""

from __future__ import annotations

from dataclasses import replace

from seawall.config.load import parse_fleets
from seawall.decide.plan.bounds import bounded
from seawall.domain.action import Plan
from seawall.domain.spec import Fleet


def fleet(scaling: str = "{min: 1, max: 2}", gateway: str = "{}") -> Fleet:
    text = f"""
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {{name: f}}
spec: {{model: {{source: hf://a/b}}, scaling: {scaling}, gateway: {gateway}}}
"""
    return parse_fleets(text)[0]


def plan(seqs: int = 1024, bound: int = 193) -> Plan:
    return Plan(
        fleet="f", model="m", fits=True, reason="", gpu="H100-80GB", gpus_per_replica=1, tensor_parallel=1,
        max_num_seqs=seqs, engine_queue_bound=bound, gateway_queue_bound=600,
    )  # fmt: skip


def test_in_flight_is_what_the_engine_takes() -> None:
    assert bounded(fleet(), plan()).spec.gateway.max_in_flight == 193
    assert bounded(fleet(), plan(seqs=64)).spec.gateway.max_in_flight == 64
    assert bounded(fleet(gateway="{maxInFlight: 7}"), plan()).spec.gateway.max_in_flight == 7


def test_a_fleet_that_starts_from_zero_queues_by_the_plan_and_others_by_what_is_measured() -> None:
    assert bounded(fleet("{min: 0, max: 2}"), plan()).spec.gateway.max_queued == 600
    assert bounded(fleet(), plan()).spec.gateway.max_queued is None
    assert bounded(fleet("{min: 0, max: 2}", "{maxQueued: 9}"), plan()).spec.gateway.max_queued == 9


def test_the_gateway_knows_the_context_that_the_engine_is_started_with() -> None:
    made = replace(plan(), max_model_len=30_720)
    assert bounded(fleet(), made).spec.traffic.max_context == 30_720
    assert bounded(fleet(), plan()).spec.traffic.max_context is None, "nobody knows it"

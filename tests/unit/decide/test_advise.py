"""Advice as stories: the numbers of a week, and what a person should do about them."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import promql_parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.decide.advise import ReplicaOption, advise
from seawall.decide.history import History, SignalSummary, summarise
from seawall.domain.action import Plan
from seawall.domain.spec import Fleet, FleetSpec, Metadata, Model, Scaling
from seawall.engines.vllm.history import queries
from seawall.engines.vllm.versions import LATEST, find_metric

FLEET = Fleet(
    metadata=Metadata(name="chat", namespace="llm"),
    spec=FleetSpec(model=Model(source="hf://a/b"), scaling=Scaling(min=2, max=8)),
)
PLAN = Plan(
    fleet="chat",
    model="a/b",
    fits=True,
    reason="fits",
    gpu="H100-80GB",
    gpus_per_replica=1,
    tensor_parallel=1,
    kv_cache_tokens=100_000,
    scaling_target=20,
    saturating_concurrency=30,
    tokens_per_s=2000,
    usd_per_hour=4.0,
)
BIGGER = ReplicaOption(
    change="hardware.gpu: H200", plan=replace(PLAN, gpu="H200", kv_cache_tokens=300_000, usd_per_hour=5.0)
)
FP8 = ReplicaOption(
    change="engine.kvCacheDtype: fp8", plan=replace(PLAN, kv_cache_tokens=200_000), caution="Check."
)


def flat(value: float, samples: int = 1440) -> SignalSummary:
    return SignalSummary(p50=value, p95=value, max=value, samples=samples)


def past(**signals: float) -> History:
    usual = {"replicas": 4.0, "running": 70.0, "waiting": 0.0, "demand": 70.0, "kv_usage": 0.5}
    usual |= {"ttft_p95": 0.5, "tpot_p95": 0.03}
    return History(window_s=86400, step_s=60, **{k: flat(v) for k, v in (usual | signals).items()})


def test_a_healthy_fleet_is_left_alone() -> None:
    (only,) = advise(FLEET, past(), PLAN, [BIGGER, FP8])
    assert (only.kind, only.replicas, only.usd_per_hour_change) == ("stay", 4, 0.0)


def test_a_full_cache_asks_for_cache_cheapest_first_and_compares_it_with_replicas() -> None:
    full = past(kv_usage=0.97, preemptions=0.4, waiting=12, running=60, demand=72)
    found = advise(FLEET, full, PLAN, [BIGGER, FP8])
    assert [(a.kind, a.usd_per_hour_change) for a in found] == [("up", 0.0), ("up", 4.0), ("out", 12.0)]
    assert "fp8" in found[0].reason and "Check." in found[0].reason
    assert found[0].evidence["kv_usage_p95"] == 0.97
    assert found[2].replicas == 7  # 4 x 72/60 x 0.97/0.7, rounded up


def test_an_option_that_does_not_fit_or_is_too_small_is_not_offered() -> None:
    full = past(kv_usage=0.97, preemptions=0.4)
    small = ReplicaOption(change="small", plan=replace(PLAN, kv_cache_tokens=110_000))
    broken = ReplicaOption(change="broken", plan=replace(BIGGER.plan, fits=False))
    assert [a.kind for a in advise(FLEET, full, PLAN, [small, broken])] == ["out"]


def test_a_full_cache_in_which_nobody_waits_is_no_reason_to_spend() -> None:
    assert advise(FLEET, past(kv_usage=0.97), PLAN, [BIGGER])[0].kind == "stay"


def test_late_first_tokens_with_an_empty_cache_ask_for_replicas_and_name_the_limit() -> None:
    (only,) = advise(FLEET, past(ttft_p95=5, demand=190, kv_usage=0.4), PLAN, [BIGGER])
    assert (only.kind, only.replicas, only.usd_per_hour_change) == ("out", 10, 24.0)
    assert "spec.scaling.max is 8" in only.reason and "scaling.max: 10" in only.next_command


def test_a_prompt_too_long_for_one_replica_is_not_cured_by_replicas() -> None:
    fast = ReplicaOption(change="tp", plan=replace(PLAN, timing=replace(PLAN.timing, prefill_token_s=5e-6)))
    long = past(ttft_p95=5, kv_usage=0.4, prompt_tokens=200_000, requests=1)
    (only,) = advise(FLEET, long, PLAN, [fast])
    assert only.kind == "up" and only.evidence["prefill_s_then"] < 2 < only.evidence["prefill_s_now"]


def test_slow_decoding_goes_up_or_runs_fewer_at_once() -> None:
    quick = ReplicaOption(
        change="tp",
        plan=replace(PLAN, usd_per_hour=8.0, timing=replace(PLAN.timing, base_s=0, weight_read_s=0.001)),
    )
    found = advise(FLEET, past(tpot_p95=0.1, running=160, demand=160, kv_usage=0.01), PLAN, [quick])
    assert [a.kind for a in found] == ["out", "up"]  # +8 USD/h, +16 USD/h
    assert "maxNumSeqs to 30" in found[0].reason
    assert found[1].evidence["tpot_s_then"] <= 0.06


def test_an_idle_fleet_goes_in_to_two_and_says_what_it_saves() -> None:
    (only,) = advise(FLEET, past(running=3, demand=3, kv_usage=0.02), PLAN)
    assert (only.kind, only.replicas, only.usd_per_hour_change) == ("in", 2, -8.0)


def test_one_busy_moment_keeps_the_replicas() -> None:
    calm = past(running=3, kv_usage=0.02)
    spiky = replace(calm, demand=SignalSummary(p50=3, p95=5, max=79, samples=1440))
    assert advise(FLEET, spiky, PLAN)[0].kind == "stay"


def test_bad_routing_and_hung_engines_are_not_cured_with_money() -> None:
    skewed = advise(FLEET, past(kv_usage=0.4, kv_usage_worst=0.99), PLAN)
    hung = advise(FLEET, past(generation_tokens=0), PLAN)
    assert skewed[0].kind == hung[0].kind == "fix"
    assert "diagnose" in hung[0].next_command


def test_without_data_it_says_so_and_does_not_guess() -> None:
    nothing = advise(FLEET, History(window_s=86400, step_s=60), PLAN)
    assert nothing[0].kind == "fix" and "Nothing is advised" in nothing[0].reason
    few = replace(past(kv_usage=1, preemptions=9), running=flat(60, samples=7))
    assert advise(FLEET, few, PLAN)[0].kind == "stay" and "Too little" in advise(FLEET, few, PLAN)[0].reason
    (blind,) = advise(FLEET, replace(past(), kv_usage=None, ttft_p95=None), PLAN)
    assert blind.kind == "stay" and "kv_usage, ttft_p95" in blind.reason


def test_unknown_prices_are_unknown_not_zero() -> None:
    free = replace(PLAN, usd_per_hour=None)
    assert advise(FLEET, past(ttft_p95=5), free)[0].usd_per_hour_change is None


@given(
    st.dictionaries(
        st.sampled_from(sorted(set(History.__dataclass_fields__) - {"window_s", "step_s"})),
        st.floats(0, 1e6),
    )
)
def test_whatever_the_numbers_there_is_advice_with_a_reason(signals: dict[str, float]) -> None:
    found = advise(FLEET, past(**signals), PLAN, [BIGGER, FP8])
    assert found and all(a.reason for a in found)
    for a in found:
        if a.kind == "in":
            assert a.replicas is not None and 1 <= a.replicas < max(2, round(signals.get("replicas", 4)))


def test_nan_is_no_sample() -> None:
    got = summarise(
        {"ttft_p95": [(0, math.nan), (60, math.inf), (120, 2.0)], "running": [(0, math.nan)]}, 600, 60
    )
    assert got.ttft_p95 == flat(2.0, 1) and got.running is None


@pytest.mark.parametrize("field,query", sorted(queries("llm", 'a/"b"\\', "chat").items()))
def test_every_query_parses_is_pinned_and_reads_metrics_that_exist(field: str, query: str) -> None:
    promql_parser.parse(query)
    assert field in History.__dataclass_fields__
    names = re.findall(r"(vllm:\w+|DCGM_\w+)\{([^}]*)\}", query)
    assert names
    for name, labels in names:
        assert 'namespace="llm"' in labels
        if name.startswith("vllm:"):
            known = find_metric(name)
            assert known is not None and known.known_to(LATEST), name
            assert "model_name=" in labels

"""A fleet's scaling as stories: a burst, a lull, silence, the first request after it."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from seawall.decide.scale import DemandSeen, ScalePolicy, ScaleState, decide, policy_of
from seawall.decide.scale.behavior import DirectionRules
from seawall.decide.scale.policy import DOWN_POLICIES, UP_POLICIES
from seawall.domain.spec import EngineSpec, Fleet, FleetSpec, Metadata, Model, Scaling


def fleet(scaling: Scaling) -> Fleet:
    spec = FleetSpec(model=Model(source="hf://a/b"), scaling=scaling)
    return Fleet(metadata=Metadata(name="f"), spec=spec)


def policy(low: int = 1, high: int = 10, target: float = 10) -> ScalePolicy:
    return ScalePolicy(
        lowest=low,
        highest=high,
        target=target,
        up=DirectionRules(0, "Max", UP_POLICIES),
        down=DirectionRules(300, "Max", DOWN_POLICIES),
    )


def run(
    p: ScalePolicy, demand: list[tuple[float, float]], replicas: int, until: float
) -> list[tuple[float, int]]:
    """Follow the decisions as a supervisor would -> (time, count) at every change."""
    state: ScaleState = {}
    now, changes = 0.0, []
    while now <= until:
        load = next(d for t, d in reversed(demand) if t <= now)
        decision, state = decide(p, DemandSeen(replicas=replicas, ready=replicas, running=load), state, now)
        state = json.loads(json.dumps(state))
        if decision.replicas != replicas:
            replicas = decision.replicas
            changes.append((now, replicas))
        now += max(decision.next_look_s, 0.5)
    return changes


def test_a_burst_is_met_at_the_next_look_and_the_lull_is_left_slowly() -> None:
    changes = run(policy(), [(0, 5), (60, 50), (120, 5)], replicas=1, until=900)
    assert changes[0] == (60, 5)
    assert changes[1][0] >= 120 + 285
    assert [n for _, n in changes[1:]] == sorted((n for _, n in changes[1:]), reverse=True)
    assert changes[-1][1] >= 1


def test_silence_scales_to_zero_and_the_first_request_wakes_at_once() -> None:
    p = policy(low=0)
    changes = run(p, [(0, 5), (30, 0)], replicas=1, until=600)
    assert changes[-1][1] == 0
    assert changes[-1][0] > 30 + 285
    state: ScaleState = {}
    decision, state = decide(p, DemandSeen(replicas=0), state, 0.0)
    assert decision.replicas == 0
    decision, _ = decide(p, DemandSeen(replicas=0, queued=1), state, 0.1)
    assert decision.replicas == 1
    assert "1 request on 0 replicas" in decision.reason


def test_an_idle_fleet_is_at_its_minimum_and_not_cut_by_it() -> None:
    state: ScaleState = {}
    reasons = []
    for now in range(0, 900, 15):
        decision, state = decide(policy(low=1), DemandSeen(replicas=1), state, float(now))
        reasons.append(decision.reason)
    assert {r.rpartition(", ")[2] for r in reasons} == {"stays at the minimum of 1"}
    state = {}
    for now in range(0, 900, 15):
        decision, state = decide(policy(low=2), DemandSeen(replicas=5), state, float(now))
    assert decision.reason.endswith("held at 5 by the scale-down rate")


def test_metrics_that_cannot_be_read_move_nothing() -> None:
    decision, _ = decide(policy(), DemandSeen(replicas=4, running=0, fresh=False), {}, 0.0)
    assert decision.replicas == 4
    assert "cannot be read" in decision.reason


def test_the_target_comes_from_spec_then_engine_then_default() -> None:
    assert policy_of(fleet(Scaling(target=7.0))).target == 7
    assert policy_of(fleet(Scaling())).target == 16
    sized = Fleet(
        metadata=Metadata(name="f"),
        spec=FleetSpec(model=Model(source="hf://a/b"), engine=EngineSpec(max_num_seqs=16)),
    )
    assert policy_of(sized).target == 11


def test_guards_see_what_the_target_was_not_measured_with() -> None:
    p = replace(policy(), guards=policy_of(fleet(Scaling())).guards)
    assert [t.measure for t in p.triggers] == ["demand", "waiting", "kv-cache"]

    def ask(**seen: float) -> tuple[int, str]:
        decision, _ = decide(p, DemandSeen(replicas=2, ready=2, **seen), {}, 0.0)
        return decision.replicas, decision.reason

    assert ask(running=18, kv_used=1.5)[0] == 2, "all is well"
    assert ask(running=10, waiting=7) == (
        4,
        "3.5 requests per replica wait inside engines, guard 2: 4 wanted",
    )
    assert ask(running=18, kv_used=1.9) == (3, "95% of the KV cache in use, guard 80%: 3 wanted")
    count, reason = ask(running=60, waiting=7, kv_used=1.9)
    assert (count, reason.split(",")[1]) == (6, " target 10: 7 wanted"), (
        "the highest decides, at the rate allowed"
    )
    assert ask(running=18)[0] == 2, "what nobody measures asks for nothing"


def test_who_scales_by_the_gateway_s_numbers_has_no_guards() -> None:
    for by in ("keda-gateway", "hpa"):
        assert policy_of(fleet(Scaling(by=by))).guards == ()


def test_windows_are_what_kubernetes_takes() -> None:
    p = policy_of(fleet(Scaling(up_window=12.3, down_window=86400.0, target=1 / 3)))
    assert (p.up.window_s, p.down.window_s, p.target) == (13, 3600, 0.334)


loads = st.lists(st.floats(0, 10_000), min_size=1, max_size=30)


@given(loads=loads, start=st.integers(1, 20), low=st.integers(1, 5), high=st.integers(5, 20))
def test_it_stays_within_bounds_whatever_comes(loads: list[float], start: int, low: int, high: int) -> None:
    p, state, replicas, now = policy(low, high), ScaleState(), start, 0.0
    for load in loads:
        decision, state = decide(p, DemandSeen(replicas=replicas, running=load), state, now)
        replicas = decision.replicas
        assert low <= replicas <= high
        now += 15.0


@given(loads=loads, now_load=st.floats(0, 10_000), more=st.floats(0, 1000), start=st.integers(1, 10))
def test_more_load_never_means_fewer_replicas(
    loads: list[float], now_load: float, more: float, start: int
) -> None:
    """Given one history, at any moment. (Two whole histories may cross: the HPA's tolerance remembers.)"""
    p, state, replicas = policy(1, 50), ScaleState(), start
    for i, load in enumerate(loads):
        decision, state = decide(p, DemandSeen(replicas=replicas, running=load), state, i * 15.0)
        replicas = decision.replicas
    now = len(loads) * 15.0
    less, _ = decide(p, DemandSeen(replicas=replicas, running=now_load), state, now)
    greater, _ = decide(p, DemandSeen(replicas=replicas, running=now_load + more), state, now)
    assert greater.replicas >= less.replicas

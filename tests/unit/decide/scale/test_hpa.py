"""The HPA's corners that upstream's own tables do not pin: edges of windows, rounding, missing pods, zero."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.decide.scale import behavior, calc, hpa
from seawall.decide.scale.behavior import DirectionRules, RatePolicy, Recommendation, ScaleEvent

TEN_PERCENT = calc.Tolerance(0.1, 0.1)


@pytest.mark.parametrize(("ratio", "inside"), [(0.9, True), (1.1, True), (0.8999, False), (1.1001, False)])
def test_both_ends_of_the_tolerance_count(ratio: float, inside: bool) -> None:
    assert behavior.within(ratio, 0.1, 0.1) is inside
    assert not behavior.within(math.nan, 0.1, 0.1)


def test_an_event_exactly_one_period_old_no_longer_counts() -> None:
    events = (ScaleEvent(3, 40.0), ScaleEvent(5, 41.0))
    assert behavior.change_in(events, 60, now=100) == 5


def test_a_recommendation_exactly_one_window_old_is_out_but_in_the_legacy_path_it_is_in() -> None:
    log = (Recommendation(9, -60.0),)
    assert behavior.stabilized(9, 5, log, 60, 60, now=0)[0] == 5
    assert behavior.legacy_stabilized(5, log, 60, now=0)[0] == 9


def test_a_recommendation_exactly_one_window_old_is_not_overwritten_yet() -> None:
    log = (Recommendation(9, -60.0),)
    assert len(behavior.stabilized(9, 5, log, 60, 60, now=0)[1]) == 2
    assert len(behavior.stabilized(9, 5, log, 60, 60, now=0.5)[1]) == 1


def test_an_event_is_outdated_only_when_strictly_older_and_the_last_such_is_overwritten() -> None:
    rules = DirectionRules(0, "Max", (RatePolicy("Pods", 1, 60), RatePolicy("Pods", 1, 30)))
    kept = behavior.stored((ScaleEvent(1, -60.0),), 4, rules, now=0)
    assert [e.change for e in kept] == [1, 4]
    replaced = behavior.stored((ScaleEvent(1, -62.0), ScaleEvent(2, -61.0)), 4, rules, now=0)
    assert [(e.change, e.outdated) for e in replaced] == [(1, True), (4, False)]


def test_the_log_keeps_what_was_asked_not_what_was_given() -> None:
    _, log = behavior.stabilized(10, 2, (Recommendation(10, -5.0),), 0, 300, now=0)
    assert [r.replicas for r in log] == [10, 2]


def test_percent_rounds_up_when_growing_and_down_when_shrinking() -> None:
    half = DirectionRules(0, "Max", (RatePolicy("Percent", 50, 60),))
    assert behavior.up_limit(1, (), (), half, 0) == 2
    assert behavior.down_limit(5, (), (), half, 0) == 2


def test_disabled_keeps_the_count_and_min_picks_the_smallest_change() -> None:
    off = DirectionRules(0, "Disabled", (RatePolicy("Pods", 100, 60),))
    assert behavior.up_limit(7, (), (), off, 0) == behavior.down_limit(7, (), (), off, 0) == 7
    slow = DirectionRules(0, "Min", (RatePolicy("Pods", 4, 60), RatePolicy("Pods", 1, 60)))
    assert behavior.up_limit(7, (), (), slow, 0) == 8
    assert behavior.down_limit(7, (), (), slow, 0) == 6


def test_when_the_bound_equals_the_rate_limit_the_bound_is_named() -> None:
    rules = DirectionRules(0, "Max", (RatePolicy("Pods", 2, 60),))
    up = behavior.rate_limited(4, 9, 1, 6, rules, rules, (), (), 0)
    assert (up.replicas, up.reason) == (6, behavior.TOO_MANY)
    down = behavior.rate_limited(4, 1, 2, 6, rules, rules, (), (), 0)
    assert (down.replicas, down.reason) == (2, behavior.TOO_FEW)


def test_the_legacy_path_allows_four_at_once_and_then_doubles() -> None:
    assert behavior.legacy_limited(1, 50, 1, 100).replicas == 4
    assert behavior.legacy_limited(10, 50, 1, 100).replicas == 20
    assert behavior.legacy_limited(10, 50, 1, 15).reason == behavior.TOO_MANY


def test_rules_are_filled_in_key_by_key() -> None:
    filled = behavior.filled(None, "Min", None, None, behavior.DEFAULT_DOWN)
    assert filled == DirectionRules(300, "Min", behavior.DEFAULT_DOWN.policies)


def test_from_zero_a_total_against_a_value_ignores_tolerance_and_pods() -> None:
    assert calc.by_value(0, 1000, 1050, [], TEN_PERCENT).replicas == 2
    with pytest.raises(calc.MetricError, match="no pods"):
        calc.by_value(3, 1000, 2000, [], TEN_PERCENT)


def test_a_value_target_multiplies_ready_pods_only_so_warming_ones_are_shed() -> None:
    ready = [calc.CountedPod(name=f"p{i}", ready=calc.Ready(True, 0)) for i in range(2)]
    warming = [calc.CountedPod(name=f"w{i}", ready=calc.Ready(False, 0)) for i in range(6)]
    assert calc.by_value(8, 1000, 1500, ready + warming, TEN_PERCENT).replicas == 3
    assert calc.per_pod(8, 1000, 12000, TEN_PERCENT).replicas == 12


def test_missing_pods_count_as_idle_on_the_way_up_and_as_full_on_the_way_down() -> None:
    pods = [calc.CountedPod(name=f"p{i}", ready=calc.Ready(True, 0)) for i in range(4)]
    hot = {"p0": calc.Sample(3000), "p1": calc.Sample(3000), "p2": calc.Sample(3000)}
    assert calc.by_pods(4, 1000, pods, hot, TEN_PERCENT, calc.Readiness()).replicas == 9
    cold = {"p0": calc.Sample(100), "p1": calc.Sample(100)}
    assert calc.by_pods(4, 1000, pods, cold, TEN_PERCENT, calc.Readiness()).replicas == 3


def test_unready_pods_count_as_idle_on_the_way_up() -> None:
    pods = [calc.CountedPod(name=f"p{i}", ready=calc.Ready(True, 0)) for i in range(2)]
    pods += [calc.CountedPod(name=f"n{i}", phase="Pending") for i in range(2)]
    samples = {"p0": calc.Sample(3000), "p1": calc.Sample(3000)}
    assert calc.by_pods(4, 1000, pods, samples, TEN_PERCENT, calc.Readiness()).replicas == 6


def test_a_metric_without_pods_or_samples_says_which() -> None:
    with pytest.raises(calc.MetricError, match="no pods returned"):
        calc.by_pods(1, 1000, [], {}, TEN_PERCENT, calc.Readiness())
    with pytest.raises(calc.MetricError) as e:
        calc.by_pods(1, 1000, [], None, TEN_PERCENT, calc.Readiness())
    assert e.value.code == "no_metrics"


SPEC = hpa.HpaSpec(lowest=1, highest=10, up=behavior.DEFAULT_UP, down=behavior.DEFAULT_DOWN)


def asks(n: int) -> hpa.Proposal:
    return hpa.Proposal(metric="m", replicas=n)


def test_errors_block_scaling_down_but_not_up() -> None:
    broken = hpa.Proposal(metric="b", error="metric b is away")
    up, _ = hpa.sync(SPEC, 4, [asks(6), broken], {}, 0)
    down, state = hpa.sync(SPEC, 4, [asks(2), broken], {}, 0)
    none, _ = hpa.sync(SPEC, 4, [broken], {}, 0)
    assert (up.replicas, down.replicas, none.replicas) == (6, 4, 4)
    assert "metric b is away" in down.reason
    assert [r[0] for r in state["recommendations"]] == [4], "an error leaves the log alone"


def test_the_largest_proposal_wins() -> None:
    assert hpa.sync(SPEC, 4, [asks(5), asks(7), asks(6)], {}, 0)[0].replicas == 7


def test_a_count_outside_the_bounds_is_put_right_without_a_metric() -> None:
    broken = hpa.Proposal(metric="b", error="away")
    assert hpa.sync(SPEC, 40, [broken], {}, 0)[0].replicas == 10
    low = hpa.HpaSpec(lowest=3, highest=10)
    assert hpa.sync(low, 1, [broken], {}, 0)[0].replicas == 3


def test_a_target_set_to_zero_by_hand_stays_there() -> None:
    stays, _ = hpa.sync(SPEC, 0, [asks(5)], {}, 0)
    assert (stays.replicas, stays.rescale) == (0, False)
    own = hpa.HpaSpec(
        lowest=2, highest=10, up=behavior.DEFAULT_UP, down=behavior.DEFAULT_DOWN, scaled_to_zero=True
    )
    assert hpa.sync(own, 0, [asks(1)], {}, 0)[0].replicas == 2


def test_a_fresh_controller_does_not_scale_down_at_once() -> None:
    """An empty log is seeded with the current count, which the window then holds for five minutes."""
    state: hpa.HpaState = {}
    counts = []
    for now in range(0, 330, 15):
        found, state = hpa.sync(SPEC, 8, [asks(2)], state, now)
        counts.append(found.replicas)
    assert counts[:20] == [8] * 20
    assert counts[-1] == 2


def test_the_state_survives_json() -> None:
    state: hpa.HpaState = {}
    current = 1
    for i, wanted in enumerate((5, 9, 2, 2, 8)):
        found, state = hpa.sync(SPEC, current, [asks(wanted)], state, i * 15.0)
        again, _ = hpa.sync(SPEC, current, [asks(wanted)], json.loads(json.dumps(state)), i * 15.0)
        assert 1 <= again.replicas <= 10
        current = found.replicas


@given(
    current=st.integers(1, 50),
    asked=st.integers(0, 100),
    past=st.lists(st.tuples(st.integers(1, 20), st.floats(-100, 0)), max_size=6),
)
def test_rate_limits_never_reverse_the_direction(
    current: int, asked: int, past: list[tuple[int, float]]
) -> None:
    events = tuple(ScaleEvent(n, at) for n, at in past)
    rules = DirectionRules(0, "Max", (RatePolicy("Percent", 50, 30), RatePolicy("Pods", 2, 60)))
    found = behavior.rate_limited(current, asked, 1, 60, rules, rules, events, events, 0).replicas
    if asked >= current:
        assert current <= found <= max(asked, current) or current > 60
    else:
        assert min(asked, current) <= found <= current or asked < 1


def test_a_count_that_a_window_holds_says_which_way_it_was_held() -> None:
    up = behavior.DirectionRules(60, "Max", behavior.DEFAULT_UP.policies)
    seen = hpa.HpaState(recommendations=[[5, 90.0]], ups=[], downs=[])
    wanted = [hpa.Proposal(metric="m", replicas=9)]
    spec = hpa.HpaSpec(lowest=1, highest=20, up=up, down=behavior.DEFAULT_DOWN)
    held, _ = hpa.sync(spec, 5, wanted, seen, 100.0)
    assert (held.replicas, held.able_reason) == (5, "ScaleUpStabilized")
    fewer = [hpa.Proposal(metric="m", replicas=2)]
    held, _ = hpa.sync(spec, 5, fewer, seen, 100.0)
    assert (held.replicas, held.able_reason) == (5, "ScaleDownStabilized")
    held, _ = hpa.sync(hpa.HpaSpec(lowest=1, highest=20), 5, fewer, seen, 100.0)
    assert (held.replicas, held.able_reason) == (5, "ScaleDownStabilized")

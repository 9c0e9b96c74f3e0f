"""KEDA's corners: cooldowns, idle, pause, fallback kinds, null answers, formulas."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.decide.scale import keda
from seawall.decide.scale import keda_metrics as km
from seawall.decide.scale.formula import FormulaError, evaluate


def turn(
    current: int, active: bool = False, error: bool = False, last: float | None = None, now: float = 1000
) -> keda.Poll:
    return keda.Poll(current=current, active=active, error=error, last_active_s=last, created_s=0, now=now)


def test_the_cooldown_must_be_strictly_over() -> None:
    spec = keda.ScaleSpec(cooldown_s=300)
    assert keda.request_scale(spec, turn(3, last=700)).active == keda.COOLING
    assert keda.request_scale(spec, turn(3, last=699.9)).replicas == 0


def test_never_active_waits_for_the_initial_cooldown_since_creation() -> None:
    spec = keda.ScaleSpec(initial_cooldown_s=1000)
    assert keda.request_scale(spec, turn(1)).replicas == 1
    assert keda.request_scale(spec, turn(1, now=1000.1)).replicas == 0


def test_idle_replicas_wake_to_the_minimum_and_fall_back_to_idle() -> None:
    spec = keda.ScaleSpec(lowest=5, idle=2)
    assert keda.request_scale(spec, turn(2, active=True)).replicas == 5
    assert keda.request_scale(spec, turn(9, last=0)).replicas == 2
    assert keda.request_scale(spec, turn(1)).replicas == 1, "without activity idle mode does not lift to min"
    assert keda.request_scale(keda.ScaleSpec(lowest=5), turn(1)).replicas == 5


def test_an_error_without_fallback_keeps_the_count_and_a_zero_fallback_does_not() -> None:
    assert keda.request_scale(keda.ScaleSpec(), turn(3, error=True, last=0)).ready == keda.BROKEN
    zero = keda.ScaleSpec(fallback=keda.Fallback(0, 3))
    assert keda.request_scale(zero, turn(3, error=True, last=0)).replicas == 0
    five = keda.ScaleSpec(fallback=keda.Fallback(5, 3))
    assert keda.request_scale(five, turn(3, error=True, last=0)).replicas == 3


def test_pausing_forcing_and_what_does_not_parse_as_false() -> None:
    def spec(**notes: str) -> keda.ScaleSpec:
        return keda.ScaleSpec(
            annotations={f"autoscaling.keda.sh/{k.replace('_', '-')}": v for k, v in notes.items()}
        )

    held = keda.request_scale(spec(paused_replicas="4"), turn(1, active=True))
    assert (held.replicas, held.scaled, held.paused, held.active) == (1, False, True, None)
    assert keda.request_scale(spec(paused="yes"), turn(0, active=True)).paused
    assert keda.request_scale(spec(paused="False"), turn(0, active=True)).replicas == 1
    forced = keda.request_scale(spec(force_activation="true"), turn(0))
    assert forced.replicas == 1
    assert forced.event is not None
    assert "forced" in forced.event.note
    assert keda.request_scale(spec(paused_replicas="four"), turn(1)).paused, (
        "the annotation's presence pauses"
    )
    assert keda.request_scale(spec(force_activation="1"), turn(2, active=True)).active == keda.FORCED_ACTIVE


def test_a_scaling_disabled_hpa_is_healthy_and_an_unreadable_one_changes_nothing() -> None:
    off = keda.HpaSeen(conditions={"ScalingActive": keda.Condition("False", "ScalingDisabled", "at zero")})
    assert keda.hpa_health(off) == keda.Condition("True", "ScalingDisabled", "at zero")
    before = keda.Condition("False", "X", "y")
    assert keda.hpa_health_applied(keda.HpaSeen(read_error=True), before) == before


@pytest.mark.parametrize(
    ("scaling", "told"),
    [
        (("True", "ValidMetricFound", "the HPA was able to"), ("True", "HPAActive", "the HPA was able to")),
        (("True", "", ""), ("True", "HPAActive", "")),
        (
            ("False", "FailedGetExternalMetric", "no metrics"),
            ("False", "HPAMetricsUnavailable", "FailedGetExternalMetric: no metrics"),
        ),
        (
            ("False", "FailedGetExternalMetric", ""),
            ("False", "HPAMetricsUnavailable", "FailedGetExternalMetric"),
        ),
    ],
)
def test_the_hpas_own_words_are_passed_on(scaling: tuple[str, str, str], told: tuple[str, str, str]) -> None:
    """As upstream's tests of 2.21 have it."""
    seen = keda.HpaSeen(conditions={"ScalingActive": keda.Condition(*scaling)})
    assert keda.hpa_health(seen) == keda.Condition(*told)


@pytest.mark.parametrize(
    ("poll", "fallback", "ready"),
    [
        (turn(1, active=True), None, keda.READY),
        (turn(1, active=True, error=True), None, keda.PARTIAL),
        (turn(1, error=True), None, keda.BROKEN),
        (turn(1, error=True), keda.Fallback(5, 0), keda.READY),
    ],
)
@pytest.mark.parametrize(
    ("scaling", "status"),
    [
        (("False", "FailedGetExternalMetric", "away"), "False"),
        (("False", "ScalingDisabled", "at zero"), "True"),
        (("True", "ValidMetricFound", ""), "True"),
    ],
)
def test_what_the_hpa_tells_and_what_the_triggers_tell_are_two_conditions(
    poll: keda.Poll,
    fallback: keda.Fallback | None,
    ready: keda.Condition,
    scaling: tuple[str, str, str],
    status: str,
) -> None:
    """Ready is the ScaledObject's own health, with or without a fallback; an HPA without metrics does not touch it."""
    seen = keda.HpaSeen(conditions={"ScalingActive": keda.Condition(*scaling)})
    found = keda.request_scale(keda.ScaleSpec(lowest=1, fallback=fallback), replace(poll, hpa=seen))
    assert found.ready == ready
    assert found.hpa_active is not None and found.hpa_active.status == status


def test_an_hpa_that_has_said_nothing_yet_is_not_told_of() -> None:
    for seen in (None, keda.HpaSeen(read_error=True), keda.HpaSeen()):
        assert (
            keda.request_scale(keda.ScaleSpec(), replace(turn(1, active=True), hpa=seen)).hpa_active is None
        )


TRIGGER = km.Trigger(metric="m", target_m=3000, current_replicas=6, ready_replicas=2)


def failing(n: int) -> dict[str, km.Health]:
    return {"m": km.Health(n, km.FAILING)}


@pytest.mark.parametrize(
    ("kind", "value_m"),
    [
        ("static", 30000),
        ("currentReplicas", 18000),
        ("currentReplicasIfHigher", 30000),
        ("currentReplicasIfLower", 18000),
    ],
)
def test_the_fallback_kinds(kind: str, value_m: int) -> None:
    reading = km.with_fallback(TRIGGER, None, "away", keda.Fallback(10, 3, kind), failing(3))
    assert (reading.value_m, reading.used_fallback, reading.condition) == (value_m, True, "True")


def test_the_threshold_is_strict_and_below_it_the_error_goes_to_the_hpa() -> None:
    reading = km.with_fallback(TRIGGER, None, "away", keda.Fallback(10, 3), failing(2))
    assert (reading.error, reading.used_fallback) == ("away", False)
    assert reading.health == failing(3)


def test_a_value_target_divides_by_the_ready_pods() -> None:
    trigger = km.Trigger(metric="m", target_m=3000, target_type="Value", current_replicas=6, ready_replicas=4)
    assert km.with_fallback(trigger, None, "away", keda.Fallback(10, 0), None).value_m == 7500
    none = km.Trigger(metric="m", target_m=3000, target_type="Value", current_replicas=6, ready_replicas=0)
    assert (
        km.with_fallback(none, None, "away", keda.Fallback(10, 0), None).error == "error performing fallback"
    )


def test_scaling_modifiers_fallback_leaves_a_placeholder_for_the_formula() -> None:
    fall = keda.Fallback(10, 3, "scalingModifiers")
    assert km.with_fallback(TRIGGER, None, "away", fall, failing(3)).value_m == -1000
    assert km.trigger_value_m("m", -1000, fall, failing(4)) is None


def test_a_formula_of_failed_triggers_stands_for_the_fallback_replicas() -> None:
    metrics, names = [("m", -1000), ("n", -1000)], {"m": "a", "n": "b"}
    down = {"m": km.Health(5, km.FAILING), "n": km.Health(5, km.FAILING)}
    fall = keda.Fallback(7, 3, "scalingModifiers")
    assert km.composite_value_m("a ?? b", metrics, names, fall, down, "2") == 14000
    assert km.composite_value_m("a ?? b ?? 3", metrics, names, fall, down, "2") == 3000
    with pytest.raises(FormulaError, match="nil is no operand"):
        km.composite_value_m("a + b", metrics, names, fall, down, "2")
    with pytest.raises(FormulaError, match="target"):
        km.composite_value_m("a", metrics, names, fall, down, None)
    with pytest.raises(FormulaError, match="nil"):
        km.composite_value_m("c", metrics, names, None, None, "2")


def test_milli_units_become_floats_as_upstream_multiplies() -> None:
    assert km.composite_value_m("a * 1000", [("m", 2300)], {"m": "a"}, None, None) == int(2300 * 0.001 * 1e6)


def test_activation_is_strictly_above_and_values_are_cleaned() -> None:
    assert not km.activates(5, 5)
    assert km.activates(5.001, 5)
    assert [km.clean(v) for v in (float("nan"), float("inf"), -3, 1.23456)] == [0, 0, 0, 1.235]


@pytest.mark.parametrize(
    ("body", "ignoring", "strict"),
    [
        ('{"data":{"result":[]}}', 0.0, None),
        ('{"data":{"result":[{"value":[]}]}}', 0.0, None),
        ('{"data":{"result":[{"value":[1,"NaN"]}]}}', 0.0, None),
        ('{"data":{"result":[{"value":[1,"3.5"]}]}}', 3.5, 3.5),
        ('{"data":{"result":[{"value":[1,"3"]},{"value":[1,"4"]}]}}', None, None),
        ('{"data":{"result":[{"value":[1,"three"]}]}}', None, None),
        ('{"data":{"result":{"value":5}}}', None, None),
        ('{"data":{"result":[{"value":[1,null]}]}}', -1.0, -1.0),
        ('{"data":null}', 0.0, None),
        ("null", 0.0, None),
        ('{"data":{"result":[{"value":[1,"1e400"]}]}}', None, None),
        ('{"data":{"result":[{"value":[1,"1_0"]}]}}', None, None),
        ('{"data":{"result":[{"value":[1," 1"]}]}}', None, None),
        ('{"data":{"result":[{"value":[1,"0x1p4"]}]}}', 16.0, 16.0),
        ('{"data":{"result":[{"value":[1,"-Inf"]}]}}', 0.0, None),
        ('{"data":{"result":{}}}', None, None),
        ('{"data":{"result":[{"value":[NaN,"1"]}]}}', None, None),
        ("[]", None, None),
        ("false", None, None),
        ("[1, 2]", None, None),
        ("not json", None, None),
    ],
)
def test_what_prometheus_answers(body: str, ignoring: float | None, strict: float | None) -> None:
    def read(ignore: bool) -> float | None:
        try:
            return km.prometheus_value(200, body, ignore)
        except km.QueryError:
            return None

    assert (read(True), read(False)) == (ignoring, strict)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a + b * 2", 7.0),
        ("(a + b) / 2", 2.0),
        ("-a ** 2", -1.0),
        ("missing ?? b", 3.0),
        ("missing ?? nil ?? 4", 4.0),
        ("a > b ? a : b - a", 2.0),
        ("max(a, b) + sum([a, b, 2])", 9.0),
        ("a < b and not (a == b) ? 1 : 0", 1.0),
        ("10 % 4 - 2 ^ 3", -6.0),
        ("round(2.5) + floor(-0.5)", 2.0),
        ("count([a, b, 2], {# > 1}) > 1 ? 5 : 0", 5.0),
        ("count([a, b], # > 1)", 1.0),
        ("sum([a, b], {# * 2})", 8.0),
        ("sum(filter([a, b, 9], {# < 5}))", 4.0),
        ("max(map([a, b], {# + count([1, 2], {# > 1})}))", 4.0),
        ("any([a, b], {# == 3}) and not all([a, b], {# == 3}) ? 1 : 2", 1.0),
        ("one([a, b], {# == 3}) && none([a], {# > 1}) ? 1 : 2", 1.0),
        ("true == 1 ? 1 : 2", 2.0),
        ("7 % 4 / 2", 1.5),
    ],
)
def test_formulas(text: str, value: float) -> None:
    assert evaluate(text, {"a": 1.0, "b": 3.0}) == value


@pytest.mark.parametrize(
    "text",
    [
        "a +",
        "missing + 1",
        "a / 0",
        "nil",
        "true",
        "count(a)",
        "count([a, b], {a})",
        "a % 2",
        "#",
        "map([a])",
        "a b",
        "(((",
        "'x'",
        "",
    ],
)
def test_formulas_that_cannot_be_computed_say_so(text: str) -> None:
    with pytest.raises(FormulaError):
        evaluate(text, {"a": 1.0})


@given(st.text("ab019.e_ +-*/%^?:!<>=&|()[]{}#,nilortud\\'\u00e9\n", max_size=40))
def test_no_text_breaks_the_formula_reader(text: str) -> None:
    try:
        evaluate(text, {"a": 1.0})
    except FormulaError as e:
        assert str(e)

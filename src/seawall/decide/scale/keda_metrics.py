"""KEDA's metric values: what Prometheus' answer is worth, and what stands in for one that cannot be had.

Source: KEDA 2.20.2, pkg/scalers/prometheus_scaler.go, pkg/fallback/fallback.go, pkg/scaling/modifiers/formula.go;
docstrings name the function. Forbidden: talking to Prometheus: the answer comes in as text.

Values are milli-units (`_m`), as external.metrics.k8s.io carries them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from seawall.decide.scale.formula import FormulaError, evaluated
from seawall.decide.scale.keda import Fallback

_T = TypeVar("_T", dict[str, object], list[object])

COMPOSITE = "composite-metric"
HAPPY, FAILING = "Happy", "Failing"


@dataclass(frozen=True, slots=True)
class Health:
    """How often in a row a metric could not be read (both KEDA's loop and the HPA's reads count)."""

    failures: int
    status: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """One metric as KEDA hands it to the HPA; `error` set: the HPA sees an error and changes nothing."""

    value_m: int | None = None
    error: str | None = None
    used_fallback: bool = False
    health: Mapping[str, Health] | None = None
    condition: str = "Unknown"
    """The Fallback condition."""
    patched: bool = False
    """A status write was attempted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trigger:
    """The trigger's target, and what the scale target looks like."""

    metric: str
    target_m: int
    target_type: str = "AverageValue"
    current_replicas: int | None = None
    ready_replicas: int | None = None
    uses_modifiers: bool = False


def approximate(value_m: int) -> float:
    """`Quantity.AsApproximateFloat64` of milli-units: multiplied by 1e-3, which rounds unlike a division."""
    return value_m * 0.001


def activates(value: float, activation: float = 0.0) -> bool:
    """`isActive`: strictly above the activation threshold."""
    return value > activation


def clean(value: float) -> float:
    """`GenerateMetricInMili`'s guard: NaN, infinities and negatives become 0, the rest keeps three decimals."""
    if math.isnan(value) or math.isinf(value) or value < 0:
        return 0.0
    return round(value, 3)


def with_fallback(
    trigger: Trigger,
    value_m: int | None,
    error: str | None,
    fallback: Fallback | None,
    health: Mapping[str, Health] | None,
) -> Reading:
    """`GetMetricsWithFallback`: health is kept, and written, only where a valid fallback is configured."""
    configured = fallback is not None and fallback.valid and _modifiers_valid(trigger)
    if fallback is None or not configured:
        if error is None:
            return Reading(value_m=value_m, health=health)
        return Reading(error=error, health=health)
    before = dict(health or {})
    if error is None:
        entry = Health(0, HAPPY)
    else:
        entry = Health(before.get(trigger.metric, Health(0, HAPPY)).failures + 1, FAILING)
    after = {**before, trigger.metric: entry}
    exceeded = any(h.status == FAILING and h.failures > fallback.failure_threshold for h in after.values())
    # The condition starts Unknown, so the first write always differs from what is stored.
    known = Reading(health=after, condition="True" if exceeded else "False", patched=True)
    if error is None:
        return replace(known, value_m=value_m)
    if entry.failures <= fallback.failure_threshold:
        return replace(known, error=error)
    if fallback.behavior == "scalingModifiers":
        return replace(known, value_m=-1000)
    if fallback.behavior not in ("", "static") and trigger.current_replicas is None:
        return replace(known, error=error)
    stand_in = fallback_value_m(trigger, fallback)
    if stand_in is None:
        return replace(known, error="error performing fallback")
    return replace(known, value_m=stand_in, used_fallback=True)


def _modifiers_valid(trigger: Trigger) -> bool:
    """With scalingModifiers the composite target must be a positive whole number (`HasValidFallback`)."""
    return not trigger.uses_modifiers or (trigger.target_m > 0 and trigger.target_m % 1000 == 0)


def fallback_value_m(trigger: Trigger, fallback: Fallback) -> int | None:
    """`doFallback`: target x replicas; for a Value target divided by the ready pods (none ready: None)."""
    current = trigger.current_replicas or 0
    replicas = float(
        {
            "currentReplicas": current,
            "currentReplicasIfHigher": max(current, fallback.replicas),
            "currentReplicasIfLower": min(current, fallback.replicas),
        }.get(fallback.behavior, fallback.replicas)
    )
    if trigger.target_type == "Value":
        if not trigger.ready_replicas:
            return None
        replicas /= trigger.ready_replicas
    target = trigger.target_m / 1000 if trigger.uses_modifiers else approximate(trigger.target_m)
    return int(target * 1000 * replicas)


class QueryError(Exception):
    """Prometheus' answer cannot be used: KEDA counts it as a failure of the trigger."""


def prometheus_value(http_status: int, body: str, ignore_null: bool = True) -> float:
    """`ExecutePromQuery` -> the value. Empty, infinite, NaN: 0 or an error, as `ignoreNullValues` says."""
    if not 200 <= http_status <= 299:
        raise QueryError(f"prometheus query api returned error. status: {http_status} response: {body[:200]}")
    results = _results(body)
    if len(results) > 1:
        raise QueryError("prometheus query returned multiple elements")
    values = results[0] if results else []
    if not values:
        if ignore_null:
            return 0.0
        raise QueryError("prometheus metrics target may be lost, the result is empty")
    if len(values) < 2:
        raise QueryError("prometheus query didn't return enough values")
    if values[1] is None:
        return -1.0
    if not isinstance(values[1], str):
        raise QueryError(f"prometheus value {values[1]!r} is not a text")
    value = _parsed(values[1])
    if math.isinf(value) or math.isnan(value):
        if ignore_null:
            return 0.0
        raise QueryError("prometheus query returns infinite or not-a-number value")
    return value


def _results(body: str) -> list[list[object]]:
    """The answer's `data.result[].value`, decoded as strictly as Go does: null is empty, another type an error."""
    try:
        answer = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as e:
        raise QueryError(f"prometheus' answer is not JSON: {e}") from e

    def part(value: object, kind: type[_T], where: str) -> _T:
        if value is None:
            return kind()
        if not isinstance(value, kind):
            raise QueryError(f"prometheus' answer: {where} is a {type(value).__name__}")
        return value

    data = part(part(answer, dict, "the whole").get("data"), dict, "data")
    results = part(data.get("result"), list, "data.result")
    return [part(part(r, dict, "a result").get("value"), list, "a value") for r in results]


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_GO_FLOAT = re.compile(
    r"[+-]?(?:inf(?:inity)?|nan|(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|0x(?:[\da-f]+\.?[\da-f]*|\.[\da-f]+)p[+-]?\d+)",
    re.ASCII | re.IGNORECASE,
)


def _parsed(text: str) -> float:
    """strconv.ParseFloat: no blanks, no underscores, hexadecimal with an exponent; out of range is an error."""
    if not _GO_FLOAT.fullmatch(text):
        raise QueryError(f"prometheus value {text!r} is not a number")
    try:
        value = float.fromhex(text) if "x" in text.lower() else float(text)
    except OverflowError:
        value = math.inf
    if math.isinf(value) and "inf" not in text.lower():
        raise QueryError(f"prometheus value {text!r} is out of range")
    return value


def trigger_value_m(
    metric: str, value_m: int, fallback: Fallback | None, health: Mapping[str, Health] | None
) -> int | None:
    """`scalingModifierTriggerValue`: None (the formula's nil) once the trigger failed too often in a row."""
    if fallback is None or fallback.behavior != "scalingModifiers":
        return value_m
    seen = (health or {}).get(metric)
    return None if seen is not None and seen.failures > fallback.failure_threshold else value_m


def composite_value_m(
    formula: str | None,
    metrics: Sequence[tuple[str, int]],
    variable_of: Mapping[str, str],
    fallback: Fallback | None,
    health: Mapping[str, Health] | None,
    target: str | None = None,
) -> int:
    """`calculateScalingModifiersFormula`: the composite metric's value, truncated to milli-units. FormulaError.

    A formula that gives nil because its triggers fail (fallback `scalingModifiers`) stands for
    `fallback.replicas` times `target`, the composite metric's target as written.
    """
    data: dict[str, float | None] = {}
    for metric, value_m in metrics:
        usable = trigger_value_m(metric, value_m, fallback, health)
        data[variable_of.get(metric, "")] = None if usable is None else approximate(usable)
    if formula is None:
        raise FormulaError("cached compiled formula is nil during its calculation")
    value = evaluated(formula, data)
    if value is None:
        if fallback is None or fallback.behavior != "scalingModifiers":
            raise FormulaError("the formula gives nil, not a number")
        value = fallback.replicas * _target(target)
    return int(value * 1000)


def _target(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        raise FormulaError(f"the target {text!r} of scalingModifiers is not a number") from None

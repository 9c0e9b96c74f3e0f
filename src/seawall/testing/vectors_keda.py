"""Reads the KEDA tables' cases into calls of `seawall.decide.scale` and its answers back into their keys.

Why: the vectors' schema is not our API, and must not shape it. Forbidden: deciding anything here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from seawall.decide.scale import keda, keda_metrics
from seawall.decide.scale.formula import FormulaError
from seawall.decide.scale.keda_metrics import Health

Json = dict[str, Any]


def _fallback(raw: Json | None) -> keda.Fallback | None:
    if raw is None:
        return None
    return keda.Fallback(raw["replicas"], raw["failure_threshold"], raw.get("behavior") or "")


def _hpa(raw: Json | None) -> keda.HpaSeen | None:
    if raw is None:
        return None
    conditions = {
        c["type"]: keda.Condition(c["status"], c["reason"], c["message"]) for c in raw["conditions"]
    }
    return keda.HpaSeen(read_error=raw["read_error"], conditions=conditions)


def _shown(condition: keda.Condition | None) -> Json | None:
    if condition is None:
        return None
    return {"status": condition.status, "reason": condition.reason, "message": condition.message}


def _health(raw: Json | None) -> dict[str, Health] | None:
    return None if raw is None else {k: Health(v["failures"], v["status"]) for k, v in raw.items()}


def request_scale(given: Json) -> Json:
    """One poll of a ScaledObject."""
    cooldown, initial = given["cooldown_s"], given["initial_cooldown_s"]
    spec = keda.ScaleSpec(
        lowest=given["min_replicas"] or 0,
        idle=given["idle_replicas"],
        cooldown_s=keda.COOLDOWN_S if cooldown is None else cooldown,
        initial_cooldown_s=0.0 if initial is None else initial,
        fallback=_fallback(given["fallback"]),
        annotations=given["annotations"],
        target=f"{given['target_kind']} {given['namespace']}/{given['target_name']}",
    )
    turn = keda.Poll(
        current=given["current_replicas"],
        active=given["is_active"],
        error=given["is_error"],
        last_active_s=given["last_active_s"],
        created_s=given["created_s"],
        now=0,
        triggers=given["active_triggers"],
        hpa=_hpa(given["hpa"]),
    )
    found = keda.request_scale(spec, turn)
    event = found.event
    return {
        "replicas": found.replicas,
        "scale_updated": found.scaled,
        "active": _shown(found.active),
        "ready": _shown(found.ready),
        "hpa_active": _shown(found.hpa_active),
        "paused": "True" if found.paused else None,
        "last_active_set": found.touched,
        "event": None if event is None else {"type": event.type, "reason": event.reason, "note": event.note},
        "pause_replicas": None,  # RequestScale has the field and never sets it
    }


def hpa_health(given: Json) -> Json:
    """What KEDA makes of the HPA's conditions."""
    return _shown(keda.hpa_health(_hpa(given["hpa"]))) or {}


def hpa_health_apply(given: Json) -> Json:
    """The HPAActive condition afterwards."""
    raw = given["previous"] or {}
    previous = keda.Condition(raw.get("status", ""), raw.get("reason", ""), raw.get("message", ""))
    return _shown(keda.hpa_health_applied(_hpa(given["hpa"]), previous)) or {}


def fallback(given: Json) -> Json:
    """A metric, or what stands in for it."""
    trigger = keda_metrics.Trigger(
        metric=given["metric_name"],
        target_m=given["target_m"],
        target_type=given["target_type"],
        current_replicas=given["current_replicas"],
        ready_replicas=given["ready_replicas"],
        uses_modifiers=given["uses_scaling_modifiers"],
    )
    found = keda_metrics.with_fallback(
        trigger,
        given["metric_value_m"],
        given["metric_error"],
        _fallback(given["fallback"]),
        _health(given["health"]),
    )
    health = found.health
    return {
        "error": found.error,
        "value_m": found.value_m,
        "used_fallback": found.used_fallback,
        "health": None
        if health is None
        else {k: {"failures": h.failures, "status": h.status} for k, h in health.items()},
        "fallback_condition": found.condition,
        "status_patched": found.patched,
    }


def prometheus_query(given: Json) -> Json:
    """The value of Prometheus' answer."""
    try:
        value = keda_metrics.prometheus_value(
            given["http_status"], given["body"], given["ignore_null_values"]
        )
    except keda_metrics.QueryError as e:
        return {"error": True, "value": -1.0, "error_contains": str(e)}
    return {"error": False, "value": value}


def formula_trigger_value(given: Json) -> Json:
    """What the formula sees of one trigger."""
    fall, health = _fallback(given["fallback"]), _health(given["health"])
    return {"value_m": keda_metrics.trigger_value_m(given["metric_name"], given["value_m"], fall, health)}


def formula(given: Json) -> Json:
    """The composite metric."""
    try:
        value = keda_metrics.composite_value_m(
            given["formula"],
            [(m["metric"], m["value_m"]) for m in given["metrics"]],
            given["trigger_of_metric"],
            _fallback(given["fallback"]),
            _health(given["health"]),
            given["target"],
        )
    except FormulaError as e:
        return {"error": True, "error_contains": str(e)}
    return {"error": False, "value_m": value, "metric_name": keda_metrics.COMPOSITE}


KINDS: dict[str, Callable[[Json], Json]] = {
    "request_scale": request_scale,
    "hpa_health": hpa_health,
    "hpa_health_apply": hpa_health_apply,
    "fallback": fallback,
    "prometheus_query": prometheus_query,
    "formula_trigger_value": formula_trigger_value,
    "formula": formula,
}

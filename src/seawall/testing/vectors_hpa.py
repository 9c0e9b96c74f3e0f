"""Reads the HPA tables' cases into calls of `seawall.decide.scale` and its answers back into their keys.

Why: the vectors' schema is not our API, and must not shape it. Forbidden: deciding anything here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from seawall.decide.scale import behavior, calc, hpa
from seawall.decide.scale.behavior import DirectionRules, RatePolicy, Recommendation, ScaleEvent

Json = dict[str, Any]


def rules_of(raw: Json | None, default: DirectionRules) -> DirectionRules:
    """Rules as written, missing parts from `default`."""
    raw = raw or {}
    policies = raw.get("policies")
    return behavior.filled(
        raw.get("window_s"),
        raw.get("select"),
        tuple(RatePolicy(p["type"], p["value"], p["period_s"]) for p in policies) if policies else None,
        raw.get("tolerance"),
        default,
    )


def _events(raw: list[Json]) -> tuple[ScaleEvent, ...]:
    return tuple(ScaleEvent(e["change"], e["at_s"], e.get("outdated", False)) for e in raw)


def _log(raw: list[Json]) -> tuple[Recommendation, ...]:
    return tuple(Recommendation(r["replicas"], r["at_s"]) for r in raw)


def _pod(raw: Json) -> calc.CountedPod:
    ready = raw.get("ready")
    return calc.CountedPod(
        name=raw["name"],
        phase=raw.get("phase", "Running"),
        deleted=raw.get("deleted", False),
        start_s=raw.get("start_s"),
        ready=None if ready is None else calc.Ready(ready["status"], ready["last_transition_s"]),
        request_m=raw.get("request_m"),
    )


def _samples(given: Json) -> dict[str, calc.Sample] | None:
    samples = given.get("metrics", [])
    if not given.get("container_metrics", samples):
        return None
    return {s["pod"]: calc.Sample(s["value_m"], s["timestamp_s"], s["window_s"]) for s in samples}


def _readiness(given: Json) -> calc.Readiness:
    return calc.Readiness(
        now=0,
        cpu_initialization_s=given["cpu_initialization_s"],
        initial_readiness_delay_s=given["initial_readiness_delay_s"],
    )


def replicas(given: Json) -> Json:
    """One metric's proposal."""
    try:
        return _replicas(given)
    except calc.MetricError as e:
        return {"error": e.code, "error_contains": str(e)}


def _replicas(given: Json) -> Json:
    tolerance = calc.Tolerance(given["tolerance_down"], given["tolerance_up"])
    pods, current = [_pod(p) for p in given.get("pods", [])], given["current_replicas"]
    source = given["metric_source"]
    if source == "resource":
        found = calc.by_utilization(
            current,
            given["target_utilization_pct"],
            given["resource"],
            pods,
            _samples(given),
            tolerance,
            _readiness(given),
            given.get("container", ""),
        )
        return {
            "replicas": found.replicas,
            "utilization_pct": found.utilization_pct,
            "raw_average_m": found.usage_m,
        }
    if source == "pods":
        found = calc.by_pods(current, given["target_m"], pods, _samples(given), tolerance, _readiness(given))
    elif source in ("object", "external"):
        found = calc.by_value(current, given["target_m"], calc.summed(given["values_m"]), pods, tolerance)
    elif source == "external_per_pod":
        found = calc.per_pod(current, given["target_m"], calc.summed_per_pod(given["values_m"]), tolerance)
    elif source == "object_per_pod":
        found = calc.per_pod(current, given["target_m"], calc.summed(given["values_m"]), tolerance)
    else:
        raise ValueError(f"unknown metric_source {source!r}")
    return {"replicas": found.replicas, "usage_m": found.usage_m}


def group_pods(given: Json) -> Json:
    """Which pods' samples count."""
    pods = [_pod(p) for p in given["pods"]]
    groups = calc.group_pods(pods, _samples(given) or {}, given["resource"], _readiness(given))
    return {
        "ready_pod_count": groups.ready_count,
        "unready": sorted(groups.unready),
        "missing": sorted(groups.missing),
        "ignored": sorted(groups.ignored),
    }


def calculate_requests(given: Json) -> Json:
    """Requests per pod."""

    def containers(raw: list[Json]) -> list[calc.ContainerRequests]:
        return [
            calc.ContainerRequests(
                name=c["name"], request_m=c["request_m"], always=c.get("restart_policy") == "Always"
            )
            for c in raw
        ]

    pods = [
        calc.PodResources(
            name=p["name"],
            pod_level_m=p.get("pod_level_request_m"),
            containers=containers(p.get("containers", [])),
            init_containers=containers(p.get("init_containers", [])),
        )
        for p in given["pods"]
    ]
    try:
        found = calc.requests_of(
            pods, given["resource"], given.get("container", ""), given["pod_level_resources_enabled"]
        )
    except calc.MetricError as e:
        return {"error": e.code, "error_contains": str(e)}
    return {"requests_m": found}


def rate_policies(given: Json) -> Json:
    """The limits of rate and bounds. The user's spec, filled in, must give the same rules as the effective ones."""
    up, down = (
        rules_of(given["scale_up"], behavior.DEFAULT_UP),
        rules_of(given["scale_down"], behavior.DEFAULT_DOWN),
    )
    for key, effective, default in (
        ("scale_up_spec", up, behavior.DEFAULT_UP),
        ("scale_down_spec", down, behavior.DEFAULT_DOWN),
    ):
        if key in given and rules_of(given[key], default) != effective:
            raise ValueError(f"{key} fills in to {rules_of(given[key], default)}, not {effective}")
    found = behavior.rate_limited(
        given["current_replicas"],
        given["desired_replicas"],
        given["min_replicas"],
        given["max_replicas"],
        up,
        down,
        _events(given["scale_up_events"]),
        _events(given["scale_down_events"]),
        0,
    )
    return {"replicas": found.replicas, "reason": found.reason}


def stabilize_behavior(given: Json) -> Json:
    """Stabilisation windows of `spec.behavior`."""
    count, log = behavior.stabilized(
        given["current_replicas"],
        given["desired_replicas"],
        _log(given["recommendations"]),
        given["scale_up_window_s"],
        given["scale_down_window_s"],
        0,
    )
    return {"replicas": count, "recommendations": [r.replicas for r in log], "log_length": len(log)}


def stabilize_legacy(given: Json) -> Json:
    """The controller's downscale window."""
    count, log = behavior.legacy_stabilized(
        given["desired_replicas"], _log(given["recommendations"]), given["window_s"], 0
    )
    return {"replicas": count, "recommendations": [r.replicas for r in log], "log_length": len(log)}


def scale_events(given: Json) -> Json:
    """Changes inside a period, and the log after one more."""
    events = _events(given["events"])
    rules = None if given["rules"] is None else rules_of(given["rules"], behavior.DEFAULT_UP)
    after = behavior.stored(events, given["replica_change"], rules, 0)
    return {
        "change_in_period": behavior.change_in(events, given["period_s"], 0),
        "events_after": [{"change": e.change, "outdated": e.outdated} for e in after],
    }


def convert_legacy(given: Json) -> Json:
    """The bounds without `spec.behavior`."""
    found = behavior.legacy_limited(
        given["current_replicas"],
        given["desired_replicas"],
        given["min_replicas"],
        given["max_replicas"],
        given["scale_up_limit_factor"],
        given["scale_up_limit_minimum"],
    )
    return {"replicas": found.replicas, "reason": found.reason}


def limits(given: Json) -> Json:
    """The rate limit of one direction."""
    limit = behavior.up_limit if given["direction"] == "up" else behavior.down_limit
    default = behavior.DEFAULT_UP if given["direction"] == "up" else behavior.DEFAULT_DOWN
    ups, downs = _events(given["scale_up_events"]), _events(given["scale_down_events"])
    return {"limit": limit(given["current_replicas"], ups, downs, rules_of(given["rules"], default), 0)}


def tolerance(given: Json) -> Json:
    """One whole reconcile from scratch."""
    gate, default = given["configurable_tolerance_enabled"], given["default_tolerance"]
    up, down = given["scale_up_tolerance"], given["scale_down_tolerance"]
    allowed = calc.Tolerance(
        down if gate and down is not None else default, up if gate and up is not None else default
    )
    long_ago = -1_000_000_000.0
    pods = [
        calc.CountedPod(
            name=p["name"], start_s=long_ago, ready=calc.Ready(True, long_ago), request_m=p["request_m"]
        )
        for p in given["pods"]
    ]
    samples = {p["name"]: calc.Sample(p["usage_m"], 0, 60) for p in given["pods"]}
    current = given["current_replicas"]
    wanted = calc.by_utilization(
        current,
        given["target_utilization_pct"],
        given["resource"],
        pods,
        samples,
        allowed,
        calc.Readiness(),
    )
    spec = hpa.HpaSpec(
        lowest=given["min_replicas"],
        highest=given["max_replicas"],
        up=behavior.DEFAULT_UP if given["has_behavior"] else None,
        down=behavior.DEFAULT_DOWN if given["has_behavior"] else None,
    )
    proposal = hpa.Proposal(metric=given["resource"], replicas=wanted.replicas)
    found, _ = hpa.sync(spec, current, [proposal], {}, 0)
    direction = "scale_up" if found.replicas > current else "scale_down"
    return {
        "desired_replicas": found.replicas,
        "action": direction if found.rescale else "none",
        "able_to_scale_reason": found.able_reason,
        "scaling_limited": found.limited,
        "scaling_limited_reason": found.limited_reason,
    }


KINDS: dict[str, Callable[[Json], Json]] = {
    "replicas": replicas,
    "group_pods": group_pods,
    "calculate_requests": calculate_requests,
    "rate_policies": rate_policies,
    "behavior": stabilize_behavior,
    "legacy": stabilize_legacy,
    "scale_events": scale_events,
    "convert_legacy": convert_legacy,
    "limits": limits,
    "tolerance": tolerance,
}

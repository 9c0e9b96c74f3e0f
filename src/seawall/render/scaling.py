"""Who scales: KEDA on Prometheus, on the gateway's own numbers or on our decision, or a plain HPA on external metrics.

Always a sum with an AverageValue target: the HPA divides by the replicas itself, an `avg` would be divided
twice and scale down under overload. Missing data is an error and holds the count; it is never zero.
Forbidden here: a number of its own. All are `decide.scale.policy_of`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from seawall.decide import scale
from seawall.decide.scale import ScaleMeasure, ScalePolicy
from seawall.decide.scale.behavior import DirectionRules
from seawall.decide.scale.record import policy_text
from seawall.domain.labels import ADMIN_PORT, SCALER_PORT
from seawall.domain.units import decimal_quantity
from seawall.render import demand as d
from seawall.render.inputs import Group, Object, Wanted
from seawall.render.names import fleet_meta, scaler_name, short
from seawall.render.promql import parsed
from seawall.render.replica.workload import Half, kind_of, scaled

QUERIES: dict[ScaleMeasure, Callable[[Wanted, Half], str]] = {
    "demand": lambda wanted, half: d.demand(wanted, floor_capacity(wanted, half)),
    "waiting": lambda wanted, half: d.waiting(wanted, half.name),
    "kv-cache": lambda wanted, half: d.kv_usage(wanted, half.name),
}
"""How a Prometheus measures what a trigger is about."""


def policy_of(wanted: Wanted) -> ScalePolicy:
    """Every number in this file: what decides in the local mode and in the simulator, too."""
    return scale.policy_of(wanted.fleet, wanted.plan)


def arithmetic(wanted: Wanted) -> ScalePolicy:
    """The HPA's policy for this fleet, also where a forecast decides: what takes over when that is silent."""
    fleet = wanted.fleet
    scaling = replace(fleet.spec.scaling, policy="hpa")
    return scale.policy_of(replace(fleet, spec=replace(fleet.spec, scaling=scaling)), wanted.plan)


def scalers(wanted: Wanted, group: Group) -> list[Object]:
    """The objects that scale this fleet; empty with `by: none` and for a fleet whose size is fixed."""
    half = scaled(wanted)
    by = wanted.fleet.spec.scaling.by
    if half is None or by == "none" or wanted.fleet.spec.pool is not None:
        return []
    if by == "hpa":
        return [horizontal(wanted, half)]
    logins = (trigger_authentication(wanted), scaler_authentication(wanted))
    return [*(login for login in logins if login), scaled_object(wanted, group, half)]


def trigger_authentication(wanted: Wanted) -> Object | None:
    """KEDA's way to a Prometheus that asks for a token; without `authModes` on the trigger it is ignored."""
    scaling = wanted.fleet.spec.scaling
    if scaling.prometheus_secret is None or scaling.by not in ("keda-prometheus", "seawall"):
        return None
    token = {"parameter": "bearerToken", "name": scaling.prometheus_secret, "key": "token"}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "TriggerAuthentication",
        "metadata": fleet_meta(wanted, short(wanted.name, "-prometheus"), "scaling"),
        "spec": {"secretTargetRef": [token]},
    }


def scaler_authentication(wanted: Wanted) -> Object | None:
    """KEDA's certificate towards our scaler, and the authority by which it knows the scaler's."""
    scaling = wanted.fleet.spec.scaling
    if scaling.tls_secret is None or scaling.by != "seawall":
        return None
    keys = {"caCert": "ca.crt", "tlsClientCert": "tls.crt", "tlsClientKey": "tls.key"}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "TriggerAuthentication",
        "metadata": fleet_meta(wanted, short(wanted.name, "-scaler"), "scaling"),
        "spec": {
            "secretTargetRef": [
                {"parameter": p, "name": scaling.tls_secret, "key": k} for p, k in keys.items()
            ]
        },
    }


def floor_capacity(wanted: Wanted, half: Half) -> float:
    """Requests that the on-demand floor takes, so that the spot half is sized for the rest."""
    spot = wanted.fleet.spec.hardware.spot
    if spot is None or half.pool != "spot":
        return 0.0
    return min(spot.on_demand_floor, wanted.fleet.spec.scaling.max) * policy_of(wanted).target


def behavior(policy: ScalePolicy) -> Object:
    return {"scaleUp": _rules(policy.up), "scaleDown": _rules(policy.down)}


def _rules(rules: DirectionRules) -> Object:
    return {
        "stabilizationWindowSeconds": rules.window_s,
        "selectPolicy": rules.select,
        "policies": [
            {"type": p.type, "value": p.value, "periodSeconds": round(p.period_s)} for p in rules.policies
        ],
    }


def _ref(wanted: Wanted, half: Half) -> Object:
    api, kind = kind_of(wanted)
    return {"apiVersion": api, "kind": kind, "name": half.name}


def scaled_object(wanted: Wanted, group: Group, half: Half) -> Object:
    by, policy = wanted.fleet.spec.scaling.by, policy_of(wanted)
    spec: Object = {
        "scaleTargetRef": _ref(wanted, half),
        "minReplicaCount": half.min,
        "maxReplicaCount": max(1, half.max),
    }
    if half.min == 0:
        # Both belong to the step between 0 and 1; every other step is the HPA's business.
        spec["pollingInterval"] = policy.polling_s
        # Our scaler has waited for idleAfter before it says 0.
        spec["cooldownPeriod"] = min(60, policy.idle_after_s) if by == "seawall" else policy.idle_after_s
    spec["fallback"] = {
        "failureThreshold": 4,
        "replicas": max(1, half.min),
        "behavior": "scalingModifiers" if by == "seawall" else "currentReplicasIfHigher",
    }
    spec["advanced"] = {
        "restoreToOriginalReplicaCount": False,
        "horizontalPodAutoscalerConfig": {
            "name": half.name,
            "behavior": followed(policy) if by == "seawall" else behavior(policy),
        },
    }
    floor = floor_capacity(wanted, half)
    if by == "keda-gateway" and floor:
        spec["advanced"]["scalingModifiers"] = {
            "formula": f"max(demand - {floor:g}, 0)",
            "target": number(policy.target),
            "activationTarget": number(policy.activation),
            "metricType": "AverageValue",
        }
    if by == "seawall":
        # While the scaler answers, its word counts; while it does not, the arithmetic does; where there is neither, the
        # formula is an error, by which the HPA changes nothing. (`??` binds tighter than a division.)
        spec["advanced"]["scalingModifiers"] = {
            "formula": f"decided ?? {_without_us(wanted, half)}",
            "target": "1",
            "activationTarget": "0",
            "metricType": "AverageValue",
        }
    triggers: dict[str, Callable[[], list[Object]]] = {
        "keda-prometheus": lambda: prometheus_triggers(wanted, half),
        "keda-gateway": lambda: [gateway_trigger(wanted, group, half)],
        "seawall": lambda: [decided_trigger(wanted, group, half), *prometheus_triggers(wanted, half)],
    }
    spec["triggers"] = [*triggers[by](), *cron_triggers(wanted, half)]
    metadata = fleet_meta(wanted, half.name, "scaling")
    return {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": metadata, "spec": spec}


def _without_us(wanted: Wanted, half: Half) -> str:
    """What KEDA computes while our scaler is silent: replicas for the demand, and what the schedule asks for."""
    demand = f"(demand / {number(arithmetic(wanted).target)})"
    names = [trigger["name"] for trigger in cron_triggers(wanted, half)]
    return f"max({', '.join([demand, *names])})" if names else demand


def cron_triggers(wanted: Wanted, half: Half) -> list[Object]:
    """KEDA's own clock for the windows that ask for more than the minimum. Outside of one it says 1."""
    floor = _floor(wanted, half)
    return [
        {
            "type": "cron",
            "name": f"schedule_{n}",
            "metricType": "AverageValue",
            "metadata": {
                "timezone": window.zone,
                "start": window.start,
                "end": window.end,
                "desiredReplicas": str(window.lowest - floor),
            },
        }
        for n, window in enumerate(policy_of(wanted).windows)
        if window.lowest - floor > half.min
    ]


def _floor(wanted: Wanted, half: Half) -> int:
    """Replicas beside the scaled half, on demand, that a decision counts."""
    spot = wanted.fleet.spec.hardware.spot
    return spot.on_demand_floor if spot is not None and half.pool == "spot" else 0


def prometheus_triggers(wanted: Wanted, half: Half) -> list[Object]:
    scaling, policy = wanted.fleet.spec.scaling, arithmetic(wanted)
    out: list[Object] = []
    for measured in policy.triggers:
        data = {
            "serverAddress": scaling.prometheus,
            "query": parsed(QUERIES[measured.measure](wanted, half)),
            "threshold": number(measured.target),
            "activationThreshold": number(policy.activation),
            "ignoreNullValues": "false",
        }
        trigger: Object = {
            "type": "prometheus",
            "name": measured.measure,
            "metricType": "AverageValue",
            "metadata": data,
        }
        if scaling.prometheus_secret:
            data["authModes"] = "bearer"
            trigger["authenticationRef"] = {"name": short(wanted.name, "-prometheus")}
        out.append(trigger)
    return out


def gateway_trigger(wanted: Wanted, group: Group, half: Half) -> Object:
    """Without Prometheus: KEDA (2.20 or newer) asks every gateway Pod and sums. All traffic runs through the
    gateway, so what it has accepted and not finished is the whole demand."""
    policy = policy_of(wanted)
    url = f"http://{d.admin_host(group.gateway, group.namespace)}:{ADMIN_PORT}/debug/state"
    return {
        "type": "metrics-api",
        "name": "demand",
        "metricType": "AverageValue",
        "metadata": {
            "url": url,
            "format": "json",
            "valueLocation": f"fleets.{wanted.name}.pending",
            "targetValue": number(policy.target),
            "activationTargetValue": number(policy.activation),
            "aggregateFromKubeServiceEndpoints": "true",
            "aggregationType": "sum",
        },
    }


def decided_trigger(wanted: Wanted, group: Group, half: Half) -> Object:
    """Our own scaler, which is asked how many replicas there should be; the policy goes with the question."""
    trigger: Object = {
        "type": "external-push",
        "name": "decided",
        "metricType": "AverageValue",
        "metadata": {
            "scalerAddress": f"{scaler_name(group)}.{group.namespace}.svc:{SCALER_PORT}",
            "fleet": wanted.name,
            "target": half.name,
            "floor": str(_floor(wanted, half)),
            "policy": policy_text(policy_of(wanted)),
        },
    }
    if wanted.fleet.spec.scaling.tls_secret:
        trigger["authenticationRef"] = {"name": short(wanted.name, "-scaler")}
    return trigger


def followed(policy: ScalePolicy) -> Object:
    """The HPA's behaviour where the decision has its windows behind it: it follows, no faster than the policy
    itself. Its tolerance stays: a ScaledObject of KEDA 2.20 may have no field for it."""
    rules = behavior(policy)
    for direction in rules.values():
        direction["stabilizationWindowSeconds"] = 0
    return rules


def horizontal(wanted: Wanted, half: Half) -> Object:
    """A plain HPA on external metrics, served by prometheus-adapter (`seawall render cluster-prereqs` has the
    rules). It cannot go to zero before Kubernetes 1.37."""
    policy = policy_of(wanted)
    metric = {
        "type": "External",
        "external": {
            "metric": {
                "name": "seawall_demand",
                "selector": {"matchLabels": {"fleet": wanted.name}},
            },
            "target": {"type": "AverageValue", "averageValue": decimal_quantity(policy.target)},
        },
    }
    spec: Object = {
        "scaleTargetRef": _ref(wanted, half),
        "minReplicas": max(1, half.min),
        "maxReplicas": max(1, half.max),
        "behavior": behavior(policy),
        "metrics": [metric],
    }
    metadata = fleet_meta(wanted, half.name, "scaling")
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata,
        "spec": spec,
    }


def number(value: float) -> str:
    """A number as KEDA reads it: whole, or with at most three decimals."""
    return f"{value:.3f}".rstrip("0").rstrip(".")

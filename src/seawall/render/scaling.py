"""Who scales: KEDA on Prometheus, KEDA on the gateway's own numbers, or a plain HPA on external metrics.

Always a sum with an AverageValue target: the HPA divides by the replicas itself, an `avg` would be divided
twice and scale down under overload. Missing data is an error and holds the count; it is never zero.
"""

from __future__ import annotations

import math

from seawall.domain.labels import ADMIN_PORT
from seawall.render import demand as d
from seawall.render.inputs import Group, Object, Wanted
from seawall.render.names import fleet_meta, short
from seawall.render.promql import parsed
from seawall.render.replica.workload import Half, kind_of, scaled

UP_POLICIES = [
    {"type": "Percent", "value": 100, "periodSeconds": 60},
    {"type": "Pods", "value": 4, "periodSeconds": 60},
]
DOWN_POLICIES = [{"type": "Pods", "value": 1, "periodSeconds": 120}]


def scalers(wanted: Wanted, group: Group) -> list[Object]:
    """The objects that scale this fleet; empty with `by: none` and for a fleet whose size is fixed."""
    half = scaled(wanted)
    by = wanted.fleet.spec.scaling.by
    if half is None or by == "none" or wanted.fleet.spec.pool is not None:
        return []
    if by == "hpa":
        return [horizontal(wanted, half)]
    login = trigger_authentication(wanted)
    return [*([login] if login else []), scaled_object(wanted, group, half)]


def trigger_authentication(wanted: Wanted) -> Object | None:
    """KEDA's way to a Prometheus that asks for a token; without `authModes` on the trigger it is ignored."""
    scaling = wanted.fleet.spec.scaling
    if scaling.prometheus_secret is None or scaling.by != "keda-prometheus":
        return None
    token = {"parameter": "bearerToken", "name": scaling.prometheus_secret, "key": "token"}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "TriggerAuthentication",
        "metadata": fleet_meta(wanted, short(wanted.name, "-prometheus"), "scaling"),
        "spec": {"secretTargetRef": [token]},
    }


def floor_capacity(wanted: Wanted, half: Half) -> float:
    """Requests that the on-demand floor takes, so that the spot half is sized for the rest."""
    spot = wanted.fleet.spec.hardware.spot
    if spot is None or half.pool != "spot":
        return 0.0
    return min(spot.on_demand_floor, wanted.fleet.spec.scaling.max) * d.target(wanted)


def behavior(wanted: Wanted) -> Object:
    scaling = wanted.fleet.spec.scaling
    return {
        "scaleUp": {
            "stabilizationWindowSeconds": math.ceil(scaling.up_window),
            "selectPolicy": "Max",
            "policies": [dict(p) for p in UP_POLICIES],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": min(3600, math.ceil(scaling.down_window)),
            "selectPolicy": "Max",
            "policies": [dict(p) for p in DOWN_POLICIES],
        },
    }


def _ref(wanted: Wanted, half: Half) -> Object:
    api, kind = kind_of(wanted)
    return {"apiVersion": api, "kind": kind, "name": half.name}


def scaled_object(wanted: Wanted, group: Group, half: Half) -> Object:
    scaling = wanted.fleet.spec.scaling
    spec: Object = {
        "scaleTargetRef": _ref(wanted, half),
        "minReplicaCount": half.min,
        "maxReplicaCount": max(1, half.max),
    }
    if half.min == 0:
        # Both belong to the step between 0 and 1; every other step is the HPA's business.
        spec["pollingInterval"] = max(1, math.ceil(scaling.polling_interval))
        spec["cooldownPeriod"] = math.ceil(scaling.idle_after)
    spec["fallback"] = {
        "failureThreshold": 4,
        "replicas": max(1, half.min),
        "behavior": "currentReplicasIfHigher",
    }
    spec["advanced"] = {
        "restoreToOriginalReplicaCount": False,
        "horizontalPodAutoscalerConfig": {"name": half.name, "behavior": behavior(wanted)},
    }
    floor = floor_capacity(wanted, half)
    if scaling.by == "keda-gateway" and floor:
        # fallback is only defined for a whole target here.
        spec["advanced"]["scalingModifiers"] = {
            "formula": f"max(demand - {floor:g}, 0)",
            "target": f"{max(1, math.floor(d.target(wanted)))}",
            "activationTarget": "0",
            "metricType": "AverageValue",
        }
    spec["triggers"] = (
        prometheus_triggers(wanted, half)
        if scaling.by == "keda-prometheus"
        else [gateway_trigger(wanted, group, half)]
    )
    metadata = fleet_meta(wanted, half.name, "scaling")
    return {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": metadata, "spec": spec}


def prometheus_triggers(wanted: Wanted, half: Half) -> list[Object]:
    """Demand decides; waiting and KV cache are guards for traffic that the target was not measured with."""
    rows = (
        ("demand", d.demand(wanted, floor_capacity(wanted, half)), d.target(wanted)),
        ("waiting", d.waiting(wanted, half.name), d.WAITING_GUARD),
        ("kv-cache", d.kv_usage(wanted, half.name), d.KV_GUARD),
    )
    scaling = wanted.fleet.spec.scaling
    out: list[Object] = []
    for name, query, threshold in rows:
        data = {
            "serverAddress": scaling.prometheus,
            "query": parsed(query),
            "threshold": f"{threshold:g}",
            "activationThreshold": "0",
            "ignoreNullValues": "false",
        }
        trigger: Object = {
            "type": "prometheus",
            "name": name,
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
    url = f"http://{d.admin_host(group.gateway, group.namespace)}:{ADMIN_PORT}/debug/state"
    return {
        "type": "metrics-api",
        "name": "demand",
        "metricType": "AverageValue",
        "metadata": {
            "url": url,
            "format": "json",
            "valueLocation": f"fleets.{wanted.name}.pending",
            "targetValue": f"{d.target(wanted):g}",
            "activationTargetValue": "0",
            "aggregateFromKubeServiceEndpoints": "true",
            "aggregationType": "sum",
        },
    }


def horizontal(wanted: Wanted, half: Half) -> Object:
    """A plain HPA on external metrics, served by prometheus-adapter (`seawall render cluster-prereqs` has the
    rules). It cannot go to zero before Kubernetes 1.37."""
    metric = {
        "type": "External",
        "external": {
            "metric": {
                "name": "seawall_demand",
                "selector": {"matchLabels": {"fleet": wanted.name}},
            },
            "target": {"type": "AverageValue", "averageValue": quantity(d.target(wanted))},
        },
    }
    spec: Object = {
        "scaleTargetRef": _ref(wanted, half),
        "minReplicas": max(1, half.min),
        "maxReplicas": max(1, half.max),
        "behavior": behavior(wanted),
        "metrics": [metric],
    }
    metadata = fleet_meta(wanted, half.name, "scaling")
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata,
        "spec": spec,
    }


def quantity(value: float) -> str:
    """A Kubernetes quantity: whole, or in thousandths."""
    return f"{value:g}" if float(value).is_integer() else f"{math.ceil(value * 1000)}m"

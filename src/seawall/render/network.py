"""NetworkPolicies: only the gateway (and Prometheus) reaches engines; engines reach nothing once weights are local.

vLLM answers `/invocations`, `/sleep` and `/metrics` without its API key, so the network is what protects them.
Engine probes run inside the container (exec), so they need no rule.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from seawall.domain.labels import ADMIN_PORT, APP, ENGINE_APP, FLEET, HTTP_PORT, OPERATOR_APP, SCALER_PORT
from seawall.render.inputs import Group, Object, Wanted
from seawall.render.names import (
    fleet_meta,
    gateway_selector,
    labels,
    meta,
    scaler_name,
    scaler_selector,
    short,
)
from seawall.render.replica.weights import loader_selector, needs_loader

KEDA_NAMESPACE = "keda"
OPERATOR_NAMESPACE = "seawall-system"
OPERATOR = {APP: OPERATOR_APP}
DNS: Object = {
    "to": [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        }
    ],
    "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
}
NODE_LOCAL_DNS: Object = {
    "to": [{"ipBlock": {"cidr": "169.254.20.10/32"}}],
    "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
}


def prometheus_namespace(address: str) -> str:
    """`http://prometheus.monitoring.svc:9090` -> `monitoring`."""
    parts = (urlsplit(address).hostname or "").split(".")
    fits = len(parts) >= 2 and re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", parts[1])
    return parts[1] if fits else "monitoring"


def from_namespace(name: str) -> Object:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


OPERATORS: Object = {**from_namespace(OPERATOR_NAMESPACE), "podSelector": {"matchLabels": OPERATOR}}


def _policy(
    metadata: Object, match: dict[str, str], ingress: list[Object], egress: list[Object] | None
) -> Object:
    """Allowed are these; `egress` None: whatever leaves. A type without a rule allows nothing, and an empty list of
    rules is left out: the server drops it, and whoever applies the same bytes would be in conflict with it."""
    spec: Object = {"podSelector": {"matchLabels": match}, "policyTypes": ["Ingress"]}
    if egress is not None:
        spec["policyTypes"] = ["Ingress", "Egress"]
    spec |= {name: rules for name, rules in (("ingress", ingress), ("egress", egress)) if rules}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def engine_policy(wanted: Wanted, group: Group) -> Object:
    """The engines' policy. Leaders and workers of multi-node replicas may talk among themselves."""
    spec = wanted.fleet.spec
    callers: list[Object] = [{"podSelector": {"matchLabels": gateway_selector(group)}}]
    if spec.monitoring.enabled:
        callers.append(from_namespace(prometheus_namespace(spec.scaling.prometheus)))
    if spec.gateway.route == "inference-pool":
        callers.append({"podSelector": {"matchLabels": {APP: "epp"}}})
    if spec.model.adapter_slots is not None or (spec.pool is not None and spec.pool.sleep):
        callers.append(OPERATORS)
    ingress: list[Object] = [{"from": callers, "ports": [{"protocol": "TCP", "port": HTTP_PORT}]}]
    egress: list[Object] = []
    match = {FLEET: wanted.name, APP: ENGINE_APP}
    if wanted.plan.nodes_per_replica > 1:
        own = {"podSelector": {"matchLabels": match}}
        ingress.append({"from": [own]})
        egress += [{"to": [own]}, DNS, NODE_LOCAL_DNS]
    if spec.cache.kind in ("stream", "node-local"):
        egress += [*([] if egress else [DNS, NODE_LOCAL_DNS]), {"ports": [{"protocol": "TCP", "port": 443}]}]
    return _policy(fleet_meta(wanted, short(wanted.name, "-engine"), "engine"), match, ingress, egress)


def loader_policy(wanted: Wanted) -> Object | None:
    """The loader Job's policy: nobody calls it, and it may go out, for hubs, buckets and mirrors are on any port."""
    if not (needs_loader(wanted) or (wanted.canary and needs_loader(wanted.canary))):
        return None
    metadata = fleet_meta(wanted, short(wanted.name, "-weights"), "weights")
    return _policy(metadata, loader_selector(wanted), [], [{}])


def scaler_policy(group: Group) -> Object:
    """The scaler's policy: KEDA asks it, Prometheus reads its metrics; it asks gateways and the API server, whose
    address nobody can name here."""
    monitors = {
        prometheus_namespace(w.fleet.spec.scaling.prometheus)
        for w in group.members
        if w.fleet.spec.monitoring.enabled
    }
    ingress: list[Object] = [
        {"from": [from_namespace(KEDA_NAMESPACE)], "ports": [{"protocol": "TCP", "port": SCALER_PORT}]}
    ]
    if monitors:
        callers = [from_namespace(name) for name in sorted(monitors)]
        ingress.append({"from": callers, "ports": [{"protocol": "TCP", "port": ADMIN_PORT}]})
    egress: list[Object] = [
        DNS,
        NODE_LOCAL_DNS,
        {
            "to": [{"podSelector": {"matchLabels": gateway_selector(group)}}],
            "ports": [{"protocol": "TCP", "port": ADMIN_PORT}],
        },
        {"ports": [{"protocol": "TCP", "port": 443}, {"protocol": "TCP", "port": 6443}]},
    ]
    metadata = meta(scaler_name(group), group.namespace, labels(group.gateway, "scaler"))
    return _policy(metadata, scaler_selector(group), ingress, egress)


def gateway_policy(group: Group) -> Object:
    """The gateway's policy: the request port for clients; the admin port for Prometheus, the operator and KEDA."""
    admins = sorted(
        {
            prometheus_namespace(w.fleet.spec.scaling.prometheus)
            for w in group.members
            if w.fleet.spec.monitoring.enabled
        }
        | {KEDA_NAMESPACE for w in group.members if w.fleet.spec.scaling.by == "keda-gateway"}
    )
    callers = [*(from_namespace(name) for name in admins), OPERATORS]
    if any(w.fleet.spec.scaling.by == "seawall" for w in group.members):
        callers.append({"podSelector": {"matchLabels": scaler_selector(group)}})
    ingress: list[Object] = [
        {"ports": [{"protocol": "TCP", "port": HTTP_PORT}]},
        {"from": callers, "ports": [{"protocol": "TCP", "port": ADMIN_PORT}]},
    ]
    metadata = meta(group.gateway, group.namespace, labels(group.gateway, "gateway"))
    return _policy(metadata, gateway_selector(group), ingress, None)

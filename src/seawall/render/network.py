"""NetworkPolicies: only the gateway (and Prometheus) reaches engines; engines reach nothing once weights are local.

vLLM answers `/invocations`, `/sleep` and `/metrics` without its API key, so the network is what protects them.
Engine probes run inside the container (exec), so they need no rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from seawall.domain.labels import (
    ADMIN_PORT,
    APP,
    BATCH_PORT,
    ENGINE_APP,
    FLEET,
    HTTP_PORT,
    OPERATOR_APP,
    SCALER_PORT,
    STORE_PORT,
)
from seawall.render.batch import batch_spec, postgres_port
from seawall.render.inputs import Group, Object, Wanted
from seawall.render.names import (
    batch_name,
    batch_selector,
    fleet_meta,
    gateway_selector,
    labels,
    meta,
    scaler_name,
    scaler_selector,
    short,
    store_name,
    store_selector,
)
from seawall.render.replica.weights import loader_selector, needs_loader

HTTPS = 443
STORE_TLS_PORT = 6380
SENTINEL_PORT = 26379
BUCKETS = ("s3://", "gs://", "az://")
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
API_SERVER: Object = {
    "ports": [{"protocol": "TCP", "port": port} for port in (443, 6443, 8443, 16443)],
}
"""Egress to the API server: its address nobody can name here, its port is one of these."""
CREDENTIALS: Object = {
    "to": [
        {"ipBlock": {"cidr": f"{address}/32"}}
        for address in ("169.254.169.254", "169.254.169.252", "169.254.170.23")
    ],
    "ports": [{"protocol": "TCP", "port": port} for port in (80, 988)],
}
"""Egress to what hands an identity's credentials to a Pod: the cloud's metadata server, GKE's and EKS' own."""
ANYWHERE: Object = {"ports": [{"protocol": "TCP", "port": 1, "endPort": 65535}]}
"""Egress of who has a bucket's Secret: it may name an endpoint (AWS_ENDPOINT_URL), which nobody knows here."""
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


def scrapers(members: Iterable[Wanted]) -> list[Object]:
    """Prometheus' Pods, of those fleets that it watches: nobody else in its namespace reads metrics."""
    found: list[Object] = []
    for wanted in members:
        spec = wanted.fleet.spec
        peer = from_namespace(prometheus_namespace(spec.scaling.prometheus))
        if spec.monitoring.scraped_by:
            peer["podSelector"] = {"matchLabels": dict(spec.monitoring.scraped_by)}
        if spec.monitoring.enabled and peer not in found:
            found.append(peer)
    return sorted(found, key=str)


def tcp(*ports: int) -> list[Object]:
    return [{"protocol": "TCP", "port": port} for port in ports]


OPERATORS: list[Object] = [
    {"podSelector": {"matchLabels": OPERATOR}},
    {**from_namespace(OPERATOR_NAMESPACE), "podSelector": {"matchLabels": OPERATOR}},
]
"""An operator of this namespace, and one of the whole cluster."""


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
    callers += scrapers([wanted])
    if spec.gateway.route == "inference-pool":
        callers.append({"podSelector": {"matchLabels": {APP: "epp"}}})
    if spec.model.adapter_slots is not None or (spec.pool is not None and spec.pool.sleep):
        callers += OPERATORS
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
    """The loader Job's policy: nobody calls it, and it reaches names, the ports of its sources, and what hands out its
    credentials for a bucket."""
    sides = [w for w in (wanted, wanted.canary) if w is not None and needs_loader(w)]
    if not sides:
        return None
    specs = [w.fleet.spec for w in sides]
    sources = [s for spec in specs for s in (spec.model.source, *(a.source for a in spec.model.adapters))]
    egress: list[Object] = [DNS, NODE_LOCAL_DNS, {"ports": tcp(*sorted({HTTPS, *map(_port, sources)}))}]
    if any(source.startswith(BUCKETS) for source in sources):
        egress.append(CREDENTIALS)
        if any(spec.cache.token_secret for spec in specs):
            egress[2] = ANYWHERE
    metadata = fleet_meta(wanted, short(wanted.name, "-weights"), "weights")
    return _policy(metadata, loader_selector(wanted), [], egress)


def _port(source: str) -> int:
    """The port that a source is asked at."""
    parts = urlsplit(source)
    try:
        named = parts.port
    except ValueError:
        named = None
    return named or (80 if parts.scheme == "http" else HTTPS)


def scaler_policy(group: Group) -> Object:
    """The scaler's policy: KEDA asks it, Prometheus reads its metrics; it asks gateways and the API server, whose
    address nobody can name here."""
    ingress: list[Object] = [{"from": [from_namespace(KEDA_NAMESPACE)], "ports": tcp(SCALER_PORT)}]
    if monitors := scrapers(group.members):
        ingress.append({"from": monitors, "ports": tcp(ADMIN_PORT)})
    egress: list[Object] = [
        DNS,
        NODE_LOCAL_DNS,
        {
            "to": [{"podSelector": {"matchLabels": gateway_selector(group)}}],
            "ports": [{"protocol": "TCP", "port": ADMIN_PORT}],
        },
        API_SERVER,
    ]
    metadata = meta(scaler_name(group), group.namespace, labels(group.gateway, "scaler"))
    return _policy(metadata, scaler_selector(group), ingress, egress)


def store_policy(group: Group) -> Object:
    """The rendered store's policy: the gateways reach it, and it reaches nothing."""
    callers: list[Object] = [{"podSelector": {"matchLabels": gateway_selector(group)}}]
    ingress: list[Object] = [{"from": callers, "ports": [{"protocol": "TCP", "port": STORE_PORT}]}]
    metadata = meta(store_name(group), group.namespace, labels(group.gateway, "store"))
    return _policy(metadata, store_selector(group), ingress, [])


def batch_policy(group: Group) -> Object:
    """The batch lane's policy: the gateways ask it and Prometheus reads its metrics; it asks gateways, and its database
    and bucket where it has them."""
    callers: list[Object] = [
        {"podSelector": {"matchLabels": gateway_selector(group)}},
        *scrapers(group.members),
    ]
    gateways = [{"podSelector": {"matchLabels": gateway_selector(group)}}]
    egress: list[Object] = [DNS, NODE_LOCAL_DNS, {"to": gateways, "ports": tcp(HTTP_PORT, ADMIN_PORT)}]
    if port := postgres_port(group):
        egress.append({"ports": tcp(port)})
    spec = batch_spec(group)
    if spec is not None and spec.bucket:
        egress += [ANYWHERE if spec.bucket_secret else {"ports": tcp(HTTPS)}, CREDENTIALS]
    metadata = meta(batch_name(group), group.namespace, labels(group.gateway, "batch"))
    return _policy(metadata, batch_selector(group), [{"from": callers, "ports": tcp(BATCH_PORT)}], egress)


def gateway_policy(group: Group) -> Object:
    """The gateway's policy: the request port for clients; the admin port for Prometheus, the operator and KEDA. It goes
    out to engines, the API server, the store and names, and nowhere else (traces to a collector need a policy of your
    own beside it)."""
    callers = [*scrapers(group.members), *OPERATORS]
    if any(w.fleet.spec.scaling.by == "keda-gateway" for w in group.members):
        callers.append(from_namespace(KEDA_NAMESPACE))
    if any(w.fleet.spec.scaling.by == "seawall" for w in group.members):
        callers.append({"podSelector": {"matchLabels": scaler_selector(group)}})
    if batch_spec(group) is not None:
        callers.append({"podSelector": {"matchLabels": batch_selector(group)}})
    ingress: list[Object] = [
        {"ports": [{"protocol": "TCP", "port": HTTP_PORT}]},
        {"from": callers, "ports": [{"protocol": "TCP", "port": ADMIN_PORT}]},
    ]
    engines = [{"podSelector": {"matchLabels": {FLEET: w.name, APP: ENGINE_APP}}} for w in group.members]
    egress: list[Object] = [DNS, NODE_LOCAL_DNS, {"to": engines, "ports": tcp(HTTP_PORT)}, API_SERVER]
    if batch_spec(group) is not None:
        lane = {"podSelector": {"matchLabels": batch_selector(group)}}
        egress.append({"to": [lane], "ports": tcp(BATCH_PORT)})
    if ports := store_ports(group):
        egress.append({"ports": tcp(*ports)})
    metadata = meta(group.gateway, group.namespace, labels(group.gateway, "gateway"))
    return _policy(metadata, gateway_selector(group), ingress, egress)


def store_ports(group: Group) -> list[int]:
    """Ports of the shared store: those of its address, and behind sentinels that of the stores themselves."""
    found: set[int] = set()
    for spec in (w.fleet.spec.gateway for w in group.members):
        if spec.store:
            parts = urlsplit(spec.store)
            named = re.findall(r":(\d{1,5})(?:,|$)", parts.netloc.rpartition("@")[2])
            found |= {int(port) for port in named} or {STORE_PORT}
            if "+" in parts.scheme:
                found.add(STORE_PORT)
        elif spec.store_secret:
            found |= {STORE_PORT, STORE_TLS_PORT, SENTINEL_PORT}  # the address is in the Secret
    return sorted(port for port in found if 0 < port < 65536)

"""How clients reach the gateway: HTTPRoute, Istio, InferencePool, Ingress, or the Service alone.

A canary is split here only where the route can do it (HTTPRoute, Istio): both sides go to the same gateway,
and the route says with a header which side it chose, so that streams of a canary are resumed like all others.
"""

from __future__ import annotations

from seawall.domain.labels import HTTP_PORT
from seawall.render.inputs import Group, Object, Wanted
from seawall.render.names import labels, meta, selector, short

SIDE_HEADER = "x-seawall-group"
"""Set by a route, believed by the gateway, removed from what clients send."""
VERSIONED = "/v1"
"""Everything below it passes."""
PATHS = (
    "/v2/rerank", "/rerank", "/score", "/pooling", "/classify", "/tokenize", "/detokenize",
    "/health", "/ping", "/ready", "/version",
)  # fmt: skip
"""What the gateway serves beside it, each as it is: no prefix takes the paths of others who share the host."""
EPP_PORT = 9002
SURE = 0.8
"""The share of the gateway's idle time that its clients use."""


def routes(group: Group) -> list[Object]:
    kind = group.first.fleet.spec.gateway.route
    if kind == "gateway-api":
        return [http_route(group)]
    if kind == "istio":
        return [virtual_service(group), destination_rule(group)]
    if kind == "inference-pool":
        return [inference_pool(w) for w in group.members] + [pool_route(w, group) for w in group.members]
    if kind == "ingress":
        return [ingress(group)]
    return []


def _meta(group: Group, name: str = "") -> Object:
    return meta(name or group.gateway, group.namespace, labels(group.gateway, "gateway"))


def hosts(group: Group) -> list[str]:
    seen = [h for w in group.members for h in w.fleet.spec.gateway.hosts]
    return list(dict.fromkeys(seen))


def split(group: Group) -> int:
    """Percent for the canary side; 0 when no fleet has a candidate."""
    return max(w.canary_weight for w in group.members)


def parent(group: Group) -> tuple[str | None, str]:
    """(namespace, name) of the Gateway to attach to."""
    text = next(
        (w.fleet.spec.gateway.parent_gateway for w in group.members if w.fleet.spec.gateway.parent_gateway),
        "",
    )
    namespace, _, name = (text or "").rpartition("/")
    return namespace or None, name


def http_route(group: Group) -> Object:
    backend: Object = {"kind": "Service", "name": group.gateway, "port": 80}
    weight = split(group)
    refs: list[Object] = [{**backend, "weight": 100 - weight}] if weight else [backend]
    if weight:
        refs[0]["filters"] = [_side("stable")]
        refs.append({**backend, "weight": weight, "filters": [_side("canary")]})
    # A stream may last as long as it likes: the gateway bounds queueing and stalls, the route must not.
    rule: Object = {
        "matches": [
            {"path": {"type": "PathPrefix", "value": VERSIONED}},
            *({"path": {"type": "Exact", "value": path}} for path in PATHS),
        ],
        "timeouts": {"request": "0s"},
        "backendRefs": refs,
    }
    return _http_route(group, group.gateway, [rule])


def _side(side: str) -> Object:
    return {
        "type": "RequestHeaderModifier",
        "requestHeaderModifier": {"set": [{"name": SIDE_HEADER, "value": side}]},
    }


def _http_route(group: Group, name: str, rules: list[Object]) -> Object:
    namespace, gateway = parent(group)
    ref: Object = {"name": gateway}
    if namespace:
        ref["namespace"] = namespace
    spec: Object = {"parentRefs": [ref]}
    if hosts(group):
        spec["hostnames"] = hosts(group)
    spec["rules"] = rules
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": _meta(group, name),
        "spec": spec,
    }


def host(group: Group) -> str:
    return f"{group.gateway}.{group.namespace}.svc.cluster.local"


def virtual_service(group: Group) -> Object:
    namespace, gateway = parent(group)
    destination = {"host": host(group), "port": {"number": 80}}
    weight = split(group)
    route: list[Object] = [{"destination": destination}]
    if weight:
        route = [
            {
                "destination": destination,
                "weight": share,
                "headers": {"request": {"set": {SIDE_HEADER: side}}},
            }
            for side, share in (("stable", 100 - weight), ("canary", weight))
        ]
    rule: Object = {
        "match": [{"uri": {"prefix": VERSIONED}}, *({"uri": {"exact": path}} for path in PATHS)],
        "route": route,
        # No `timeout`: Istio's default is none, and its CRD refuses `0s`.
        # The gateway retries, and it alone knows what was already sent.
        "retries": {"attempts": 0},
    }
    spec: Object = {"hosts": hosts(group) or [host(group)]}
    if gateway:
        spec["gateways"] = [f"{namespace}/{gateway}" if namespace else gateway, "mesh"]
    spec["http"] = [rule]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": _meta(group),
        "spec": spec,
    }


def idle_s(group: Group) -> int:
    """Seconds that what stands in front keeps an idle connection for: it closes before the gateway does, for a request
    that crosses the gateway's close is lost."""
    return max(1, int(SURE * min(w.fleet.spec.gateway.idle_timeout for w in group.members)))


def destination_rule(group: Group) -> Object:
    """Least requests, because requests differ a thousandfold in length; no circuit breaker on 429."""
    policy: Object = {
        "loadBalancer": {"simple": "LEAST_REQUEST"},
        "connectionPool": {
            "http": {"idleTimeout": f"{idle_s(group)}s"},
            "tcp": {"tcpKeepalive": {"time": "60s"}},
        },
    }
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": _meta(group),
        "spec": {"host": host(group), "trafficPolicy": policy},
    }


def epp_name(wanted: Wanted) -> str:
    return short(wanted.name, "-epp")


def inference_pool(wanted: Wanted) -> Object:
    """The endpoint picker (llm-d-router) is installed by its own chart; here it is only named. If it is away,
    requests go to any replica."""
    spec: Object = {
        "selector": {"matchLabels": selector(wanted)},
        "targetPorts": [{"number": HTTP_PORT}],
        "endpointPickerRef": {
            "kind": "Service",
            "name": epp_name(wanted),
            "port": {"number": EPP_PORT},
            "failureMode": "FailOpen",
        },
    }
    return {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": meta(wanted.name, wanted.namespace, labels(wanted.name, "engine")),
        "spec": spec,
    }


def pool_route(wanted: Wanted, group: Group) -> Object:
    """One route per model, matched by the header that body-based routing sets."""
    ref: Object = {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": wanted.name}
    match: Object = {"path": {"type": "PathPrefix", "value": VERSIONED}}
    if len(group.members) > 1:
        name = wanted.fleet.served_names[0]
        match["headers"] = [{"type": "Exact", "name": "X-Gateway-Model-Name", "value": name}]
    rule: Object = {"matches": [match], "timeouts": {"request": "0s"}, "backendRefs": [ref]}
    return _http_route(group, short(wanted.name, "-pool"), [rule])


def ingress(group: Group) -> Object:
    """Annotations for the usual controllers: streams are not buffered and not cut after a minute."""
    backend = {"service": {"name": group.gateway, "port": {"name": "http"}}}
    paths = [
        {"path": VERSIONED, "pathType": "Prefix", "backend": backend},
        *({"path": path, "pathType": "Exact", "backend": backend} for path in PATHS),
    ]
    names: list[str] = hosts(group)
    rules: list[Object] = [{"host": name, "http": {"paths": paths}} for name in names]
    spec: Object = {"rules": rules or [{"http": {"paths": paths}}]}
    namespace_class = parent(group)[1]
    if namespace_class:
        spec["ingressClassName"] = namespace_class
    secret = group.first.fleet.spec.gateway.tls_secret
    if secret and names:
        spec["tls"] = [{"hosts": names, "secretName": secret}]
    metadata = _meta(group)
    metadata["annotations"] = {
        "nginx.ingress.kubernetes.io/proxy-body-size": str(
            max(w.fleet.spec.gateway.max_body for w in group.members)
        ),
        "nginx.ingress.kubernetes.io/proxy-buffering": "off",
        "nginx.ingress.kubernetes.io/proxy-read-timeout": "3600",
        "nginx.ingress.kubernetes.io/proxy-send-timeout": "3600",
        "haproxy.org/timeout-server": "3600s",
    }
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec}

"""Namespace, ServiceAccounts and the engines' Services: what the rest stands on."""

from __future__ import annotations

from seawall.domain.labels import ADMIN_PORT, CANARY_WEIGHT, GROUP, HTTP_PORT, PART_OF, PORT
from seawall.render.inputs import Group, Object, Wanted
from seawall.render.names import KEPT, fleet_meta, gateway_selector, labels, meta, selector, short


def psa_level(group: Group) -> str:
    """`restricted`, unless weights come from a folder of the node: hostPath needs `privileged`."""
    kinds = {w.fleet.spec.cache.kind for w in group.members if w.fleet.spec.engine.needs_weights}
    return "privileged" if kinds & {"node-local", "host-path"} else "restricted"


def namespace(group: Group) -> Object | None:
    """The Namespace object; None for namespaces that are not ours to label. With it would go everything in it,
    the weights' claim and the user's Secrets included, so no packaging takes it away again."""
    name = group.namespace
    if name == "default" or name.startswith("kube-"):
        return None
    tags = {PART_OF: "seawall"}
    for mode in ("enforce", "warn", "audit"):
        level = psa_level(group) if mode == "enforce" else "restricted"
        tags[f"pod-security.kubernetes.io/{mode}"] = level
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": meta(name, None, tags, dict(KEPT))}


def engine_account(wanted: Wanted) -> Object:
    """The engines' ServiceAccount. They call no Kubernetes API, so no token is mounted."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": fleet_meta(wanted, short(wanted.name, "-engine"), "engine"),
        "automountServiceAccountToken": False,
    }


def engine_services(wanted: Wanted) -> list[Object]:
    """The engines' Service, headless: the gateway watches its EndpointSlices, one address per ready replica.

    With a canary there is one Service for each side, and the candidate's carries its weight as a label."""
    # LeaderWorkerSet makes a Service of its own name, by which the nodes of a replica find each other before
    # they are ready. Ours must not stand in its place.
    tail = "-http" if wanted.plan.nodes_per_replica > 1 else ""
    name = short(wanted.name, tail)
    sides: list[tuple[str, str | None, dict[str, str]]] = [(name, None, {})]
    if wanted.canary:
        weight = {CANARY_WEIGHT: str(wanted.canary_weight), GROUP: "canary"}
        sides = [
            (name, "stable", {GROUP: "stable"}),
            (short(wanted.name, f"-canary{tail}"), "canary", weight),
        ]
    out: list[Object] = []
    for name, group, extra in sides:
        metadata = fleet_meta(wanted, name, "engine")
        metadata["labels"].update(extra)
        spec: Object = {
            "clusterIP": "None",
            "selector": selector(wanted, group),
            "ports": [{"name": "http", "port": HTTP_PORT, "targetPort": "http", "protocol": "TCP"}],
        }
        out.append({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    return out


def gateway_services(group: Group) -> list[Object]:
    """Services of the gateway: one for clients, one for the admin port.

    No other Service may list the admin port: KEDA sums over the endpoints of a Service, and a second one would count
    every request twice."""
    tags = labels(group.gateway, "gateway")
    find = gateway_selector(group)
    public: Object = {
        "type": "ClusterIP",
        "selector": find,
        "ports": [
            {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"}
        ],
    }
    admin: Object = {
        "clusterIP": "None",
        # A gateway that is starting or stopping still holds requests that count as demand.
        "publishNotReadyAddresses": True,
        "selector": find,
        "ports": [{"name": "admin", "port": ADMIN_PORT, "targetPort": "admin", "protocol": "TCP"}],
    }
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": meta(name, group.namespace, tag), "spec": spec}
        for name, tag, spec in (
            (group.gateway, tags, public),
            (short(group.gateway, "-admin"), {**tags, PORT: "admin"}, admin),
        )
    ]


def inner_service(metadata: Object, selector: dict[str, str], port: int, name: str, protocol: str) -> Object:
    """The Service of a part of ours that only our own Pods ask: one TCP port, which the container calls `name`."""
    spoken = {
        "name": name,
        "port": port,
        "targetPort": name,
        "protocol": "TCP",
        "appProtocol": protocol,
    }
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"type": "ClusterIP", "selector": selector, "ports": [spoken]},
    }

"""Names, labels and ports: the one place where objects agree on how they find each other."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from seawall.render.inputs import Group, Object, Wanted

HTTP_PORT = 8000
"""Engines and the gateway serve requests here; the port is named `http` in every object."""
ADMIN_PORT = 9090
"""The gateway's health, metrics and state; named `admin`."""
MASTER_PORT = 29500
"""Where the nodes of a multi-node replica meet."""

FLEET = "seawall.dev/fleet"
GROUP = "seawall.dev/group"
ROLE = "seawall.dev/role"
CANARY_WEIGHT = "seawall.dev/canary-weight"
"""Label of the canary's Service, copied by Kubernetes onto its EndpointSlices, where the gateway reads it:
percent of requests for the `canary` group."""

CONFIG_DIR = "/etc/seawall"
STATE_DIR = "/run/seawall"


def short(name: str, suffix: str = "") -> str:
    """`name` + `suffix`, cut and hashed when it would pass the 63 characters of a DNS label."""
    if len(name) + len(suffix) <= 63:
        return name + suffix
    digest = hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"{name[: 63 - len(suffix) - 7].rstrip('-')}-{digest}{suffix}"


def fingerprint(value: Any) -> str:
    """Eight hex digits that change when `value` (JSON-able) changes."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def selector(wanted: Wanted, group: str | None = None, pool: str | None = None) -> dict[str, str]:
    """Labels that find the fleet's engine Pods: all, one side of a canary, or one Deployment's."""
    labels = {"app.kubernetes.io/name": "vllm", FLEET: wanted.name, ROLE: "engine"}
    if group:
        labels[GROUP] = group
    if pool:
        labels["seawall.dev/pool"] = pool
    return labels


def gateway_selector(group: Group) -> dict[str, str]:
    return {"app.kubernetes.io/name": "seawall-gateway", "app.kubernetes.io/instance": group.gateway}


def labels(instance: str, component: str, extra: dict[str, str] | None = None) -> dict[str, str]:
    """Recommended labels of an object that is not a Pod."""
    return {
        "app.kubernetes.io/name": "vllm" if component != "gateway" else "seawall-gateway",
        "app.kubernetes.io/instance": instance,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": "seawall",
        "app.kubernetes.io/managed-by": "seawall",
        **(extra or {}),
    }


def meta(
    name: str,
    namespace: str | None,
    labels: dict[str, str],
    annotations: dict[str, str] | None = None,
) -> Object:
    out: Object = {"name": name}
    if namespace:
        out["namespace"] = namespace
    out["labels"] = labels
    if annotations:
        out["annotations"] = annotations
    return out


def fleet_meta(wanted: Wanted, name: str, component: str) -> Object:
    """Metadata of one of the fleet's objects; the spec's own labels and annotations are carried over."""
    md = wanted.fleet.metadata
    own = labels(wanted.name, component, {FLEET: wanted.name})
    return meta(name, wanted.namespace, {**md.labels, **own}, dict(md.annotations))

"""Names, labels and ports: the one place where objects agree on how they find each other."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from seawall.domain.labels import (
    APP,
    BATCH_APP,
    COMPONENT,
    ENGINE_APP,
    FLEET,
    GATEWAY_APP,
    GATEWAYS_ACCOUNT,
    GROUP,
    INSTANCE,
    MANAGED_BY,
    PART_OF,
    POOL,
    ROLE,
    SCALER_APP,
    SCALERS_ACCOUNT,
    STORE_APP,
)
from seawall.render.inputs import Group, Object, Wanted

KEPT = {
    "helm.sh/resource-policy": "keep",
    "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
    "kustomize.toolkit.fluxcd.io/prune": "disabled",
}
"""Annotations of what holds more than we have put into it: Helm, Argo CD and Flux leave it where it is."""


def is_kept(obj: Object) -> bool:
    """Whether every packaging leaves the object where it is."""
    return KEPT.items() <= (obj["metadata"].get("annotations") or {}).items()


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
    labels = {APP: ENGINE_APP, FLEET: wanted.name, ROLE: "engine"}
    if group:
        labels[GROUP] = group
    if pool:
        labels[POOL] = pool
    return labels


def scaler_name(group: Group) -> str:
    """The name of the scaler beside a gateway: of its Deployment, Service, account and policy."""
    return short(group.gateway, "-scaler")


def gateway_account(group: Group) -> str:
    return GATEWAYS_ACCOUNT if group.accounts == "shared" else group.gateway


def scaler_account(group: Group) -> str:
    return SCALERS_ACCOUNT if group.accounts == "shared" else scaler_name(group)


def scaler_selector(group: Group) -> dict[str, str]:
    return {APP: SCALER_APP, INSTANCE: group.gateway}


def store_name(group: Group) -> str:
    """The name of the rendered store beside a gateway: of its Deployment, Service, policy and Secret."""
    return short(group.gateway, "-store")


def store_selector(group: Group) -> dict[str, str]:
    return {APP: STORE_APP, INSTANCE: group.gateway}


def batch_name(group: Group) -> str:
    """The name of the batch lane beside a gateway: of its Deployment, Service, claim, policy and Secret."""
    return short(group.gateway, "-batch")


def batch_selector(group: Group) -> dict[str, str]:
    return {APP: BATCH_APP, INSTANCE: group.gateway}


def gateway_selector(group: Group) -> dict[str, str]:
    return {APP: GATEWAY_APP, INSTANCE: group.gateway}


def labels(instance: str, component: str, extra: dict[str, str] | None = None) -> dict[str, str]:
    """Recommended labels of an object that is not a Pod."""
    beside = {"gateway": GATEWAY_APP, "scaler": SCALER_APP, "store": STORE_APP, "batch": BATCH_APP}
    return {
        APP: beside.get(component, ENGINE_APP),
        INSTANCE: instance,
        COMPONENT: component,
        PART_OF: "seawall",
        MANAGED_BY: "seawall",
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

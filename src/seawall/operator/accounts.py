"""The accounts that gateways and scalers of a namespace share where an operator makes them, and what they may do.

Why: whoever may write Roles may grant them; an operator that made one for each gateway would need that right in every
namespace that it serves. So its manifests bring the rights, once, and it hands out no more than these: nothing where it
serves one namespace, and bindings of these names to these roles where it serves all. Pure.
"""

from __future__ import annotations

from typing import Any

from seawall.domain.labels import GATEWAYS_ACCOUNT, MANAGED_BY, PART_OF, SCALERS_ACCOUNT
from seawall.render import gateway, scaler

Object = dict[str, Any]
RBAC = "rbac.authorization.k8s.io"
NAMES = (GATEWAYS_ACCOUNT, SCALERS_ACCOUNT)
RULES: dict[str, list[Object]] = {GATEWAYS_ACCOUNT: gateway.RULES, SCALERS_ACCOUNT: scaler.rules(None)}


def roles(namespace: str | None) -> list[Object]:
    """What the accounts may do, as Roles of the namespace; None: as ClusterRoles, which grant nothing by themselves."""
    kind = "ClusterRole" if namespace is None else "Role"
    return [_made(f"{RBAC}/v1", kind, name, namespace) | {"rules": RULES[name]} for name in NAMES]


def bound(namespace: str, role: str) -> list[Object]:
    """The accounts themselves in a namespace, bound to their roles. `role`: Role or ClusterRole."""
    out: list[Object] = []
    for name in NAMES:
        account = _made("v1", "ServiceAccount", name, namespace) | {"automountServiceAccountToken": False}
        binding = _made(f"{RBAC}/v1", "RoleBinding", name, namespace) | {
            "roleRef": {"apiGroup": RBAC, "kind": role, "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        }
        out += [account, binding]
    return out


def is_shared(obj: Object) -> bool:
    """One of these: it belongs to no single Fleet, and no Fleet's end takes it away."""
    return obj["kind"] in ("ServiceAccount", "RoleBinding") and obj["metadata"]["name"] in NAMES


def _made(version: str, kind: str, name: str, namespace: str | None) -> Object:
    meta: Object = {"name": name, "labels": {PART_OF: "seawall", MANAGED_BY: "seawall-operator"}}
    if namespace is not None:
        meta["namespace"] = namespace
    return {"apiVersion": version, "kind": kind, "metadata": meta}

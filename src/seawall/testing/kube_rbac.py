"""Role-based access control of the API double: what an account may do, from the roles and bindings that grant it.

`api.rights = rights_of(objects, "seawall-operator", "seawall-system")`; whatever they do not grant is answered with
403, in the API server's words. No wildcards, aggregation or resource names: what we render has none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Object = dict[str, Any]
Right = tuple[str, str, str, str]
"""(namespace, "" for all; group; resource or resource/subresource; verb)"""
_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
SERVER_OWN = ("selfsubjectaccessreviews",)
"""What everybody who is logged in may ask."""


def rights_of(objects: Iterable[Object], account: str, namespace: str) -> frozenset[Right]:
    """What a service account may do by the roles and bindings among `objects`."""
    objects = list(objects)
    rules = {
        (o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]): o.get("rules") or []
        for o in objects
        if o["kind"] in ("Role", "ClusterRole")
    }
    granted: set[Right] = set()
    for binding in objects:
        if binding["kind"] not in ("RoleBinding", "ClusterRoleBinding") or not any(
            (s["kind"], s["name"], s.get("namespace")) == ("ServiceAccount", account, namespace)
            for s in binding.get("subjects") or []
        ):
            continue
        where = binding["metadata"].get("namespace", "") if binding["kind"] == "RoleBinding" else ""
        role = binding["roleRef"]
        home = where if role["kind"] == "Role" else ""
        granted |= {
            (where, g, r, v)
            for rule in rules[role["kind"], home, role["name"]]
            for g in rule["apiGroups"]
            for r in rule["resources"]
            for v in rule["verbs"]
        }
    return frozenset(granted)


def verb_of(method: str, named: bool, watched: bool) -> str:
    """The verb that the API server authorizes a request as."""
    if method == "GET" and not named:
        return "watch" if watched else "list"
    return _VERBS[method]


def refusal(
    rights: frozenset[Right], verb: str, version: str, resource: str, namespace: str, name: str
) -> str:
    """The server's message where it is not allowed; empty where it is."""
    group = version.rpartition("/")[0]
    if {("", group, resource, verb), (namespace, group, resource, verb)} & rights:
        return ""
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    quoted = f' "{name}"' if name else ""
    what = resource.partition("/")[0] + quoted
    return (
        f'{what} is forbidden: User "system:serviceaccount:seawall-system:somebody" cannot {verb} resource '
        f'"{resource}" in API group "{group}" {where}'
    )

"""Role-based access control of the API double: what an account may do, from the roles and bindings that grant it.

`api.rights = rights_of(objects, "seawall-operator", "seawall-system")`; whatever they do not grant is answered with
403, in the API server's words. A right over one name only is told by the name behind the resource: `rolebindings a`.
Nobody grants what they do not have: whoever writes a Role has its rules, whoever writes a binding has those of its
role, or may `bind` it. Who holds up an owner's deletion may set the owner's finalizers, as on clusters with
OwnerReferencesPermissionEnforcement (OpenShift's, and hardened ones). No wildcards and no aggregation: what we render
has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Object = dict[str, Any]
Right = tuple[str, str, str, str]
"""(namespace, "" for all; group; resource or resource/subresource; verb)"""
RulesOf = Callable[[str, str, str], list[Object]]
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
        granted |= _granted(rules[role["kind"], home, role["name"]], where)
    return frozenset(granted)


def _granted(rules: Iterable[Object], where: str) -> set[Right]:
    return {
        (where, group, resource if name is None else f"{resource} {name}", verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames") or [None]
    }


def holds(rights: frozenset[Right], right: Right) -> bool:
    """Whether the right is there: as it is or for all namespaces, for its name or for every name."""
    where, group, resource, verb = right
    plain = resource.partition(" ")[0]
    return bool({(w, group, r, verb) for w in ("", where) for r in (plain, resource)} & rights)


def escalation(rights: frozenset[Right], obj: Object, namespace: str, rules_of: RulesOf) -> str:
    """The server's message where an object would grant what its writer does not have; empty where it does not.
    `rules_of`: kind, namespace and name of a role -> its rules."""
    kind = obj.get("kind")
    if kind in ("Role", "ClusterRole"):
        lacking = [r for r in _granted(obj.get("rules") or [], namespace) if not holds(rights, r)]
    elif kind in ("RoleBinding", "ClusterRoleBinding"):
        role = obj["roleRef"]
        plural = "clusterroles" if role["kind"] == "ClusterRole" else "roles"
        if holds(rights, (namespace, "rbac.authorization.k8s.io", f"{plural} {role['name']}", "bind")):
            return ""
        home = "" if role["kind"] == "ClusterRole" else namespace
        rules = rules_of(role["kind"], home, role["name"])
        lacking = [r for r in _granted(rules, namespace) if not holds(rights, r)]
    else:
        return ""
    if not lacking:
        return ""
    extra = ", ".join(f"{verb} {resource} ({group!r})" for _, group, resource, verb in sorted(lacking)[:3])
    return (
        f'{str(kind).lower()}s.rbac.authorization.k8s.io "{obj["metadata"]["name"]}" is forbidden: user '
        f'"system:serviceaccount:seawall-system:somebody" is attempting to grant RBAC permissions not currently held: '
        f"{extra}"
    )


def holds_up(
    rights: frozenset[Right],
    plural: str,
    old: Object | None,
    obj: Object,
    namespace: str,
    plural_of: Callable[[str, str], str],
) -> str:
    """The server's message where an object would newly hold up an owner whose finalizers its writer may not set; empty
    where it does not. `plural_of`: apiVersion and kind -> the resource."""

    def blocked(found: Object | None) -> dict[str, Object]:
        owners = ((found or {}).get("metadata") or {}).get("ownerReferences") or []
        return {str(o.get("uid")): o for o in owners if o.get("blockOwnerDeletion")}

    before = blocked(old)
    for owner in (o for uid, o in blocked(obj).items() if uid not in before):
        group = owner["apiVersion"].rpartition("/")[0]
        right = f"{plural_of(owner['apiVersion'], owner['kind'])}/finalizers {owner['name']}"
        if not holds(rights, (namespace, group, right, "update")):
            return (
                f'{plural} "{obj["metadata"]["name"]}" is forbidden: cannot set blockOwnerDeletion if an '
                "ownerReference refers to a resource you can't set finalizers on: , <nil>"
            )
    return ""


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
    if holds(rights, (namespace, group, f"{resource} {name}" if name else resource, verb)):
        return ""
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    quoted = f' "{name}"' if name else ""
    what = resource.partition("/")[0] + quoted
    return (
        f'{what} is forbidden: User "system:serviceaccount:seawall-system:somebody" cannot {verb} resource '
        f'"{resource}" in API group "{group}" {where}'
    )

"""What ResourceQuotas do in the API double (`KubeApi(strict=True)`): whatever would be more than is left is refused.

Counted are Pods that have not ended, by what their containers ask for, and objects by number. Texts are Kubernetes
1.36's. Not here: scopes, init containers, storage by class, and what LimitRanges fill in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from seawall.testing.kube_problem import ApiProblem

Object = dict[str, Any]
COUNTED = {
    "v1/pods": "pods",
    "v1/persistentvolumeclaims": "persistentvolumeclaims",
    "v1/services": "services",
}
"""Store -> the resource that its objects are one of each."""
_MUST = ("requests.cpu", "requests.memory", "limits.cpu", "limits.memory", "cpu", "memory")
"""What every container must say where a quota bounds it."""
Amount = Callable[[Any], Decimal]


def asked_by(obj: Object, store: str, amount: Amount) -> dict[str, Decimal]:
    """What an object takes of a quota: one of its kind, and of a Pod what its containers ask for."""
    out = {COUNTED[store]: Decimal(1)}
    if store != "v1/pods":
        return out
    if (obj.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return {}
    for container in (obj.get("spec") or {}).get("containers") or []:
        resources = container.get("resources") or {}
        limits = resources.get("limits") or {}
        for group, given in (
            ("requests", {**limits, **(resources.get("requests") or {})}),
            ("limits", limits),
        ):
            for name, value in given.items():
                for key in (f"{group}.{name}", *([name] if group == "requests" else [])):
                    out[key] = out.get(key, Decimal(0)) + amount(value)
    return out


def used_of(
    hard: Mapping[str, Any], objects: Mapping[str, Iterable[Object]], amount: Amount
) -> dict[str, str]:
    """How much of each bounded resource the objects of a namespace (store -> objects) take."""
    used = dict.fromkeys(hard, Decimal(0))
    for store, each in objects.items():
        for obj in each:
            for key, value in asked_by(obj, store, amount).items():
                if key in used:
                    used[key] += value
    return {key: f"{value.normalize():f}" for key, value in used.items()}


def refuse(quotas: Iterable[Object], store: str, obj: Object, amount: Amount) -> None:
    """Raises what the server answers where an object would be more than a quota leaves."""
    asks, kind = asked_by(obj, store, amount), store.rpartition("/")[2]
    named = f'{kind} "{obj["metadata"]["name"]}" is forbidden'
    for quota in quotas:
        name, status = quota["metadata"]["name"], quota.get("status") or {}
        hard, used = status.get("hard") or {}, status.get("used") or {}
        unsaid = sorted(k for k in hard if k in _MUST and k not in asks) if kind == "pods" else []
        if unsaid:
            raise ApiProblem(
                403, "Forbidden", f"{named}: failed quota: {name}: must specify {','.join(unsaid)}"
            )
        over = sorted(k for k in hard if k in asks and amount(used.get(k, 0)) + asks[k] > amount(hard[k]))
        if over:
            told = [
                ("requested", {k: f"{asks[k].normalize():f}" for k in over}),
                ("used", {k: used.get(k, "0") for k in over}),
                ("limited", {k: hard[k] for k in over}),
            ]
            parts = ", ".join(f"{word}: {','.join(f'{k}={v[k]}' for k in over)}" for word, v in told)
            raise ApiProblem(403, "Forbidden", f"{named}: exceeded quota: {name}, {parts}")

"""Which nodes a Pod fits on, by its own words: selector, affinity, tolerations, GPUs. Pure; what a message says is not
looked at here.
"""

from __future__ import annotations

import re

from seawall.diagnose.facts import Object, items, part


def gpus_asked(pod: Object) -> tuple[str, int]:
    """(resource, count) of the GPUs that a Pod's containers ask for."""
    total, resource = 0, "nvidia.com/gpu"
    for container in items(pod, "spec", "containers"):
        for key, value in part(container, "resources", "limits").items():
            if re.search(r"(/gpu|/mig-|/gaudi)", key):
                resource = key
                total += int(value) if str(value).isdigit() else 0
    return resource, total


def fits_selector(pod: Object, node: Object) -> tuple[bool, str]:
    """Whether a node has the labels that a Pod demands; the first that it lacks."""
    labels = part(node, "metadata", "labels")
    for key, value in part(pod, "spec", "nodeSelector").items():
        if labels.get(key) != value:
            return False, f"{key}={value}"
    required = part(pod, "spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    terms = items(required, "nodeSelectorTerms")
    lacking = ""
    for term in terms:
        missing = [e for e in items(term, "matchExpressions") if not _holds(e, labels)]
        if not missing:
            return True, ""
        first = missing[0]
        lacking = (
            lacking
            or f"{first.get('key')} {first.get('operator')} {', '.join(first.get('values') or [])}".strip()
        )
    return not terms, lacking


def _holds(e: Object, labels: Object) -> bool:
    value, values = labels.get(str(e.get("key"))), e.get("values") or []
    match e.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as op:
            try:
                a, b = int(str(value)), int(str(values[0]))
            except (ValueError, IndexError):
                return False
            return a > b if op == "Gt" else a < b
        case _:
            return True


def untolerated(pod: Object, node: Object) -> Object | None:
    """The first NoSchedule or NoExecute taint of a node that a Pod does not tolerate."""
    for taint in items(node, "spec", "taints"):
        if taint.get("effect") == "PreferNoSchedule":
            continue
        if not any(_tolerates(t, taint) for t in items(pod, "spec", "tolerations")):
            return taint
    return None


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    return toleration.get("operator") == "Exists" or (toleration.get("value") or "") == (
        taint.get("value") or ""
    )

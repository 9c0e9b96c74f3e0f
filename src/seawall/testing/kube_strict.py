"""What a real API server does to an object on its way in: `KubeApi(strict=True)`.

Namespaces must exist; kinds of custom resources are served once their definition is established; defaults are filled
in and quantities put into their canonical form; some fields never change; a claim is protected while it is used.
Custom resources are what the schema of their definition says (kube_schema). Texts are Kubernetes 1.36's. Not here:
schemas of built-in kinds, and every default that none of our objects meets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Protocol

from seawall.testing import kube_quota
from seawall.testing.kube_apply import copied
from seawall.testing.kube_problem import ApiProblem
from seawall.testing.kube_schema import pruned, violations, without_nulls

Object = dict[str, Any]
CUSTOM = ("keda.sh/", "monitoring.coreos.com/", "gateway.networking.k8s.io/", "networking.istio.io/",
          "inference.networking.k8s.io/", "leaderworkerset.x-k8s.io/", "seawall.dev/")  # fmt: skip
_FIXED: dict[str, list[tuple[tuple[str, ...], str]]] = {
    "apps/v1/deployments": [(("spec", "selector"), "field is immutable")],
    "batch/v1/jobs": [(("spec", "template"), "field is immutable"), (("spec", "selector"), "field is immutable")],
    "rbac.authorization.k8s.io/v1/rolebindings": [(("roleRef",), "cannot change roleRef")],
}  # fmt: skip
_SUFFIX = {"n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("0.001"), "": Decimal(1)}
_SUFFIX |= {s: Decimal(1000) ** n for n, s in enumerate("kMGTPE", 1)}
_SUFFIX |= {f"{s}i": Decimal(1024) ** n for n, s in enumerate("KMGTPE", 1)}


class Store(Protocol):
    """The part of `kube_api.KubeApi` that is used here."""

    served: dict[str, str]

    def objects(self, version: str, plural: str) -> Mapping[tuple[str, str], Object]: ...
    def put(self, obj: Object) -> Object: ...


def admit(
    api: Store, store: str, namespace: str, old: Object | None, new: Object, unknown: str = "Strict"
) -> list[str]:
    """Changes `new` as the server would, or raises what it would refuse with. `unknown`: what becomes of fields that a
    definition does not know: `Strict`, `Warn`, `Ignore`, or `Apply`, which fails before anything else is looked at.
    Returned is what the server warns of."""
    plural = store.rpartition("/")[2]
    if namespace and old is None:
        home = api.objects("v1", "namespaces").get(("", namespace))
        if home is None:
            raise ApiProblem(404, "NotFound", f'namespaces "{namespace}" not found')
        if home["metadata"].get("deletionTimestamp"):
            text = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise ApiProblem(403, "Forbidden", f'{plural} "{new["metadata"]["name"]}" is forbidden: {text}')
    lost = _by_definition(api, store, namespace, new, unknown)
    _default(store, new, old)
    if old is None and namespace and store in kube_quota.COUNTED:
        quotas = api.objects("v1", "resourcequotas").items()
        kube_quota.refuse([q for (ns, _), q in quotas if ns == namespace], store, new, _amount)
    if old is not None:
        _unchanged(store, old, new)
    return [f'unknown field "{path}"' for path in lost] if unknown == "Warn" else []


def _by_definition(api: Store, store: str, namespace: str, new: Object, unknown: str) -> list[str]:
    """A custom resource whose definition was applied is what the schema says, or it is refused."""
    version, _, plural = store.rpartition("/")
    group, _, short = version.partition("/")
    made = api.objects("apiextensions.k8s.io/v1", "customresourcedefinitions").get(("", f"{plural}.{group}"))
    versions = {v["name"]: v for v in ((made or {}).get("spec") or {}).get("versions") or []}
    schema = ((versions.get(short) or {}).get("schema") or {}).get("openAPIV3Schema")
    if not schema:
        return []
    known = {k: v for k, v in new.items() if k != "metadata"}
    _, lost = pruned(schema, known)
    name = new["metadata"]["name"]
    if lost and unknown == "Apply":
        text = f"failed to create typed patch object ({namespace}/{name}; {version}, Kind={new['kind']}): "
        raise ApiProblem(500, "", text + "; ".join(f".{p}: field not declared in schema" for p in lost))
    if lost and unknown == "Strict":
        told = ", ".join(f'unknown field "{p}"' for p in lost)
        raise ApiProblem(400, "BadRequest", f"strict decoding error: {told}")
    bare, _ = pruned(schema, known)
    new.update(bare)
    spec = without_nulls(schema, {k: v for k, v in new.items() if k not in ("metadata", "status")})
    new.update(spec)
    wrong = violations(schema, spec)
    if wrong:
        told = "; ".join(w.lstrip(".") for w in wrong)
        text = f'{new["kind"]}.{group} "{new["metadata"]["name"]}" is invalid: {told}'
        raise ApiProblem(422, "Invalid", text, {"causes": [{"field": "spec", "message": told}]})
    return lost


def _unchanged(store: str, old: Object, new: Object) -> None:
    wrong = [(".".join(p), why) for p, why in _FIXED.get(store, []) if _at(old, p) != _at(new, p)]
    if store == "v1/persistentvolumeclaims":
        ask = [_amount(_at(o, ("spec", "resources", "requests", "storage"))) for o in (old, new)]
        rest = [{k: v for k, v in o["spec"].items() if k != "resources"} for o in (old, new)]
        if ask[1] < ask[0]:
            why = "Forbidden: field can not be less than status.capacity"
            wrong.append(("spec.resources.requests.storage", why))
        elif rest[0] != rest[1]:
            why = "Forbidden: spec is immutable after creation except resources.requests and "
            wrong.append(("spec", why + "volumeAttributesClassName for bound claims"))
    if wrong:
        quoted = "v1.PodTemplateSpec{" + repr(_at(new, ("spec", "template"))) + "}"
        causes = [
            {"field": f, "message": why if why[:2] == "Fo" else f"Invalid value: {quoted}: {why}"}
            for f, why in wrong
        ]
        text = "; ".join(f"{c['field']}: {c['message']}" for c in causes)
        name = new["metadata"]["name"]
        raise ApiProblem(422, "Invalid", f'{new["kind"]} "{name}" is invalid: {text}', {"causes": causes})


def _default(store: str, obj: Object, old: Object | None) -> None:
    spec: Any = obj.get("spec")
    if store == "v1/persistentvolumeclaims":
        spec.setdefault("volumeMode", "Filesystem")
        obj["metadata"].setdefault("finalizers", ["kubernetes.io/pvc-protection"])
    if store == "v1/services":
        spec.setdefault("type", "ClusterIP")
        spec.setdefault("sessionAffinity", "None")
        spec.setdefault("clusterIP", (old or {}).get("spec", {}).get("clusterIP") or "10.96.0.7")
        for port in spec.get("ports") or []:
            port.setdefault("protocol", "TCP")
            port.setdefault("targetPort", port.get("port"))
    if store == "apps/v1/deployments":
        for key, value in (("revisionHistoryLimit", 10), ("progressDeadlineSeconds", 600), ("replicas", 1)):
            spec.setdefault(key, value)
    if store == "batch/v1/jobs":
        for key, value in (("completions", 1), ("parallelism", 1), ("suspend", False)):
            spec.setdefault(key, value)
    template = _at(obj, ("spec", "template", "spec"))
    if isinstance(template, dict):
        _default_pod(template)
    if not store.startswith(CUSTOM):
        stored = kept(obj)
        obj.clear()
        obj.update(stored)
    _quantities(obj)


EMPTY = {
    "emptyDir", "podSelector", "namespaceSelector", "objectSelector", "securityContext", "resources", "strategy",
    "status", "selector", "metadata", "spec", "template", "affinity", "sleep",
}  # fmt: skip
"""Fields of built-in kinds that are kept though they are `{}`: structures that are always written or that mean
something by being there. Every other empty map, and every empty list, is gone once it has been stored."""
ZERO = {
    "initialDelaySeconds", "minReadySeconds", "periodSeconds", "timeoutSeconds", "hostPort", "readOnly", "tty", "stdin",
    "hostNetwork", "hostPID", "hostIPC", "publishNotReadyAddresses", "subPath", "value", "clusterName", "nodeName",
    "priorityClassName", "serviceAccountName", "restartPolicy", "observedGeneration", "paused", "weight", "immutable",
    "globalDefault", "preserveUnknownFields",
}  # fmt: skip
"""Fields of built-in kinds that are gone when they are 0, false or "": plain values that are written only when they
are something. (`automountServiceAccountToken` and its like are pointers: false stays.)"""


def kept(value: Any) -> Any:
    """What the API server keeps of an object of a built-in kind, as its Go types write it back."""
    if isinstance(value, list):
        return [kept(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    return {k: kept(v) for k, v in value.items() if not _dropped(k, v)}


def _dropped(key: str, value: Any) -> bool:
    if value is None or value == [] or (value == {} and key not in EMPTY):
        return True
    return key in ZERO and value in (0, False, "")


def rewritten(obj: Object) -> list[str]:
    """Paths at which the API server would store something else than this object says. What it adds is left out."""
    stored = copied(obj)
    if not str(obj["apiVersion"]).startswith(CUSTOM):
        stored = kept(stored)
    _quantities(stored)
    return sorted(_differ(obj, stored, ""))


def _differ(a: Any, b: Any, path: str) -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        return [
            p
            for k in a
            for p in (_differ(a[k], b[k], f"{path}.{k}") if k in b else [f"{path}.{k}: {a[k]!r}"])
        ]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [p for n, (x, y) in enumerate(zip(a, b, strict=True)) for p in _differ(x, y, f"{path}[{n}]")]
    return [] if a == b else [f"{path}: {a!r} becomes {b!r}"]


def _default_pod(spec: Object) -> None:
    usual = {"dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler"}
    for key, value in {**usual, "securityContext": {}, "terminationGracePeriodSeconds": 30}.items():
        spec.setdefault(key, value)
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("imagePullPolicy", "IfNotPresent")
        for port in container.get("ports") or []:
            port.setdefault("protocol", "TCP")


def _quantities(value: Any) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("requests", "limits") and isinstance(inner, dict):
                value[key] = {k: canonical(v) for k, v in inner.items()}
            elif key in ("sizeLimit", "averageValue", "divisor"):
                value[key] = canonical(inner)
            else:
                _quantities(inner)
    elif isinstance(value, list):
        for inner in value:
            _quantities(inner)


def _amount(text: Any) -> Decimal:
    number = re.fullmatch(r"([0-9.]+)(?:([eE][+-]?[0-9]+)|([A-Za-z]*))", str(text))
    if number is None:
        return Decimal(0)
    return Decimal(number[1] + number[2]) if number[2] else Decimal(number[1]) * _SUFFIX[number[3]]


def canonical(text: Any) -> str:
    """`1000m` -> `1`, `2048Mi` -> `2Gi`, `0.5` -> `500m`: the largest suffix of its kind that leaves a whole number.
    What is less than 1Ki, or no whole number of bytes, is written in decimal (apimachinery's CanonicalizeBytes)."""
    amount, binary = _amount(text), str(text).endswith("i")
    if re.search(r"[0-9][eE][+-]?[0-9]", str(text)):
        exponent = next((n for n in range(18, -10, -3) if amount % Decimal(10) ** n == 0), 0)
        return f"{int(amount / Decimal(10) ** exponent)}" + (f"e{exponent}" if exponent else "")
    binary = binary and amount >= 1024 and amount == int(amount)
    chosen = [s for s in _SUFFIX if s.endswith("i") == binary or s == ""]
    for suffix in sorted(chosen, key=lambda s: _SUFFIX[s], reverse=True):
        if amount % _SUFFIX[suffix] == 0 and amount:
            return f"{int(amount / _SUFFIX[suffix])}{suffix}"
    return "0"


def charged(quota: Object, objects: Mapping[str, Iterable[Object]]) -> Object:
    """A ResourceQuota with what is used of it, as its controller writes it."""
    hard = dict((quota.get("spec") or {}).get("hard") or {})
    return {**quota, "status": {"hard": hard, "used": kube_quota.used_of(hard, objects, _amount)}}


def establish(api: Store, obj: Object) -> None:
    """A moment later the definition's kinds are served."""
    group, names = obj["spec"]["group"], obj["spec"]["names"]["plural"]
    scope = "" if obj["spec"].get("scope", "Namespaced") == "Namespaced" else ":c"
    for version in obj["spec"]["versions"]:
        key = f"{group}/{version['name']}"
        api.served[key] = f"{api.served.get(key, '')} {names}{scope}".strip()
    made = copied(obj)
    made["status"] = {"conditions": [{"type": "Established", "status": "True"}]}
    api.put(made)


def _at(obj: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        obj = obj.get(part) if isinstance(obj, dict) else None
    return obj

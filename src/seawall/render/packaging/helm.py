"""A Helm chart whose defaults are the plain objects, byte for byte in meaning: `helm template` equals `render`.

A knob is a place in an object whose value comes from values.yaml. The chart is the plain YAML with these
places exchanged; braces that belong to alerts and dashboards are kept from the template engine.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass, field
from typing import Any

from seawall import __version__
from seawall.domain.labels import APP, BATCH_APP, FLEET, GROUP, POOL, SCALER_APP, STORE_APP
from seawall.render.images import gateway_image
from seawall.render.inputs import Object, Rendering, Wanted
from seawall.render.packaging.files import by_file
from seawall.render.replica.workload import scaled
from seawall.render.yaml import dump

MONITORING = {"PodMonitor", "ServiceMonitor", "PrometheusRule"}
FieldPath = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Knob:
    """One place in one object, fed from `values`."""

    kind: str
    name: str
    place: FieldPath
    values: tuple[str, ...]
    schema: str
    """JSON type."""
    limits: Object = field(default_factory=dict)
    """What JSON Schema asks of the value besides."""


GATEWAY_IMAGE = ("gateway", "image")
AMOUNT = {"pattern": r"^[0-9]+(\.[0-9]+)?(m|[kMGT]|[KMGT]i)?$"}
PINNED = {
    "pattern": r"(@sha256:[0-9a-f]{64}|:[A-Za-z0-9_][A-Za-z0-9._-]*)$",
    "not": {"pattern": ":latest$"},
}


def chart_files(rendering: Rendering) -> dict[str, str]:
    knobs = _knobs(rendering)
    values: Object = {
        "createNamespace": False,
        "monitoring": {"enabled": True},
        "networkPolicies": {"enabled": True},
        "fleets": {},
        "gateway": {},
    }
    index = {(o["kind"], o["metadata"]["name"]): o for o in rendering.objects}
    for knob in knobs:
        _set(values, knob.values, _get(index[knob.kind, knob.name], knob.place))
    for wanted in rendering.group.members:
        if scaled(wanted):
            fleet = values["fleets"].setdefault(wanted.name, {})
            fleet.setdefault("autoscaling", {})["enabled"] = True
            fleet["replicas"] = max(1, wanted.fleet.spec.scaling.min)
    out = {
        "Chart.yaml": _chart(rendering),
        "values.yaml": _values_text(values),
        "values.schema.json": json.dumps(_schema(values, knobs), indent=2) + "\n",
        "templates/NOTES.txt": _notes(rendering),
    }
    for name, objects in by_file(rendering.objects).items():
        docs = [_template(o, [k for k in knobs if (k.kind, k.name) == _key(o)], rendering) for o in objects]
        out[f"templates/{name}"] = "".join(docs)
    return out


def _key(obj: Object) -> tuple[str, str]:
    return obj["kind"], obj["metadata"]["name"]


def _knobs(rendering: Rendering) -> list[Knob]:
    out: list[Knob] = []
    index = {_key(o): o for o in rendering.objects}
    for obj in rendering.objects:
        fleet = obj["metadata"].get("labels", {}).get(FLEET)
        base: tuple[str, ...] = ("fleets", fleet) if fleet else ("gateway",)
        at: FieldPath
        match obj["kind"]:
            case "Deployment" if obj["metadata"].get("labels", {}).get(APP) in (SCALER_APP, BATCH_APP):
                # It runs the gateway's image, and has nothing else that would be set.
                at = ("spec", "template", "spec", "containers", 0, "image")
                found = [_knob(obj, at, GATEWAY_IMAGE, limits=PINNED)]
            case "Deployment" if obj["metadata"].get("labels", {}).get(APP) == STORE_APP:
                at = ("spec", "template", "spec", "containers", 0, "image")
                found = [_knob(obj, at, ("gateway", "storeImage"), limits=PINNED)]
            case "Deployment":
                found = _of_deployment(obj, base)
            case "Job":
                found = _of_pulls(obj, "containers")
            case "ScaledObject" | "HorizontalPodAutoscaler":
                found = _of_scaler(obj, base)
            case "PersistentVolumeClaim":
                base = base if fleet else ("gateway", "batch")
                at = ("spec", "resources", "requests", "storage")
                found = [
                    _knob(obj, ("spec", "storageClassName"), (*base, "storage", "class")),
                    _knob(obj, at, (*base, "storage", "size"), limits=AMOUNT),
                ]
            case _:
                found = []
        out += [k for k in found if _get(obj, k.place) is not None]
    own = gateway_image(rendering.group)
    return [k for k in out if k.values != GATEWAY_IMAGE or _get(index[k.kind, k.name], k.place) == own]


def _knob(
    obj: Object,
    place: FieldPath,
    values: tuple[str, ...],
    schema: str = "string",
    limits: Object | None = None,
) -> Knob:
    kind, name = _key(obj)
    return Knob(kind=kind, name=name, place=place, values=values, schema=schema, limits=limits or {})


def _of_deployment(obj: Object, base: tuple[str, ...]) -> list[Knob]:
    """Knobs of a Deployment. A spot fleet's on-demand floor is none: the scaler's query counts on it."""
    labels, pod = obj["metadata"]["labels"], obj["spec"]["template"]["spec"]
    own = (*base, "canary") if labels.get(GROUP) == "canary" else base
    container: FieldPath = ("spec", "template", "spec", "containers", 0)
    out = [_knob(obj, (*container, "image"), (*own, "image"), limits=PINNED)]
    for what in ("cpu", "memory"):
        for bound in ("requests", "limits"):
            place = (*container, "resources", bound, what)
            out.append(_knob(obj, place, (*own, "resources", what), limits=AMOUNT))
    for n, init in enumerate(pod.get("initContainers", [])):
        if init["name"] == "weights":
            at: FieldPath = ("spec", "template", "spec", "initContainers", n, "image")
            out.append(_knob(obj, at, (*own, "image"), limits=PINNED))
    pool = obj["spec"]["selector"]["matchLabels"].get(POOL, "any")
    if labels.get(FLEET) and (pool != "floor" or own != base):
        out.append(_knob(obj, ("spec", "replicas"), (*own, "replicas"), "integer"))
    return [*out, *_of_pulls(obj, "initContainers")]


def _of_pulls(obj: Object, where: str) -> list[Knob]:
    """Knobs of what runs `seawall pull`, from the gateway's image: one registry to mirror, one place to name it."""
    return [
        _knob(obj, ("spec", "template", "spec", where, n, "image"), GATEWAY_IMAGE, limits=PINNED)
        for n, container in enumerate(obj["spec"]["template"]["spec"].get(where, []))
        if container.get("command") == ["seawall", "pull"]
    ]


def _of_scaler(obj: Object, base: tuple[str, ...]) -> list[Knob]:
    """Knobs of a scaler. Scale to zero is none but the Fleet's choice: triggers and queue timeouts depend on it."""
    keda, spec = obj["kind"] == "ScaledObject", obj["spec"]
    at = (*base, "autoscaling") if base[0] == "fleets" else base
    low, high = ("minReplicaCount", "maxReplicaCount") if keda else ("minReplicas", "maxReplicas")
    least = 0 if spec[low] == 0 else 2 if base[0] == "gateway" else 1
    return [
        _knob(obj, ("spec", low), (*at, "min"), "integer", {"minimum": least}),
        _knob(obj, ("spec", high), (*at, "max"), "integer", {"minimum": max(1, least)}),
    ]


def _get(obj: Any, place: FieldPath) -> Any:
    for part in place:
        if isinstance(obj, dict) and part not in obj:
            return None
        obj = obj[part]
    return obj


def _set(obj: Any, place: tuple[str, ...] | FieldPath, value: Any) -> None:
    for part in place[:-1]:
        obj = obj.setdefault(part, {}) if isinstance(obj, dict) else obj[part]
    obj[place[-1]] = value


def _reference(path: tuple[str, ...]) -> str:
    """`(index .Values "fleets" "llama-70b" "image")`: names may have dashes."""
    return "(index .Values " + " ".join(json.dumps(p) for p in path) + ")"


def _template(obj: Object, knobs: list[Knob], rendering: Rendering) -> str:
    marked = copy.deepcopy(obj)
    for n, knob in enumerate(knobs):
        _set(marked, knob.place, f"@@{n}@@")
    text = dump(marked)
    text = re.sub(r"\{\{|\}\}", lambda m: "{{ `" + m[0] + "` }}", text)
    for n, knob in enumerate(knobs):
        pipe = " | quote" if knob.schema == "string" else " | int"
        text = text.replace(f'"@@{n}@@"', "{{ " + _reference(knob.values) + pipe + " }}")
    text = _own_name(obj, knobs, text)
    condition = _condition(obj)
    text = _own_replicas(obj, text, rendering)
    if condition:
        return f"{{{{- if {condition} }}}}\n---\n{text}{{{{- end }}}}\n"
    return f"---\n{text}"


def _own_name(obj: Object, knobs: list[Knob], text: str) -> str:
    """Names a Job by its image: a Job cannot be changed, so another image makes another Job."""
    image = next((k for k in knobs if obj["kind"] == "Job"), None)
    if image is None:
        return text
    name, value, default = obj["metadata"]["name"], _reference(image.values), _get(obj, image.place)
    other = f'printf "%s-%s" {json.dumps(name[:56].rstrip("-"))} ({value} | sha256sum | trunc 6)'
    chosen = (
        f"{{{{ if eq {value} {json.dumps(default)} }}}}{name}{{{{ else }}}}{{{{ {other} }}}}{{{{ end }}}}"
    )
    return text.replace(f"\n  name: {name}\n", f"\n  name: {chosen}\n", 1)


def _condition(obj: Object) -> str | None:
    kind = obj["kind"]
    fleet = obj["metadata"].get("labels", {}).get(FLEET)
    if kind == "Namespace":
        return _namespace_stays(obj["metadata"]["name"])
    if kind in MONITORING or "grafana_dashboard" in obj["metadata"].get("labels", {}):
        return ".Values.monitoring.enabled"
    if kind == "NetworkPolicy":
        return ".Values.networkPolicies.enabled"
    if kind in ("ScaledObject", "HorizontalPodAutoscaler") and fleet:
        return _reference(("fleets", fleet, "autoscaling", "enabled"))
    return None


def _namespace_stays(name: str) -> str:
    """A condition: the chart is to make the namespace, or this release has made it. What leaves a chart is deleted, and
    with a namespace goes everything in it."""
    found = f'(lookup "v1" "Namespace" "" {json.dumps(name)})'
    maker = f'(dig "metadata" "annotations" "meta.helm.sh/release-name" "" {found})'
    return f"(or .Values.createNamespace (eq {maker} .Release.Name))"


def _own_replicas(obj: Object, text: str, rendering: Rendering) -> str:
    """Writes `replicas` where autoscaling is switched off: then somebody has to say how many."""
    for wanted in rendering.group.members:
        half = scaled(wanted)
        if half and obj["kind"] in ("Deployment", "LeaderWorkerSet") and obj["metadata"]["name"] == half.name:
            off = _reference(("fleets", wanted.name, "autoscaling", "enabled"))
            count = _reference(("fleets", wanted.name, "replicas"))
            lines = f"{{{{- if not {off} }}}}\n  replicas: {{{{ {count} | int }}}}\n{{{{- end }}}}\n"
            return text.replace("\nspec:\n", f"\nspec:\n{lines}", 1)
    return text


def _chart(rendering: Rendering) -> str:
    return dump(
        {
            "apiVersion": "v2",
            "name": rendering.group.gateway,
            "description": "vLLM fleets behind one gateway: "
            + ", ".join(m.name for m in rendering.group.members),
            "type": "application",
            "version": "0.1.0",
            "appVersion": __version__,
            "kubeVersion": ">=1.34.0-0",
        }
    )


def _values_text(values: Object) -> str:
    head = (
        "# The knobs that people turn. Everything else comes from the Fleet: change it there and render again.\n"
        "# With these defaults `helm template` gives exactly what `seawall render` gives, but for the namespace:\n"
        "# `helm install --create-namespace` makes it; createNamespace does, with pod security labels, and keeps it.\n"
    )
    return head + dump(values)


def _schema(value: Any, knobs: list[Knob], path: tuple[str, ...] = ()) -> Object:
    if isinstance(value, dict):
        return {
            "type": "object",
            "properties": {k: _schema(v, knobs, (*path, k)) for k, v in value.items()},
            "additionalProperties": False,
        }
    limits = next((k.limits for k in knobs if k.values == path), {})
    if isinstance(value, bool):
        return {"type": "boolean"}
    if isinstance(value, int):
        return {"type": "integer", "minimum": 0, **limits}
    return {"type": "string", "minLength": 1, **limits}


def _notes(rendering: Rendering) -> str:
    group = rendering.group
    models = ", ".join(_served(m) for m in group.members)
    lines = [
        f"Fleets in namespace {group.namespace}: {', '.join(m.name for m in group.members)}",
        f"Models: {models}",
        "",
        "Watch them come up (the first start loads weights and may take minutes):",
        f"  kubectl -n {group.namespace} get pods,jobs -w",
        "Ask:",
        f"  kubectl -n {group.namespace} port-forward svc/{group.gateway} 8000:80",
        "  curl http://127.0.0.1:8000/v1/models",
        "",
        *rendering.notes,
    ]
    return "\n".join(lines) + "\n"


def _served(wanted: Wanted) -> str:
    return ", ".join(wanted.fleet.served_names)

"""A Helm chart whose defaults are the plain objects, byte for byte in meaning: `helm template` equals `render`.

A knob is a place in an object whose value comes from values.yaml. The chart is the plain YAML with these
places exchanged; braces that belong to alerts and dashboards are kept from the template engine.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass
from typing import Any

from seawall import __version__
from seawall.render.files import by_file
from seawall.render.inputs import Object, Rendering, Wanted
from seawall.render.names import FLEET
from seawall.render.workload import scaled
from seawall.render.yaml import dump

MONITORING = {"PodMonitor", "ServiceMonitor", "PrometheusRule"}
Path = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Knob:
    """One place in one object, fed from `values`."""

    kind: str
    name: str
    place: Path
    values: tuple[str, ...]
    schema: str
    """JSON type."""


def chart_files(rendering: Rendering) -> dict[str, str]:
    knobs = _knobs(rendering)
    values: Object = {
        "createNamespace": True,
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
        "values.schema.json": json.dumps(_schema(values), indent=2) + "\n",
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

    def add(obj: Object, place: Path, values: tuple[str, ...], schema: str) -> None:
        kind, name = _key(obj)
        if _get(obj, place) is not None:
            out.append(Knob(kind=kind, name=name, place=place, values=values, schema=schema))

    gateway = rendering.group.gateway
    for obj in rendering.objects:
        kind = obj["kind"]
        fleet = obj["metadata"].get("labels", {}).get(FLEET)
        base: tuple[str, ...] = ("fleets", fleet) if fleet else ("gateway",)
        side = "canary" if obj["metadata"].get("labels", {}).get("seawall.dev/group") == "canary" else ""
        own = (*base, side) if side else base
        if kind == "Deployment":
            container: Path = ("spec", "template", "spec", "containers", 0)
            add(obj, (*container, "image"), (*own, "image"), "string")
            for what in ("cpu", "memory"):
                for bound in ("requests", "limits"):
                    add(obj, (*container, "resources", bound, what), (*own, "resources", what), "string")
            for n, init in enumerate(obj["spec"]["template"]["spec"].get("initContainers", [])):
                if init["name"] == "weights":
                    place: Path = ("spec", "template", "spec", "initContainers", n, "image")
                    add(obj, place, (*own, "image"), "string")
            if "replicas" in obj["spec"] and fleet:
                pool = obj["spec"]["selector"]["matchLabels"].get("seawall.dev/pool", "any")
                values = (*own, "floor") if pool == "floor" and not side else (*own, "replicas")
                add(obj, ("spec", "replicas"), values, "integer")
        elif kind == "ScaledObject":
            add(obj, ("spec", "minReplicaCount"), (*base, "autoscaling", "min"), "integer")
            add(obj, ("spec", "maxReplicaCount"), (*base, "autoscaling", "max"), "integer")
        elif kind == "HorizontalPodAutoscaler":
            at = base if obj["metadata"]["name"] == gateway else (*base, "autoscaling")
            add(obj, ("spec", "minReplicas"), (*at, "min"), "integer")
            add(obj, ("spec", "maxReplicas"), (*at, "max"), "integer")
        elif kind == "PersistentVolumeClaim":
            add(obj, ("spec", "storageClassName"), (*base, "storage", "class"), "string")
            add(obj, ("spec", "resources", "requests", "storage"), (*base, "storage", "size"), "string")
    return out


def _get(obj: Any, place: Path) -> Any:
    for part in place:
        if isinstance(obj, dict) and part not in obj:
            return None
        obj = obj[part]
    return obj


def _set(obj: Any, place: tuple[str, ...] | Path, value: Any) -> None:
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
    condition = _condition(obj)
    text = _own_replicas(obj, text, rendering)
    if condition:
        return f"{{{{- if {condition} }}}}\n---\n{text}{{{{- end }}}}\n"
    return f"---\n{text}"


def _condition(obj: Object) -> str | None:
    kind = obj["kind"]
    fleet = obj["metadata"].get("labels", {}).get(FLEET)
    if kind == "Namespace":
        return ".Values.createNamespace"
    if kind in MONITORING or "grafana_dashboard" in obj["metadata"].get("labels", {}):
        return ".Values.monitoring.enabled"
    if kind == "NetworkPolicy":
        return ".Values.networkPolicies.enabled"
    if kind in ("ScaledObject", "HorizontalPodAutoscaler") and fleet:
        return _reference(("fleets", fleet, "autoscaling", "enabled"))
    return None


def _own_replicas(obj: Object, text: str, rendering: Rendering) -> str:
    """With autoscaling switched off somebody has to say how many."""
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
        "# With these defaults `helm template` gives exactly what `seawall render` gives.\n"
    )
    return head + dump(values)


def _schema(value: Any) -> Object:
    if isinstance(value, dict):
        return {
            "type": "object",
            "properties": {k: _schema(v) for k, v in value.items()},
            "additionalProperties": False,
        }
    if isinstance(value, bool):
        return {"type": "boolean"}
    if isinstance(value, int):
        return {"type": "integer", "minimum": 0}
    return {"type": "string", "minLength": 1}


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

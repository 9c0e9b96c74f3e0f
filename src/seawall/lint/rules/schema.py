"""Rules about fields: names that an object does not have, and values of another type. What the values mean is the
other families' matter."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from seawall.lint.finding import Finding, Say, rule
from seawall.lint.kinds import pod_specs
from seawall.lint.node import YamlNode
from seawall.lint.objects import Obj
from seawall.lint.shapes import SHAPES, Field, homes, spec_shape
from seawall.lint.world import Manifests

_NEAR = 0.82
"""How alike an unknown field and a known one are when the one is a misspelling of the other."""
_SAID = {
    "PodSpec": "a Pod's spec", "Container": "a container", "PodTemplate": "a Pod template", "Security": "a container's "
    "securityContext", "PodSecurity": "a Pod's securityContext", "Mount": "a volume mount", "Env": "a variable",
    "Metadata": "metadata", "Named": "a reference by name", "ContainerPort": "a container's port", "ServicePort": "a "
    "Service's port", "ClaimSource": "a volume from a claim", "SecretSource": "a volume from a Secret",
    "ConfigMapSource": "a volume from a ConfigMap", "Expression": "a match expression",
}  # fmt: skip
_HOMES = (
    "PodSpec", "Container", "PodTemplate", "Deployment", "StatefulSet", "PodSecurity", "Security", "Probe", "Service",
)  # fmt: skip
"""Where a field that stands in the wrong place is looked for, the likeliest first."""
_TEMPLATED = re.compile(r"\{\{|\$|<[\w -]+>")


def open_text(node: YamlNode) -> bool:
    """Whether a value is filled in later: a template's, a variable, a placeholder."""
    return bool(_TEMPLATED.search(node.text()))


def whole(obj: Obj) -> bool:
    """A built-in kind that stands for itself, not a patch over another file: what is missing in it is missing."""
    if obj.kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"):
        return bool(obj.spec["selector"])
    return obj.kind in ("Pod", "Job", "CronJob")


def _rooted(world: Manifests) -> Iterator[tuple[Obj, YamlNode, str]]:
    """(object, node, shape) of what is looked at: the specs of Kubernetes' own kinds and the containers of others."""
    for obj in world.objects:
        shape = spec_shape(obj.kind, obj.api)
        if obj.fragment:
            continue
        if shape:
            yield obj, obj.spec, shape
        elif obj.kind == "LeaderWorkerSet":
            yield from ((obj, pod, "PodSpec") for pod, _ in pod_specs(obj))
        else:
            for pod, _ in pod_specs(obj):
                yield from ((obj, c, "Container") for c in [*pod["containers"], *pod["initContainers"]])


def _walk(node: YamlNode, shape: str) -> Iterator[tuple[YamlNode, str, str, Field | None]]:
    """(mapping, its shape, key, what the key holds) of every field below a node."""
    stack = [(node, shape)]
    while stack:
        here, name = stack.pop()
        for key, value in here.items():
            field = SHAPES[name].get(key)
            yield here, name, key, field
            if field is not None and field.shape:
                stack += [(v, field.shape) for v in (value if field.many else [value])]


@rule(
    "api/unknown-field",
    "error",
    "A field that this part of the object does not have",
    story="""Fields have one place: terminationGracePeriodSeconds, tolerations, imagePullSecrets and volumes belong to
    the Pod's spec, volumeMounts, env and probes to a container, fsGroup to the Pod's securityContext and capabilities
    to the container's. `kubectl apply` refuses others since 1.27 (`unknown field "spec.template.spec.env"`); where it
    is told not to, and from many a controller, they are dropped without a word, and the default holds. Said of fields
    that stand in the wrong place and of misspelt ones; the kinds of Kubernetes itself and LeaderWorkerSets.""",
    cure="Write the field's own name, where it belongs.",
)
def unknown_field(world: Manifests, say: Say) -> Iterator[Finding]:
    yield from _of_controllers(world, say)
    for obj, root, shape in _rooted(world):
        for here, name, key, field in _walk(root, shape):
            if field is not None or "{" in key or "$" in key or key == "<<":
                continue
            others = name == shape == "Container" and obj.kind not in ("Rollout", "JobSet")
            if others and key not in SHAPES["PodSpec"] and not _like(key, name):
                continue  # other projects' containers have fields of their own
            found = _placed(key, name)
            if found:
                node = YamlNode((*here.path, key), here.key_spans.get(key, here.span), here.file, value=key)
                yield say(obj, node, f"{_SAID.get(name, f'a {name}')} has no field {key}: {_DROPPED}.", found)


def _of_controllers(world: Manifests, say: Say) -> Iterator[Finding]:
    """Fields of kinds that start vLLM themselves: names that none of their versions has."""
    for obj in world.kinds("InferenceService"):
        predictor = obj.spec["predictor"]
        for key in ("podSpec", "template", "spec") if obj.api.startswith("serving.kserve.io/") else ():
            if predictor[key]:
                text = f"a predictor has no field {key}: {_DROPPED}."
                yield say(obj, predictor[key], text, "Write the Pod's fields under predictor itself.")
    for obj in world.kinds("DynamoGraphDeployment"):
        for name, part in obj.spec["services"].items():
            for key, node in part.items():
                if "-" in key and "{" not in key:  # none is written so, options of the worker are
                    text = f"{name} has no field {key}: {_DROPPED}."
                    yield say(obj, node, text, f"Write --{key} into extraPodSpec.mainContainer.args.")


_DROPPED = "the API server refuses the object, or drops the field without a word"


def _placed(key: str, shape: str) -> str:
    """Where the field belongs, or how it is spelt; empty when nobody knows it at all."""
    if near := _like(key, shape):
        return f"Did you mean {near}?"
    places = homes(key)
    at = next((h for h in _HOMES if h in places), "")
    if not at and shape in _CLOSED:
        return "Write it under matchLabels." if shape == "Selector" else f"It has {', '.join(SHAPES[shape])}."
    return f"Write it in {_SAID.get(at, f'the spec of a {at}')}." if at else ""


_CLOSED = {
    "Selector", "Probe", "HttpGet", "Exec", "EmptyDir", "HostPath", "ClaimSource", "SecretSource", "ConfigMapSource",
    "KeyPath", "Mount", "KeyRef", "Ref", "EnvSource", "EnvFrom", "Env", "Toleration", "ContainerPort", "Named",
    "Strategy", "Rolling", "Resources", "Ingress", "IngressRule", "IngressPath", "Backend", "BackendService",
    "BackendPort",
}  # fmt: skip
"""Parts so small and so old that whatever they do not have is nowhere."""


def _like(key: str, shape: str) -> str:
    known = {k.lower(): k for k in SHAPES[shape]}
    if key.lower() in known:
        return known[key.lower()]
    if homes(key):
        return ""
    near = difflib.get_close_matches(key.lower().replace("-", "").replace("_", ""), known, 1, _NEAR)
    return known[near[0]] if near else ""


@rule(
    "api/wrong-type",
    "error",
    "A value of another type",
    story="""Kubernetes takes a number where it wants a number and text where it wants text: labels, annotations and
    node selectors are text (`prometheus.io/port: 8000` without quotes is a number), replicas and ports of a container
    are numbers (`"8000"` is text), a list is no mapping. The API server refuses the object: `cannot unmarshal number
    into Go struct field ... of type string`.""",
    cure="Put text in quotes, and numbers without them.",
)
def wrong_type(world: Manifests, say: Say) -> Iterator[Finding]:
    for obj, root, shape in _rooted(world):
        for here, name, key, field in _walk(root, shape):
            if field is not None and (name, key) not in _ELSEWHERE:
                yield from _typed(obj, here[key], key, field, say)
    for obj in world.objects:
        if not obj.fragment and obj.node["metadata"]:
            for part in ("labels", "annotations"):
                yield from _typed(obj, obj.node.at("metadata", part), part, Field("texts by name"), say)
    for obj in world.kinds("ConfigMap", "Secret"):
        for part in ("data", "stringData"):
            yield from _typed(obj, obj.node[part], part, Field("texts by name"), say)


_ELSEWHERE = {("Container", "command"), ("Container", "args"), ("Env", "value")}
"""What command/not-a-string says."""


def _typed(obj: Obj, node: YamlNode, key: str, field: Field, say: Say) -> Iterator[Finding]:
    if node.value is None and node.entries is None and node.elements is None:
        return  # `key:` with nothing behind it is the default
    if open_text(node):
        return
    if why := _mismatch(node, field):
        yield say(obj, node, f"{key} is {why}: the API server refuses the object.")
    elif field.kind == "texts by name":
        for name, value in node.items():
            if not isinstance(value.value, str) and value.value is not None and not open_text(value):
                text = f"{name}: {value.text()} without quotes is no text: the API server refuses the object."
                yield say(obj, value, text, f'Write "{value.text()}".')
            elif value.entries is not None or value.elements is not None:
                yield say(obj, value, f"{name} holds more than text: the API server refuses the object.")


def _mismatch(node: YamlNode, field: Field) -> str:
    """What the value is instead of what the field takes; empty when it fits."""
    value = node.value
    match field.kind:
        case "shape" | "list of text" if field.many or field.kind == "list of text":
            return (
                ""
                if node.elements is not None
                else "a mapping, not a list"
                if node.entries is not None
                else "no list"
            )
        case "shape" | "texts by name" | "quantities by name":
            return (
                ""
                if node.entries is not None
                else "a list, not a mapping"
                if node.elements is not None
                else "no mapping"
            )
        case "integer" if isinstance(value, str):
            return f'the text "{value}", not a number'
        case "boolean" if not isinstance(value, bool):
            return f"{_quoted(node)}, not true or false"
        case "text" if not isinstance(value, str):
            return f"{_quoted(node)} without quotes, no text" if value is not None else "no text"
        case "integer" if isinstance(value, bool) or value is None:
            return "no number"
    return ""


def _quoted(node: YamlNode) -> str:
    return f'"{node.value}"' if isinstance(node.value, str) else node.text() or "a list or mapping"

"""Rules about the fields of HPAs and ScaledObjects: what the API server or KEDA refuses, or drops without a word.

What the numbers in them do is `scale.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from seawall.lint.finding import Finding, Say, rule
from seawall.lint.node import YamlNode
from seawall.lint.objects import Obj
from seawall.lint.patch import Patcher
from seawall.lint.world import Manifests

_SCALED_OBJECT = {
    "scaleTargetRef", "pollingInterval", "cooldownPeriod", "initialCooldownPeriod", "idleReplicaCount",
    "minReplicaCount", "maxReplicaCount", "advanced", "triggers", "fallback",
}  # fmt: skip
_TRIGGER = {"type", "name", "metadata", "authenticationRef", "metricType", "useCachedMetrics"}
_HPA = {"scaleTargetRef", "minReplicas", "maxReplicas", "metrics", "behavior"}
_HPA_V1 = {"scaleTargetRef", "minReplicas", "maxReplicas", "targetCPUUtilizationPercentage"}
_PROMETHEUS = {
    "serverAddress", "query", "threshold", "activationThreshold", "namespace", "customHeaders", "queryParameters",
    "ignoreNullValues", "unsafeSsl", "timeout", "authModes", "metricName", "cortexOrgID", "awsRegion", "identityOwner",
    "customAuthHeader", "tlsServerName",
}  # fmt: skip
_MEANT = {
    "minReplicas": "minReplicaCount", "maxReplicas": "maxReplicaCount", "minReplicaCount": "minReplicas",
    "maxReplicaCount": "maxReplicas", "behavior": "advanced.horizontalPodAutoscalerConfig.behavior",
    "url": "serverAddress",
    "prometheusAddress": "serverAddress", "promQL": "query", "metricThreshold": "threshold", "targetValue": "threshold",
    "value": "threshold",
}  # fmt: skip
_BLOCKS = {
    "Resource": ("resource", ("Utilization", "AverageValue")),
    "ContainerResource": ("containerResource", ("Utilization", "AverageValue")),
    "Pods": ("pods", ("AverageValue",)),
    "Object": ("object", ("Value", "AverageValue")),
    "External": ("external", ("Value", "AverageValue")),
}
_FIELDS = {"Utilization": "averageUtilization", "Value": "value", "AverageValue": "averageValue"}


def _unknown(node: YamlNode, known: set[str]) -> Iterator[tuple[str, YamlNode]]:
    for key, value in node.items():
        if key not in known and "{" not in key:
            yield (
                key,
                YamlNode(
                    (*node.path, key), node.key_spans.get(key, value.span), node.file or value.file, value=key
                ),
            )


@rule(
    "autoscale/unknown-field",
    "error",
    "A field that this object does not have",
    story="""`kubectl apply` refuses fields that are not in the schema (`unknown field
    "spec.minReplicas"`); where it is told not to, and from a GitOps controller, the API server drops
    them without a word, and the default holds: 0 or 1 replicas at least, 100 at most. A ScaledObject
    has minReplicaCount and maxReplicaCount, an HPA minReplicas and maxReplicas.""",
    cure="Use the field's own name and place.",
    fixable=True,
)
def unknown_field(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for obj in world.kinds("ScaledObject", "HorizontalPodAutoscaler"):
        keda = obj.kind == "ScaledObject"
        known = _SCALED_OBJECT if keda else _HPA_V1 if obj.api == "autoscaling/v1" else _HPA
        for key, node in _unknown(obj.spec, known):
            better = _MEANT.get(key, "")
            right = better if better.split(".")[0] in known else ""
            edits = patch.replace(node, right) if right and "." not in right and right not in obj.spec else ()
            where = "autoscaling/v1 " if obj.api == "autoscaling/v1" else ""
            yield say(
                obj,
                node,
                f"a {where}{obj.kind} has no field {key}: the API server refuses or drops it.",
                f"Write {right}." if right else None,
                edits=edits,
            )
        for trigger in obj.spec["triggers"] if keda else ():
            for key, node in _unknown(trigger, _TRIGGER):
                yield say(obj, node, f"a trigger has no field {key}: the API server refuses or drops it.")


@rule(
    "autoscale/trigger-metadata",
    "error",
    "A trigger that KEDA or the API server refuses",
    story="""A trigger's metadata is a table of strings: `threshold: 5` without quotes is a number, and
    the API server refuses the object (`must be of type string`). The prometheus scaler needs
    serverAddress, query and threshold; without one the ScaledObject is not Ready and nothing scales.
    What it does not know, it ignores.""",
    cure='Write serverAddress, query and threshold, each value in quotes: threshold: "5".',
    fixable=True,
)
def trigger_metadata(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for obj in world.kinds("ScaledObject", "ScaledJob"):
        for trigger in obj.spec["triggers"]:
            meta = trigger["metadata"]
            for key, node in meta.items():
                if isinstance(node.value, int | float):
                    written = world.texts.get(node.file, "")[node.span.start : node.span.end]
                    yield say(
                        obj,
                        node,
                        f"{key}: {node.text()} without quotes is no string: the API server refuses the object.",
                        f'Write {key}: "{node.text()}".',
                        edits=patch.replace(node, f'"{written}"'),
                    )
            if trigger["type"].text() == "prometheus":
                yield from _prometheus(obj, trigger, say)


def _prometheus(obj: Obj, trigger: YamlNode, say: Say) -> Iterator[Finding]:
    meta = trigger["metadata"]
    for key in ("serverAddress", "query", "threshold"):
        if not meta[key] and not (key == "serverAddress" and trigger["authenticationRef"]):
            yield say(
                obj,
                meta or trigger,
                f"the prometheus trigger has no {key}: the ScaledObject is not Ready and scales nothing.",
            )
    for key, node in _unknown(meta, _PROMETHEUS):
        if key.startswith(("azure", "google", "gcp", "aws", "credentials")):
            continue
        near = _MEANT.get(key, "")
        cure = f"Did you mean {near}?" if near else f"Remove {key}."
        yield say(
            obj, node, f"the prometheus trigger knows no {key} and ignores it.", cure, severity="warning"
        )
    kind = trigger["metricType"]
    if kind.text() == "Utilization":
        yield say(
            obj,
            kind,
            "Utilization is for cpu and memory triggers only: KEDA refuses the trigger.",
            "Use AverageValue or Value.",
        )


@rule(
    "autoscale/hpa-target",
    "error",
    "A metric's target that the API server refuses",
    story="""Each type of metric takes targets of certain types: Pods only AverageValue, External and
    Object Value or AverageValue, Resource Utilization or AverageValue; and each target type has its own
    field (averageUtilization, value, averageValue). Another pair is refused: `must specify a positive
    target averageValue` or `unknown field`.""",
    cure="Use a target type that the metric takes, with its field.",
)
def hpa_target(world: Manifests, say: Say) -> Iterator[Finding]:
    for obj in world.kinds("HorizontalPodAutoscaler"):
        if obj.api not in ("autoscaling/v2", "autoscaling/v2beta2"):
            continue
        for metric in obj.spec["metrics"]:
            name = metric["type"].text()
            block, takes = _BLOCKS.get(name, ("", ()))
            if not block:
                if name and "{" not in name:
                    yield say(
                        obj,
                        metric["type"],
                        f"there is no metric of type {name}.",
                        f"Use one of {', '.join(_BLOCKS)}.",
                    )
                continue
            body = metric[block]
            if not body:
                yield say(
                    obj,
                    metric["type"],
                    f"a metric of type {name} needs its block `{block}`.",
                    f"Write it under `{block}:`.",
                )
                continue
            yield from _target(obj, name, takes, body, say)


def _target(obj: Obj, name: str, takes: tuple[str, ...], body: YamlNode, say: Say) -> Iterator[Finding]:
    target = body["target"]
    old = [k for k in ("targetAverageValue", "targetAverageUtilization", "targetValue") if body[k]]
    if old:
        yield say(
            obj,
            body[old[0]],
            f"{old[0]} is a field of autoscaling/v2beta1: unknown here.",
            "Write target: {type, ...}.",
        )
        return
    kind = target["type"].text()
    if not target:
        yield say(
            obj,
            body,
            f"the {name} metric has no target.",
            "Write target: {type: AverageValue, averageValue: ...}.",
        )
    elif kind not in takes:
        if "{" not in kind:
            shown = " or ".join(takes)
            yield say(
                obj,
                target["type"] or target,
                f"a {name} metric takes {shown}, not {kind or 'no type'}.",
                f"Use {shown}.",
            )
    elif not target[_FIELDS[kind]]:
        yield say(
            obj, target, f"a target of type {kind} needs {_FIELDS[kind]}: the API server refuses the object.",
            f"Write {_FIELDS[kind]}.",
        )  # fmt: skip

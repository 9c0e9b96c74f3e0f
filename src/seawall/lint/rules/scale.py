"""Rules about autoscaling: HPAs and KEDA ScaledObjects over vLLM."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.domain.labels import PENDING_REQUESTS
from seawall.lint.finding import Finding, Say, rule
from seawall.lint.node import YamlNode
from seawall.lint.objects import Obj
from seawall.lint.patch import Edits, Patcher
from seawall.lint.queries import Query, averages, queries, single
from seawall.lint.world import Manifests

_VLLM = ("vllm:", "vllm_")


def _scaled_objects(world: Manifests) -> Iterator[Obj]:
    """ScaledObjects over a vLLM workload, or over vLLM's metrics."""
    for obj in world.kinds("ScaledObject"):
        if world.target_of(obj) is not None or any(q.obj is obj and _of_vllm(q) for q in queries(world)):
            yield obj


def _of_vllm(query: Query) -> bool:
    return any(u.name.startswith(_VLLM) for u in query.uses)


def _triggers(world: Manifests) -> Iterator[tuple[Obj, Query, YamlNode]]:
    mine = list(_scaled_objects(world))
    for query in queries(world):
        if query.trigger is not None and query.obj in mine:
            yield query.obj, query, query.trigger


@rule(
    "scale/averaged-twice",
    "error",
    "Averaged twice",
    story="""KEDA hands the query to an HPA with an AverageValue target, and the HPA divides by the number
    of replicas. A query that is an average already is divided twice: 10 replicas with 20 waiting each give
    avg 20, ceil(20 / 5) = 4 replicas. It scales DOWN under overload (kubernetes replica_calculator.go).""",
    cure="Use sum(...): AverageValue divides by the replicas itself.",
    fixable=True,
)
def averaged_twice(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for obj, query, trigger in _triggers(world):
        if trigger["metricType"].text("AverageValue") != "AverageValue" or query.tree is None:
            continue
        how = averages(query.tree)
        if how is None:
            continue
        threshold = trigger.at("metadata", "threshold").text("T")
        example = ""
        if how != "histogram_quantile" and threshold.replace(".", "").isdigit() and float(threshold) > 0:
            example = f" (10 replicas with 20 waiting each ask for {-int(-20 // float(threshold))})"
        edits = patch.substitute(query.node, "avg(", "sum(") if query.text.lstrip().startswith("avg(") else ()
        yield say(
            obj,
            query.node,
            f"{how}(...) with an AverageValue target is divided by the replicas twice{example}: "
            "it scales DOWN under overload.",
            "Use sum(vllm:num_requests_waiting{...}).",
            edits=edits,
        )


@rule(
    "scale/many-series",
    "error",
    "A query with more than one result",
    story="""KEDA takes exactly one element: with two Pods an unaggregated query returns two, and KEDA fails
    with `prometheus query ... returned multiple elements`. It works with one replica and breaks when it is
    needed (production-stack's chart has this).""",
    cure="Wrap it in sum(...), without `by`.",
    fixable=True,
)
def many_series(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for obj, query, _ in _triggers(world):
        if query.tree is None or single(query.tree):
            continue
        bare = re.fullmatch(r"[\w:]+(\{[^}]*\})?", query.text.strip())
        edits: Edits = ()
        if bare:
            edits = patch.substitute(query.node, query.text.strip(), f"sum({query.text.strip()})")
        yield say(
            obj,
            query.node,
            "the query returns a series per Pod; with more than one KEDA fails (`returned "
            "multiple elements`) and nothing scales.",
            edits=edits,
        )


@rule(
    "scale/null-is-zero",
    "error",
    "No data counts as no load",
    story="""KEDA's ignoreNullValues is true by default: a query that returns nothing (a metric that does
    not exist, a typo in a label, Prometheus restarting) is 0. The fleet sits at its minimum without any
    error, or scales in during an outage of Prometheus (KEDA prometheus_scaler.go).""",
    cure='Set ignoreNullValues: "false", and a fallback.',
    fixable=True,
)
def null_is_zero(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for obj, query, trigger in _triggers(world):
        meta = trigger["metadata"]
        node = meta["ignoreNullValues"]
        if node.text().lower() == "false" or _never_null(query):
            continue
        edits = patch.replace(node, "false") if node else patch.add_key(meta, ['ignoreNullValues: "false"'])
        yield say(
            obj,
            node,
            "a query that returns nothing counts as 0: the fleet stays at, or falls to, its "
            "minimum without any error.",
            severity=None if (obj.spec["minReplicaCount"].number(0) or 0) > 0 else "warning",
            edits=edits,
        )


def _never_null(query: Query) -> bool:
    return bool(re.search(r"\bor\s+(on\s*\(\s*\)\s*)?vector\s*\(", query.text))


@rule(
    "scale/null-hidden",
    "warning",
    "`or vector(0)` hides missing data",
    story="""With `or vector(0)` a missing series is a 0 that no ignoreNullValues and no fallback can tell
    from an idle fleet: an outage of Prometheus' targets scales in.""",
    cure='Remove it, set ignoreNullValues: "false" and a fallback.',
)
def null_hidden(world: Manifests, say: Say) -> Iterator[Finding]:
    seen = list(_triggers(world))
    for obj, query, _ in seen:
        # one query that fails on missing data is enough: HPA does not scale in while any metric fails
        hidden = all(_never_null(q) for o, q, _ in seen if o is obj)
        if hidden and (obj.spec["minReplicaCount"].number(0) or 0) > 0:
            yield say(obj, query.node, "missing data is made a 0: when scraping fails the fleet scales in.")


@rule(
    "scale/no-fallback",
    "warning",
    "No fallback when Prometheus is away",
    story="""After an error KEDA reports nothing and the HPA does not scale. That keeps the replicas, but a
    fleet that was small stays small during the outage. A fallback names the replicas to hold (behavior:
    currentReplicasIfHigher keeps more when there are more).""",
    cure="Add fallback: {failureThreshold: 3, replicas: N, behavior: currentReplicasIfHigher}.",
)
def no_fallback(world: Manifests, say: Say) -> Iterator[Finding]:
    for obj in _scaled_objects(world):
        if not obj.spec["fallback"] and any(t["type"].text() == "prometheus" for t in obj.spec["triggers"]):
            yield say(
                obj,
                obj.spec["fallback"],
                "when Prometheus is away the fleet stays as small as it happened to be.",
            )


@rule(
    "scale/no-behavior",
    "warning",
    "Scales in at full speed",
    story="""Without `behavior` an HPA may remove 100% of the replicas every 15 s once the five-minute
    window allows it. Each of those took minutes to load and carries streams.""",
    cure="Scale down slowly: stabilizationWindowSeconds 300 and one Pod per 120 s.",
)
def no_behavior(world: Manifests, say: Say) -> Iterator[Finding]:
    for obj in _scaled_objects(world):
        node = obj.spec.at("advanced", "horizontalPodAutoscalerConfig", "behavior")
        if not node["scaleDown"]:
            yield say(
                obj,
                node,
                "after five quiet minutes all replicas above the minimum may go at once, with their "
                "streams and minutes of loading.",
            )
    for obj in world.kinds("HorizontalPodAutoscaler"):
        if world.target_of(obj) is not None and not obj.spec.at("behavior", "scaleDown"):
            yield say(
                obj,
                obj.spec["behavior"],
                "after five quiet minutes all replicas above the minimum may go at once, with their "
                "streams and minutes of loading.",
            )


@rule(
    "scale/replicas-owned",
    "warning",
    "Two owners of the replica count",
    story="""`replicas` in the manifest beside an autoscaler: every `kubectl apply` or GitOps sync sets the
    count back, and under load nine of ten replicas are stopped at once.""",
    cure="Remove spec.replicas (with Argo CD also add it to ignoreDifferences).",
    fixable=True,
)
def replicas_owned(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload in world.servers:
        node = workload.obj.spec["replicas"]
        scalers = world.scalers(workload)
        if node and scalers and workload.obj.kind in ("Deployment", "StatefulSet", "LeaderWorkerSet"):
            yield say(
                workload.obj,
                node,
                f"every apply sets the count back to {node.text()} although {scalers[0].shown} owns "
                "it: replicas stop in the middle of load.",
                edits=patch.remove_key(workload.obj.spec, "replicas"),
            )


@rule(
    "scale/two-scalers",
    "error",
    "Two autoscalers over one workload",
    story="""KEDA makes an HPA of its own. A second HPA or ScaledObject over the same target fights with it:
    the count flaps between their answers. KEDA's webhook refuses some of these cases.""",
    cure="Keep one, with all metrics in it.",
)
def two_scalers(world: Manifests, say: Say) -> Iterator[Finding]:
    for scalers in world.scaled:
        for other in scalers[1:]:
            target = other.spec["scaleTargetRef"]
            yield say(
                other,
                target,
                f"{scalers[0].shown} scales {target['kind'].text('Deployment')}/{target['name'].text()} already: the "
                "count flaps between the two.",
            )


@rule(
    "scale/keda-metric-name",
    "warning",
    "metricName does nothing",
    story="""metricName was removed from KEDA's triggers in 2.12. It is ignored without a word; a reader
    believes that it names the metric that is scaled on.""",
    cure="Remove metricName (name the trigger with `name:` instead).",
    fixable=True,
)
def keda_metric_name(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for obj in world.kinds("ScaledObject", "ScaledJob"):
        for trigger in obj.spec["triggers"]:
            node = trigger.at("metadata", "metricName")
            if node and trigger["type"].text() == "prometheus":
                yield say(
                    obj,
                    node,
                    "metricName is ignored since KEDA 2.12.",
                    edits=patch.remove_key(trigger["metadata"], "metricName"),
                )


@rule(
    "scale/keda-dead-setting",
    "note",
    "A setting without effect",
    story="""cooldownPeriod concerns only the step from one replica to zero; with minReplicaCount 1 or more
    it does nothing, and neither does pollingInterval without a fallback (the HPA
    asks every 15 s by itself). How fast a fleet scales in is decided by `behavior`. KEDA's webhook warns about it.""",
    cure="Remove it; use behavior.scaleDown.",
    fixable=True,
)
def keda_dead_setting(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for obj in _scaled_objects(world):
        low = obj.spec["minReplicaCount"].number(0) or 0
        polled = obj.spec["fallback"] or any(
            t["useCachedMetrics"].value is True for t in obj.spec["triggers"]
        )
        for name in ("cooldownPeriod", "pollingInterval"):
            node = obj.spec[name]
            if (
                node
                and low >= 1
                and not (polled and name == "pollingInterval")
                and not obj.spec["idleReplicaCount"]
            ):
                yield say(
                    obj,
                    node,
                    f"{name} does nothing with minReplicaCount {low:.0f}.",
                    edits=patch.remove_key(obj.spec, name),
                )


@rule(
    "scale/never-wakes",
    "error",
    "Scales to zero and never comes back",
    story="""With no replica there is no engine that reports vllm: metrics: the query returns nothing (or
    0), KEDA sees no activity, and the fleet stays at zero whatever clients send. Something that is there
    without replicas has to count the requests: a gateway that holds them.""",
    cure=f"Scale from zero on the gateway's number ({PENDING_REQUESTS}), or keep minReplicaCount: 1.",
)
def never_wakes(world: Manifests, say: Say) -> Iterator[Finding]:
    for obj in _scaled_objects(world):
        node = obj.spec["minReplicaCount"]
        if (node.number(0) or 0) > 0 or obj.spec["idleReplicaCount"]:
            continue
        mine = [q for q in queries(world) if q.obj is obj]
        others = [t for t in obj.spec["triggers"] if t["type"].text() != "prometheus"]
        blind = all(
            q.uses
            and all(
                u.name.startswith("vllm:")
                and u.name.removeprefix("vllm:") not in ("num_incoming_requests_total",)
                for u in q.uses
            )
            for q in mine
        )
        if mine and blind and not others:
            yield say(
                obj,
                node,
                "at zero replicas nobody reports vllm: metrics, so nothing ever wakes the fleet"
                + ("." if node else " (minReplicaCount is 0 by default)."),
            )


@rule(
    "scale/idle-count",
    "error",
    "idleReplicaCount other than 0",
    story="""KEDA supports 0 only; other values are refused or ignored.""",
    cure="Use minReplicaCount, or idleReplicaCount: 0.",
)
def idle_count(world: Manifests, say: Say) -> Iterator[Finding]:
    for obj in _scaled_objects(world):
        node = obj.spec["idleReplicaCount"]
        if node and node.number(0) != 0:
            yield say(obj, node, f"idleReplicaCount {node.text()}: KEDA supports 0 only.")


_FRONT = re.compile(r"router|gateway|proxy|front|epp|(^|-)(ui|web|api)(-|$)")


def _sounds_served(target: YamlNode) -> bool:
    """Whether a target that is out of sight is an engine by its kind or name, and nothing in front of engines."""
    name, kind = target["name"].text().lower(), target["kind"].text()
    engine = "vllm" in name or kind in ("DynamoGraphDeploymentScalingAdapter", "LeaderWorkerSet")
    return engine and not _FRONT.search(name)


@rule(
    "scale/cpu",
    "warning",
    "Scales on CPU or host memory",
    story="""vLLM spins on a CPU core whether or not it has work, and its host memory is constant. The GPU
    and the queue are what fills up.""",
    cure="Scale on running + waiting requests (sum(vllm:num_requests_running) + "
    "sum(vllm:num_requests_waiting)).",
)
def cpu(world: Manifests, say: Say) -> Iterator[Finding]:
    for obj in world.kinds("HorizontalPodAutoscaler"):
        if world.target_of(obj) is None and not _sounds_served(obj.spec["scaleTargetRef"]):
            continue
        for metric in obj.spec["metrics"]:
            name = metric.at("resource", "name") or metric.at("containerResource", "name")
            if name.text() in ("cpu", "memory"):
                yield say(
                    obj,
                    name,
                    f"{name.text()} says nothing about an LLM's load: the fleet scales at the wrong times.",
                )
        if obj.spec["targetCPUUtilizationPercentage"]:
            yield say(
                obj,
                obj.spec["targetCPUUtilizationPercentage"],
                "CPU says nothing about an LLM's load: the fleet scales at the wrong times.",
            )
    for obj in _scaled_objects(world):
        for trigger in obj.spec["triggers"]:
            if trigger["type"].text() in ("cpu", "memory"):
                yield say(
                    obj,
                    trigger["type"],
                    f"{trigger['type'].text()} says nothing about an LLM's load: the fleet scales at the "
                    "wrong times.",
                )


@rule(
    "scale/bounds",
    "error",
    "Bounds that contradict each other",
    story="""A minimum above the maximum is refused by the API server.""",
    cure="Make the minimum smaller than the maximum.",
)
def bounds(world: Manifests, say: Say) -> Iterator[Finding]:
    for obj in world.kinds("ScaledObject", "HorizontalPodAutoscaler"):
        keda = obj.kind == "ScaledObject"
        low, high = (
            obj.spec[n]
            for n in (("minReplicaCount", "maxReplicaCount") if keda else ("minReplicas", "maxReplicas"))
        )
        if low and high and (low.number(0) or 0) > (high.number(0) or 0):
            yield say(
                obj,
                low,
                f"the minimum {low.text()} is above the maximum {high.text()}: the API server refuses it.",
            )


_MAKES = {"InferenceService": "-predictor", "LLMInferenceService": "-kserve"}
"""Kinds whose controllers make Deployments of another name than their own, and what they add to it."""


@rule(
    "scale/not-a-deployment",
    "error",
    "Scales a name that no Deployment has",
    story="""scaleTargetRef without a kind means a Deployment. KServe names the Deployment of an InferenceService
    NAME-predictor (NAME-predictor-00001-deployment on Knative) and that of an LLMInferenceService NAME-kserve: a
    ScaledObject on the plain name is never Ready (`deployments.apps "NAME" not found`), an HPA says FailedGetScale. An
    InferenceService itself has no scale subresource, and KServe sets the replicas of what it made.""",
    cure="Let KServe scale it: spec.predictor.minReplicas and maxReplicas, with the annotation "
    "serving.kserve.io/autoscalerClass (hpa, keda or external).",
)
def not_a_deployment(world: Manifests, say: Say) -> Iterator[Finding]:
    made = {(o.namespace, o.name): o for o in world.kinds(*_MAKES)}
    real = {(o.namespace, o.name) for o in world.kinds("Deployment")}
    for obj in world.kinds("ScaledObject", "HorizontalPodAutoscaler"):
        ref = obj.spec["scaleTargetRef"]
        kind, key = ref["kind"].text("Deployment"), (obj.namespace, ref["name"].text())
        target = made.get(key)
        if target is None or key in real or kind not in ("Deployment", "InferenceService"):
            continue
        name = ref["name"].text()
        yield say(
            obj,
            ref["name"],
            f"{target.shown} is no Deployment: KServe's is {name}{_MAKES[target.kind]}, and nothing is scaled."
            if kind == "Deployment"
            else "an InferenceService has no scale subresource: nothing is scaled.",
        )


@rule(
    "scale/target-missing",
    "warning",
    "Scales something that is not here",
    story="""A scaleTargetRef that names no object makes KEDA's ScaledObject not Ready (`deployments.apps
    "..." not found`), and an HPA reports FailedGetScale. Reported when exactly one vLLM workload of the
    namespace is in sight and has another name.""",
    cure="Name the workload, with its kind and apiVersion.",
)
def target_missing(world: Manifests, say: Say) -> Iterator[Finding]:
    names = {
        (o.namespace, o.name)
        for o in world.objects
        if o.kind not in ("ScaledObject", "HorizontalPodAutoscaler", "Service")
    }
    for obj in world.kinds("ScaledObject", "HorizontalPodAutoscaler"):
        ref = obj.spec.at("scaleTargetRef", "name")
        mates = [w for w in world.whole_servers if w.obj.namespace == obj.namespace]
        if (
            ref
            and len(mates) == 1
            and (obj.namespace, ref.text()) not in names
            and not world.scalers(mates[0])
        ) and any(q.obj is obj and _of_vllm(q) for q in queries(world)):
            yield say(obj, ref, f"there is no {ref.text()} here; the vLLM workload is {mates[0].obj.shown}.")

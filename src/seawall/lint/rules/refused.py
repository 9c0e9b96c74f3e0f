"""Rules about what the API server refuses of any object: a kind in another group, a part that must be there."""

from __future__ import annotations

from collections.abc import Iterator

from seawall.lint.finding import Finding, Say, rule
from seawall.lint.node import YamlNode
from seawall.lint.objects import Obj
from seawall.lint.world import Manifests

_HOME = {
    "Deployment": "apps/v1", "StatefulSet": "apps/v1", "DaemonSet": "apps/v1", "ReplicaSet": "apps/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2", "PodDisruptionBudget": "policy/v1", "CronJob": "batch/v1",
    "ConfigMap": "v1", "PersistentVolumeClaim": "v1", "ServiceAccount": "v1", "Namespace": "v1",
}  # fmt: skip
"""Built-in kinds whose name no other group uses -> where they are."""
_VERSIONS = {
    "apps": {"v1", "v1beta1", "v1beta2"}, "autoscaling": {"v1", "v2", "v2beta1", "v2beta2"}, "batch": {"v1", "v1beta1"},
    "policy": {"v1", "v1beta1"}, "extensions": {"v1beta1"}, "": {"v1"},
}  # fmt: skip
"""Groups and the versions that they have or once had; those that went are another rule's."""
_GROUPS = {
    "StormService": ("orchestration.aibrix.ai", "v1alpha1"), "RayClusterFleet": ("orchestration.aibrix.ai", "v1alpha1"),
    "PodAutoscaler": ("autoscaling.aibrix.ai", "v1alpha1"), "ModelAdapter": ("model.aibrix.ai", "v1alpha1"),
    "LeaderWorkerSet": ("leaderworkerset.x-k8s.io", "v1"), "LLMInferenceService": ("serving.kserve.io", "v1alpha1"),
    "RayService": ("ray.io", "v1"), "RayCluster": ("ray.io", "v1"), "ScaledObject": ("keda.sh", "v1alpha1"),
    "TriggerAuthentication": ("keda.sh", "v1alpha1"), "DynamoGraphDeployment": ("nvidia.com", "v1alpha1"),
    "HTTPRoute": ("gateway.networking.k8s.io", "v1"), "LocalQueue": ("kueue.x-k8s.io", "v1beta1"),
}  # fmt: skip
"""Kinds of add-ons whose name one project uses -> its group, and the version to write there."""
_SELECTING = ("Deployment", "StatefulSet", "DaemonSet")


@rule(
    "api/unknown-version",
    "error",
    "A kind in a group or version that does not have it",
    story="""Each built-in kind lives in one group: an HPA in autoscaling (autoscaling.k8s.io is the vertical
    autoscaler's), a Deployment in apps, a PodDisruptionBudget in policy. So do the kinds
    of add-ons: a StormService in orchestration.aibrix.ai, a
    LeaderWorkerSet in leaderworkerset.x-k8s.io. `kubectl apply` answers `no matches for kind`, and the rest of the file
    is applied without it.""",
    cure="Write the group and version that the kind has.",
)
def unknown_version(world: Manifests, say: Say) -> Iterator[Finding]:
    for obj in world.kinds(*_HOME):
        group, _, version = obj.api.rpartition("/")
        own = _HOME[obj.kind].rpartition("/")[0]
        takes = {own, "extensions"} if own == "apps" else {own}
        if (
            not obj.api
            or "{" in obj.api
            or "$" in obj.api
            or (group in takes and version in _VERSIONS[group])
        ):
            continue
        text = f"{obj.api} has no {obj.kind}: apply fails with `no matches for kind`."
        yield say(obj, obj.node["apiVersion"], text, f"Write apiVersion: {_HOME[obj.kind]}.")
    for obj in world.kinds(*_GROUPS):
        group, version = _GROUPS[obj.kind]
        if not obj.api or {"{", "$"} & set(obj.api) or obj.api.rpartition("/")[0] == group:
            continue
        text = f"{obj.kind} is a kind of {group}, not of {obj.api}: apply fails with `no matches for kind`."
        yield say(obj, obj.node["apiVersion"], text, f"Write apiVersion: {group}/{version}.")


@rule(
    "api/incomplete",
    "error",
    "A part that Kubernetes insists on is missing",
    story="""A Deployment, StatefulSet or DaemonSet needs a selector, and its Pods need the labels that it
    selects (`selector does not match template labels`); an HPA's scaleTargetRef needs kind and name. The API
    server refuses the object. What has no selector may be a patch over another file: a warning.""",
    cure="Write spec.selector.matchLabels, and the same labels under spec.template.metadata.labels.",
)
def incomplete(world: Manifests, say: Say) -> Iterator[Finding]:
    for obj in world.kinds(*_SELECTING):
        yield from _without_selector(obj, say)
    for obj in world.kinds("HorizontalPodAutoscaler"):
        target = obj.spec["scaleTargetRef"]
        for key in ("kind", "name"):
            if target and obj.spec["maxReplicas"] and not target[key]:
                text = f"scaleTargetRef has no {key}: the API server refuses the object."
                yield say(
                    obj,
                    target,
                    text,
                    "Write scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: ...}.",
                )


def _without_selector(obj: Obj, say: Say) -> Iterator[Finding]:
    template, selector = obj.spec["template"], obj.spec["selector"]
    labels = template.at("metadata", "labels")
    if not template.at("spec", "containers") or "{" in str(obj.name):
        return
    if not selector:
        has_name = obj.node.at("metadata", "name")
        if has_name and obj.spec["replicas"] and template.at("spec", "containers", 0, "image"):
            text = f"no selector: the API server refuses a {obj.kind} without one, unless this is a patch."
            yield say(obj, obj.spec, text, severity="warning")
        return
    for key, wanted in selector["matchLabels"].items():
        if "{" in key or "{" in wanted.text() or "$" in wanted.text():
            continue
        if not labels or labels[key].text() != wanted.text():
            has = f"{key}={labels[key].text()}" if labels and labels[key] else f"no {key}"
            if labels and "{" in has:
                continue
            text = f"the selector asks for {key}={wanted.text()} and the Pods carry {has}: the API server refuses it."
            yield say(obj, wanted, text, "Make selector.matchLabels and template.metadata.labels agree.")
            return


_WORDS = {
    "imagePullPolicy": ("Always", "IfNotPresent", "Never"),
    "restartPolicy": ("Always", "OnFailure", "Never"),
    "dnsPolicy": ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
}
_MODES = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")
_SERVICES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")


@rule(
    "api/unsupported-value",
    "error",
    "A word that Kubernetes does not know",
    story="""Where Kubernetes takes one of a few words it takes them exactly: `IFNotPresent` is not
    `IfNotPresent`, and the Pods of a Deployment restart `Always`. The API server refuses the object
    (`Unsupported value`).""",
    cure="Write one of the words that the field takes.",
)
def unsupported_value(world: Manifests, say: Say) -> Iterator[Finding]:
    for obj, node, takes in _worded(world):
        word = node.text()
        if word and not set("{$<") & set(word) and word not in takes:
            yield say(obj, node, f"{word} is none of {', '.join(takes)}: the API server refuses the object.")


def _worded(world: Manifests) -> Iterator[tuple[Obj, YamlNode, tuple[str, ...]]]:
    for workload in world.workloads:
        for container in [*workload.pod["containers"], *workload.pod["initContainers"]]:
            yield workload.obj, container["imagePullPolicy"], _WORDS["imagePullPolicy"]
        yield workload.obj, workload.pod["dnsPolicy"], _WORDS["dnsPolicy"]
        lasting = workload.obj.kind in _SELECTING
        yield workload.obj, workload.pod["restartPolicy"], ("Always",) if lasting else _WORDS["restartPolicy"]
    for claim in world.kinds("PersistentVolumeClaim"):
        for mode in claim.spec["accessModes"]:
            yield claim, mode, _MODES
    for service in world.kinds("Service"):
        if service.api == "v1":
            yield service, service.spec["type"], _SERVICES

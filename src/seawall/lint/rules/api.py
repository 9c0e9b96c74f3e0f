"""Rules about Kubernetes API versions and objects that stand twice."""

from __future__ import annotations

from collections.abc import Iterator

from seawall.lint.finding import Finding, Say, rule
from seawall.lint.patch import Patcher
from seawall.lint.world import Manifests

_OLD_CUSTOM = {
    "karpenter.sh/v1beta1": ("karpenter.sh/v1", "Karpenter 1.1"),
    "karpenter.k8s.aws/v1beta1": ("karpenter.k8s.aws/v1", "Karpenter 1.1"),
    "karpenter.sh/v1alpha5": ("karpenter.sh/v1 (a NodePool)", "Karpenter 0.33"),
}
"""API version of a controller's own kinds -> (what took its place, the release without it)."""
# api version, kind ("*" is any), version that removed it, what to write, whether the object stays as it is.
_REMOVED: tuple[tuple[str, str, tuple[int, int], str, bool], ...] = (
    ("policy/v1beta1", "PodDisruptionBudget", (1, 25), "policy/v1", True),
    ("policy/v1beta1", "PodSecurityPolicy", (1, 25), "Pod Security Admission labels on the namespace", False),
    ("autoscaling/v2beta1", "HorizontalPodAutoscaler", (1, 25), "autoscaling/v2", False),
    ("autoscaling/v2beta2", "HorizontalPodAutoscaler", (1, 26), "autoscaling/v2", True),
    ("batch/v1beta1", "CronJob", (1, 25), "batch/v1", True),
    ("extensions/v1beta1", "*", (1, 16), "apps/v1 or networking.k8s.io/v1", False),
    ("apps/v1beta1", "*", (1, 16), "apps/v1", False),
    ("apps/v1beta2", "*", (1, 16), "apps/v1", False),
    ("networking.k8s.io/v1beta1", "*", (1, 22), "networking.k8s.io/v1", False),
    ("rbac.authorization.k8s.io/v1beta1", "*", (1, 22), "rbac.authorization.k8s.io/v1", True),
    ("storage.k8s.io/v1beta1", "StorageClass", (1, 22), "storage.k8s.io/v1", True),
    ("scheduling.k8s.io/v1beta1", "PriorityClass", (1, 22), "scheduling.k8s.io/v1", True),
    ("flowcontrol.apiserver.k8s.io/v1beta2", "*", (1, 29), "flowcontrol.apiserver.k8s.io/v1", True),
    ("flowcontrol.apiserver.k8s.io/v1beta3", "*", (1, 32), "flowcontrol.apiserver.k8s.io/v1", True),
)


@rule(
    "api/removed",
    "error",
    "An API version that the cluster no longer serves",
    story="""`kubectl apply` answers `no matches for kind`. policy/v1beta1 went with Kubernetes 1.25 (not
    1.30), autoscaling/v2beta2 with 1.26. --target-version names the cluster's version (default: 1.34).""",
    cure="Write the version that replaced it.",
    fixable=True,
)
def removed(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for obj in world.objects:
        if obj.api in _OLD_CUSTOM and not obj.fragment:
            instead, release = _OLD_CUSTOM[obj.api]
            text = f"{obj.api} went with {release}: a newer one answers `no matches for kind`."
            yield say(obj, obj.node["apiVersion"], text, f"Use {instead}.", severity="warning")
        for api, kind, gone, instead, same in _REMOVED:
            if obj.fragment or obj.api != api or kind not in ("*", obj.kind):
                continue
            node = obj.node["apiVersion"]
            since = f"{gone[0]}.{gone[1]}"
            if world.target >= gone:
                yield say(
                    obj,
                    node,
                    f"{api} {obj.kind} was removed in Kubernetes {since}: apply fails with `no matches "
                    "for kind`.",
                    f"Use {instead}.",
                    edits=patch.replace(node, instead) if same else (),
                )
            else:
                yield say(
                    obj,
                    node,
                    f"{api} {obj.kind} goes in Kubernetes {since}.",
                    f"Use {instead}.",
                    severity="warning",
                    edits=patch.replace(node, instead) if same else (),
                )


@rule(
    "api/duplicate-object",
    "error",
    "One object twice in one file",
    story="""The second overwrites what the first says: with `kubectl apply` the last one wins; Helm and
    Argo CD refuse.""",
    cure="Keep one.",
)
def duplicate_object(world: Manifests, say: Say) -> Iterator[Finding]:
    seen: dict[tuple[str, ...], int] = {}
    for obj in world.objects:
        if obj.fragment or not obj.node.at("metadata", "name"):
            continue
        key = (obj.node.file, obj.api, obj.kind, obj.namespace, obj.name)
        if key in seen:
            yield say(
                obj,
                obj.node.at("metadata", "name"),
                f"{obj.shown} stands on line {seen[key]} already: one overwrites the other.",
            )
        else:
            seen[key] = obj.node.at("metadata", "name").line

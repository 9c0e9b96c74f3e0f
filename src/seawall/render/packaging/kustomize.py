"""Kustomize: the plain files as a base, overlays that say only what differs (dev, prod, spot), and what may be deleted:
`kubectl delete -k` knows no annotation that keeps an object, so it is given a folder of its own."""

from __future__ import annotations

from typing import Any

from seawall.render.inputs import Object, Rendering
from seawall.render.names import is_kept
from seawall.render.replica import pod
from seawall.render.replica.placement import cloud_of
from seawall.render.replica.workload import halves
from seawall.render.yaml import dump

API = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
PRIORITY = 1_000_000


def kustomize_files(rendering: Rendering, base: dict[str, str]) -> dict[str, str]:
    """`base/` with the plain files, and one folder for each overlay."""
    out = {f"base/{name}": text for name, text in base.items()}
    out["base/kustomization.yaml"] = dump({**API, "resources": sorted(base)})
    out |= _dev(rendering)
    out |= _prod(rendering)
    out |= _spot(rendering)
    out |= _removal(rendering)
    return out


def _target(obj: Object) -> Object:
    group, _, version = obj["apiVersion"].rpartition("/")
    target: Object = {"version": version, "kind": obj["kind"], "name": obj["metadata"]["name"]}
    return {"group": group, **target} if group else target


def _replace(obj: Object, changes: dict[str, Any]) -> Object:
    """A JSON 6902 patch on one object: path -> value, `replace` where it is there and `add` where not."""
    operations = []
    for path, value in changes.items():
        node: Any = obj
        *parents, last = path.strip("/").split("/")
        for part in parents:
            node = node[part]
        operations.append({"op": "replace" if last in node else "add", "path": path, "value": value})
    return {"target": _target(obj), "patch": dump(operations)}


def _without(obj: Object) -> Object:
    """The patch that leaves an object out."""
    named = {k: obj["metadata"][k] for k in ("name", "namespace") if k in obj["metadata"]}
    gone = {"$patch": "delete", "apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": named}
    return {"patch": dump(gone)}


def _removal(rendering: Rendering) -> dict[str, str]:
    """The folder `delete`: everything that is only ours. The namespace may hold anything, and the volumes hold weights
    that were downloaded for hours; whoever wants them gone names them."""
    patches = [_without(o) for o in rendering.objects if is_kept(o)]
    body: Object = {**API, "resources": ["../overlays/prod"]}
    if patches:
        body["patches"] = patches
    return {"delete/kustomization.yaml": dump(body)}


def _overlay(name: str, patches: list[Object], resources: tuple[str, ...] = ()) -> dict[str, str]:
    body: Object = {**API, "resources": ["../../base", *resources]}
    if patches:
        body["patches"] = patches
    return {f"overlays/{name}/kustomization.yaml": dump(body)}


def _dev(rendering: Rendering) -> dict[str, str]:
    """The overlay `dev`: one replica of everything, and no alert wakes anybody."""
    patches: list[Object] = []
    for obj in rendering.objects:
        kind, spec = obj["kind"], obj.get("spec", {})
        if kind == "ScaledObject":
            patches.append(
                _replace(
                    obj,
                    {"/spec/minReplicaCount": min(1, spec["minReplicaCount"]), "/spec/maxReplicaCount": 1},
                )
            )
        elif kind == "HorizontalPodAutoscaler":
            patches.append(_replace(obj, {"/spec/minReplicas": 1, "/spec/maxReplicas": 1}))
        elif kind in ("Deployment", "LeaderWorkerSet") and spec.get("replicas", 0) > 1:
            patches.append(_replace(obj, {"/spec/replicas": 1}))
        elif kind == "PrometheusRule":
            patches.append(_without(obj))
    return _overlay("dev", patches)


def _prod(rendering: Rendering) -> dict[str, str]:
    """The overlay `prod`: a priority above batch work, and a third gateway: one may drain while another fails."""
    group = rendering.group
    name = f"{group.namespace}-{group.gateway}"
    priority: Object = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name},
        "value": PRIORITY,
        "preemptionPolicy": "PreemptLowerPriority",
        "description": "Serving: may preempt batch work, is not preempted by it.",
    }
    patches: list[Object] = []
    for obj in rendering.objects:
        if obj["kind"] == "Deployment" and "priorityClassName" not in obj["spec"]["template"]["spec"]:
            patches.append(_replace(obj, {"/spec/template/spec/priorityClassName": name}))
        if obj["kind"] == "HorizontalPodAutoscaler" and obj["metadata"]["name"] == group.gateway:
            low, high = max(3, obj["spec"]["minReplicas"]), max(9, obj["spec"]["maxReplicas"])
            patches.append(_replace(obj, {"/spec/minReplicas": low, "/spec/maxReplicas": high}))
    return {
        **_overlay("prod", patches, ("priority.yaml",)),
        "overlays/prod/priority.yaml": dump(priority),
    }


def _spot(rendering: Rendering) -> dict[str, str]:
    """The overlay `spot`: everything on spot nodes, for tests and batch. (For a floor on demand:
    spec.hardware.spot.) Left out where the cloud has no spot label."""
    patches: list[Object] = []
    known = False
    for wanted in rendering.group.members:
        known = known or cloud_of(wanted).spot is not None
        if cloud_of(wanted).spot is None or wanted.plan.nodes_per_replica > 1:
            continue
        for half in halves(wanted):
            if half.pool != "any":
                continue
            full = pod.template(wanted, "spot", half.group)["spec"]
            engine = full["containers"][0]
            spec: Object = {
                "affinity": full["affinity"],
                "tolerations": full["tolerations"],
                "terminationGracePeriodSeconds": full["terminationGracePeriodSeconds"],
                "containers": [{k: engine[k] for k in ("name", "args", "lifecycle")}],
            }
            patch: Object = {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": half.name, "namespace": wanted.namespace},
                "spec": {"template": {"spec": spec}},
            }
            patches.append({"patch": dump(patch)})
    return _overlay("spot", patches) if known else {}

"""Where the Pods of each kind stand, and which of them run vLLM. No rule here.

Kinds with pod templates are a table; kinds that start vLLM from YAML of their own are read by `controllers.py`. In
kinds that nobody told us of, whatever looks like a pod template is read, and only what is present in it is judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.engines.vllm.versions import Version
from seawall.lint import charts, controllers
from seawall.lint.command import read_command
from seawall.lint.image import image_version, newest_inside
from seawall.lint.node import YamlKey, YamlNode
from seawall.lint.objects import Container, Obj, Workload

# kind -> the pod templates in it (paths to what holds `metadata` and `spec`, or to a bare PodSpec).
_TEMPLATES: dict[str, tuple[tuple[YamlKey, ...], ...]] = {
    "Deployment": (("spec", "template"),),
    "StatefulSet": (("spec", "template"),),
    "DaemonSet": (("spec", "template"),),
    "ReplicaSet": (("spec", "template"),),
    "Job": (("spec", "template"),),
    "CronJob": (("spec", "jobTemplate", "spec", "template"),),
    "Rollout": (("spec", "template"),),
    "LeaderWorkerSet": (
        ("spec", "leaderWorkerTemplate", "leaderTemplate"),
        ("spec", "leaderWorkerTemplate", "workerTemplate"),
    ),
}
_BARE_SPECS: dict[str, tuple[tuple[YamlKey, ...], ...]] = {
    "Pod": (("spec",),),
    "InferenceService": (("spec", "predictor"),),
    "LLMInferenceService": (
        ("spec", "template"),
        ("spec", "worker"),
        ("spec", "prefill", "template"),
        ("spec", "prefill", "worker"),
    ),
}
_OWN_KINDS = {*_TEMPLATES, *_BARE_SPECS, "RayCluster", "RayService", "RayJob"}
"""Kinds whose pod templates stand where the tables say. Of other kinds only what is present is judged, and so of
LLMInferenceService, into which KServe merges probes, hooks and security from its presets."""
_PARTIAL = {"LLMInferenceService", "LLMInferenceServiceConfig", "RayJob"}


def workloads(obj: Obj, default: Version) -> Iterator[Workload]:
    """The vLLM workloads of one object; `default` is the version of images that name none."""
    own = [*controllers.read(obj, default), *charts.read(obj, default)]
    yield from own
    taken = {id(w.pod) for w in own}
    for pod, labels in pod_specs(obj):
        if id(pod) in taken:
            continue
        engines = list(_engines(pod, default))
        if engines:
            partial = (
                obj.fragment or obj.kind not in _OWN_KINDS or obj.kind in _PARTIAL or _is_patch(obj, labels)
            )
            nodes, total = group(obj, pod)
            yield Workload(obj, pod, labels, engines, partial, nodes, total)


def _is_patch(obj: Obj, labels: dict[str, str]) -> bool:
    """True for what cannot stand alone (no selector, no labels): a patch that Kustomize lays over the real object."""
    return obj.kind in ("Deployment", "StatefulSet", "DaemonSet") and not obj.spec["selector"] and not labels


def _engines(pod: YamlNode, default: Version) -> Iterator[Container]:
    for node in pod["containers"]:
        command = read_command(node)
        if command is not None:
            image = node["image"].text()
            version = image_version(image)
            yield Container(node, command, version or newest_inside(image) or default, version is not None)


def group(obj: Obj, pod: YamlNode) -> tuple[int, int | None]:
    """(Pods that serve one model together, their GPUs or None) of kinds that are made of groups."""
    if obj.kind == "LeaderWorkerSet":
        template = obj.spec["leaderWorkerTemplate"]
        size = int(template["size"].number(1) or 1)
        worker = template.at("workerTemplate", "spec")
        leader = template.at("leaderTemplate", "spec") or worker
        return size, gpus_of(leader) + (size - 1) * gpus_of(worker)
    cluster = ray_cluster(obj)
    if cluster:
        groups = list(cluster["workerGroupSpecs"])
        counts = [_most(g) * max(1, int(g["numOfHosts"].number(1) or 1)) for g in groups]
        total = gpus_of(cluster.at("headGroupSpec", "template", "spec"))
        total += sum(n * gpus_of(g.at("template", "spec")) for n, g in zip(counts, groups, strict=True))
        return 1 + sum(counts), total
    return _role_group(obj, pod)


def _most(group_spec: YamlNode) -> int:
    return int(max(group_spec["replicas"].number(1) or 0, group_spec["maxReplicas"].number(0) or 0))


def _role_group(obj: Obj, pod: YamlNode) -> tuple[int, int | None]:
    """Roles with an entry and workers (kthena's ModelServing), and pods per worker (ModelBooster, podGroupSize)."""
    for role in controllers.roles(obj):
        entry, worker = role.at("entryTemplate", "spec"), role.at("workerTemplate", "spec")
        if pod is entry or pod is worker:
            workers = int(role["workerReplicas"].number(0) or 0)
            return 1 + workers, gpus_of(entry) + workers * gpus_of(worker)
        if pod is role.at("template", "spec") and role["podGroupSize"]:
            size = int(role["podGroupSize"].number(1) or 1)
            return size, size * gpus_of(pod)
    return 1, None


def ray_cluster(obj: Obj) -> YamlNode:
    """The RayCluster spec inside an object of any Ray kind (KubeRay's, AIBrix' fleets); missing in others."""
    for path in (
        ("spec", "rayClusterConfig"),
        ("spec", "rayClusterSpec"),
        ("spec", "template", "spec"),
        ("spec",),
    ):
        found = obj.node.at(*path)
        if found["headGroupSpec"] or found["workerGroupSpecs"]:
            return found
    return obj.node["..."]


def gpus_of(pod: YamlNode) -> int:
    """Accelerators that all containers of a pod are limited to."""
    total = 0
    for container in pod["containers"]:
        resources = container["resources"]
        for key, node in [*resources["limits"].items(), *resources["requests"].items()]:
            if re.fullmatch(
                r"(nvidia|amd)\.com/gpu|google\.com/tpu|habana\.ai/gaudi|huawei\.com/[Aa]scend.*", key
            ):
                total += int(node.number(0) or 0)
                break
    return total


def pod_specs(obj: Obj) -> Iterator[tuple[YamlNode, dict[str, str]]]:
    """(PodSpec, labels) of every pod template in an object."""
    node = obj.node
    for path in _BARE_SPECS.get(obj.kind, ()):
        pod = node.at(*path)
        if pod:
            yield pod, {k: v.text() for k, v in node.at("metadata", "labels").items()}
    templates = [node.at(*path) for path in _TEMPLATES.get(obj.kind, ())]
    cluster = ray_cluster(obj)
    if cluster:
        templates.append(cluster.at("headGroupSpec", "template"))
        templates += [group_spec["template"] for group_spec in cluster["workerGroupSpecs"]]
    for template in templates:
        if template["spec"]:
            yield template["spec"], {k: v.text() for k, v in template.at("metadata", "labels").items()}
    if obj.kind not in _OWN_KINDS and not cluster:
        yield from _somewhere(node)


def _somewhere(root: YamlNode) -> Iterator[tuple[YamlNode, dict[str, str]]]:
    """Pod templates inside kinds that we do not know (roles of a StormService, jobs of a JobSet, cliques)."""
    stack = [root]
    seen: set[int] = set()
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        spec = node["spec"] or node["podSpec"]
        if any(c["image"] for c in spec["containers"]):
            yield spec, {k: v.text() for k, v in node.at("metadata", "labels").items()}
            continue
        stack += [n for n in (*node, *(n for _, n in node.items())) if n.value is None]

"""What a set of files holds: objects, the vLLM workloads among them, and how they belong together. No rule here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from seawall.domain.model import ModelConfig
from seawall.engines.vllm.versions import Version
from seawall.lint.command import Command, default_version, image_version, read_args, read_command
from seawall.lint.node import Key, Node

SCALED = {"Deployment", "StatefulSet", "LeaderWorkerSet", "InferenceService", "LLMInferenceService"}

# kind -> the pod templates in it (paths to what holds `metadata` and `spec`, or to a bare PodSpec).
_TEMPLATES: dict[str, tuple[tuple[Key, ...], ...]] = {
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
_BARE_SPECS: dict[str, tuple[tuple[Key, ...], ...]] = {
    "Pod": (("spec",),),
    "InferenceService": (("spec", "predictor"),),
    "LLMInferenceService": (("spec", "template"), ("spec", "worker")),
}
_OWN_KINDS = {*_TEMPLATES, *_BARE_SPECS, "RayCluster", "RayService"}
"""Kinds whose pod templates stand where the tables say. Of other kinds only what is present is judged, and so of
LLMInferenceService, into which KServe merges probes, hooks and security from its presets."""


Models = Callable[[str, str | None], ModelConfig | None]


def unknown_model(name: str, quantization: str | None) -> ModelConfig | None:
    """Knows no model."""
    return None


@dataclass(eq=False)
class Obj:
    """One Kubernetes object. `fragment` marks a snippet without kind that was not joined to an object."""

    node: Node
    kind: str
    api: str
    name: str
    namespace: str
    fragment: bool = False

    @property
    def shown(self) -> str:
        return f"{self.kind}/{self.name}" if self.name else self.kind

    @property
    def spec(self) -> Node:
        return self.node["spec"]


@dataclass(eq=False)
class Container:
    """One container of a pod that runs vLLM."""

    node: Node
    command: Command
    version: Version
    """Of the image's tag; the catalogue's default when the tag names none."""
    pinned: bool

    @property
    def name(self) -> str:
        return self.node["name"].text()

    @property
    def model(self) -> str | None:
        """What vLLM is told to serve: a hub id or a path; None when unknown (a variable, a config file)."""
        c = self.command
        value = c.positional[0][0] if c.positional else c.value("--model")
        return None if value is None or "$" in value else value

    @property
    def model_node(self) -> Node:
        c = self.command
        if c.positional:
            return c.positional[0][1]
        found = c.option("--model")
        return found.value_node if found else c.node

    @property
    def tensor_parallel(self) -> int:
        return self.command.integer("--tensor-parallel-size") or 1

    @property
    def gpus(self) -> tuple[int, Node]:
        """GPUs of any vendor that the container is limited to, and where that stands."""
        limits = self.node.at("resources", "limits")
        for key, node in [*limits.items(), *self.node.at("resources", "requests").items()]:
            if re.fullmatch(r"(nvidia|amd|gpu\.intel|habana)\.(com|ai)/(gpu|gaudi|i915|xe|mig-.*)", key):
                return int(node.number(0) or 0), node
        return 0, limits

    def env(self, name: str) -> Node:
        """The `env` item of that name, or a missing node."""
        for item in self.node["env"]:
            if item["name"].text() == name:
                return item
        return self.node["env"]["..."]

    def env_value(self, name: str) -> str | None:
        item = self.env(name)
        return item["value"].text() if item and item["value"] else None


@dataclass(eq=False)
class Workload:
    """A pod template that runs vLLM, and the object around it."""

    obj: Obj
    pod: Node
    """The PodSpec."""
    labels: dict[str, str]
    engines: list[Container]
    partial: bool = False
    """A snippet: what is absent here may stand elsewhere, so only what is present is judged."""

    @property
    def engine(self) -> Container:
        return self.engines[0]

    @property
    def serves(self) -> bool:
        """A server that clients use, not a Job that runs once."""
        return self.obj.kind not in ("Job", "CronJob") and self.engine.command.entry != "run-batch"

    @property
    def multi_node(self) -> bool:
        return self.obj.kind == "LeaderWorkerSet" or "Ray" in self.obj.kind

    @property
    def replicas(self) -> Node:
        if self.obj.kind == "InferenceService":
            return self.obj.node.at("spec", "predictor", "minReplicas")
        return self.obj.spec["replicas"]

    @property
    def simulated(self) -> bool:
        """No GPU asked for and none of vLLM's GPU images: a CPU engine."""
        return self.engine.gpus[0] == 0 and "cpu" in self.engine.node["image"].text()

    def volume(self, name: str) -> Node:
        for volume in self.pod["volumes"]:
            if volume["name"].text() == name:
                return volume
        return self.pod["volumes"]["..."]

    def mounts(self, container: Node) -> Iterator[tuple[Node, Node]]:
        """(mount, its volume) of a container."""
        for mount in container["volumeMounts"]:
            yield mount, self.volume(mount["name"].text())


@dataclass(eq=False)
class World:
    """Everything that was read, with the questions rules ask of it."""

    objects: list[Obj]
    target: Version = (1, 34)
    """The Kubernetes version that the objects are meant for."""
    engine_version: Version | None = None
    """Of --vllm-version: judges images whose tag names no version."""
    files: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    """The files as they were read, for patches."""
    cache: dict[str, Any] = field(default_factory=dict)
    """What a family of rules has worked out once."""
    models: Models = unknown_model
    """(model name, quantization flag) -> its shape; the command line passes the planner's catalogue."""

    def kinds(self, *kinds: str) -> Iterator[Obj]:
        if len(kinds) == 1:
            return iter(self._by_kind.get(kinds[0], ()))
        return (o for o in self.objects if o.kind in kinds and not o.fragment)

    @cached_property
    def _by_kind(self) -> dict[str, list[Obj]]:
        table: dict[str, list[Obj]] = {}
        for obj in self.objects:
            if not obj.fragment:
                table.setdefault(obj.kind, []).append(obj)
        return table

    @cached_property
    def _scalers(self) -> dict[tuple[str, str, str], list[Obj]]:
        """(kind, namespace, name) of a target -> what scales it."""
        table: dict[tuple[str, str, str], list[Obj]] = {}
        for o in self.kinds("HorizontalPodAutoscaler", "ScaledObject"):
            ref = o.spec["scaleTargetRef"]
            key = (ref["kind"].text("Deployment"), o.namespace, ref["name"].text())
            table.setdefault(key, []).append(o)
        return {key: _once(found) for key, found in table.items()}

    @cached_property
    def workloads(self) -> list[Workload]:
        return [w for o in self.objects for w in _workloads(o, self.engine_version or default_version())]

    @property
    def servers(self) -> list[Workload]:
        return [w for w in self.workloads if w.serves]

    @property
    def whole_servers(self) -> list[Workload]:
        """Servers of which everything is in sight: absence counts."""
        return [w for w in self.servers if not w.partial]

    def selecting(self, workload: Workload, *kinds: str) -> list[Obj]:
        """Objects in the same namespace whose selector picks the workload's pods."""
        wanted = [None, *workload.labels.items()]
        near = [
            o
            for kind in kinds
            for label in wanted
            for o in self._selectors.get((kind, workload.obj.namespace, label), ())
        ]
        return _once(o for o in near if _selects(o, workload.labels))

    @cached_property
    def _selectors(self) -> dict[tuple[str, str, tuple[str, str] | None], list[Obj]]:
        """(kind, namespace, one label that its selector asks for, None if it asks for none) -> objects."""
        table: dict[tuple[str, str, tuple[str, str] | None], list[Obj]] = {}
        for obj in self.objects:
            if not obj.fragment:
                label = next(((k, v.text()) for k, v in _match_labels(obj).items()), None)
                table.setdefault((obj.kind, obj.namespace, label), []).append(obj)
        return table

    def scalers(self, workload: Workload) -> list[Obj]:
        """HPAs and ScaledObjects that own the workload's replicas."""
        obj = workload.obj
        return self._scalers.get((obj.kind, obj.namespace, obj.name), [])

    def target_of(self, scaler: Obj) -> Workload | None:
        ref = scaler.spec["scaleTargetRef"]
        kind, name = ref["kind"].text("Deployment"), ref["name"].text()
        return next(
            (
                w
                for w in self.workloads
                if (w.obj.kind, w.obj.namespace, w.obj.name) == (kind, scaler.namespace, name)
            ),
            None,
        )

    def min_replicas(self, workload: Workload) -> int:
        """The fewest replicas that anything in sight asks for."""
        for scaler in self.scalers(workload):
            keda = scaler.kind == "ScaledObject"
            value = scaler.spec["minReplicaCount" if keda else "minReplicas"].number(0 if keda else 1)
            return int(value or 0)
        return int(workload.replicas.number(1) or 0)

    def claim(self, name: str, namespace: str) -> Obj | None:
        return next(
            (o for o in self.kinds("PersistentVolumeClaim") if (o.name, o.namespace) == (name, namespace)),
            None,
        )

    def claims_of(self, workload: Workload) -> Iterator[tuple[Obj, Node, Node]]:
        """(claim, volume, the `claimName` node) of the claims in sight that the pod mounts."""
        for volume in workload.pod["volumes"]:
            ref = volume.at("persistentVolumeClaim", "claimName")
            found = self.claim(ref.text(), workload.obj.namespace) if ref else None
            if found is not None:
                yield found, volume, ref


def _once(objects: Iterable[Obj]) -> list[Obj]:
    """Each object once: overlays of one object in several files are one."""
    return list({(o.kind, o.namespace, o.name): o for o in objects}.values())


def _match_labels(obj: Obj) -> Node:
    selector = obj.spec["podSelector" if obj.kind == "NetworkPolicy" else "selector"]
    return selector if obj.kind == "Service" else selector["matchLabels"]


def _selects(obj: Obj, labels: dict[str, str]) -> bool:
    selector = obj.spec["podSelector" if obj.kind == "NetworkPolicy" else "selector"]
    wanted = _match_labels(obj)
    if obj.kind == "NetworkPolicy" and selector and not selector.entries:
        return True
    if obj.kind != "Service" and selector["matchExpressions"]:
        return all(labels.get(k) == v.text() for k, v in wanted.items()) and all(
            _expression(e, labels) for e in selector["matchExpressions"]
        )
    return bool(wanted.entries) and all(labels.get(k) == v.text() for k, v in wanted.items())


def _expression(e: Node, labels: dict[str, str]) -> bool:
    key, values = e["key"].text(), {v.text() for v in e["values"]}
    match e["operator"].text():
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case _:
            return key not in labels


def _workloads(obj: Obj, default: Version) -> Iterator[Workload]:
    for pod, labels in pod_specs(obj):
        engines: list[Container] = []
        for node in pod["containers"]:
            command = read_command(node)
            if command is not None:
                tag = image_version(node["image"].text())
                engines.append(Container(node, command, tag or default, tag is not None))
        engines = engines or _wrapped(obj, pod, default)
        if engines:
            partial = obj.fragment or obj.kind not in _OWN_KINDS or obj.kind == "LLMInferenceService"
            yield Workload(obj, pod, labels, engines, partial)
    if obj.kind == "Model" and obj.api.startswith("kubeai.org/") and obj.spec["engine"].text() == "VLLM":
        url = obj.spec["url"]
        command = read_args(obj.spec["args"], (url.text().removeprefix("hf://"), url))
        yield Workload(obj, obj.spec, {}, [Container(obj.spec, command, default, pinned=False)], partial=True)


def _wrapped(obj: Obj, pod: Node, default: Version) -> list[Container]:
    """Containers in which a controller starts vLLM by itself: their options are unknown, the rest is not."""
    if obj.kind == "InferenceService":
        return _kserve(pod, default)
    llm = obj.kind == "LLMInferenceService" and pod.path[-1:] == ("template",)
    serve = obj.node.at("spec", "serveConfigV2").text()
    if not llm and not (obj.kind in ("RayService", "RayCluster") and re.search("ray.serve.llm|vllm", serve)):
        return []
    found = [
        Container(n, Command("wrapper", n, known_flags=False), default, False) for n in pod["containers"]
    ]
    return [c for c in found if c.name == "main" or c.gpus[0]]


def _kserve(predictor: Node, default: Version) -> list[Container]:
    """The model server that KServe adds itself (`predictor.model`); its options are its own, plus vLLM's."""
    model = predictor["model"]
    kind = model.at("modelFormat", "name").text().lower()
    if kind not in ("vllm", "huggingface") and "vllm" not in model["runtime"].text().lower():
        return []
    words = Command("wrapper", model, known_flags=False)
    return [Container(model, words, default, pinned=False)]


def pod_specs(obj: Obj) -> Iterator[tuple[Node, dict[str, str]]]:
    """(PodSpec, labels) of every pod template in an object."""
    node = obj.node
    for path in _BARE_SPECS.get(obj.kind, ()):
        pod = node.at(*path)
        if pod:
            yield pod, {k: v.text() for k, v in node.at("metadata", "labels").items()}
    templates = [node.at(*path) for path in _TEMPLATES.get(obj.kind, ())]
    cluster = node.at("spec", "rayClusterConfig") if obj.kind == "RayService" else node["spec"]
    if obj.kind in ("RayCluster", "RayService"):
        templates.append(cluster.at("headGroupSpec", "template"))
        templates += [group["template"] for group in cluster["workerGroupSpecs"]]
    for template in templates:
        if template["spec"]:
            yield template["spec"], {k: v.text() for k, v in template.at("metadata", "labels").items()}
    if obj.kind not in _OWN_KINDS:
        yield from _somewhere(node)


def _somewhere(root: Node) -> Iterator[tuple[Node, dict[str, str]]]:
    """Pod templates inside kinds that we do not know (roles of a StormService, replicated jobs of a JobSet)."""
    stack = [root]
    seen: set[int] = set()
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        spec = node["spec"]
        if any(c["image"] for c in spec["containers"]):
            yield spec, {k: v.text() for k, v in node.at("metadata", "labels").items()}
            continue
        stack += [n for n in (*node, *(n for _, n in node.items())) if n.value is None]

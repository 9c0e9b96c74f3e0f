"""What a set of files holds: objects, the vLLM workloads among them, and how they belong together. No rule here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from seawall.domain.model import ModelConfig
from seawall.engines.vllm.versions import Version
from seawall.lint.command import default_version
from seawall.lint.kinds import workloads
from seawall.lint.node import YamlNode
from seawall.lint.objects import Container, Obj, Workload, env_items

Models = Callable[[str, str | None], ModelConfig | None]


def unknown_model(name: str, quantization: str | None) -> ModelConfig | None:
    """Knows no model."""
    return None


@dataclass(eq=False)
class Manifests:
    """Everything that was read, with the questions rules ask of it."""

    objects: list[Obj]
    target: Version = (1, 34)
    """The Kubernetes version that the objects are meant for."""
    engine_version: Version | None = None
    """The version that --vllm-version names: judges images whose tag names no version."""
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

    @property
    def scaled(self) -> Iterator[list[Obj]]:
        """What scales one target, for each target that something scales; the target itself may be out of sight."""
        return iter(self._scalers.values())

    @cached_property
    def workloads(self) -> list[Workload]:
        found = [w for o in self.objects for w in workloads(o, self.engine_version or default_version())]
        for workload in found:
            for engine in workload.engines:
                if maps := tuple(self._from_maps(workload.obj, engine)):
                    engine.given = replace(engine.given, from_maps=maps)
        if self.engine_version is not None:
            for engine in (e for w in found for e in w.engines if not e.pinned):
                engine.version, engine.pinned = self.engine_version, True
        return found

    def _from_maps(self, obj: Obj, engine: Container) -> Iterator[YamlNode]:
        """Variables of the ConfigMaps in sight that a container takes whole; of one name the last map's."""
        for source in reversed(list(engine.node["envFrom"])):
            name, prefix = source.at("configMapRef", "name").text(), source["prefix"].text()
            for found in self.kinds("ConfigMap") if name and not prefix else ():
                if (found.namespace, found.name) == (obj.namespace, name):
                    yield from env_items(found.node["data"])

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

    def claims_of(self, workload: Workload) -> Iterator[tuple[Obj, YamlNode, YamlNode]]:
        """(claim, volume, the `claimName` node) of the claims in sight that the pod mounts."""
        for volume in workload.pod["volumes"]:
            ref = volume.at("persistentVolumeClaim", "claimName")
            found = self.claim(ref.text(), workload.obj.namespace) if ref else None
            if found is not None:
                yield found, volume, ref


def _once(objects: Iterable[Obj]) -> list[Obj]:
    """Each object once: overlays of one object in several files are one."""
    return list({(o.kind, o.namespace, o.name): o for o in objects}.values())


def _match_labels(obj: Obj) -> YamlNode:
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


def _expression(e: YamlNode, labels: dict[str, str]) -> bool:
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

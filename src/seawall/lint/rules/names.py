"""Rules about the spelling that Kubernetes asks for: names, labels' values, ports, quantities and images."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.lint.finding import Finding, Say, rule
from seawall.lint.kinds import pod_specs
from seawall.lint.node import YamlNode
from seawall.lint.objects import Obj
from seawall.lint.rules.schema import open_text
from seawall.lint.world import Manifests

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SERVICE = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_PORT = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")
_QUANTITY = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(([KMGTPE]i)|[numkMGTPE]|[eE][+-]?\d+)?")
_IMAGE = re.compile(
    r"((localhost|[\w-]+(\.[\w-]+)+|[\w.-]+(?=:\d))(:\d+)?/)?[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*"
    r"(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
_NAMED = (
    "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod", "Service", "ConfigMap", "Secret",
    "PersistentVolumeClaim", "Ingress", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Namespace", "ServiceAccount",
    "LeaderWorkerSet", "ScaledObject", "InferenceService", "LLMInferenceService", "RayService", "RayCluster",
)  # fmt: skip


@rule(
    "api/bad-name",
    "error",
    "A name that Kubernetes does not take",
    story="""Names of objects are small letters, digits, `-` and `.`; of containers, volumes and Services without the
    dot, and a Service's begins with a letter; a port's has 15 characters at most; a label's value has 63 and no `/`: a
    model's hub id (`Qwen/Qwen3-8B`, `qwen2.5`) is seldom a name. The API server refuses the object (`a lowercase RFC
    1123 subdomain must consist of ...`). Annotations take any text.""",
    cure="Write small letters, digits and dashes; put a model's hub id into an annotation.",
)
def bad_name(world: Manifests, say: Say) -> Iterator[Finding]:
    for obj in world.objects:
        for node, why in () if obj.fragment else _names(obj):
            if node.text() and not open_text(node):
                yield say(obj, node, f"{why}: the API server refuses it.")


def _names(obj: Obj) -> Iterator[tuple[YamlNode, str]]:
    name = obj.node.at("metadata", "name")
    if obj.kind in _NAMED and not _SUBDOMAIN.fullmatch(name.text()):
        yield name, f"{name.text()} is no name of an object (small letters, digits, `-`)"
    elif obj.kind == "Service" and obj.api == "v1" and not _SERVICE.fullmatch(name.text()):
        yield name, f"{name.text()} is no name of a Service (small letters, digits, `-`; a letter first)"
    selector = obj.spec["selector"] if obj.kind == "Service" else obj.spec.at("selector", "matchLabels")
    groups = [obj.node.at("metadata", "labels"), selector, obj.spec.at("template", "metadata", "labels")]
    for labels in groups:
        for key, value in labels.items():
            if isinstance(value.value, str) and (
                not _VALUE.fullmatch(value.text()) or len(value.text()) > 63
            ):
                yield value, f"the label {key} cannot have the value {value.text()} (no `/`, 63 characters)"
            elif not _KEY.fullmatch(key) and "{" not in key and "$" not in key:
                yield value, f"{key} is no name of a label"
    for pod, _ in pod_specs(obj):
        for container in [*pod["initContainers"], *pod["containers"]]:
            if not _LABEL.fullmatch(container["name"].text()):
                yield container["name"], f"{container['name'].text()} is no name of a container"
            for port in container["ports"]:
                if not _PORT.fullmatch(port["name"].text()):
                    yield (
                        port["name"],
                        f"{port['name'].text()} is no name of a port (small letters, 15 characters)",
                    )
        for volume in pod["volumes"]:
            if not _LABEL.fullmatch(volume["name"].text()):
                yield volume["name"], f"{volume['name'].text()} is no name of a volume"


@rule(
    "api/bad-quantity",
    "error",
    "A quantity that Kubernetes does not read",
    story="""Kubernetes writes units as Ki, Mi, Gi, Ti or k, M, G, T: `64GB`, `64g` and `64 Gi` are no quantities, and
    the API server refuses the object (`quantities must match the regular expression ...`).""",
    cure="Write Gi (2^30) or G (10^9): 64Gi.",
)
def bad_quantity(world: Manifests, say: Say) -> Iterator[Finding]:
    for obj in world.objects:
        for node in () if obj.fragment else _quantities(obj):
            if isinstance(node.value, str) and not _QUANTITY.fullmatch(node.text()) and not open_text(node):
                yield say(obj, node, f"{node.text()} is no quantity: the API server refuses the object.")


def _quantities(obj: Obj) -> Iterator[YamlNode]:
    blocks = [obj.spec["resources"]] if obj.kind == "PersistentVolumeClaim" else []
    blocks += [t.at("spec", "resources") for t in obj.spec["volumeClaimTemplates"]]
    for pod, _ in pod_specs(obj):
        blocks += [c["resources"] for c in [*pod["initContainers"], *pod["containers"]]]
        yield from (v.at("emptyDir", "sizeLimit") for v in pod["volumes"])
    for block in blocks:
        for part in ("limits", "requests"):
            yield from (node for _, node in block[part].items())


@rule(
    "engine/bad-image-name",
    "error",
    "An image whose name is none",
    story="""A repository's name is in small letters, and a tag has no space and stands once. The kubelet does not even
    ask for the image: `InvalidImageName`.""",
    cure="Write registry/repository:tag.",
)
def bad_image_name(world: Manifests, say: Say) -> Iterator[Finding]:
    for obj in world.objects:
        for pod, _ in () if obj.fragment else pod_specs(obj):
            for container in [*pod["initContainers"], *pod["containers"]]:
                image = container["image"]
                if not image.text() or open_text(image) or _IMAGE.fullmatch(image.text()):
                    continue
                if not re.search(r"[<>\[\]%@]|YOUR|REPLACE|PLACEHOLDER|^[A-Z_]+$", image.text()):
                    yield say(obj, image, f"`{image.text()}` is no name of an image: InvalidImageName.")

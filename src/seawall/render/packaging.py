"""The five packagings: which files a rendering becomes. Each has its own module; the objects are the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from seawall.render.inputs import Object, Rendering
from seawall.render.yaml import dump_all


@dataclass(frozen=True, kw_only=True)
class Repository:
    """Where a GitOps controller will find the objects."""

    url: str
    revision: str = "main"
    path: str = ""
    """Default: `<gateway>/manifests`."""


def package(rendering: Rendering, packaging: str, repository: Repository) -> dict[str, str]:
    """File name -> text, in the order in which a person should read them."""
    if packaging == "plain":
        return plain_files(rendering.objects)
    raise ValueError(packaging)


FILES = (
    ("00-namespace.yaml", {"Namespace"}),
    ("10-access.yaml", {"ServiceAccount", "Role", "RoleBinding"}),
    ("20-config.yaml", {"ConfigMap"}),
    ("30-weights.yaml", {"PersistentVolumeClaim", "Job"}),
    ("40-network.yaml", {"NetworkPolicy", "Service"}),
    ("50-workloads.yaml", {"Deployment", "LeaderWorkerSet", "PodDisruptionBudget"}),
    ("60-scaling.yaml", {"ScaledObject", "TriggerAuthentication", "HorizontalPodAutoscaler"}),
    (
        "70-routes.yaml",
        {"HTTPRoute", "VirtualService", "DestinationRule", "InferencePool", "Ingress"},
    ),
    ("80-monitoring.yaml", {"PodMonitor", "ServiceMonitor", "PrometheusRule"}),
)


def by_file(objects: Iterable[Object]) -> dict[str, list[Object]]:
    """Objects grouped into the numbered files, so that `kubectl apply -f DIR` applies them in a good order."""
    home = {kind: name for name, kinds in FILES for kind in kinds}
    out: dict[str, list[Object]] = {}
    for obj in objects:
        out.setdefault(home[obj["kind"]], []).append(obj)
    return {name: out[name] for name, _ in FILES if name in out}


def plain_files(objects: Iterable[Object]) -> dict[str, str]:
    return {name: dump_all(items) for name, items in by_file(objects).items()}

"""Objects grouped into numbered files, so that `kubectl apply -f DIR` applies them in a good order."""

from __future__ import annotations

from collections.abc import Iterable

from seawall.render.inputs import Object
from seawall.render.yaml import dump_all

FILES = (
    ("00-namespace.yaml", {"Namespace"}),
    ("10-access.yaml", {"ServiceAccount", "Role", "RoleBinding"}),
    ("20-config.yaml", {"ConfigMap"}),
    ("30-weights.yaml", {"PersistentVolumeClaim", "Job"}),
    ("40-network.yaml", {"NetworkPolicy", "Service"}),
    ("50-workloads.yaml", {"Deployment", "LeaderWorkerSet", "PodDisruptionBudget"}),
    ("60-scaling.yaml", {"TriggerAuthentication", "ScaledObject", "HorizontalPodAutoscaler"}),
    ("70-routes.yaml", {"HTTPRoute", "VirtualService", "DestinationRule", "InferencePool", "Ingress"}),
    ("80-monitoring.yaml", {"PodMonitor", "ServiceMonitor", "PrometheusRule"}),
)


def by_file(objects: Iterable[Object]) -> dict[str, list[Object]]:
    home = {kind: name for name, kinds in FILES for kind in kinds}
    out: dict[str, list[Object]] = {}
    for obj in objects:
        out.setdefault(home[obj["kind"]], []).append(obj)
    return {name: out[name] for name, _ in FILES if name in out}


def plain_files(objects: Iterable[Object]) -> dict[str, str]:
    return {name: dump_all(items) for name, items in by_file(objects).items()}

"""Objects grouped into numbered files, so that `kubectl apply -f DIR` applies them in a good order.

The namespace lies in a folder of its own, which kubectl does not look into: `kubectl delete -f DIR` would else take
with it whatever anybody has put there.
"""

from __future__ import annotations

from collections.abc import Iterable

from seawall.render.inputs import Object
from seawall.render.yaml import dump_all

NAMESPACE_FOLDER = "namespace"
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
    """File name -> text, for whoever deletes by what the objects say of themselves, as GitOps controllers do."""
    return {name: dump_all(items) for name, items in by_file(objects).items()}


def deletable_files(objects: Iterable[Object]) -> dict[str, str]:
    """The same for kubectl, which deletes all that it finds in the folder: the namespace is not in it."""
    return {
        f"{NAMESPACE_FOLDER}/{name}" if name == FILES[0][0] else name: text
        for name, text in plain_files(objects).items()
    }

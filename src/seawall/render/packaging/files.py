"""Objects grouped into numbered files, so that `kubectl apply -f DIR` applies them in a good order.

`kubectl delete -f` knows no annotation that keeps an object, so what holds more than we have put into it (the
namespace, the volumes) lies in files of its own, whose names begin with 0: `kubectl delete -f 'DIR/[1-9]*.yaml'` leaves
it.
"""

from __future__ import annotations

from collections.abc import Iterable

from seawall.render.inputs import Object
from seawall.render.names import is_kept
from seawall.render.yaml import dump_all

FILES = (
    ("00-namespace.yaml", {"Namespace"}),
    ("01-volumes.yaml", {"PersistentVolumeClaim"}),
    ("10-access.yaml", {"ServiceAccount", "Role", "RoleBinding"}),
    ("20-config.yaml", {"ConfigMap"}),
    ("30-weights.yaml", {"Job"}),
    ("40-network.yaml", {"NetworkPolicy", "Service"}),
    ("50-workloads.yaml", {"Deployment", "LeaderWorkerSet", "PodDisruptionBudget"}),
    ("60-scaling.yaml", {"TriggerAuthentication", "ScaledObject", "HorizontalPodAutoscaler"}),
    ("70-routes.yaml", {"HTTPRoute", "VirtualService", "DestinationRule", "InferencePool", "Ingress"}),
    ("80-monitoring.yaml", {"PodMonitor", "ServiceMonitor", "PrometheusRule"}),
)

OURS = "[1-9]*.yaml"
"""The files of what is only ours, as a pattern that kubectl expands itself."""
_KEPT = f"""\
# Stays when the rest is taken away: kubectl delete -f 'DIR/{OURS}'
# (deleting a namespace deletes all that is in it, your Secrets, too; deleting a claim deletes the weights)
"""


def by_file(objects: Iterable[Object]) -> dict[str, list[Object]]:
    home = {kind: name for name, kinds in FILES for kind in kinds}
    out: dict[str, list[Object]] = {}
    for obj in objects:
        out.setdefault(home[obj["kind"]], []).append(obj)
    return {name: out[name] for name, _ in FILES if name in out}


def plain_files(objects: Iterable[Object]) -> dict[str, str]:
    return {
        name: (_KEPT if all(map(is_kept, items)) else "") + dump_all(items)
        for name, items in by_file(objects).items()
    }

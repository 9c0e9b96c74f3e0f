"""PodDisruptionBudgets: one Pod at a time, and never a reason why a node cannot be drained."""

from __future__ import annotations

from seawall.domain.labels import FLEET, REPLICA
from seawall.render.inputs import Group, Object, Wanted
from seawall.render.names import fleet_meta, gateway_selector, labels, meta, selector


def budget(metadata: Object, match: dict[str, str]) -> Object:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata,
        "spec": {
            "maxUnavailable": 1,
            # A replica that is not ready serves nobody: it may always be evicted.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": match},
        },
    }


def engine_budget(wanted: Wanted) -> Object:
    match = selector(wanted)
    if wanted.plan.nodes_per_replica > 1:
        match = {FLEET: wanted.name, REPLICA: wanted.name}
    return budget(fleet_meta(wanted, wanted.name, "engine"), match)


def gateway_budget(group: Group) -> Object:
    metadata = meta(group.gateway, group.namespace, labels(group.gateway, "gateway"))
    return budget(metadata, gateway_selector(group))

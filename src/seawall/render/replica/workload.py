"""What runs the engines: a Deployment, two for a spot fleet, or a LeaderWorkerSet for a plan of several nodes.

A spot fleet is two Deployments (docs/decisions/0051): `<fleet>-floor` stays on on-demand nodes with a fixed
size, `<fleet>-spot` belongs to the scaler. Neither has `replicas` where a scaler owns it: every apply would
reset the count.
"""

from __future__ import annotations

from dataclasses import dataclass

from seawall.domain.labels import GROUP
from seawall.render.inputs import Object, Wanted
from seawall.render.lifecycle import progress_deadline_s
from seawall.render.names import fleet_meta, selector, short
from seawall.render.replica import pod
from seawall.render.replica.placement import NodePool


@dataclass(frozen=True, kw_only=True)
class Half:
    """One workload of a fleet: its name, where it runs, and how many (None: a scaler decides)."""

    name: str
    pool: NodePool
    replicas: int | None
    group: str = "stable"
    min: int = 0
    max: int = 0
    """Bounds for the scaler, when it owns this workload."""


def halves(wanted: Wanted) -> tuple[Half, ...]:
    """The stable side's workloads; the one that a scaler may own is the last."""
    scaling, hardware = wanted.fleet.spec.scaling, wanted.fleet.spec.hardware
    fixed = scaling.by == "none"
    if hardware.spot is None:
        count = scaling.min if fixed else None
        if wanted.fleet.spec.pool is not None:
            count = 0  # the operator gives it its turns
        return (Half(name=wanted.name, pool="any", replicas=count, min=scaling.min, max=scaling.max),)
    floor = min(hardware.spot.on_demand_floor, scaling.max)
    low, high = max(0, scaling.min - floor), scaling.max - floor
    spot = Half(
        name=short(wanted.name, "-spot"),
        pool="spot",
        replicas=low if fixed or high == 0 else None,
        min=low,
        max=high,
    )
    if floor == 0:
        return (spot,)
    return (Half(name=short(wanted.name, "-floor"), pool="floor", replicas=floor), spot)


def scaled(wanted: Wanted) -> Half | None:
    """The workload that a scaler owns."""
    half = halves(wanted)[-1]
    return half if half.replicas is None else None


def kind_of(wanted: Wanted) -> tuple[str, str]:
    """(apiVersion, kind) of the fleet's workloads."""
    if wanted.plan.nodes_per_replica > 1:
        return "leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet"
    return "apps/v1", "Deployment"


def workloads(wanted: Wanted) -> list[Object]:
    build = leader_worker_set if wanted.plan.nodes_per_replica > 1 else deployment
    out = [build(wanted, half) for half in halves(wanted)]
    canary = wanted.canary
    if canary:
        policy = canary.fleet.spec.rollout.canary
        count = policy.candidate.replicas if policy and policy.candidate else 1
        pool: NodePool = "any" if wanted.fleet.spec.hardware.spot is None else "floor"
        name = short(wanted.name, "-canary")
        out.append(build(canary, Half(name=name, pool=pool, replicas=count, group="canary")))
    return out


def deployment(wanted: Wanted, half: Half) -> Object:
    metadata = fleet_meta(wanted, half.name, "engine")
    metadata["labels"][GROUP] = half.group
    spec: Object = {}
    if half.replicas is not None:
        spec["replicas"] = half.replicas
    spec["revisionHistoryLimit"] = 5
    # A replica that serves its first seconds well has loaded its kernels; the next old one may go then.
    spec["minReadySeconds"] = 15
    spec["progressDeadlineSeconds"] = progress_deadline_s(wanted.plan)
    spec["strategy"] = strategy(wanted)
    spec["selector"] = {"matchLabels": selector(wanted, half.group, half.pool)}
    spec["template"] = pod.template(wanted, half.pool, half.group)
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def strategy(wanted: Wanted) -> Object:
    """With spare GPUs: a new replica first. Without: an old one makes room. A volume that one node may mount
    allows neither."""
    rollout, spec = wanted.fleet.spec.rollout, wanted.fleet.spec
    if spec.cache.kind == "pvc" and spec.cache.access_mode == "ReadWriteOnce" and spec.engine.needs_weights:
        return {"type": "Recreate"}
    room = spec.hardware.spare_gpus and spec.pool is None
    surge, gone = (rollout.max_surge, 0) if room else (0, 1)
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": gone}}


def leader_worker_set(wanted: Wanted, half: Half) -> Object:
    """One group of nodes is one replica: if any Pod of it restarts, all of them do, because NCCL cannot heal."""
    metadata = fleet_meta(wanted, half.name, "engine")
    metadata["labels"][GROUP] = half.group
    rolling = strategy(wanted)["rollingUpdate"]
    spec: Object = {}
    if half.replicas is not None:
        spec["replicas"] = half.replicas
    spec["startupPolicy"] = "LeaderCreated"
    spec["rolloutStrategy"] = {
        "type": "RollingUpdate",
        "rollingUpdateConfiguration": {
            "maxSurge": rolling["maxSurge"],
            "maxUnavailable": max(1, rolling["maxUnavailable"]) if not rolling["maxSurge"] else 0,
        },
    }
    spec["leaderWorkerTemplate"] = {
        "size": wanted.plan.nodes_per_replica,
        "restartPolicy": "RecreateGroupOnPodRestart",
        "leaderTemplate": pod.template(wanted, half.pool, half.group),
        "workerTemplate": pod.template(wanted, half.pool, half.group, worker=True),
    }
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": metadata,
        "spec": spec,
    }

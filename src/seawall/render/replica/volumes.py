"""Volumes of an engine Pod: weights read-only, caches and scratch on emptyDir, /dev/shm in memory."""

from __future__ import annotations

from typing import Any

from seawall.domain.units import binary_quantity
from seawall.render.inputs import Object, Wanted
from seawall.render.names import short
from seawall.render.replica.probe_config import config_name

HOST_ROOT = "/var/lib/seawall/models"
"""With `node-local`: the folder on each node. Put the node's NVMe disk there."""
GIB = 2**30


def claim_name(wanted: Wanted) -> str:
    return wanted.fleet.spec.cache.claim or short(wanted.name, "-weights")


def lock_name(wanted: Wanted) -> str | None:
    """The lockfile's ConfigMap; None without a lockfile or without a loader that reads it."""
    if wanted.lock is None or wanted.fleet.spec.cache.kind in ("oci", "stream"):
        return None
    return short(wanted.name, "-lock")


def needs_wait(wanted: Wanted) -> bool:
    """Somebody else fills the volume, perhaps at this moment."""
    return wanted.fleet.spec.engine.needs_weights and wanted.fleet.spec.cache.kind in ("pvc", "host-path")


def weight_mounts(wanted: Wanted) -> list[Object]:
    cache = wanted.fleet.spec.cache
    if cache.kind == "stream" or not wanted.fleet.spec.engine.needs_weights:
        return []
    if cache.kind == "oci":
        path = f"{cache.path.rstrip('/')}/{wanted.folder}"
        return [{"name": "weights", "mountPath": path, "readOnly": True}]
    return [{"name": "weights", "mountPath": cache.path, "readOnly": True}]


def weight_volume(wanted: Wanted) -> Object | None:
    cache = wanted.fleet.spec.cache
    if cache.kind == "stream" or not wanted.fleet.spec.engine.needs_weights:
        return None
    source: dict[str, Any]
    if cache.kind == "oci":
        source = {"image": {"reference": cache.image, "pullPolicy": "IfNotPresent"}}
    elif cache.kind == "pvc":
        source = {"persistentVolumeClaim": {"claimName": claim_name(wanted)}}
        if cache.access_mode == "ReadOnlyMany":
            source["persistentVolumeClaim"]["readOnly"] = True
    elif cache.kind == "node-local":
        source = {"hostPath": {"path": HOST_ROOT, "type": "DirectoryOrCreate"}}
    else:
        source = {"hostPath": {"path": cache.path, "type": "Directory"}}
    return {"name": "weights", **source}


def pod_volumes(wanted: Wanted) -> list[Object]:
    out: list[Object] = [
        {"name": "probe", "configMap": {"name": config_name(wanted.name), "defaultMode": 0o444}},
        {"name": "state", "emptyDir": {"sizeLimit": "16Mi"}},
        # Compiled kernels and graphs: kept over restarts of the container, gone with the Pod.
        {"name": "cache", "emptyDir": {"sizeLimit": "10Gi"}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "4Gi"}},
        # Counted in the container's memory limit.
        {
            "name": "shm",
            "emptyDir": {"medium": "Memory", "sizeLimit": binary_quantity(shm_bytes(wanted))},
        },
    ]
    weights = weight_volume(wanted)
    if weights:
        out.append(weights)
    lock = lock_name(wanted)
    if lock and (needs_wait(wanted) or wanted.fleet.spec.cache.kind == "node-local"):
        out.append({"name": "lock", "configMap": {"name": lock, "defaultMode": 0o444}})
    return out


def shm_bytes(wanted: Wanted) -> int:
    """NCCL and vLLM's own queues need it as soon as several processes share a replica."""
    if wanted.plan.shm_bytes:
        return wanted.plan.shm_bytes
    return (2 * GIB * wanted.plan.tensor_parallel) if wanted.plan.tensor_parallel > 1 else GIB

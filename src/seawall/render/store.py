"""The store that gateways share, where the Fleet says `store: managed`: one small Valkey, and who may reach it.

It is bounded in memory and lets go first of what is used least: kept answers. What it loses the gateways tell it again,
but for kept answers of gateways that are gone; for these it writes to a volume of its Pod, which a restart of its
container keeps. Its password is the user's Secret. A store with replicas and a disk of its own is the user's to bring.
"""

from __future__ import annotations

from seawall.domain.labels import COMPONENT, STORE_PORT
from seawall.domain.units import binary_quantity
from seawall.render.foundation import inner_service
from seawall.render.images import store_image
from seawall.render.inputs import Group, Object
from seawall.render.names import CONFIG_DIR, labels, meta, store_name, store_selector
from seawall.render.security import container_context, exactly, pod_context

MANAGED = "managed"
SMALL = 64 * 2**20
"""Bytes for limits, places and news of any fleet, many times over."""
LEAST_GATEWAYS = 2
SECRET_DIR = f"{CONFIG_DIR}/store"
START = f"""exec valkey-server - "$@" <<END
requirepass "$(cat {SECRET_DIR}/password)"
END
"""
"""The password is read from its file, and stands in no list of processes."""


def manages(group: Group) -> bool:
    """Whether a store is rendered."""
    return any(w.fleet.spec.gateway.store == MANAGED for w in group.members)


def store_secret(group: Group) -> str | None:
    """The Secret that holds the store's password. A store that is rendered always has one."""
    named = next(
        (w.fleet.spec.gateway.store_secret for w in group.members if w.fleet.spec.gateway.store_secret), None
    )
    return named or (store_name(group) if manages(group) else None)


def store_address(group: Group) -> str | None:
    """Where gateways reach the store, the rendered one or the one that a Fleet names; None where no spec says it."""
    if not manages(group):
        return next((w.fleet.spec.gateway.store for w in group.members if w.fleet.spec.gateway.store), None)
    where = f"{store_name(group)}.{group.namespace}.svc" if group.namespace else store_name(group)
    return f"valkey://{where}:{STORE_PORT}/0"


def store_bytes(group: Group) -> int:
    """Bytes of data at most: what gateways keep, their pieces and the tapes of those that run."""
    gateways = max(LEAST_GATEWAYS, *(w.fleet.spec.gateway.replicas for w in group.members))
    kept = sum(w.fleet.spec.gateway.keep_memory for w in group.members if w.fleet.spec.gateway.keep_for)
    return SMALL + 2 * gateways * kept


def store(group: Group) -> list[Object]:
    """Service and Deployment; nothing where the store is the user's, or there is none."""
    return [_service(group), _deployment(group)] if manages(group) else []


def _meta(group: Group) -> Object:
    return meta(store_name(group), group.namespace, labels(group.gateway, "store"))


def _container(group: Group) -> Object:
    most = store_bytes(group)
    args = ["--port", str(STORE_PORT), "--dir", "/data", "--save", ""]
    args += ["--maxmemory", str(most), "--maxmemory-policy", "allkeys-lfu"]
    args += [
        "--appendonly",
        "yes",
        "--appendfsync",
        "everysec",
        "--maxclients",
        "512",
        "--loglevel",
        "warning",
    ]
    check = {"tcpSocket": {"port": "valkey"}, "timeoutSeconds": 5}
    mib = 64 + most * 3 // 2 // 2**20  # while it rewrites its log, what changes is in memory twice
    return {
        "name": "valkey",
        "image": store_image(group),
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", START, "valkey-server"],
        "args": args,
        "ports": [{"name": "valkey", "containerPort": STORE_PORT, "protocol": "TCP"}],
        "resources": exactly(
            "500m",
            binary_quantity(mib << 20, 2**20),
            {"ephemeral-storage": binary_quantity(_disk_mib(group) + 64 << 20, 2**20)},
        ),
        "securityContext": container_context(),
        "readinessProbe": {**check, "periodSeconds": 3, "failureThreshold": 2},
        "livenessProbe": {**check, "periodSeconds": 10, "failureThreshold": 6},
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "password", "mountPath": SECRET_DIR, "readOnly": True},
        ],
    }


def _disk_mib(group: Group) -> int:
    """Room of the log of changes, which is written anew when it has doubled."""
    return 128 + 4 * store_bytes(group) // 2**20


def _service(group: Group) -> Object:
    return inner_service(_meta(group), store_selector(group), STORE_PORT, "valkey", "tcp")


def _deployment(group: Group) -> Object:
    pod: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 10,
        "securityContext": pod_context(65532),
        "containers": [_container(group)],
        "volumes": [
            {"name": "data", "emptyDir": {"sizeLimit": binary_quantity(_disk_mib(group) << 20, 2**20)}},
            {"name": "password", "secret": {"secretName": store_secret(group), "defaultMode": 0o440}},
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(group),
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 5,
            "progressDeadlineSeconds": 600,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": store_selector(group)},
            "template": {"metadata": {"labels": {**store_selector(group), COMPONENT: "store"}}, "spec": pod},
        },
    }

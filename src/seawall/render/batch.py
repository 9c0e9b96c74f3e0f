"""The batch lane, where the Fleet says `gateway.batch`: one worker with a volume, a Service, a claim and a budget.

It asks the gateway for everything, the engines and the API server for nothing, and so has no account's token. What it
and the gateways know each other by is the user's Secret.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from seawall.decide.batch.planned import as_text, planned_speed
from seawall.decide.batch.rules import read_at_start, rules_of
from seawall.domain.labels import ADMIN_PORT, BATCH_PORT, COMPONENT, LANE_RULES
from seawall.domain.spec import BatchSpec
from seawall.domain.units import binary_quantity
from seawall.render.disruption import budget
from seawall.render.foundation import inner_service
from seawall.render.images import gateway_image
from seawall.render.inputs import Group, Object
from seawall.render.names import (
    CONFIG_DIR,
    KEPT,
    batch_name,
    batch_selector,
    fingerprint,
    labels,
    meta,
    short,
)
from seawall.render.security import container_context, exactly, pod_context

SECRET_DIR = f"{CONFIG_DIR}/batch"
STORE_DIR = f"{CONFIG_DIR}/batch-store"
BUCKET_DIR = f"{CONFIG_DIR}/batch-bucket"
FOLDER = "/data"
GRACE_S = 30
POSTGRES_PORT = 5432


def batch_spec(group: Group) -> BatchSpec | None:
    """What the first of the fleets that have the lane says of it; None: none has it."""
    return next((b for w in group.members if (b := w.fleet.spec.gateway.batch) is not None), None)


def batch_address(group: Group) -> str:
    """Where the gateways reach the lane: HOST:PORT."""
    return f"{_host(group, batch_name(group))}:{BATCH_PORT}"


def batch_secret(group: Group) -> str:
    """The Secret whose key `secret` the lane and its gateways know each other by."""
    spec = batch_spec(group)
    return (spec.secret if spec is not None else None) or batch_name(group)


def postgres_port(group: Group) -> int | None:
    """Where the lane's database listens; None: it has its own, on the volume."""
    spec = batch_spec(group)
    if spec is None or not (spec.store or spec.store_secret):
        return None
    return (urlsplit(spec.store).port if spec.store else None) or POSTGRES_PORT


def batch_lane(group: Group, configuration: Object, fleets: list[str]) -> list[Object]:
    """Claim, Service, Deployment and budget; nothing where there is no lane. `configuration`: the gateway's volume of
    specs; `fleets`: their paths."""
    spec = batch_spec(group)
    if spec is None:
        return []
    match = batch_selector(group)
    return [
        _claim(group, spec),
        inner_service(_meta(group), batch_selector(group), BATCH_PORT, "http", "http"),
        _deployment(group, spec, configuration, fleets),
        budget(_meta(group), match),
    ]


def secret_volume(group: Group) -> Object:
    """The volume of the Secret that gateways and the lane share."""
    source = {"secretName": batch_secret(group), "items": [{"key": "secret", "path": "secret"}]}
    return {"name": "batch-secret", "secret": {**source, "defaultMode": 0o440}}


SECRET_MOUNT: Object = {"name": "batch-secret", "mountPath": SECRET_DIR, "readOnly": True}
SECRET_ENV: Object = {"name": "SEAWALL_BATCH_SECRET_FILE", "value": f"{SECRET_DIR}/secret"}


def _host(group: Group, name: str) -> str:
    return f"{name}.{group.namespace}.svc" if group.namespace else name


def _meta(group: Group) -> Object:
    return meta(batch_name(group), group.namespace, labels(group.gateway, "batch"))


def _claim(group: Group, spec: BatchSpec) -> Object:
    wanted: Object = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": binary_quantity(spec.volume)}},
    }
    if spec.storage_class:
        wanted["storageClassName"] = spec.storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {**_meta(group), "annotations": dict(KEPT)},
        "spec": wanted,
    }


def _container(group: Group, spec: BatchSpec, fleets: list[str]) -> Object:
    admin = _host(group, short(group.gateway, "-admin"))
    args = [
        *fleets,
        "--gateway",
        f"http://{_host(group, group.gateway)}",
        "--admin",
        f"http://{admin}:{ADMIN_PORT}",
    ]
    args += ["--listen", f"0.0.0.0:{BATCH_PORT}", "--folder", FOLDER, "--grace", str(GRACE_S)]
    for wanted in group.members:
        speed = planned_speed(wanted.plan, wanted.fleet.spec.scaling.max)
        args += ["--planned", as_text(wanted.fleet.name, speed)] if speed is not None else []
    env: list[Object] = [{"name": "HOME", "value": "/tmp"}, SECRET_ENV]
    mounts: list[Object] = [
        {"name": "fleets", "mountPath": f"{CONFIG_DIR}/fleets", "readOnly": True},
        {"name": "data", "mountPath": FOLDER},
        {"name": "tmp", "mountPath": "/tmp"},
        SECRET_MOUNT,
    ]
    if spec.store_secret:
        env.append({"name": "SEAWALL_BATCH_STORE_FILE", "value": f"{STORE_DIR}/address"})
        mounts.append({"name": "batch-store", "mountPath": STORE_DIR, "readOnly": True})
    if spec.bucket_secret:
        args += ["--secrets", BUCKET_DIR]
        mounts.append({"name": "batch-bucket", "mountPath": BUCKET_DIR, "readOnly": True})
    check = {"httpGet": {"path": "/healthz", "port": "http", "scheme": "HTTP"}, "timeoutSeconds": 5}
    return {
        "name": "batch",
        "image": gateway_image(group),
        "imagePullPolicy": "IfNotPresent",
        "command": ["seawall", "batch", "serve"],
        "args": args,
        "env": env,
        "ports": [{"name": "http", "containerPort": BATCH_PORT, "protocol": "TCP"}],
        "resources": exactly("500m", "512Mi", {"ephemeral-storage": "256Mi"}),
        "securityContext": container_context(),
        "startupProbe": {**check, "periodSeconds": 2, "failureThreshold": 60},
        "readinessProbe": {**check, "periodSeconds": 3, "failureThreshold": 2},
        "livenessProbe": {**check, "periodSeconds": 10, "failureThreshold": 6},
        "volumeMounts": mounts,
    }


def _deployment(group: Group, spec: BatchSpec, configuration: Object, fleets: list[str]) -> Object:
    """One worker: its volume is one node's, and its store is its own. A kill costs what was under way, run again.

    It reads its specs once, so that a change of what it allows is a change of its template."""
    volumes: list[Object] = [
        configuration,
        {"name": "data", "persistentVolumeClaim": {"claimName": batch_name(group)}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
        secret_volume(group),
    ]
    for name, of in (("batch-store", spec.store_secret), ("batch-bucket", spec.bucket_secret)):
        if of:
            volumes.append({"name": name, "secret": {"secretName": of, "defaultMode": 0o440}})
    rules = rules_of(w.fleet for w in group.members)
    pod: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S + 15,
        "securityContext": pod_context(65532),
        "containers": [_container(group, spec, fleets)],
        "volumes": volumes,
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
            "selector": {"matchLabels": batch_selector(group)},
            "template": {
                "metadata": {
                    "labels": {**batch_selector(group), COMPONENT: "batch"},
                    "annotations": {LANE_RULES: fingerprint(read_at_start(rules))},
                },
                "spec": pod,
            },
        },
    }

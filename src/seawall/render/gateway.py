"""The gateway: Deployment, its configuration (the Fleet YAML itself), account and rights, its own HPA.

It may read EndpointSlices and Pods of its own namespace and nothing else.
"""

from __future__ import annotations

import math

from seawall.decide.route.room import needed
from seawall.domain.labels import ADMIN_PORT, COMPONENT, HTTP_PORT
from seawall.domain.units import binary_quantity
from seawall.render.batch import SECRET_ENV, SECRET_MOUNT, batch_address, batch_spec, secret_volume
from seawall.render.images import gateway_image
from seawall.render.inputs import Group, Object
from seawall.render.names import CONFIG_DIR, gateway_account, gateway_selector, labels, meta, short
from seawall.render.replica.placement import spread
from seawall.render.security import container_context, exactly, pod_context
from seawall.render.store import manages, store_address, store_secret
from seawall.render.yaml import dump

PRE_STOP_S = 15
DRAIN_MARGIN_S = 15
MIN_REPLICAS = 2
STORE_DIR = f"{CONFIG_DIR}/store"
KEEPER_DIR = "/run/seawall"
KEEPER_SOCKET = f"{KEEPER_DIR}/keeper.sock"


def config_name(group: Group) -> str:
    return short(group.gateway, "-fleets")


def fleet_files(group: Group) -> dict[str, str]:
    return {f"{w.name}.yaml": dump(w.document) for w in group.members}


def fleet_paths(group: Group) -> list[str]:
    """Where the specs lie in a container."""
    return [f"{CONFIG_DIR}/fleets/{name}" for name in fleet_files(group)]


def fleet_volume(group: Group) -> Object:
    """The volume of the specs."""
    return {"name": "fleets", "configMap": {"name": config_name(group), "defaultMode": 0o444}}


def config_map(group: Group) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _meta(group, config_name(group)),
        "data": fleet_files(group) | {f"{w.name}.truth.json": w.truth for w in group.members if w.truth},
    }


def _meta(group: Group, name: str) -> Object:
    return meta(name, group.namespace, labels(group.gateway, "gateway"))


RULES: list[Object] = [
    {
        "apiGroups": ["discovery.k8s.io"],
        "resources": ["endpointslices"],
        "verbs": ["get", "list", "watch"],
    },
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
]
"""What a gateway may do in its namespace."""


def access(group: Group) -> list[Object]:
    """ServiceAccount, Role and RoleBinding; none where they are shared."""
    if group.accounts == "shared":
        return []
    name = group.gateway
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _meta(group, name),
        "automountServiceAccountToken": False,
    }
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": _meta(group, name),
        "rules": RULES,
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": _meta(group, name),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": group.namespace}],
    }
    return [account, role, binding]


def keys_secret(group: Group) -> str | None:
    return next(
        (w.fleet.spec.gateway.keys_secret for w in group.members if w.fleet.spec.gateway.keys_secret), None
    )


def store_keys(group: Group) -> dict[str, str]:
    """Keys of the store's Secret -> how the variable that names the file ends."""
    named = any(w.fleet.spec.gateway.store for w in group.members)
    keys = {"password": "_PASSWORD"} | ({} if named else {"address": ""})
    return keys if manages(group) else keys | {"ca.crt": "_CA"}


def store_env(group: Group) -> list[Object]:
    """Where the store's secrets lie: its password, and its address where the Fleet names none."""
    if store_secret(group) is None:
        return []
    keys = store_keys(group)
    return [
        {"name": f"SEAWALL_STORE{part}_FILE", "value": f"{STORE_DIR}/{key}"} for key, part in keys.items()
    ]


def drain_s(group: Group) -> int:
    """A stopped gateway finishes what it has accepted: the longest wait in its queue and the longest drain of
    an engine, and at least five minutes of streaming."""
    spec = [w.fleet.spec for w in group.members]
    return math.ceil(max(300.0, *(s.gateway.queue_timeout + s.rollout.drain for s in spec)))


def deployment(group: Group) -> Object:
    """The Deployment, without `replicas`: the HPA owns that.

    A changed Fleet does not roll it: gateways read their files again by themselves, and what they cannot take up so
    (image, arguments, mounts) is in the template itself."""
    pod: Object = {
        "serviceAccountName": gateway_account(group),
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": PRE_STOP_S + drain_s(group) + DRAIN_MARGIN_S,
        "securityContext": pod_context(65532),
        "topologySpreadConstraints": spread(gateway_selector(group)),
        "containers": [container(group)],
        "volumes": volumes(group),
    }
    if kept(group):
        pod["initContainers"] = [keeper(group)]
    tags = {**gateway_selector(group), COMPONENT: "gateway"}
    spec: Object = {
        "revisionHistoryLimit": 5,
        "minReadySeconds": 5,
        "progressDeadlineSeconds": 600,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "selector": {"matchLabels": gateway_selector(group)},
        "template": {"metadata": {"labels": tags}, "spec": pod},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(group, group.gateway),
        "spec": spec,
    }


def kept(group: Group) -> bool:
    """Whether a keeper holds what the gateway would lose with its life."""
    return any(w.fleet.spec.gateway.keeper for w in group.members)


def keeper(group: Group) -> Object:
    """The keeper (drivers/keeper.py) as a native sidecar: it begins before the gateway and ends after it, and outlives
    a gateway that is killed, for its memory and its restarts are its own. They share the Pod's network namespace and
    a socket on a volume; connections go through it as descriptors."""
    return {
        "name": "keeper",
        "image": gateway_image(group),
        "imagePullPolicy": "IfNotPresent",
        "restartPolicy": "Always",
        "command": ["python", "-I", "-m", "seawall.drivers.keeper", KEEPER_SOCKET],
        "resources": exactly("50m", "64Mi", {"ephemeral-storage": "16Mi"}),
        "securityContext": container_context(),
        "volumeMounts": [{"name": "keeper", "mountPath": KEEPER_DIR}],
    }


def container(group: Group) -> Object:
    fleets = fleet_paths(group)
    args = [*fleets, "--discovery", "kubernetes"]
    args += ["--listen", f"0.0.0.0:{HTTP_PORT}", "--admin", f"0.0.0.0:{ADMIN_PORT}"]
    args += ["--grace", str(drain_s(group))]
    store = store_address(group)  # an argument: a gateway goes over to another store by beginning anew
    args += ["--store", store] if store is not None else []
    mounts: list[Object] = [
        {"name": "fleets", "mountPath": f"{CONFIG_DIR}/fleets", "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    if batch_spec(group) is not None:
        args += ["--batch", batch_address(group)]
        mounts.append(SECRET_MOUNT)
    if kept(group):
        args += ["--keeper", KEEPER_SOCKET]
        mounts.append({"name": "keeper", "mountPath": KEEPER_DIR})
    if keys_secret(group):
        args += ["--keys", f"{CONFIG_DIR}/keys/keys"]
        mounts.append({"name": "keys", "mountPath": f"{CONFIG_DIR}/keys", "readOnly": True})
    field_env = [("POD_NAME", "metadata.name"), ("POD_NAMESPACE", "metadata.namespace")]
    env: list[Object] = [
        {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
        for name, path in field_env
    ]
    env.append({"name": "HOME", "value": "/tmp"})
    env += store_env(group)
    env += [SECRET_ENV] if batch_spec(group) is not None else []
    if store_secret(group):
        mounts.append({"name": "store", "mountPath": STORE_DIR, "readOnly": True})
    check = {"port": "admin", "scheme": "HTTP"}
    return {
        "name": "gateway",
        "image": gateway_image(group),
        "imagePullPolicy": "IfNotPresent",
        "command": ["seawall", "gateway"],
        "args": args,
        "env": env,
        "ports": [
            {"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"},
            {"name": "admin", "containerPort": ADMIN_PORT, "protocol": "TCP"},
        ],
        "resources": exactly("1", _memory(group), {"ephemeral-storage": "1Gi"}),
        "securityContext": container_context(),
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_S}}},
        "startupProbe": _check({"path": "/healthz", **check}, period=2, failures=60),
        "readinessProbe": _check({"path": "/readyz", **check}, period=3, failures=2),
        "livenessProbe": _check({"path": "/healthz", **check}, period=10, failures=6),
        "volumeMounts": mounts,
    }


def _memory(group: Group) -> str:
    return binary_quantity(needed(w.fleet for w in group.members), 2**20)


def _check(get: Object, *, period: int, failures: int) -> Object:
    return {"httpGet": get, "periodSeconds": period, "timeoutSeconds": 5, "failureThreshold": failures}


def volumes(group: Group) -> list[Object]:
    out: list[Object] = [
        fleet_volume(group),
        {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
    ]
    if batch_spec(group) is not None:
        out.append(secret_volume(group))
    if kept(group):
        out.append({"name": "keeper", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})
    secret = keys_secret(group)
    if secret:
        named = [{"key": "keys", "path": "keys"}]
        out.append({"name": "keys", "secret": {"secretName": secret, "items": named, "defaultMode": 0o440}})
    if name := store_secret(group):
        sources: list[Object] = [
            {"secret": {"name": name, "items": [{"key": key, "path": key}]}} for key in store_keys(group)
        ]
        for source in sources:  # the user's own may have no password, and a certificate that everybody knows
            if source["secret"]["items"][0]["key"] != "address":
                source["secret"]["optional"] = not manages(group)
        out.append({"name": "store", "projected": {"sources": sources, "defaultMode": 0o440}})
    return out


def autoscaler(group: Group) -> Object:
    """The HPA of the gateway, by CPU: what bounds a proxy, and here (only here) the right signal."""
    low = max(MIN_REPLICAS, *(w.fleet.spec.gateway.replicas for w in group.members))
    resource = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}
    spec: Object = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": group.gateway},
        "minReplicas": low,
        "maxReplicas": max(6, 3 * low),
        "behavior": {
            "scaleDown": {
                "stabilizationWindowSeconds": 600,
                "policies": [{"type": "Pods", "value": 1, "periodSeconds": 300}],
            }
        },
        "metrics": [{"type": "Resource", "resource": resource}],
    }
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _meta(group, group.gateway),
        "spec": spec,
    }

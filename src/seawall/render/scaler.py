"""Our scaler beside the gateway, where a fleet is scaled by our own decision: Deployment, Service, account, network.

One Pod, for its memory is its own; while it is replaced KEDA holds, and then falls back. It may read the Pods of its
own namespace and the Deployments that it answers for, and write events; nothing else.
"""

from __future__ import annotations

from seawall.domain.labels import ADMIN_PORT, COMPONENT, SCALER_PORT
from seawall.render.foundation import inner_service
from seawall.render.images import gateway_image
from seawall.render.inputs import Group, Object
from seawall.render.names import CONFIG_DIR, labels, meta, scaler_account, scaler_name, scaler_selector
from seawall.render.replica.workload import scaled
from seawall.render.security import container_context, exactly, pod_context

RBAC = "rbac.authorization.k8s.io"


def scaler(group: Group) -> list[Object]:
    """The scaler's objects; empty where no fleet of the group asks for it."""
    halves = [
        scaled(w) for w in group.members if w.fleet.spec.scaling.by == "seawall" and not w.fleet.spec.pool
    ]
    targets = sorted(half.name for half in halves if half is not None)
    if not targets:
        return []
    return [
        *_access(group, targets),
        _service(group),
        _deployment(group),
    ]


def tls_secret(group: Group) -> str | None:
    """The Secret of its certificate: the first that is named."""
    named = (w.fleet.spec.scaling.tls_secret for w in group.members if w.fleet.spec.scaling.by == "seawall")
    return next((name for name in named if name), None)


def _meta(group: Group) -> Object:
    return meta(scaler_name(group), group.namespace, labels(group.gateway, "scaler"))


def rules(targets: list[str] | None) -> list[Object]:
    """What a scaler may do in its namespace. `targets`: the Deployments that it answers for; None: whichever there
    are."""
    read: Object = {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}
    if targets is not None:
        read["resourceNames"] = targets
    return [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
        read,
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
    ]


def _access(group: Group, targets: list[str]) -> list[Object]:
    if group.accounts == "shared":
        return []
    name = scaler_name(group)
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": _meta(group),
            "automountServiceAccountToken": False,
        },
        {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": _meta(group), "rules": rules(targets)},
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": _meta(group),
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": group.namespace}],
        },
    ]


def _service(group: Group) -> Object:
    return inner_service(_meta(group), scaler_selector(group), SCALER_PORT, "grpc", "grpc")


def _deployment(group: Group) -> Object:
    args = ["--listen", f"0.0.0.0:{SCALER_PORT}", "--metrics", f"0.0.0.0:{ADMIN_PORT}"]
    mounts: list[Object] = [{"name": "tmp", "mountPath": "/tmp"}]
    volumes: list[Object] = [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}]
    secret = tls_secret(group)
    if secret:
        args += ["--tls", f"{CONFIG_DIR}/tls"]
        mounts.append({"name": "tls", "mountPath": f"{CONFIG_DIR}/tls", "readOnly": True})
        volumes.append({"name": "tls", "secret": {"secretName": secret, "defaultMode": 0o440}})
    check = {"tcpSocket": {"port": "grpc"}, "timeoutSeconds": 5}
    container: Object = {
        "name": "scaler",
        "image": gateway_image(group),
        "imagePullPolicy": "IfNotPresent",
        "command": ["seawall", "operator", "scaler"],
        "args": args,
        "env": [{"name": "HOME", "value": "/tmp"}],
        "ports": [
            {"name": "grpc", "containerPort": SCALER_PORT, "protocol": "TCP"},
            {"name": "admin", "containerPort": ADMIN_PORT, "protocol": "TCP"},
        ],
        "resources": exactly("200m", "256Mi", {"ephemeral-storage": "128Mi"}),
        "securityContext": container_context(),
        "readinessProbe": {**check, "periodSeconds": 3, "failureThreshold": 2},
        "livenessProbe": {**check, "periodSeconds": 10, "failureThreshold": 6},
        "volumeMounts": mounts,
    }
    pod: Object = {
        "serviceAccountName": scaler_account(group),
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 10,
        "securityContext": pod_context(65532),
        "containers": [container],
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
            "selector": {"matchLabels": scaler_selector(group)},
            "template": {
                "metadata": {"labels": {**scaler_selector(group), COMPONENT: "scaler"}},
                "spec": pod,
            },
        },
    }

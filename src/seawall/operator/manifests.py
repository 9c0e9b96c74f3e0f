"""The operator's own objects: CRD, the least rights that do, one Deployment of two Pods with one leader. Pure."""

from __future__ import annotations

from typing import Any

from seawall import __version__
from seawall.domain.labels import APP, OPERATOR_APP
from seawall.operator.crd import GROUP, fleet_crd

Object = dict[str, Any]
NAME = OPERATOR_APP

_MADE = ["get", "create", "patch", "delete"]
"""Of what a Fleet owns: made, changed, and deleted when it is wanted no more. Of volumes never deleted."""
_RULES: list[tuple[list[str], list[str], list[str]]] = [
    ([GROUP], ["fleets"], ["get", "list", "watch"]),
    ([GROUP], ["fleets/status"], ["get", "patch"]),
    ([""], ["pods"], ["get", "list", "watch", "patch"]),
    ([""], ["pods/eviction"], ["create"]),
    ([""], ["pods/proxy"], ["get"]),
    ([""], ["nodes"], ["get", "list", "watch"]),
    ([""], ["namespaces"], ["get"]),
    # A rollout lies in a ConfigMap: found by its label, replaced with the version that was read.
    ([""], ["configmaps"], [*_MADE, "list", "update"]),
    ([""], ["services", "serviceaccounts"], _MADE),
    ([""], ["persistentvolumeclaims"], ["get", "create", "patch"]),
    (["apps"], ["deployments"], [*_MADE, "list"]),
    (["batch"], ["jobs"], _MADE),
    (["policy"], ["poddisruptionbudgets"], _MADE),
    (["autoscaling"], ["horizontalpodautoscalers"], [*_MADE, "list"]),
    (["networking.k8s.io"], ["networkpolicies", "ingresses"], _MADE),
    (["keda.sh"], ["scaledobjects"], [*_MADE, "list"]),
    (["keda.sh"], ["triggerauthentications"], _MADE),
    (["monitoring.coreos.com"], ["podmonitors", "servicemonitors", "prometheusrules"], _MADE),
    (["gateway.networking.k8s.io"], ["httproutes"], _MADE),
    (["networking.istio.io"], ["virtualservices", "destinationrules"], _MADE),
    (["inference.networking.k8s.io"], ["inferencepools"], _MADE),
    (["leaderworkerset.x-k8s.io"], ["leaderworkersets"], _MADE),
    (["rbac.authorization.k8s.io"], ["roles", "rolebindings"], _MADE),
    # The Roles that gateway and scaler get: the API server lets nobody grant what they do not have themselves.
    (["discovery.k8s.io"], ["endpointslices"], ["get", "list", "watch"]),
    ([""], ["events"], ["create"]),
]


def operator_manifests(namespace: str = "seawall-system", image: str | None = None) -> list[Object]:
    """Everything that `kubectl apply --server-side` needs to run the operator."""
    meta = {"name": NAME, "namespace": namespace, "labels": {APP: NAME}}
    rules = [{"apiGroups": g, "resources": r, "verbs": v} for g, r, v in _RULES]
    own = [
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},
    ]
    subject = [{"kind": "ServiceAccount", "name": NAME, "namespace": namespace}]
    rbac = "rbac.authorization.k8s.io/v1"
    role = {"apiGroup": "rbac.authorization.k8s.io", "name": NAME}
    levels = {f"pod-security.kubernetes.io/{m}": "restricted" for m in ("enforce", "audit", "warn")}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": levels}},
        fleet_crd(),
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": rbac, "kind": "ClusterRole", "metadata": {"name": NAME}, "rules": rules},
        {
            "apiVersion": rbac,
            "kind": "ClusterRoleBinding",
            "metadata": {"name": NAME},
            "roleRef": {**role, "kind": "ClusterRole"},
            "subjects": subject,
        },
        {"apiVersion": rbac, "kind": "Role", "metadata": meta, "rules": own},
        {
            "apiVersion": rbac,
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {**role, "kind": "Role"},
            "subjects": subject,
        },
        # Nobody asks the operator anything: a type without a rule allows nothing.
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": meta,
            "spec": {"podSelector": {"matchLabels": {APP: NAME}}, "policyTypes": ["Ingress"]},
        },
        _deployment(meta, image or f"ghcr.io/seawall-dev/seawall:{__version__}"),
    ]


def _deployment(meta: Object, image: str) -> Object:
    container = {
        "name": "operator",
        "image": image,
        "args": ["operator", "run"],
        "env": [{"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}],
        "resources": {
            "requests": {"cpu": "100m", "memory": "256Mi"},
            "limits": {"memory": "512Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    pod = {
        "serviceAccountName": NAME,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}],
        "terminationGracePeriodSeconds": 20,
    }
    labels = meta["labels"]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta,
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }

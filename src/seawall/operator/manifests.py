"""The operator's own objects: CRD, the least rights that do, one Deployment of two Pods with one leader. Pure.

Two forms. In one namespace (the default) it has a Role there and nothing else; what lies outside of any namespace it
cannot see, so nodes are watched with a ClusterRole of their own or not at all. For the whole cluster it has a
ClusterRole. In neither may it write Roles, read Secrets, or ask Pods through the API server.
"""

from __future__ import annotations

from typing import Any

from seawall import __version__
from seawall.domain.labels import ADMIN_PORT, APP, ENGINE_APP, GATEWAY_APP, HTTP_PORT, OPERATOR_APP
from seawall.operator.accounts import NAMES, RBAC, bound, roles
from seawall.operator.crd import GROUP, fleet_crd
from seawall.render.names import KEPT
from seawall.render.network import API_SERVER, DNS, NODE_LOCAL_DNS, tcp

Object = dict[str, Any]
NAME = OPERATOR_APP
HEALTH_PORT = 8081

_MADE = ["get", "create", "patch", "delete"]
"""Of what a Fleet owns: made, changed, and deleted when it is wanted no more. Of volumes never deleted."""
_RULES: list[tuple[list[str], list[str], list[str]]] = [
    ([GROUP], ["fleets"], ["get", "list", "watch"]),
    ([GROUP], ["fleets/status"], ["get", "patch"]),
    # What a Fleet owns holds it up when it is deleted in the foreground: OwnerReferencesPermissionEnforcement, where it
    # is on, asks who sets that for this right.
    ([GROUP], ["fleets/finalizers"], ["update"]),
    ([""], ["pods"], ["get", "list", "watch", "patch"]),
    ([""], ["pods/eviction"], ["create"]),
    ([""], ["namespaces"], ["get"]),
    # What our scaler has decided last, for a Fleet's status.
    ([""], ["events"], ["list"]),
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
]
_NODES: Object = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]}
_LEASE: Object = {
    "apiGroups": ["coordination.k8s.io"],
    "resources": ["leases"],
    "verbs": ["get", "create", "update"],
}
_HANDED: list[Object] = [
    # The accounts of gateways and scalers, in each namespace with a Fleet: these names, bound to these roles.
    {
        "apiGroups": [RBAC],
        "resources": ["rolebindings"],
        "resourceNames": list(NAMES),
        "verbs": ["get", "create", "patch"],
    },
    {"apiGroups": [RBAC], "resources": ["clusterroles"], "resourceNames": list(NAMES), "verbs": ["bind"]},
]


def operator_manifests(
    namespace: str, image: str | None = None, *, everywhere: bool = False, nodes: bool = False
) -> list[Object]:
    """Everything that `kubectl apply --server-side` needs to run the operator. `everywhere`: it serves the whole
    cluster from this namespace, else this namespace alone. `nodes`: it watches nodes, which takes a right of its
    own."""
    meta = {"name": NAME, "namespace": namespace, "labels": {APP: NAME}}
    rules: list[Object] = [{"apiGroups": g, "resources": r, "verbs": v} for g, r, v in _RULES]
    out: list[Object] = []
    if everywhere:
        levels = {f"pod-security.kubernetes.io/{m}": "restricted" for m in ("enforce", "audit", "warn")}
        home = {"name": namespace, "labels": levels, "annotations": dict(KEPT)}
        out.append({"apiVersion": "v1", "kind": "Namespace", "metadata": home})
    out += [fleet_crd(), {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}]
    if everywhere:
        out += roles(None)
        out += _granted(meta, None, [*rules, _NODES, *_HANDED])
        out += _granted(meta, namespace, [_LEASE])
    else:
        out += [*roles(namespace), *bound(namespace, "Role")]
        out += _granted(meta, namespace, [*rules, _LEASE])
        if nodes:
            out += _granted({**meta, "name": f"{NAME}-{namespace}-nodes"}, None, [_NODES])
    return [*out, _policy(meta, everywhere), _deployment(meta, image or _image(), everywhere)]


def _image() -> str:
    return f"ghcr.io/seawall-dev/seawall:{__version__}"


def _granted(meta: Object, namespace: str | None, rules: list[Object]) -> list[Object]:
    """A role with these rules, bound to the operator's account: of a namespace, or of the cluster."""
    kind = "ClusterRole" if namespace is None else "Role"
    named = {k: v for k, v in meta.items() if k != "namespace" or namespace is not None}
    subject = {"kind": "ServiceAccount", "name": NAME, "namespace": meta["namespace"]}
    return [
        {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": named, "rules": rules},
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": f"{kind}Binding",
            "metadata": named,
            "roleRef": {"apiGroup": RBAC, "kind": kind, "name": named["name"]},
            "subjects": [subject],
        },
    ]


def _policy(meta: Object, everywhere: bool) -> Object:
    """The operator's policy: nobody asks it anything (a type without a rule allows nothing; the kubelet's probes come
    from the node). It reaches the API server, hubs for models' shapes (443), gateways and engines."""
    pods: list[Object] = [{"podSelector": {"matchLabels": {APP: app}}} for app in (GATEWAY_APP, ENGINE_APP)]
    if everywhere:
        pods = [{"namespaceSelector": {}, **peer} for peer in pods]
    egress = [DNS, NODE_LOCAL_DNS, API_SERVER, {"to": pods, "ports": tcp(ADMIN_PORT, HTTP_PORT)}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta,
        "spec": {
            "podSelector": {"matchLabels": {APP: NAME}},
            "policyTypes": ["Ingress", "Egress"],
            "egress": egress,
        },
    }


def _deployment(meta: Object, image: str, everywhere: bool) -> Object:
    args = ["operator", "run", "--health", f"0.0.0.0:{HEALTH_PORT}"]
    if not everywhere:
        args += ["--namespace", meta["namespace"]]
    asked = {"httpGet": {"path": "/healthz", "port": "health"}, "timeoutSeconds": 5}
    container = {
        "name": "operator",
        "image": image,
        "args": args,
        "env": [{"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}],
        "ports": [{"name": "health", "containerPort": HEALTH_PORT, "protocol": "TCP"}],
        "startupProbe": {**asked, "periodSeconds": 2, "failureThreshold": 60},
        "readinessProbe": {**asked, "periodSeconds": 5, "failureThreshold": 3},
        "livenessProbe": {**asked, "periodSeconds": 10, "failureThreshold": 6},
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

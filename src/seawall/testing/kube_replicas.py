"""The Deployment controller's turn in the API double: it asks for Pods that are missing, and writes refusals down.

Why: a quota or a policy refuses Pods, not Deployments; what a person reads of it stands in the Deployment's condition
and in an event. Forbidden: running anything; no Pod that is made here gets a node.
"""

from __future__ import annotations

from typing import Any

from seawall.testing.kube_api import KubeApi
from seawall.testing.kube_problem import ApiProblem

Object = dict[str, Any]


def replicate(api: KubeApi, namespace: str, name: str) -> int:
    """Makes the Pods that a Deployment lacks, until one is refused; how many there are then."""
    deployment = api.objects("apps/v1", "deployments")[namespace, name]
    spec, template = deployment["spec"], deployment["spec"]["template"]
    wanted, refusal = int(spec.get("replicas", 1)), ""
    there = [n for (ns, n) in api.objects("v1", "pods") if ns == namespace and n.startswith(f"{name}-7d9f-")]
    count = len(there)
    while count < wanted and not refusal:
        meta = {
            **(template.get("metadata") or {}),
            "name": f"{name}-7d9f-{count:05d}",
            "namespace": namespace,
        }
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": dict(meta), "spec": dict(template["spec"])}
        try:
            api.create("v1/pods", namespace, body, "kube-controller-manager", False)
            count += 1
        except ApiProblem as e:
            refusal = str(e.status["message"])
    status: Object = {"replicas": count, "updatedReplicas": count, "unavailableReplicas": wanted}
    status["observedGeneration"] = deployment["metadata"]["generation"]
    if refusal:
        told = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": refusal}
        status["conditions"] = [told]
        _event(api, namespace, name, refusal)
    api.put({**deployment, "status": status})
    return count


def _event(api: KubeApi, namespace: str, name: str, refusal: str) -> None:
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "namespace": namespace, "name": f"{name}-7d9f"}
    api.put(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{name}.refused", "namespace": namespace},
            "involvedObject": owner,
            "reason": "FailedCreate",
            "type": "Warning",
            "message": f"Error creating: {refusal}",
            "lastTimestamp": api.stamp(),
        }
    )

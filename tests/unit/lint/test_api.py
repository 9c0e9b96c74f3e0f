"""What the API server refuses of a Pod and of what stands around it: fields, types, names, quantities, and fields
beside each other. Each mistake has a neighbour that is right."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.unit.lint.conftest import GONE, Changes

Said = Callable[[Changes], dict[str, str]]
_LIVE, _READY = "c/livenessProbe", "c/readinessProbe"
JOB = """apiVersion: batch/v1
kind: Job
metadata: {{name: eval, namespace: llm}}
spec: {{template: {{spec: {{{policy}containers: [{{name: a, image: "python:3.12"}}]}}}}}}
"""
WEIGHTS = {"name": "hub", "persistentVolumeClaim": {"claimName": "weights"}}
MISTAKES: dict[str, tuple[str, Changes, Changes]] = {
    # what is wrong: (rule, the mistake, what is right)
    "a Pod's field under the Deployment": (
        "api/unknown-field", {"spec/terminationGracePeriodSeconds": 140}, {"pod/terminationGracePeriodSeconds": 140}),
    "a Pod's field in a container": (
        "api/unknown-field", {"c/imagePullSecrets": [{"name": "r"}]}, {"pod/imagePullSecrets": [{"name": "r"}]}),
    "a container's field in the Pod": (
        "api/unknown-field", {"pod/env": [{"name": "A", "value": "b"}]}, {"c/env+": {"name": "A", "value": "b"}}),
    "fsGroup of a container": ("api/unknown-field", {"c/securityContext/fsGroup": 1},
        {"pod/securityContext/fsGroup": 1}),
    "capabilities of a Pod": (
        "api/unknown-field", {"pod/securityContext/capabilities": {}},
        {"c/securityContext/capabilities": {"drop": ["ALL"]}}),
    "a small letter": (
        "api/unknown-field", {_LIVE + "/failurethreshold": 6}, {_LIVE + "/failureThreshold": 6}),
    "a letter too few": (
        "api/unknown-field", {_LIVE + "/initialDelaySecond": 6}, {_READY + "/periodSeconds": 6}),
    "labels without matchLabels": (
        "api/unknown-field", {"spec/selector": {"app": "chat"}}, {"spec/selector": {"matchLabels": {"app": "chat"}}}),
    "a claim's template in a Deployment": (
        "api/unknown-field", {"spec/volumeClaimTemplates": []}, {"spec/revisionHistoryLimit": 3}),
    "a Secret's volume by name": (
        "api/unknown-field", {"pod/volumes+": {"name": "s", "secret": {"name": "x"}}},
        {"pod/volumes+": {"name": "s", "secret": {"secretName": "x"}}}),
    "a label that is no text": ("api/wrong-type", {"labels/gpu": True}, {"labels/gpu": "true"}),
    "a node selector that is no text": (
        "api/wrong-type", {"pod/nodeSelector/nvidia.com~gpu.count": 8}, {"pod/nodeSelector/nvidia.com~gpu.count": "8"}),
    "an annotation that is a number": (
        "api/wrong-type", {"Service/metadata/annotations": {"prometheus.io/port": 8000}},
        {"Service/metadata/annotations": {"prometheus.io/port": "8000"}}),
    "a number that is text": ("api/wrong-type", {"c/ports/0/containerPort": "8000"}, {"c/ports/0/containerPort": 8000}),
    "a list that is a mapping": ("api/wrong-type", {"c/volumeMounts": {"a": "b"}}, {}),
    "a Service that selects as a Deployment": (
        "api/wrong-type", {"Service/spec/selector": {"matchLabels": {"app": "chat"}}},
        {"Service/spec/selector": {"app": "chat"}}),
    "a ConfigMap's number": (
        "api/wrong-type", {"+": "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, data: {A: 1}}"},
        {"+": '{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, data: {A: "1"}}'}),
    "a liveness probe that succeeds twice": (
        "api/not-a-pod", {_LIVE + "/successThreshold": 2}, {_READY + "/successThreshold": 2}),
    "two ways to ask": ("api/not-a-pod", {_LIVE + "/tcpSocket": {"port": 8000}}, {}),
    "no way to ask": ("api/not-a-pod", {_LIVE + "/httpGet": GONE}, {_LIVE + "/httpGet/path": "/ping"}),
    "a probe without a port": ("api/not-a-pod", {_LIVE + "/httpGet/port": GONE}, {_LIVE + "/httpGet/port": 8000}),
    "a mount without its volume": (
        "api/not-a-pod", {"c/volumeMounts+": {"name": "hub", "mountPath": "/hub"}},
        {"c/volumeMounts+": {"name": "hub", "mountPath": "/hub"}, "pod/volumes+": WEIGHTS}),
    "two mounts at one path": (
        "api/not-a-pod", {"c/volumeMounts+": {"name": "shm", "mountPath": "/cache/"}},
        {"c/volumeMounts+": {"name": "shm", "mountPath": "/cache/x"}}),
    "two volumes of one name": ("api/not-a-pod", {"pod/volumes+": {"name": "shm", "emptyDir": {}}}, {}),
    "two sources of a volume": ("api/not-a-pod", {"pod/volumes/1/hostPath": {"path": "/x"}}, {}),
    "memory in small letters": ("api/not-a-pod", {"pod/volumes/1/emptyDir/medium": "memory"}, {}),
    "requests above limits": (
        "api/not-a-pod", {"c/resources/requests/memory": "128Gi"}, {"c/resources/requests/memory": "32Gi"}),
    "a device that is requested only": (
        "api/not-a-pod", {"c/resources/limits/nvidia.com~gpu": GONE}, {"c/resources/requests/nvidia.com~gpu": GONE}),
    "a resource called gpu": ("api/not-a-pod", {"c/resources/limits/gpu": 1},
        {"c/resources/limits/hugepages-2Mi": "2Gi"}),
    "a value and a source": (
        "api/not-a-pod", {"c/env/4/value": "x"}, {"c/env/4/valueFrom/secretKeyRef/optional": True}),
    "a field that is none": (
        "api/not-a-pod", {"c/env+": {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIp"}}}},
        {"c/env+": {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}}),
    "Exists with a value": ("api/not-a-pod", {"pod/tolerations/0/value": "x"},
        {"pod/tolerations/0/operator": "Exists"}),
    "an effect that is none": (
        "api/not-a-pod", {"pod/tolerations/0/effect": "NoScheduler"}, {"pod/tolerations/0/effect": "NoExecute"}),
    "a spread without a word": ("api/not-a-pod", {"pod/topologySpreadConstraints/0/whenUnsatisfiable": GONE}, {}),
    "an absolute subPath": (
        "api/not-a-pod", {"c/volumeMounts/0/subPath": "/llama"}, {"c/volumeMounts/0/subPath": "llama"}),
    "two hooks in one": ("api/not-a-pod", {"c/lifecycle/preStop/exec": {"command": ["sleep", "5"]}}, {}),
    "Recreate that rolls": (
        "api/not-together", {"spec/strategy/type": "Recreate"}, {"spec/strategy/type": "RollingUpdate"}),
    "a rollout that cannot move": (
        "api/not-together", {"spec/strategy/rollingUpdate/maxSurge": 0}, {"spec/strategy/rollingUpdate/maxSurge": 1}),
    "ready later than failed": ("api/not-together", {"spec/minReadySeconds": 3600}, {"spec/minReadySeconds": 30}),
    "a budget said twice": ("api/not-together", {"PodDisruptionBudget/spec/minAvailable": 1}, {}),
    "two ports without names": (
        "api/not-together", {"Service/spec/ports+": {"port": 9000}},
        {"Service/spec/ports+": {"port": 9000, "name": "x"}}),
    "a node's port out of range": (
        "api/not-together", {"Service/spec/type": "NodePort", "Service/spec/ports/0/nodePort": 8000},
        {"Service/spec/type": "NodePort", "Service/spec/ports/0/nodePort": 30800}),
    "a Job that restarts always": ("api/not-together", {"+": JOB.format(policy="")},
                                   {"+": JOB.format(policy="restartPolicy: Never, ")}),
    "a claim without a size": ("api/not-together", {"PersistentVolumeClaim/spec/resources": GONE}, {}),
    "a capital letter": ("api/bad-name", {"c/name": "vLLM"}, {"c/name": "vllm-0"}),
    "a hub id as a label": ("api/bad-name", {"labels/model": "Qwen/Qwen3-8B"}, {"labels/model": "Qwen3-8B_v2.1"}),
    "a port's name of 18 letters": (
        "api/bad-name", {"c/ports+": {"name": "openai-http-server", "containerPort": 9}},
        {"c/ports+": {"name": "openai-metrics", "containerPort": 9}}),
    "a Service with a dot": ("api/bad-name", {"Service/metadata/name": "qwen2.5"},
        {"Service/metadata/name": "qwen2-5"}),
    "GB": ("api/bad-quantity", {"PersistentVolumeClaim/spec/resources/requests/storage": "200GB"},
           {"PersistentVolumeClaim/spec/resources/requests/storage": "200G"}),
    "an image in capitals": ("engine/bad-image-name", {"c/image": "VLLM/vllm-openai:v0.32.0"},
                             {"c/image": "localhost:5000/vllm/vllm-openai:v0.32.0"}),
    "a tag with a space": ("engine/bad-image-name", {"c/image": "vllm/vllm-openai:v0.32.0 "},
                           {"c/image": "Harbor.example.com/x/vllm-openai:v0.32.0@sha256:" + "a" * 64}),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_it_is_found_and_what_is_right_is_left_alone(name: str, said: Said) -> None:
    rule, mistake, right = MISTAKES[name]
    assert said(mistake)[rule] == "error"
    assert rule not in said(right)


def test_fields_of_another_projects_containers_are_its_own(said: Said) -> None:
    other = """apiVersion: example.com/v1
kind: Serving
metadata: {name: x, namespace: llm}
spec: {template: {spec: {shardSize: 2, containers: [
  {name: a, image: "vllm/vllm-openai:v0.32.0", gpuShare: 1, nodeSelector: {}}]}}}
"""
    assert said({"+": other})["api/unknown-field"] == "error"
    assert "api/unknown-field" not in said({"+": other.replace(", nodeSelector: {}", "")})


def test_what_a_template_fills_in_is_not_judged(said: Said) -> None:
    filled = {
        "labels/model": "{{ .Values.model }}",
        "c/name": "${NAME}",
        "c/resources/limits/memory": "{{ .Values.mem }}",
    }
    assert not {r for r in said(filled) if r.startswith("api/")}


def test_a_patch_over_another_file_lacks_what_that_has(said: Said) -> None:
    """Kustomize lays it over a whole Deployment: no selector, no image, half a probe, a mount of a volume there."""
    patch = """apiVersion: apps/v1
kind: Deployment
metadata: {name: chat, namespace: llm}
spec:
  template:
    spec:
      volumes: [{name: more, emptyDir: {}}]
      containers:
      - name: vllm
        resources: {requests: {nvidia.com/gpu: 2}}
        readinessProbe: {failureThreshold: 60}
        volumeMounts: [{name: weights, mountPath: /models}]
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: other, namespace: llm}
spec: {storageClassName: fast}
---
apiVersion: v1
kind: Service
metadata: {name: other, namespace: llm}
spec: {type: LoadBalancer}
"""
    assert not {r for r in said({"+": patch}) if r in ("api/not-a-pod", "api/not-together")}

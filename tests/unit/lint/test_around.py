"""What stands around an engine: a bucket's sidecar, a pool's port, a router's rights, quantities and low ports."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from seawall.lint.run import Report

Lint = Callable[[str], Report]

POD = """\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: chat, namespace: llm}}
spec:
  selector: {{matchLabels: {{app: chat}}}}
  template:
    metadata: {{labels: {{app: chat}}{annotations}}}
    spec:
      securityContext: {{{context}}}
      containers:
      - name: vllm
        image: vllm/vllm-openai:v0.30.0
        args: [--model, Qwen/Qwen3-8B, --port, "{port}"]
        ports: [{{containerPort: {port}}}]
        resources: {{limits: {{nvidia.com/gpu: "1", memory: {memory}}}}}
      volumes: [{{name: models, csi: {{driver: gcsfuse.csi.storage.gke.io}}}}]
"""
POOL = """\
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {{name: chat, namespace: llm}}
spec: {{targetPorts: [{{number: {port}}}], selector: {{matchLabels: {{app: chat}}}}}}
"""
HPA = """\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{name: chat}}
spec:
  scaleTargetRef: {{kind: Deployment, name: chat}}
  maxReplicas: 4
  metrics: [{{type: Resource, resource: {{name: {name}, target: {{type: Utilization, averageUtilization: 70}}}}}}]
"""
ROUTER = """\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: router, namespace: llm}}
spec:
  template:
    spec:
      serviceAccountName: router
      containers: [{{name: router, image: "lmcache/lmstack-router:v0.1.8", args: [--service-discovery, {how}]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: router, namespace: llm}}
rules: [{{apiGroups: [""], resources: [{what}], verbs: [get, list, watch]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: router, namespace: llm}}
roleRef: {{kind: Role, name: router}}
subjects: [{{kind: ServiceAccount, name: router}}]
"""


def chat(annotations: str = "", context: str = "", port: int = 8000, memory: str = "40Gi") -> str:
    return POD.format(annotations=annotations, context=context, port=port, memory=memory)


MARKED = ', annotations: {gke-gcsfuse/volumes: "true"}'


@pytest.mark.parametrize(
    ("text", "rule", "wrong"),
    [
        (chat(), "storage/no-fuse-sidecar", True),
        (chat(annotations=MARKED), "storage/no-fuse-sidecar", False),
        (f"{chat(port=8300)}---\n{POOL.format(port=8000)}", "network/pool-port", True),
        (f"{chat(port=8300)}---\n{POOL.format(port=8300)}", "network/pool-port", False),
        (HPA.format(name="nvidia.com/gpu"), "autoscale/not-a-resource", True),
        (HPA.format(name="cpu"), "autoscale/not-a-resource", False),
        (chat(memory="40000m"), "resources/milli-bytes", True),
        (chat(), "resources/milli-bytes", False),
        (chat(port=80, context="runAsUser: 1000"), "command/low-port", True),
        (chat(port=80, context="runAsUser: 0"), "command/low-port", False),
        (chat(port=8000, context="runAsUser: 1000"), "command/low-port", False),
        (ROUTER.format(how="k8s", what="services"), "security/router-rights", True),
        (ROUTER.format(how="k8s", what="pods"), "security/router-rights", False),
        (ROUTER.format(how="static", what="services"), "security/router-rights", False),
    ],
)
def test_what_stands_around_is_judged(lint: Lint, text: str, rule: str, wrong: bool) -> None:
    assert (rule in {f.rule for f in lint(text).findings}) is wrong

"""What a manifest asks of a vLLM that cannot give it, and what it may well ask."""

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
    metadata: {{labels: {{app: chat}}}}
    spec:
      containers:
      - name: vllm
        image: {image}
        args: [--model, Qwen/Qwen3-8B{args}]
        env: [{env}]
        ports: [{{containerPort: 8000}}]
        resources: {{limits: {{{resource}: "1", memory: 40Gi}}}}
        readinessProbe: {{httpGet: {{path: {path}, port: 8000}}}}
"""
SCALERS = """\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{name: a, namespace: llm}}
spec: {{scaleTargetRef: {{kind: Deployment, name: chat}}, maxReplicas: 4}}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {{name: b, namespace: llm}}
spec: {{scaleTargetRef: {{name: {other}}}}}
"""
CUDA = "vllm/vllm-openai:v0.30.0"


def chat(
    path: str = "/health",
    args: str = "",
    image: str = CUDA,
    resource: str = "nvidia.com/gpu",
    env: str = "",
) -> str:
    return POD.format(path=path, args=args, image=image, resource=resource, env=env)


def connector(said: str) -> str:
    return chat(args=f", --kv-transfer-config, '{said}'")


@pytest.mark.parametrize(
    ("text", "rule", "wrong"),
    [
        (chat("/healthz"), "probes/wrong-path", True),
        (chat("/v1/health"), "probes/wrong-path", True),
        (chat("/healthz", image="registry.example/own-proxy:1"), "probes/wrong-path", False),
        (chat("/ping"), "probes/wrong-path", False),
        (chat("/v1/models"), "probes/wrong-path", False),
        (chat("/v1/models", ", --api-key, secret"), "probes/wants-key", True),
        (chat("/health", ", --api-key, secret"), "probes/wants-key", False),
        (chat("/v1/models"), "probes/wants-key", False),
        (chat(image="vllm/vllm-openai-rocm:v0.20.0"), "devices/other-vendor", True),
        (
            chat(image="vllm/vllm-openai-rocm:v0.20.0", resource="amd.com/gpu"),
            "devices/other-vendor",
            False,
        ),
        (chat(resource="amd.com/gpu"), "devices/other-vendor", True),
        (chat(), "devices/other-vendor", False),
        (connector('{"kv_connector":"LMCacheConnectorV1","kv_role":"kv_booth"}'), "values/connector-role", True),
        (connector('{"kv_connector":"LMCacheConnectorV1"}'), "values/connector-role", True),
        (connector('{"kv_connector":"LMCacheConnectorV1","kv_role":"kv_both"}'), "values/connector-role", False),
        (chat(env='{name: VLLM_USE_V1, value: "0"}'), "engine/dead-variable", True),
        (chat(env='{name: VLLM_USE_V1, value: "0"}', image="vllm/vllm-openai:v0.9.2"), "engine/dead-variable", False),
        (SCALERS.format(other="chat"), "scale/two-scalers", True),
        (SCALERS.format(other="other"), "scale/two-scalers", False),
    ],
)  # fmt: skip
def test_what_is_asked_is_judged(lint: Lint, text: str, rule: str, wrong: bool) -> None:
    assert (rule in {f.rule for f in lint(text).findings}) is wrong

"""What the API server or the hub refuses, and what is written where nobody reads it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from seawall.lint.run import Report

Lint = Callable[[str], Report]

POD = """\
apiVersion: {api}
kind: Deployment
metadata: {{name: chat}}
spec:
  replicas: 1
{selector}  template:
    metadata: {{labels: {{app: {label}}}}}
    spec:
      containers:
      - name: vllm
        image: {image}
        args: [--model, {model}{args}]
        env: [{env}]
        ports: [{{containerPort: 8000, name: http}}]
        resources: {resources}
"""
GEMMA = "google/gemma-2-9b-it"
NAMED = "apiVersion: {}\nkind: {}\nmetadata: {{name: chat}}\n"
SERVICE = """---
apiVersion: v1
kind: Service
metadata: {{name: chat{labels}}}
spec: {{selector: {{app: chat}}, ports: [{{port: 8000, name: http}}]}}
---
{other}
"""
INGRESS = """apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: chat}}
spec:
  rules: [{{http: {{paths: [{{path: /, backend: {{service: {{name: {to}, port: {{number: 8000}}}}}}}}]}}}}]
"""
MONITOR = """apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata: {name: chat}
spec: {selector: {matchLabels: {app: chat}}, endpoints: [{port: http}]}
"""
HPA = """\
apiVersion: {api}
kind: HorizontalPodAutoscaler
metadata: {{name: chat}}
spec:
  scaleTargetRef: {target}
  maxReplicas: 4
  metrics: [{metric}]
"""
SELECTED = "  selector: {matchLabels: {app: chat}}\n"
CPU = "{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 70}}}"
TRIGGER = """\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {{name: chat}}
spec:
  scaleTargetRef: {{name: chat}}
  triggers:
  - type: prometheus
    metadata: {{serverAddress: "http://prometheus:9090", query: '{query}', threshold: "3"}}
"""


def pod(
    *,
    api: str = "apps/v1",
    selector: str = SELECTED,
    label: str = "chat",
    image: str = "vllm/vllm-openai:v0.30.0",
    model: str = "Qwen/Qwen3-8B",
    args: str = "",
    env: str = "",
    resources: str = '{limits: {nvidia.com/gpu: "1"}}',
) -> str:
    return POD.format(
        api=api,
        selector=selector,
        label=label,
        image=image,
        model=model,
        args=args,
        env=env,
        resources=resources,
    )


def pods_metric(name: str) -> str:
    target = "{type: AverageValue, averageValue: 5}"
    return f"{{type: Pods, pods: {{metric: {{name: {name}}}, target: {target}}}}}"


def hpa(
    metric: str = CPU, api: str = "autoscaling/v2", target: str = "{kind: Deployment, name: vllm-chat}"
) -> str:
    return HPA.format(api=api, metric=metric, target=target)


def placed(label: str) -> str:
    """A Deployment whose Pods choose nodes by that label."""
    return pod().replace("      containers:", f"      nodeSelector: {{{label}}}\n      containers:")


def on_t4(args: str, model: str) -> str:
    """A Deployment on nodes with a T4, which has no bfloat16."""
    return pod(args=args, model=model).replace(
        "      containers:", "      nodeSelector: {nvidia.com/gpu.product: Tesla-T4}\n      containers:"
    )


def beside(other: str, labels: str = "") -> str:
    return pod() + SERVICE.format(other=other, labels=labels)


PINNED = pod().replace(
    "      containers:", "      nodeSelector: {kubernetes.io/hostname: a}\n      containers:"
)
TOKEN = "hf_aBcDeFgHiJkLmNoPqRsTuVwXyZ012345"
SCRIPT = pod().replace(
    "args: [--model, Qwen/Qwen3-8B]",
    f"command: [sh, -c, 'export HF_TOKEN={TOKEN}; exec vllm serve Qwen/Qwen3-8B']",
)
OFFERED = """\
apiVersion: v1
kind: PersistentVolume
metadata: {name: weights}
spec: {capacity: {storage: 50Gi}, accessModes: [ReadOnlyMany], hostPath: {path: /data}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: weights}
spec: {accessModes: [ReadOnlyMany], resources: {requests: {storage: 50Gi}}}
"""


@pytest.mark.parametrize(
    ("text", "rule", "severity"),
    [
        (pod(selector=""), "api/incomplete", "warning"),  # it may be a patch
        (pod(label="other"), "api/incomplete", "error"),
        (pod(), "api/incomplete", ""),
        (hpa(target="{name: vllm-chat}"), "api/incomplete", "error"),
        (hpa(), "api/incomplete", ""),
        (hpa(api="autoscaling.k8s.io/v2"), "api/unknown-version", "error"),
        (hpa(api="autoscaling/v2beta2"), "api/unknown-version", ""),  # which api/removed knows
        (pod(api="v1"), "api/unknown-version", "error"),
        (pod(), "api/unknown-version", ""),
        (pod(model="google/gemma-3-2b-it"), "weights/no-such-model", "warning"),
        (pod(model="Qwen/Qwen3-Coder-4B-Instruct"), "weights/no-such-model", "warning"),
        (pod(model="google/gemma-3-4b-it"), "weights/no-such-model", ""),
        (pod(model="Qwen/Qwen3-30B-A3B-Instruct-2507"), "weights/no-such-model", ""),
        (pod(model="Qwen/Qwen2.5-72B-Instruct-AWQ"), "weights/no-such-model", ""),
        (pod(model="someone/gemma-3-2b-it"), "weights/no-such-model", ""),
        (pod(env="{name: HF_TOKEN, value: your-token-here}"), "weights/placeholder-token", "warning"),
        (pod(env='{name: HF_TOKEN, value: "$(TOKEN)"}'), "weights/placeholder-token", ""),
        (pod(env='{name: VLLM_MAX_MODEL_LEN, value: "4096"}'), "engine/option-as-variable", "warning"),
        (pod(env="{name: VLLM_API_KEY, value: a}"), "engine/option-as-variable", ""),
        (pod(env="{name: VLLM_LOGGING_LEVEL, value: INFO}"), "engine/option-as-variable", ""),
        (
            pod(env='{name: VLLM_MAX_MODEL_LEN, value: "4096"}', args=", --max-model-len, $(VLLM_MAX_MODEL_LEN)"),
            "engine/option-as-variable",
            "",
        ),
        (pod(args=", --enforce-eager, 'false'", image="vllm/vllm-openai:v0.6.4"), "values/switch-with-value", "error"),
        (pod(args=", --device=cpu", resources="{}", image="vllm/vllm-openai:v0.8.5"), "engine/no-gpu", "warning"),
        (beside(INGRESS.format(to="chat")), "network/exposed", "warning"),
        (beside(INGRESS.format(to="gateway")), "network/exposed", ""),
        (beside(MONITOR), "network/selects-nothing", "error"),
        (beside(MONITOR, ", labels: {app: chat}"), "network/selects-nothing", ""),
        (beside(INGRESS.format(to="chat").replace("8000", "80")), "network/port-nowhere", "error"),
        (beside(INGRESS.format(to="chat")), "network/port-nowhere", ""),
        (pod(args=", '--lora-modules=a=/a', '--lora-modules=b=/b'"), "command/flag-twice", "warning"),
        (pod(args=", --max-model-len, '4096'"), "command/flag-twice", ""),
        (pod(model="'${MODEL}'"), "command/variable-not-expanded", "warning"),
        (pod(model="'${MODEL}'", image="'${IMAGE}'"), "command/variable-not-expanded", ""),  # a template
        (pod(model="$(MODEL)", env="{name: MODEL, value: Qwen/Qwen3-8B}"), "command/variable-not-expanded", ""),
        (pod().replace("image:", "imagePullPolicy: IFNotPresent\n        image:"), "api/unsupported-value", "error"),
        (pod().replace("image:", "imagePullPolicy: IfNotPresent\n        image:"), "api/unsupported-value", ""),
        (PINNED.replace("replicas: 1", "replicas: 2"), "scheduling/one-node", "warning"),
        (PINNED, "scheduling/one-node", ""),
        (SCRIPT, "security/secret-in-clear", "error"),
        (SCRIPT.replace(TOKEN, "hf_" + "X" * 34), "security/secret-in-clear", ""),
        (OFFERED, "storage/rox-unfilled", ""),
        (OFFERED.split("---")[1], "storage/rox-unfilled", "error"),
        (hpa(pods_metric("vllm_queue_length")), "promql/unknown-metric", "warning"),
        (hpa(pods_metric("vllm_num_requests_waiting")), "promql/unknown-metric", ""),
        (hpa(pods_metric("requests_per_second")), "promql/unknown-metric", ""),
        (hpa(), "scale/cpu", "warning"),
        (hpa(target="{kind: Deployment, name: vllm-router}"), "scale/cpu", ""),
        (hpa(target="{kind: Deployment, name: shop}"), "scale/cpu", ""),
        (
            TRIGGER.format(
                query="histogram_quantile(0.99, sum(rate(vllm:e2e_request_latency_seconds_bucket[5m])) by (le))"
            ),
            "scale/averaged-twice",
            "error",
        ),
        (TRIGGER.format(query="sum(vllm:num_requests_waiting)"), "scale/averaged-twice", ""),
        (
            pod(
                args=", --tensor-parallel-size=2",
                image="public.ecr.aws/neuron/pytorch-inference-vllm-neuronx:0.13.0",
                resources='{limits: {aws.amazon.com/neuroncore: "2"}}',
            ),
            "engine/no-shm",
            "",
        ),
        (pod(args=", --dtype=half", model=GEMMA), "devices/capability", "error"),
        (pod(args=", --dtype, half", model="x/GLM-4-9B-0414", image="vllm/vllm"), "devices/capability", "warning"),
        (pod(args=", --dtype=bfloat16", model=GEMMA), "devices/capability", ""),
        (pod(args=", --dtype=half", model=GEMMA, image="vllm/vllm-openai:v0.8.5"), "devices/capability", ""),
        (placed("karpenter.sh/instance-type: g6.xlarge"), "scheduling/hand-label", "warning"),
        (placed("karpenter.sh/nodepool: gpu"), "scheduling/hand-label", ""),
        (placed("karpenter.k8s.aws/instance-family: g6"), "scheduling/hand-label", ""),
        (NAMED.format("aibrix.ai/v1", "StormService"), "api/unknown-version", "error"),
        (NAMED.format("lws.x-k8s.io/v1", "LeaderWorkerSet"), "api/unknown-version", "error"),
        (NAMED.format("keda.sh/v1alpha1", "ScaledObject"), "api/unknown-version", ""),
        ("apiVersion: karpenter.sh/v1beta1\nkind: NodePool\nmetadata: {name: gpu}\n", "api/removed", "warning"),
    ],
)  # fmt: skip
def test_what_nobody_takes_is_said(lint: Lint, text: str, rule: str, severity: str) -> None:
    found = [f.severity for f in lint(text).findings if f.rule == rule]
    assert found[:1] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("model", "wanted", "unwanted"),
    [
        ("Qwen/Qwen3-8B", "--dtype half", "float32"),
        (GEMMA, "--dtype float32", "half"),
        ("google/gemma-3-12b-it", "--dtype float32", "half"),
        ("openai/gpt-oss-20b", "another GPU", "half"),
    ],
)
def test_a_family_that_overflows_in_float16_is_not_told_to_use_it(
    lint: Lint, model: str, wanted: str, unwanted: str
) -> None:
    found = [f for f in lint(on_t4(", --dtype=bfloat16", model)).findings if f.rule == "devices/capability"]
    assert len(found) == 1
    assert wanted in found[0].cure
    assert unwanted not in found[0].cure

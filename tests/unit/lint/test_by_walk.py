"""What stands around the engine, walked source by source: routes and their time-outs, objects that are named and are
elsewhere, room and rights to write, parts of GPUs, groups of Pods. Each mistake has a neighbour that is right."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.lint.conftest import GONE, Changes

Said = Callable[[Changes], dict[str, str]]
GPU = "nvidia.com~gpu"


def objects(text: str) -> Changes:
    return {"+": text}


def ingress(
    annotations: str = "", *, name: str = "chat", port: str = "{number: 80}", path: str = "/"
) -> Changes:
    return objects(f"""apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: chat, namespace: llm, annotations: {{{annotations}}}}}
spec:
  ingressClassName: {"alb" if "alb." in annotations else "nginx" if "nginx." in annotations else "traefik"}
  rules:
  - http:
      paths: [{{path: "{path}", pathType: Prefix, backend: {{service: {{name: {name}, port: {port}}}}}}}]
""")


def route(rule: str) -> Changes:
    return objects(f"""apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: chat, namespace: llm}}
spec: {{parentRefs: [{{name: gateway}}], rules: [{{{rule}}}]}}
""")


def secret(body: str, namespace: str = "llm") -> Changes:
    return objects(f"apiVersion: v1\nkind: Secret\nmetadata: {{name: chat, namespace: {namespace}}}\n{body}")


def encoded(text: bytes) -> str:
    return f"data: {{api-key: {base64.b64encode(text).decode()}}}"


def hub(**more: Any) -> Changes:
    """An 8B model from the hub, its cache on an emptyDir."""
    volume = {"name": "hub", "emptyDir": more.pop("volume", {})}
    mount = {"name": "hub", "mountPath": "/hub", **more.pop("mount", {})}
    return {
        "c/command/2": "Qwen/Qwen3-8B", "c/env/0": {"name": "HF_HOME", "value": "/hub"}, "c/volumeMounts+": mount,
        "pod/volumes+": volume, **more,
    }  # fmt: skip


def part(resource: str, ranks: int = 4, model: str = "Qwen/Qwen3-8B") -> Changes:
    return {
        "c/resources/limits/" + GPU: GONE, "c/resources/requests/" + GPU: GONE, "c/command/2": model,
        "c/resources/limits/" + resource.replace("/", "~"): ranks,
        "c/args/2": f"--tensor-parallel-size={ranks}",
    }  # fmt: skip


def group(policy: str, *, publish: bool = True) -> Changes:
    return {
        "Service/spec/clusterIP": "None", "Service/spec/publishNotReadyAddresses": publish, "ScaledObject/kind": "X",
        "spec/replicas": 2, "spec/serviceName": "chat", "spec/podManagementPolicy": policy, "spec/strategy": GONE,
        "c/args+": ["--nnodes=2", "--node-rank=0", "--master-addr=chat-0.chat"], "Deployment/kind": "StatefulSet",
    }  # fmt: skip


def download(mounts: list[dict[str, str]]) -> Changes:
    words = "hf download meta-llama/Llama-3.1-70B-Instruct --local-dir /models/llama-3.1-70b-instruct"
    init = {"name": "pull", "image": "python:3.12", "command": ["sh", "-c", words], "volumeMounts": mounts}
    return {"pod/initContainers": [init]}


def predictor(more: str) -> Changes:
    model = "{modelFormat: {name: huggingface}, args: [--model_id=org/x]}"
    return objects(f"""apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {{name: x, namespace: llm}}
spec: {{predictor: {{model: {model}, {more}}}}}
""")


def graph(more: str) -> Changes:
    image = "nvcr.io/nvidia/ai-dynamo/vllm-runtime:1.1.0"
    main = f"{{image: {image}, command: [python3, -m, dynamo.vllm], args: [--model, org/x]}}"
    return objects(f"""apiVersion: nvidia.com/v1alpha1
kind: DynamoGraphDeployment
metadata: {{name: x, namespace: llm}}
spec: {{services: {{Worker: {{componentType: worker, extraPodSpec: {{mainContainer: {main}}}, {more}}}}}}}
""")


def quota(hard: str) -> Changes:
    return objects(
        f"{{apiVersion: v1, kind: ResourceQuota, metadata: {{name: q, namespace: llm}}, spec: {{hard: {hard}}}}}"
    )


NGINX, ALB = "nginx.ingress.kubernetes.io/", "alb.ingress.kubernetes.io/"
POLICY = "NetworkPolicy/spec/policyTypes"
MISTAKES: dict[str, tuple[str, Changes, Changes]] = {
    # what is wrong: (rule, the mistake, what is right)
    "an Ingress to nobody": ("network/backend-missing", ingress(name="chat-service"), ingress()),
    "a route to the target's port": (
        "network/backend-missing", route("backendRefs: [{name: chat, port: 8000}]"),
        route("backendRefs: [{name: chat, port: 80}]")),
    "nginx' own minute": ("network/short-timeout", ingress(f'{NGINX}proxy-body-size: "8m"'),
                          ingress(f'{NGINX}proxy-read-timeout: "600"')),
    "a unit that nginx does not know": ("network/short-timeout", ingress(f'{NGINX}proxy-read-timeout: "600s"'),
        ingress()),
    "an ALB's minute": (
        "network/short-timeout", ingress(f"{ALB}scheme: internal"),
        ingress(f"{ALB}load-balancer-attributes: idle_timeout.timeout_seconds=900")),
    "a route of ten seconds": (
        "network/short-timeout", route("timeouts: {request: 10s}, backendRefs: [{name: chat, port: 80}]"),
        route("timeouts: {request: 10m}, backendRefs: [{name: chat, port: 80}]")),
    "Istio's fifteen": (
        "network/short-timeout",
        objects("{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: x, namespace: llm}, "
                "spec: {http: [{timeout: 15s, route: [{destination: {host: chat}}]}]}}"),
        objects("{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: x, namespace: llm}, "
                "spec: {http: [{timeout: 15s, route: [{destination: {host: other}}]}]}}")),
    "every path is the root": (
        "network/path-lost", ingress(f"{NGINX}rewrite-target: /", path="/v1"),
        ingress(f"{NGINX}rewrite-target: /$2", path="/llm(/|$)(.*)")),
    "a time without its unit": (
        "network/path-lost", route('timeouts: {request: "600"}, backendRefs: [{name: chat, port: 80}]'),
        route("timeouts: {request: 0s}, backendRefs: [{name: chat, port: 80}]")),
    "metrics below /v1": (
        "network/metrics-elsewhere", {"PodMonitor/spec/podMetricsEndpoints/0/path": "/v1/metrics"},
        {"PodMonitor/spec/podMetricsEndpoints/0/path": "/metrics"}),
    "another port's metrics": (
        "network/metrics-elsewhere",
        {"spec/template/metadata/annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"}},
        {"spec/template/metadata/annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8000"}}),
    "plain probes of TLS": (
        "probes/other-scheme", {"c/args+": ["--ssl-certfile=/models/c", "--ssl-keyfile=/models/k"]}, {}),
    "TLS probes of plain": ("probes/other-scheme", {"c/readinessProbe/httpGet/scheme": "HTTPS"},
                            {"c/readinessProbe/httpGet/scheme": "HTTP"}),
    "text as base64": ("api/not-base64", secret("data: {api-key: hf_abcdefghijk}"),
        secret("stringData: {api-key: hf_x}")),
    "a line break in a key": ("command/newline-in-secret", secret(encoded(b"abc\n")), secret(encoded(b"abc"))),
    "a block of YAML as a key": ("command/newline-in-secret", secret("stringData:\n  api-key: |\n    abc\n"),
                                 secret("stringData:\n  api-key: |-\n    abc\n")),
    "a Secret of another namespace": (
        "command/object-elsewhere", secret("stringData: {api-key: abc}", "default"),
        secret("stringData: {api-key: abc}")),
    "nothing out": ("network/no-egress", hub(**{POLICY: ["Ingress", "Egress"]}), hub(**{POLICY: ["Ingress"]})),
    "a hook in one word": (
        "command/words-in-one", {"c/lifecycle/preStop": {"exec": {"command": ["sleep 15"]}}},
        {"c/lifecycle/preStop": {"exec": {"command": ["sh", "-c", "sleep 15"]}}}),
    "an emptyDir of 5 GiB": ("storage/no-room", hub(volume={"sizeLimit": "5Gi"}), hub(volume={"sizeLimit": "40Gi"})),
    "a disk of 10 GiB": ("storage/no-room", hub(**{"c/resources/limits/ephemeral-storage": "10Gi"}),
                         hub(**{"c/resources/limits/ephemeral-storage": "60Gi"})),
    "a compile cache to read": (
        "storage/read-only-cache", {"c/volumeMounts/2/readOnly": True}, {"c/volumeMounts/0/readOnly": True}),
    "100 GiB of 64": ("resources/host-memory-offload", {"c/args+": "--cpu-offload-gb=100"},
        {"c/args+": "--cpu-offload-gb=4"}),
    "root that may not": (
        "security/root-refused", {"pod/securityContext/runAsUser": GONE}, {"pod/securityContext/runAsUser": 2000}),
    "ranks on slices": ("devices/parts-of-one", part("nvidia.com/mig-3g.40gb"), part("nvidia.com/mig-3g.40gb", 1)),
    "ranks on one card": ("devices/parts-of-one", part("nvidia.com/gpu.shared"), part("nvidia.com/gpu.shared", 1)),
    "a slice of 10 GB": ("devices/part-too-small", part("nvidia.com/mig-1g.10gb", 1),
        part("nvidia.com/mig-2g.20gb", 1)),
    "gpus": ("resources/no-such-device", part("nvidia.com/gpus"), part("nvidia.com/gpu")),
    "one after the other": ("rollout/waits-for-itself", group("OrderedReady"), group("Parallel")),
    "a name that is not told": ("rollout/waits-for-itself", group("Parallel", publish=False), group("Parallel")),
    "a download to nowhere": ("weights/written-nowhere", download([]), download([{"name": "weights",
        "mountPath": "/models"}])),
    "a Service in another namespace": (
        "network/selects-nothing", {"Service/metadata/namespace": "default"}, {"Service/metadata/namespace": "llm"}),
    "too little shared memory": (
        "engine/no-shm", {"pod/volumes/1/emptyDir/sizeLimit": "64Mi"}, {"pod/volumes/1/emptyDir/sizeLimit": "1Gi"}),
    "a user without a home": ("security/no-home", {"c/env/2": {"name": "A", "value": "b"}}, {}),
    "a volume that nobody mounts": (
        "storage/mounted-nowhere", {"pod/volumes+": {"name": "hub", "persistentVolumeClaim": {"claimName": "weights"}}},
        {"pod/volumes+": {"name": "hub", "emptyDir": {}}}),
    "a port of the node": ("rollout/port-taken", {"c/ports/0/hostPort": 8000},
                           {"c/ports/0/hostPort": 8000, "spec/strategy/rollingUpdate": {"maxSurge": 0,
        "maxUnavailable": 1}}),
    "a home with a cache and nothing else": (
        "security/no-home",
        {"c/env/2": {"name": "A", "value": "b"}, "c/volumeMounts+": {"name": "cache", "mountPath": "/.cache"}},
        {"c/env/2": {"name": "XDG_CACHE_HOME", "value": "/cache"}},
    ),
    "a template that the image does not have": (
        "storage/file-not-mounted",
        {"c/args+": "--chat-template=tools.jinja"},
        {"c/args+": "--chat-template=examples/tool_chat_template_hermes.jinja"},
    ),
    "a Pod's spec in a predictor": (
        "api/unknown-field",
        predictor("podSpec: {containers: []}"),
        predictor("tolerations: []"),
    ),
    "an option as a field of a worker": (
        "api/unknown-field",
        graph("max-num-seqs: 8"),
        graph("replicas: 2"),
    ),
    "a worker's probe that exits with 0": (
        "probes/always-succeeds",
        graph('readinessProbe: {exec: {command: [sh, -c, "exit 0"]}}'),
        graph("readinessProbe: {httpGet: {path: /health, port: 9090}}"),
    ),
    "less storage than the claims": (
        "resources/quota-too-small",
        quota("{requests.storage: 150Gi}"),
        quota("{requests.storage: 250Gi}"),
    ),
    "fewer devices than the Pods": (
        "resources/quota-too-small",
        {**quota('{requests.nvidia.com/gpu: "6"}'), "spec/replicas": 2},
        {**quota('{requests.nvidia.com/gpu: "8"}'), "spec/replicas": 2},
    ),
    "a trace of every call": (
        "engine/debugging",
        {"c/env+": {"name": "VLLM_TRACE_FUNCTION", "value": "1"}},
        {"c/env+": {"name": "VLLM_TRACE_FUNCTION", "value": "0"}},
    ),
    "a parser that nobody asks": (
        "values/tool-choice-without-parser", {"c/args+": "--tool-call-parser=hermes"},
        {"c/args+": ["--tool-call-parser=hermes", "--enable-auto-tool-choice"]}),
}  # fmt: skip
WARNINGS = (
    "network/short-timeout",
    "security/no-home",
    "storage/mounted-nowhere",
    "rollout/port-taken",
    "engine/debugging",
)


@pytest.mark.parametrize("name", MISTAKES)
def test_it_is_found_and_what_is_right_is_left_alone(name: str, said: Said) -> None:
    rule, mistake, right = MISTAKES[name]
    warns = rule in WARNINGS or "parser" in name
    assert said(mistake)[rule] == ("warning" if warns else "error")
    assert rule not in said(right)


def test_policies_add_up(said: Said) -> None:
    dns = """{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: out, namespace: llm},
spec: {podSelector: {matchLabels: {app: chat}}, policyTypes: [Egress], egress: [{ports: [{port: 53}]}]}}"""
    assert "network/no-egress" not in said(hub(**{POLICY: ["Ingress", "Egress"], "+": dns}))


def test_an_image_with_a_home_of_its_own_is_not_told_of_one(said: Said) -> None:
    change = {
        "c/env/2": {"name": "A", "value": "b"},
        "c/image": "registry.example.com/team/vllm-openai-ours:v0.32.0",
    }
    assert "security/no-home" not in said(change)

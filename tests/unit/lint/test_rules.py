"""One change to a good manifest at a time: the rule for it speaks, and no other error or warning does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.unit.lint import test_api, test_by_walk, test_refused_by_vllm

from seawall.lint.run import FAMILIES, Report, load_rules

# rule -> (old text, new text) pairs that make the good manifest wrong in that one way
MUTATIONS: dict[str, list[tuple[str, str]]] = {
    "engine/removed-flag": [("--port=8000", "--swap-space=4")],
    "engine/unknown-flag": [("--max-model-len=32768", "--max-modle-len=32768")],
    "engine/flag-too-new": [("v0.32.0", "v0.31.0"), ("--port=8000", "--enable-shm-tensor-arena")],
    "engine/deprecated-flag": [("--port=8000", "--disable-cascade-attn")],
    "engine/deprecated-entrypoint": [
        (
            "[vllm, serve, /models/llama-3.1-70b-instruct]",
            "[python3, -m, vllm.entrypoints.openai.api_server, --model, /models/llama-3.1-70b-instruct]",
        )
    ],
    "engine/demo-server": [
        (
            "[vllm, serve, /models/llama-3.1-70b-instruct]",
            "[python3, -m, vllm.entrypoints.api_server, --model, /models/llama-3.1-70b-instruct]",
        )
    ],
    "engine/no-model": [("        command: [vllm, serve, /models/llama-3.1-70b-instruct]\n", "")],
    "engine/model-too-new": [
        ("/models/llama-3.1-70b-instruct", "/models/Qwen3-Next-80B-A3B-Instruct"),
        ("v0.32.0", "v0.9.2"),
    ],
    "storage/file-not-mounted": [("--max-model-len=32768", "--chat-template=/templates/chat.jinja")],
    "engine/image-not-pinned": [(":v0.32.0", ":nightly")],
    "engine/no-stats": [("--port=8000", "--disable-log-stats")],
    "engine/unbounded-queue": [("        - --max-num-queued-reqs=300\n", "")],
    "engine/parallel-exceeds-gpus": [("nvidia.com/gpu: 4", "nvidia.com/gpu: 2")],
    "engine/no-shm": [("        - {name: shm, mountPath: /dev/shm}\n", "")],
    "engine/no-gpu": [("nvidia.com/gpu: 4, ", "")],
    "engine/no-compile-cache": [("        - {name: VLLM_CACHE_ROOT, value: /cache}\n", "")],
    "autoscale/unknown-field": [("maxReplicaCount: 8", "maxReplicas: 8")],
    "autoscale/trigger-metadata": [('threshold: "40"', "threshold: 40")],
    "probes/always-succeeds": [
        (
            "readinessProbe:\n          httpGet: {path: /health, port: http}",
            "readinessProbe:\n          exec: {command: [sh, -c, 'curl -f localhost:8000/health || true']}",
        )
    ],
    "fit/beyond-the-model": [("--max-model-len=32768", "--max-model-len=262144")],
    "engine/no-such-tag": [("vllm/vllm-openai:v0.32.0", "vllm/vllm-openai:0.32.0")],
    "resources/host-memory-too-small": [("memory: 64Gi", "memory: 2Gi")],
    "security/nowhere-to-write": [
        (
            "allowPrivilegeEscalation: false\n",
            "allowPrivilegeEscalation: false\n          readOnlyRootFilesystem: true\n",
        )
    ],
    "command/missing-key": [
        (
            "- {name: HOME, value: /tmp}",
            "- {name: HF_TOKEN, valueFrom: {secretKeyRef: {name: hub, key: Token}}}",
        ),
        (
            "kind: Namespace\n",
            "kind: Secret\nmetadata: {name: hub, namespace: llm}\ndata: {token: eA==}\n---\n"
            "apiVersion: v1\nkind: Namespace\n",
        ),
    ],
    "command/one-string": [
        (
            "command: [vllm, serve, /models/llama-3.1-70b-instruct]",
            "command: [vllm serve /models/llama-3.1-70b-instruct]",
        )
    ],
    "command/space-in-argument": [("--max-model-len=32768", "--max-model-len 32768")],
    "command/entrypoint-twice": [
        (
            "command: [vllm, serve, /models/llama-3.1-70b-instruct]\n        args:\n",
            "args:\n        - serve\n        - /models/llama-3.1-70b-instruct\n",
        )
    ],
    "command/shell-drops-arguments": [
        (
            "command: [vllm, serve, /models/llama-3.1-70b-instruct]\n        args:\n",
            "command: [sh, -c]\n        args:\n        - vllm\n        - serve\n        "
            "- /models/llama-3.1-70b-instruct\n",
        )
    ],
    "command/not-a-string": [("- {name: HOME, value: /tmp}", "- {name: PORT, value: 8000}")],
    "values/switch-with-value": [("--port=8000", "--enable-prefix-caching=true")],
    "values/broken-json": [("--port=8000", "\"--kv-transfer-config={'kv_role':'kv_both'}\"")],
    "values/unknown-parser": [("--port=8000", "--tool-call-parser=qwen25")],
    "values/tool-choice-without-parser": [("--port=8000", "--enable-auto-tool-choice")],
    "values/wrong-value": [("--port=8000", "--gpu-memory-utilization=90")],
    "resources/device-count": [("limits: {nvidia.com/gpu: 4,", "limits: {nvidia.com/gpu: 4.5,")],
    "network/only-localhost": [("--port=8000", "--host=127.0.0.1")],
    "devices/capability": [("NVIDIA-H100-80GB-HBM3", "Tesla-V100-SXM2-32GB")],
    "devices/gke-driver-path": [
        (
            "nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3",
            "cloud.google.com/gke-accelerator: nvidia-h100-80gb",
        ),
        ("- {name: HOME, value: /tmp}", "- {name: LD_LIBRARY_PATH, value: /opt/lib}"),
    ],
    "shutdown/aborts-streams": [("        - --shutdown-timeout=110\n", "")],
    "shutdown/no-prestop": [("        lifecycle:\n          preStop: {sleep: {seconds: 15}}\n", "")],
    "shutdown/grace-too-short": [("GracePeriodSeconds: 140", "GracePeriodSeconds: 100")],
    "shutdown/shell-swallows-sigterm": [
        (
            "command: [vllm, serve, /models/llama-3.1-70b-instruct]\n        args:",
            'command: [sh, -c, "export A=1; vllm serve /models/llama-3.1-70b-instruct '
            "--tensor-parallel-size 4 "
            '--max-num-queued-reqs 9 --max-model-len 32768 --shutdown-timeout 110"]\n        '
            "ports_unused:",
        )
    ],
    "probes/startup-budget": [("failureThreshold: 180", "failureThreshold: 5")],
    "probes/no-startup": [
        (
            "        startupProbe:\n          httpGet: {path: /health, port: http}\n          "
            "periodSeconds: 10\n"
            "          failureThreshold: 180\n",
            "",
        )
    ],
    "probes/no-readiness": [
        (
            "        readinessProbe:\n          httpGet: {path: /health, port: http}\n          "
            "periodSeconds: 5\n",
            "",
        )
    ],
    "probes/no-liveness": [("livenessProbe:", "xProbe:")],
    "probes/liveness-impatient": [
        ("timeoutSeconds: 10\n          failureThreshold: 6", "failureThreshold: 2")
    ],
    "probes/initial-delay-dead": [
        ("periodSeconds: 5\n", "periodSeconds: 5\n          initialDelaySeconds: 60\n")
    ],
    "probes/port-mismatch": [("--port=8000", "--port=8080")],
    "probes/engine-gives-up": [
        ('        - {name: VLLM_ENGINE_READY_TIMEOUT_S, value: "1800"}\n', ""),
        ("storageClassName: fsx-lustre", "storageClassName: azurefile"),
    ],
    "probes/progress-deadline": [("progressDeadlineSeconds: 3600", "progressDeadlineSeconds: 900")],
    "weights/renamed-repo": [("/models/llama-3.1-70b-instruct", "meta-llama/Meta-Llama-3.1-70B-Instruct")],
    "storage/access-mode": [("storageClassName: fsx-lustre", "storageClassName: gp3")],
    "storage/rwo-shared": [("ReadWriteMany", "ReadWriteOnce")],
    "storage/rox-unfilled": [("ReadWriteMany", "ReadOnlyMany")],
    "storage/slow-class": [
        ("storageClassName: fsx-lustre", "storageClassName: azurefile"),
    ],
    "storage/path-not-mounted": [("mountPath: /models, readOnly", "mountPath: /weights, readOnly")],
    "storage/too-small": [("storage: 200Gi", "storage: 100Gi")],
    "storage/claim-missing": [("claimName: weights", "claimName: wieghts")],
    "fit/does-not-fit": [("NVIDIA-H100-80GB-HBM3", "NVIDIA-L4")],
    "fit/context-too-long": [
        ("NVIDIA-H100-80GB-HBM3", "NVIDIA-B200"),
        ("        - --max-model-len=32768\n", ""),
        ("--tensor-parallel-size=4", "--tensor-parallel-size=1"),
        ("nvidia.com/gpu: 4", "nvidia.com/gpu: 1"),
    ],
    "fit/heads-do-not-divide": [
        ("--tensor-parallel-size=4", "--tensor-parallel-size=3"),
        ("nvidia.com/gpu: 4", "nvidia.com/gpu: 3"),
    ],
    "rollout/surge-needs-gpu": [("  progressDeadlineSeconds: 3600\n", "")],
    "rollout/recreate": [("rollingUpdate: {maxSurge: 1, maxUnavailable: 0}", "type: Recreate")],
    "rollout/all-at-once": [("maxSurge: 1, maxUnavailable: 0", "maxSurge: 0, maxUnavailable: 2")],
    "disruption/pdb-blocks-drain": [("maxUnavailable: 1\n", "minAvailable: 2\n")],
    "disruption/unhealthy-stay": [("  unhealthyPodEvictionPolicy: AlwaysAllow\n", "")],
    "disruption/no-pdb": [("kind: PodDisruptionBudget", "kind: Something")],
    "scheduling/no-spread": [("topologySpreadConstraints:", "spread:")],
    "scheduling/hand-label": [("nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3", "has-gpu: yes-it-has")],
    "scheduling/no-gpu-toleration": [("- {key: nvidia.com/gpu, operator", "- {key: example.com/x, operator")],
    "spot/unknown-taint": [
        ("- {key: nvidia.com/gpu, operator: Exists", "- {key: node.kubernetes.io/spot, value: 'true'")
    ],
    "resources/not-guaranteed": [
        ('requests: {nvidia.com/gpu: 4, cpu: "16"', 'requests: {nvidia.com/gpu: 4, cpu: "8"')
    ],
    "resources/no-ephemeral-storage": [(", ephemeral-storage: 30Gi", "")],
    "resources/host-memory": [("memory: 64Gi", "memory: 160Gi")],
    "resources/shm-eats-memory": [("sizeLimit: 8Gi", "sizeLimit: 64Gi")],
    "security/root": [("runAsNonRoot: true\n        runAsUser: 1000", "runAsUser: 0")],
    "security/privileges": [("allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true")],
    "security/seccomp": [("        seccompProfile: {type: RuntimeDefault}\n", "")],
    "security/service-account-token": [("      automountServiceAccountToken: false\n", "")],
    "security/secret-in-clear": [
        ("- {name: HOME, value: /tmp}", "- {name: HF_TOKEN, value: hf_abcdefghijkl}")
    ],
    "security/dev-mode": [("- {name: HOME, value: /tmp}", '- {name: VLLM_SERVER_DEV_MODE, value: "1"}')],
    "network/service-links": [("      enableServiceLinks: false\n", "")],
    "network/port-nowhere": [("targetPort: http", "targetPort: web")],
    "network/selects-nothing": [("selector: {app: chat}\n  ports", "selector: {app: caht}\n  ports")],
    "network/no-service": [("kind: Service\nmetadata: {name: chat", "kind: Servus\nmetadata: {name: chat")],
    "network/no-monitor": [("kind: PodMonitor", "kind: PodPonder")],
    "network/no-policy": [("kind: NetworkPolicy", "kind: NetworkPolitics")],
    "network/unnamed-port": [
        ("- {name: http, containerPort: 8000}", "- {containerPort: 8000}"),
        ("port: http}", "port: 8000}"),
        ("{name: http, port: 80, targetPort: http}", "{port: 80, targetPort: 8000}"),
        ("podMetricsEndpoints: [{port: 8000}]", "podMetricsEndpoints: []"),
    ],
    "network/exposed": [
        ("selector: {app: chat}\n  ports", "type: LoadBalancer\n  selector: {app: chat}\n  ports")
    ],
    "network/namespace-missing": [("kind: Namespace", "kind: Nomenclature")],
    "scale/averaged-twice": [("query: sum(vllm:kv", "query: avg(vllm:kv")],
    "scale/many-series": [("query: sum(vllm:kv", "query: (vllm:kv")],
    "scale/null-is-zero": [('threshold: "0.8"\n      ignoreNullValues: "false"', 'threshold: "0.8"')],
    "scale/no-fallback": [("fallback: {", "fallbock: {")],
    "scale/no-behavior": [("scaleDown:", "scaleUp:")],
    "scale/replicas-owned": [("  progressDeadlineSeconds", "  replicas: 3\n  progressDeadlineSeconds")],
    "scale/keda-metric-name": [('threshold: "40"', 'metricName: x\n      threshold: "40"')],
    "scale/keda-dead-setting": [("maxReplicaCount: 8", "maxReplicaCount: 8\n  cooldownPeriod: 60")],
    "scale/never-wakes": [("minReplicaCount: 2", "minReplicaCount: 0")],
    "scale/idle-count": [("maxReplicaCount: 8", "maxReplicaCount: 8\n  idleReplicaCount: 1")],
    "scale/bounds": [("maxReplicaCount: 8", "maxReplicaCount: 1")],
    "scale/target-missing": [("scaleTargetRef: {name: chat}", "scaleTargetRef: {name: chatt}")],
    "promql/syntax": [("query: sum(vllm:kv_cache", "query: sum((vllm:kv_cache")],
    "promql/unknown-metric": [("vllm:num_requests_waiting{", "vllm:pending_requests{")],
    "promql/gone-metric": [("sum(vllm:kv_cache_usage_perc", "sum(vllm:gpu_cache_usage_perc")],
    "promql/rate-of-gauge": [
        (
            'sum(vllm:kv_cache_usage_perc{namespace="llm",model_name="chat"})',
            'sum(rate(vllm:num_requests_running{namespace="llm",model_name="chat"}[1m]))',
        )
    ],
    "promql/counter-as-gauge": [("sum(vllm:kv_cache_usage_perc{", "sum(vllm:prompt_tokens_total{")],
    "promql/label": [
        (
            'kv_cache_usage_perc{namespace="llm",model_name=',
            'kv_cache_usage_perc{namespace="llm",pod="chat",model=',
        )
    ],
    "promql/unpinned": [('kv_cache_usage_perc{namespace="llm",', "kv_cache_usage_perc{")],
    "api/removed": [("apiVersion: policy/v1\n", "apiVersion: policy/v1beta1\n")],
    "api/duplicate-object": [
        (
            "metadata: {name: weights, namespace: llm}\nspec:",
            "metadata: {name: weights, namespace: llm}\nspec:",
        )
    ],
    "yaml/duplicate-key": [
        (
            "  progressDeadlineSeconds: 3600",
            "  progressDeadlineSeconds: 3600\n  progressDeadlineSeconds: 3600",
        )
    ],
}
# rules that one broken thing sets off together
TOGETHER = {
    "command/missing-key": {"security/no-home"},
    "command/not-a-string": {"security/no-home"},
    "devices/gke-driver-path": {"security/no-home"},
    "security/secret-in-clear": {"security/no-home"},
    "security/dev-mode": {"security/no-home"},
    "values/unknown-parser": {"values/tool-choice-without-parser"},
    "resources/host-memory-too-small": {"resources/shm-eats-memory"},
    "engine/model-too-new": {"engine/flag-too-new"},
    "scale/no-fallback": {"autoscale/unknown-field"},
    "devices/capability": {"fit/does-not-fit", "fit/context-too-long"},
    "fit/beyond-the-model": {"fit/context-too-long"},
    "weights/renamed-repo": {"weights/not-local", "weights/gated-no-token", "weights/offline-and-empty"},
    "probes/engine-gives-up": {"storage/slow-class", "probes/startup-budget"},
    "storage/slow-class": {"probes/startup-budget"},
    "storage/access-mode": {"storage/slow-class"},
    "rollout/surge-needs-gpu": {"probes/progress-deadline"},
    "network/selects-nothing": {"network/no-service"},
    "scale/target-missing": {"network/no-monitor", "scale/no-behavior", "rollout/all-at-once"},
}
OWN_TESTS = {
    "storage/no-fuse-sidecar",
    "network/pool-port",
    "security/router-rights",
    "autoscale/not-a-resource",
    "resources/milli-bytes",
    "command/low-port",
    "probes/wrong-path",
    "probes/wants-key",
    "devices/other-vendor",
    "values/connector-role",
    "api/incomplete",
    "api/unsupported-value",
    "command/flag-twice",
    "command/variable-not-expanded",
    "scheduling/one-node",
    "api/unknown-version",
    "engine/dead-variable",
    "engine/option-as-variable",
    "weights/no-such-model",
    "weights/placeholder-token",
    "engine/applications-exceed-gpus",
    "values/variable-not-text",
    "autoscale/hpa-target",
    "scale/not-a-deployment",
    "values/not-read",
    "yaml/malformed",
    "fleet/invalid",
    "weights/init-never-succeeds",
    "weights/tool-missing",
    "weights/single-file",
    "weights/wrong-place",
    "weights/not-local",
    "weights/downloaded-each-start",
    "weights/no-revision",
    "weights/gated-no-token",
    "scheduling/low-priority",
    "security/remote-code",
    "security/media-urls",
    "disruption/two-budgets",
    "scale/two-scalers",
    "scale/cpu",
    "scale/null-hidden",
    "promql/gpu-memory",
    "api/duplicate-object",
}


@pytest.mark.parametrize("rule", [r for r in MUTATIONS if r not in OWN_TESTS])
def test_one_fault_one_rule(rule: str, good: str, lint: Callable[[str], Report]) -> None:
    text = good
    for old, new in MUTATIONS[rule]:
        assert old in text, old
        text = text.replace(old, new)
    report = lint(text)
    said = {f.rule for f in report.findings}
    assert rule in said
    loud = {f.rule for f in report.findings if f.severity != "note"} - {rule}
    assert loud <= TOGETHER.get(rule, set()), [f for f in report.findings if f.rule in loud]


def test_the_good_manifest_is_silent(good: str, lint: Callable[[str], Report]) -> None:
    report = lint(good)
    assert report.findings == []
    assert report.workloads == 1


def test_every_rule_has_a_story_and_a_test() -> None:
    load_rules()
    from seawall.lint.finding import RULES

    tables = [m for file in (test_api, test_by_walk, test_refused_by_vllm) for m in file.MISTAKES.values()]
    walked = {rule for rule, _, _ in tables}
    assert set(RULES) == set(MUTATIONS) | OWN_TESTS | walked
    assert all(len(r.story) > 40 and r.cure and r.title for r in RULES.values())
    assert {r.split("/")[0] for r in RULES} - {"yaml", "spot", "fleet"} == set(FAMILIES) - {
        "files",
        "around",
        "asked",
        "hub",
        "refused",
        "words",
        "parts",
        "quota",
        "references",
        "room",
        "routes",
        "together",
        "variables",
        "names",
        "pods",
        "schema",
    }


def test_requests_of_devices_equal_their_limits(good: str, lint: Callable[[str], Report]) -> None:
    text = good.replace("requests: {nvidia.com/gpu: 4", "requests: {nvidia.com/gpu: 2")
    said = [f.message for f in lint(text).findings if f.rule == "resources/device-count"]
    assert said == [
        "2 nvidia.com/gpu requested and 4 as the limit: they must be equal, the object is refused."
    ]


@pytest.mark.parametrize(
    ("value", "wrong"), [("32,768", True), ("32k", False), ("auto", False), ("4 096", True)]
)
def test_tokens_are_a_number(value: str, wrong: bool, good: str, lint: Callable[[str], Report]) -> None:
    text = good.replace("- --max-model-len=32768", f'- "--max-model-len={value}"')
    assert ("values/wrong-value" in {f.rule for f in lint(text).findings}) == wrong

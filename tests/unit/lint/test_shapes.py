"""vLLM is found however it is written, and what is not vLLM is left alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from seawall.lint.run import Options, Report, check
from seawall.lint.source import Sources, add_text
from seawall.lint.world import Manifests

POD = """
      containers:
      - name: engine
        image: {image}
        {command}
        resources: {{limits: {{nvidia.com/gpu: 1}}}}
"""


def deployment(command: str, image: str = "vllm/vllm-openai:v0.32.0") -> str:
    pod = POD.format(image=image, command=command)
    return (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec:\n  template:\n"
        f"    metadata: {{labels: {{app: x}}}}\n    spec:{pod}"
    )


@pytest.mark.parametrize(
    ("command", "image", "entry"),
    [
        ("args: [Qwen/Qwen3-8B, --swap-space, '4']", "vllm/vllm-openai:v0.32.0", "image"),
        (
            "args: [--model, Qwen/Qwen3-8B, --swap-space=4]",
            "registry.local/mirror/vllm-openai:v0.32.0",
            "image",
        ),
        ("command: [vllm, serve, Qwen/Qwen3-8B, --swap-space, '4']", "ghcr.io/acme/llm:7", "serve"),
        (
            "command: [/opt/venv/bin/vllm, serve, Qwen/Qwen3-8B]\n        args: [--swap-space=4]",
            "acme:7",
            "serve",
        ),
        ("command: [python3, -m, vllm.entrypoints.openai.api_server, --swap-space, '4']", "acme:7", "module"),
        ('command: [sh, -c, "exec vllm serve Qwen/Qwen3-8B --swap-space 4"]', "acme:7", "serve"),
        (
            "command: [/bin/bash, -c]\n        args:\n        - |\n          set -e\n          "
            "vllm serve Qwen/Qwen3-8B \\\n"
            "            --swap-space 4 2>&1 | tee /log",
            "acme:7",
            "serve",
        ),
    ],
)
def test_however_the_command_is_written(
    command: str, image: str, entry: str, lint: Callable[[str], Report], sources: Callable[[str], Sources]
) -> None:
    text = deployment(command, image)
    world = Manifests(sources(text).objects)
    assert [w.engine.command.entry for w in world.workloads] == [entry]
    removed = [f for f in lint(text).findings if f.rule == "engine/removed-flag"]
    assert len(removed) == 1
    assert "swap-space" in text.splitlines()[removed[0].line - 1]


@pytest.mark.parametrize(
    "text",
    [
        deployment("args: [--port, '80']", "nginx:1.27"),
        deployment("args: [--static-backends, http://a]", "lmcache/lmstack-router:v1"),
        deployment("args: [--service-discovery, k8s]", "vllm/vllm-router:v0.2.0"),
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {}\n",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: vllm serve --swap-space 4}\n",
        "- just\n- a list\n",
        "services:\n  web: {image: nginx}\n",
        "",
    ],
)
def test_what_is_not_vllm_is_left_alone(text: str, lint: Callable[[str], Report]) -> None:
    report = lint(text)
    assert report.workloads == 0
    assert report.findings == []


WRAPPED = {
    "StatefulSet": "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: x}}\nspec:\n  template:\n "
    "   spec:{pod}",
    "DaemonSet": "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {{name: x}}\nspec:\n  template:\n   "
    " spec:{pod}",
    "Pod": "apiVersion: v1\nkind: Pod\nmetadata: {{name: x}}\nspec:{pod}",
    "Job": "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: x}}\nspec:\n  template:\n    spec:{pod}",
    "CronJob": "apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: x}}\nspec:\n  jobTemplate:\n "
    "  spec:\n"
    "    template:\n     spec:{pod}",
    "LeaderWorkerSet": "apiVersion: leaderworkerset.x-k8s.io/v1\nkind: LeaderWorkerSet\nmetadata: {{name: "
    "x}}\nspec:\n"
    "  leaderWorkerTemplate:\n    size: 2\n    workerTemplate:\n     spec:{pod}",
    "InferenceService": "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {{name: "
    "x}}\nspec:\n"
    "  predictor:{pod}",
    "LLMInferenceService": "apiVersion: serving.kserve.io/v1alpha1\nkind: LLMInferenceService\nmetadata: {{name: x}}\n"
    "spec:\n  template:{pod}",
    "RayCluster": "apiVersion: ray.io/v1\nkind: RayCluster\nmetadata: {{name: x}}\nspec:\n  "
    "workerGroupSpecs:\n"
    "  - template:\n     spec:{pod}",
    "RayService": "apiVersion: ray.io/v1\nkind: RayService\nmetadata: {{name: x}}\nspec:\n  "
    "rayClusterConfig:\n"
    "   headGroupSpec:\n    template:\n     spec:{pod}",
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_in_whatever_object_it_stands(kind: str, lint: Callable[[str], Report]) -> None:
    pod = POD.format(image="vllm/vllm-openai:v0.32.0", command="args: [/m, --preemption-mode, swap]")
    report = lint(WRAPPED[kind].format(pod=pod))
    assert report.workloads == 1
    assert "engine/removed-flag" in {f.rule for f in report.findings}
    one_shot = {f.rule for f in report.findings if f.rule.startswith(("probes/", "shutdown/"))}
    assert not one_shot if kind in ("Job", "CronJob") else True


def test_a_list_of_objects_is_read(good: str, lint: Callable[[str], Report]) -> None:
    text = "apiVersion: v1\nkind: List\nitems:\n- " + deployment("args: [/m, --swap-space=4]").replace(
        "\n", "\n  "
    )
    finding = next(f for f in lint(text).findings if f.rule == "engine/removed-flag")
    assert finding.path.startswith("items[0].spec.template")


def test_a_bare_pod_snippet_is_judged_by_what_it_says(lint: Callable[[str], Report]) -> None:
    text = "spec:\n  tolerations:\n  - {key: node.kubernetes.io/spot, operator: Exists}\n"
    assert [f.rule for f in lint(text).findings] == ["spot/unknown-taint"]


def test_variables_and_config_files_are_not_guessed(lint: Callable[[str], Report]) -> None:
    text = deployment("args: [$(MODEL), --tensor-parallel-size=$(TP), --config, /etc/vllm.yaml, $(EXTRA)]")
    loud = {f.rule for f in lint(text).findings if f.rule.startswith(("engine/", "fit/", "weights/"))}
    assert loud <= {"engine/no-compile-cache"}


def test_each_version_has_its_own_flags(lint: Callable[[str], Report]) -> None:
    old = deployment("args: [/m, --disable-log-requests]", "vllm/vllm-openai:v0.10.2")
    assert not {f.rule for f in lint(old).findings} & {"engine/removed-flag", "engine/unknown-flag"}


def test_two_budgets_and_two_scalers(good: str, lint: Callable[[str], Report]) -> None:
    more = good + (
        "---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: second, "
        "namespace: llm}\n"
        "spec:\n  maxUnavailable: 1\n  unhealthyPodEvictionPolicy: AlwaysAllow\n  selector: "
        "{matchLabels: {app: chat}}\n"
        "---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: "
        "cpu, namespace: llm}\n"
        "spec:\n  scaleTargetRef: {kind: Deployment, name: chat}\n  minReplicas: 2\n  "
        "maxReplicas: 4\n"
        "  behavior: {scaleDown: {stabilizationWindowSeconds: 300}}\n"
        "  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, "
        "averageUtilization: 80}}}]\n"
    )
    assert {f.rule for f in lint(more).findings} == {
        "disruption/two-budgets",
        "scale/two-scalers",
        "scale/cpu",
    }


def test_missing_data_may_not_hide_behind_a_zero(good: str, lint: Callable[[str], Report]) -> None:
    text = good.replace(
        'model_name="chat"})\n      threshold', 'model_name="chat"}) or vector(0)\n      threshold'
    )
    assert {f.rule for f in lint(text).findings} == {"scale/null-hidden"}


def test_gpu_memory_is_no_signal(good: str, lint: Callable[[str], Report]) -> None:
    text = good.replace('vllm:kv_cache_usage_perc{namespace="llm",model_name="chat"}', "DCGM_FI_DEV_FB_USED")
    assert {f.rule for f in lint(text).findings} == {"promql/gpu-memory"}


def test_hub_models_and_their_downloads(good: str, lint: Callable[[str], Report]) -> None:
    cache = "- {name: HF_HOME, value: /models}\n        - {name: HF_HUB_OFFLINE"
    hub = good.replace("/models/llama-3.1-70b-instruct", "meta-llama/Llama-3.1-70B-Instruct")
    hub = hub.replace("- {name: HF_HUB_OFFLINE", cache)
    assert not [f for f in lint(hub).findings if f.rule != "weights/no-revision"], (
        "HF_HUB_OFFLINE stands there"
    )
    online = hub.replace('- {name: HF_HUB_OFFLINE, value: "1"}\n        ', "")
    assert {f.rule for f in lint(online).findings} == {
        "weights/no-revision",
        "weights/not-local",
        "weights/gated-no-token",
        "storage/read-only-cache",
    }
    bare = online.replace("        - {name: weights, mountPath: /models, readOnly: true}\n", "")
    assert "weights/downloaded-each-start" in {f.rule for f in lint(bare).findings}
    risky = online.replace("--port=8000", "--trust-remote-code")
    assert "security/remote-code" in {f.rule for f in lint(risky).findings}


def test_an_engine_that_fetches_what_requests_name(good: str, lint: Callable[[str], Report]) -> None:
    def said(text: str) -> int:
        return sum(f.rule == "security/media-urls" for f in lint(text).findings)

    sees = good.replace("/models/llama-3.1-70b-instruct", "Qwen/Qwen2.5-VL-7B-Instruct")
    assert (said(good), said(sees)) == (0, 1)
    assert said(sees.replace("--port=8000", "--allowed-media-domains=img.example.com")) == 0
    assert said(good.replace("--port=8000", "--allowed-local-media-path=/")) == 1


def test_tools_that_an_image_does_not_have(good: str, lint: Callable[[str], Report]) -> None:
    init = (
        "      initContainers:\n      - name: load\n        image: busybox:1.37\n"
        "        resources: {limits: {cpu: 1, memory: 1Gi}}\n"
        "        command: [sh, -c, 'aria2c -x 8 https://weights.example/a']\n      containers:"
    )
    assert {f.rule for f in lint(good.replace("      containers:", init)).findings} == {
        "weights/tool-missing"
    }


def test_low_priority(good: str, lint: Callable[[str], Report]) -> None:
    text = good.replace(
        "      enableServiceLinks", "      priorityClassName: cheap\n      enableServiceLinks"
    )
    text += (
        "---\napiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: cheap}\nvalue: -100\n"
    )
    finding = next(iter(lint(text).findings))
    assert finding.rule == "scheduling/low-priority"
    assert "autoscaler" in finding.message


def test_one_object_twice(good: str, lint: Callable[[str], Report]) -> None:
    claim = next(d for d in good.split("---\n") if "PersistentVolumeClaim" in d)
    assert [f.rule for f in lint(good + "---\n" + claim).findings] == ["api/duplicate-object"]


def test_an_author_may_decide_otherwise(good: str, lint: Callable[[str], Report]) -> None:
    text = good.replace("type: Recreate", "").replace(
        "rollingUpdate: {maxSurge: 1, maxUnavailable: 0}", "type: Recreate"
    )
    assert "rollout/recreate" in {f.rule for f in lint(text).findings}
    quiet = text.replace(
        "  labels: &labels {app: chat}",
        "  annotations: {seawall.dev/lint-ignore: 'rollout/recreate'}\n  labels: &labels {app: chat}",
    )
    assert lint(quiet).findings == []


def test_overlays_of_one_object_are_one(
    good: str, sources: Callable[[str], Sources], options: Options
) -> None:
    both = sources(good)
    add_text(both, "prod.yaml", good)
    assert check(both, options).findings == []


KUBEAI = """
apiVersion: kubeai.org/v1
kind: Model
metadata: {name: small}
spec:
  url: hf://Qwen/Qwen3-8B
  engine: VLLM
  args: [--max-model-len=16384, --swap-space=4]
  resourceProfile: nvidia-gpu-l4:1
"""
STORM = """
apiVersion: orchestration.aibrix.ai/v1alpha1
kind: StormService
metadata: {name: pd}
spec:
  template:
    spec:
      roles:
      - name: decode
        template:
          metadata: {labels: {role: decode}}
          spec:
            containers:
            - name: decode
              image: vllm/vllm-openai:v0.32.0
              command: [sh, -c]
              args: ["exec vllm serve /models/x --swap-space 4"]
"""
LLM = """
apiVersion: serving.kserve.io/v1alpha1
kind: LLMInferenceService
metadata: {name: small}
spec:
  model: {uri: "hf://Qwen/Qwen3-8B"}
  template:
    containers:
    - name: main
      image: vllm/vllm-openai:latest
      resources: {limits: {nvidia.com/gpu: 1}}
"""
RAY = """
apiVersion: ray.io/v1
kind: RayService
metadata: {name: small}
spec:
  serveConfigV2: |
    applications: [{name: llm, import_path: "ray.serve.llm:build_openai_app"}]
  rayClusterConfig:
    headGroupSpec: {template: {spec: {containers: [{name: head, image: "rayproject/ray-llm:2.46.0"}]}}}
    workerGroupSpecs:
    - template:
        spec:
          containers:
          - {name: worker, image: "rayproject/ray-llm:2.46.0", resources: {limits: {nvidia.com/gpu: 1}}}
"""


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (KUBEAI, "engine/removed-flag"),
        (STORM, "engine/removed-flag"),
        (LLM, "engine/image-not-pinned"),
        (RAY, "security/privileges"),
    ],
)
def test_servers_that_a_controller_starts(text: str, finding: str, lint: Callable[[str], Report]) -> None:
    report = lint(text)
    assert report.workloads == 1
    assert finding in {f.rule for f in report.findings}


@pytest.mark.parametrize("text", [KUBEAI, STORM, LLM])
def test_what_a_controller_adds_is_not_missed(text: str, lint: Callable[[str], Report]) -> None:
    absent = (
        "probes/no-",
        "shutdown/no-",
        "security/root",
        "security/privileges",
        "network/no-",
        "scheduling/no-",
    )
    assert [f.rule for f in lint(text).findings if f.rule.startswith(absent)] == []


def test_a_version_that_is_not_vllms_own_says_nothing_of_flags(lint: Callable[[str], Report]) -> None:
    """llm-d counts its own releases: its v0.3.0 is not vLLM 0.3."""
    report = lint(deployment("command: [vllm, serve, Qwen/Qwen3-8B]", "ghcr.io/llm-d/llm-d-cuda:v0.3.0"))
    assert "shutdown/aborts-streams" in {f.rule for f in report.findings}


@pytest.mark.parametrize(("threshold", "expected"), [(30, ["warning"]), (60, [])])
def test_a_download_needs_time_to_spare(
    threshold: int, expected: list[str], lint: Callable[[str], Report]
) -> None:
    """16 GB from the hub: 150 s would do on a good day, and people's Pods were killed over and over with it."""
    text = f"""
apiVersion: v1
kind: Pod
metadata: {{name: ds}}
spec:
  containers:
  - name: vllm
    image: vllm/vllm-openai:v0.7.1
    command: [python3, -m, vllm.entrypoints.openai.api_server, --model, Qwen/Qwen3-8B]
    resources: {{limits: {{nvidia.com/gpu: 1}}}}
    startupProbe: {{httpGet: {{path: /health, port: 8000}}, failureThreshold: {threshold}, periodSeconds: 5}}
"""
    assert [f.severity for f in lint(text).findings if f.rule == "probes/startup-budget"] == expected

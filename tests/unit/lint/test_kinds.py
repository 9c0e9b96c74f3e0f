"""Kinds that start vLLM from YAML of their own are read: model, flags, GPUs, and the Pods of a group."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from seawall.lint.objects import Workload
from seawall.lint.run import Report
from seawall.lint.source import Sources, add_text
from seawall.lint.world import Manifests

KSERVE = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: chat}
spec:
  predictor:
    model:
      modelFormat: {name: vLLM}
      storageUri: hf://Qwen/Qwen3-8B
      args: [--tensor-parallel-size=4, --swap-space=4]
      resources: {limits: {nvidia.com/gpu: 2}}
"""
LLM = """
apiVersion: serving.kserve.io/v1alpha1
kind: LLMInferenceService
metadata: {name: chat}
spec:
  model: {uri: "hf://Qwen/Qwen3-8B"}
  parallelism: {tensor: 4}
  template:
    containers:
    - name: main
      env:
      - name: VLLM_ADDITIONAL_ARGS
        value: "--swap-space 4 --kv_transfer_config '{\\"kv_role\\":\\"kv_both\\"}'"
      resources: {limits: {nvidia.com/gpu: "2"}}
"""
RAY = """
apiVersion: ray.io/v1
kind: RayService
metadata: {name: chat}
spec:
  serveConfigV2: |
    applications:
    - name: llm
      import_path: ray.serve.llm:build_openai_app
      args:
        llm_configs:
        - model_loading_config: {model_id: chat, model_source: Qwen/Qwen3-8B}
          accelerator_type: L4
          engine_kwargs:
            tensor_parallel_size: 4
            swap_space: 4
  rayClusterConfig:
    headGroupSpec: {template: {spec: {containers: [{name: head, image: "rayproject/ray-llm:2.46.0"}]}}}
    workerGroupSpecs:
    - replicas: 1
      maxReplicas: 2
      template:
        spec:
          containers:
          - {name: worker, image: "rayproject/ray-llm:2.46.0", resources: {limits: {nvidia.com/gpu: 1}}}
"""
DYNAMO_ALPHA = """
apiVersion: nvidia.com/v1alpha1
kind: DynamoGraphDeployment
metadata: {name: chat}
spec:
  services:
    Frontend:
      componentType: frontend
      extraPodSpec: {mainContainer: {image: "nvcr.io/nvidia/ai-dynamo/vllm-runtime:0.7.0"}}
    decode:
      componentType: worker
      multinode: {nodeCount: 2}
      resources: {limits: {gpu: "1"}}
      extraPodSpec:
        mainContainer:
          image: nvcr.io/nvidia/ai-dynamo/vllm-runtime:0.7.0
          command: [python3, -m, dynamo.vllm]
          args: [--model, Qwen/Qwen3-8B, --is-prefill-worker, --tensor-parallel-size, "4", --swap-space, "4"]
"""
DYNAMO_BETA = """
apiVersion: nvidia.com/v1beta1
kind: DynamoGraphDeployment
metadata: {name: chat}
spec:
  components:
  - name: worker
    type: worker
    podTemplate:
      spec:
        containers:
        - name: main
          image: nvcr.io/nvidia/ai-dynamo/vllm-runtime:1.3.1
          command: [/bin/sh, -c]
          args:
          - |
            exec python3 -m dynamo.vllm --model Qwen/Qwen3-8B \\
              --dyn-tool-call-parser hermes --tensor-parallel-size 4 --swap-space 4
          resources: {limits: {nvidia.com/gpu: "2"}}
"""
KUBEAI = """
apiVersion: kubeai.org/v1
kind: Model
metadata: {name: chat}
spec:
  url: hf://Qwen/Qwen3-8B
  engine: VLLM
  args: [--tensor-parallel-size=4, --swap-space=4]
  env: {VLLM_USE_V1: "1"}
  resourceProfile: nvidia-gpu-l4:2
"""
BOOSTER = """
apiVersion: workload.serving.volcano.sh/v1alpha1
kind: ModelBooster
metadata: {name: chat}
spec:
  backend:
    name: chat
    type: vLLM
    modelURI: hf://Qwen/Qwen3-8B
    workers:
    - type: server
      image: ghcr.io/volcano-sh/vllm-openai:v0.20.0-cu128-nixl-v0.4.1-lmcache-0.3.2
      resources: {limits: {nvidia.com/gpu: "2"}}
      config: {tensor-parallel-size: 4, swap-space: 4}
"""
SERVING = """
apiVersion: workload.serving.volcano.sh/v1alpha1
kind: ModelServing
metadata: {name: chat}
spec:
  template:
    roles:
    - name: chat
      workerReplicas: 1
      entryTemplate:
        spec:
          containers:
          - name: leader
            image: vllm/vllm-openai:v0.20.0
            command: [sh, -c, "vllm serve Qwen/Qwen3-8B --tensor-parallel-size 4 --swap-space 4"]
            resources: {limits: {nvidia.com/gpu: "1"}}
      workerTemplate:
        spec:
          containers:
          - {name: worker, image: "vllm/vllm-openai:v0.20.0", command: [sh, -c, ray start],
             resources: {limits: {nvidia.com/gpu: "1"}}}
"""
LWS = """
apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
metadata: {name: chat}
spec:
  leaderWorkerTemplate:
    size: 2
    leaderTemplate:
      spec:
        containers:
        - name: leader
          image: vllm/vllm-openai:v0.20.0
          command: [sh, -c, "serve.sh leader; vllm serve Qwen/Qwen3-8B --tensor-parallel-size 4 --swap-space 4"]
          resources: {limits: {nvidia.com/gpu: "1"}}
    workerTemplate:
      spec:
        containers:
        - {name: worker, image: "vllm/vllm-openai:v0.20.0", command: [sh, -c, multi-node-serving.sh worker],
           resources: {limits: {nvidia.com/gpu: "1"}}}
"""
FLEET = """
apiVersion: orchestration.aibrix.ai/v1alpha1
kind: RayClusterFleet
metadata: {name: chat}
spec:
  template:
    spec:
      headGroupSpec:
        template:
          spec:
            containers:
            - name: head
              image: vllm/vllm-openai:v0.20.0
              command: [bash, -c]
              args: ["ray start --head & vllm serve Qwen/Qwen3-8B --tensor-parallel-size 4 --swap-space 4"]
              resources: {limits: {nvidia.com/gpu: 1}}
      workerGroupSpecs:
      - replicas: 1
        template:
          spec:
            containers:
            - {name: worker, image: "vllm/vllm-openai:v0.20.0", command: [bash, -c, ray start],
               resources: {limits: {nvidia.com/gpu: 1}}}
"""
RUNTIME = """
apiVersion: production-stack.vllm.ai/v1alpha1
kind: VLLMRuntime
metadata: {name: chat}
spec:
  model: {modelURL: Qwen/Qwen3-8B}
  vllmConfig: {tensorParallelSize: 4, extraArgs: [--swap-space=4]}
  deploymentConfig: {resources: {gpu: "2"}}
"""
ALL = {
    "InferenceService": KSERVE,
    "LLMInferenceService": LLM,
    "RayService": RAY,
    "DynamoGraphDeployment v1alpha1": DYNAMO_ALPHA,
    "DynamoGraphDeployment v1beta1": DYNAMO_BETA,
    "KubeAI Model": KUBEAI,
    "ModelBooster": BOOSTER,
    "ModelServing": SERVING,
    "LeaderWorkerSet": LWS,
    "RayClusterFleet": FLEET,
    "VLLMRuntime": RUNTIME,
}


def workloads(text: str) -> list[Workload]:
    sources = Sources()
    add_text(sources, "manifest.yaml", text)
    return Manifests(sources.objects).workloads


@pytest.mark.parametrize("kind", ALL)
def test_model_flags_and_gpus_are_read(kind: str, lint: Callable[[str], Report]) -> None:
    text = ALL[kind]
    (found,) = workloads(text)
    assert found.engine.model == "Qwen/Qwen3-8B"
    assert found.engine.tensor_parallel == 4
    said = {f.rule: f for f in lint(text).findings}
    assert "4 ranks" in said["engine/parallel-exceeds-gpus"].message
    swap = said["engine/removed-flag"]
    line = text.splitlines()[swap.line - 1]
    assert "swap" in line or "VLLM_ADDITIONAL" in text, line
    own_command = kind in ("ModelServing", "LeaderWorkerSet", "RayClusterFleet")
    assert swap.severity == ("error" if own_command else "warning"), "certain of a pinned `vllm serve` only"


@pytest.mark.parametrize("kind", ALL)
def test_a_group_with_enough_gpus_is_left_alone(kind: str, lint: Callable[[str], Report]) -> None:
    text = ALL[kind]
    for old, new in (
        ('nvidia.com/gpu: "1"', 'nvidia.com/gpu: "2"'),
        ('nvidia.com/gpu: "2"', 'nvidia.com/gpu: "2"'),
        ("nvidia.com/gpu: 1}", "nvidia.com/gpu: 2}"),
        ('gpu: "1"', 'gpu: "2"'),
    ):
        text = text.replace(old, new)
    if kind not in (
        "RayService",
        "DynamoGraphDeployment v1alpha1",
        "ModelServing",
        "LeaderWorkerSet",
        "RayClusterFleet",
    ):
        text = text.replace("size: 4", "size: 2").replace("size=4", "size=2").replace("size 4", "size 2")
        text = text.replace("tensor: 4", "tensor: 2").replace("Size: 4", "Size: 2")
    assert "engine/parallel-exceeds-gpus" not in {f.rule for f in lint(text).findings}


def test_what_another_engine_serves_is_left_alone() -> None:
    assert not workloads(KSERVE.replace("vLLM", "sklearn"))
    assert not workloads(DYNAMO_BETA.replace("dynamo.vllm", "dynamo.sglang"))
    assert not workloads(KUBEAI.replace("engine: VLLM", "engine: OLlama"))
    assert not workloads(BOOSTER.replace("type: vLLM", "type: SGLang"))


def test_a_sidecar_that_names_vllm_is_no_engine() -> None:
    head = "            - name: head\n"
    side = "            - {name: side, image: aibrix/runtime:1, command: [runtime], args: [--engine, vllm, serve]}\n"
    assert [[c.name for c in w.engines] for w in workloads(FLEET.replace(head, side + head))] == [["head"]]


def test_kaito_reads_the_machine_size(lint: Callable[[str], Report]) -> None:
    text = """
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: big}
resource: {instanceType: Standard_NC24ads_A100_v4}
inference: {preset: {name: meta-llama/Llama-3.1-70B-Instruct}}
"""
    (found,) = workloads(text)
    assert (found.engine.given.gpu_name, found.engine.given.gpus) == ("A100-80GB", 1)
    assert "fit/does-not-fit" in {f.rule for f in lint(text).findings}


def test_kaitos_config_map_is_read(lint: Callable[[str], Report]) -> None:
    text = (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  inference_config.yaml: |\n"
        "    vllm:\n      swap-space: 4\n      gpu-memory-utilization: 95\n"
    )
    found = {f.rule: f.line for f in lint(text).findings}
    assert found == {"engine/removed-flag": 7, "values/wrong-value": 8}


PATCH = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: decode}
spec:
  replicas: 4
  template:
    spec:
      containers:
      - name: modelserver
        command: [vllm, serve]
        args: [org/model, --tensor-parallel-size=4, --swap-space=4]
        resources: {limits: {nvidia.com/gpu: "4"}}
"""


def test_a_patch_is_judged_by_what_it_says_only(lint: Callable[[str], Report]) -> None:
    """Kustomize lays it over an object that has the selector, the labels, the image and the rest."""
    assert {f.rule for f in lint(PATCH).findings} == {"engine/removed-flag"}


def test_two_cores_of_a_tpu_chip_are_two_devices(lint: Callable[[str], Report]) -> None:
    text = (
        PATCH.replace("nvidia.com/gpu", "google.com/tpu")
        .replace("size=4", "size=8")
        .replace(", --swap-space=4", "")
    )
    assert lint(text).findings == []
    assert "engine/parallel-exceeds-gpus" in {
        f.rule for f in lint(text.replace("size=8", "size=16")).findings
    }


def test_an_explicit_port_outweighs_the_services(lint: Callable[[str], Report]) -> None:
    service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: vllm}\nspec: {selector: {app: x}}\n"
    whole = PATCH.replace(
        "  template:\n",
        "  selector: {matchLabels: {app: x}}\n  template:\n    metadata: {labels: {app: x}}\n",
    )

    def severity(text: str) -> str:
        return next(f.severity for f in lint(text).findings if f.rule == "network/service-links")

    assert severity(whole + service) == "error"
    by_hand = whole.replace(
        "        resources", '        env: [{name: VLLM_PORT, value: "29500"}]\n        resources'
    )
    assert "network/service-links" not in {f.rule for f in lint(by_hand + service).findings}


def test_the_fields_of_a_vllm_runtime_are_flags(lint: Callable[[str], Report]) -> None:
    text = """
apiVersion: production-stack.vllm.ai/v1alpha1
kind: VLLMRuntime
metadata: {name: chat}
spec:
  model: {modelURL: Qwen/Qwen3-8B, enableTool: true, toolCallParser: "", maxModelLen: 131072, maxNumSeqs: 0}
  vllmConfig: {tensorParallelSize: 1, gpuMemoryUtilization: "1.4", v1: true}
  deploymentConfig:
    image: {registry: docker.io, name: "vllm/vllm-openai:v0.10.2"}
    resources: {gpu: "1", gpuType: nvidia.com/gpu}
"""
    (found,) = workloads(text)
    assert found.engine.version == (0, 10)
    assert found.engine.command.integer("--max-model-len") == 131072
    assert found.engine.command.option("--max-num-seqs") is None, "zero is left out"
    said = {f.rule for f in lint(text).findings}
    assert {"values/tool-choice-without-parser", "values/wrong-value", "fit/beyond-the-model"} <= said, said
    assert "values/switch-with-value" not in said


@pytest.mark.parametrize(
    ("port", "args", "where"),
    [
        ("", "", "8080, as the container names no port"),
        ("ports: [{containerPort: 8080}]", "", "8080; vLLM listens on 8000"),
        ("ports: [{containerPort: 8000}]", "", ""),
        ("", ", --port=8080", ""),
        ("", ", --port=$(PORT)", ""),
    ],
)
def test_kserve_asks_the_containers_first_port(
    port: str, args: str, where: str, lint: Callable[[str], Report]
) -> None:
    text = f"""
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {{name: judge}}
spec:
  predictor:
    containers:
    - name: kserve-container
      image: vllm/vllm-openai:v0.18.2
      args: [--model=Qwen/Qwen3-8B{args}]
      {port}
      resources: {{limits: {{nvidia.com/gpu: 1}}}}
"""
    said = [f.message for f in lint(text).findings if f.rule == "network/port-nowhere"]
    assert bool(said) == bool(where)
    assert where in "".join(said)


def test_kserve_hands_no_pipeline_to_a_single_pod(lint: Callable[[str], Report]) -> None:
    text = LLM.replace("{tensor: 4}", "{tensor: 2, pipeline: 2}")
    assert "engine/parallel-exceeds-gpus" not in {f.rule for f in lint(text).findings}
    idle = lint(text.replace('gpu: "2"', 'gpu: "4"')).findings
    (found,) = [f for f in idle if f.rule == "engine/parallel-exceeds-gpus"]
    assert found.severity == "warning"
    assert "4 GPUs and vLLM uses 2" in found.message


def _ray(apps: str, gpus: int = 1, workers: int = 2) -> str:
    return f"""
apiVersion: ray.io/v1
kind: RayService
metadata: {{name: chat}}
spec:
  serveConfigV2: |
    applications:
{apps}
  rayClusterConfig:
    headGroupSpec: {{template: {{spec: {{containers: [{{name: head, image: "rayproject/ray-llm:2.52.0"}}]}}}}}}
    workerGroupSpecs:
    - replicas: {workers}
      template:
        spec:
          containers:
          - {{name: worker, image: "rayproject/ray-llm:2.52.0", resources: {{limits: {{nvidia.com/gpu: {gpus}}}}}}}
"""


def _app(name: str, config: str, more: str = "{}") -> str:
    return (
        f"    - name: {name}\n      import_path: ray.serve.llm:build_openai_app\n      runtime_env: {more}\n"
        f"      args: {{llm_configs: [{{model_loading_config: {{model_id: Qwen/Qwen3-4B}}, {config}}}]}}"
    )


@pytest.mark.parametrize(
    ("config", "more", "said"),
    [
        ("runtime_env: {env_vars: {VLLM_SERVER_DEV_MODE: '1'}}", "{}", {"security/dev-mode"}),
        ("engine_kwargs: {}", "{env_vars: {VLLM_SERVER_DEV_MODE: '1'}}", {"security/dev-mode"}),
        # The model's own variables win over the application's.
        (
            "runtime_env: {env_vars: {VLLM_SERVER_DEV_MODE: '0'}}",
            "{env_vars: {VLLM_SERVER_DEV_MODE: '1'}}",
            set(),
        ),
        (
            "engine_kwargs: {}",
            "{env_vars: {API_KEY: hf_AbCdEfGhIjKlMnOpQrStUvWx}}",
            {"security/secret-in-clear"},
        ),
        ("engine_kwargs: {}", "{env_vars: {VLLM_USE_V1: 1}}", {"values/variable-not-text"}),
        ("engine_kwargs: {max_model_len: 65536}", "{}", {"fit/beyond-the-model"}),
        ("engine_kwargs: {max_model_len: 65536}", "{env_vars: {VLLM_ALLOW_LONG_MAX_MODEL_LEN: '1'}}", set()),
    ],
)
def test_variables_of_rays_runtime_env_reach_the_engine(
    lint: Callable[[str], Report], config: str, more: str, said: set[str]
) -> None:
    found = lint(_ray(_app("a", config, more)))
    assert {f.rule for f in found.findings if f.severity == "error"} == said


@pytest.mark.parametrize(
    ("first", "second", "enough"),
    [
        ("engine_kwargs: {}", "engine_kwargs: {}", True),
        ("engine_kwargs: {tensor_parallel_size: 2}", "engine_kwargs: {}", False),
        ("deployment_config: {num_replicas: 2}", "engine_kwargs: {}", False),
        (
            "deployment_config: {autoscaling_config: {min_replicas: 0}}",
            "engine_kwargs: {tensor_parallel_size: 2}",
            True,
        ),
    ],
)
def test_applications_of_one_ray_service_share_its_gpus(
    lint: Callable[[str], Report], first: str, second: str, enough: bool
) -> None:
    found = lint(_ray(_app("a", first) + "\n" + _app("b", second)))
    assert ("engine/applications-exceed-gpus" in {f.rule for f in found.findings}) is not enough


def test_what_a_config_map_sets_is_set(lint: Callable[[str], Report]) -> None:
    found = lint("""
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {VLLM_SERVER_DEV_MODE: "1", MODEL: Qwen/Qwen3-4B}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
      - name: vllm
        image: vllm/vllm-openai:v0.17.0
        command: [sh, -c, "vllm serve $MODEL --max-model-len 65536"]
        envFrom: [{configMapRef: {name: settings}}]
""")
    assert {"security/dev-mode", "fit/beyond-the-model"} <= {f.rule for f in found.findings}

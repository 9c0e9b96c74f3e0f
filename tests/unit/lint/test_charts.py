"""production-stack's values, which most people review instead of what `helm template` makes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from seawall.lint.run import Options, Report
from seawall.lint.source import Sources
from seawall.lint.world import Manifests

HEAD = "servingEngineSpec:\n  modelSpec:\n  - name: m\n    repository: vllm/vllm-openai\n"
Lint = Callable[[str], Report]


def said(report: Report) -> dict[str, str]:
    return {f.rule: f.message for f in report.findings if f.severity != "note"}


def test_what_the_chart_hands_to_vllm_is_read(sources: Callable[[str], Sources]) -> None:
    text = (
        HEAD + "    tag: v0.19.0\n    modelURL: Qwen/Qwen3-8B\n    requestGPU: 4\n    enableTool: true\n"
        "    toolCallParser: hermes\n    vllmConfig:\n      maxModelLen: 8192\n      gpuMemoryUtilization: 0.8\n"
        "      tensorParallelSize: 4\n      extraArgs: [--kv-cache-dtype, fp8]\n"
    )
    world = Manifests(sources(text).objects)
    engine = world.workloads[0].engine
    assert engine.model == "Qwen/Qwen3-8B"
    assert (engine.version, engine.pinned, engine.tensor_parallel, engine.gpus[0]) == ((0, 19), True, 4, 4)
    command = engine.command
    assert command.integer("--max-model-len") == 8192
    assert command.option("--enable-auto-tool-choice") is not None
    assert command.value("--tool-call-parser") == "hermes"
    assert command.value("--kv-cache-dtype") == "fp8"


@pytest.mark.parametrize(
    ("more", "rule", "words"),
    [
        (
            "    requestGPU: 1\n    vllmConfig: {tensorParallelSize: 2}\n",
            "engine/parallel-exceeds-gpus",
            "2 ranks",
        ),
        (
            '    requestGPU: 1\n    vllmConfig: {extraArgs: ["--disable-log-requests"]}\n',
            "engine/removed-flag",
            "removed in vLLM 0.17",
        ),
        (
            "    requestGPU: 1\n    maxModelLen: 8192\n",
            "values/not-read",
            "the chart reads maxModelLen under vllmConfig only",
        ),
        (
            "    requestGPU: 1\n    vllmConfig: {swap_space: 4}\n",
            "values/not-read",
            "the chart knows no vllmConfig.swap_space",
        ),
        (
            "    requestGPU: 1\n    toolCallParser: hermess\n    enableTool: true\n",
            "values/unknown-parser",
            "hermess",
        ),
        (
            "    requestGPU: 1\n    lmcacheConfig: {enabled: true, hf_token: abc}\n",
            "values/not-read",
            "hf_token beside lmcacheConfig",
        ),
        (
            "    requestGPU: 1\n    vllmConfig: {hf_token: abc}\n",
            "values/not-read",
            "hf_token beside vllmConfig",
        ),
        ("    requestGPU: 1\n  routerSpec: {replicaCount: 1}\n", "values/not-read", "routerSpec beside"),
        (
            "    requestGPU: 1\n  cacheserverSpec: {replicaCount: 1}\n",
            "values/not-read",
            "cacheserverSpec beside",
        ),
        ("    requestGPU: 0\n", "engine/no-gpu", "the image is for GPUs"),
    ],
)
def test_wrong_values(more: str, rule: str, words: str, lint: Lint) -> None:
    report = lint(HEAD + "    tag: v0.19.0\n    modelURL: example/m\n" + more)
    found = said(report)
    assert words in found[rule]
    assert set(found) == {rule}


def test_where_it_stands_is_where_it_is_written(lint: Lint) -> None:
    text = (
        HEAD
        + "    tag: v0.19.0\n    modelURL: example/m\n    requestGPU: 1\n    vllmConfig:\n      swap_space: 4\n"
    )
    (finding,) = (f for f in lint(text).findings if f.rule == "values/not-read")
    assert "swap_space" in text.splitlines()[finding.line - 1]


def test_what_the_templates_add_is_not_missed(lint: Lint) -> None:
    """Probes, hooks, securityContext and the Service come from the chart: their absence in the values says nothing."""
    report = lint(HEAD + "    tag: v0.19.0\n    modelURL: example/m\n    requestGPU: 1\n")
    assert report.workloads == 1
    assert report.findings == []


def test_pipeline_stages_stand_on_nodes_of_their_own(lint: Lint) -> None:
    report = lint(
        HEAD
        + "    tag: v0.19.0\n    modelURL: example/m\n    requestGPU: 2\n    raySpec: {headNode: {requestCPU: 2}}\n"
        "    vllmConfig: {tensorParallelSize: 2, pipelineParallelSize: 2}\n"
    )
    assert said(report) == {}


@pytest.mark.parametrize(
    "text",
    [
        "servingEngineSpec: {enableEngine: false, modelSpec: []}\nrouterSpec: {tag: v1}\n",
        "servingEngineSpec:\n  modelSpec:\n  - {name: remote, modelURL: x}\n",
        "replicaCount: 1\nimage: {repository: vllm/vllm-openai, tag: v0.8.0}\n",
        "engines:\n- servingEngineSpec: {modelSpec: []}\n",
    ],
)
def test_other_values_are_left_alone(text: str, lint: Lint) -> None:
    report = lint(text)
    assert report.workloads == 0
    assert report.findings == []


def test_values_and_manifests_in_one_folder(good: str, tmp_path: Path, options: Options) -> None:
    from seawall.lint.run import lint as lint_files

    (tmp_path / "values.yaml").write_text(
        HEAD + "    tag: v0.19.0\n    requestGPU: 1\n    modelURL: example/m\n"
    )
    (tmp_path / "good.yaml").write_text(good)
    report = lint_files([str(tmp_path)], options)
    assert report.workloads == 2
    assert report.findings == []


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        (
            "",
            "judge",
            "InferenceService/judge is no Deployment: KServe's is judge-predictor, and nothing is scaled.",
        ),
        (", kind: Deployment", "judge", "KServe's is judge-predictor"),
        (", kind: InferenceService", "judge", "an InferenceService has no scale subresource"),
        ("", "judge-predictor", None),
        (", kind: Deployment", "judge-predictor-00001-deployment", None),
    ],
)
def test_a_scaler_of_kserves(kind: str, name: str, words: str | None, lint: Lint) -> None:
    text = (
        "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {name: judge}\nspec:\n  predictor:\n"
        "    model: {modelFormat: {name: vLLM}, storageUri: pvc://m/judge, resources: {limits: {nvidia.com/gpu: 1}}}\n"
        "---\napiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {name: judge}\nspec:\n"
        f"  scaleTargetRef: {{name: {name}{kind}}}\n  maxReplicaCount: 2\n"
    )
    found = [f.message for f in lint(text).findings if f.rule == "scale/not-a-deployment"]
    assert len(found) == (words is not None)
    assert words is None or words in found[0]


def test_a_deployment_beside_of_that_name_is_what_is_scaled(lint: Lint) -> None:
    text = (
        "apiVersion: serving.kserve.io/v1alpha1\nkind: LLMInferenceService\nmetadata: {name: a}\nspec: {model: {uri: hf://x/y}}\n"
        "---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: a}\n"
        "spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: a}, maxReplicas: 3}\n"
    )
    rule = "scale/not-a-deployment"
    assert [f.message for f in lint(text).findings if f.rule == rule] == [
        "LLMInferenceService/a is no Deployment: KServe's is a-kserve, and nothing is scaled."
    ]
    beside = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {}\n"
    assert not [f for f in lint(text + beside).findings if f.rule == rule]


def test_an_image_for_cpus_needs_no_gpu(lint: Lint) -> None:
    text = HEAD.replace("vllm/vllm-openai", "public.ecr.aws/q9t5s3a7/vllm-cpu-release-repo")
    assert lint(text + "    tag: v0.8.5\n    modelURL: example/m\n    requestGPU: 0\n").findings == []

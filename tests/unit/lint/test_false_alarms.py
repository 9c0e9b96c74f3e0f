"""What was a false alarm on somebody's manifest, and what stands beside it and is none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from seawall.lint.run import Options, Report, lint_text

Lint = Callable[[str], Report]

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: x, namespace: lab}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: x}}}}
  template:
    metadata: {{labels: {{app: x}}, annotations: {{{annotations}}}}}
    spec:
      nodeSelector: {{{nodes}}}
      containers:
      - name: engine
        image: {image}
        {command}
        args: [{args}]
        env: [{env}]
        ports: [{{containerPort: 8000}}]
        {probes}
        resources: {{limits: {{{limits}}}}}
        volumeMounts: [{mounts}]
      volumes: [{volumes}]
"""
BESIDE = """\
---
apiVersion: v1
kind: Service
metadata: {{name: x, namespace: lab}}
spec: {{selector: {{app: x}}, ports: [{port}]}}
"""
BIG = {"args": "--model=deepseek-ai/DeepSeek-R1, --tensor-parallel-size=8", "limits": "nvidia.com/gpu: 8"}
AMD = {"limits": "amd.com/gpu: 1", "image": "rocm/vllm:rocm6.4_vllm_0.10.1"}
RAY = {"image": "rayproject/ray-llm:2.52.0-py311-cu128", "command": "command: [vllm, serve, m]"}


def deployment(**changes: str) -> str:
    usual = {
        "replicas": "1", "annotations": "", "nodes": "", "image": "vllm/vllm-openai:v0.32.0", "command": "",
        "args": "--model=example/m", "env": "", "probes": "readinessProbe: {httpGet: {path: /health, port: 8000}}",
        "limits": "nvidia.com/gpu: 1", "mounts": "", "volumes": "",
    }  # fmt: skip
    return DEPLOYMENT.format(**(usual | changes))


def said(report: Report, rule: str) -> list[str]:
    return [f.severity for f in report.findings if f.rule == rule]


ENV = "{name: MODEL_ID, value: Qwen/Qwen2.5-72B-Instruct}"


@pytest.mark.parametrize(
    ("rule", "quiet", "loud"),
    [
        # an image of a day before the flag went; the same flag in a later one
        (
            "engine/removed-flag",
            {"image": "acme/vllm:20250312_0916", "args": "--model=m, --swap-space=4"},
            {"image": "vllm/vllm-openai:v0.19.0", "args": "--model=m, --swap-space=4"},
        ),
        # the demonstration has no metrics to lose
        (
            "engine/no-stats",
            {"command": "command: [python3, -m, vllm.entrypoints.api_server]", "args": "--disable-log-stats"},
            {"args": "--model=m, --disable-log-stats"},
        ),
        # a node without GPUs is meant
        (
            "engine/no-gpu",
            {"nodes": "kubernetes.io/arch: arm64, eks.amazonaws.com/nodegroup: graviton", "limits": "cpu: 32"},
            {"limits": "cpu: 32"},
        ),
        # a Service set VLLM_PORT, and the author sets it back
        (
            "network/service-links",
            {"env": '{name: VLLM_PORT, value: "8000"}'},
            {},
        ),
        # without a readiness probe the rollout is complete at once, however long the model loads
        (
            "probes/progress-deadline",
            BIG | {"probes": ""},
            BIG,
        ),
        # the kubelet puts the container's own env into the arguments
        (
            "weights/downloaded-each-start",
            {"args": "--model=$(MODEL_ID)"},
            {"args": "--model=$(MODEL_ID)", "env": ENV},
        ),
        (
            "weights/downloaded-each-start",
            {"args": "--model=$$(MODEL_ID)", "env": ENV},
            {"args": "--model=$(MODEL_ID)", "env": ENV},
        ),
        # a volume that keeps the template; a chat template of nowhere
        (
            "storage/file-not-mounted",
            {
                "args": "--model=m, --chat-template=/etc/templates/t.jinja",
                "mounts": "{name: t, mountPath: /etc/templates}",
                "volumes": "{name: t, configMap: {name: t}}",
            },
            {"args": "--model=m, --chat-template=/templates/t.jinja"},
        ),
        (
            "storage/file-not-mounted",
            {"args": "--model=m, --chat-template=/vllm-workspace/examples/tool_chat_template_hermes.jinja"},
            {"args": "--model=m, --chat-template=/templates/t.jinja"},
        ),
        (
            "storage/file-not-mounted",
            {"args": "--model=m, --chat-template=chatml"},
            {"args": "--model=m, --ssl-keyfile=/tls/k"},
        ),
        # families of models, and the version that first knew them
        (
            "engine/model-too-new",
            {"image": "vllm/vllm-openai:v0.11.0", "args": "--model=Qwen/Qwen3-8B"},
            {"image": "vllm/vllm-openai:v0.8.5", "args": "--model=openai/gpt-oss-20b"},
        ),
        (
            "engine/model-too-new",
            {"image": "vllm/vllm-openai:latest", "args": "--model=google/gemma-4-31B-it"},
            {"image": "vllm/vllm-openai:v0.11.0", "args": "--model=google/gemma-4-31B-it"},
        ),
        # a model by its position, in the environment of another program, and not at all
        ("engine/no-model", {"args": "example/m"}, {"args": "--port=8000", "env": "{name: MODEL_NAME, value: m}"}),
        ("engine/no-model", {"image": "acme/own-server:1", "args": ""}, {"args": "--port=8000"}),
        # fewer bytes than 80 % of the GPU's memory: what is left is an estimate
        (
            "fit/does-not-fit",
            {"args": "--model=Qwen/Qwen2.5-32B-Instruct", "nodes": "nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3"},
            {"args": "--model=Qwen/Qwen2.5-72B-Instruct", "nodes": "nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3"},
        ),
        (
            "fit/does-not-fit",
            AMD | {"args": "--model=Qwen/Qwen2.5-72B-Instruct"},
            {"args": "--model=Qwen/Qwen2.5-72B-Instruct"},
        ),
        # images that are known not to run as root
        ("security/root", RAY, {}),
    ],
)  # fmt: skip
def test_quiet_here_and_loud_there(
    rule: str, quiet: dict[str, str], loud: dict[str, str], lint: Lint
) -> None:
    assert said(lint(deployment(**quiet)), rule) == []
    assert said(lint(deployment(**loud)), rule) != []


@pytest.mark.parametrize(
    ("port", "annotations", "severity"),
    [
        ("{port: 80, targetPort: 8000}", "", ["note"]),
        ("{name: http, port: 80, targetPort: 8000}", "", []),
        ("{port: 80, targetPort: 8000}", 'prometheus.io/scrape: "true", prometheus.io/port: "8000"', []),
    ],
)
def test_a_port_without_a_name(port: str, annotations: str, severity: list[str], lint: Lint) -> None:
    text = deployment(annotations=annotations) + BESIDE.format(port=port)
    assert said(lint(text), "network/unnamed-port") == severity


@pytest.mark.parametrize(("gpus", "size", "errors"), [(1, 2, 0), (2, 2, 1), (8, 1, 1)])
def test_shared_memory_is_for_ranks_of_one_pod(gpus: int, size: int, errors: int, lint: Lint) -> None:
    text = (
        "apiVersion: leaderworkerset.x-k8s.io/v1\nkind: LeaderWorkerSet\nmetadata: {name: x}\nspec:\n"
        f"  leaderWorkerTemplate:\n    size: {size}\n    workerTemplate:\n      spec:\n        containers:\n"
        "        - name: engine\n          image: vllm/vllm-openai:v0.32.0\n"
        f"          args: [--model=m, --tensor-parallel-size={gpus * size}]\n"
        f"          resources: {{limits: {{nvidia.com/gpu: {gpus}}}}}\n"
    )
    assert said(lint(text), "engine/no-shm") == ["error"] * errors


@pytest.mark.parametrize(
    ("query", "severity"),
    [
        ('sum(vllm:num_requests_waiting{namespace="lab",model_name="m"})', []),
        ('sum(vllm:num_requests_waiting{namespace="lab",pod=~"x-.*"})', []),
        ('sum(vllm:num_requests_waiting{job="x"})', ["note"]),
        ('sum(vllm:num_requests_waiting{namespace="lab"})', ["warning"]),
        ("sum(vllm:num_requests_waiting)", ["warning"]),
        ('sum(vllm:num_requests_waiting{job="x"}) + sum(vllm:num_requests_running)', ["warning"]),
    ],
)
def test_whose_load_a_query_counts(query: str, severity: list[str], lint: Lint) -> None:
    text = (
        "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {name: x, namespace: lab}\nspec:\n"
        "  scaleTargetRef: {name: x}\n  triggers:\n  - type: prometheus\n    metadata:\n"
        f"      serverAddress: http://p:9090\n      threshold: '5'\n      query: {query}\n"
    )
    assert said(lint(text), "promql/unpinned") == severity


def test_the_text_of_a_moving_tag_speaks_of_flags_only_where_there_are_any(lint: Lint) -> None:
    text = (
        deployment(image="vllm/vllm-openai:latest")
        + "      initContainers: [{name: get, image: 'acme/get:latest'}]\n"
    )
    found = [f.message for f in lint(text).findings if f.rule == "engine/image-not-pinned"]
    assert [("flags" in m, m.split(" ")[0]) for m in found] == [
        (True, "vllm/vllm-openai:latest"), (False, "acme/get:latest"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("version", "severity"), [((0, 16), []), ((0, 17), ["error"]), ((0, 18), ["error"]), (None, ["warning"])]
)
def test_the_version_that_is_named_on_the_command_line(
    version: tuple[int, int] | None, severity: list[str]
) -> None:
    text = deployment(
        image="acme/vllm:latest", command="command: [vllm, serve]", args="m, --disable-log-requests"
    )
    assert said(lint_text(text, options=Options(engine=version)), "engine/removed-flag") == severity


@pytest.mark.parametrize(
    ("claim", "severity"),
    [
        ("storageClassName: gp3", ["warning"]),
        ("storageClassName: local-path", []),
        ("storageClassName: openebs-hostpath", []),
    ],
)
def test_a_volume_that_stays_on_its_node(claim: str, severity: list[str], lint: Lint) -> None:
    text = deployment(
        mounts="{name: m, mountPath: /models}", volumes="{name: m, persistentVolumeClaim: {claimName: m}}"
    )
    text += (
        "---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: m, namespace: lab}\n"
        f"spec: {{accessModes: [ReadWriteOnce], {claim}, resources: {{requests: {{storage: 50Gi}}}}}}\n"
    )
    assert said(lint(text), "storage/rwo-shared") == severity


@pytest.mark.parametrize(
    ("image", "value", "severity"),
    [
        ("vllm/vllm-openai:v0.9.2", "image=4,video=1", []),
        ("vllm/vllm-openai:v0.10.2", "image=4", ["warning"]),
        ("vllm/vllm-openai:v0.11.0", "image=4,video=1", ["error"]),
        ("vllm/vllm-openai:latest", "image=4", ["warning"]),
    ],
)
@pytest.mark.parametrize("script", [True, False])
def test_pairs_where_json_is_wanted(
    script: bool, image: str, value: str, severity: list[str], lint: Lint
) -> None:
    """The old form of --limit-mm-per-prompt has no quotes to lose: it is wrong in a script as in a list."""
    shell = f'command: [sh, -c, "exec vllm serve m --limit-mm-per-prompt {value}"]'
    of_script = {"command": shell, "args": ""}
    of_list = {"args": f"--model=m, --limit-mm-per-prompt, '{value}'"}
    text = deployment(image=image, **(of_script if script else of_list))
    assert said(lint(text), "values/broken-json") == severity


def test_json_is_json(lint: Lint) -> None:
    text = deployment(args="--model=m, --limit-mm-per-prompt, '{\"image\": 4}'")
    assert said(lint(text), "values/broken-json") == []


def test_the_cure_of_pairs_is_written_out(lint: Lint) -> None:
    text = deployment(
        image="vllm/vllm-openai:v0.19.0", args="--model=m, '--limit-mm-per-prompt=image=4,video=1'"
    )
    (found,) = (f for f in lint(text).findings if f.rule == "values/broken-json")
    assert '{"image": 4, "video": 1}' in found.cure


@pytest.mark.parametrize(
    ("script", "replaced"),
    [
        ("ulimit -n 65536; vllm serve m", True),
        ("ulimit -n 65536\nvllm serve m", True),
        ("set -e\nvllm serve m \\\n  --port 8000\n", True),
        ("sleep 0 &\nuntil true; do\n  sleep 1\ndone && vllm serve m\n", True),
        ("until true > /dev/null 2>&1; do sleep 1; done && vllm serve m", True),
        ("if true; then true; fi\nTZ=UTC vllm serve m", True),
        ("sleep 0 & vllm serve m", False),
        ("true\nvllm serve m 2>&1", False),
        ("true\nvllm serve m | cat", False),
        ("true\nvllm serve m\n\n", False),
        ("true\nvllm serve m\n# the end\n", False),
        ("true\nif true; then\n  vllm serve m\nfi", False),
        ("true\nvllm serve m &\nwait", False),
    ],
)
def test_a_shell_that_becomes_vllm_swallows_nothing(
    script: str, replaced: bool, lint: Lint, tmp_path: Path
) -> None:
    """What bash does with the script is asked of bash itself, where there is one of 5.1 or later."""
    manifest = DEPLOYMENT.format(
        replicas=1, annotations="", nodes="", image="vllm/vllm-openai:v0.18.0", args=json.dumps(script), env="",
        command="command: [/bin/bash, -c]", probes="", limits='nvidia.com/gpu: "1"', mounts="", volumes="",
    )  # fmt: skip
    said = {f.rule for f in lint(manifest).findings}
    assert ("shutdown/shell-swallows-sigterm" not in said) == replaced

    bash = shutil.which("bash")
    if (
        bash is None
        or int(subprocess.check_output([bash, "-c", "echo $((BASH_VERSINFO[0]*10+BASH_VERSINFO[1]))"])) < 51
    ):
        pytest.skip("no bash of 5.1 or later here")
    engine = tmp_path / "vllm"
    engine.write_text("#!/bin/sh\necho $$\n")
    engine.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    with subprocess.Popen([bash, "-c", script], stdout=subprocess.PIPE, env={"PATH": path}) as shell:
        out, _ = shell.communicate(timeout=20)
        assert (int(out) == shell.pid) == replaced


def test_what_a_switch_did_before_0_9_is_not_called_a_refusal_of_every_vllm(lint: Lint) -> None:
    manifest = DEPLOYMENT.format(
        replicas=1, annotations="", nodes="", image="lab/vllm-openai:ours", command="command: [vllm, serve, m]",
        args='"--enable-chunked-prefill=false"', env="", probes="", limits='nvidia.com/gpu: "1"', mounts="",
        volumes="",
    )  # fmt: skip
    (said,) = [f for f in lint(manifest).findings if f.rule == "values/switch-with-value"]
    assert said.severity == "warning" and "vLLM 0.9 and later refuse to start" in said.message


@pytest.mark.parametrize(("offline", "told"), [("0", True), ("1", False)])
def test_nothing_is_pushed_into_a_cache_that_is_read_offline(offline: str, told: bool, lint: Lint) -> None:
    manifest = DEPLOYMENT.format(
        replicas=1, annotations="", nodes="", image="vllm/vllm-openai:v0.18.0", args="--trust-remote-code",
        command="command: [vllm, serve, lab/m]", env=f'{{name: HF_HUB_OFFLINE, value: "{offline}"}}', probes="",
        limits='nvidia.com/gpu: "1"', mounts="", volumes="",
    )  # fmt: skip
    assert ("security/remote-code" in {f.rule for f in lint(manifest).findings}) == told

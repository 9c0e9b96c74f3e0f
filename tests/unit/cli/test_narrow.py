"""What verbs print on a terminal of 60 columns: whole words, the important columns, and nothing wider than it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.e2e.local.terminal import in_terminal

EXAMPLES = Path(__file__).parents[3] / "examples"
MANIFEST = """apiVersion: apps/v1
kind: Deployment
metadata: {name: a-deployment-with-quite-a-long-name-for-vllm, namespace: inference}
spec:
  selector: {matchLabels: {app: vllm}}
  template:
    metadata: {labels: {app: vllm}}
    spec:
      containers:
        - name: vllm
          image: vllm/vllm-openai:latest
          args: ["--model", "meta-llama/Llama-3.1-70B-Instruct", "--tensor-parallel-size", "3"]
          resources: {limits: {nvidia.com/gpu: 2}}
"""
PRINTED = {
    "lint": (["lint", "bad.yaml"], ["engine/parallel-exceeds-gpus  error", "Next: seawall lint --explain"]),
    "rules": (["lint", "--explain", "all"], ["engine/parallel-exceeds-gpus"]),
    "a rule": (["lint", "--explain", "scale/averaged-twice"], ["Cure: Use sum(...)"]),
    "a cause": (["diagnose", "--explain", "route/gateway-no-endpoints"], ["route/gateway-no-endpoints"]),
    "simulate": (
        ["simulate", str(EXAMPLES / "two-models.yaml"), "--rate", "1/s for 5s", "--share", "chat=3,code=1"],
        ["objectives", "within TTFT 2 s", "all 2 fleets", "Next: "],
    ),
    "a sweep": (
        ["simulate", str(EXAMPLES / "llama-70b-4xh100.yaml"), "--rate", "1/s for 5s", "--sweep", "scaling.target=4,8"],
        ["setting", "good", "lost", "scaling.target=4"],
    ),
    "what is proved": (["prove", "x.yaml", "--list"], ["--without stall-watch", "--target nginx"]),
    "fields": (["explain", "spec.scaling"], ["Next: seawall explain"]),
    "a plan": (["plan", "fleet.yaml"], ["fits", "KV cache", "Next: seawall"]),
    "a model's plan": (["plan", "Qwen/Qwen3-8B"], ["tensor parallel", "Next: seawall plan Qwen/Qwen3-8B --write"]),
    "which GPUs": (["plan", "Qwen/Qwen3-8B", "--gpus", "any"], ["L4"]),
    "a model's Fleet": (["init", "Qwen/Qwen3-8B", "-w", "f.yaml"], ["wrote f.yaml", "Next: seawall plan f.yaml"]),
    "logs": (["logs", "--state-dir", "up"], ["tiny-0", "6 B", "1 log in", "Next: seawall logs tiny-0 -f"]),
    "models": (["models", "list", "--registry", "models"], ["qwen3-8b", "16 GiB", "fp8"]),
    "keys": (["keys", "list", "--file", "keys.json"], ["3f9c2a71aa", "a-tenant-with-a-long-name", "valid"]),
    "the cache": (["cache", "ls"], ["weights/", "Next: seawall cache prune"]),
}  # fmt: skip


MODEL = """apiVersion: seawall.dev/v1alpha1
kind: Model
metadata: {name: qwen3-8b}
spec: {source: "hf://Qwen/Qwen3-8B-with-quite-a-long-name", size: 16Gi, licence: apache-2.0, quantization: fp8}
"""
KEYS = {"id": "3f9c2a71aa", "sha256": "0" * 64, "tenant": "a-tenant-with-a-long-name", "created": 1796095504,
        "models": ["llama-70b", "qwen3-8b"], "note": "the one of the nightly job, until it has moved"}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the verbs look at."""
    folder = tmp_path_factory.mktemp("narrow")
    fleet = (EXAMPLES / "llama-70b-4xh100.yaml").read_text()
    for name, text in {
        "bad.yaml": MANIFEST, "x.yaml": "", "fleet.yaml": fleet, "up/logs/tiny-0.log": "a line",
        "models/qwen3-8b.yaml": MODEL, "keys.json": json.dumps({"keys": [KEYS]}),
        "cache/weights/quite-a-long-name-of-weights-2a1277ae/w": "w",
    }.items():  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("what", PRINTED)
def test_nothing_is_wider_than_the_terminal(folder: Path, what: str, columns: int) -> None:
    args, words = PRINTED[what]
    env = {"SEAWALL_CACHE": str(folder / "cache")}
    (folder / "f.yaml").unlink(missing_ok=True)
    with in_terminal(args, columns=columns, cwd=folder, env=env) as terminal:
        text = terminal.rest()
    assert terminal.process.returncode in (0, 1)
    assert "Traceback" not in text
    too_wide = [line for line in text.splitlines() if len(line) > columns and str(folder) not in line]
    assert not too_wide
    for word in words:
        assert word in text
    assert "\\n" not in text

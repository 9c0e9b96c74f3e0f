"""What verbs print on a terminal of 60 columns: whole words, the important columns, and nothing wider than it."""

from __future__ import annotations

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
}  # fmt: skip


@pytest.mark.parametrize("what", PRINTED)
def test_nothing_is_wider_than_the_terminal(tmp_path: Path, what: str) -> None:
    (tmp_path / "bad.yaml").write_text(MANIFEST)
    (tmp_path / "x.yaml").touch()
    args, words = PRINTED[what]
    with in_terminal(args, columns=60, cwd=tmp_path) as terminal:
        text = terminal.rest()
    assert terminal.process.returncode in (0, 1)
    assert "Traceback" not in text
    too_wide = [line for line in text.splitlines() if len(line) > 60]
    assert not too_wide
    for word in words:
        assert word in text
    assert "\\n" not in text

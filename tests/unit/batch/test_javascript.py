"""The lane with OpenAI's client for JavaScript: files, batches, lists, results, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.unit.batch.making import a_line, write_lines
from tests.unit.batch.processes import lane_processes

ROOT = Path(__file__).resolve().parents[3]
TOOLS = ROOT / ".cache" / "tools" / "js"
SCRIPT = Path(__file__).with_name("openai_client.mjs")


def test_the_client_for_javascript_runs_a_batch(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or not (TOOLS / "node_modules" / "openai").is_dir():
        pytest.skip("node or its openai package is missing: scripts/test_tools.sh fetches the package")
    script = tmp_path / SCRIPT.name  # beside it node looks for packages
    shutil.copy(SCRIPT, script)
    (tmp_path / "node_modules").symlink_to(TOOLS / "node_modules")
    path = write_lines(tmp_path / "in.jsonl", [a_line(f"q{i}") for i in range(20)])
    with lane_processes(tmp_path) as lane:
        told = subprocess.run(
            [node, str(script), lane.url, str(path)],
            capture_output=True, text=True, timeout=110, env={**os.environ, "NO_PROXY": "*"},
        )  # fmt: skip
    assert told.returncode == 0, told.stderr
    said = json.loads(told.stdout)
    assert said["file"]["purpose"] == "batch" and said["file"]["filename"] == "in.jsonl"
    assert said["file"]["expires_at"] == said["file"]["created_at"] + 3600
    assert (said["batch"]["status"], said["batch"]["metadata"]) == ("completed", {"who": "me"})
    assert said["batch"]["request_counts"] == {"total": 20, "completed": 20, "failed": 0}
    results = [json.loads(line) for line in said["output"].splitlines()]
    assert [r["custom_id"] for r in results] == [f"q{i}" for i in range(20)]
    assert said["refused"] == "BadRequestError 400 completion_window"
    assert (said["conflict"], said["gone"]) == ("ConflictError", "NotFoundError")
    assert said["listed"] and said["files"] and said["deleted"]

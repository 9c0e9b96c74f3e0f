"""The promises, in CI: every scenario on simulated engines, and the short suite on real vLLM. Numbers are printed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def prove(*flags: str, timeout_s: float) -> tuple[int, dict[str, Any], str]:
    argv = [sys.executable, "-m", "seawall", "prove", str(ROOT / "examples/smollm2.yaml"), "--json", *flags]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)
    print(done.stderr)
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_promise_holds_on_simulated_engines(tmp_path: Path) -> None:
    report = tmp_path / "prove.html"
    code, result, said = prove("--jobs", "3", "--streams", "100", "--html", str(report), timeout_s=850)
    assert code == 0, said
    assert result["verdict"] == "kept"
    assert len(result["scenarios"]) >= 15
    assert (result["lost"], result["wrong_tokens"]) == (0, 0)
    assert result["streams"] > 1000
    assert result["lost_share_at_most"] < 0.003
    assert report.read_text().count("<svg") == len(result["scenarios"])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_replica_without_resume_breaks_the_promise() -> None:
    code, result, _ = prove("--scenario", "kill", "--without", "resume", "--streams", "30", timeout_s=280)
    assert code == 1
    assert result["verdict"] == "broken"
    assert result["lost"] > 0


@pytest.mark.engine
@pytest.mark.timeout(1500)
def test_a_kill_and_a_rolling_update_of_real_vllm_lose_nothing() -> None:
    flags = ("--engine", "vllm", "--streams", "6", "--scenario", "kill")
    code, result, said = prove(*flags, timeout_s=1400)
    assert code == 0, said
    assert (result["lost"], result["wrong_tokens"]) == (0, 0)

"""The promises, in CI: every scenario on simulated engines, each red without its mechanism, and the short suite on real
vLLM. Numbers are printed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.processes import survivors

from seawall.prove.mechanisms import MECHANISMS
from seawall.prove.scenarios import SCENARIOS

ROOT = Path(__file__).parents[2]
RED = [(s.name, mechanism) for s in SCENARIOS.values() for mechanism in s.mechanisms]
COVERED = [(name, cover) for name, mechanism in RED for cover in MECHANISMS[mechanism].covers]
"""A mechanism that is switched off together with its cover: the cover alone must change nothing."""


def prove(*flags: str, timeout_s: float) -> tuple[int, dict[str, Any], str]:
    argv = [sys.executable, "-m", "seawall", "prove", str(ROOT / "examples/smollm2.yaml"), "--json", *flags]
    env = {**os.environ, "PATH": f"{ROOT}/.cache/tools/bin:{os.environ['PATH']}"}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False, env=env)
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_promise_holds_on_simulated_engines(tmp_path: Path) -> None:
    report = tmp_path / "prove.html"
    code, result, said = prove("--jobs", "6", "--streams", "100", "--html", str(report), timeout_s=850)
    print(said)
    assert code == 0, said
    assert result["verdict"] == "kept"
    assert len(result["scenarios"]) >= 15
    assert (result["lost"], result["wrong_tokens"]) == (0, 0)
    assert result["streams"] > 1000
    assert result["lost_share_at_most"] < 0.003
    assert report.read_text().count("<svg") == len(result["scenarios"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_promise_breaks_without_its_mechanism_and_holds_without_its_cover_alone() -> None:
    def run(off: str) -> tuple[int, dict[str, Any], str]:
        names = [f for name, o in RED + COVERED if o == off for f in ("--scenario", name)]
        return prove(*names, "--without", off, "--streams", "30", "--jobs", "5", timeout_s=600)

    wrong: list[str] = []
    offs = sorted({off for _, off in RED + COVERED})
    with ThreadPoolExecutor(4) as at_once:
        for off, (code, result, said) in zip(offs, at_once.map(run, offs), strict=True):
            seen = {s["name"]: s for s in result.get("scenarios", ())}
            if code != 1 or set(seen) != {name for name, o in RED + COVERED if o == off}:
                wrong.append(f"without {off}: exit code {code}: {said}")
            for name, one in seen.items():
                print(f"{name} without {off}: {'; '.join(one['broken']) or 'kept'}")
                if one["kept"] == ((name, off) in RED):
                    wrong.append(f"{name} without {off} is {'green' if one['kept'] else 'red'}: {said}")
                if any("scenario itself failed" in b for b in one["broken"]):
                    wrong.append(f"{name} without {off} is red for another reason: {one['broken']}")
    assert not wrong, "\n".join(wrong)


def test_the_page_of_promises_names_the_scenarios_and_what_they_need() -> None:
    rows = [r for r in (ROOT / "docs/promises.md").read_text().splitlines() if r.startswith("| ")]
    named = {r.split("|")[2].strip(" `"): r.split("|")[3] for r in rows if len(r.split("|")) == 5}
    for scenario in SCENARIOS.values():
        assert set(scenario.mechanisms) == {w.strip(" `") for w in named[scenario.name].split(",")} & set(
            MECHANISMS
        )


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_proof_that_is_interrupted_says_what_it_saw_and_leaves_nothing_running(how: signal.Signals) -> None:
    argv = [sys.executable, "-m", "seawall", "prove", str(ROOT / "examples/smollm2.yaml"), "--json"]
    argv += ["--scenario", "clock-jump", "--streams", "5"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        mine = psutil.Process(child.pid)
        while len(family := mine.children(recursive=True)) < 4:
            time.sleep(0.1)
        child.send_signal(how)
        out, said = child.communicate(timeout=80)
    assert child.returncode == 130, said
    assert json.loads(out)["verdict"] == "interrupted"
    assert "Traceback" not in said
    assert survivors(family, 0) == []


@pytest.mark.engine
@pytest.mark.timeout(1500)
def test_two_replicas_of_real_vllm_lose_nothing_when_one_or_their_gateway_dies() -> None:
    """One fleet for all but the last: a start costs a minute of CPU. What spot-notice takes starts again beside two
    scenarios that need it little, and long-answer waits for nobody."""
    names = ("spot-notice", "overload", "gateway-restart", "hung", "kill", "long-answer", "gateway-kill")
    asked = [f for name in names for f in ("--scenario", name)]
    code, result, said = prove("--engine", "vllm", "--streams", "6", *asked, timeout_s=1400)
    print(said)
    assert code == 0, said
    assert [s["name"] for s in result["scenarios"]] == list(names)
    assert (result["lost"], result["wrong_tokens"]) == (0, 0)
    assert sum(s["resumed"] for s in result["scenarios"]) > 0

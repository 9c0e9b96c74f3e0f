"""The first minutes, in a terminal of 80 columns: what `seawall up` prints can be pasted, and Ctrl-C ends it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.e2e.local.terminal import in_terminal
from tests.e2e.local.up_process import fleet_file, seawall_up

from seawall.local import control

WIDTHS = (60, 80, 100, 200)


def test_what_up_prints_can_be_pasted_from_a_terminal_of_80_columns(tmp_path: Path) -> None:
    state = tmp_path / "state"
    args = ["up", fleet_file(tmp_path), "--port", "0", "--state-dir", str(state)]
    with in_terminal(args, columns=80) as terminal:
        terminal.until('or "", end="")')
        said = terminal.text
        before_the_screen = said[: said.index("gateway on")].splitlines()
        assert "SIMULATED" in said and max(map(len, before_the_screen)) <= 80
        curl = said[said.index("curl -sN") : said.index("from openai")].strip()
        python = said[said.index("from openai") : said.index('end="")') + len('end="")')]
        assert max(map(len, (curl + "\n" + python).splitlines())) <= 80
        compile(python, "pasted", "exec")
        done = subprocess.run(["sh", "-c", curl], capture_output=True, text=True, timeout=60)
        assert "data: " in done.stdout, done.stderr
        assert "[DONE]" in done.stdout
        terminal.types(b"\x03")
        assert "stopped; nothing is left running" in terminal.rest()


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("door")
    with seawall_up(folder, fleet_file(folder, low=1, high=1)) as up:
        up.settled()
        yield up.state_dir


@pytest.mark.parametrize("columns", WIDTHS)
def test_status_loses_neither_phase_nor_reason(state: Path, columns: int) -> None:
    with in_terminal(["status", "--state-dir", str(state)], columns=columns) as terminal:
        lines = terminal.rest().splitlines()
    assert max(map(len, lines)) <= columns
    table = "\n".join(lines)
    for word in ("tiny-0", "ready", "proved itself", "tiny: 1/1 ready", "scale:"):
        assert word in table
    assert "…" not in table


@pytest.mark.parametrize("columns", WIDTHS)
def test_what_was_measured_stays_a_table(state: Path, columns: int) -> None:
    url = control.ask(state, do="status")["gateway"]["url"]
    with in_terminal(["bench", url, "--requests", "4", "--concurrency", "2"], columns=columns) as terminal:
        text = terminal.rest()
    lines = text[text.rindex("  requests   ") :].splitlines()
    assert max(map(len, lines)) <= columns
    (heads,) = [line for line in lines if line.strip().startswith("ms ")]
    assert {"p50", "p99"} <= set(heads.split())
    assert "max" in heads or columns == 60
    for name in ("TTFT", "TPOT", "E2E"):
        (row,) = [line for line in lines if line.strip().startswith(name)]
        assert len(row.split()) == len(heads.split())


@pytest.mark.parametrize("columns", [60, 80])
def test_a_verdict_is_broken_between_its_numbers(tmp_path: Path, columns: int) -> None:
    args = ["prove", fleet_file(tmp_path), "--scenario", "kill", "--streams", "4"]
    with in_terminal(args, columns=columns) as terminal:
        text = terminal.rest(120)
    assert terminal.process.returncode == 0, text
    verdict = text[text.rindex("  kill -9 in mid-stream\n") :].splitlines()
    assert max(map(len, verdict)) <= columns
    numbers = "   ".join(line.strip() for line in verdict[1:4])
    assert " streams   " in numbers and "   0 lost   0 wrong   " in numbers and "worst stall 0." in numbers

"""The first minutes, in a terminal of 80 columns: what `seawall up` prints can be pasted, and Ctrl-C ends it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.e2e.local.terminal import in_terminal
from tests.e2e.local.up_process import fleet_file, seawall_up

WIDTHS = (60, 80, 100, 200)


def test_what_up_prints_can_be_pasted_from_a_terminal_of_80_columns(tmp_path: Path) -> None:
    state = tmp_path / "state"
    args = ["up", fleet_file(tmp_path), "--port", "0", "--state-dir", str(state)]
    with in_terminal(args, columns=80) as terminal:
        terminal.until('or "", end="")')
        said = terminal.text
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

"""What the reference page says is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from seawall.decide.replica import TABLE
from seawall.local.control import MAX_PATH, socket_path
from seawall.local.view import COLUMNS, snippets, table

PAGE = Path("docs/reference/local.md").read_text("utf-8")


def test_the_phases_in_the_reference_are_the_table() -> None:
    section = PAGE.split("## Phases")[1].split("##")[0]
    rows = [
        [c.strip() for c in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("| ")
    ]
    told = {(row[0], event): row[2] for row in rows[1:] for event in re.split(r",\s*", row[1])}
    assert told == {(str(p), str(e)): str(to) for (p, e), to in TABLE.items()}


def test_a_state_folder_with_a_long_path_still_has_a_control_socket(tmp_path: Path) -> None:
    assert socket_path(Path("/s")) == Path("/s/control.sock")
    deep = tmp_path.joinpath(*["folder-with-a-long-name"] * 6)
    short = socket_path(deep)
    assert len(str(short)) <= MAX_PATH
    assert short == socket_path(deep)
    assert short != socket_path(deep / "other")


def test_columns_line_up() -> None:
    rows = [["a", "ready", "1 s", "", "", "", "1", "because"], ["longer", "x", "2 min", "", "", "", "22", ""]]
    lines = table(rows).lines()
    at = lines[0].index("PHASE")
    assert lines[1][at:].startswith("ready")
    assert lines[2][at:].startswith("x")
    assert len(COLUMNS) == len(rows[0])


@pytest.mark.parametrize("keyed", [False, True])
def test_the_snippet_is_python_and_fits_a_terminal(keyed: bool) -> None:
    text = snippets("http://127.0.0.1:65535", "smollm2", keyed)
    code = text.split("\n\n")[1]
    compile(code, "snippet", "exec")
    assert 'base_url="http://127.0.0.1:65535/v1"' in code
    assert max(map(len, text.splitlines())) <= 80
    assert ("SEAWALL_API_KEY" in text) == keyed
    assert ('api_key="none"' in text) != keyed

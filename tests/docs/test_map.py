"""The map is true: what `make check` looks for on the pages, and the floors that the imports keep."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def _check_docs() -> Any:
    spec = importlib.util.spec_from_file_location("check_docs", ROOT / "scripts/check_docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


KETTLE, MAP = "src/seawall/kettle/__init__.py", "docs/architecture.md"
RECORD, INDEX = "docs/decisions/0001-tea.md", "docs/decisions/README.md"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({RECORD: "# 1. Tea", INDEX: "| [1. Tea](0001-tea.md) | in force |"}, None),
        ({RECORD: "# 1. Tea", INDEX: "| [1. Tea](0001-tea.md) | superseded by 2 |"}, None),
        ({RECORD: "# 1. Tea", INDEX: "nothing"}, "does not list 0001-tea.md"),
        ({RECORD: "# 1. Tea", INDEX: "| [1. Tea](0001-tea.md) | |"}, "no status of 0001-tea.md"),
        (
            {
                RECORD: "", "docs/decisions/0001-milk.md": "",
                INDEX: "(0001-tea.md) in force\n(0001-milk.md) in force",
            },
            "has this number, too",
        ),
        ({"docs/how-to/tea.md": "", "docs/README.md": ""}, "docs/README.md: does not list docs/how-to/tea.md"),
        ({"docs/README.md": "[tea](how-to/tea.md)"}, "docs/README.md:1: the link how-to/tea.md leads nowhere"),
        ({KETTLE: "", MAP: "a kettle", "docs/README.md": "(architecture.md)"}, "what src/seawall/kettle/ is for"),
        ({KETTLE: "", MAP: "kettle/: heats", "docs/README.md": "(architecture.md)"}, None),
    ],
)  # fmt: skip
def test_pages_that_are_wrong_are_named(files: dict[str, str], said: str | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = _check_docs().problems(tmp_path, [n for n in files if n.endswith(".md")])
    assert len(found) == (said is not None), found
    assert said is None or said in found[0]


def test_the_map_draws_the_floors_that_imports_keep() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    floors = next(c for c in contracts if c["name"].startswith("imports go down only"))["layers"]
    page = (ROOT / "docs/architecture.md").read_text()
    drawn = page[page.index("cli/          one file per verb") :]
    drawn = drawn[: drawn.index("\n```")]
    above = -1
    for floor in floors:
        rooms = [part.strip().removeprefix("seawall.") for part in floor.split("|")]
        places = []
        for room in rooms:
            m = re.search(rf"(?<![\w/]){room}(/|\.py)", drawn)
            assert m is not None, f"docs/architecture.md does not draw {room}"
            places.append(m.start())
        assert min(places) > above, f"docs/architecture.md draws {rooms} on another floor"
        above = max(places)

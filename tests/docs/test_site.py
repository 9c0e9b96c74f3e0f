"""The documentation as a site: every page is there, its links hold, and the reference of commands is theirs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from seawall.cli import COMMANDS

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "docs_site.py"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "stage"
    subprocess.run([sys.executable, str(SCRIPT), "--stage-only", str(folder)], check=True)
    return folder


def test_every_page_is_in_the_navigation(stage: Path) -> None:
    there = {p.relative_to(stage / "docs").as_posix() for p in (stage / "docs").rglob("*.md")}
    listed: set[str] = set()

    def walk(entries: list[dict[str, object]]) -> None:
        for entry in entries:
            for target in entry.values():
                if isinstance(target, list):
                    walk(target)
                else:
                    listed.add(str(target))

    walk(yaml.safe_load((stage / "mkdocs.yml").read_text())["nav"])
    assert listed == there
    assert {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")} <= there


def test_links_that_leave_the_docs_hold_or_are_words(stage: Path) -> None:
    index = (stage / "docs" / "README.md").read_text()
    assert "](project/contributing.md)" in index
    assert "](../CONTRIBUTING.md)" not in index
    readme = (stage / "docs" / "project" / "readme.md").read_text()
    assert "](../tutorial.md" in readme


def test_the_command_line_is_told_command_by_command(stage: Path) -> None:
    page = (stage / "docs" / "reference" / "cli.md").read_text()
    for name in COMMANDS:
        assert f"\n## seawall {name}\n" in page
    assert "\n### seawall keys add\n" in page
    assert "--find-capacity" in page


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_site_is_built_without_a_broken_link(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--out", str(tmp_path / "site")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "site" / "search" / "search_index.json").read_text())["docs"]
    assert any("keeper" in entry["text"] or "one real token" in entry["text"] for entry in found)
    html = (tmp_path / "site" / "how-to" / "up.html").read_text()
    assert "https://fonts" not in html

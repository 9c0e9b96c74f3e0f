"""The opening scene's table and pictures are what its commands print, byte by byte."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from seawall.cli.simulate import command

ROOT = Path(__file__).parents[3]
SCENE = ROOT / "examples" / "opening-scene"
README = (SCENE / "README.md").read_text()
COMMANDS = re.findall(r"^\$ seawall simulate (.+)$", README, re.MULTILINE)


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_the_table_is_what_the_command_prints() -> None:
    found = CliRunner().invoke(command, shlex.split(COMMANDS[0]), catch_exceptions=False)
    shown = found.stdout[: found.stdout.index("\nNext:")]
    assert f"```text\n{shown}\n```" in README


@pytest.mark.parametrize(("policy", "picture"), [("guide", "guide.svg"), ("keda", "ours.svg")])
def test_the_pictures_are_what_the_command_draws(policy: str, picture: str, tmp_path: Path) -> None:
    words = [policy if word == "keda" else word for word in shlex.split(COMMANDS[1])]
    words[-1] = str(tmp_path / picture)
    CliRunner().invoke(command, words, catch_exceptions=False)
    assert (tmp_path / picture).read_bytes() == (SCENE / picture).read_bytes()

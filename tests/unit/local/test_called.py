"""What `up` says that one types next is found by the shell that it is typed into."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from seawall.local.session import called


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone's command, looked at from the clone."""
    path = tmp_path / "clone" / ".venv" / "bin" / "seawall"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    monkeypatch.chdir(tmp_path / "clone")
    return path


def test_on_the_path_it_has_its_name(program: Path) -> None:
    assert called(str(program), lambda _: str(program)) == "seawall"


def test_elsewhere_it_has_its_path_from_here(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert called(str(program), lambda _: None) == ".venv/bin/seawall"
    monkeypatch.chdir(tmp_path)
    assert called(str(program), lambda _: None) == "clone/.venv/bin/seawall"
    monkeypatch.chdir("/")
    assert called(str(program), lambda _: None) == str(program).lstrip("/")


def test_another_one_on_the_path_is_not_taken_for_it(program: Path, tmp_path: Path) -> None:
    other = tmp_path / "seawall"
    other.write_text("")
    assert called(str(program), lambda _: str(other)) == ".venv/bin/seawall"


def test_as_a_module_it_is_called_as_one(tmp_path: Path) -> None:
    assert called(str(tmp_path / "__main__.py"), lambda _: None) == f"{sys.executable} -m seawall"

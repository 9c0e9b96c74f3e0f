"""The Python that the engine gets: one that its lock is for, wherever it is on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seawall.drivers import cache
from seawall.errors import EngineError
from seawall.local import engine_env

OWN = engine_env.OWN_VERSION
UV = engine_env._uv()


def at(folder: Path) -> Path:
    """This Python under its version's name in `folder`, as an installation of its own."""
    folder.mkdir(parents=True)
    link = folder / f"python{OWN[0]}.{OWN[1]}"
    link.symlink_to(Path(sys.executable).resolve())
    return link


def environ(*paths: Path) -> dict[str, str]:
    return {
        "PATH": os.pathsep.join(map(str, paths)),
        "HOME": "/nonexistent",
        "UV_PYTHON_INSTALL_DIR": "/nonexistent",
    }


def test_a_python_of_the_version_is_found_on_path(tmp_path: Path) -> None:
    link = at(tmp_path / "bin")
    found = engine_env.find_python(UV, OWN, environ(tmp_path / "bin"))
    assert found is not None
    assert Path(found).resolve() == link.resolve()


def test_a_python_that_pyenv_hides_in_this_folder_is_found(tmp_path: Path) -> None:
    shim = tmp_path / "shims" / f"python{OWN[0]}.{OWN[1]}"
    shim.parent.mkdir()
    shim.write_text("#!/bin/sh\necho 'pyenv: command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    link = at(tmp_path / "versions" / f"{OWN[0]}.{OWN[1]}.9" / "bin")
    found = engine_env.find_python(UV, OWN, environ(tmp_path / "shims"))
    assert found is not None
    assert Path(found).resolve() == link.resolve()


def test_where_there_is_none_nothing_is_downloaded(tmp_path: Path) -> None:
    assert engine_env.find_python(UV, OWN, environ(tmp_path)) is None


def test_an_environment_of_the_locked_python_serves_every_python(tmp_path: Path) -> None:
    locked = engine_env.LOCKED_FOR[2]
    if not engine_env.is_locked(locked):
        pytest.skip("the lock is for another platform")
    folder = engine_env.folder_of(tmp_path, locked)
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "vllm").touch()
    (folder / "bin" / "python").touch()
    cache.seal(folder, {"version": engine_env.VERSION})
    env = engine_env.installed(tmp_path)
    assert env is not None
    assert env.folder == folder


def test_a_python_without_lock_and_wheels_is_told_which_one_to_put_beside_it() -> None:
    if not engine_env.is_locked(engine_env.LOCKED_FOR[2]):
        pytest.skip("the lock is for another platform")
    failing = [
        "/bin/sh",
        "-c",
        "echo 'no solution: torch==2.13.0+cpu has no wheels with a matching tag' >&2; exit 1",
    ]
    with pytest.raises(EngineError) as e:
        engine_env._run(failing, "find packages", version=(3, 99))
    assert "Python 3.11" in e.value.cure
    assert "beside Python 3.99" in e.value.cure


def test_make_notices_a_python_that_the_environment_does_not_have(tmp_path: Path) -> None:
    script = Path("scripts/bootstrap.sh").resolve()
    at(tmp_path / "venv" / "bin").rename(tmp_path / "venv" / "bin" / "python")
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\necho 2 7\n")
    other.chmod(0o755)
    assert subprocess.run([script, sys.executable, tmp_path / "venv"]).returncode == 1
    assert subprocess.run([script, other, tmp_path / "venv"]).returncode == 0
    gone = subprocess.run([script, "python3.99", "venv"], cwd=tmp_path, capture_output=True, text=True)
    assert "make PYTHON=" in gone.stderr

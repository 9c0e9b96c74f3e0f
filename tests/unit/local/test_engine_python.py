"""The Python that the engine gets: one that its lock is for, wherever it is on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seawall.drivers import cache
from seawall.errors import EngineError
from seawall.local import engine_env, engine_lock

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


def test_an_environment_of_a_locked_python_serves_every_python(tmp_path: Path) -> None:
    other = next(v for v in engine_lock.PYTHONS if v != OWN)
    folder = engine_env.folder_of(tmp_path, other)
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "vllm").touch()
    (folder / "bin" / "python").touch()
    cache.seal(folder, {"version": engine_lock.VERSION})
    env = engine_env.installed(tmp_path)
    assert env is not None
    assert env.folder == folder


def test_a_python_for_which_torchs_wheel_lies_here_goes_before_our_own(tmp_path: Path) -> None:
    other = next(v for v in engine_lock.PYTHONS if v != OWN)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    tag = f"cp{other[0]}{other[1]}"
    (wheels / f"torch-{engine_lock.TORCH}-{tag}-{tag}-linux_{engine_env.MACHINE}.whl").touch()
    (tmp_path / "bin").mkdir()
    asked = tmp_path / "uv"
    asked.write_text(f"#!/bin/sh\necho /there/python{other[0]}.{other[1]}\n")
    asked.chmod(0o755)
    sources = engine_env.WheelSources(find_links=(str(wheels),))
    alone = {"PIP_CONFIG_FILE": os.devnull, "PATH": os.defpath}
    found = engine_env.engine_python(str(asked), sources, alone)
    assert found == (f"/there/python{other[0]}.{other[1]}", other)


def test_a_python_without_lock_is_told_which_ones_to_put_beside_it() -> None:
    failing = ["/bin/sh", "-c", "echo 'no solution: torch has no wheels with a matching tag' >&2; exit 1"]
    with pytest.raises(EngineError) as e:
        engine_env._run(failing, "find packages", version=(3, 99))
    if engine_lock.is_locked((3, 13)):
        assert "3.11, 3.12, 3.13, 3.14" in e.value.cure
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

"""The tables hold for both forms of the gateway's code, compiled and plain, and both fit into CI's two minutes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seawall.gateway import compiled
from tests.hostile.conftest import CPU_S

HERE = Path(__file__).parent


def test_two_minutes_are_enough_for_both() -> None:
    assert set(CPU_S) == {f.stem for f in HERE.glob("test_*.py")} - {Path(__file__).stem}
    assert 2 * sum(CPU_S.values()) <= 120


@pytest.mark.timeout(600)  # its bound is CPU time, and a busy machine gives little of that
def test_plain_python_comes_to_the_same() -> None:
    if not compiled.active():
        pytest.skip("plain: the tables have just been run so")
    files = [str(HERE / f"{name}.py") for name in CPU_S]
    argv = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", *files]
    env = {**os.environ, "SEAWALL_COMPILED": "0"}
    done = subprocess.run(argv, env=env, cwd=HERE.parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]

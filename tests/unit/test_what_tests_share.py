"""What tests share: what tests/conftest.py sets up for every test, whoever runs them, and who still lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
from tests.processes import alive

ASK = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
STORY = f"""
import signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
before = subprocess.run([sys.executable, "-c", {ASK!r}], capture_output=True, text=True).stdout
import tests.conftest
after = subprocess.run([sys.executable, "-c", {ASK!r}], capture_output=True, text=True).stdout
print(before.strip(), after.strip())
"""


def test_what_a_test_starts_hears_ctrl_c_though_its_runner_does_not() -> None:
    done = subprocess.run([sys.executable, "-c", STORY], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["False", "True"], done.stderr


FAULTY = """
from hypothesis import given, strategies as st
tried = []
@given(st.integers())
def test_that_fails(number):
    tried.append(number)
    assert number < 1000
def test_what_was_tried():
    print("tried", *tried[:3])
"""


def test_in_ci_the_same_examples_are_tried_after_those_that_failed_before(tmp_path: Path) -> None:
    (tmp_path / "test_faulty.py").write_text(FAULTY)

    def tried() -> list[str]:
        argv = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "tests.conftest", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*argv, "-p", "xdist", "--rootdir", str(tmp_path), "-c", os.devnull, str(tmp_path)],
            env={**os.environ, "CI": "true", "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path / "kept")},
            capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        (line,) = [line for line in done.stdout.splitlines() if line.lstrip("F").startswith("tried")]
        return line.split()[1:]

    first, again = tried(), tried()
    assert again[0] == "1000", "the smallest that failed"
    assert first[0] != "1000"
    (tmp_path / "kept").rename(tmp_path / "gone")
    assert tried() == first


class GoneBetweenTwoLooks(psutil.Process):
    """A process that ends and is reaped just after somebody was told that it runs."""

    def is_running(self) -> bool:
        running = super().is_running()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return running


def test_a_process_that_goes_between_two_looks_is_not_alive() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as child:
        assert alive(psutil.Process(child.pid))
        assert not alive(GoneBetweenTwoLooks(child.pid))

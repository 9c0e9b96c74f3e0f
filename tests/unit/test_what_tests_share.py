"""What tests/conftest.py sets up for every test, whoever runs them."""

from __future__ import annotations

import subprocess
import sys

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

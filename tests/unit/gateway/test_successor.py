"""One gateway process after another: what a child tells its parent, and what the next one begins with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

SCRIPT = """
import os, sys, time
from seawall.gateway.process.successor import RENEWED, one_after_another

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def serve(tell, died):
    say("child", os.getpid(), bool(died))
    tell()
    if died:
        return 0
    os.kill(os.getppid(), RENEWED)
    time.sleep(60)
    return 1

sys.exit(one_after_another(serve, lambda: say("served"), lambda: say("renewed")))
"""


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[str]]:
    made = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield made
    finally:
        made.kill()
        made.communicate()


@pytest.mark.timeout(60)
def test_a_child_that_has_read_something_anew_has_its_parent_take_it_up(
    parent: subprocess.Popen[str],
) -> None:
    assert parent.stdout is not None and parent.stderr is not None
    word, pid, second = parent.stdout.readline().split()
    assert (word, second) == ("child", "False")
    assert parent.stdout.readline() == "renewed\n", "at once, while the child goes on serving"
    os.kill(int(pid), signal.SIGKILL)
    rest = parent.stdout.read().split("\n")
    assert rest[:2] == ["served", "renewed"], "whether or not the dead one had come to say so"
    assert rest[2].startswith("child ") and rest[2].endswith(" True")
    assert parent.wait(30) == 0, "who ends by its own will ends its parent"
    assert "was killed by SIGKILL: another goes on" in parent.stderr.read()

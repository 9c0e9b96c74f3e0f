"""The probe script that Kubernetes runs in an engine's container, against real vLLM and its simulation alike."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from seawall.render.replica import engine_probe

pytestmark = pytest.mark.timeout(1200)


@contextmanager
def hung(server: Any) -> Iterator[None]:
    """The scheduler stands still, HTTP does not: SIGSTOP for vLLM's engine processes, a fault for the simulation."""
    if server.kind == "sim":
        server.post("/sim/fault", {"kind": "hang"})
        try:
            yield
        finally:
            server.post("/sim/fault", {"kind": "clear"})
        return
    stopped = psutil.Process(server.process.pid).children(recursive=True)
    for process in stopped:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in stopped:
            process.send_signal(signal.SIGCONT)


def test_it_proves_a_start_finds_a_hang_and_leaves_a_busy_engine_alone(server: Any, tmp_path: Path) -> None:
    def probe(what: str) -> tuple[bool, str]:
        env = {
            **os.environ,
            "SEAWALL_ENGINE_URL": f"http://127.0.0.1:{server.port}",
            "SEAWALL_STATE_DIR": str(tmp_path),
            "SEAWALL_ENGINE_BOOT": "1",
            "SEAWALL_MODEL": server.model,
            "SEAWALL_ENGINE_PID": str(server.process.pid),
            "SEAWALL_PROBE_QUIET_S": "1",
            "SEAWALL_PROBE_STILL_S": "3",
            "SEAWALL_PROMPT_TOKEN_S": "1e-6" if server.kind == "sim" else "0.01",
            "SEAWALL_PROBE_TOKEN_S": "60" if not stuck else "4",
            "SEAWALL_PROBE_HTTP_S": "30",
        }
        script = [sys.executable, str(Path(engine_probe.__file__)), what]
        done = subprocess.run(script, env=env, capture_output=True, text=True, timeout=120)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode == 0, done.stdout

    stuck = False
    assert not probe("readiness")[0]
    assert probe("startup") == (True, "")
    assert probe("readiness") == (True, "")
    assert probe("liveness") == (True, "")
    for _ in range(4):
        server.begin(max_tokens=400)
    for _ in range(2):
        assert probe("liveness") == (True, "")
        assert probe("readiness") == (True, "")
    server.hang_up()
    stuck = True
    with hung(server):
        assert server.ask("GET", "/health").status == 200
        end = time.monotonic() + 100
        while (said := probe("liveness"))[0]:
            assert time.monotonic() < end
        # Of real vLLM the processes that compute are seen to use no CPU, however long its plan lets a step take; of a
        # simulated one the pace is known, which is slower where the machine is busy.
        assert re.search(r"its work explains \d+ s" if server.kind == "sim" else "use no CPU", said[1])
    stuck = False
    assert probe("liveness") == (True, "")

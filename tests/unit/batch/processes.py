"""The lane as people run it: a simulated engine, a gateway and `seawall batch serve`, each a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from seawall.drivers.process import free_port

START_S = 120.0
"""However busy the machine: nothing that is well takes longer to begin."""
SECRET = "a-secret-of-the-tests"
SPEC = """\
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: f}
spec:
  model: {source: "hf://a/b", servedNames: [m]}
  engine: {maxNumSeqs: %d}
  traffic: {maxContext: 2k}
  gateway: {batch: {}%s}
"""


def answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
        return bool(answer.status == 200)
    return False


class LaneProcesses:
    """Three processes on ports that stay theirs, so that each can be killed and started again."""

    def __init__(
        self,
        folder: Path,
        more: str = "",
        store: str | None = None,
        keys: Path | None = None,
        places: int = 32,
        engine: tuple[str, ...] = (),
    ) -> None:
        """`places`: of the engine. `engine`: more of its flags."""
        self.folder, self.store, self.keys, self.places, self.engine = folder, store, keys, places, engine
        self.spec = folder / "fleet.yaml"
        self.spec.write_text(SPEC % (places, more))
        self.engine_port, self.port, self.admin_port, self.lane_port = (free_port() for _ in range(4))
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, name: str) -> None:
        """`engine`, `gateway` or `lane`, until it answers."""
        me = [sys.executable, "-m", "seawall"]
        engine, admin, lane = (f"127.0.0.1:{p}" for p in (self.engine_port, self.admin_port, self.lane_port))
        keys = ["--keys", str(self.keys)] if self.keys else []
        store = ["--store", self.store] if self.store else []
        commands = {
            "engine": [*me, "engine", "sim", "x", "--served-model-name", "m", "--port", str(self.engine_port),
                       "--max-num-seqs", str(self.places), "--scheduling-policy", "priority",
                       "--max-model-len", "2048", *self.engine],
            "gateway": [*me, "gateway", str(self.spec), "--discovery", f"static:http://{engine}", "--listen",
                        f"127.0.0.1:{self.port}", "--admin", admin, "--batch", lane, *keys],
            "lane": [*me, "batch", "serve", str(self.spec), "--gateway", self.url, "--admin", f"http://{admin}",
                     "--listen", lane, "--folder", str(self.folder / "lane"), *store],
        }  # fmt: skip
        healthy = {
            "engine": f"http://{engine}/health",
            "gateway": f"http://{admin}/healthz",
            "lane": f"http://{lane}/healthz",
        }
        env = {**os.environ, "SEAWALL_BATCH_SECRET": SECRET}
        log = (self.folder / f"{name}.log").open("ab")
        child = subprocess.Popen(commands[name], env=env, stdout=log, stderr=log)
        log.close()
        self.running[name] = child
        until = time.monotonic() + START_S
        while not answers(healthy[name]):
            assert time.monotonic() < until, f"{name} does not answer after {START_S:g} s"
            assert child.poll() is None, (self.folder / f"{name}.log").read_text()
            time.sleep(0.05)

    def kill(self, name: str) -> None:
        child = self.running.pop(name)
        child.send_signal(signal.SIGKILL)
        child.wait()

    def stop(self, name: str) -> int:
        child = self.running.pop(name)
        child.terminate()
        return child.wait(60)


@contextlib.contextmanager
def lane_processes(
    folder: Path,
    gateway_more: str = "",
    store: str | None = None,
    keys: Path | None = None,
    places: int = 32,
    engine: tuple[str, ...] = (),
) -> Iterator[LaneProcesses]:
    lane = LaneProcesses(folder, gateway_more, store, keys, places, engine)
    try:
        for name in ("engine", "gateway", "lane"):
            lane.start(name)
        yield lane
    finally:
        for name in list(lane.running):
            lane.kill(name)

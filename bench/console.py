"""The console of a gateway with many replicas: CPU of a real gateway process with nobody watching, with one page open,
and, as the bound in the same run, of one whose looks are taken out.

bench/console.py [--quick] [--json]    1,000 replicas, four rounds of 20 s in turn (--quick: one of 8 s)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil

REPLICAS = 1000
SPEC = """apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: m}
spec:
  model: {source: "file:///none"}
"""


SEEING = ["-m", "seawall"]
BLIND = ["-c", """import sys
from seawall.gateway import compiled
compiled.use()
from seawall.gateway.process.console_pages import ConsolePages
ConsolePages.look = lambda self: None
from seawall.cli import main
main()"""]  # fmt: skip


@contextlib.contextmanager
def gateway(folder: Path, start: list[str]) -> Iterator[tuple[psutil.Process, str]]:
    """A gateway that knows REPLICAS replicas -> its process, and its admin address."""
    replicas = [
        {
            "name": f"m-{i:04}",
            "fleet": "m",
            "url": f"http://127.0.0.1:{20000 + i}",
            "ready": True,
            "draining": False,
        }
        for i in range(REPLICAS)
    ]
    (folder / "replicas.json").write_text(json.dumps({"version": 1, "replicas": replicas}))
    (folder / "fleet.yaml").write_text(SPEC)
    argv = [sys.executable, *start, "gateway", str(folder / "fleet.yaml")]
    argv += [
        "--discovery",
        f"file:{folder / 'replicas.json'}",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        yield psutil.Process(child.pid), line.split()[-1]
    finally:
        child.terminate()
        child.wait(30)


def share(process: psutil.Process, seconds: float) -> float:
    """Percent of a core that the process takes meanwhile."""
    before = process.cpu_times()
    time.sleep(seconds)
    after = process.cpu_times()
    return ((after.user + after.system) - (before.user + before.system)) / seconds * 100


def watched(process: psutil.Process, admin: str, seconds: float) -> tuple[float, float]:
    """The same while a page is open -> (percent, bytes per second that the page reads)."""
    address = f"{admin}/console/api/stream?rows=50"
    with httpx2.stream("GET", address, trust_env=False, timeout=30) as stream:
        lines = stream.iter_lines()
        next(lines)
        before, start, read = process.cpu_times(), time.monotonic(), 0
        while (passed := time.monotonic() - start) < seconds:
            read += len(next(lines))
        after = process.cpu_times()
    return ((after.user + after.system) - (before.user + before.system)) / passed * 100, read / passed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rounds, seconds = (1, 8.0) if given.quick else (4, 20.0)
    bound: list[float] = []
    closed: list[float] = []
    opened: list[float] = []
    read: list[float] = []
    with (
        tempfile.TemporaryDirectory() as one,
        tempfile.TemporaryDirectory() as two,
        contextlib.ExitStack() as stack,
    ):
        process, admin = stack.enter_context(gateway(Path(one), SEEING))
        blind, _ = stack.enter_context(gateway(Path(two), BLIND))
        time.sleep(3)
        for _ in range(rounds):
            bound.append(share(blind, seconds))
            closed.append(share(process, seconds))
            percent, bytes_s = watched(process, admin, seconds)
            opened.append(percent)
            read.append(bytes_s)
    found = {
        "replicas": REPLICAS,
        "no_looks_percent": round(statistics.median(bound), 2),
        "nobody_watches_percent": round(statistics.median(closed), 2),
        "a_page_is_open_percent": round(statistics.median(opened), 2),
        "page_bytes_per_s": round(statistics.median(read)),
        "load_average": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(found) if given.json else "\n".join(f"{k:26} {v}" for k, v in found.items()))


if __name__ == "__main__":
    main()

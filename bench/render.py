"""How long `seawall render` takes as a process, against a bound of one second and the bare interpreter.

python bench/render.py [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BOUND_S = 1.0


def seconds(command: list[str], rounds: int) -> tuple[list[float], float]:
    """(wall time of each round, least CPU time): on a busy machine only the second means something."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    walls, cpus = [], []
    for _ in range(rounds):
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        walls.append(time.perf_counter() - began)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return walls, min(cpus)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rounds = 3 if given.quick else 15
    walls, cpu = seconds([sys.executable, "-c", "import click, pydantic, yaml"], rounds)
    bare = {"median_s": statistics.median(walls), "cpu_s": cpu}
    rows = []
    for path in sorted((ROOT / "examples").glob("*.yaml")):
        taken, cpu = seconds([sys.executable, "-m", "seawall", "render", str(path)], rounds)
        rows.append(
            {
                "example": path.stem,
                "median_s": statistics.median(taken),
                "worst_s": max(taken),
                "cpu_s": cpu,
            }
        )
    if given.json:
        print(json.dumps({"imports_alone": bare, "bound_s": BOUND_S, "rows": rows}, indent=1))
        return 0
    print(f"{'example':24} {'median':>8} {'worst':>8} {'CPU':>8} {'of 1 s':>8}")
    for row in [{"example": "(imports alone)", "worst_s": max(walls), **bare}, *rows]:
        times = " ".join(f"{float(row[k]) * 1000:5.0f} ms" for k in ("median_s", "worst_s", "cpu_s"))
        print(f"{row['example']:24} {times} {float(row['median_s']) / BOUND_S:8.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

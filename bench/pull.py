"""`seawall pull` against `hf download`: the same files from the same local server, as whole processes, interleaved.

Ours verifies the sha256 of every byte and writes a lockfile; the peer does not hash. Prints wall and CPU
seconds and their ratio.   bench/pull.py [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

_SERVE = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from tests.unit.weights.hub_double import HubDouble
def shard(n):
    h = json.dumps({"w": {"dtype": "U8", "shape": [n], "data_offsets": [0, n]}}).encode()
    return len(h).to_bytes(8, "little") + h + os.urandom(n)
files = {f"model-{i}.safetensors": shard(int(sys.argv[2])) for i in range(4)} | {"config.json": b"{}"}
with HubDouble(files) as hub:
    print(hub.url, flush=True)
    sys.stdin.read()
"""


def timed(argv: list[str], env: dict[str, str]) -> tuple[float, float]:
    """(wall seconds, CPU seconds) of one process tree; it must succeed."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(argv, env=env, capture_output=True, text=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{argv[0]} failed: {done.stderr[-500:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--quick", action="store_true")
    args.add_argument("--json", action="store_true")
    o = args.parse_args()
    rounds, shard = (3, 64 * 2**20) if o.quick else (7, 256 * 2**20)
    tmp = Path(tempfile.mkdtemp(prefix="seawall-bench-"))
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(ROOT), str(shard)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout
        url = server.stdout.readline().strip()
        env = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(tmp / "hf"), "HF_HUB_DISABLE_XET": "1"}
        env |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        ours: list[tuple[float, float]] = []
        theirs: list[tuple[float, float]] = []
        for n in range(rounds):
            a, b = tmp / f"a{n}", tmp / f"b{n}"
            ours.append(timed([str(BIN / "seawall"), "pull", "hf://org/model", "--to", str(a)], env))
            theirs.append(timed([str(BIN / "hf"), "download", "org/model", "--local-dir", str(b)], env))
            shutil.rmtree(a)
            shutil.rmtree(b)
        wall = [x[0] / y[0] for x, y in zip(ours, theirs, strict=True)]
        result = {
            "mib": 4 * shard >> 20,
            "seawall_wall_s": statistics.median(x[0] for x in ours),
            "hf_wall_s": statistics.median(x[0] for x in theirs),
            "seawall_cpu_s": statistics.median(x[1] for x in ours),
            "hf_cpu_s": statistics.median(x[1] for x in theirs),
            "wall_ratio_vs_hf": statistics.median(wall),
        }
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(tmp, ignore_errors=True)
    if o.json:
        print(json.dumps(result))
    else:
        print(f"{result['mib']} MiB in 4 shards, {rounds} interleaved rounds, medians")
        print(
            f"  seawall pull   {result['seawall_wall_s']:6.2f} s wall  {result['seawall_cpu_s']:6.2f} s CPU (verified)"
        )
        print(f"  hf download    {result['hf_wall_s']:6.2f} s wall  {result['hf_cpu_s']:6.2f} s CPU")
        print(f"  wall ratio     {result['wall_ratio_vs_hf']:6.2f}")


if __name__ == "__main__":
    main()

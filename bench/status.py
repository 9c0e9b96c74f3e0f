"""`seawall status` on a big cluster: requests made, bytes read, peak memory, seconds, as a whole process.

The API double serves 10,000 Pods (--quick: 2,000). The bound in the same run: one plain paged read of the same
Pods with nothing made of them, by the same client.   bench/status.py [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_READ = """
import asyncio, sys
from seawall.drivers.kube import POD, Select, connect
async def read():
    async with connect(kubeconfig=sys.argv[1]) as kube:
        await kube.list(Select(POD, "llm", labels="seawall.dev/fleet"), lambda o: None)
asyncio.run(read())
"""


def pod(n: int) -> dict[str, Any]:
    """About the size of a real engine Pod: 6 KiB of JSON."""
    labels = {
        "seawall.dev/fleet": f"fleet-{n % 10}",
        "seawall.dev/role": "engine",
        "seawall.dev/group": "stable",
    }
    env = [{"name": f"SETTING_{i}", "value": "x" * 40} for i in range(60)]
    containers = [{"name": "vllm", "image": "vllm/vllm-openai:v0.32.0", "env": env, "args": ["serve"] * 30}]
    ready = [
        {"type": t, "status": "True"} for t in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"pod-{n}", "namespace": "llm", "labels": labels},
        "spec": {"nodeName": f"node-{n % 500}", "containers": containers},
        "status": {"phase": "Running", "conditions": ready},
    }


def timed(argv: list[str]) -> tuple[float, float]:
    """(seconds, peak RSS in MB) of one process that must succeed."""
    start = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{argv} failed")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def serve(pods: int, folder: str) -> None:
    """The server, in a process of its own; for every line on stdin says what it served since the last."""
    from seawall.testing.kube_api import KubeApi

    with KubeApi() as api:
        for n in range(pods):
            api.put(pod(n))
        print(api.kubeconfig(Path(folder)), flush=True)
        for _ in sys.stdin:
            print(json.dumps([len(api.requests), api.bytes_sent]), flush=True)
            api.requests.clear()
            api.bytes_sent = 0


def measure(pods: int, folder: str) -> dict[str, float]:
    argv = [sys.executable, __file__, "--serve", str(pods), folder]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        ask, answer = server.stdin, server.stdout
        assert ask
        assert answer

        def served() -> list[int]:
            print(file=ask, flush=True)
            counts: list[int] = json.loads(answer.readline())
            return counts

        config = answer.readline().strip()
        bound_s, bound_mb = timed([sys.executable, "-c", _READ, config])
        served()
        verb = [sys.executable, "-m", "seawall", "status", "--namespace", "llm", "--kubeconfig", config]
        seconds, peak_mb = timed(verb)
        requests, count = served()
        server.kill()
    return {
        "pods": pods,
        "requests": requests,
        "mb_read": count / 1e6,
        "seconds": seconds,
        "peak_rss_mb": peak_mb,
        "seconds_vs_plain_read": seconds / bound_s,
        "rss_vs_plain_read": peak_mb / bound_mb,
    }


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--quick", action="store_true")
    args.add_argument("--json", action="store_true")
    args.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    o = args.parse_args()
    if o.serve:
        serve(int(o.serve[0]), o.serve[1])
        return
    with tempfile.TemporaryDirectory() as folder:
        result = measure(2_000 if o.quick else 10_000, folder)
    if o.json:
        print(json.dumps(result))
        return
    print(f"status of {result['pods']} Pods: {result['requests']} requests, {result['mb_read']:.0f} MB read")
    print(
        f"  {result['seconds']:.2f} s, {result['seconds_vs_plain_read']:.2f} x a plain paged read of the same"
    )
    print(f"  {result['peak_rss_mb']:.0f} MB peak RSS, {result['rss_vs_plain_read']:.2f} x")


if __name__ == "__main__":
    main()

"""The operator with many Fleets: requests and CPU of its own process, from its start until all are applied, at rest,
and for one change.

The API double (a process of its own) holds 500 Fleets in 10 namespaces, two engine Pods and a gateway each; a tenth of
that is run first, so that what grows faster than the Fleets shows. The bound: one request per object that is applied.
bench/fleets.py [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

REST_S = 60.0
NAMESPACES = 10
FLEETS = "seawall.dev/v1alpha1", "fleets"


def fleet(n: int) -> dict[str, Any]:
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 512,
        "max_position_embeddings": 2048, "torch_dtype": "bfloat16",
    }  # fmt: skip
    spec = {
        "model": {"source": "hf://example/tiny", "revision": "a" * 40, "config": config},
        "engine": {"kind": "sim"},
        "hardware": {"gpu": "cpu"},
        "scaling": {"min": 2, "max": 2, "by": "none"},
    }
    meta = {"name": f"f{n:04}", "namespace": f"team-{n % NAMESPACES}"}
    return {"apiVersion": FLEETS[0], "kind": "Fleet", "metadata": meta, "spec": spec}


def pods(n: int) -> list[dict[str, Any]]:
    """Two engines and a gateway."""
    meta = fleet(n)["metadata"]
    engine = {"seawall.dev/fleet": meta["name"], "seawall.dev/role": "engine"}
    gateway = {"app.kubernetes.io/name": "seawall-gateway"}
    ready = {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{meta['name']}-{i}", "namespace": meta["namespace"], "labels": labels},
            "spec": {"nodeName": f"node-{n % 100}"},
            "status": ready,
        }
        for i, labels in enumerate((engine, engine, gateway))
    ]


def serve(count: int, folder: str) -> None:
    """The server. `look` on stdin: requests so far, and Fleets that are applied as they are; `change` changes one."""
    from seawall.testing.kube_api import KubeApi

    with KubeApi() as api:
        for n in range(count):
            obj = fleet(n)
            for pod in pods(n):
                api.put(pod)
            where, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
            row = {name: {"queued": 0, "in_flight": n % 7}}
            replicas = {f"{name}-{i}": {"in_flight": n % 7 * i} for i in range(2)}
            api.proxies[f"{where}/{name}-2:9090"] = {"fleets": row, "replicas": replicas}
            api.put(obj)
        print(api.kubeconfig(Path(folder)), flush=True)
        for line in sys.stdin:
            known = api.objects(*FLEETS)
            if line.strip() == "change":
                obj = known["team-0", "f0000"]
                api.put({**obj, "spec": {**obj["spec"], "scaling": {"min": 3, "max": 3, "by": "none"}}})
            seen = [(o["metadata"]["generation"], o.get("status") or {}) for o in known.values()]
            done = sum(s.get("observedGeneration") == g and bool(s.get("applied")) for g, s in seen)
            owned = sum(len(s.get("objects") or []) for _, s in seen)
            print(json.dumps([len(api.requests), done, owned]), flush=True)


@dataclass
class Run:
    """A server and an operator at it."""

    server: subprocess.Popen[str]
    operator: psutil.Popen

    def look(self, word: str = "look") -> tuple[int, int, int]:
        """(requests so far, Fleets that are applied, objects that they own)"""
        ask, answer = self.server.stdin, self.server.stdout
        assert ask
        assert answer
        return ask_of(ask, answer, word)

    def cpu_s(self) -> float:
        times = self.operator.cpu_times()
        return float(times.user + times.system)

    def until(self, applied: int) -> tuple[float, float, int, int]:
        """(seconds, CPU seconds, requests, objects) until so many Fleets are applied."""
        start, cpu, (before, _, _) = time.perf_counter(), self.cpu_s(), self.look()
        while True:
            requests, done, owned = self.look()
            if done >= applied:
                return time.perf_counter() - start, self.cpu_s() - cpu, requests - before, owned
            if self.operator.poll() is not None or time.perf_counter() - start > 600:
                sys.exit(f"{done} of {applied} Fleets applied")
            time.sleep(0.2)


def ask_of(ask: IO[str], answer: IO[str], word: str) -> tuple[int, int, int]:
    ask.write(f"{word}\n")
    ask.flush()
    requests, done, owned = json.loads(answer.readline())
    return requests, done, owned


def measure(count: int, rest_s: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, __file__, "--serve", str(count), folder]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout
            config = server.stdout.readline().strip()
            command = [sys.executable, "-m", "seawall", "operator", "run", "--kubeconfig", config]
            operator = psutil.Popen(command, stderr=subprocess.DEVNULL)
            try:
                return _measured(Run(server, operator), count, rest_s)
            finally:
                operator.send_signal(signal.SIGTERM)
                operator.wait(30)
                server.terminate()


def _measured(run: Run, count: int, rest_s: float) -> dict[str, float]:
    wall, cpu, requests, owned = run.until(count)
    time.sleep(40)  # a whole resync: what the first look found is written
    before, cpu_before = run.look()[0], run.cpu_s()
    time.sleep(rest_s)
    after, cpu_after = run.look()[0], run.cpu_s()
    run.look("change")
    changed, _, _, _ = run.until(count)
    return {
        "fleets": count,
        "objects": owned,
        "start_s": wall,
        "start_cpu_s": cpu,
        "start_requests": requests,
        "rest_requests_per_s": (after - before) / rest_s,
        "rest_cpu_percent": (cpu_after - cpu_before) / rest_s * 100,
        "change_s": changed,
        "peak_mb": run.operator.memory_info().rss / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", nargs=2, metavar=("FLEETS", "FOLDER"))
    args = parser.parse_args()
    if args.serve:
        return serve(int(args.serve[0]), args.serve[1])
    counts, rest_s = ((10, 50), 15.0) if args.quick else ((50, 500), REST_S)
    rows = [measure(n, rest_s) for n in counts]
    if args.json:
        print(json.dumps(rows))
        return None
    small, large = rows
    times = counts[1] / counts[0]
    print(f"{'':22}{counts[0]:>10} Fleets{counts[1]:>10} Fleets   grows by (Fleets: {times:.0f} x)")
    for key, unit in (
        ("start_s", "s"), ("start_cpu_s", "CPU s"), ("start_requests", ""), ("rest_requests_per_s", "/s"),
        ("rest_cpu_percent", "%"), ("change_s", "s"), ("peak_mb", "MB"),
    ):  # fmt: skip
        ratio = large[key] / max(small[key], 1e-9)
        print(f"{key:22}{small[key]:>17,.2f}{large[key]:>17,.2f}   {ratio:.1f} x {unit}")
    print(
        f"bound: {large['objects']:,} objects are applied by a request each; {large['start_requests']:,} were made"
    )
    return None


if __name__ == "__main__":
    main()

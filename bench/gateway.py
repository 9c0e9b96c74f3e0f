"""The gateway against its peers: vllm-router (Rust), nginx and HAProxy, one worker each, on the same load.

    [CHUNKS=100] bench/gateway.py [--quick] [--json] [--peers seawall,resume-off,bare,vllm-router,nginx,haproxy]

Each round loads every peer, one after another in shuffled order, with one kind of load and then the next; a ratio is
the median of the rounds' ratios, for a machine's speed drifts. CPU is user+system of the proxy's process tree, in ns,
by the kernel's clock of each process. Ours runs with all it has switched on: token ids recorded, admission, metrics,
audit lines; only if named: `resume-off` keeps no record of streams, `kept` has a keeper. `bare` is
bench/gateway_bare.py, the same building blocks without a single feature: the difference is what our features cost.
The others are started as `seawall prove --target` does (prove/targets: where they come from, and how they are set up);
what cannot be had is skipped and said so. `envoy` only if named.
CHUNKS is the length of a stream. The upstream is canned, far cheaper than any proxy; for the kills it is the simulated
engine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import uvloop

sys.path.insert(0, str(Path(__file__).parent))
import gateway_load as load
from seawall.drivers import keeper
from seawall.errors import InputError
from seawall.prove.targets.adapter import TargetPlace
from seawall.prove.targets.known import find

BIN = Path(sys.executable).parent
SPEC = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: m}
spec:
  model: {source: file:///none}
  gateway: {maxInFlight: 4096}
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def process(argv: list[str], **more: object) -> Iterator[subprocess.Popen[str]]:
    p = subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        **more,  # type: ignore[call-overload]
    )
    try:
        yield p
    finally:
        p.terminate()
        try:
            p.wait(3)
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            p.wait()


def cpu_s(pid: int) -> float:
    """User and system seconds of a process tree, threads included, also those that have ended.

    The clock of another process: clock_getcpuclockid(3), which Python does not have, is `~pid << 3 | 2` on Linux.
    """
    tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(time.clock_gettime_ns(~p.pid << 3 | 2) for p in tree) / 1e9


def rss_mb(pid: int) -> float:
    tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(p.memory_info().rss for p in tree) / 1e6


def wait_http(port: int, path: str, seconds: float = 40) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1).read()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


class Peer:
    """A running proxy."""

    def __init__(self, name: str, port: int, pid: int) -> None:
        self.name, self.port, self.pid = name, port, pid
        self.cpu_request: list[float] = []
        self.cpu_chunk: list[float] = []
        self.p50: list[float] = []
        self.p99: list[float] = []
        self.rss_1000 = 0.0
        self.deaf_mb = 0.0


def start_seawall(
    stack: ExitStack, tmp: Path, upstreams: list[int], more: str = "", flags: Sequence[str] = ()
) -> Peer:
    (tmp / "fleet.yaml").write_text(SPEC.replace("4096", "4096" + more))
    urls = ",".join(f"http://127.0.0.1:{p}" for p in upstreams)
    argv = [str(BIN / "seawall"), "gateway", str(tmp / "fleet.yaml"), "--discovery", f"static:{urls}"]
    argv += ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--audit", str(tmp / "audit.log"), *flags]
    p = stack.enter_context(process(argv))
    assert p.stdout is not None
    port = int(p.stdout.readline().split()[3].rpartition(":")[2])
    return Peer("seawall", port, p.pid)


def keeper_socket(stack: ExitStack, folder: Path) -> str:
    """A keeper that runs until the stack ends -> the value of a gateway's --keeper."""
    path = str(folder / "k")
    argv = [sys.executable, "-I", "-S", str(keeper.__file__), path, "--lifeline"]
    stack.enter_context(process(argv, stdin=subprocess.PIPE))
    return path


def start_kept(stack: ExitStack, tmp: Path, upstreams: list[int]) -> Peer:
    """Ours with a keeper, and everything recorded."""
    (tmp / "kept").mkdir()
    flags = ("--keeper", keeper_socket(stack, tmp / "kept"))
    peer = start_seawall(stack, tmp / "kept", upstreams, flags=flags)
    peer.name = "kept"
    return peer


def start_forgetful(stack: ExitStack, tmp: Path, upstreams: list[int]) -> Peer:
    """Ours without a record of what streams have sent (`resume: off`)."""
    (tmp / "off").mkdir()
    peer = start_seawall(stack, tmp / "off", upstreams, ', resume: "off"')
    peer.name = "resume-off"
    return peer


def start_bare(stack: ExitStack, tmp: Path, upstreams: list[int]) -> Peer:
    urls = ",".join(f"http://127.0.0.1:{p}" for p in upstreams)
    p = stack.enter_context(process([sys.executable, str(Path(__file__).with_name("gateway_bare.py")), urls]))
    assert p.stdout is not None
    return Peer("bare", int(p.stdout.readline()), p.pid)


def start_target(name: str) -> Callable[[ExitStack, Path, list[int]], Peer | None]:
    """Another gateway, as `seawall prove --target NAME` starts it; None where it cannot be had."""

    def start(stack: ExitStack, tmp: Path, upstreams: list[int]) -> Peer | None:
        adapter = find(name)
        try:
            program = adapter.install()
        except InputError:
            return None
        folder = tmp / name
        folder.mkdir()
        place = TargetPlace(
            folder=folder, port=free_port(), engines=[f"http://127.0.0.1:{p}" for p in upstreams], names=("m",),
            program=program, spare_ports=(free_port(), free_port()), folder_for_sockets=folder,
        )  # fmt: skip
        place.write(adapter.files(place))
        env = {**os.environ, **adapter.env(place), "TOKIO_WORKER_THREADS": "1"}
        p = stack.enter_context(process(adapter.argv(place), env=env))
        wait_http(place.port, "/v1/models")
        return Peer(name, place.port, p.pid)

    return start


STARTERS: dict[str, Callable[[ExitStack, Path, list[int]], Peer | None]] = {
    "seawall": start_seawall,
    "resume-off": start_forgetful,
    "kept": start_kept,
    "bare": start_bare,
    **{name: start_target(name) for name in ("vllm-router", "nginx", "haproxy", "envoy")},
}


async def one_round(peers: list[Peer], direct: int, seconds: float, streams: int, rng: random.Random) -> None:
    """Each kind of load on all peers in turn. `streams`: how often theirs is run, whose CPU scatters the most."""
    kinds = ["json", "latency", *["stream"] * streams]
    rng.shuffle(kinds)
    for peer, kind in [(p, kind) for kind in kinds for p in rng.sample(peers, len(peers))]:
        before = cpu_s(peer.pid)
        if kind == "json":
            done, failed = await load.json_load(peer.port, seconds)
            assert done and not failed, f"{peer.name}: {failed} failed"
            peer.cpu_request.append((cpu_s(peer.pid) - before) / done * 1e6)
        elif kind == "stream":
            chunks, lost = await load.stream_load(peer.port, 64)
            assert not lost, f"{peer.name}: {lost} streams lost"
            peer.cpu_chunk.append((cpu_s(peer.pid) - before) / chunks * 1e6)
        else:
            base = await load.latencies(direct, seconds / 2)
            mine = await load.latencies(peer.port, seconds)
            peer.p50.append((load.quantile(mine, 0.5) - load.quantile(base, 0.5)) * 1e3)
            peer.p99.append((load.quantile(mine, 0.99) - load.quantile(base, 0.99)) * 1e3)


async def thousand_streams(peer: Peer) -> float:
    """Resident MB while 1,000 streams run."""
    running = asyncio.ensure_future(load.stream_load(peer.port, 1000))
    most = 0.0
    while not running.done():
        await asyncio.sleep(0.2)
        most = max(most, rss_mb(peer.pid))
    _, lost = running.result()
    assert not lost, f"{peer.name}: {lost} of 1,000 streams lost"
    return most


async def not_reading(peer: Peer) -> float:
    """MB that 20 clients cost who ask for 20 MB each and do not read."""
    before = rss_mb(peer.pid)
    conns = await load.deaf(peer.port, 20, 2.0)
    grown = rss_mb(peer.pid) - before
    for c in conns:
        c.transport.abort()
    return grown


async def kill(tmp: Path, streams: int = 40) -> dict[str, int]:
    """kill -9 of one of two simulated engines under streams and JSON -> what was lost."""
    import httpx2

    with ExitStack() as stack:
        ports, engines = [free_port(), free_port()], []
        for port in ports:
            argv = [str(BIN / "seawall"), "engine", "sim", "--port", str(port), "--served-model-name", "m"]
            engines.append(stack.enter_context(process([*argv, "--sim-step", "0.01"])))
        for port in ports:
            wait_http(port, "/health")
        peer = start_seawall(stack, tmp, ports)
        async with httpx2.AsyncClient(timeout=60) as client:
            url = f"http://127.0.0.1:{peer.port}/v1/completions"

            async def one(i: int, stream: bool) -> str | None:
                body = {"model": "m", "prompt": f"kill {i}", "max_tokens": 120, "temperature": 0}
                try:
                    if not stream:
                        r = await client.post(url, json=body)
                        return str(r.json()["choices"][0]["text"]) if r.status_code == 200 else None
                    text, ended = "", False
                    async with client.stream("POST", url, json={**body, "stream": True}) as r:
                        async for line in r.aiter_lines():
                            if line == "data: [DONE]":
                                ended = True
                            elif line.startswith("data: "):
                                doc = json.loads(line[6:])
                                text += doc["choices"][0]["text"] if doc.get("choices") else ""
                    return text if ended else None
                except (httpx2.HTTPError, ValueError, KeyError):
                    return None

            wanted = await asyncio.gather(*(one(i, False) for i in range(streams)))
            running = [asyncio.ensure_future(one(i, i % 4 != 0)) for i in range(streams)]
            await asyncio.sleep(0.6)
            engines[0].kill()
            got = await asyncio.gather(*running)
            lost = [i for i in range(streams) if got[i] is None or got[i] != wanted[i]]
            return {
                "lost_streams_on_kill": sum(i % 4 != 0 for i in lost),
                "failed_requests_on_kill": sum(i % 4 == 0 for i in lost),
            }


async def run(args: argparse.Namespace) -> dict[str, float]:
    rng = random.Random(1)
    with ExitStack() as stack:
        tmp = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="seawall-bench-")))
        ports = []
        for _ in range(2):
            p = stack.enter_context(process([sys.executable, str(Path(load.__file__)), "upstream"]))
            assert p.stdout is not None
            ports.append(int(p.stdout.readline()))
        peers, skipped = [], []
        for name in args.peers.split(","):
            peer = STARTERS[name](stack, tmp, ports)
            peers.append(peer) if peer else skipped.append(name)
        for peer in peers:
            await load.json_load(peer.port, 0.3)
        for _ in range(2 if args.quick else 7):
            await one_round(peers, ports[0], 0.5 if args.quick else 2.0, 1 if args.quick else 3, rng)
        for peer in peers:
            if peer.name == "seawall" or not args.quick:
                peer.rss_1000 = await thousand_streams(peer)
                peer.deaf_mb = await not_reading(peer)
        killed = await kill(tmp) if "seawall" in args.peers else {}
    return report(peers, skipped, killed)


def report(peers: list[Peer], skipped: list[str], killed: dict[str, int]) -> dict[str, float]:
    def mid(values: list[float]) -> float:
        return statistics.median(values) if values else float("nan")

    def ratio(ours: list[float], theirs: list[float]) -> float:
        return round(mid([a / b for a, b in zip(ours, theirs, strict=True)]), 3)

    print(
        f"{'peer':12} {'us/request':>16} {'us/chunk 64@20':>18} {'added p50':>10} {'p99 ms':>8} {'MB at 1000':>11}"
        f" {'20 deaf':>8}",
        file=sys.stderr,
    )
    for p in peers:
        spread = [f"{mid(v):6.1f} [{min(v):.0f}-{max(v):.0f}]" for v in (p.cpu_request, p.cpu_chunk)]
        rss = f"{p.rss_1000:.0f}" if p.rss_1000 else "-"
        print(
            f"{p.name:12} {spread[0]:>16} {spread[1]:>18} {mid(p.p50):10.2f} {mid(p.p99):8.2f} {rss:>11}"
            f" {p.deaf_mb:8.1f}",
            file=sys.stderr,
        )
    for name in skipped:
        print(f"{name:12} skipped: it is not here and could not be installed", file=sys.stderr)
    by = {p.name: p for p in peers}
    us = by.get("seawall")
    out: dict[str, float] = {}
    if us is None:
        return out
    for name, p in by.items():
        if p is not us:
            key = name.replace("-", "_")
            out[f"cpu_per_request_vs_{key}"] = ratio(us.cpu_request, p.cpu_request)
            out[f"cpu_per_chunk_vs_{key}"] = ratio(us.cpu_chunk, p.cpu_chunk)
    out |= {
        "added_p50_ms": round(mid(us.p50), 3),
        "added_p99_ms": round(mid(us.p99), 3),
        "rss_mb_1000_streams": round(us.rss_1000, 1),
        "mb_20_clients_not_reading": round(us.deaf_mb, 1),
        **killed,
    }
    return out


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--quick", action="store_true", help="2 short rounds, within 60 s")
    args.add_argument("--json", action="store_true", help="one JSON object on standard output")
    args.add_argument("--peers", default="seawall,bare,vllm-router,nginx,haproxy")
    parsed = args.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the proxies must not outlive this process
    result = uvloop.run(run(parsed))
    if parsed.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key:32} {value:g}")


if __name__ == "__main__":
    main()

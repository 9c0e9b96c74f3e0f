"""The gateway's memory over a million requests: JSON requests through one gateway, its resident set after each tenth.

    python bench/memory.py [--requests 1000000] [--quick] [--json]
    python bench/memory.py --idle [--json]

Two canned replicas, 16 connections that are never idle, audit lines on. Flat means: from the second tenth to the last,
no more than 1 MB is added; the first tenth fills pools, histograms and the allocator. `--quick`: 50,000 requests.
`--idle`: what a connection costs that has had an answer and rests, without a keeper and with one (at most 4 KiB more).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import uvloop

import gateway
import gateway_load as load

TENTHS = 10
FLAT_MB = 1.0
CONNECTIONS = 16
RESTING, AT_ONCE = 4_000, 500
MORE_KIB = 4.0
"""Of a resting connection, with a keeper."""


async def ask(peer: gateway.Peer, requests: int) -> int:
    """So many requests, closed loop -> those that failed."""
    conns = await load.callers(peer.port, CONNECTIONS)
    body = load.request(peer.port, False)

    async def one(caller: load.Caller, n: int) -> int:
        return sum([not await caller.ask(body, False) for _ in range(n)])

    failed = await asyncio.gather(*(one(c, requests // CONNECTIONS) for c in conns))
    for c in conns:
        c.transport.close()
    return sum(failed)


async def run(requests: int) -> dict[str, object]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="seawall-bench-")))
        ports = []
        for _ in range(2):
            p = stack.enter_context(gateway.process([sys.executable, str(Path(load.__file__)), "upstream"]))
            assert p.stdout is not None
            ports.append(int(p.stdout.readline()))
        peer = gateway.start_seawall(stack, folder, ports)
        begin, cpu, failed, resident = time.monotonic(), gateway.cpu_s(peer.pid), 0, []
        for tenth in range(1, TENTHS + 1):
            failed += await ask(peer, requests // TENTHS)
            resident.append(round(gateway.rss_mb(peer.pid), 2))
            print(f"{tenth * requests // TENTHS:>10,} requests   {resident[-1]:.2f} MB", file=sys.stderr)
        done = requests // TENTHS // CONNECTIONS * CONNECTIONS * TENTHS
        return {
            "requests": done,
            "failed": failed,
            "per_second": round(done / (time.monotonic() - begin)),
            "cpu_us_per_request": round((gateway.cpu_s(peer.pid) - cpu) / done * 1e6, 1),
            "rss_mb": resident,
            "grown_mb": round(resident[-1] - resident[1], 2),
        }


async def idle() -> dict[str, float]:
    """KiB that one resting connection costs a gateway, without and with a keeper."""
    kib: dict[str, float] = {}
    for start in (gateway.start_seawall, gateway.start_kept):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="seawall-bench-")))
            p = stack.enter_context(gateway.process([sys.executable, str(Path(load.__file__)), "upstream"]))
            assert p.stdout is not None
            peer = start(stack, folder, [int(p.stdout.readline())])
            body = load.request(peer.port, False)
            conns, resident = [], 0.0
            for _ in range(RESTING // AT_ONCE + 1):  # the first ones fill pools and the allocator
                new = await load.callers(peer.port, AT_ONCE)
                assert all([await c.ask(body, False) for c in new])
                conns += new
                resident = resident or gateway.rss_mb(peer.pid)
            kib[peer.name] = round((gateway.rss_mb(peer.pid) - resident) * 1e6 / 1024 / RESTING, 2)
            for c in conns:
                c.transport.close()
    return {
        "idle_kib": kib["seawall"],
        "kept_idle_kib": kib["kept"],
        "more_kib": kib["kept"] - kib["seawall"],
    }


def report(found: Mapping[str, object], as_json: bool) -> None:
    if as_json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:24} {value}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help="50,000 requests")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--idle", action="store_true", help="what a resting connection costs")
    args = parser.parse_args()
    if args.idle:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        costs = uvloop.run(idle())
        report(costs, args.json)
        sys.exit(0 if costs["more_kib"] <= MORE_KIB else 1)
    found = uvloop.run(run(50_000 if args.quick else args.requests))
    report(found, args.json)
    sys.exit(0 if not found["failed"] and found["grown_mb"] <= FLAT_MB else 1)  # type: ignore[operator]


if __name__ == "__main__":
    main()

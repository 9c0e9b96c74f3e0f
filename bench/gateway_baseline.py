"""The gateway's cost against no gateway at all: the number that every later change starts from.

    bench/gateway_baseline.py [--quick] [--json]

CPU microseconds (user + system of the gateway process, from /proc) per JSON request and per SSE chunk, and the
latency that it adds to the same requests sent straight to the same canned upstream. bench/gateway.py compares peers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import gateway
import gateway_load as load


async def measure(rounds: int, seconds: float) -> dict[str, float]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="seawall-bench-")))
        upstream = stack.enter_context(
            gateway.process([sys.executable, str(Path(load.__file__)), "upstream"])
        )
        assert upstream.stdout is not None
        direct = int(upstream.stdout.readline())
        peer = gateway.start_seawall(stack, folder, [direct])
        assert peer is not None
        await load.json_load(peer.port, 0.3)
        for _ in range(rounds):
            await gateway.one_round([peer], direct, seconds, random.Random(1))
        bound = await load.latencies(direct, seconds)
    return {
        "cpu_us_per_request": statistics.median(peer.cpu_request),
        "cpu_us_per_chunk": statistics.median(peer.cpu_chunk),
        "added_p50_ms": statistics.median(peer.p50),
        "added_p99_ms": statistics.median(peer.p99),
        "direct_p50_ms": load.quantile(bound, 0.5) * 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few seconds; numbers are rough")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the gateway must not outlive this process
    got = asyncio.run(measure(2 if args.quick else 7, 0.8 if args.quick else 2.0))
    if args.json:
        print(json.dumps(got))
        return
    print(f"CPU per JSON request   {got['cpu_us_per_request']:8.1f} us")
    print(f"CPU per SSE chunk      {got['cpu_us_per_chunk']:8.2f} us")
    print(f"added latency p50      {got['added_p50_ms']:8.2f} ms   (direct {got['direct_p50_ms']:.2f} ms)")
    print(f"added latency p99      {got['added_p99_ms']:8.2f} ms")


if __name__ == "__main__":
    main()

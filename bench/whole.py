"""What a whole answer costs the gateway that is put together from a stream, against the same answer streamed.

    [CHUNKS=257] bench/whole.py [--rounds 9] [--quick] [--json]

One gateway, two canned replicas, one chunk per token. Each round asks for STREAMS answers at once as streams and as
whole ones, in shuffled order; the ratio is the median of the rounds' ratios, for a machine's speed drifts. CPU is
user+system of the gateway, by the kernel's clock of its process. The aim: a whole answer costs no more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

os.environ.setdefault("CHUNKS", "257")
sys.path.insert(0, str(Path(__file__).parent))
import uvloop

import gateway
import gateway_load as load

STREAMS = 48
AGAIN = 3
"""Answers of each client in a load."""


async def cost(peer: gateway.Peer, stream: bool) -> float:
    """CPU of the gateway per answer, microseconds."""
    conns = await load.callers(peer.port, STREAMS)
    body = load.request(peer.port, stream)
    for caller in conns:
        assert await caller.ask(
            load.request(peer.port, False).replace(b'"max_tokens":257', b'"max_tokens":200'), False
        )
    before = gateway.cpu_s(peer.pid)
    for _ in range(AGAIN):
        whole = await asyncio.gather(*(c.ask(body, stream) for c in conns))
        assert all(whole), f"{whole.count(False)} answers were not whole"
    spent = gateway.cpu_s(peer.pid) - before
    for caller in conns:
        caller.transport.close()
    return spent / (STREAMS * AGAIN) * 1e6


async def run(rounds: int) -> dict[str, object]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="seawall-bench-")))
        ports = []
        for _ in range(2):
            p = stack.enter_context(gateway.process([sys.executable, str(Path(load.__file__)), "upstream"]))
            assert p.stdout is not None
            ports.append(int(p.stdout.readline()))
        peer = gateway.start_seawall(stack, folder, ports)
        for stream in (True, False):
            await cost(peer, stream)  # warm
        rows: list[dict[bool, float]] = []
        for _ in range(rounds):
            row: dict[bool, float] = {}
            for stream in random.sample((True, False), 2):
                row[stream] = await cost(peer, stream)
            print(f"streamed {row[True]:8.0f} us   whole {row[False]:8.0f} us   {row[False] / row[True]:.2f}",
                  file=sys.stderr)  # fmt: skip
            rows.append(row)
    return {
        "tokens": load.CHUNKS,
        "streamed_us": round(statistics.median(r[True] for r in rows)),
        "whole_us": round(statistics.median(r[False] for r in rows)),
        "ratio": round(statistics.median(r[False] / r[True] for r in rows), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="three rounds")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    args = parser.parse_args()
    found = uvloop.run(run(3 if args.quick else args.rounds))
    if args.json:
        print(json.dumps(found))
    else:
        print(f"{found['tokens']} tokens: streamed {found['streamed_us']} us, whole {found['whole_us']} us, "
              f"ratio {found['ratio']} (aim: 1.0)")  # fmt: skip
    sys.exit(0 if float(str(found["ratio"])) <= 1.0 else 1)


if __name__ == "__main__":
    main()

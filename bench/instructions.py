"""What a request and a chunk cost the gateway, in instructions: the same on a busy machine as on a quiet one.

    python bench/instructions.py [CHECKOUT...] [--requests 400] [--streams 40] [--json]

Counted by valgrind's callgrind (Debian's) in whatever the gateway does for what it reads from
clients and from replicas, in user space, on its compiled form. Each CHECKOUT (default: this one) is a clone with a
`.venv` in which its gateway is compiled (`make test-fast` does that); ratios are to the first. A chunk is what a stream
of 100 costs more than one of 10, divided by 90. Time, which caches and the kernel decide as well, is measured by
bench/gateway.py.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import gateway
import gateway_load as load

ENTRIES = (
    "CPyPy_client_side___Client___data_received",
    "CPyPy_upstream___Upstream___data_received",
)
"""Where the loop enters the gateway's code with bytes."""
CONNECTIONS, WARM_UP = 8, 80


async def ask(port: int, stream: bool, number: int) -> None:
    """So many requests, over a few connections."""
    body = load.request(port, stream)

    async def some(caller: load.Caller) -> None:
        for _ in range(number // CONNECTIONS):
            assert await caller.ask(body, stream), "not answered whole"

    conns = await load.callers(port, CONNECTIONS)
    await asyncio.gather(*map(some, conns))
    for c in conns:
        c.transport.close()


def counted(checkout: Path, stream: bool, chunks: int, number: int) -> float:
    """Instructions per request in a checkout's gateway."""
    valgrind = shutil.which("valgrind")
    assert valgrind, "valgrind is not there: apt-get install valgrind"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="seawall-bench-")))
        (folder / "fleet.yaml").write_text(gateway.SPEC)
        upstream = stack.enter_context(
            gateway.process(
                [sys.executable, str(Path(load.__file__)), "upstream"],
                env={**os.environ, "CHUNKS": str(chunks)},
            )
        )
        assert upstream.stdout is not None
        out, python = folder / "callgrind.out", checkout / ".venv/bin/python"
        argv = [valgrind, "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
        argv += [str(python), str(python.with_name("seawall")), "gateway", str(folder / "fleet.yaml")]
        argv += ["--discovery", f"static:http://127.0.0.1:{int(upstream.stdout.readline())}"]
        argv += ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--audit", str(folder / "audit.log")]
        proxy = stack.enter_context(gateway.process(argv))
        assert proxy.stdout is not None
        port = int(proxy.stdout.readline().split()[3].rpartition(":")[2])
        asyncio.run(ask(port, stream, WARM_UP))
        for switch in ("on", "off"):
            subprocess.run(
                ["callgrind_control", "-i", switch, str(proxy.pid)], check=True, capture_output=True
            )
            if switch == "on":
                asyncio.run(ask(port, stream, number))
        proxy.send_signal(signal.SIGTERM)
        proxy.wait(60)
        told = subprocess.run(
            ["callgrind_annotate", "--inclusive=yes", "--threshold=100", "--auto=no", str(out)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    found = [re.search(rf"^ *([\d,]+) .*{name}", told, re.MULTILINE) for name in ENTRIES]
    assert all(found), f"the gateway of {checkout} is not compiled: make test-fast"
    return sum(int(f[1].replace(",", "")) for f in found if f) / (number // CONNECTIONS * CONNECTIONS)


def measure(checkout: Path, requests: int, streams: int) -> dict[str, float]:
    short, long = (counted(checkout, True, chunks, streams) for chunks in (10, 100))
    return {
        "per_request": round(counted(checkout, False, 100, requests)),
        "per_stream_of_10": round(short),
        "per_chunk": round((long - short) / 90),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkouts", nargs="*", type=Path, default=[Path(__file__).parents[1]])
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--streams", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = {str(c): measure(c.resolve(), args.requests, args.streams) for c in args.checkouts}
    if args.json:
        print(json.dumps(found))
        return
    first = next(iter(found.values()))
    for checkout, costs in found.items():
        told = "   ".join(f"{what} {n:>9,.0f} ({n / first[what]:.3f})" for what, n in costs.items())
        print(f"{checkout:32.32} {told}")


if __name__ == "__main__":
    main()

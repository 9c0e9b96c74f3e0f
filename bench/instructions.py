"""What a request and a chunk cost the gateway, in instructions: the same on a busy machine as on a quiet one.

    python bench/instructions.py [CHECKOUT...] [--requests 400] [--streams 40] [--json]
    python bench/instructions.py --store [--requests 400] [--streams 40] [--json]
    python bench/instructions.py --keeper [--requests 400] [--streams 40] [--json]

Counted by valgrind's callgrind (Debian's) in whatever the gateway does for what it reads from
clients and from replicas, in user space, on its compiled form. Each CHECKOUT (default: this one) is a clone with a
`.venv` in which its gateway is compiled (`make test-fast` does that); ratios are to the first. A chunk is what a stream
of 100 costs more than one of 10, divided by 90. Time, which caches and the kernel decide as well, is measured by
bench/gateway.py.

`--store`: this checkout without and with a real redis-server, of a tenant with a limit. What a message to the store
costs is what the whole process needs more while it serves, divided by its messages, as the store counts them; `at_N` is
the ratio of a request in all, at N requests a second and ten messages, as there are.

`--keeper`: this checkout without and with a keeper, which the gateway writes a record of everything for.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parents[1]))
import psutil
from tests.store_server import store_server

import gateway
import gateway_load as load
from seawall.gateway.tell import keyring
from seawall.gateway.tier.tier import ROUND_S

ENTRIES = (
    "CPyPy_client_side___Client___data_received",
    "CPyPy_upstream___Upstream___data_received",
)
"""Where the loop enters the gateway's code with bytes."""
CONNECTIONS, WARM_UP = 8, 80


async def ask(port: int, stream: bool, number: int, secret: str = "") -> None:
    """So many requests, over a few connections."""
    body = load.request(port, stream)
    if secret:
        body = body.replace(b"\r\n", f"\r\nauthorization: Bearer {secret}\r\n".encode(), 1)

    async def some(caller: load.Caller) -> None:
        for _ in range(number // CONNECTIONS):
            assert await caller.ask(body, stream), "not answered whole"

    conns = await load.callers(port, CONNECTIONS)
    await asyncio.gather(*map(some, conns))
    for c in conns:
        c.transport.close()


MESSAGES = 1 / ROUND_S
"""To the store in a second."""
RATES = (250, 1000)
TENANT = ", tenants: [{name: a, requestsPerMinute: 1000000}]"


def messages(store: str) -> int:
    """To a store, so far."""
    with socket.create_connection(store.removeprefix("redis://").removesuffix("/0").split(":")) as s:  # type: ignore[arg-type]
        s.sendall(b"INFO commandstats\r\n")
        told = s.recv(65536).decode()
    found = re.search(r"cmdstat_evalsha:calls=(\d+)", told)
    return int(found[1]) if found else 0


class Counted(NamedTuple):
    """Instructions of a gateway while it served."""

    per_request: float
    """In what it did for what it read."""
    all: float
    messages: int


def counted(checkout: Path, stream: bool, chunks: int, number: int) -> float:
    """Instructions per request in a checkout's gateway."""
    return served(checkout, stream, chunks, number).per_request


def served(
    checkout: Path,
    stream: bool,
    chunks: int,
    number: int,
    tenant: bool = False,
    store: str = "",
    kept: bool | None = None,
) -> Counted:
    """With `kept` told, with a keeper or without one, counted from the first request on: a gateway that has a keeper
    serves in a child, which callgrind cannot be told to begin with."""
    valgrind = shutil.which("valgrind")
    assert valgrind, "valgrind is not there: apt-get install valgrind"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="seawall-bench-")))
        (folder / "fleet.yaml").write_text(gateway.SPEC.replace("4096", "4096" + TENANT * tenant))
        upstream = stack.enter_context(
            gateway.process(
                [sys.executable, str(Path(load.__file__)), "upstream"],
                env={**os.environ, "CHUNKS": str(chunks)},
            )
        )
        assert upstream.stdout is not None
        python = checkout / ".venv/bin/python"
        at_start = "no" if kept is None else "yes"
        argv = [valgrind, "--tool=callgrind", f"--instr-atstart={at_start}"]
        argv += [f"--callgrind-out-file={folder}/out.%p"]
        argv += [str(python), str(python.with_name("seawall")), "gateway", str(folder / "fleet.yaml")]
        argv += ["--discovery", f"static:http://127.0.0.1:{int(upstream.stdout.readline())}"]
        argv += ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--audit", str(folder / "audit.log")]
        secret = ""
        if tenant:
            secret, key = keyring.make("a")
            keyring.change(folder / "keys.json", add=key)
            argv += ["--keys", str(folder / "keys.json")]
        argv += ["--store", store] if store else []
        argv += ["--keeper", gateway.keeper_socket(stack, folder)] if kept else []
        proxy = stack.enter_context(gateway.process(argv))
        assert proxy.stdout is not None
        port = int(proxy.stdout.readline().split()[3].rpartition(":")[2])
        pid = psutil.Process(proxy.pid).children()[0].pid if kept else proxy.pid  # its parent only begins it
        asyncio.run(ask(port, stream, WARM_UP, secret))
        requests, told = number // CONNECTIONS * CONNECTIONS, 0
        if kept is not None:
            asyncio.run(ask(port, stream, number, secret))
            requests += WARM_UP
        for switch in ("on", "off") if kept is None else ():
            told = messages(store) - told if store else 0
            subprocess.run(["callgrind_control", "-i", switch, str(pid)], check=True, capture_output=True)
            if switch == "on":
                asyncio.run(ask(port, stream, number, secret))
        proxy.send_signal(signal.SIGTERM)
        proxy.wait(60)
        page = subprocess.run(
            ["callgrind_annotate", "--inclusive=yes", "--threshold=100", "--auto=no", f"{folder}/out.{pid}"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    found = [re.search(rf"^ *([\d,]+) .*{name}", page, re.MULTILINE) for name in ENTRIES]
    assert all(found), f"the gateway of {checkout} is not compiled: make test-fast"
    whole = re.search(r"^ *([\d,]+) .*PROGRAM TOTALS", page, re.MULTILINE)
    assert whole
    ours = sum(_number(f[1]) for f in found if f)
    return Counted(ours / requests, _number(whole[1]), told)


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def with_store(checkout: Path, requests: int, streams: int) -> dict[str, float]:
    """Ratios of a gateway with a store to one without."""
    found: dict[str, float] = {}

    async def run() -> None:
        async with store_server() as server:
            for name, stream, chunks, number in (
                ("request", False, 100, requests), ("short", True, 10, streams), ("long", True, 100, streams)
            ):  # fmt: skip
                for store in ("", server.url):
                    made = await asyncio.to_thread(served, checkout, stream, chunks, number, True, store)
                    key = name + ("_with" if store else "_without")
                    found[key] = made.per_request
                    if name == "request":
                        found["all" + key] = made.all
                        found["messages"] = made.messages

    asyncio.run(run())
    message = (found["allrequest_with"] - found["allrequest_without"]) / found["messages"]
    chunk = {x: (found[f"long_{x}"] - found[f"short_{x}"]) / 90 for x in ("with", "without")}
    bare, more = found["request_without"], found["request_with"]
    return {
        "per_request": round(bare),
        "per_request_ratio": round(more / bare, 3),
        "per_chunk_ratio": round(chunk["with"] / chunk["without"], 3),
        "per_message": round(message),
        **{f"at_{rate}": round((more + message * MESSAGES / rate) / bare, 3) for rate in RATES},
    }


def with_keeper(checkout: Path, requests: int, streams: int) -> dict[str, float]:
    """Ratios of a gateway with a keeper to one without."""

    def cost(stream: bool, chunks: int, number: int, kept: bool) -> float:
        return served(checkout, stream, chunks, number, kept=kept).per_request

    without, kept = (
        (cost(False, 100, requests, k), cost(True, 10, streams, k), cost(True, 100, streams, k))
        for k in (False, True)
    )
    return {
        "per_request": round(without[0]),
        "per_request_ratio": round(kept[0] / without[0], 3),
        "per_stream_of_10_ratio": round(kept[1] / without[1], 3),
        "per_chunk_ratio": round((kept[2] - kept[1]) / (without[2] - without[1]), 3),
    }


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
    parser.add_argument("--store", action="store_true")
    parser.add_argument("--keeper", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.store or args.keeper:
        beside = with_store if args.store else with_keeper
        ratios = beside(args.checkouts[0].resolve(), args.requests, args.streams)
        if args.json:
            print(json.dumps(ratios))
            return
        for what, ratio in ratios.items():
            print(f"{what:20} {ratio:>9,}")
        return
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

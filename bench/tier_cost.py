"""What a store costs one gateway: CPU and latency beside a gateway without it, for bench/tier.py.

Both run at the same time, in front of the same engine, and are measured in turn, in shuffled order, in rounds short
enough that whatever else the machine does meets both. What is said is the median over rounds of the one against the
other, and between which numbers that median lies (95%, from the order of the rounds, whatever their distribution).
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from dataclasses import dataclass, field
from math import comb
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from redis import asyncio as redis

BUSY_CLIENTS = 8
CALM_CLIENTS = 4
CALM_PAUSE_S = (0.004, 0.012)
"""Between two requests of one client: a latency at full load would be that of the queue for a core."""


class Client:
    """Keeps one connection."""

    def __init__(self, port: int, key: str) -> None:
        self.port, self.key = port, key
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, tokens: int, prompt: str = "x") -> int:
        """-> the status."""
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        body = json.dumps({"model": "m", "prompt": prompt, "max_tokens": tokens, "ignore_eos": True}).encode()
        auth = f"Authorization: Bearer {self.key}\r\n" if self.key else ""
        head = f"POST /v1/completions HTTP/1.1\r\nHost: g\r\n{auth}Content-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        top = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(
            int(x.split(":")[1]) for x in top.split("\r\n") if x.lower().startswith("content-length")
        )
        await reader.readexactly(length)
        return int(top.split(" ", 2)[1])

    def close(self) -> None:
        if self.streams is not None:
            self.streams[1].close()


class Loaded(NamedTuple):
    """What one load of one gateway has shown. Of each request."""

    cpu_s: float
    p99_s: float
    requests: int


class Side(NamedTuple):
    """One of the two gateways."""

    pid: int
    port: int
    key: str


def cpu_of(pid: int) -> float:
    """Seconds that a process has computed, all its threads."""
    spent = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        spent += int((thread / "schedstat").read_text().split()[0])
    return spent / 1e9


@dataclass
class Rounds:
    """What has been measured. Each entry is of one round: with the store, and without."""

    busy: list[tuple[float, float]] = field(default_factory=list)
    """CPU seconds per request at full load."""
    calm: list[tuple[float, float]] = field(default_factory=list)
    """The same, with about 400 requests per second."""
    p99: list[tuple[float, float]] = field(default_factory=list)
    """Seconds, of these."""

    store: str = ""
    sent: list[float] = field(default_factory=list)
    """Bytes per request that the store read and wrote, of each load that reached it."""

    async def measure(self, one: Side, other: Side, rounds: int, seconds: float, rng: Random) -> None:
        """So many rounds, of so many seconds for each side and load."""
        sides = (one, other)
        for side in sides:
            await _load(side, BUSY_CLIENTS, min(1.0, seconds), None)  # what the first ones cost is not asked
        for _ in range(rounds):
            found: dict[tuple[bool, Side], Loaded] = {}
            order = [(calm, side) for calm in (False, True) for side in sides]
            rng.shuffle(order)
            for calm, side in order:
                clients = CALM_CLIENTS if calm else BUSY_CLIENTS
                before = await traffic(self.store)
                loaded = found[calm, side] = await _load(side, clients, seconds, rng if calm else None)
                if side is one:
                    self.sent.append((await traffic(self.store) - before) / loaded.requests)
            self.busy.append((found[False, one].cpu_s, found[False, other].cpu_s))
            self.calm.append((found[True, one].cpu_s, found[True, other].cpu_s))
            self.p99.append((found[True, one].p99_s, found[True, other].p99_s))

    def told(self) -> dict[str, Any]:
        """The keys of bench/tier.py; None: nothing was measured."""
        busy, calm = ([a / b for a, b in x] for x in (self.busy, self.calm))
        added = [(a - b) * 1000 for a, b in self.p99]
        return {
            "cpu_per_request_ratio": _middle(busy),
            "cpu_per_request_ratio_between": _between(busy),
            "cpu_per_request_ratio_calm": _middle(calm),
            "cpu_us_per_request": _middle([b * 1e6 for _, b in self.busy], 1),
            "store_bytes_per_request": _middle(self.sent, 1),
            "added_p99_ms": _middle(added),
            "added_p99_ms_between": _between(added),
            "p99_ms_without": _middle([b * 1000 for _, b in self.p99]),
            "rounds": len(self.busy),
        }


async def _load(side: Side, count: int, seconds: float, pauses: Random | None) -> Loaded:
    """`pauses`: clients wait between two requests; None: they do not."""
    times: list[float] = []
    clients = [Client(side.port, side.key) for _ in range(count)]
    for one in clients:
        assert await one.ask(1) == 200
    before, began = cpu_of(side.pid), time.monotonic()

    async def client(one: Client) -> None:
        while time.monotonic() - began < seconds:
            at = time.perf_counter()
            await one.ask(1)
            times.append(time.perf_counter() - at)
            if pauses is not None:
                await asyncio.sleep(pauses.uniform(*CALM_PAUSE_S))

    try:
        async with asyncio.timeout(seconds + 60):
            await asyncio.gather(*(client(c) for c in clients))
    finally:
        for one in clients:
            one.close()
    used = cpu_of(side.pid) - before
    return Loaded(used / len(times), statistics.quantiles(times, n=100)[98], len(times))


async def traffic(store: str) -> int:
    """Bytes that the store has read and written."""
    client = redis.Redis.from_url(store)
    told = await client.info("stats")
    await client.aclose()
    return int(told["total_net_input_bytes"]) + int(told["total_net_output_bytes"])


def _middle(numbers: list[float], digits: int = 3) -> float | None:
    return round(statistics.median(numbers), digits) if numbers else None


def _between(numbers: list[float]) -> list[float] | None:
    """Where the median lies with 95%: by rank, as a sign test has it."""
    if not numbers:
        return None
    found, n = sorted(numbers), len(numbers)
    rank, below = 0, 0.0
    while rank < n // 2 and below + comb(n, rank) / 2**n <= 0.025:
        below += comb(n, rank) / 2**n
        rank += 1
    at = max(0, rank - 1)
    return [round(found[at], 3), round(found[n - 1 - at], 3)]

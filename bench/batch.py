"""The batch lane beside interactive requests, and under kills: what it costs them, what it uses, and what is lost.

A simulated engine (32 places, 20 ms a step), a gateway and the lane, each a process of its own.

    beside     interactive requests alone, then the same ones beside a batch: 99th percentile of their time to first
               token; tokens/s of the batch against what the engine gives 32 streams, less what interactive ones take
    finish     an undisturbed batch: its finish as told at a tenth of its lines, against when it was done
    kill       a batch while a random part (lane, gateway, engine) is killed (-9) again and again: results per line

    python bench/batch.py [--quick] [--json] [--only kill]

It ends within 5 (--quick) or 12 minutes, and its processes with it, also by SIGTERM. What did not come to its end by
then stands as null, its name in `unfinished`, and the exit code is 1.

A million lines: bench/batch_lines.py. On a busy machine p99 and capacity are judged in virtual time instead:
tests/unit/batch/test_figures.py. `kill` has an engine of 64 places whose steps take 5 ms, and answers of one token.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.unit.batch.processes import LaneProcesses, lane_processes  # noqa: E402

CHAT = "/v1/chat/completions"
PLACES = 32
RATE = 6.0
"""Interactive requests per second."""
TOKENS = 24
"""Of an interactive answer, and of a line's."""
MOST_LINES_S = 80
"""Lines per second that the engine can answer, and a few more."""


@dataclass(frozen=True)
class Size:
    """How much is done."""

    beside_s: float = 60.0
    finish_lines: int = 8_000
    kill_lines: int = 50_000
    kill_every_s: float = 30.0
    most_s: Mapping[str, float] = field(
        default_factory=lambda: {"beside": 200.0, "finish": 170.0, "kill": 320.0}
    )
    """Part -> how long it may take. Together with starts and ends: 12 minutes."""


QUICK = Size(
    beside_s=12.0, finish_lines=1_500, kill_lines=2_500, kill_every_s=5.0,
    most_s={"beside": 80.0, "finish": 90.0, "kill": 90.0},
)  # fmt: skip
KEYS = {
    "beside": ("ttft_p99_ratio", "idle_capacity_used"),
    "finish": ("finish_time_error",),
    "kill": ("lines", "doubled", "missing"),
}
"""Part -> what is asked of it."""
Found = dict[str, Any]


@dataclass
class Seen:
    """What one stretch of interactive requests saw."""

    ttfts: list[float] = field(default_factory=list)
    tokens: int = 0
    failed: int = 0
    seconds: float = 0.0

    def p99(self) -> float:
        ordered = sorted(self.ttfts)
        return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]


def body(n: int, tokens: int, **more: Any) -> dict[str, Any]:
    text = f"question {n}: what is the sum of {n} and {n + 1}?"
    return {"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": tokens,
            "ignore_eos": True, **more}  # fmt: skip


async def one(http: aiohttp.ClientSession, url: str, n: int, seen: Seen) -> None:
    began, first, tokens = time.perf_counter(), 0.0, 0
    try:
        async with http.post(url + CHAT, json=body(n, TOKENS, stream=True)) as answer:
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    first = first or time.perf_counter() - began
                    tokens += 1
            if answer.status != 200:
                raise aiohttp.ClientError(str(answer.status))
    except aiohttp.ClientError:
        seen.failed += 1
        return
    seen.ttfts.append(first)
    seen.tokens += TOKENS


async def interactive(url: str, seconds: float, seed: int) -> Seen:
    """Open-loop arrivals from a seed, so that two stretches have the same."""
    rng, seen, began = random.Random(seed), Seen(), time.perf_counter()
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
        asyncio.TaskGroup() as group,
    ):
        at, n = 0.0, 0
        while (at := at + rng.expovariate(RATE)) < seconds:
            await asyncio.sleep(max(0.0, began + at - time.perf_counter()))
            n += 1
            group.create_task(one(http, url, n, seen))
    seen.seconds = time.perf_counter() - began
    return seen


async def capacity(url: str, seconds: float) -> float:
    """Tokens per second of the engine with all its places taken."""
    seen, until = Seen(), time.perf_counter() + seconds

    async def stream(http: aiohttp.ClientSession, n: int) -> None:
        while time.perf_counter() < until:
            await one(http, url, n, seen)

    began = time.perf_counter()
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
        asyncio.TaskGroup() as group,
    ):
        for n in range(PLACES):
            group.create_task(stream(http, n))
    return seen.tokens / (time.perf_counter() - began)


class Client:
    """The lane as a client uses it."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url, self.http = url, http

    async def submit(self, path: Path, window: str = "24h") -> dict[str, Any]:
        form = aiohttp.FormData({"purpose": "batch"})
        with path.open("rb") as source:
            form.add_field("file", source, filename=path.name)
            file = await self._ask("POST", "/v1/files", data=form)
        asked = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": window}
        return await self._ask("POST", "/v1/batches", json=asked)

    async def batch(self, name: str) -> dict[str, Any] | None:
        """None: nobody answers just now."""
        try:
            return await self._ask("GET", f"/v1/batches/{name}")
        except (aiohttp.ClientError, OSError):
            return None

    async def lines(self, file: str) -> list[str]:
        async with self.http.get(f"{self.url}/v1/files/{file}/content") as answer:
            return [json.loads(line)["custom_id"] async for line in answer.content]

    async def _ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        async with self.http.request(method, self.url + path, **more) as answer:
            answer.raise_for_status()
            found: dict[str, Any] = await answer.json()
            return found


def write_lines(path: Path, lines: int, tokens: int) -> Path:
    with path.open("w") as out:
        for n in range(lines):
            line = {"custom_id": f"q{n}", "method": "POST", "url": CHAT, "body": body(n, tokens)}
            out.write(json.dumps(line) + "\n")
    return path


def done(batch: dict[str, Any]) -> int:
    counts = batch["request_counts"]
    return int(counts["completed"] + counts["failed"])


async def beside(lane: LaneProcesses, client: Client, size: Size) -> Found:
    await capacity(lane.url, 2.0)
    most = await capacity(lane.url, size.beside_s / 2)
    alone = await interactive(lane.url, size.beside_s, seed=7)
    path = write_lines(lane.folder / "beside.jsonl", int(size.beside_s * 2 * MOST_LINES_S), TOKENS)
    batch = await client.submit(path)
    await asyncio.sleep(5.0)
    before = await client.batch(batch["id"])
    assert before is not None
    began = time.perf_counter()
    with_batch = await interactive(lane.url, size.beside_s, seed=7)
    after = await client.batch(batch["id"])
    assert after is not None
    rate = (done(after) - done(before)) * TOKENS / (time.perf_counter() - began)
    await client._ask("POST", f"/v1/batches/{batch['id']}/cancel")
    await until_over(client, batch["id"])
    left = most - with_batch.tokens / with_batch.seconds
    return {
        "ttft_p99_alone_ms": round(alone.p99() * 1000, 1),
        "ttft_p99_beside_ms": round(with_batch.p99() * 1000, 1),
        "ttft_p99_ratio": round(with_batch.p99() / alone.p99(), 3),
        "capacity_tokens_s": round(most),
        "interactive_failed": alone.failed + with_batch.failed,
        "idle_capacity_used": round(rate / left, 3),
    }


async def until_over(client: Client, name: str) -> dict[str, Any]:
    while True:
        found = await client.batch(name)
        if found is not None and found["status"] in ("completed", "failed", "expired", "cancelled"):
            return found
        await asyncio.sleep(0.25)


async def finish(lane: LaneProcesses, client: Client, size: Size) -> Found:
    path = write_lines(lane.folder / "finish.jsonl", size.finish_lines, TOKENS)
    began = time.time()
    batch = await client.submit(path)
    while True:
        found = await client.batch(batch["id"])
        if found is not None and done(found) >= size.finish_lines / 10:
            break
        await asyncio.sleep(0.1)
    told = found["seawall"]["finish_at"] - began
    await until_over(client, batch["id"])
    took = time.time() - began
    return {
        "finish_time_error": round(abs(told - took) / took, 3),
        "lines_per_s": round(size.finish_lines / took, 1),
    }


async def replaced(lane: LaneProcesses, name: str) -> None:
    """A part is killed and begins anew. Who is cancelled meanwhile waits, so that it can be ended, too."""

    def work() -> None:
        lane.kill(name)
        lane.start(name)

    doing = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(doing)
    except asyncio.CancelledError:
        await doing
        raise


async def kill(lane: LaneProcesses, client: Client, size: Size, seed: int) -> Found:
    rng = random.Random(seed)
    batch = await client.submit(write_lines(lane.folder / "kill.jsonl", size.kill_lines, 1))
    over = asyncio.create_task(until_over(client, batch["id"]))
    kills, began = 0, time.perf_counter()
    while not (await asyncio.wait({over}, timeout=size.kill_every_s))[0]:
        part = rng.choice(["lane", "gateway", "engine"])
        await replaced(lane, part)
        kills += 1
    found, took = await over, time.perf_counter() - began
    seen = Counter(await client.lines(found["output_file_id"]) if found["output_file_id"] else [])
    if found["error_file_id"]:
        seen.update(await client.lines(found["error_file_id"]))
    missing = sum(f"q{n}" not in seen for n in range(size.kill_lines))
    return {
        "lines": size.kill_lines,
        "kills": kills,
        "kill_seconds": round(took),
        "doubled": sum(n - 1 for n in seen.values()),
        "missing": missing,
        "failed": found["request_counts"]["failed"],
        "ran_twice": found["seawall"]["ran_twice"],
    }


def peak_mb(pid: int) -> float:
    """Most memory that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return round(int(status.split("VmHWM:")[1].split()[0]) / 1024, 1)


def session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))


async def part(name: str, work: Awaitable[Found], size: Size, found: Found) -> None:
    """Adds what a part finds, or that it did not come to its end in its time."""
    try:
        async with asyncio.timeout(size.most_s[name]):
            found |= await work
    except TimeoutError:
        found["unfinished"].append(name)
        found |= dict.fromkeys(KEYS[name])


async def measure(size: Size, only_kill: bool) -> Found:
    found: Found = {"rss_mb": 0.0, "unfinished": []}
    if not only_kill:
        with tempfile.TemporaryDirectory() as folder, lane_processes(Path(folder)) as lane:
            async with session() as http:
                client = Client(lane.url, http)
                await part("beside", beside(lane, client, size), size, found)
                await part("finish", finish(lane, client, size), size, found)
                found["rss_mb"] = peak_mb(lane.running["lane"].pid)
    short = ("--sim-step", "0.005")
    with (
        tempfile.TemporaryDirectory() as folder,
        lane_processes(Path(folder), places=64, engine=short) as lane,
    ):
        async with session() as http:
            await part("kill", kill(lane, Client(lane.url, http), size, seed=1), size, found)
            if "lane" in lane.running:
                found["rss_mb"] = max(found["rss_mb"], peak_mb(lane.running["lane"].pid))
    return found


async def unless_ended(work: Coroutine[Any, Any, Found]) -> Found:
    """What `work` finds. By SIGTERM it is cancelled, so that no process outlives this one."""
    doing = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, doing.cancel)
    return await doing


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a minute or two")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", choices=["kill"])
    asked = parser.parse_args()
    size = QUICK if asked.quick else Size()
    try:
        found = asyncio.run(unless_ended(measure(size, asked.only == "kill")))
    except asyncio.CancelledError:
        sys.exit(143)
    if asked.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            shown = f"{value:,}" if isinstance(value, int | float) else str(value or "-")
            print(f"{name:<22}{shown:>12}")
    sys.exit(1 if found["unfinished"] else 0)


if __name__ == "__main__":
    main()

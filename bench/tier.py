"""Several gateways that act as one: what holds over all of them, and what the store costs.

Three gateway processes, one real store (redis-server), one simulated engine. Limits at many times too much, fairness of
tenants that land unevenly, a replica's cap, a gateway killed; CPU and latency of one gateway with and
without the store. What caches hold is routed without time (`seawall.testing.caches`), beside an oracle that sees into
them. Each gateway is killed in turn while clients that come again stream from it: an answer that does not come whole,
or not as a quiet engine gives it, is lost on reattach.

    python bench/tier.py [--quick] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import yaml  # noqa: E402
from redis import asyncio as redis  # noqa: E402
from tests.store_server import TOOLS, store_server  # noqa: E402

from seawall.gateway.tell import keyring  # noqa: E402
from seawall.load.client import LoadClient  # noqa: E402
from seawall.prove.tier import TierFleet  # noqa: E402
from seawall.testing.caches import CacheTrial  # noqa: E402

FLEET = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {{name: m}}
spec:
  model: {{source: file:///none, servedNames: [m]}}
  gateway: {{resume: "off", queueTimeout: 60s, {more}}}
"""
RATE = 600
CAP = 8
LONG = "word " * 400
"""A turn of the queue is 2,048 tokens: with requests of a few tokens each, fairness takes minutes."""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def process(*argv: str, word: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A `seawall` command, once its output has said `word`."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "seawall",
        *argv,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert child.stdout is not None
        line = ""
        async with asyncio.timeout(60):
            while word not in line:
                line = (await child.stdout.readline()).decode()
        yield child, line
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


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


async def page(port: int) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    return text


def value(text: str, name: str) -> float:
    return sum(float(x.rpartition(" ")[2]) for x in text.splitlines() if x.startswith(name))


class Bench:
    """Keys, an engine and a store."""

    def __init__(self, folder: Path, engine: int, store: str, seconds: float) -> None:
        self.folder, self.engine, self.store, self.seconds = folder, engine, store, seconds
        self.keys: dict[str, str] = {}
        for tenant in ("a", "b", "c", "d"):
            self.keys[tenant], key = keyring.make(tenant)
            keyring.change(folder / "keys.json", add=key)

    @contextlib.asynccontextmanager
    async def gateways(
        self, count: int, more: str, store: bool = True
    ) -> AsyncIterator[list[tuple[asyncio.subprocess.Process, int, int]]]:
        spec = self.folder / "fleet.yaml"
        spec.write_text(FLEET.format(more=more))
        keys = ["--keys", str(self.folder / "keys.json")] if "tenants" in more else []
        argv = ["gateway", str(spec), "--discovery", f"static:http://127.0.0.1:{self.engine}", *keys]
        argv += ["--store", self.store] if store else []
        async with contextlib.AsyncExitStack() as stack:
            found = []
            for _ in range(count):
                ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
                child, line = await stack.enter_async_context(process(*argv, *ports, word="admin"))
                url, admin = line.split("serves ")[1].split("   admin ")
                found.append((child, int(url.rpartition(":")[2]), int(admin.strip().rpartition(":")[2])))
            while store and not all([value(await page(a), "seawall_store_up") for _, _, a in found]):
                await asyncio.sleep(0.05)
            yield found

    async def limit(self, kill: bool) -> float:
        """How far the sum is over (or, without a kill, off) the limit, as a share of it."""
        tenant = "b" if kill else "a"  # the store remembers what the other one has used of its minute
        limits = ", ".join(f"{{name: {t}, requestsPerMinute: {RATE}}}" for t in ("a", "b"))
        async with self.gateways(3, f"tenants: [{limits}]") as tier:
            began, passed = time.monotonic(), Counter[int]()

            async def client(port: int) -> None:
                one = Client(port, self.keys[tenant])
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    while time.monotonic() - began < self.seconds:
                        passed[await one.ask(1)] += 1
                one.close()

            tasks = [asyncio.ensure_future(client(p)) for _, p, _ in tier for _ in range(4)]
            if kill:
                await asyncio.sleep(self.seconds / 2)
                tier[0][0].kill()
            await asyncio.gather(*tasks)
            due = RATE + RATE / 60 * (time.monotonic() - began)
            return (passed[200] - due) / due

    async def fairness(self) -> tuple[float, int]:
        """Jain's index of four tenants of one weight that land unevenly, and requests over the replica's cap."""
        tenants = ", ".join(f"{{name: {t}}}" for t in self.keys)
        async with self.gateways(3, f"maxInFlight: {CAP}, tenants: [{tenants}]") as tier:
            began, served, most = time.monotonic(), Counter[str](), 0

            async def client(port: int, tenant: str) -> None:
                one = Client(port, self.keys[tenant])
                while time.monotonic() - began < self.seconds:
                    if await one.ask(8, LONG) == 200 and time.monotonic() - began > self.seconds / 5:
                        served[tenant] += 1
                one.close()

            lands = {"a": (0, 24), "b": (1, 8), "c": (1, 8), "d": (2, 12)}
            tasks = [
                asyncio.ensure_future(client(tier[g][1], t)) for t, (g, n) in lands.items() for _ in range(n)
            ]
            while time.monotonic() - began < self.seconds:
                text = await page(self.engine)
                there = value(text, "vllm:num_requests_running") + value(text, "vllm:num_requests_waiting{")
                most = max(most, int(there))
                await asyncio.sleep(0.05)
            await asyncio.gather(*tasks)
            shares = [served[t] for t in lands]
            jain = sum(shares) ** 2 / (len(shares) * sum(x * x for x in shares)) if any(shares) else 0.0
            return jain, max(0, most - CAP)

    async def cost(self, store: bool) -> tuple[float, float, float]:
        """CPU seconds per request of one gateway, the 99th percentile of a request's seconds, and the bytes per request
        that the store has read and written."""
        async with self.gateways(1, f"tenants: [{{name: a, requestsPerMinute: {10**7}}}]", store) as tier:
            child, port, _ = tier[0]
            times: list[float] = []
            clients = [Client(port, self.keys["a"]) for _ in range(4)]
            for one in clients:
                await one.ask(1)
            before, began, sent = cpu_of(child.pid), time.monotonic(), await traffic(self.store)

            async def client(one: Client) -> None:
                while time.monotonic() - began < self.seconds:
                    at = time.perf_counter()
                    await one.ask(1)
                    times.append(time.perf_counter() - at)

            await asyncio.gather(*(client(c) for c in clients))
            used, sent = cpu_of(child.pid) - before, await traffic(self.store) - sent
            for one in clients:
                one.close()
            return used / len(times), statistics.quantiles(times, n=100)[98], sent / len(times)


async def traffic(store: str) -> int:
    """Bytes that the store has read and written."""
    client = redis.Redis.from_url(store)
    told = await client.info("stats")
    await client.aclose()
    return int(told["total_net_input_bytes"]) + int(told["total_net_output_bytes"])


async def reattach(folder: Path, seconds: float) -> tuple[int, int]:
    """Answers that were lost or wrong, and all, while each of three gateways is killed and comes back."""
    document = yaml.safe_load(FLEET.format(more="maxInFlight: 32"))
    document["spec"]["engine"] = {"kind": "sim", "extraArgs": ["--sim-step", "0.05", "--sim-seed", "1"]}
    document["spec"]["gateway"]["resume"] = "exact"
    tier = TierFleet(folder / "tier", document, ())
    await tier.start(engines=2, gateways=3)
    try:
        quiet, client = LoadClient(next(iter(tier.engines))), tier.client(None)
        asked = [
            {"model": "m", "prompt": f"A story, number {i}:", "max_tokens": 40, "temperature": 0,
             "ignore_eos": True, "stream": True} for i in range(12)
        ]  # fmt: skip
        wanted = ["".join((await quiet.request("/v1/completions", body)).text) for body in asked]
        on, count, lost = True, 0, 0

        async def lane(i: int) -> None:
            nonlocal count, lost
            while on:
                outcome = await client.request("/v1/completions", asked[i])
                count += 1
                lost += outcome.error is not None or "".join(outcome.text) != wanted[i]

        lanes = [asyncio.ensure_future(lane(i)) for i in range(len(asked))]
        for gateway in tier.gateways:
            await asyncio.sleep(max(1.0, seconds / 10))
            await gateway.kill()
            await asyncio.sleep(max(3.0, seconds / 10))
            await gateway.serve()
        on = False
        await asyncio.gather(*lanes)
        return lost, count
    finally:
        await tier.stop()


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def caches(requests: int) -> tuple[float, float]:
    """Median error of expected cached tokens, and hits as a share of an oracle's."""
    ours = CacheTrial(4, 120_000, seed=1).agents(requests, 16)
    oracle = CacheTrial(4, 120_000, seed=1, oracle=True).agents(requests, 16)
    return ours.median_error, ours.cached / ours.prompt / (oracle.cached / oracle.prompt)


def say(text: str) -> None:
    """Progress, for who waits."""
    print(text, file=sys.stderr, flush=True)


async def measure(quick: bool) -> dict[str, Any]:
    seconds = 5.0 if quick else 60.0
    error, share = caches(150 if quick else 3000)
    say(f"caches: error {error:.4f}, {share:.3f} of an oracle's hits")
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        engine = ["engine", "sim", "m", "--port", str(port), "--sim-step", "0.01", "--max-num-seqs", "64"]
        async with store_server() as server, process(*engine, word=str(port)):
            bench = Bench(Path(folder), port, server.url, seconds)
            limit = await bench.limit(kill=False)
            say(f"off the limit: {limit:.4f}")
            killed = await bench.limit(kill=True)
            say(f"with a gateway killed: {killed:.4f}")
            jain, exceeded = await bench.fairness()
            say(f"Jain's index {jain:.4f}, over the cap {exceeded}")
            os.environ["PATH"] = f"{TOOLS}:{os.environ['PATH']}"
            lost, answers = await reattach(Path(folder), seconds)
            say(f"lost on reattach: {lost} of {answers} answers")
            pairs = [(await bench.cost(True), await bench.cost(False)) for _ in range(1 if quick else 3)]
    return {
        "limit_error": round(abs(limit), 4),
        "limit_error_after_kill": round(killed, 4),
        "jain": round(jain, 4),
        "cap_exceeded": exceeded,
        "lost_on_reattach": lost,
        "cached_tokens_error_median": round(error, 4),
        "oracle_hit_share": round(share, 4),
        "cpu_per_request_ratio": round(statistics.median(a[0] / b[0] for a, b in pairs), 3),
        "store_bytes_per_request": round(statistics.median(a[2] for a, _ in pairs), 1),
        "added_p99_ms": round(statistics.median(a[1] - b[1] for a, b in pairs) * 1000, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = asyncio.run(measure(args.quick))
    if args.json:
        print(json.dumps(found))
        return
    for name, number in found.items():
        print(f"{name:28} {number}")


if __name__ == "__main__":
    main()

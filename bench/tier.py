"""Several gateways that act as one: what holds over all of them, and what the store costs.

Three gateway processes, one real store (redis-server), one simulated engine. Limits at many times too much, fairness of
tenants that land unevenly, a replica's cap, a gateway killed; CPU and latency of one gateway with the store beside one
without (tier_cost.py). What caches hold is routed without time (`seawall.testing.caches`), beside an oracle that sees
into them. Each gateway is killed in turn while clients that come again stream from it: an answer that does not come
whole, or not as a quiet engine gives it, is lost on reattach.

    python bench/tier.py [--quick] [--json] [--only PART]...        8 minutes in quiet; --quick: one and a half

Exit code 1 when a part could not be measured: its keys are null, and stderr says why.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from random import Random
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import yaml  # noqa: E402
from tests.store_server import TOOLS, store_server  # noqa: E402

from seawall.gateway import compiled  # noqa: E402
from seawall.gateway.tell import keyring  # noqa: E402
from seawall.load.client import LoadClient  # noqa: E402
from seawall.prove.tier import TierFleet  # noqa: E402
from seawall.testing.caches import CacheTrial  # noqa: E402
from tier_cost import Client, Rounds, Side  # noqa: E402

FLEET = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {{name: m}}
spec:
  model: {{source: file:///none, servedNames: [m]}}
  gateway: {{resume: "off", queueTimeout: 60s, {more}}}
"""
T = TypeVar("T")
PARTS = ["caches", "limit", "kill", "fairness", "reattach", "cost"]
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
                if not line:
                    raise RuntimeError(f"`seawall {' '.join(argv)}` ended before it said {word!r}")
        yield child, line
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


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
            async with asyncio.timeout(60):
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

    async def cost(self, rounds: Rounds, count: int, seconds: float, rng: Random) -> None:
        """A gateway with the store beside one without."""
        more = f"tenants: [{{name: a, requestsPerMinute: {10**7}}}]"
        async with self.gateways(1, more) as (one,), self.gateways(1, more, store=False) as (other,):
            with_store, without = (Side(child.pid, port, self.keys["a"]) for child, port, _ in (one, other))
            await rounds.measure(with_store, without, count, seconds, rng)


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


async def caches(requests: int) -> tuple[float, float]:
    """Median error of expected cached tokens, and hits as a share of an oracle's."""
    ours = CacheTrial(4, 120_000, seed=1).agents(requests, 16)
    oracle = CacheTrial(4, 120_000, seed=1, oracle=True).agents(requests, 16)
    return ours.median_error, ours.cached / ours.prompt / (oracle.cached / oracle.prompt)


def form() -> str:
    """In which the gateway runs here."""
    return "compiled" if compiled.folder().is_dir() else "plain Python"


def say(text: str) -> None:
    """Progress, for who waits."""
    print(text, file=sys.stderr, flush=True)


async def part(name: str, work: Awaitable[T], seconds: float) -> T | None:
    """One part of the bench. What fails, or hangs, is said, and leaves the others to be measured."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            found = await work
    except Exception as e:
        say(f"{name} failed after {time.monotonic() - began:.0f} s: {type(e).__name__}: {e}")
        return None
    say(f"{name}: {found}  ({time.monotonic() - began:.0f} s)")
    return found


async def measure(quick: bool, only: list[str]) -> dict[str, Any]:
    seconds = 5.0 if quick else 60.0
    starts, rounds, each = (1, 5, 1.0) if quick else (3, 9, 2.0)
    cost, rng = Rounds(), Random(time.time_ns())
    limit = killed = fair = lost = held = None
    say(f"the gateway is {form()}")
    os.environ["PATH"] = f"{TOOLS}:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as folder:
        port, quick_port = free_port(), free_port()
        engine = ["engine", "sim", "m", "--port", str(port), "--sim-step", "0.01", "--max-num-seqs", "64"]
        fast = ["engine", "sim", "m", "--port", str(quick_port), "--sim-step", "0.001"]
        async with (
            store_server() as server,
            process(*engine, word=str(port)),
            process(*fast, word=str(quick_port)),
        ):
            bench = Bench(Path(folder), port, server.url, seconds)
            if "caches" in only:
                held = await part("error, share of an oracle's hits", caches(150 if quick else 3000), 120)
            if "limit" in only:
                limit = await part("off the limit", bench.limit(kill=False), seconds + 60)
            if "kill" in only:
                killed = await part("with a gateway killed", bench.limit(kill=True), seconds + 60)
            if "fairness" in only:
                fair = await part("Jain's index, over the cap", bench.fairness(), seconds + 90)
            if "reattach" in only:
                lost = await part("lost on reattach, of", reattach(Path(folder), seconds), seconds + 120)
            cost.store, bench.engine = server.url, quick_port
            for _ in range(
                starts if "cost" in only else 0
            ):  # other addresses in memory, another seed of hashes
                await part("cost", bench.cost(cost, rounds, each, rng), rounds * each * 8 + 120)
    return {
        "limit_error": None if limit is None else round(abs(limit), 4),
        "limit_error_after_kill": None if killed is None else round(killed, 4),
        "jain": None if fair is None else round(fair[0], 4),
        "cap_exceeded": None if fair is None else fair[1],
        "lost_on_reattach": None if lost is None else lost[0],
        "answers_on_reattach": None if lost is None else lost[1],
        "cached_tokens_error_median": None if held is None else round(held[0], 4),
        "oracle_hit_share": None if held is None else round(held[1], 4),
        **cost.told(),
        "compiled": form() == "compiled",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", action="append", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # its processes end with it
    began = time.monotonic()
    try:
        found = asyncio.run(measure(args.quick, args.only or PARTS))
    except KeyboardInterrupt:
        sys.exit(1)
    found["seconds"] = round(time.monotonic() - began)
    if args.json:
        print(json.dumps(found))
    else:
        for name, number in found.items():
            print(f"{name:32} {number}")
    if None in found.values() and not args.only:
        sys.exit(1)


if __name__ == "__main__":
    main()

"""A gateway that is killed under streams: what its clients see, and where the time goes until all of them move again.

    python bench/keeper.py [--streams 500] [--kills 5] [--tokens 100] [--step 0.3] [--without] [--json] [--quick]

Two simulated engines, a keeper, a gateway; as many clients as streams, each with one keep-alive connection and no
retries, asking again and again (a test plays the same with OpenAI's own client). A kill is a SIGKILL of the process
that serves.

The bound of the same run: all clients, connected and at rest, begin a stream at the same moment through the gateway
as it is; until the last has its first chunk. A take-over begins as many streams at the engines, so on whatever machine
it can hardly be quicker, and what it takes beyond that is the keeper's, the next process's and the record's.

Printed: streams, lost, wrong (compared with the same request unbroken), those that saw a kill; of each kill the seconds
until the next process had the record, until it had all connections, until the first and the last of the streams moved,
and the CPU seconds of gateway, engines and clients meanwhile; and the same of the bound. `--without`: no keeper.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx2
import psutil
import uvloop

from seawall.drivers import keeper
from seawall.gateway.process.successor import STABLE_S

MODEL = "m"
IN_FLIGHT_S = 0.05
"""What came so soon after a kill may have been in the client's own buffers."""
LAST = b"\r\n0\r\n\r\n"
Spent = tuple[float, float, float]
FLEET = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: m}
spec:
  model: {source: "hf://example/tiny"}
  engine: {kind: sim, maxNumSeqs: 1024}
  hardware: {gpu: cpu, cloud: local}
  traffic: {maxContext: 4k}
  gateway: {maxInFlight: 2048}
"""
TAKEN = re.compile(r"had their record after ([0-9.]+) s, and them after ([0-9.]+) s")
"""What the gateway says of a take-over in its log."""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass(frozen=True)
class Part:
    """Of one kill, or of one fresh beginning of all streams: seconds until the first and the last one moved (or was
    over), and the CPU seconds of each side until then."""

    first_s: float
    last_s: float
    gateway_cpu_s: float
    engines_cpu_s: float
    clients_cpu_s: float


@dataclass
class Seen:
    """What the clients saw."""

    streams: int = 0
    lost: list[str] = field(default_factory=list)
    wrong: int = 0
    through: int = 0
    """Streams that were open at a kill."""
    kills: list[Part] = field(default_factory=list)
    bound: list[Part] = field(default_factory=list)


class Stand:
    """Engines, keeper and gateway as processes."""

    def __init__(self, folder: Path, kept: bool, step_s: float = 0.02) -> None:
        self.folder, self.kept = folder, kept
        (folder / "fleet.yaml").write_text(FLEET, "utf-8")
        self.url, self.admin = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
        self.engines = [free_port() for _ in range(2)]
        self.processes = [
            self._run("engine", "sim", "--port", str(port), "--sim-step", str(step_s), "--max-num-seqs", "1024",
                      "--served-model-name", MODEL) for port in self.engines
        ]  # fmt: skip
        self.keeper = self.start_keeper() if kept else None
        self.gateway = self.start_gateway()

    def _run(self, *args: str) -> subprocess.Popen[bytes]:
        log = (self.folder / "log").open("ab")
        return subprocess.Popen([sys.executable, "-m", "seawall", *args], stdout=log, stderr=log)

    def start_keeper(self) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-I", "-S", str(keeper.__file__), str(self.folder / "k"), "--lifeline"]
        return subprocess.Popen(argv, stdin=subprocess.PIPE)

    def start_gateway(self) -> subprocess.Popen[bytes]:
        engines = ",".join(f"http://127.0.0.1:{port}" for port in self.engines)
        more = ("--keeper", str(self.folder / "k")) if self.kept else ()
        return self._run(
            "gateway", str(self.folder / "fleet.yaml"), "--discovery", f"static:{engines}",
            "--listen", self.url[7:], "--admin", self.admin[7:], *more,
        )  # fmt: skip

    async def ready(self) -> None:
        async with httpx2.AsyncClient() as http:
            for url in (*(f"http://127.0.0.1:{p}/health" for p in self.engines), self.admin + "/readyz"):
                while True:
                    with contextlib.suppress(httpx2.HTTPError):
                        if (await http.get(url)).status_code == 200:
                            break
                    await asyncio.sleep(0.05)

    def serving(self) -> psutil.Process:
        """The process that serves."""
        children = psutil.Process(self.gateway.pid).children()
        return children[0] if children else psutil.Process(self.gateway.pid)

    def cpu_s(self) -> tuple[float, float, float]:
        """CPU seconds so far of the process that serves, of the engines, of this process and its clients."""
        engines = sum(spent(psutil.Process(p.pid)) for p in self.processes)
        return spent(self.serving()), engines, time.process_time()

    def taken(self) -> list[tuple[float, float]]:
        """Of each take-over: seconds until the next process had the record, and until it had all connections."""
        return [(float(a), float(b)) for a, b in TAKEN.findall((self.folder / "log").read_text())]

    def close(self) -> None:
        for process in (self.gateway, *self.processes, *([self.keeper] if self.keeper else [])):
            process.send_signal(signal.SIGTERM)
        for process in (self.gateway, *self.processes):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def request(i: int, tokens: int) -> bytes:
    body = json.dumps({
        "model": MODEL, "stream": True, "temperature": 0, "max_tokens": tokens, "ignore_eos": True,
        "stream_options": {"include_usage": True}, "messages": [{"role": "user", "content": f"Wall {i % 8}."}],
    })  # fmt: skip
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def told(raw: bytes) -> Any:
    """All that a client is told but ids and times. ValueError when it is not a whole stream."""
    if not raw.startswith(b"HTTP/1.1 200"):
        raise ValueError(raw[:200].decode("latin-1"))
    events = [line[6:] for line in raw.split(b"\n") if line.startswith(b"data: ")]
    if not events or events[-1] != b"[DONE]":
        raise ValueError(f"no [DONE]: {raw[-200:]!r}")
    text, rest = "", []
    for event in map(json.loads, events[:-1]):
        if "error" in event:
            raise ValueError(str(event["error"]))
        text += "".join(c["delta"].get("content") or "" for c in event["choices"])
        rest += [c["finish_reason"] for c in event["choices"] if c["finish_reason"]]
        rest += [event["usage"]["completion_tokens"]] if event.get("usage") else []
    ids = {json.loads(event)["id"] for event in events[:-1]}
    return text, rest, len(ids)


class Client(asyncio.Protocol):
    """One keep-alive connection, as bare as can be: what clients cost is not what is measured here."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.chunks = 0
        self.first_after = self.again_at = 0.0
        """Of what came after the first, when the first came; or when the stream was over."""
        self.over: asyncio.Future[None] | None = None
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def ask(self, raw: bytes) -> asyncio.Future[None]:
        """Sends a request; the future is done at the end of its answer. ConnectionError when the connection ends."""
        self.data.clear()
        self.chunks = 0
        if self.first_after and not self.again_at:  # its stream ended just as the gateway was killed
            self.again_at = time.monotonic()
        self.over = asyncio.get_running_loop().create_future()
        self.transport.write(raw)
        return self.over

    @property
    def open(self) -> bool:
        return self.over is not None and not self.over.done() and self.chunks > 0

    def data_received(self, data: bytes) -> None:
        self.data += data
        if self.chunks or b"data: " in data:
            self.chunks += 1
            if not self.again_at and (now := time.monotonic()) > self.first_after:
                self.again_at = now
        if self.over is not None and not self.over.done() and self.data.endswith(LAST):
            self.over.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self.over is not None and not self.over.done():
            self.over.set_exception(exc or ConnectionError("closed in the middle of an answer"))


class Clients:
    def __init__(self, stand: Stand, tokens: int) -> None:
        self.stand, self.tokens, self.seen = stand, tokens, Seen()
        self.address = ("127.0.0.1", int(stand.url.rpartition(":")[2]))
        self.all: list[Client] = []
        self.want: dict[int, Any] = {}
        self.ending = False
        self.count = self.resting = 0
        self.go = asyncio.Event()

    async def connect(self) -> Client:
        return (await asyncio.get_running_loop().create_connection(Client, *self.address))[1]

    async def learn(self) -> None:
        """The unbroken answers."""
        each = [await self.connect() for _ in range(8)]
        await asyncio.gather(*(one.ask(request(i, self.tokens)) for i, one in enumerate(each)))
        self.want = {i: told(bytes(one.data)) for i, one in enumerate(each)}
        for one in each:
            one.transport.close()

    async def client(self, i: int) -> None:
        one = await self.connect()
        self.all.append(one)
        await one.ask(request(i, 1))
        while not self.ending:
            self.resting += 1
            await self.go.wait()
            self.resting -= 1
            self.seen.streams += 1
            try:
                await one.ask(request(i, self.tokens))
                if told(bytes(one.data)) != self.want[i % 8]:
                    self.seen.wrong += 1
            except (OSError, ValueError) as e:
                self.seen.lost.append(f"{type(e).__name__}: {e}"[:200])
                one.lost = True
                self.all.remove(one)
                one = await self.again()
            i += 1

    async def again(self) -> Client:
        """Another connection, once one is taken."""
        while True:
            await asyncio.sleep(0.2)
            with contextlib.suppress(OSError):
                one = await self.connect()
                self.all.append(one)
                return one

    @property
    def open(self) -> list[Client]:
        return [one for one in self.all if one.open]

    async def begin(self) -> None:
        """All clients, at rest, begin a stream at once; until the last has a chunk."""
        while self.resting < self.count:
            await asyncio.sleep(0.02)
        for one in self.all:
            one.first_after = one.again_at = 0.0
        before, at = self.stand.cpu_s(), time.monotonic()
        self.go.set()
        while len(self.open) < self.count:
            await asyncio.sleep(0.005)
        self.seen.bound.append(part(at, self.open, before, self.stand.cpu_s()))

    async def killed(self) -> None:
        """One kill, and the wait until all streams that it met move again."""
        while len(self.open) < 0.9 * self.count:
            await asyncio.sleep(0.02)
        met = self.open
        before, at = (0.0, *self.stand.cpu_s()[1:]), time.monotonic()
        self.stand.serving().kill()
        self.seen.through += len(met)
        for one in met:
            one.first_after, one.again_at = at + IN_FLIGHT_S, 0.0
        while not all(one.again_at or one.lost for one in met):
            await asyncio.sleep(0.005)
            if time.monotonic() - at > 60:
                raise SystemExit("streams stand still for a minute")
        self.seen.kills.append(part(at, met, before, self.stand.cpu_s()))

    async def run(self, streams: int, kills: int, pause_s: float = STABLE_S) -> Seen:
        self.count = streams
        await self.stand.ready()
        await self.learn()
        async with asyncio.TaskGroup() as group:
            for i in range(streams):
                group.create_task(self.client(i))
            await self.begin()
            for _ in range(kills):
                await asyncio.sleep(pause_s)
                await self.killed()
            self.go.clear()
            await self.begin()
            self.ending = True
        return self.seen


def part(at: float, streams: Iterable[Client], before: Spent, after: Spent) -> Part:
    moved = [s.again_at - at for s in streams if s.again_at]
    return Part(min(moved), max(moved), *(round(b - a, 3) for a, b in zip(before, after, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--step", type=float, default=0.1)
    parser.add_argument("--without", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="100 streams, 2 kills")
    given = parser.parse_args()
    streams, kills = (100, 2) if given.quick else (given.streams, given.kills)
    with tempfile.TemporaryDirectory() as folder:
        stand = Stand(Path(folder), not given.without, given.step)
        try:
            seen = uvloop.run(Clients(stand, given.tokens).run(streams, kills))
        finally:
            stand.close()
        taken = stand.taken()
    found = report(seen, taken)
    print(json.dumps(found) if given.json else "\n".join(f"{k:34}{v}" for k, v in found.items()))


def report(seen: Seen, taken: list[tuple[float, float]]) -> dict[str, Any]:
    kills, bound = seen.kills, seen.bound
    last, least = median(k.last_s for k in kills), median(b.last_s for b in bound)
    return {
        "streams": seen.streams,
        "through a kill": seen.through,
        "lost": len(seen.lost),
        "wrong": seen.wrong,
        "first lost": seen.lost[:1],
        "record read after s": median(a for a, _ in taken),
        "connections taken after s": median(b for _, b in taken),
        "first stream moved after s": median(k.first_s for k in kills),
        "last stream moved after s": last,
        "worst": round(max([k.last_s for k in kills], default=0.0), 3),
        "bound: last fresh stream s": least,
        "take-over / bound": round(last / least, 2) if least else None,
        "CPU s: gateway, engines, clients": cpu(kills),
        "bound's CPU s": cpu(bound),
    }


def median(values: Iterable[float]) -> float:
    return round(statistics.median([*values] or [0.0]), 3)


def cpu(parts: list[Part]) -> list[float]:
    return [
        median(getattr(p, name) for p in parts)
        for name in ("gateway_cpu_s", "engines_cpu_s", "clients_cpu_s")
    ]


if __name__ == "__main__":
    main()

"""A gateway that is killed under streams: what its clients see, and how long its successor takes.

    python bench/keeper.py [--streams 500] [--kills 10] [--tokens 600] [--without] [--json]

Two simulated engines, a keeper, a gateway; as many clients as streams, each httpx with one keep-alive connection and no
retries, asking again and again. A kill is a SIGKILL of the process that serves. Printed: streams, lost, wrong (compared
with the same request unbroken), those that saw a kill, and the worst time from a kill to the last of the streams moving
again. `--without`: no keeper.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from seawall.drivers import keeper

MODEL = "m"
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


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass
class Seen:
    """What the clients saw."""

    streams: int = 0
    lost: list[str] = field(default_factory=list)
    wrong: int = 0
    through: int = 0
    """Streams that were open at a kill."""
    stalls_s: list[float] = field(default_factory=list)
    """Of each kill: until the last stream that was open then moved again, or was over."""


@dataclass(eq=False)
class Stream:
    """One that is open now."""

    chunks: int = 0
    moved_at: float = 0.0


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
        async with httpx.AsyncClient() as http:
            for url in (*(f"http://127.0.0.1:{p}/health" for p in self.engines), self.admin + "/readyz"):
                while True:
                    with contextlib.suppress(httpx.HTTPError):
                        if (await http.get(url)).status_code == 200:
                            break
                    await asyncio.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL to the process that serves."""
        children = psutil.Process(self.gateway.pid).children()
        (children[0] if children else psutil.Process(self.gateway.pid)).kill()

    def close(self) -> None:
        for process in (self.gateway, *self.processes, *([self.keeper] if self.keeper else [])):
            process.send_signal(signal.SIGTERM)
        for process in (self.gateway, *self.processes):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def body(i: int, tokens: int) -> dict[str, Any]:
    return {
        "model": MODEL, "stream": True, "temperature": 0, "max_tokens": tokens, "ignore_eos": True,
        "stream_options": {"include_usage": True}, "messages": [{"role": "user", "content": f"Wall {i % 8}."}],
    }  # fmt: skip


def told(raw: bytes) -> Any:
    """All that a client is told but ids and times. ValueError when it is not a whole stream."""
    events = [event[6:] for event in raw.split(b"\n\n") if event.startswith(b"data: ")]
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


class Clients:
    def __init__(self, stand: Stand, tokens: int) -> None:
        self.stand, self.tokens, self.seen = stand, tokens, Seen()
        self.open: set[Stream] = set()
        self.want: dict[int, Any] = {}
        self.ending = False

    async def one(self, http: httpx.AsyncClient, i: int) -> bytes:
        stream, raw = Stream(), b""
        async with http.stream(
            "POST", self.stand.url + "/v1/chat/completions", json=body(i, self.tokens)
        ) as answer:
            if answer.status_code != 200:
                raise ValueError(f"{answer.status_code}")
            self.open.add(stream)
            try:
                async for data in answer.aiter_raw():
                    raw += data
                    stream.chunks += 1
                    stream.moved_at = time.monotonic()
            finally:
                self.open.discard(stream)
        return raw

    async def learn(self) -> None:
        async with httpx.AsyncClient(timeout=120) as http:
            answers = await asyncio.gather(*(self.one(http, i) for i in range(8)))
        self.want = {i: told(raw) for i, raw in enumerate(answers)}

    async def client(self, i: int) -> None:
        async with httpx.AsyncClient(timeout=120) as http:
            while not self.ending:
                self.seen.streams += 1
                try:
                    if told(await self.one(http, i)) != self.want[i % 8]:
                        self.seen.wrong += 1
                except (httpx.HTTPError, ValueError) as e:
                    self.seen.lost.append(f"{type(e).__name__}: {e}"[:200])
                    await asyncio.sleep(0.2)
                i += 1

    async def killed(self) -> None:
        """One kill, and the wait until all streams that it met move again."""
        while len(self.open) < 0.9 * len(self.tasks):
            await asyncio.sleep(0.02)
        met = list(self.open)
        at = time.monotonic()
        self.stand.kill()
        self.seen.through += len(met)
        grace = at + 0.05  # what was in the client's own buffers
        while any(s in self.open and s.moved_at < grace for s in met):
            await asyncio.sleep(0.005)
            if time.monotonic() - at > 60:
                raise SystemExit("streams stand still for a minute")
        self.seen.stalls_s.append(max((s.moved_at for s in met), default=at) - at)

    async def run(self, streams: int, kills: int, pause_s: float = 1.0) -> Seen:
        await self.stand.ready()
        await self.learn()
        async with asyncio.TaskGroup() as group:
            self.tasks = [group.create_task(self.client(i)) for i in range(streams)]
            for _ in range(kills):
                await asyncio.sleep(pause_s)
                await self.killed()
            self.ending = True
        return self.seen


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--step", type=float, default=0.05)
    parser.add_argument("--without", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stand = Stand(Path(folder), not given.without, given.step)
        try:
            seen = asyncio.run(Clients(stand, given.tokens).run(given.streams, given.kills))
        finally:
            stand.close()
            took = [
                line for line in (Path(folder) / "log").read_text().splitlines() if "taken over in" in line
            ]
    found = {
        "streams": seen.streams, "through a kill": seen.through, "lost": len(seen.lost), "wrong": seen.wrong,
        "median stall s": round(statistics.median(seen.stalls_s), 3), "worst stall s": round(max(seen.stalls_s), 3),
        "first lost": seen.lost[:1],
    }  # fmt: skip
    print(json.dumps(found) if given.json else "\n".join([*took, *(f"{k:16}{v}" for k, v in found.items())]))


if __name__ == "__main__":
    main()

"""A soak: many streams through one gateway while replicas are killed. Every stream must be whole and exact.

    python bench/soak.py [--requests 200000] [--quick] [--json]

Three simulated engines behind one gateway, as processes; one engine is killed with SIGKILL every few seconds
and started again. Each answer is compared with the one that the same request gave when nothing was broken.
Printed: streams, resumed, lost, wrong; the gateway's memory at the start and at the end (the bound: flat).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import aiohttp
import psutil

MODEL = "soak"
ENGINES = 3
FLEET = f"""
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {{name: {MODEL}}}
spec:
  model: {{source: "hf://example/tiny"}}
  engine: {{kind: sim, maxNumSeqs: 64}}
  hardware: {{gpu: cpu, cloud: local}}
  traffic: {{maxContext: 4k}}
  scaling: {{min: {ENGINES}, max: {ENGINES}}}
  gateway: {{maxInFlight: 128, retries: 5}}
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def request(i: int) -> tuple[str, dict[str, Any]]:
    """Twenty-four distinct requests, of all ways to resume."""
    text = f"Wall number {i % 4}."
    chat: dict[str, Any] = {
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "max_tokens": 12,
    }
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("/v1/chat/completions", chat),
        ("/v1/chat/completions", chat | {"stream_options": {"include_usage": True}}),
        ("/v1/completions", {"prompt": text, "temperature": 0, "max_tokens": 14}),
        ("/v1/chat/completions", chat | {"temperature": 0.8, "seed": i % 4}),
        ("/v1/chat/completions", chat | {"stop": ["zzzz"]}),
        ("/v1/completions", {"prompt": text, "temperature": 0, "max_tokens": 10, "logprobs": 1}),
    ]
    path, body = kinds[i % 24 // 4]
    return path, {"model": MODEL, "stream": True, **body}


def told(raw: bytes) -> tuple[Any, ...]:
    """What the client has been told; raises ValueError when the stream is not whole."""
    events = [event[6:] for event in raw.split(b"\n\n") if event.startswith(b"data: ")]
    if not events or events[-1] != b"[DONE]":
        raise ValueError(f"no [DONE]: {raw[-200:]!r}")
    text, finish, usage, logprobs = [], [], None, []
    for event in events[:-1]:
        doc = json.loads(event)
        if "error" in doc:
            raise ValueError(str(doc["error"]))
        usage = doc.get("usage") or usage
        for choice in doc["choices"]:
            text.append(choice.get("text") or choice.get("delta", {}).get("content") or "")
            finish.append(choice.get("finish_reason") or "")
            logprobs += (choice.get("logprobs") or {}).get("text_offset", [])
    return "".join(text), "".join(finish), json.dumps(usage), tuple(logprobs)


class Soak:
    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.rng = rng
        spec = folder / "fleet.yaml"
        spec.write_text(FLEET, "utf-8")
        self.ports = [free_port() for _ in range(ENGINES)]
        self.engines = [self.start_engine(port) for port in self.ports]
        self.url, self.admin = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        engines = ",".join(f"http://127.0.0.1:{port}" for port in self.ports)
        self.gateway = self.run(
            "gateway", str(spec), "--discovery", f"static:{engines}",
            "--listen", self.url[7:], "--admin", self.admin[7:],
        )  # fmt: skip
        self.good = self.lost = self.wrong = self.kills = 0
        self.first_bad = ""
        self.begin, self.early = time.monotonic(), 0

    @staticmethod
    def run(*args: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "seawall", *args], stdout=subprocess.DEVNULL)

    def start_engine(self, port: int) -> subprocess.Popen[bytes]:
        flags = ("--sim-step", "0.004", "--max-num-seqs", "64", "--served-model-name", MODEL)
        return self.run("engine", "sim", "--port", str(port), *flags)

    async def state(self, http: aiohttp.ClientSession) -> dict[str, Any]:
        async with http.get(self.admin + "/debug/state") as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def ready(self, http: aiohttp.ClientSession) -> None:
        for _ in range(1200):
            with contextlib.suppress(aiohttp.ClientError):
                state = await self.state(http)
                if {replica["state"] for replica in state["replicas"].values()} == {"ready"}:
                    return
            await asyncio.sleep(0.1)
        raise SystemExit("soak: the replicas did not become ready; run `seawall gateway` by hand and look")

    async def ask(self, http: aiohttp.ClientSession, i: int) -> tuple[Any, ...]:
        path, body = request(i)
        async with http.post(self.url + path, json=body) as answer:
            raw = await answer.read()
            if answer.status != 200:
                raise ValueError(f"{answer.status} {raw[:200]!r}")
            return told(raw)

    async def killer(self, http: aiohttp.ClientSession, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            index = self.rng.randrange(ENGINES)
            self.engines[index].send_signal(signal.SIGKILL)
            self.engines[index].wait()
            self.kills += 1
            await asyncio.sleep(0.5)
            self.engines[index] = self.start_engine(self.ports[index])
            await self.ready(http)

    async def worker(self, http: aiohttp.ClientSession, want: list[Any], numbers: Any, end: float) -> None:
        for i in numbers:
            if time.monotonic() > end:
                return
            try:
                got = await self.ask(http, i)
            except (ValueError, aiohttp.ClientError, TimeoutError) as error:
                self.lost += 1
                self.first_bad = self.first_bad or f"{request(i)}: {error}"
                continue
            if got == want[i % 24]:
                self.good += 1
            else:
                self.wrong += 1
                self.first_bad = self.first_bad or f"{request(i)}: {got} is not {want[i % 24]}"

    async def soak(self, requests: int, seconds: float, clients: int, every_s: float) -> None:
        timeout = aiohttp.ClientTimeout(total=120)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as http:
            await self.ready(http)
            want = [await self.ask(http, i) for i in range(24)]
            numbers = iter(range(requests))
            killer = asyncio.create_task(self.killer(http, every_s))
            self.begin, end = time.monotonic(), time.monotonic() + seconds
            workers = [self.worker(http, want, numbers, end) for _ in range(clients)]
            running = asyncio.gather(*workers)
            await asyncio.wait([running], timeout=min(10.0, seconds / 4))
            self.early = self.memory()
            await running
            killer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await killer

    def memory(self) -> int:
        """Resident bytes of the gateway."""
        rss: int = psutil.Process(self.gateway.pid).memory_info().rss
        return rss

    def found(self) -> dict[str, Any]:
        """What has been seen until now, also when it was interrupted. Exchanges whose clients left are over by then."""
        with urllib.request.urlopen(self.admin + "/debug/state", timeout=10) as answer:
            state = json.load(answer)["fleets"][MODEL]
        streams = self.good + self.lost + self.wrong
        return {
            "streams": streams,
            "whole_and_exact": self.good,
            "lost": self.lost,
            "wrong": self.wrong,
            "kills": self.kills,
            "resumed": state["resumed_total"],
            "retried": state["retried_total"],
            "pending_at_end": state["pending"],
            "per_second": round(streams / (time.monotonic() - self.begin), 1),
            "rss_mb_early": round(self.early / 2**20, 1),
            "rss_mb_end": round(self.memory() / 2**20, 1),
            "first_bad": self.first_bad,
        }

    def stop(self) -> None:
        for process in (self.gateway, *self.engines):
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--quick", action="store_true", help="40 s of load")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), random.Random(args.seed))
        interrupted = False
        try:
            seconds = 35.0 if args.quick else 7200.0
            try:
                asyncio.run(soak.soak(args.requests, seconds, 48, 3.0 if args.quick else 10.0))
            except KeyboardInterrupt:
                interrupted = True
                print("soak: interrupted; this is what was seen until then", file=sys.stderr)
            found = soak.found()
        finally:
            soak.stop()
    if args.json:
        print(json.dumps(found, indent=1))
    else:
        for name, value in found.items():
            print(f"{name.replace('_', ' '):<32}{value:>12}")
    if interrupted:
        sys.exit(130)
    sys.exit(0 if found["lost"] == found["wrong"] == found["pending_at_end"] == 0 else 1)


if __name__ == "__main__":
    main()

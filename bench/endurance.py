"""A gateway that is on for long: connections that rest, and streams that come, finish or are left, for half an hour.

    python bench/endurance.py [--minutes 30] [--idle 1000] [--streams 200] [--quick] [--json]

Two simulated engines that take a second for each token, so that it costs little CPU, behind one gateway. Of
the streams one in ten is left by its client in the middle; the resting connections ask once in five minutes. Each
minute: resident set and descriptors. Passed: every stream that was not left is whole, from the third minute on no more
than 2 MB are added, the descriptors are at the end what they were before, and the gateway's counters are the clients'.
`--quick`: two minutes, 100 and 20, which says that it works and nothing of memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import psutil
import uvloop

import gateway
from soak import free_port

MODEL = "endurance"
TOKENS = (20, 90)
LEFT = 0.1
"""Share of the streams whose client leaves."""
ASKS_EVERY_S = 300.0
FROM_MINUTE = 2
GROWN_MB = 2.0
FLEET = f"""
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {{name: {MODEL}}}
spec:
  model: {{source: "hf://example/tiny"}}
  engine: {{kind: sim, maxNumSeqs: 256}}
  hardware: {{gpu: cpu, cloud: local}}
  traffic: {{maxContext: 4k}}
  scaling: {{min: 2, max: 2}}
"""


class Endurance:
    def __init__(self, stack: ExitStack, folder: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        spec = folder / "fleet.yaml"
        spec.write_text(FLEET, "utf-8")
        engines = [free_port() for _ in range(2)]
        for port in engines:
            flags = ("--sim-step", "1.0", "--max-num-seqs", "256", "--served-model-name", MODEL)
            self.start(stack, "engine", "sim", "--port", str(port), *flags)
        self.port, self.admin = free_port(), free_port()
        where = ",".join(f"http://127.0.0.1:{port}" for port in engines)
        self.gateway = self.start(
            stack, "gateway", str(spec), "--discovery", f"static:{where}",
            "--listen", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{self.admin}",
        )  # fmt: skip
        self.whole = self.left = self.bad = self.asked = 0
        self.first_bad = ""

    @staticmethod
    def start(stack: ExitStack, *args: str) -> int:
        """-> its process id."""
        return stack.enter_context(gateway.process([sys.executable, "-m", "seawall", *args])).pid

    def counters(self) -> dict[str, int]:
        url = f"http://127.0.0.1:{self.admin}/debug/state"
        with urllib.request.urlopen(url, timeout=10) as answer:
            fleet = json.load(answer)["fleets"][MODEL]
        names = ("admitted_total", "finished_total", "failed_total", "cancelled_total", "pending")
        return {name.removesuffix("_total"): int(fleet[name]) for name in names}

    async def stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One stream on a connection. -> the connection is still good."""
        tokens = self.rng.randint(*TOKENS)
        leave_at = self.rng.randint(1, tokens // 2) if self.rng.random() < LEFT else 0
        return await self.ask(reader, writer, tokens, leave_at)

    async def ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tokens: int, leave_at: int = 0
    ) -> bool:
        """`leave_at`: after so many tokens its client leaves; 0: never."""
        chat = {"model": MODEL, "stream": True, "max_tokens": tokens, "ignore_eos": True}
        chat["messages"] = [{"role": "user", "content": f"Wall number {self.rng.randrange(1000)}."}]
        body = json.dumps(chat | {"stream_options": {"include_usage": True}}).encode()
        top = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        writer.write(top + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        seen, said = 0, b""
        while b"0\r\n\r\n" not in said:
            part = await reader.read(65536)
            if not part:
                break
            seen += part.count(b'"content":')
            said = said[-500:] + part
            if leave_at and seen >= leave_at:
                self.left += 1
                writer.transport.abort()
                return False
        if b"data: [DONE]" in said and b'"completion_tokens":%d' % tokens in said:
            self.whole += 1
            return True
        self.bad += 1
        self.first_bad = self.first_bad or f"about {seen} of {tokens} tokens, then {said[-300:]!r}"
        return False

    async def streaming(self, end: float) -> None:
        """One stream after the other, mostly on one connection."""
        await asyncio.sleep(self.rng.random() * TOKENS[0])
        while time.monotonic() < end:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            while await self.stream(reader, writer) and time.monotonic() < end:
                pass
            writer.close()

    async def resting(self, end: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        await asyncio.sleep(self.rng.random() * min(ASKS_EVERY_S, end - time.monotonic()))
        while time.monotonic() < end:
            writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
            await reader.readexactly(int(length))
            self.asked += 1
            await asyncio.sleep(max(0.0, min(ASKS_EVERY_S, end - time.monotonic())))
        writer.close()

    async def watch(self, end: float) -> tuple[list[float], list[int]]:
        """-> the resident set in MB and the descriptors, once a minute."""
        process, megabytes, descriptors = psutil.Process(self.gateway), [], []
        while time.monotonic() < end:
            await asyncio.sleep(min(60.0, max(0.1, end - time.monotonic())))
            megabytes.append(round(process.memory_info().rss / 1e6, 2))
            descriptors.append(process.num_fds())
            line = f"minute {len(megabytes):>3}   {megabytes[-1]:.2f} MB   {descriptors[-1]} descriptors"
            print(
                line, f"  {self.whole} whole   {self.left} left   {self.bad} bad", file=sys.stderr, flush=True
            )
        return megabytes, descriptors

    async def settled(self, before: int) -> tuple[dict[str, int], int]:
        """The counters once nothing is pending, and the descriptors beyond those of `before`."""
        process = psutil.Process(self.gateway)
        for _ in range(300):
            counters, more = self.counters(), process.num_fds() - before
            if not counters["pending"] and more <= 0:
                break
            await asyncio.sleep(0.2)
        return counters, more


async def run(minutes: float, idle: int, streams: int, seed: int) -> dict[str, object]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="seawall-bench-")))
        one = Endurance(stack, folder, seed)
        await asyncio.to_thread(gateway.wait_http, one.admin, "/readyz")
        warm = await asyncio.open_connection("127.0.0.1", one.port)
        await one.ask(*warm, tokens=3)
        warm[1].close()
        process = psutil.Process(one.gateway)
        before, cpu, begin = process.num_fds(), process.cpu_times(), time.monotonic()
        end = begin + minutes * 60
        async with asyncio.TaskGroup() as tasks:
            seen = tasks.create_task(one.watch(end))
            for _ in range(idle):
                tasks.create_task(one.resting(end))
            for _ in range(streams):
                tasks.create_task(one.streaming(end))
        megabytes, descriptors = seen.result()
        # Connections to the engines are kept for the next request: as many as streams ran at once.
        counters, more = await one.settled(before + streams + 8)
        used = process.cpu_times()
        return {
            "minutes": round((time.monotonic() - begin) / 60, 1),
            "whole": one.whole, "left": one.left, "bad": one.bad, "first_bad": one.first_bad,
            "answers_to_resting": one.asked,
            "rss_mb": megabytes, "descriptors": descriptors,
            "grown_mb": round(megabytes[-1] - min(megabytes[FROM_MINUTE:] or megabytes), 2),
            "descriptors_kept": streams + 8 + more,
            "descriptors_lost": max(0, more),
            "counters": counters,
            "counters_equal": counters["finished"] == one.whole
            and counters["cancelled"] == one.left
            and counters["failed"] == one.bad == 0
            and counters["admitted"] == one.whole + one.left
            and not counters["pending"],
            "cpu_s": round(used.user + used.system - cpu.user - cpu.system, 1),
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--idle", type=int, default=1000)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="two minutes, 100 and 20")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    args = parser.parse_args()
    if args.quick:
        args.minutes, args.idle, args.streams = 2.0, 100, 20
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    found = uvloop.run(run(args.minutes, args.idle, args.streams, args.seed))
    if args.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:20} {value}")
    good = found["counters_equal"] and not found["descriptors_lost"] and not found["bad"]
    sys.exit(0 if good and found["grown_mb"] <= GROWN_MB else 1)  # type: ignore[operator]


if __name__ == "__main__":
    main()

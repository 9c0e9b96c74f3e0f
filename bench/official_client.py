"""OpenAI's own client, unmodified, while the gateway under it is killed: what it lost, what was wrong, what came twice.

    python bench/official_client.py [--streams 500] [--kills 10] [--tokens 100] [--step 0.3]
                                    [--without] [--json] [--quick]

`openai.AsyncOpenAI` as it is installed (keep-alive, no retries). So many streams at a time, each asked for again
as soon as it has ended; a kill is a SIGKILL of the process that serves, once at least nine tenths of them are in
mid-stream, and the next one comes when as many are again. Engines, keeper and gateway are those of keeper.py.

Printed: streams, how many of them were in mid-stream at a kill and how many such deaths each outlived, lost (an
exception, or an end without a reason), wrong (another text, reason or count of tokens than unbroken), doubled (more
than one id, or text, or usage, or reason that comes twice). `--without`: no keeper, where all of them are to be lost.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai

sys.path.insert(0, str(Path(__file__).parent))
from keeper import MODEL, Stand

PROMPTS = 8
MOVES_S = 120.0
"""Longest that streams may need until nine tenths of them are in mid-stream."""


@dataclass
class Told:
    """All that a client was told in one stream."""

    prompt: int
    text: str = ""
    reasons: list[str] = field(default_factory=list)
    usages: list[int] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    error: str = ""
    deaths: int = 0
    """Of the gateway, since its first chunk."""

    @property
    def lost(self) -> bool:
        return bool(self.error) or not self.reasons

    def wrong(self, alone: Told) -> bool:
        return (self.text, self.reasons[:1], self.usages[:1]) != (alone.text, alone.reasons, alone.usages)

    def doubled(self, alone: Told) -> bool:
        again = len(self.reasons) > 1 or len(self.usages) > 1 or len(self.ids) > 1
        return again or len(self.text) > len(alone.text)


class Clients:
    """One `AsyncOpenAI`, and what its streams were told."""

    def __init__(self, stand: Stand, tokens: int) -> None:
        self.stand, self.tokens = stand, tokens
        self.client = openai.AsyncOpenAI(base_url=f"{stand.url}/v1", api_key="x", max_retries=0, timeout=600)
        self.running: set[int] = set()
        self.over: list[Told] = []
        self.deaths = 0
        self.ending = False

    async def ask(self, prompt: int, slot: int = -1) -> Told:
        told, began = Told(prompt), 0
        try:
            stream = await self.client.chat.completions.create(
                model=MODEL, stream=True, temperature=0, max_tokens=self.tokens,
                messages=[{"role": "user", "content": f"Wall {prompt}."}],
                stream_options={"include_usage": True}, extra_body={"ignore_eos": True},
            )  # fmt: skip
            async for chunk in stream:
                if not told.ids:
                    began = self.deaths
                    self.running.add(slot)
                told.ids.add(chunk.id)
                for choice in chunk.choices:
                    told.text += choice.delta.content or ""
                    told.reasons += [choice.finish_reason] if choice.finish_reason else []
                told.usages += [chunk.usage.completion_tokens] if chunk.usage else []
        except openai.OpenAIError as e:
            told.error = repr(e)[:200]
        except Exception as e:  # the HTTP library's own, which the client lets through in mid-stream
            told.error = repr(e)[:200]
        self.running.discard(slot)
        told.deaths = self.deaths - began if told.ids else 0
        return told

    async def again_and_again(self, slot: int) -> None:
        prompt = slot
        while not self.ending:
            told = await self.ask(prompt % PROMPTS, slot)
            self.over.append(told)
            prompt += 1
            if told.error:
                await asyncio.sleep(0.2)

    async def run(self, streams: int, kills: int) -> list[Told]:
        """-> what each prompt is answered when nothing happens."""
        await self.stand.ready()
        alone = [await self.ask(i) for i in range(PROMPTS)]
        async with asyncio.TaskGroup() as group:
            for slot in range(streams):
                group.create_task(self.again_and_again(slot))
            for _ in range(kills):
                await self._many_run(streams)
                self.deaths += 1
                killed = self.stand.serving()
                killed.kill()
                await self._another(killed.pid)
            await self._many_run(streams)
            self.ending = True
        await self.client.close()
        return alone

    async def _many_run(self, streams: int) -> None:
        until = time.monotonic() + MOVES_S
        while len(self.running) < 0.9 * streams:
            if time.monotonic() > until:
                raise SystemExit(f"{len(self.running)} of {streams} streams have begun after {MOVES_S:g} s")
            await asyncio.sleep(0.05)

    async def _another(self, killed: int) -> None:
        if not self.stand.kept:  # the process is the gateway: whoever runs it starts another
            self.stand.gateway.wait()
            self.stand.gateway = self.stand.start_gateway()
            await self.stand.ready()
            return
        while True:
            with contextlib.suppress(Exception):
                if self.stand.serving().pid not in (killed, self.stand.gateway.pid):
                    return
            await asyncio.sleep(0.01)


def report(alone: list[Told], over: list[Told]) -> dict[str, Any]:
    whole = [t for t in over if not t.lost]
    wrong = [t for t in whole if t.wrong(alone[t.prompt])]
    return {
        "client": f"openai {openai.__version__}, no retries",
        "streams": len(over),
        "in mid-stream at a kill": sum(t.deaths > 0 for t in over),
        "most kills outlived by one": max((t.deaths for t in whole), default=0),
        "lost": len(over) - len(whole),
        "wrong": len(wrong),
        "doubled": sum(t.doubled(alone[t.prompt]) for t in whole),
        "first that is not right": [t.error or t.text[-80:] for t in over if t.lost or t in wrong][:1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--step", type=float, default=0.3)
    parser.add_argument("--without", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="50 streams of 40 tokens, 3 kills")
    given = parser.parse_args()
    streams, kills, tokens, step_s = given.streams, given.kills, given.tokens, given.step
    if given.quick:
        streams, kills, tokens, step_s = 50, 3, 40, 0.1
    with tempfile.TemporaryDirectory() as folder:
        stand = Stand(Path(folder), not given.without, step_s)
        try:
            clients = Clients(stand, tokens)
            alone = asyncio.run(clients.run(streams, kills))
        finally:
            stand.close()
    found = report(alone, clients.over)
    print(json.dumps(found) if given.json else "\n".join(f"{k:34}{v}" for k, v in found.items()))
    bad = found["lost"] + found["wrong"] + found["doubled"]
    raise SystemExit(1 if bad and not given.without else 0)


if __name__ == "__main__":
    main()

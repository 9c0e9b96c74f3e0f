"""Scenarios of the batch lane: what kills lose of a batch, and what a batch costs the streams beside it.

Lines are judged here, by their results; streams are the verdict's. Forbidden here: a word of what the lane does inside.
"""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from seawall.batch.client import BatchClient
from seawall.batch.words import OVER
from seawall.errors import ClusterError, InputError
from seawall.prove.stage import Stage

CHAT = "/v1/chat/completions"
LINES = 900
BETWEEN = 60
"""Lines that are done between two kills, at least."""
LINE_TOKENS = 8
BESIDE_LINES = 20_000
BESIDE_TOKENS = 24
BESIDE_S = 10.0
ANSWER_S = 60.0
T = TypeVar("T")


class _Asking:
    """One batch on a stage, asked from threads; while a gateway or the lane is away it is asked again."""

    def __init__(self, stage: Stage) -> None:
        self._stage, self.batch = stage, ""

    async def submit(self, lines: int, tokens: int) -> None:
        """Makes a batch of so many lines."""

        def work(client: BatchClient) -> str:
            model = client.models()[0]
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "lines.jsonl"
                path.write_text("".join(_line(n, model, tokens) for n in range(lines)))
                return str(client.submit(path, CHAT, "24h", {})["id"])

        self.batch = await self._ask(work)

    async def now(self) -> dict[str, Any]:
        return await self._ask(lambda client: client.batch(self.batch))

    async def cancel(self) -> None:
        await self._ask(lambda client: client.cancel(self.batch))

    async def results(self, batch: dict[str, Any]) -> Counter[str]:
        """custom_id -> how many results it has, of either file."""

        def work(client: BatchClient) -> Counter[str]:
            found: Counter[str] = Counter()
            with tempfile.TemporaryDirectory() as folder:
                for file in (batch["output_file_id"], batch["error_file_id"]):
                    if file is not None:
                        path = Path(folder) / file
                        client.save(file, path)
                        found.update(json.loads(line)["custom_id"] for line in path.read_text().splitlines())
            return found

        return await self._ask(work)

    async def _ask(self, work: Callable[[BatchClient], T]) -> T:
        def asking() -> T:
            with BatchClient(self._stage.deployment.gateway_url, None) as client:
                return work(client)

        async with asyncio.timeout(ANSWER_S):
            while True:
                try:
                    return await asyncio.to_thread(asking)
                except ClusterError:
                    await asyncio.sleep(0.2)


def _line(n: int, model: str, tokens: int) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": f"line {n}"}], "max_tokens": tokens,
            "ignore_eos": True}  # fmt: skip
    return json.dumps({"custom_id": str(n), "method": "POST", "url": CHAT, "body": body}) + "\n"


def _done(batch: dict[str, Any]) -> int:
    counts = batch["request_counts"]
    return int(counts["completed"] + counts["failed"])


async def kill(stage: Stage) -> None:
    """The lane, the gateway, a replica and the lane again are killed while a batch runs: every line has one result in
    the end, and no line that was said to be done is ever said not to be."""
    asking = _Asking(stage)
    await asking.submit(LINES, LINE_TOKENS)
    try:
        await _through_kills(stage, asking)
    except InputError as e:
        stage.fail(f"a batch that had been accepted is gone: {e.message}")


async def _through_kills(stage: Stage, asking: _Asking) -> None:
    told = 0
    for part in ("the lane", "the gateway", "a replica", "the lane"):
        batch = await asking.now()
        until = _done(batch) + BETWEEN
        while batch["status"] not in OVER and _done(batch) < until:
            await asyncio.sleep(0.1)
            batch = await asking.now()
        told = max(told, _done(batch))
        stage.mark(f"kill -9 {part}, {_done(batch)} lines done")
        stage.signal(await _pid(stage, part), signal.SIGKILL)
        after = _done(await asking.now())
        if after < told:
            stage.fail(f"{told} lines were done before {part} was killed, {after} after it")
    async with asyncio.timeout(2 * ANSWER_S):
        while (batch := await asking.now())["status"] not in OVER:
            await asyncio.sleep(0.2)
    found = await asking.results(batch)
    missing = sum(str(n) not in found for n in range(LINES))
    doubled = sum(count - 1 for count in found.values())
    again = batch.get("seawall", {}).get("ran_twice", 0)
    stage.mark(f"{batch['status']}: {LINES - missing} of {LINES} lines, {doubled} doubled, {again} ran twice")
    if missing or doubled or batch["status"] != "completed":
        stage.fail(f"the batch is {batch['status']}: {missing} lines have no result, {doubled} have two")


async def _pid(stage: Stage, part: str) -> int:
    if part == "a replica":
        return (await stage.victim()).pid
    told = await stage.deployment.control({"do": "status"}, 30.0)
    return int(told["batch" if part == "the lane" else "gateway"]["pid"])


async def beside(stage: Stage) -> None:
    """A batch that would take every place runs beside the streams; their times to first token are the verdict's."""
    asking = _Asking(stage)
    await asking.submit(BESIDE_LINES, BESIDE_TOKENS)
    stage.mark(f"a batch of {BESIDE_LINES} lines")
    await asyncio.sleep(BESIDE_S)
    batch = await asking.now()
    stage.mark(f"{_done(batch)} lines done beside the streams")
    if not _done(batch):
        stage.fail("no line was done beside the streams, which leave room for some")
    await asking.cancel()

"""What engines computed, by their own counters: the only account of waste that is the same for every gateway.

An engine that dies takes its counters along, so they are read all the time: what it computed after the last look
(`LOOK_S` at most) is not seen.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from seawall.engines.vllm import metrics
from seawall.load.client import LoadClient

LOOK_S = 0.4


def tokens_of(text: str) -> float:
    """Prompt and generated tokens of a page of metrics."""
    total = 0.0
    for line in text.splitlines():
        series, _, value = line.rpartition(" ")
        if series.partition("{")[0] in (metrics.PROMPT_TOKENS, metrics.GENERATION_TOKENS):
            with contextlib.suppress(ValueError):
                total += float(value)
    return total


@dataclass
class TokenMeter:
    """Tokens of all engines that were ever followed, each life of an engine on its own."""

    _lives: dict[tuple[str, int], float] = field(default_factory=dict)
    _now: dict[str, int] = field(default_factory=dict)

    def follow(self, url: str, pid: int) -> None:
        """Another life at this address."""
        self._now[url] = pid

    async def run(self) -> None:
        """Looks again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> float:
        """Reads every engine that answers -> tokens so far, of the living and the dead."""
        await asyncio.gather(*(self._read(url, pid) for url, pid in list(self._now.items())))
        return sum(self._lives.values())

    async def _read(self, url: str, pid: int) -> None:
        try:
            status, body = await LoadClient(url).get("/metrics", 2.0)
        except (OSError, TimeoutError):
            return
        if status == 200 and self._now[url] == pid:
            known = self._lives.get((url, pid), 0.0)
            self._lives[url, pid] = max(known, tokens_of(body.decode("utf-8", "replace")))

"""How long an event loop is held by one turn, in time of its own thread: what else runs on the cores does not count."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

TICK_S = 0.001


class LoopTurns:
    """The longest turn so far, in seconds of the thread."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            began = time.thread_time()
            await asyncio.sleep(TICK_S)
            self.longest = max(self.longest, time.thread_time() - began)

    async def end(self) -> None:
        await asyncio.sleep(2 * TICK_S)  # the turn that is under way counts, too
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@contextlib.asynccontextmanager
async def turns() -> AsyncIterator[LoopTurns]:
    """Watches the loop that runs."""
    watched = LoopTurns()
    try:
        yield watched
    finally:
        await watched.end()

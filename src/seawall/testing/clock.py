"""Clocks that jump: a story of hours is told in milliseconds, and nothing in it waits for the machine's time.

`JumpClock` for one who waits alone: what it sleeps passes at once. `StoryClock` for many who wait beside each other and
talk to a real peer meanwhile: time passes only when the story says so, and wakes whose turn has come, in order.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

EPOCH = 1_790_000_000.0
"""Unix time at which every story begins."""


class JumpClock:
    """Time passes only by sleeping, at once. `then` is what happens in the world after each sleep."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.t, self._then = 0.0, then

    def now(self) -> float:
        return self.t

    def time(self) -> float:
        return EPOCH + self.t

    async def sleep(self, seconds: float) -> None:
        self.t += seconds
        self._then()
        await asyncio.sleep(0)


class StoryClock:
    """Time passes by `advance` alone."""

    def __init__(self) -> None:
        self.t = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self.t

    def time(self) -> float:
        return EPOCH + self.t

    async def sleep(self, seconds: float) -> None:
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.t + seconds, next(self._order), turn))
        await turn

    def advance(self, seconds: float) -> None:
        """Lets so many seconds pass. Whose turn comes meanwhile is woken, each at its own moment's `now`."""
        end = self.t + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, turn = heapq.heappop(self._sleepers)
            self.t = max(self.t, at)
            if not turn.done():
                turn.set_result(None)
        self.t = end

"""Time behind a seam, so that a test can play a day in a second: steady seconds, the time of day, and waiting."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """The clock of those who wait: passed in, so that a test can pass another."""

    def now(self) -> float:
        """Steady seconds from an arbitrary start."""
        ...

    def time(self) -> float:
        """Unix time."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SteadyClock:
    """The monotonic clock, which nobody can set."""

    def now(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

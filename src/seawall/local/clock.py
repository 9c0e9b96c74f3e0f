"""Time behind a seam, so that a test can play a day of a supervisor in a second."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic seconds, and waiting for them to pass."""

    def now(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class SteadyClock:
    """The monotonic clock, which nobody can set."""

    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SettableClock(SteadyClock):
    """The time of day, which NTP and people set. A proof uses it to show what the steady clock is good for."""

    def now(self) -> float:
        return time.time()

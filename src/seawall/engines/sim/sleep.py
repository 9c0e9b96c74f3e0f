"""Sleep mode as vLLM 0.32 has it: scheduling pauses, running requests end, memory is given back. Read in its source
(`v1/engine/core.py: sleep, wake_up, pause_scheduler`; `entrypoints/serve/dev/sleep`), no GPU was needed for that.

While it sleeps `/health` and `/v1/models` answer 200, new requests are taken and hang until it wakes, and
`num_requests_waiting` is 0: nothing but `/is_sleeping` and the gauge `engine_sleep_state` gives it away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Protocol

from seawall.engines.sim.scheduler import Scheduler

_STATES = ("awake", "weights_offloaded", "discard_all")


class Abortable(Protocol):
    """What runs, as far as it can be ended."""

    def abort(self) -> None: ...


class SleepMode:
    """Whether one engine sleeps, and how deep."""

    def __init__(self, scheduler: Scheduler, live: Collection[Abortable], wake: asyncio.Event) -> None:
        self._scheduler, self._live, self._wake = scheduler, live, wake
        self.state = _STATES[0]

    async def fall(self, level: int, mode: str) -> None:
        """`abort` (vLLM's default) ends what runs with finish_reason abort; `wait` lets it finish first."""
        self._scheduler.paused = True
        if mode == "abort":
            for generation in list(self._live):
                generation.abort()
        while mode == "wait" and self._scheduler.running:
            await asyncio.sleep(0.01)
        self.state = _STATES[level]

    def wake_up(self) -> None:
        """What came meanwhile is decoded now."""
        self._scheduler.paused = False
        self.state = _STATES[0]
        self._wake.set()

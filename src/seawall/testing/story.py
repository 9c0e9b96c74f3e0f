"""A story on the API double: time passes by a `StoryClock`, and whoever acts is left to act before more of it does.

`until` and `passes` wait for what is asked of the double, never for the machine's time: a busy machine only makes a
story slower.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from seawall.testing.clock import StoryClock
from seawall.testing.kube_api import KubeApi

STEP_S = 0.5
QUIET_S = 0.02
"""Nobody has asked the double anything for so long: everybody waits for time to pass."""


class Story:
    """`step` is what the rest of the world does at each step; it may raise to end the story."""

    def __init__(self, clock: StoryClock, api: KubeApi, step: Callable[[], object] = lambda: None) -> None:
        self.clock, self._api, self._step = clock, api, step

    async def until(self, what: Callable[[], object], within_s: float = 60.0) -> None:
        """Returns when it holds. TimeoutError after so much of the machine's time."""
        end = time.monotonic() + within_s
        while not what():
            if time.monotonic() > end:
                raise TimeoutError("the story waits in vain")
            await self._turn()

    async def passes(self, seconds: float) -> None:
        """Returns when so much of the story's time has passed."""
        end = self.clock.now() + seconds
        while self.clock.now() < end:
            await self._turn()

    async def _turn(self) -> None:
        self._step()
        self.clock.advance(STEP_S)
        for _ in range(100):
            seen = len(self._api.requests)
            if not await asyncio.to_thread(self._api.next_request, seen, QUIET_S):
                return

"""A story on the API double: time passes by a `StoryClock`, and whoever acts is left to act before more of it does.

`until` and `passes` wait for what is asked of the double, never for the machine's time: a busy machine only makes a
story slower.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

from seawall.testing.clock import StoryClock
from seawall.testing.kube_api import KubeApi

STEP_S = 0.5
LEAST_TURNS = 600
"""Steps that are waited for on a machine that is too busy to do them in time."""
QUIET_S = 0.02
"""Nobody has asked the double anything for so long, and nobody here wants to run: everybody waits for time to pass."""


class Story:
    """`step` is what the rest of the world does at each step; it may raise to end the story."""

    def __init__(self, clock: StoryClock, api: KubeApi, step: Callable[[], object] = lambda: None) -> None:
        self.clock, self._api, self._step = clock, api, step

    async def until(self, what: Callable[[], object], within_s: float = 60.0) -> None:
        """Returns when it holds. TimeoutError after so much of the machine's time, in which the story went on."""
        end, turns = time.monotonic() + within_s, 0
        while not what():
            if time.monotonic() > end and turns >= LEAST_TURNS:
                raise TimeoutError("the story waits in vain")
            await self._turn()
            turns += 1

    async def passes(self, seconds: float) -> None:
        """Returns when so much of the story's time has passed."""
        end = self.clock.now() + seconds
        while self.clock.now() < end:
            await self._turn()

    async def _turn(self) -> None:
        self._step()
        self.clock.advance(STEP_S)
        for _ in range(100):
            if not await asyncio.to_thread(self._busy, len(self._api.requests)):
                return

    def _busy(self, seen: int) -> bool:
        """Whether somebody acts. On a busy machine who has something to do may not have been let for QUIET_S."""
        while not self._api.next_request(seen, QUIET_S):
            if not others_run():
                return False
        return True


def others_run() -> bool:
    """Whether another thread of this process runs or would, if it were let. False where nobody can say (no /proc)."""
    me = str(threading.get_native_id())
    for task in Path("/proc/self/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            if task.parent.name != me and task.read_text().rpartition(")")[2].split()[0] == "R":
                return True
    return False

"""An event loop whose time passes only while everybody waits: an hour of waiting costs nothing, and what happens in it
does not depend on how busy the machine is. Work in threads (a store's) takes no time at all."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")


class _Waits(selectors.DefaultSelector):
    """Waits for sockets and threads as ever, and for time not at all."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found or timeout == 0:
            return found
        if timeout is None or self.loop.threads_at_work:
            return super().select(timeout if timeout is None else max(timeout, 5.0))
        self.loop.passed += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module. It begins at 0 s."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.threads_at_work = 0
        waits = _Waits()
        waits.loop = self
        super().__init__(waits)

    def time(self) -> float:
        return self.passed

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        self.threads_at_work += 1
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)  # type: ignore[arg-type]
        future.add_done_callback(self._back)
        return future

    def _back(self, _: object) -> None:
        self.threads_at_work -= 1


def run(work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


def quantile(times: Iterable[float], q: float) -> float:
    """The `q` quantile of what was measured."""
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]

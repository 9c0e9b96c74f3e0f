"""A connection that has ended is freed at once: the process's collector looks at old objects hardly ever."""

from __future__ import annotations

import asyncio
import gc

from tests.unit.gateway.conftest import FakeEngine
from tests.within import within

from seawall.gateway.replicas.upstream import Pool, Upstream


async def test_a_lost_connection_leaves_no_cycle() -> None:
    def left() -> int:
        return sum(type(o) is Upstream for o in gc.get_objects())

    class Waiter:
        def __init__(self) -> None:
            self.ended = asyncio.Event()

        def connected(self, conn: Upstream) -> None:
            conn.send(self, conn.pool.request(b"/v1/models", b"", b"", b"GET"))

        def connect_failed(self, reason: str) -> None:
            self.ended.set()

        def on_head(self, conn: Upstream) -> None:
            self.ended.set()

        def on_body(self, parts: list[bytes], complete: bool) -> None: ...

        def on_lost(self, reason: str, answered: bool) -> None: ...

    gc.collect()
    before = left()
    gc.disable()
    try:
        async with FakeEngine() as engine:
            pool = Pool(f"http://127.0.0.1:{engine.port}", asyncio.get_running_loop(), set())
            waiter = Waiter()
            await pool.connect(waiter)
            await within(waiter.ended.wait(), 10)
            assert left() == before + 1
            pool.close()
            del waiter
        for _ in range(200):
            if left() == before:
                break
            await asyncio.sleep(0.01)
        assert left() == before
    finally:
        gc.enable()

"""A connection that has ended is freed at once: the process's collector looks at old objects hardly ever."""

from __future__ import annotations

import asyncio
import gc
import weakref

from tests.unit.gateway.both import Http2, ask
from tests.unit.gateway.conftest import FakeEngine
from tests.unit.gateway.scripted import Bench, with_bench
from tests.within import within

from seawall.gateway.replicas.upstream import Pool, Upstream


def test_a_lost_connection_of_http2_leaves_no_cycle() -> None:
    """A flood of them left 50,000 objects to one turn of the loop: 60 ms."""

    def script(b: Bench) -> None:
        def one() -> weakref.ref[object]:
            e = Http2(b)
            ask(e, b"", b"/health", method=b"GET")
            e.connection.data_received(b"\0\0\1\1\0\0\0\0\x03\x83" + b"\0\0\0\x09\0\0\0\0\x03" * 20)
            assert e.pipe.closed
            e.connection.connection_lost(None)
            return weakref.ref(e.connection._h2)

        gc.collect()
        gc.disable()
        try:
            assert one()() is None
        finally:
            gc.enable()

    with_bench(script)


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

"""A real server of the store for tests: `redis-server` of the test tools, on a port of loopback, without a disk."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

import pytest

from seawall.drivers.process import free_port
from seawall.drivers.store import SharedStore, StoreAsk

T = TypeVar("T")
TOOLS = Path(__file__).parents[1] / ".cache/tools/bin"


async def asked(store: SharedStore, one: StoreAsk[T]) -> T:
    """The answer to one part alone."""
    (found,) = await store.ask(one)
    return found  # type: ignore[no-any-return]


class StoreServer:
    """One server that can be killed, paused and started again."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port, self.folder = port, folder
        self.process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        path = shutil.which("redis-server", path=f"{TOOLS}:/usr/bin:/usr/local/bin")
        if path is None:
            pytest.fail("redis-server is missing: scripts/test_tools.sh fetches it")
        self.process = await asyncio.create_subprocess_exec(
            *(path, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"),
            *("--dir", str(self.folder), "--daemonize", "no"),
            stdout=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    return
                await asyncio.sleep(0.02)

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            await self.process.wait()


@contextlib.asynccontextmanager
async def store_server() -> AsyncIterator[StoreServer]:
    with tempfile.TemporaryDirectory() as folder:
        server = StoreServer(free_port(), Path(folder))
        await server.start()
        try:
            yield server
        finally:
            await server.kill()

"""A keeper as a process, and gateways that use it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil

from seawall.drivers import keeper

from .conftest import FakeEngine
from .processes import Process, gateway_process
from .waiting import until

SPEC = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: m}
spec:
  model: {source: file:///none}
"""


class KeeperProcess:
    """One that can be killed and started again, at the same socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.child: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        argv = [sys.executable, "-I", "-S", str(keeper.__file__), str(self.path), "--lifeline"]
        self.child = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.PIPE)
        await until(self.path.exists)

    async def kill(self) -> None:
        assert self.child is not None
        self.child.kill()
        await self.child.wait()
        self.path.unlink()

    @property
    def descriptors(self) -> int:
        """TCP sockets that it holds."""
        assert self.child is not None
        return len(psutil.Process(self.child.pid).net_connections("tcp"))


@contextlib.asynccontextmanager
async def kept_gateway(
    folder: Path, engine: FakeEngine, spec: str = SPEC, *args: str
) -> AsyncIterator[tuple[Process, KeeperProcess]]:
    """A gateway in front of an engine, and its keeper."""
    held = KeeperProcess(folder / "k")
    await held.start()
    assert held.child is not None
    (folder / "f.yaml").write_text(spec)
    try:
        async with gateway_process(
            folder / "f.yaml", f"static:{engine.url}", "--keeper", str(held.path), *args
        ) as gateway:
            yield gateway, held
    finally:
        assert held.child is not None
        if held.child.returncode is None:
            held.child.kill()
            await held.child.wait()


def serving(gateway: Process) -> int:
    """The pid of the process that serves now."""
    children = psutil.Process(gateway.child.pid).children()
    return children[0].pid if children else 0


async def kill(gateway: Process) -> None:
    """SIGKILL to who serves; returns when another does."""
    old = serving(gateway)
    os.kill(old, 9)
    await until(lambda: serving(gateway) not in (0, old))
    while True:
        with contextlib.suppress(OSError, ValueError, IndexError):
            await gateway.get("/readyz")
            return
        await asyncio.sleep(0.02)

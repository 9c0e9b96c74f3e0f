"""`seawall gateway` as a child process, and a client whose every request opens a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.within import within

from .conftest import split


class Process:
    """One `seawall gateway`, once it serves."""

    def __init__(self, child: asyncio.subprocess.Process, port: int, admin_port: int) -> None:
        self.child, self.port, self.admin_port = child, port, admin_port

    async def get(self, path: str) -> bytes:
        """From the admin port."""
        text = f"GET {path} HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n"
        return split(await exchange(self.admin_port, text.encode()))[2]

    async def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self.get("/debug/state"))
        return found

    async def stop(self) -> int:
        self.child.send_signal(signal.SIGTERM)
        return await within(self.child.wait(), 60)


@contextlib.asynccontextmanager
async def gateway_process(
    spec: Path, discovery: str, *args: str, listen: str = "127.0.0.1:0", shell: str = ":"
) -> AsyncIterator[Process]:
    """`shell`: what a shell does before it becomes the gateway."""
    argv = [
        "sh",
        "-c",
        f'{shell}; exec "$@"',
        "sh",
        sys.executable,
        "-m",
        "seawall",
        "gateway",
        str(spec),
        "--discovery",
        discovery,
        "--listen",
        listen,
    ]
    child = await asyncio.create_subprocess_exec(
        *argv, "--admin", "127.0.0.1:0", *args, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        line = (await within(child.stdout.readline(), 60)).decode()
        assert "admin" in line, line
        url, admin = line.split("serves ")[1].split("   admin ")
        yield Process(child, int(url.rpartition(":")[2]), int(admin.strip().rpartition(":")[2]))
    finally:
        if child.returncode is None:
            child.terminate()
            with contextlib.suppress(TimeoutError):
                await within(child.wait(), 20)
        if child.returncode is None:
            child.kill()
            await child.wait()


async def exchange(port: int, data: bytes) -> bytes:
    """One connection: sends, reads to its end. OSError when it is refused or reset."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        return await within(reader.read(), 60)
    finally:
        writer.close()


async def ask(port: int, key: str = "", **fields: Any) -> tuple[int, dict[str, str], bytes]:
    body = json.dumps({"model": "m", "prompt": "x", **fields}).encode()
    auth = f"Authorization: Bearer {key}\r\n" if key else ""
    top = f"POST /v1/completions HTTP/1.1\r\nHost: g\r\n{auth}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return split(await exchange(port, top.encode() + body))

"""The operator's page for the kubelet: it answers while its loop turns, and stands still with it.

Why: a process that hangs keeps its Lease from nobody, but it stays a Pod that looks well; the kubelet restarts what
does not answer. Leading and standing by are both healthy. Forbidden: telling anything else; there is no other page.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from seawall.errors import InputError

PATH = b"/healthz"
HEAD_S = 5.0
MOST = 4096
_ANSWER = b"HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(HEAD_S):
            head = await reader.readuntil(b"\r\n\r\n")
        good = head.split(b" ", 2)[:2] == [b"GET", PATH]
        status, text = (b"200 OK", b"ok\n") if good else (b"404 Not Found", b"only /healthz is here\n")
        writer.write(_ANSWER % (status, len(text), text))
        async with asyncio.timeout(HEAD_S):
            await writer.drain()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass  # whoever asks asks again
    finally:
        writer.close()


@asynccontextmanager
async def answering(listen: str) -> AsyncIterator[int]:
    """While this is open the page is served; gives the port. `listen`: ADDRESS:PORT. InputError where it cannot be."""
    host, _, port = listen.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise InputError(f"--health {listen!r:.60} is no ADDRESS:PORT.", "Write 0.0.0.0:8081.")
    try:
        server = await asyncio.start_server(_answer, host.strip("[]") or "0.0.0.0", int(port), limit=MOST)
    except OSError as e:
        raise InputError(f"--health {listen}: {e.strerror or e}.", "Name another port.") from None
    async with server:
        yield int(server.sockets[0].getsockname()[1])

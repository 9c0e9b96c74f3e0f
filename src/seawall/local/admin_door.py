"""The admin port that somebody named (`--admin-port`), whichever gateway serves.

A gateway that takes over listens beside the old one, so its admin port is another; who reads metrics or looks at the
console has one address all the same. Bytes are passed on as they come, both ways. Forbidden here: knowing HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from seawall.errors import EngineError

HOST = "127.0.0.1"
PIECE = 64 * 1024
"""Bytes that are passed on at once."""


async def serve(port: int, behind: Callable[[], int]) -> asyncio.Server:
    """Listens there; each connection goes to the port that `behind` tells at that moment. EngineError where somebody
    else has taken the port meanwhile."""

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Cancelled: the supervisor stops.
        with contextlib.suppress(OSError, asyncio.CancelledError):
            theirs, ours = await asyncio.open_connection(HOST, behind())
            try:
                async with asyncio.TaskGroup() as both:
                    asking = both.create_task(_pass_on(reader, ours))
                    await _pass_on(theirs, writer)
                    asking.cancel()
            finally:
                ours.close()
        writer.close()

    try:
        return await asyncio.start_server(session, HOST, port)
    except OSError as e:
        raise EngineError(
            f"the admin port {port} cannot be listened on: {e.strerror}.", "Name another --admin-port."
        ) from None


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What comes, until its end, which is passed on as well: who has asked may still be answered."""
    with contextlib.suppress(OSError):
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
        writer.write_eof()

"""The console of several gateway processes: their states added up, and a playground that a worker answers.

The parent knows neither keys nor models: a worker says whether a key opens the numbers, and is passed the playground's
requests byte by byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping

import httpx2

from seawall.console.console import API, LOOK_S, Console
from seawall.console.serve import PLAYGROUND, ConsoleServer, parsed
from seawall.console.sight import of_gateway
from seawall.domain.told import GatewayState

ASK_S = 5.0
PIECE = 64 * 1024
PLAYED_S = 600.0
"""The playground's longest answer."""


class WorkersConsole:
    """`admins`: admin addresses of the workers that serve; `states`: what they all tell now."""

    def __init__(
        self, admins: Callable[[], list[str]], states: Callable[[], Awaitable[GatewayState]]
    ) -> None:
        self._admins, self._states = admins, states
        self._console = Console()
        self._server = ConsoleServer(self._console, self._allows)

    async def run(self) -> None:
        """Looks once a second, until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            self._console.look(of_gateway(await self._states()), time.time())

    async def serve(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The answer to a request below /console whose head has been read."""
        request = parsed(head)
        if request.path.startswith(PLAYGROUND):
            await self._pass_on(head, reader, writer)
            return
        if request.path == API + "about":
            self._console.keys = not await self._allows({})
        await self._server.answer(request, reader, writer)

    async def _allows(self, headers: Mapping[str, str]) -> bool:
        sent = {name: headers[name] for name in ("authorization", "x-api-key") if name in headers}
        for admin in self._admins():
            with contextlib.suppress(httpx2.HTTPError):
                async with httpx2.AsyncClient(timeout=ASK_S, trust_env=False) as client:
                    return (await client.get(f"{admin}{API}events?rows=1", headers=sent)).status_code == 200
        return False

    async def _pass_on(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request to the first worker, and its answer back; then both connections end."""
        admins = self._admins()
        if not admins:
            return
        host, _, port = admins[0].rpartition("//")[2].rpartition(":")
        there, to = await asyncio.open_connection(host, int(port))
        lines = [x for x in head.split(b"\r\n") if x and not x.lower().startswith(b"connection:")]
        to.write(b"\r\n".join([*lines, b"connection: close", b"", b""]))
        ways = [asyncio.ensure_future(_pipe(reader, to)), asyncio.ensure_future(_pipe(there, writer))]
        try:
            await asyncio.wait(ways, timeout=PLAYED_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            to.close()


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(PIECE):
            sink.write(data)
            await sink.drain()

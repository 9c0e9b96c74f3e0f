"""Connections that are to be TLS, up to the end of their handshake: who says nothing holds a descriptor all the same.

The loop's own server would take any number of them, until none is left for engines, probes and the admin port. Here
those that shake hands count as clients do, and the one that has taken the longest goes for a new one. Forbidden here:
HTTP.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from seawall.gateway.edge.caller import HEAD_S, Handler
from seawall.gateway.process.certificates import Certificates

AGAIN_S: Final = 0.05
"""After the kernel had no descriptor for a connection."""


class TlsFront:
    """A listening socket whose clients speak TLS."""

    def __init__(
        self,
        handler: Handler,
        clients: Callable[[], asyncio.Protocol],
        sock: socket.socket,
        certificates: Certificates,
    ) -> None:
        self._handler = handler
        self._clients = clients
        self._sock = sock
        self._certificates = certificates
        self._loop = asyncio.get_running_loop()
        self._shaking: dict[asyncio.Task[None], None] = {}
        """In the order in which they came."""
        self._accepting: asyncio.Task[None] | None = None

    def start(self, backlog: int) -> None:
        """From now on connections are taken."""
        self._sock.listen(backlog)
        self._accepting = self._loop.create_task(self._accept())

    def close(self) -> None:
        """No new connections are taken. Handshakes that began go on."""
        if self._accepting is not None:
            self._accepting.cancel()
        self._sock.close()

    async def _accept(self) -> None:
        while True:
            try:
                client, _ = await self._loop.sock_accept(self._sock)
            except OSError:
                await asyncio.sleep(AGAIN_S)
                continue
            self._make_room()
            task = self._loop.create_task(self._shake(client))
            self._shaking[task] = None
            task.add_done_callback(self._done)

    def _make_room(self) -> None:
        handler = self._handler
        over = len(handler.clients) + len(self._shaking) >= handler.max_clients
        if over and self._shaking:
            oldest = next(iter(self._shaking))
            del self._shaking[oldest]
            oldest.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._shaking.pop(task, None)

    async def _shake(self, client: socket.socket) -> None:
        client.setblocking(False)
        try:
            with suppress(OSError, ssl.SSLError, TimeoutError):
                await self._loop.connect_accepted_socket(
                    self._clients, client, ssl=self._certificates.clients, ssl_handshake_timeout=HEAD_S
                )
        except asyncio.CancelledError:
            client.close()
            raise

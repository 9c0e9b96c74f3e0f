"""The bound of bench/gateway.py: the least that a proxy made of uvloop protocols and httptools costs.

    python bench/gateway_bare.py http://HOST:PORT,http://HOST:PORT      prints the port it listens on

It finds where messages end and passes their bytes on, to the replicas in turn: no routing, no limits, no retries,
no metrics, no log. What the gateway costs above it is what its features cost; a part of the benchmark, not a product.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any
from urllib.parse import urlsplit

import httptools
import uvloop


class Replica(asyncio.Protocol):
    """A connection to one replica. Bytes of an answer go to the client as they are."""

    def __init__(self, idle: list[Replica]) -> None:
        self.idle = idle
        self.client: Front | None = None
        self.parser: Any = httptools.HttpResponseParser(self)
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self.idle:
            self.idle.remove(self)
        if self.client is not None:
            self.client.transport.abort()

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)
        client = self.client
        if client is None:
            self.transport.abort()
            return
        client.transport.write(data)
        if self.ended:
            self.ended, self.client = False, None
            self.idle.append(self)

    def on_message_complete(self) -> None:
        self.ended = True


class Front(asyncio.Protocol):
    """A client's connection. A request is passed on once it is whole."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.parser: Any = httptools.HttpRequestParser(self)
        self.parts: list[bytes] = []
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.proxy.left(self)

    def data_received(self, data: bytes) -> None:
        self.parts.append(data)
        self.parser.feed_data(data)
        if self.ended:
            self.ended = False
            request, self.parts = b"".join(self.parts), []
            self.proxy.send(self, request)

    def on_message_complete(self) -> None:
        self.ended = True


class Proxy:
    def __init__(self, urls: list[str]) -> None:
        self.where = [(str(u.hostname), int(u.port or 80)) for u in map(urlsplit, urls)]
        self.idle: list[list[Replica]] = [[] for _ in self.where]
        self.turn = 0
        self.busy: dict[Front, Replica] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def send(self, client: Front, request: bytes) -> None:
        self.turn = (self.turn + 1) % len(self.where)
        idle = self.idle[self.turn]
        if idle:
            self.take(client, idle.pop(), request)
        else:
            task = asyncio.get_running_loop().create_task(self.connect(client, request, self.turn))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def connect(self, client: Front, request: bytes, at: int) -> None:
        loop = asyncio.get_running_loop()
        _, conn = await loop.create_connection(lambda: Replica(self.idle[at]), *self.where[at])
        self.take(client, conn, request)

    def take(self, client: Front, conn: Replica, request: bytes) -> None:
        conn.client = client
        self.busy[client] = conn
        conn.transport.write(request)

    def left(self, client: Front) -> None:
        conn = self.busy.pop(client, None)
        if conn is not None and conn.client is client:
            conn.client = None
            conn.transport.abort()


async def serve(urls: list[str]) -> None:
    proxy = Proxy(urls)
    server = await asyncio.get_running_loop().create_server(
        lambda: Front(proxy), "127.0.0.1", 0, backlog=4096
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("This is a part of bench/gateway.py; run that.")
    uvloop.run(serve(sys.argv[1].split(",")))

"""A console of its own, for who is no gateway: `seawall console` of a cluster, and the parent of a gateway's workers.

HTTP/1.1, GET only (but for a playground that its caller brings), one answer per connection; enough for a page on an
operator's own machine. What it shows is looked at by a loop that the caller runs. Forbidden here: knowing where sights
come from.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from seawall.console import assets
from seawall.console.console import API, JSON, Console, Reply

HEAD_S = 10.0
SEND_S = 60.0
MAX_HEAD = 32 * 1024
HIGH_WATER = 64 * 1024
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
PLAYGROUND = assets.ROOT + "/v1/"
REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
           405: "Method Not Allowed", 413: "Content Too Large", 415: "Unsupported Media Type",
           429: "Too Many Requests", 502: "Bad Gateway", 503: "Service Unavailable"}  # fmt: skip
Allows = Callable[[Mapping[str, str]], Awaitable[bool]]
"""A request's headers -> whether its key opens the numbers."""


@dataclass(frozen=True)
class GetRequest:
    """The head of a request."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]


class PageAnswer:
    """The way back to a page: an answer's head, then its pieces as they come, each when the page has taken the last."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.started = False

    async def start(self, status: int, kind: str, more: Mapping[str, str]) -> None:
        """The head. The connection's end is the answer's."""
        self.started = True
        self._writer.write(_head(status, kind, None, more))

    async def write(self, piece: bytes) -> None:
        """A piece. TimeoutError when the page takes nothing."""
        self._writer.write(piece)
        async with asyncio.timeout(SEND_S):
            await self._writer.drain()


Plays = Callable[[GetRequest, asyncio.StreamReader, PageAnswer], Awaitable[None]]
"""The answer to a request below /console/v1, whose body is still to be read."""


class ConsoleServer:
    """Answers requests below /console. `loopback`: only to who has typed a loopback address, for a page from elsewhere
    could have its own name lead here. `plays`: the playground, if there is one."""

    def __init__(
        self,
        console: Console,
        allows: Allows | None = None,
        loopback: bool = False,
        plays: Plays | None = None,
    ) -> None:
        self._console, self._allows, self._loopback, self._plays = console, allows, loopback, plays

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its head to its close."""
        ends = (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
        try:
            with contextlib.suppress(*ends):
                async with asyncio.timeout(HEAD_S):
                    request = parsed(await reader.readuntil(b"\r\n\r\n"))
                await self.answer(request, reader, writer)
        finally:
            writer.close()

    async def answer(
        self, request: GetRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """The answer to a request whose head has been read."""
        refusal = await self._refusal(request)
        if refusal is not None:
            await _send(writer, refusal)
        elif self._plays is not None and request.path.startswith(PLAYGROUND):
            await self._plays(request, reader, PageAnswer(writer))
        elif request.path == API + "stream":
            await self._stream(request.query, reader, writer)
        elif request.path.startswith(API):
            await _send(writer, self._console.reply(request.path, request.query))
        elif (file := assets.asset(request.path if request.path != "/" else assets.ROOT)) is not None:
            await _send(writer, Reply(200, file.kind, file.body))
        else:
            await _send(writer, _no(404, "There is no such page. The console is at /console."))

    async def _refusal(self, request: GetRequest) -> Reply | None:
        host = request.headers.get("host", "")
        if self._loopback and host.rpartition(":")[0] not in LOOPBACK and host not in LOOPBACK:
            return _no(403, "Ask for this page by a loopback address.")
        if request.method != "GET" and not (self._plays and request.path.startswith(PLAYGROUND)):
            return _no(405, "Use GET.")
        asks = request.path.startswith(API) and request.path != API + "about"
        if asks and self._allows is not None and not await self._allows(request.headers):
            return _no(401, "No valid API key. Send `Authorization: Bearer KEY`.")
        return None

    async def _stream(self, query: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Events until the page is closed."""
        transport = writer.transport
        head = _head(200, "text/event-stream; charset=utf-8", None)
        first: list[bytes] = []

        def write(data: bytes) -> None:
            if first:
                transport.write(data)
            else:
                first.append(data)
                transport.write(head + data)

        opened = self._console.open(query, write, lambda: transport.get_write_buffer_size() > HIGH_WATER)
        if isinstance(opened, Reply):
            await _send(writer, opened)
            return
        try:
            await reader.read(1)  # a page says no more: this ends when it is closed
        finally:
            self._console.close(opened)


def parsed(head: bytes) -> GetRequest:
    """The head of a request. ValueError when it is none."""
    line, *rest = head.decode("latin-1").split("\r\n")
    method, target, version = line.split(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError("not HTTP/1")
    path, _, query = target.partition("?")
    pairs = (text.partition(":") for text in rest if text)
    return GetRequest(method, path, query, {name.lower(): value.strip() for name, _, value in pairs})


def _no(status: int, why: str) -> Reply:
    import json

    return Reply(status, JSON, json.dumps({"error": why}).encode() + b"\n")


def _head(status: int, kind: str, length: int | None, more: Mapping[str, str] | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'X')}", f"content-type: {kind}"]
    lines += [f"{name}: {value}" for name, value in {**assets.HEADERS, **(more or {})}.items()]
    if length is not None:
        lines.append(f"content-length: {length}")
    return "\r\n".join([*lines, "connection: close", "", ""]).encode()


async def _send(writer: asyncio.StreamWriter, reply: Reply) -> None:
    writer.write(_head(reply.status, reply.kind, len(reply.body)) + reply.body)
    async with asyncio.timeout(SEND_S):
        await writer.drain()

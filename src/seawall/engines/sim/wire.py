"""HTTP/1.1 on a raw asyncio transport: parse with llhttp, answer whole or in chunks. Knows nothing of vLLM.

One request of a connection is handled at a time; pipelined ones wait. Bodies are bounded.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import parse_qsl

import httptools

MAX_BODY = 32 * 2**20
"""The most bytes of a request's body: vLLM's VLLM_HTTP_MAX_REQUEST_BODY_SIZE as of 0.33."""
_STATUS = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\nserver: uvicorn\r\n".encode() for s in HTTPStatus}


class HttpRequest:
    """One parsed request. Header names are lower-case."""

    __slots__ = ("body", "headers", "keep_alive", "method", "path", "query")

    def __init__(self, method: str, url: str, headers: dict[str, str], body: bytes, keep_alive: bool) -> None:
        self.method = method
        self.path, _, query = url.partition("?")
        self.query = dict(parse_qsl(query)) if query else {}
        self.headers = headers
        self.body = body
        self.keep_alive = keep_alive


class Connection(asyncio.Protocol):
    """One client. `handle(connection, request)` must lead to `respond` or to `open_stream` ... `end_stream`."""

    def __init__(
        self,
        handle: Callable[[Connection, HttpRequest], None],
        live: set[Connection],
        black_hole: Callable[[], bool] = lambda: False,
    ) -> None:
        self._handle = handle
        self._live = live
        self._black_hole = black_hole
        self._parser: Any = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0
        self._waiting: list[HttpRequest] = []
        self._keep_alive = True
        self.busy = False
        self.paused = False
        self.closed = False
        self.on_close: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._live.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._live.discard(self)
        if self.on_close is not None:
            self.on_close()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self.on_resume is not None:
            self.on_resume()

    def data_received(self, data: bytes) -> None:
        if self._black_hole():
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.transport.close()
        except httptools.HttpParserError:
            self.transport.write(_STATUS[400] + b"connection: close\r\ncontent-length: 0\r\n\r\n")
            self.transport.close()

    def on_message_begin(self) -> None:
        self._url, self._headers, self._body, self._size = b"", {}, [], 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")
        if name.lower() == b"expect" and value.lower() == b"100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > MAX_BODY:
            self.transport.write(_STATUS[413] + b"connection: close\r\ncontent-length: 0\r\n\r\n")
            self.transport.close()
            return
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self.transport.is_closing():
            return
        url = self._url.decode("latin-1")
        method = self._parser.get_method().decode()
        keep = bool(self._parser.should_keep_alive())
        self._waiting.append(HttpRequest(method, url, self._headers, b"".join(self._body), keep))
        if not self.busy:
            self._next()

    def _next(self) -> None:
        request = self._waiting.pop(0)
        self.busy = True
        self._keep_alive = request.keep_alive
        self._handle(self, request)

    def _done(self) -> None:
        self.busy = False
        self.on_close = self.on_resume = None
        if not self._keep_alive:
            self.transport.close()
        elif self._waiting:
            self._next()

    def respond(self, status: int, body: bytes, kind: str = "application/json", extra: str = "") -> None:
        """A whole answer. `extra`: further header lines, each ended by CRLF."""
        if not self.closed:
            content = f"content-type: {kind}\r\n" if kind else ""
            close = "" if self._keep_alive else "connection: close\r\n"
            head = f"{extra}content-length: {len(body)}\r\n{content}{close}\r\n"
            self.transport.write(_STATUS[status] + head.encode("latin-1") + body)
        self._done()

    def open_stream(self, extra: str = "") -> None:
        """The head of a server-sent event stream, sent at once (as uvicorn does, before the first token)."""
        head = f"{extra}content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        self.transport.write(_STATUS[200] + head.encode("latin-1"))

    def send(self, text: str) -> None:
        """One chunk of a stream."""
        data = text.encode()
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end_stream(self) -> None:
        if not self.closed:
            self.transport.write(b"0\r\n\r\n")
        self._done()

    def leave(self) -> None:
        """Takes no further request: closes now, or when the running answer is whole."""
        self._keep_alive = False
        if not self.busy:
            self.transport.close()

    def cut(self) -> None:
        """Ends the connection without the end of the stream: a bare EOF after what was written."""
        self.transport.close()

    def reset(self, half: str = "") -> None:
        """Half a chunk, then RST."""
        if half:
            data = half.encode()
            self.transport.write(b"%x\r\n%b" % (len(data) + 64, data))
        sock = self.transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

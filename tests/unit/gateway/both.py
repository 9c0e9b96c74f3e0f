"""Clients of both edges as pipes: what a request is, whatever carries it, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest
from tests.unit.gateway.conftest import split
from tests.unit.gateway.scripted import Bench, Pipe

from seawall.gateway.edge.client_side import Client
from seawall.gateway.edge.http2_library import HeadEncoder

Headers = Mapping[bytes, bytes]


class Answer:
    """What a client has of one answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes, whole: bool) -> None:
        self.status, self.headers, self.body = status, headers, body
        self.whole = whole
        """It has ended, properly."""


class Http1:
    """One connection per request."""

    name = "HTTP/1.1"

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.client: Client
        self.pipe: Pipe

    def head(self, method: bytes, path: bytes, headers: Headers, length: int | None) -> None:
        self.client, self.pipe = self.bench.connect()
        lines = b"".join(b"%b: %b\r\n" % h for h in headers.items())
        framing = b"Transfer-Encoding: chunked\r\n" if length is None else b"Content-Length: %d\r\n" % length
        self._chunked = length is None
        self._give(b"%b %b HTTP/1.1\r\nHost: g\r\n%b%b\r\n" % (method, path, lines, framing))

    def body(self, data: bytes, last: bool = True) -> None:
        if self._chunked:
            data = (b"%x\r\n%b\r\n" % (len(data), data) if data else b"") + (b"0\r\n\r\n" if last else b"")
        self._give(data)

    def _give(self, data: bytes) -> None:
        if data and not self.pipe.closed:
            self.client.data_received(data)

    def leave(self) -> None:
        self.client.connection_lost(None)

    close = leave

    def check(self, now: float) -> None:
        self.client.check(now)

    @property
    def answer(self) -> Answer | None:
        out = bytes(self.pipe.out)
        interim = b"HTTP/1.1 100 Continue\r\n\r\n"
        while out.startswith(interim):
            out = out[len(interim) :]
        if b"\r\n\r\n" not in out:
            return None
        status, headers, body = split(out)
        cut = headers.pop("cut", "False") == "True"
        whole = not cut and len(body) == int(headers.get("content-length", len(body)))
        return Answer(status, headers, body, whole)


class Http2:
    """One connection, a stream per request; the peer is the library's client."""

    name = "HTTP/2"

    def __init__(self, bench: Bench, ack: bool = True) -> None:
        """`ack`: the client takes what it gets at once."""
        self.bench = bench
        self.ack = ack
        first, self.pipe = bench.connect()
        config = h2.config.H2Configuration(
            header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.peer = h2.connection.H2Connection(config)
        self.peer.encoder = HeadEncoder()
        self.peer.initiate_connection()
        self.answers: dict[int, dict[str, Any]] = {}
        self.goaway: int | None = None
        self.pings = 0
        self._read = 0
        self.id = -1
        first.data_received(self.peer.data_to_send())
        assert first.http2 is not None
        self.connection = first.http2
        self.turn()

    def turn(self) -> None:
        """Everything goes over, both ways."""
        while True:
            out = self.peer.data_to_send()
            if out and not self.pipe.closed:
                self.connection.data_received(out)
            new = bytes(self.pipe.out[self._read :])
            self._read += len(new)
            if not new and not out:
                return
            for event in self.peer.receive_data(new) if new else ():
                self._event(event)

    def _event(self, event: Any) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = int(event.error_code or 0)
            return
        self.pings += isinstance(event, h2.events.PingAckReceived)
        id = getattr(event, "stream_id", None)
        if not id:
            return
        a = self.answers.setdefault(
            id, {"headers": {}, "body": b"", "whole": False, "reset": None, "interim": 0}
        )
        if isinstance(event, h2.events.ResponseReceived):
            a["headers"] = {k.decode(): v.decode("latin-1") for k, v in event.headers}
        elif isinstance(event, h2.events.InformationalResponseReceived):
            a["interim"] += 1
        elif isinstance(event, h2.events.DataReceived):
            a["body"] += event.data
            if self.ack:
                self.peer.acknowledge_received_data(event.flow_controlled_length, id)
        elif isinstance(event, h2.events.StreamEnded):
            a["whole"] = True
        elif isinstance(event, h2.events.StreamReset):
            a["reset"] = int(event.error_code)

    def head(
        self,
        method: bytes,
        path: bytes,
        headers: Headers,
        length: int | None,
        ends: bool = False,
        pseudo: list[tuple[bytes, bytes]] | None = None,
    ) -> int:
        fields = pseudo or [
            (b":method", method),
            (b":scheme", b"http"),
            (b":path", path),
            (b":authority", b"g"),
        ]
        fields += [(k.lower(), v) for k, v in headers.items()]
        if length:
            fields.append((b"content-length", b"%d" % length))
        self.id = self.peer.get_next_available_stream_id()
        self.peer.send_headers(self.id, fields, end_stream=ends)
        self.turn()
        return self.id

    def body(self, data: bytes, last: bool = True) -> None:
        try:
            while len(data) > 16_384:
                self.peer.send_data(self.id, data[:16_384])
                data = data[16_384:]
                self.turn()
            self.peer.send_data(self.id, data, end_stream=last)
        except h2.exceptions.StreamClosedError:
            return  # it has been answered, and reset
        self.turn()

    def leave(self) -> None:
        self.peer.reset_stream(self.id, 8)
        self.turn()

    def close(self) -> None:
        self.connection.connection_lost(None)

    def check(self, now: float) -> None:
        self.connection.check(now)
        self.turn()

    def answer_of(self, id: int) -> Answer | None:
        self.turn()
        a = self.answers.get(id)
        if a is None or not a["headers"]:
            return None
        headers = dict(a["headers"])
        return Answer(int(headers.pop(":status")), headers, a["body"], a["whole"])

    def reset_of(self, id: int) -> int | None:
        self.turn()
        return self.answers[id]["reset"] if id in self.answers else None

    @property
    def answer(self) -> Answer | None:
        return self.answer_of(self.id)


Edge = Http1 | Http2
EDGES = pytest.mark.parametrize("edge", [Http1, Http2], ids=["http1", "http2"])


def ask(
    edge: Edge,
    body: bytes = b"",
    path: bytes = b"/v1/completions",
    headers: Headers | None = None,
    method: bytes = b"POST",
) -> None:
    """A whole request."""
    edge.head(method, path, headers or {}, len(body))
    edge.body(body)

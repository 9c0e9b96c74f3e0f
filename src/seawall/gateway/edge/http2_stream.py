"""One stream of an HTTP/2 connection: one request, and where its answer goes.

What cannot go out yet, for the stream's window, the connection's, or the client's TCP is full, waits here, counted as
it comes: a slow stream holds up its own engine and nobody else's. Nothing of a request may be logged here.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from seawall.decide.route.refusal import Refusal
from seawall.gateway.edge.caller import (
    COMMENT,
    FAULT,
    HIGH_WATER,
    OVERLOADED,
    SEND_S,
    SLACK,
    SLOW_BODY,
    Caller,
    Handler,
    Untaken,
)
from seawall.gateway.edge.http2_head import LENGTH, Fields, MalformedHead, fields_of, read_head
from seawall.gateway.edge.request import Request
from seawall.gateway.edge.sink import EVENT_STREAM
from seawall.gateway.memory import LITTLE

NO_ERROR: Final = 0x0
PROTOCOL_ERROR: Final = 0x1
INTERNAL_ERROR: Final = 0x2
CANCEL: Final = 0x8
STREAM: Final = 10 * 1024
"""What a stream costs, with the library's half of it."""
PRICE: Final = 16
"""Of an answer of our own, in those of HTTP/1.1."""


class Carrier(Protocol):
    """The connection of a stream."""

    def begin(self, stream: Http2Stream, fields: Fields, ends: bool) -> None:
        """The head of its answer, perhaps all of it."""

    def send(self, stream: Http2Stream, data: bytes) -> bool:
        """Sends this now, with the end of the answer where `stream.ended`. False: not now."""

    def waits(self, stream: Http2Stream) -> None:
        """It has something to send when there is room."""

    def goes_on(self, stream: Http2Stream) -> None:
        """Its client may send the body that it has announced."""

    def whole(self, stream: Http2Stream) -> None:
        """Its request is whole."""

    def reset(self, stream: Http2Stream, code: int) -> None:
        """It ends here."""


class Http2Stream(Caller):
    """See the module."""

    __slots__ = (
        "_carrier",
        "_high_water",
        "_length",
        "_mute",
        "_read",
        "_started",
        "_taken_at",
        "_unsent",
        "breaks",
        "ended",
        "fault",
        "id",
        "out",
        "over",
        "parsing",
        "received",
    )

    def __init__(
        self, carrier: Carrier, handler: Handler, loop: asyncio.AbstractEventLoop, id: int, high_water: int
    ) -> None:
        super().__init__(handler, loop)
        self._price = PRICE
        self._carrier = carrier
        self._high_water = high_water
        self.id = id
        self.parsing: Request | None = None
        """The request, until it is whole."""
        self.received = False
        """The client has ended its half."""
        self._length = -1
        """What its content-length says; -1: nothing."""
        self._read = 0
        """Bytes of its body as they came."""
        self.out = bytearray()
        """What waits to be sent."""
        self.ended = False
        """Nothing follows behind that."""
        self.breaks = False
        """And what follows is no proper end."""
        self.fault = NO_ERROR
        """Why the rest of the request is not read, where the answer ends before it."""
        self.over = False
        self._started = False
        self._mute = False
        """The answer has no body, whatever is written."""
        self._unsent = 0
        self._taken_at = self.since
        """When the client was last seen taking bytes, or to have taken all; looked at by the sweep."""
        self._memory.add(STREAM)

    # -- the request

    def head(self, fields: Fields, whole: bool) -> None:
        """Its head has come. `whole`: there is no body."""
        request = self.parsing = Request()
        self.received = whole
        self.body_since = self.since
        handler = self.handler
        try:
            size = read_head(fields, request, handler.wanted)
        except MalformedHead as e:
            handler.meet(request)
            self.malformed(str(e))
            return
        handler.meet(request)
        headers = request.headers
        self._length = int(headers.get(LENGTH, b"-1"))
        self._mute = request.method == b"HEAD"
        refusal: Refusal | None
        if request.method == b"CONNECT":
            refusal = Refusal(
                405, "method_not_allowed", "This is no proxy. Use GET or POST.", allow="GET, POST"
            )
        else:
            refusal = self.judge_head(request, size, len(fields), max(0, self._length))
        if refusal is not None:
            self.refuse(refusal)
        elif not whole:
            self._memory.readers[self] = None
            if b"expect" in headers:
                self._carrier.goes_on(self)

    def body(self, data: bytes) -> int:
        """-> the bytes that were made of compressed ones."""
        request = self.parsing
        if request is None:
            return 0  # it has been refused
        self.since = self._now()
        self._read += len(data)
        if self._read > self._length >= 0:
            self.malformed("its body is longer than its content-length")
            return 0
        before = request.size
        refusal = self.take_body(request, data)
        made = request.size - before if request.decoder is not None else 0
        if refusal is not None:
            self.refuse(refusal)
        return made

    def end_of_request(self) -> None:
        self.received = True
        request = self.parsing
        if request is None:
            return
        if self._length >= 0 and self._read != self._length:
            self.malformed("its body is shorter than its content-length")
            return
        refusal = self.end_body(request)
        if refusal is not None:
            self.refuse(refusal)
            return
        self._memory.readers.pop(self, None)
        self._carrier.whole(self)

    def take_up(self) -> None:
        """Its turn has come."""
        request, self.parsing = self.parsing, None
        if request is not None:
            self._busy = request
            self.handler.handle(self, request)

    @property
    def waits_for_budget(self) -> bool:
        return self.parsing is not None and self.strange(self.parsing)

    def failed(self) -> None:
        """We failed: its client is told, as far as that can be."""
        if self.exchange is None and not self._started and self._busy is not None:
            self.answer_refusal(FAULT)
            self.next()
        else:
            self.cut()

    def malformed(self, why: str) -> None:
        self.fault = PROTOCOL_ERROR
        self.refuse(Refusal(400, "bad_request", f"This is not a valid HTTP/2 request: {why}."))

    def refuse(self, refusal: Refusal) -> None:
        """It is not read any further."""
        request, self.parsing = self.parsing, None
        if request is None or self.over:
            return
        self._memory.readers.pop(self, None)
        self.drop(request)
        self.handler.refused(refusal)
        self._busy = request
        self.answer_refusal(refusal)
        self.next()

    def give_up(self) -> None:
        self.refuse(OVERLOADED)

    def lost(self) -> None:
        """The client has let go of it, or of the connection: the engine is told at once."""
        if self.over:
            return
        self.let_go()
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.client_gone()
        elif self._busy is not None:
            self.hold(self._busy, 0)

    def let_go(self) -> None:
        """Nothing is sent on it any more."""
        self.over = True
        self._memory.add(-STREAM - len(self.out))
        self.out = bytearray()
        request, self.parsing = self.parsing, None
        if request is not None:
            self._memory.readers.pop(self, None)
            self.drop(request)

    # -- the sink

    @property
    def gone(self) -> bool:
        return self.over

    def start(self, status: int, content_type: bytes, data: bytes) -> None:
        self._started = True
        extra = b"cache-control: no-store\r\n" if content_type is EVENT_STREAM else b""
        self._top(status, content_type, -1, extra, False)
        if data:
            self.write(data)

    def write(self, data: bytes) -> None:
        if self.over or self._mute or not data:
            return
        if self.out or not self._carrier.send(self, data):
            self._wait_with(data)

    def comment(self) -> None:
        if not self.full:
            self.write(COMMENT)

    def end(self, data: bytes) -> None:
        self._last(b"" if self._mute else data)

    def whole(self, status: int, content_type: bytes, body: bytes) -> None:
        self._reply(status, content_type, body, b"")

    def fail(self, refusal: Refusal, event: bytes) -> None:
        if not self._started:
            self.answer_refusal(refusal)
        elif event:
            self.breaks = True
            self._last(event)
        else:
            self.cut()

    def done(self) -> None:
        self.exchange = None
        self.next()

    def cut(self) -> None:
        if not self.over:
            self._carrier.reset(self, INTERNAL_ERROR)
            self.let_go()
            if self.exchange is not None:
                self.loop.call_soon(self._tell_source)

    def _tell_source(self) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.client_gone()

    def next(self) -> None:
        request, self._busy = self._busy, None
        if request is not None and request.held:
            self.hold(request, 0)

    def _reply(self, status: int, content_type: bytes, body: bytes, extra: bytes) -> None:
        data = b"" if self._mute else body
        self.ended = not data
        self._top(status, content_type, len(body), extra, not data)
        if data:
            self._last(data)

    def _top(self, status: int, content_type: bytes, length: int, extra: bytes, ends: bool) -> None:
        if self.over:
            return
        fields: Fields = [(b":status", b"%d" % status), (b"content-type", content_type)]
        if length >= 0:
            fields.append((LENGTH, b"%d" % length))
        request = self._busy
        lines = self.handler.clock.date + extra + (self.lines(request) if request is not None else b"")
        self._carrier.begin(self, fields + fields_of(lines), ends)

    def _last(self, data: bytes) -> None:
        """The answer's last bytes."""
        if self.over:
            return
        self.ended = True
        if self.out or not self._carrier.send(self, data):
            self._wait_with(data)

    def _wait_with(self, data: bytes) -> None:
        """It goes out as the windows open. Its engine goes on for a while: most answers are over then, and their place
        is free."""
        self.out += data
        self._memory.add(len(data))
        self._carrier.waits(self)
        unsent = len(self.out)
        if unsent <= self._high_water or self.full or self.over:
            return
        if unsent > SLACK or self._high_water != HIGH_WATER or not self._memory.room(0, SLACK, self._now()):
            self._stop(unsent)

    def take(self, size: int) -> bytes:
        """The next bytes of what waits: they go out now."""
        data = bytes(self.out[:size])
        del self.out[:size]
        self._memory.add(-size)
        return data

    def went_out(self) -> None:
        if self.full and len(self.out) <= self._high_water // 4:
            self._go_on_reading()

    # -- time

    @property
    def untaken(self) -> list[Untaken]:
        """Of its answer, as the sweep last saw it."""
        return [Untaken(self._taken_at, self._unsent, self.cut)] if self._unsent > LITTLE else []

    def check(self, now: float) -> None:
        """The sweep's look."""
        if self.over:
            return
        if self.parsing is not None and not self.received:
            if self.slow_body(self.parsing, now):
                self.refuse(SLOW_BODY)
            return
        unsent = len(self.out)
        if not unsent or unsent < self._unsent:
            self._taken_at = now
        elif now - self._taken_at > SEND_S:
            self._carrier.reset(self, CANCEL)
            self.lost()
            return
        self._unsent = unsent
        self._look_at_pace(now, unsent)

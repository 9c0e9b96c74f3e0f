"""The side that faces clients: strict HTTP/1.1 in, answers out, one protocol object per connection.

llhttp (strict) does the parsing and refuses what smuggles: conflicting lengths, bare LF, obs-fold, control
characters. Here are the limits: sizes, times, pipelining. While a request runs, bytes of the next one are
kept (bounded), reading goes on so that a client that leaves is noticed at once.
Nothing of a request may be logged here.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import math
import os
import socket
import termios
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

import httptools

from seawall.decide.route.refusal import Refusal
from seawall.gateway.edge.budget import (
    CHUNKS,
    MADE_PER_TURN,
    MOST,
    PER_TURN,
    PIECES_PER_TURN,
    SLICE,
    WINDOW_S,
)
from seawall.gateway.edge.caller import (
    COMMENT,
    CROWDED,
    FAULT,
    HEAD_S,
    HIGH_WATER,
    LINGER_S,
    MAX_BACKLOG,
    MESSAGES,
    ONCE,
    OVERLOADED,
    REFUSED_S,
    SEND_S,
    SLACK,
    SLOW_BODY,
    SLOW_HEAD,
    Caller,
    Handler,
    Tunnel,
    Untaken,
    named,
    said_where,
    told,
)
from seawall.gateway.edge.chunks import ChunkWalk
from seawall.gateway.edge.http2 import Http2Connection
from seawall.gateway.edge.http2_frames import PREFACE
from seawall.gateway.edge.record import ANSWERED, CUT_SHORT, READ, SAID, STARTED, UNTOLD, Record
from seawall.gateway.edge.request import Request
from seawall.gateway.edge.sink import EVENT_STREAM
from seawall.gateway.memory import CONNECTION, LITTLE
from seawall.gateway.wire import CONTINUE, JSON, LAST_CHUNK, chunk, error_body, head

log = logging.getLogger("seawall.gateway")
CR: Final = 13
LEFT_S = 0.5
"""After the last byte that a client will send, and after what it was sent then: time for its kernel to say that it has
left. Most answers are there by then."""
_LINGERS = frozenset({401, 403, 405, 413, 415, 431, 503})
"""What is refused while more of it is on its way: a close would reset the connection, and the answer with it."""
TCP_CLOSE = 7
"""Of `tcpi_state`, the first byte of what TCP_INFO tells (linux/tcp.h)."""


class Client(Caller):
    """One connection of a client, which has one caller: an `asyncio.Protocol` in all but its base (decision 24)."""

    __slots__ = (
        "_at",
        "_backlog",
        "_blank",
        "_chunked",
        "_data",
        "_due",
        "_ended",
        "_events",
        "_handled",
        "_headers_seen",
        "_high_water",
        "_in_head",
        "_last",
        "_made",
        "_parser",
        "_parsing",
        "_pieces",
        "_queue",
        "_read_paused",
        "_reading_on",
        "_refusing",
        "_served",
        "_slack",
        "_started",
        "_tunnel",
        "_unsent",
        "_unsent_held",
        "_upgrading",
        "_waits_for_body",
        "adopt",
        "http2",
        "taken_at",
        "transport",
    )

    def __init__(
        self, handler: Handler, loop: asyncio.AbstractEventLoop, high_water: int = HIGH_WATER
    ) -> None:
        super().__init__(handler, loop)
        self._high_water = high_water
        self.transport: asyncio.Transport | None = None
        self.adopt: Callable[[], None] | None = None
        """Goes on with what a predecessor began, once the connection is ours."""
        self.taken_at = self.since
        """When the client was last seen taking bytes, or to have taken all; looked at by the sweep."""
        self._unsent = 0
        self._unsent_held = 0
        """What of it was counted as held."""
        self._slack = False
        """SLACK is reserved for what it has not read."""
        self._parser: Any = httptools.HttpRequestParser(self)
        self._parsing: Request | None = None
        self._queue: deque[Request] = deque()
        self._backlog = bytearray()
        self._due = False
        """`_go_on` comes in the next turn, or at the next window of the budget."""
        self._handled = 0
        """Requests that were taken up in this turn."""
        self._made = 0
        """Bytes that compressed bodies came to in this turn."""
        self._pieces = 0
        """Pieces of bodies that came in this turn."""
        self._waits_for_body = False
        """Among the readers: a body has begun, and is not whole."""
        self._data = b""
        """What is being read, from the first byte of a head whose end has not come."""
        self._at = 0
        """Where in it, or behind it, the next request begins, or the one whose head is being read."""
        self._blank = False
        """Half of an empty line has come where a request may begin."""
        self._headers_seen = 0
        self._in_head = False
        self._ended = False
        """The client has sent all that it will send."""
        self._chunked = True
        """The running stream's answer is: all are but HTTP/1.0's."""
        self._served = False
        """A request has been read on this connection."""
        self.http2: Http2Connection | None = None
        """Who serves this connection in its place."""
        self._started = False
        """The head of the present answer is out."""
        self._events = False
        """And it is a stream of events."""
        self._last = False
        """The head of the present answer said `connection: close`."""
        self._refusing = False
        self._tunnel: Tunnel | None = None
        """Who has this connection now."""
        self._read_paused = False
        self._upgrading: Request | None = None
        self._reading_on: Request | None = None

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # asyncio types it as the base class
        transport.set_write_buffer_limits(high=self._high_water)  # type: ignore[attr-defined]  # same
        handler = self.handler
        handler.clients.add(self)
        self._memory.add(CONNECTION)
        if handler.http2 and _chose_http2(transport):
            if handler.keep is not None:
                handler.keep.hold(transport)  # which counts why it cannot be
            self._become_http2(b"")
            return
        if len(handler.clients) > handler.max_clients and not handler.crowded(self.since):
            self.refuse_connection(CROWDED)
            transport.close()
            return
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if isinstance(peer, tuple) else ""
        adopt, self.adopt = self.adopt, None
        if adopt is not None:
            adopt()
        elif self.handler.keep is not None:
            self.record = self.handler.keep.hold(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._parser = None  # it holds our methods: a cycle, which the calmed collector would leave for hours
        self.handler.clients.discard(self)
        record, self.record = self.record, None
        if record is not None and self.handler.keep is not None:
            self.handler.keep.let_go(record)
        exchange, self.exchange = self.exchange, None
        self._memory.add(-CONNECTION - self._unsent_held)
        self._unsent_held = 0
        self._end_slack()
        self._forget()
        if exchange is None and self._busy is not None:
            self.hold(self._busy, 0)
        self._data = b""
        if exchange is not None:
            exchange.client_gone()

    def eof_received(self) -> bool:
        """The client sends no more. It may have closed only this half of the connection, and is answered then (but over
        TLS, which asyncio closes)."""
        transport = self.transport
        if transport is None or self._refusing or transport.get_extra_info("sslcontext") is not None:
            return False
        if self._busy is None and not self._queue and not self._backlog:
            return False
        self._ended = True
        self.loop.call_later(LEFT_S, self._ask_whether_gone)
        return True

    def _ask_whether_gone(self) -> None:
        """Has a client that sends no more closed the other half, too? Its kernel answers the next byte with a reset:
        one is sent where the answer has a place for it, and `check` looks."""
        busy = self._busy
        if self.transport is None or busy is None or self.exchange is None:
            return
        if self._events:
            self.comment()
        elif not self._started and not busy.http10:
            self._write(CONTINUE, SAID)
        self.loop.call_later(LEFT_S, self._leave_if_gone)

    def _leave_if_gone(self) -> None:
        if self.transport is not None and _reset(self.transport):
            self.transport.abort()

    def pause_writing(self) -> None:
        """It reads more slowly than is written. While there is memory the engine goes on all the same, a little: most
        answers are over then, and their place is free."""
        exchange = self.exchange
        room = self._high_water == HIGH_WATER and self._memory.room(SLACK, SLACK, self._now())
        if exchange is None or self._slack or not room:
            self._stop(self._unsent_now())
        else:
            self._slack = True
            self._memory.add(SLACK)
            exchange.pause()
            exchange.resume()  # by `write` from now on, which looks at how much waits
        self._count(self._unsent_now())

    def resume_writing(self) -> None:
        self._end_slack()
        self._count(self._unsent_now())
        self._go_on_reading()
        if self._busy is None and (self._queue or self._backlog):
            self._soon()

    @property
    def _behind(self) -> bool:
        """It has not read what it was answered before: nothing more is done for it until it does."""
        return self.full or self._slack

    def _unsent_now(self) -> int:
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def _count(self, unsent: int) -> None:
        """So much of its answers lies here, some of it in the SLACK that is counted."""
        held = max(0, unsent - SLACK) if self._slack else unsent
        self._memory.add(held - self._unsent_held)
        self._unsent_held = held

    def _end_slack(self) -> None:
        if self._slack:
            self._slack = False
            self._memory.add(-SLACK)

    def data_received(self, data: bytes) -> None:
        if self._refusing:
            return
        if self.record is not None:
            self._note(self.record, data)
        if self._busy is not None or self._queue or self._backlog:
            self._keep_back(data)
        else:
            self._feed(data)

    @property
    def _rests(self) -> bool:
        """It is between two requests: all that came has been answered."""
        return (
            self._busy is None
            and self._parsing is None
            and not self._queue
            and not self._backlog
            and self._upgrading is None
            and self._reading_on is None
        )

    def _note(self, record: Record, data: bytes) -> None:
        """What came is recorded. What was of earlier requests goes when the kernel has all of their answers."""
        transport = self.transport
        if not record.holds or (
            self._rests and transport is not None and not transport.get_write_buffer_size()
        ):
            record.renew()
        record.add(READ, data)

    def _keep_back(self, data: bytes) -> None:
        """Bytes behind a request that is being answered, or waits to be: their turn comes in `_go_on`."""
        self._backlog.extend(data)
        self._memory.add(len(data))
        if len(self._backlog) > MAX_BACKLOG and self.transport is not None:
            self._read_paused = True
            self.transport.pause_reading()

    def _feed(self, data: bytes) -> None:
        """Reads on. Where requests may begin that is a slice at a time, for thousands of them fit into one read, and so
        where a body is compressed, for one read may come to megabytes; a chunked one may be of thousands of pieces."""
        self._handled = self._made = self._pieces = 0
        if len(data) <= SLICE:
            self._read(data)
        else:
            at = 0
            while at < len(data) and not self._over:
                if self._busy is not None or self._queue or self._enough:
                    self._keep_back(data[at:])
                    break
                size = self._slice
                end = at + size if size else len(data)
                self._read(data[at:end])
                at = end
            if self.http2 is not None and at < len(data):
                self.http2.data_received(data[at:])
            elif self._tunnel is not None and at < len(data):
                self._tunnel.data_received(data[at:])
        if self._busy is None and (self._queue or self._backlog):
            self._soon()

    @property
    def _enough(self) -> bool:
        """Of one connection in one turn."""
        return self._handled >= PER_TURN or self._made >= MADE_PER_TURN or self._pieces >= PIECES_PER_TURN

    @property
    def _slice(self) -> int:
        """How much is read at a time of what comes next, which may be much more than its bytes. 0: all of it."""
        parsing = self._parsing
        if parsing is None or self._in_head or parsing.decoder is not None:
            return SLICE
        return CHUNKS if parsing.walk is not None else 0

    @property
    def _over(self) -> bool:
        """Nothing that comes is read any more: refused, or closed behind an answer."""
        return self._refusing or self.transport is None or self.transport.is_closing()

    def _read(self, data: bytes) -> None:
        if self._in_head:
            self._data += data
        else:
            self.since = self._now()
            self._data = b"\r" + data if self._blank else data
            self._at = 0 if self._parsing is None else self._rest(self._parsing, self._data)
            self._blank = False
        left: bytes | memoryview | None = data
        try:
            while left and not self._over:
                if self._busy is not None:
                    self._keep_back(bytes(left))
                    break
                left = self._parse(left)
        except httptools.HttpParserCallbackError as e:
            self._bug(e.__context__)
        except (httptools.HttpParserError, httptools.HttpParserInvalidURLError):
            if self._speaks_http2():
                self._become_http2(self._data)
                return
            self.refuse_connection(_MALFORMED)
        parsing = self._parsing
        if parsing is not None and parsing.walk is not None and parsing.walk.said > self.handler.max_body:
            self.refuse_connection(self._too_large())  # before what a chunk says of itself has come
        if not self._in_head or self._refusing:
            if self._parsing is None and not self._over:
                self._read_blank()
            self._data = b""
            if self._parsing is not None and not self._waits_for_body and not self._refusing:
                self._waits_for_body = True
                self._memory.readers[self] = None
            return
        at = self._at
        self._data, self._at = self._data[at:], 0
        if len(self._data) > self.handler.max_head:
            self.refuse_connection(self.too_large_head())

    def _speaks_http2(self) -> bool:
        """The connection begins as one of HTTP/2 does, by prior knowledge: llhttp stops behind that."""
        begins = not self._served and self._at == 0 and self._data.startswith(PREFACE)
        transport = self.transport
        if not begins or not self.handler.http2 or transport is None:
            return False
        return transport.get_extra_info("sslcontext") is None  # TLS has a word of its own for it

    def _become_http2(self, data: bytes) -> None:
        """From now on another object is this connection's protocol. `data`: what it has sent."""
        transport, self.transport, self._parser = self.transport, None, None
        record, self.record = self.record, None
        handler = self.handler
        if record is not None and handler.keep is not None:
            handler.keep.unhold(record, "http2")
        handler.clients.discard(self)
        self._memory.add(-CONNECTION - self._unsent_held)
        self._forget()
        self._parsing, self._data, self._in_head = None, b"", False
        self.http2 = Http2Connection(handler, self.loop, self._high_water)
        if transport is not None:
            transport.set_protocol(cast("asyncio.BaseProtocol", self.http2))
            self.http2.connection_made(transport)
            if data:
                self.http2.data_received(data)

    def _rest(self, request: Request, data: bytes) -> int:
        """Where the body of the request that is being read ends in `data`, or behind it."""
        if request.walk is not None:
            return request.walk.end_in(data, 0)
        return int(request.headers.get(b"content-length", b"0")[-20:]) - (request.coded or request.size)

    def _read_blank(self) -> None:
        """What has come behind the last request, and is the beginning of none, are empty lines: whole ones, and perhaps
        half of one. llhttp would take a bare LF, too."""
        data, at = self._data, self._at
        if at < len(data):
            rest = data[at:].replace(b"\r\n", b"")
            self._blank = rest == b"\r"
            if rest and not self._blank:
                self.refuse_connection(_MALFORMED)

    def _parse(self, data: bytes | memoryview) -> memoryview | None:
        """Feeds the parser -> what it left, for it stops behind the head of a request that offers an upgrade. A client
        may offer thousands of upgrades in one read, so what is left is not copied."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as e:
            self._ignore_upgrade()
            return memoryview(data)[e.args[0] :]
        return None

    def _ignore_upgrade(self) -> None:
        """An offer to upgrade is declined by answering in HTTP/1.1 (RFC 9110, 7.8). llhttp stops there, before
        any body: a new parser reads on, told first of the body that is still due."""
        self._parser = httptools.HttpRequestParser(self)
        request, self._upgrading = self._upgrading, None
        if request is not None:
            length = request.headers.get(b"content-length")
            framing = b"Content-Length: " + length if length else b"Transfer-Encoding: chunked"
            if not request.keep:
                framing += b"\r\nConnection: close"
            self._reading_on = request
            self._parser.feed_data(b"POST / HTTP/1.1\r\nHost: -\r\n" + framing + b"\r\n\r\n")

    # -- httptools

    def on_message_begin(self) -> None:
        if self._reading_on is not None:
            return
        self._parsing = Request()
        self._in_head = True
        self._headers_seen = 0

    def on_url(self, url: bytes) -> None:
        if self._reading_on is None and self._parsing is not None:
            self._parsing.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers_seen += 1
        name = name.lower()
        request = self._parsing
        if request is not None and self._in_head and name in self.handler.wanted:
            if name in request.headers and name in ONCE:
                request.repeated = name
            request.headers[name] = value

    def on_headers_complete(self) -> None:
        if self._reading_on is not None:
            self._parsing, self._reading_on = self._reading_on, None
            return
        request, parser = self._parsing, self._parser
        self._in_head = False
        self.body_since = self._now()
        if request is None or self._refusing:
            return
        request.method = parser.get_method()
        self.handler.meet(request)
        length = int(request.headers.get(b"content-length", b"0")[-20:])
        began = self._at
        size = self._measure(request, length)
        version = "1.1" if request.http11 else parser.get_http_version()
        request.http10 = version == "1.0"
        request.keep = parser.should_keep_alive()
        request.upgrades = parser.should_upgrade()
        headers = request.headers
        refusal = None
        if size < 0:
            refusal = _MALFORMED
        elif version not in ("1.1", "1.0"):
            refusal = Refusal(400, "http_version", "Speak HTTP/1.1.")
        elif request.method == b"CONNECT":
            # What follows is no HTTP to who means it, and a request to a parser: it is not read.
            refusal = Refusal(
                405, "method_not_allowed", "This is no proxy. Use GET or POST.", allow="GET, POST"
            )
        elif b"transfer-encoding" in headers and (
            request.http10 or headers[b"transfer-encoding"].lower() != b"chunked"
        ):
            refusal = Refusal(400, "transfer_encoding", "Only `Transfer-Encoding: chunked` is understood.")
        else:
            refusal = self.judge_head(request, size, self._headers_seen, length)
            if refusal is None and request.through:
                refusal = self._hand_through(request, self._data[began:])
        if refusal is not None:
            self._refuse_parsing(refusal)
        elif (
            b"expect" in headers and not request.http10 and self._busy is None and self.transport is not None
        ):
            self._write(CONTINUE, SAID)

    def _hand_through(self, request: Request, data: bytes) -> Refusal | None:
        """The connection is another's from now on, with what came of this request and all that comes."""
        transport = self.transport
        if transport is None or self._busy is not None or self._queue:
            message = "Send this on a connection of its own, not behind a request that is being answered."
            return Refusal(400, "pipelined", message)
        tunnel = self.handler.hand_through(request, transport, data)
        if isinstance(tunnel, Refusal):
            return tunnel
        record, keep = self.record, self.handler.keep
        if record is not None and keep is not None:
            self.record = None
            keep.unhold(record, "batch")
        self._refusing = True
        self._parsing = None
        self._tunnel = tunnel
        self.connection_lost(None)
        return None

    def _measure(self, request: Request, length: int) -> int:
        """The size of the head that has come, however it came, with its first line as it was sent: llhttp takes several
        spaces there for one. -1: it is not right. The next request's place is noted; `length` of its body."""
        data, at = self._data, self._at
        while at < len(data) and data[at] == CR and data.startswith(b"\r\n", at):
            at += 2
        end = data.find(b"\r\n\r\n", at) + 4
        line = b"%b %b HTTP/1.1\r\n" % (request.method, request.url)
        request.http11 = data[at : at + len(line)] == line
        if b"transfer-encoding" in request.headers:
            request.walk = ChunkWalk()
            self._at = request.walk.end_in(data, end)
        else:
            self._at = end + length
        known = request.http11 or data.startswith(line[:-5], at)
        return end - at if end > at and known else -1

    def on_body(self, data: bytes) -> None:
        request = self._parsing
        if request is None or self._refusing:
            return
        before = request.size
        self._pieces += 1
        refusal = self.take_body(request, data)
        if request.decoder is not None:
            self._made += request.size - before
        if refusal is not None:
            self._refuse_parsing(refusal)

    def on_message_complete(self) -> None:
        request, self._parsing = self._parsing, None
        if request is None or self._refusing:
            return
        if request.upgrades and not request.size and _has_body(request.headers):
            self._upgrading, request.upgrades = request, False
            return
        refusal = self.end_body(request)
        if refusal is not None:
            self._parsing = request
            self._refuse_parsing(refusal)
            return
        if self._waits_for_body:
            self._waits_for_body = False
            self._memory.readers.pop(self, None)
        self._handled += 1
        self._served = True
        waits = self._busy is not None or self._queue or self._behind
        if waits or self._handled > PER_TURN or self.strange(request):
            self._queue.append(request)
            return
        self._busy = request
        self.handler.handle(self, request)

    # -- memory

    def give_up(self) -> None:
        """The body that is being read has taken long, and its place is needed."""
        self.refuse_connection(OVERLOADED)

    def _forget(self, answered: bool = False) -> None:
        """What is read will not be answered, nor what waits behind it unless that will be `answered`."""
        for request in (self._parsing, self._upgrading, *(() if answered else self._queue)):
            if request is not None:
                self.drop(request)
        self._memory.add(-len(self._backlog))
        self._backlog.clear()
        if not answered:
            self._queue.clear()
        if self._waits_for_body:
            self._waits_for_body = False
            self._memory.readers.pop(self, None)

    # -- the sink of the present request

    def start(self, status: int, content_type: bytes, data: bytes) -> None:
        request = self._busy
        http10 = request is not None and request.http10
        self._started = True
        self._chunked = not http10
        if http10 and request is not None:
            request.keep = False  # the end of the connection is the end of the answer
        self._events = content_type is EVENT_STREAM
        extra = b"cache-control: no-store\r\n" if self._events else b""
        top = self._head(status, content_type, -1 if http10 else None, extra)
        if not self._events and self.record is not None:
            self.record.add(UNTOLD, b"")
        self._write(top + (data if http10 else chunk(data)) if data else top, STARTED)

    def write(self, data: bytes) -> None:
        transport = self.transport
        if transport is not None:
            out = chunk(data) if self._chunked else data
            if self.record is not None:
                self.record.written += len(out)
            transport.write(out)
            if self._slack and not self.full and transport.get_write_buffer_size() > SLACK:
                self._stop(self._unsent_now())

    def comment(self) -> None:
        if not self.full:
            self._write(chunk(COMMENT) if self._chunked else COMMENT, SAID)

    @property
    def chunks(self) -> Callable[[bytes], None] | None:
        """What writes a whole chunk of the running stream; None where its answer is not chunked, or nobody listens."""
        direct = self._chunked and not self._slack
        return self.transport.write if self.transport is not None and direct else None

    def end(self, data: bytes) -> None:
        busy = self._busy
        if busy is None or busy.http10:
            self._write(data, ANSWERED)
        else:
            self._write(chunk(data) + LAST_CHUNK if data else LAST_CHUNK, ANSWERED)

    def whole(self, status: int, content_type: bytes, body: bytes) -> None:
        self._write(self._head(status, content_type, len(body)) + body, ANSWERED)

    def fail(self, refusal: Refusal, event: bytes) -> None:
        """A stream says so in an event and ends without its last chunk, any other answer that has begun is cut."""
        if not self._started:
            self.answer_refusal(refusal)
        elif event:
            self._write(chunk(event) if self._chunked else event, CUT_SHORT)
            if self._busy is not None:
                self._busy.keep = False
        else:
            self.cut()

    def done(self) -> None:
        self.exchange = None
        self._started = self._events = False
        self.next()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def cut(self) -> None:
        """The connection ends, without the proper end of an answer that has begun."""
        if self.transport is not None:
            self.transport.abort()

    # -- answers of our own

    @property
    def gone(self) -> bool:
        return self.transport is None

    def _reply(self, status: int, content_type: bytes, body: bytes, extra: bytes) -> None:
        request = self._busy
        top = self._head(status, content_type, len(body), extra)
        self._write(top if request is not None and request.method == b"HEAD" else top + body, ANSWERED)

    def next(self) -> None:
        """The present request is answered: go on with the connection, or end it."""
        request, self._busy = self._busy, None
        if request is not None and request.held:
            self.hold(request, 0)
        transport = self.transport
        if transport is None:
            return
        over = self._ended and not self._queue and not self._backlog
        if request is None or not request.keep or self._last or over:
            transport.close()
            return
        self.since = self._now()
        if self._queue or self._backlog:
            self._soon()

    def _soon(self) -> None:
        """The next request's turn comes when everybody else has had theirs."""
        if self._due:
            return
        self._due = True
        if self._budget.spent >= MOST and self._budget.over(self._now()):
            self.loop.call_later(WINDOW_S, self._go_on)
        else:
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._due = False
        if self._busy is not None or self.transport is None or self.transport.is_closing():
            return
        if self._behind:
            return  # until `resume_writing`
        if self._queue:
            if self.strange(self._queue[0]):
                self._soon()
                return
            self._busy = self._queue.popleft()
            self.handler.handle(self, self._busy)
            return
        backlog = self._backlog
        size = SLICE if self._parsing is None or self._in_head else len(backlog)
        data = bytes(backlog[:size])
        del backlog[:size]
        self._memory.add(-len(data))
        if self._read_paused and len(backlog) <= MAX_BACKLOG:
            self._read_paused = False
            self.transport.resume_reading()
        if data:
            self._feed(data)
        if self._tunnel is not None:
            if backlog:
                self._tunnel.data_received(bytes(backlog))
                self._forget()
            return
        self._end_when_over()

    def _end_when_over(self) -> None:
        """After the client's last byte: what is left of a request is not whole."""
        over = self._busy is None and not self._queue and not self._backlog and not self._refusing
        if self._ended and over and self.transport is not None:
            self.transport.close()

    # -- refusals of the connection

    def _refuse_parsing(self, refusal: Refusal) -> None:
        """Before the body was read: answer, then close, for the rest of the body cannot be skipped safely."""
        self.refuse_connection(refusal)

    def refuse_connection(self, refusal: Refusal) -> None:
        if self._refusing:
            return
        self._refusing = True
        if self.transport is None or self.transport.is_closing():
            return  # bytes behind the last request of a connection: it has been answered
        self.handler.refused(refusal)
        if self._busy is None and not self._queue:
            request = self._parsing or self._upgrading or Request()
            if not request.id:
                self.handler.meet(request)
            body = error_body(refusal, request.path.startswith(MESSAGES))
            top = head(
                refusal.status,
                JSON,
                len(body),
                date=self.handler.clock.date,
                extra=told(refusal) + named(request),
                close=True,
            )
            self._write(top if request.method == b"HEAD" else top + body, CUT_SHORT)
            self._forget()
            self._parsing = None
            if refusal.status not in _LINGERS:
                self.transport.close()
                return
            self.since = self._now()
            if self.transport.can_write_eof():
                self.transport.write_eof()
        else:
            # Answers keep their order: what came whole is answered first, then the connection ends.
            last = self._queue[-1] if self._queue else self._busy
            if last is not None:
                last.keep = False
            self._forget(answered=True)
            self._parsing = None

    def _bug(self, error: BaseException | None) -> None:
        """We failed: say where, never with what (it is the client's), and leave nobody waiting."""
        log.error("a request ended in %s: a fault of the gateway", said_where(error))
        if self.exchange is None:
            if self._busy is not None:
                self.hold(self._busy, 0)
            self._busy = None
            self._forget()
            self.refuse_connection(FAULT)
        else:
            self.cut()

    @property
    def idle_since(self) -> float:
        """Since when nothing is asked on this connection; infinity: something is."""
        quiet = self._rests and not self._refusing and not self._in_head
        return self.since if quiet else math.inf

    @property
    def untaken(self) -> list[Untaken]:
        return [Untaken(self.taken_at, self._unsent, self.cut)] if self._unsent > LITTLE else []

    def check(self, now: float) -> None:
        """The sweep's look at time limits: slow heads, slow bodies, idle connections, answers that nobody takes."""
        if self.transport is None:
            return
        if self._ended and _reset(self.transport):
            self.transport.abort()
            return
        unsent = self.transport.get_write_buffer_size()
        self._count(unsent)
        behind_now = self._behind or self._busy is None
        if not unsent or unsent < self._unsent or not behind_now:
            self.taken_at = now
        elif now - self.taken_at > SEND_S:
            self.transport.abort()
            return
        self._unsent = unsent
        if self._busy is not None:
            self._look_at_pace(now, unsent)
            return
        if not unsent and self.record is not None and self._rests:
            self.record.release()
        if self._refusing:
            if now - self.since > (LINGER_S if self.handler.closing else REFUSED_S):
                self.transport.abort()
            return
        waited = now - self.since
        if self._in_head:
            if waited > HEAD_S:
                self.refuse_connection(SLOW_HEAD)
        elif self._parsing is not None:
            if self.slow_body(self._parsing, now):
                self.refuse_connection(SLOW_BODY)
        elif (
            self._rests
            and waited > (LINGER_S if self.handler.closing else self.handler.idle_s)
            and not _unread(self.transport)
        ):
            self.transport.close()

    def _head(self, status: int, content_type: bytes, length: int | None, extra: bytes = b"") -> bytes:
        request = self._busy
        close = self._last = request is None or not request.keep or self.handler.closing
        if request is not None:
            extra += self.lines(request)
        if not close:
            extra += self.handler.keep_alive
            if request is not None and request.http10:
                extra += b"connection: keep-alive\r\n"
        return head(status, content_type, length, date=self.handler.clock.date, extra=extra, close=close)

    def _write(self, data: bytes, kind: int) -> None:
        """Writes what no replica's stream brought. `kind`: what it is to a record."""
        if self.transport is not None and (data or kind == ANSWERED):
            if self.record is not None:
                self.record.wrote(kind, data)
            self.transport.write(data)


def client_factory(
    handler: Handler, loop: asyncio.AbstractEventLoop, high_water: int = HIGH_WATER
) -> Callable[[], asyncio.Protocol]:
    """What a server calls for each connection."""
    return cast("Callable[[], asyncio.Protocol]", lambda: Client(handler, loop, high_water))


def _chose_http2(transport: asyncio.BaseTransport) -> bool:
    """Its client and we have agreed on it within the TLS handshake (ALPN)."""
    tls = transport.get_extra_info("ssl_object")
    return tls is not None and tls.selected_alpn_protocol() == "h2"


def _unread(transport: asyncio.Transport) -> bool:
    """The kernel holds bytes that we have not read yet: a close would reset the request that they begin."""
    sock = transport.get_extra_info("socket")
    return sock is not None and any(fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)))


def _reset(transport: asyncio.Transport) -> bool:
    """The peer has reset the connection, the kernel knows; asyncio looks no more behind the end of its half."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family == socket.AF_UNIX:
        return False
    with socket.socket(fileno=os.dup(sock.fileno())) as same:
        return same.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE


def _has_body(headers: dict[bytes, bytes]) -> bool:
    return b"transfer-encoding" in headers or bool(headers.get(b"content-length", b"0").strip(b"0"))


_MALFORMED = Refusal(400, "bad_request", "This is not a valid HTTP/1.1 request.")

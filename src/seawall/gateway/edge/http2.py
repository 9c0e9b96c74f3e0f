"""The side that faces clients who speak HTTP/2: one protocol object per connection, with a caller per stream.

The library h2 knows the protocol: states, windows, header compression. Here are the limits that it leaves to us:

    in one turn of the loop   FRAMES_PER_TURN frames, PER_TURN requests, of one connection
    streams at a time         MAX_STREAMS; who opens more is told to open them later (REFUSED_STREAM)
    frames that ask nothing   an account (http2_frames); who overdraws it is told to calm down, and the connection ends
    a head                    MOST_PIECES frames, and decoded `gateway.maxHead` as everywhere
    frames that do not end    HEAD_S for a head, BODY_S for any other

and three things that the library does in another way than a gateway may: a client that says GOAWAY still gets its
answers; our own GOAWAY lets what runs finish; and what is wrong with one request ends one stream (http2_head).
Nothing of a request may be logged here.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from struct import Struct
from typing import Any, Final

from h2.events import (
    DataReceived,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError

from seawall.decide.route.refusal import Refusal
from seawall.gateway.edge.budget import MADE_PER_TURN, PER_TURN, WINDOW_S
from seawall.gateway.edge.caller import (
    BODY_S,
    HEAD_S,
    HIGH_WATER,
    LINGER_S,
    MAX_BACKLOG,
    REFUSED_S,
    SEND_S,
    Handler,
    Untaken,
    said_where,
)
from seawall.gateway.edge.http2_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    MOST_PIECES,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    FrameAccount,
    FrameReader,
    NotHttp2,
    TooLargeFrame,
    TooManyFrames,
    cost_of,
)
from seawall.gateway.edge.http2_head import Fields, MalformedHead, check_trailers
from seawall.gateway.edge.http2_library import MAX_STREAMS, Library
from seawall.gateway.edge.http2_stream import NO_ERROR, PROTOCOL_ERROR, Http2Stream
from seawall.gateway.memory import LITTLE

log = logging.getLogger("seawall.gateway")
FRAMES_PER_TURN: Final = 32
FAREWELL_S: Final = 30.0
"""A draining gateway waits so long for a second in which no stream runs."""
CONNECTION: Final = 64 * 1024
"""What a connection costs, with the library's state and its tables."""
REFUSED_COST: Final = 4
REFUSED_STREAM: Final = 0x7
FRAME_SIZE_ERROR: Final = 0x6
ENHANCE_YOUR_CALM: Final = 0xB
LAST: Final = 2**31 - 1
TOO_MANY_FRAMES: Final = Refusal(
    429, "too_many_frames", "This connection sends too many frames that ask for nothing."
)
BROKEN: Final = Refusal(400, "bad_request", "This is not valid HTTP/2.")
_data_head: Final = Struct(">BHBBL")
_goaway: Final = Struct(">BHBBLLL")


class Http2Connection:
    """See the module. An `asyncio.Protocol` in all but its base (decision 24), a `caller.Connected`, a
    `http2_stream.Carrier`."""

    __slots__ = (
        "_account",
        "_begun",
        "_blocked",
        "_closed",
        "_closed_at",
        "_drains_since",
        "_frame_since",
        "_frames",
        "_h2",
        "_head_bytes",
        "_head_since",
        "_high_water",
        "_last",
        "_leaving_since",
        "_made",
        "_now",
        "_peer_leaves",
        "_pieces",
        "_read_on",
        "_read_paused",
        "_ready",
        "_soon",
        "_taken_at",
        "_timer",
        "_unsent",
        "_waiting",
        "handler",
        "loop",
        "since",
        "streams",
        "transport",
    )

    def __init__(
        self, handler: Handler, loop: asyncio.AbstractEventLoop, high_water: int = HIGH_WATER
    ) -> None:
        self.handler = handler
        self.loop = loop
        self._high_water = high_water
        self._now = handler.now
        self.transport: asyncio.Transport | None = None
        self.since = handler.now()
        """When it last had a stream."""
        self._h2 = Library(handler.max_head)
        self._frames = FrameReader()
        self._account = FrameAccount(self.since)
        self.streams: dict[int, Http2Stream] = {}
        """Those that are not over."""
        self._ready: deque[Http2Stream] = deque()
        """Whole requests that wait for their turn."""
        self._waiting: dict[int, Http2Stream] = {}
        """Streams that have something to send, in the order of their turns."""
        self._read_on: dict[int, float] = {}
        """Streams whose answer is out, and whose request is read on and dropped, until when."""
        self._begun = 0
        """Requests that began in this turn."""
        self._made = 0
        """Bytes that compressed bodies came to in this turn."""
        self._pieces = 0
        """Frames of the head that is being read; 0: none is."""
        self._head_bytes = 0
        self._head_since = 0.0
        self._frame_since = math.inf
        """When the frame began that has not come whole."""
        self._soon = False
        """`_go_on` comes in the next turn."""
        self._timer = False
        """`_go_on` comes with the next window of strangers' budget."""
        self._blocked = False
        """The client's TCP takes no more."""
        self._read_paused = False
        self._closed = False
        """Nothing is read any more, and nothing sent."""
        self._closed_at = 0.0
        self._peer_leaves = False
        """The client opens no more streams."""
        self._drains_since = math.inf
        """Since when the gateway drains."""
        self._leaving_since = math.inf
        """When the client was told to open no more."""
        self._last = -1
        """The last stream that is served, once it has been told; -1: it has not."""
        self._unsent = 0
        self._taken_at = self.since

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # asyncio types it as the base class
        transport.set_write_buffer_limits(high=self._high_water)  # type: ignore[attr-defined]  # same
        handler = self.handler
        handler.clients.add(self)
        handler.memory.add(CONNECTION)
        self._send_out()
        if len(handler.clients) > handler.max_clients and not handler.crowded(self.since):
            self._end(ENHANCE_YOUR_CALM)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._closed = True
        self.handler.clients.discard(self)
        self.handler.memory.add(-CONNECTION - self._unsent - self._frames.held)
        self._unsent = 0
        self._frames = FrameReader()
        self._lose_streams()
        self._h2.forget()

    def eof_received(self) -> bool:
        """A client of HTTP/2 that sends no more has left."""
        return False

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        self._flush()
        self._turn()

    def data_received(self, data: bytes) -> None:
        if self._closed:
            return
        self._frames.feed(data)
        self.handler.memory.add(len(data))
        if not self._soon:
            self._go_on()

    # -- frames

    def _turn(self) -> None:
        """The next frames' turn comes when everybody else has had theirs."""
        if not self._soon and not self._closed:
            self._soon = True
            self.loop.call_soon(self._go_on)

    def _in_time(self) -> None:
        self._timer = False
        self._turn()

    def _go_on(self) -> None:
        self._soon = False
        if self._closed:
            return
        self._begun = self._made = 0
        try:
            for _ in range(FRAMES_PER_TURN):
                enough = self._begun >= PER_TURN or self._made >= MADE_PER_TURN
                if enough or len(self._ready) >= MAX_STREAMS or not self._next_frame():
                    break
        except ProtocolError:
            self._fail(BROKEN, -1)
        except TooManyFrames:
            self._fail(TOO_MANY_FRAMES, ENHANCE_YOUR_CALM)
        except TooLargeFrame:
            self._fail(BROKEN, FRAME_SIZE_ERROR)
        except NotHttp2:
            self._fail(BROKEN, PROTOCOL_ERROR)
        except Exception as e:
            log.error("a connection ended in %s: a fault of the gateway", said_where(e))
            self._fail(BROKEN, PROTOCOL_ERROR)
        self._take_up()
        self._send_out()
        self._flush()
        self._what_next()

    def _what_next(self) -> None:
        if self._closed or self.transport is None:
            return
        frames = self._frames
        if frames.held and self._frame_since == math.inf:
            self._frame_since = self._now()
        over = frames.held > MAX_BACKLOG
        if over and not self._read_paused:
            self._read_paused = True
            self.transport.pause_reading()
        elif self._read_paused and not over:
            self._read_paused = False
            self.transport.resume_reading()
        if frames.has_whole and len(self._ready) < MAX_STREAMS:
            self._turn()
        elif self._ready and not self._blocked:
            if not self._ready[0].waits_for_budget:
                self._turn()
            elif not self._timer:
                self._timer = True
                self.loop.call_later(WINDOW_S, self._in_time)
        self._close_if_done()

    def _next_frame(self) -> bool:
        """Reads one. False: none has come whole, or nothing is read any more."""
        frames = self._frames
        before = frames.held
        frame = frames.next()
        if not frame or self._closed:
            return False
        self._frame_since = math.inf
        self.handler.memory.add(frames.held - before)
        if frame is PREFACE:
            self._h2.receive_data(frame)
            return True
        kind, flags = frames.kind, frames.flags
        if self._pieces:
            self._more_of_head(kind, flags, frames.size)
        elif kind == HEADERS:
            if not flags & END_HEADERS:
                self._pieces, self._head_bytes = 1, frames.size
                self._head_since = self._now()
            self._begun += frames.stream not in self.streams
        else:
            payload = frames.payload(frame) if kind == DATA else 0
            cost = cost_of(kind, flags, frames.size, payload)
            if cost:
                self._account.spend(cost, self._now())
        idle = frames.stream > self._h2.highest_inbound_stream_id or not frames.stream & 1
        if kind == RST_STREAM and idle:
            raise NotHttp2  # of a stream that nobody has opened (RFC 9113, 5.1); the library knows of no such
        if kind == GOAWAY:
            self._peer_leaves = True
        elif kind != PRIORITY and kind <= CONTINUATION:
            for event in self._h2.receive_data(frame):
                self._event(event)
        return True

    def _more_of_head(self, kind: int, flags: int, size: int) -> None:
        """Until a head ends, nothing else may come (RFC 9113, 4.3), and little of it."""
        if kind != CONTINUATION:
            raise NotHttp2
        self._head_bytes += size
        if self._pieces >= MOST_PIECES or self._head_bytes > self._h2.most_of_head:
            raise TooManyFrames
        self._pieces = 0 if flags & END_HEADERS else self._pieces + 1

    def _event(self, event: Any) -> None:
        kind = type(event)
        if kind is DataReceived:
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            stream = self.streams.get(event.stream_id)
            if stream is not None:
                stream.received = event.stream_ended is not None
                self._made += stream.body(event.data)
        elif kind is RequestReceived:
            self._request(event.stream_id, event.stream_ended is not None)
        elif kind is StreamEnded:
            stream = self.streams.get(event.stream_id)
            self._read_on.pop(event.stream_id, None)
            if stream is not None:
                stream.end_of_request()
        elif kind is TrailersReceived:
            stream = self.streams.get(event.stream_id)
            if stream is not None:
                stream.received = True
                try:
                    check_trailers(self._h2.heads.fields)
                except MalformedHead as e:
                    stream.malformed(str(e))
        elif kind is StreamReset:
            self._read_on.pop(event.stream_id, None)
            stream = self.streams.get(event.stream_id)
            if stream is not None:
                self._forget(stream)
                stream.lost()

    def _request(self, id: int, whole: bool) -> None:
        """A head has come."""
        if len(self.streams) >= MAX_STREAMS or -1 < self._last < id:
            self._account.spend(REFUSED_COST, self._now())
            self._h2.reset_stream(id, REFUSED_STREAM)
            return
        stream = Http2Stream(self, self.handler, self.loop, id, self._high_water)
        self.streams[id] = stream
        stream.head(self._h2.heads.fields, whole)

    def _take_up(self) -> None:
        """The next requests' turn."""
        ready = self._ready
        for _ in range(PER_TURN):
            if not ready or self._blocked or self._closed or ready[0].waits_for_budget:
                return
            stream = ready.popleft()
            try:
                stream.take_up()
            except Exception as e:
                log.error("a request ended in %s: a fault of the gateway", said_where(e))
                stream.failed()

    # -- http2_stream.Carrier

    def whole(self, stream: Http2Stream) -> None:
        self._ready.append(stream)

    def goes_on(self, stream: Http2Stream) -> None:
        self._h2.send_headers(stream.id, [(b":status", b"100")])
        self._send_out()

    def begin(self, stream: Http2Stream, fields: Fields, ends: bool) -> None:
        if self._closed:
            return
        self._h2.send_headers(stream.id, fields, end_stream=ends)
        self._account.earn()
        self._send_out()
        if ends:
            self._sent_all(stream)

    def send(self, stream: Http2Stream, data: bytes) -> bool:
        if self._closed:
            return True  # nobody hears it
        size = len(data)
        if size and (self._blocked or size > self._room(stream)):
            return False
        self._send_part(stream, data, stream.ended)
        return True

    def waits(self, stream: Http2Stream) -> None:
        self._waiting[stream.id] = stream
        self._flush()

    def reset(self, stream: Http2Stream, code: int) -> None:
        self._forget(stream)
        if not self._closed:
            self._h2.reset_stream(stream.id, code)
            self._send_out()

    # -- sending

    def _room(self, stream: Http2Stream) -> int:
        """Bytes that may go out on this stream in one frame."""
        own = self._h2.streams[stream.id].outbound_flow_control_window
        return min(own, self._h2.outbound_flow_control_window, self._h2.max_outbound_frame_size)

    def _send_part(self, stream: Http2Stream, data: bytes, ends: bool) -> None:
        """One frame; there is room for it."""
        transport = self.transport
        if transport is None:
            return
        self._account.earn()
        if ends and not stream.breaks:
            self._h2.send_data(stream.id, data, end_stream=True)
            self._send_out()
            self._sent_all(stream)
            return
        size = len(data)
        if size:  # made here: the library would make three objects of each
            self._h2.streams[stream.id].outbound_flow_control_window -= size
            self._h2.outbound_flow_control_window -= size
            transport.write(_data_head.pack(size >> 16, size & 0xFFFF, DATA, 0, stream.id) + data)
        if ends:
            stream.cut()

    def _flush(self) -> None:
        """A frame for each stream that waits, again and again, as far as there is room."""
        progress = True
        while progress and self._waiting and not self._blocked and not self._closed:
            progress = False
            if self._h2.outbound_flow_control_window <= 0:
                return
            for stream in list(self._waiting.values()):
                progress = self._flush_one(stream) or progress

    def _flush_one(self, stream: Http2Stream) -> bool:
        """True: something went out."""
        if stream.over:
            self._waiting.pop(stream.id, None)
            return False
        if self._blocked or self._closed:
            return False
        size = max(0, min(len(stream.out), self._room(stream)))
        rest = len(stream.out) - size
        if not size and rest:
            return False
        if not rest:
            self._waiting.pop(stream.id, None)
        self._send_part(stream, stream.take(size), not rest and stream.ended)
        stream.went_out()
        return True

    def _sent_all(self, stream: Http2Stream) -> None:
        """Its answer has gone out."""
        self._forget(stream)
        if not stream.received and not self._closed:
            if stream.fault == NO_ERROR and len(self._read_on) < MAX_STREAMS:
                self._read_on[stream.id] = self._now() + REFUSED_S
            else:
                self._h2.reset_stream(stream.id, stream.fault)
                self._send_out()
        stream.let_go()

    def _forget(self, stream: Http2Stream) -> None:
        self._waiting.pop(stream.id, None)
        if self.streams.pop(stream.id, None) is not None:
            self.since = self._now()
            if not self.streams and (self._peer_leaves or self._last >= 0):
                self._turn()  # to end the connection

    def _send_out(self) -> None:
        """What the library has to say."""
        data = self._h2.data_to_send()
        if data and self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    # -- the end of the connection

    def _fail(self, refusal: Refusal, code: int) -> None:
        """It cannot go on. `code`: what to tell the client; -1: the library has said it."""
        if self._closed:
            return
        self.handler.refused(refusal)
        if code < 0:
            self._send_out()
        else:
            self._say_goaway(self._h2.highest_inbound_stream_id, code)
        self._stop_all()

    def _end(self, code: int) -> None:
        if not self._closed:
            self._say_goaway(self._h2.highest_inbound_stream_id, code)
            self._stop_all()

    def _stop_all(self) -> None:
        self._closed, self._closed_at = True, self._now()
        if self.transport is not None:
            self.transport.close()
        self._lose_streams()

    def _lose_streams(self) -> None:
        streams, self.streams = self.streams, {}
        self._waiting.clear()
        self._ready.clear()
        for stream in streams.values():
            stream.lost()

    def _say_goaway(self, last: int, code: int) -> None:
        """Written here: the library sends nothing behind its own."""
        if self.transport is not None:
            self._send_out()
            self.transport.write(_goaway.pack(0, 8, GOAWAY, 0, 0, last, code))

    def close(self) -> None:
        self._end(NO_ERROR)

    def cut(self) -> None:
        self._end(NO_ERROR)

    def _close_if_done(self) -> None:
        """No stream will come any more, and none is left."""
        if (self._peer_leaves or self._last >= 0) and not self.streams and not self._frames.has_whole:
            self._end(NO_ERROR)

    @property
    def idle_since(self) -> float:
        return self.since if not self.streams and not self._pieces else math.inf

    @property
    def untaken(self) -> list[Untaken]:
        """Of each stream: others may be served on the connection."""
        found = [one for stream in self.streams.values() for one in stream.untaken]
        if self._unsent > LITTLE:
            found.append(Untaken(self._taken_at, self._unsent, self._abort))
        return found

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def check(self, now: float) -> None:
        """The sweep's look: a client that takes nothing, what does not end, an idle connection, a drain."""
        transport = self.transport
        if transport is None:
            return
        unsent = transport.get_write_buffer_size()
        self.handler.memory.add(unsent - self._unsent)
        if not unsent or unsent < self._unsent:
            self._taken_at = now
        elif now - self._taken_at > SEND_S:
            self._unsent = unsent
            transport.abort()
            return
        self._unsent = unsent
        if self._closed:
            if not unsent and now - self._closed_at > LINGER_S:
                transport.abort()  # over TLS a close waits for the client's
            return
        most = BODY_S if self._frames.begun == DATA else HEAD_S
        if (self._pieces and now - self._head_since > HEAD_S) or now - self._frame_since > most:
            self._fail(BROKEN, ENHANCE_YOUR_CALM)
            return
        for stream in list(self.streams.values()):
            stream.check(now)
        for id in [id for id, until in self._read_on.items() if now > until]:
            del self._read_on[id]
            self._h2.reset_stream(id, NO_ERROR)
        self._send_out()
        if self.handler.closing:
            self._leave(now)
        elif not self.streams and now - self.since > self.handler.idle_s:
            self._end(NO_ERROR)

    def _leave(self, now: float) -> None:
        """The gateway drains. A connection on which nothing runs ends, as any other. Where something does the client is
        told, at last, to open no more: there are clients (httpx) that give up all their streams at that word."""
        if self._drains_since == math.inf:
            self._drains_since = now
        if self._leaving_since == math.inf:
            if not self.streams and now - self.since > LINGER_S:
                self._end(NO_ERROR)
            elif self.streams and now - self._drains_since > FAREWELL_S:
                self._leaving_since = now
                self._say_goaway(LAST, NO_ERROR)
        elif self._last < 0 and now - self._leaving_since > LINGER_S:
            self._last = self._h2.highest_inbound_stream_id
            self._say_goaway(self._last, NO_ERROR)
            self._close_if_done()

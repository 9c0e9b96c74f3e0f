"""One who asks, whatever protocol the connection speaks: where the present request's answer goes, and what every
request must keep to. HTTP/1.1 (`client_side`) has one caller per connection, HTTP/2 (`http2`) one per stream.

Here are the limits of heads and bodies, the account of what is held, and the answers that the gateway gives itself.
Forbidden here: bytes of either protocol. Nothing of a request may be logged here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from seawall.decide.route.refusal import Refusal
from seawall.gateway.edge.budget import MOST, StrangersBudget
from seawall.gateway.edge.decode import KNOWN, Broken, TooMuch, decoder_for
from seawall.gateway.edge.host import names_a_host, valid_host
from seawall.gateway.edge.record import Record
from seawall.gateway.edge.request import Request
from seawall.gateway.edge.sink import Source
from seawall.gateway.memory import LITTLE, HeldMemory
from seawall.gateway.wire import JSON, DateHeader, error_body

MAX_HEAD = 32 * 1024
"""`gateway.maxHead` unless the spec says otherwise."""
MAX_HEADERS = 100
MAX_BACKLOG = 64 * 1024
HIGH_WATER = 64 * 1024
HEAD_S = 10.0
"""From a request's first byte to the end of its head."""
BODY_S = 30.0
"""Between two reads of a body."""
BODY_RATE = 8 * 1024
"""Bytes per second that a body must come at, but for its first BODY_S: it is held until it is whole."""
IDLE_S = 620.0
"""`gateway.idleTimeout` unless the spec says otherwise: Google's load balancers keep idle connections for 600 s,
Azure's for 240, Amazon's for 60, and who closes first must not be us: a request that is on its way would be lost."""
SURE_S = 5.0
"""A client is told to keep an idle connection for so much less than it is kept here."""
LINGER_S = 1.0
"""A draining gateway closes a connection that is idle for so long: a client that is between two requests, or has just
connected, sends its next one here and is told to close."""
SEND_S = 60.0
"""A client that takes no byte of what waits for it for so long is cut off: it holds a place at a replica."""
SLACK = 1 << 20
"""Bytes that a slow reader may be behind while its engine goes on."""
PLACE_S = 15.0
PLACE_RATE = 4096
"""Bytes per second that a client takes at least, beyond SLACK and PLACE_S, while others wait for its place."""
REFUSED_S = 10.0
"""A refused body is read on, and dropped, for so long: many clients look for an answer only behind their request."""
MESSAGES = b"/v1/messages"
REPLICA = b"x-seawall-replica"
"""With any value in a request: the answer says which replica it came from."""
COMMENT: Final = b": waiting\n\n"
ONCE: Final = frozenset(
    {
        b"host",
        b"authorization",
        b"content-type",
        b"content-length",
        b"content-encoding",
        b"transfer-encoding",
        b"idempotency-key",
        b"last-event-id",
    }
)
"""Headers that may stand in a request once."""
BROKEN_ENCODING: Final = Refusal(
    400, "invalid_encoding", "The body is not what its Content-Encoding says: it is cut, or damaged."
)
INVALID_HOST: Final = Refusal(
    400, "invalid_host", "The host is none: write a name or an address, and perhaps a port."
)
OVERLOADED: Final = Refusal(
    503, "overloaded", "Too many large bodies are here or on their way (gateway.memory). Send it again.", 2
)
CROWDED: Final = Refusal(
    503, "too_many_connections", "There are as many connections as may be. Come again.", 2
)
FAULT: Final = Refusal(500, "internal_error", "The gateway failed. Tell the operator.")
SLOW_HEAD: Final = Refusal(408, "slow_head", "The request's head took too long.")
SLOW_BODY: Final = Refusal(408, "slow_body", "The request's body took too long.")


class Keep(Protocol):
    """Who holds connections so that they outlive this process."""

    def hold(self, transport: asyncio.BaseTransport) -> Record | None:
        """From now on this connection is held, and recorded. None: it cannot be."""

    def let_go(self, record: Record) -> None:
        """The connection is over."""

    def unhold(self, record: Record, why: str) -> None:
        """The connection goes on, and is held no longer."""


class Untaken(NamedTuple):
    """What a client lets lie of its answers."""

    since: float
    """When it was last seen taking some."""
    size: int
    """Bytes, more than LITTLE."""
    cut: Callable[[], None]
    """Ends what it is of."""


class Connected(Protocol):
    """One connection of a client."""

    @property
    def idle_since(self) -> float:
        """Since when nothing is asked on it; infinity: something is."""

    def check(self, now: float) -> None:
        """The sweep's look at time limits."""

    @property
    def untaken(self) -> list[Untaken]:
        """Answers that its client lets lie, as the sweep last saw them."""

    def cut(self) -> None:
        """It ends now."""

    def close(self) -> None:
        """It ends when all that was written has gone out."""


class Tunnel(Protocol):
    """Who has a connection that is handed through."""

    def data_received(self, data: bytes) -> None: ...


class Handler(Protocol):
    """What serves requests: the application, or the admin pages."""

    wanted: frozenset[bytes]
    """Lower-case names of the headers to keep."""
    max_body: int
    max_head: int
    """Bytes of a request's head, from its first letter to its empty line."""
    idle_s: float
    """A connection without a request is closed after so long."""
    keep_alive: bytes
    """The header line that says so."""
    http2: bool
    """HTTP/2 is spoken, too."""
    clock: DateHeader
    """Makes the `Date` header."""
    closing: bool
    clients: set[Connected]
    max_clients: int
    """Connections at a time."""
    memory: HeldMemory
    budget: StrangersBudget
    keep: Keep | None
    """None: connections end with this process."""

    @property
    def now(self) -> Callable[[], float]:
        """Seconds of the clock that `Connected.check` is told."""

    def meet(self, request: Request) -> None:
        """Gives a request its path, its id, and what lets a web page read the answer, whatever becomes of it."""

    def early(self, client: Caller, request: Request) -> Refusal | None: ...

    def hand_through(self, request: Request, transport: asyncio.Transport, data: bytes) -> Tunnel | Refusal:
        """Who has a connection from now on, told what came of its request: only for one that goes `through`."""

    def handle(self, client: Caller, request: Request) -> None: ...

    def refused(self, refusal: Refusal) -> None: ...

    def crowded(self, now: float) -> bool:
        """There are more connections than may be. True: some that nobody used have been closed."""


class Caller:
    """See the module. A `Sink`; who derives from it writes the bytes."""

    __slots__ = (
        "_budget",
        "_busy",
        "_full_at",
        "_full_since",
        "_host",
        "_memory",
        "_now",
        "_price",
        "body_since",
        "exchange",
        "full",
        "handler",
        "loop",
        "peer",
        "record",
        "since",
        "too_slow",
    )

    def __init__(self, handler: Handler, loop: asyncio.AbstractEventLoop) -> None:
        self.handler = handler
        self.loop = loop
        self.peer = ""
        """The client's address; empty: it is not known here."""
        self._memory = handler.memory
        self._budget = handler.budget
        self._now = handler.now
        self._host = b""
        """The last one that was found right: a connection's requests mostly name the same."""
        self._price = 1
        """Of an answer of our own, on strangers' budget."""
        self.exchange: Source | None = None
        """Who answers the present request, if a replica does."""
        self.record: Record | None = None
        """Where everything is noted before it is done, for a successor of this process."""
        self._busy: Request | None = None
        """The present request, from when it is handled to the end of its answer."""
        self.since = handler.now()
        """When the present phase (idle, head, body read) began."""
        self.body_since = 0.0
        """When the head of the request that is being read had come."""
        self.full = False
        self._full_since = 0.0
        self._full_at = 0
        """What was unsent when its engine was stopped."""
        self.too_slow = False
        """It holds up its engine's place; looked at by the sweep."""

    # -- what a protocol must do

    @property
    def gone(self) -> bool:
        """Nobody listens any more."""
        raise NotImplementedError

    def next(self) -> None:
        """The present request is answered."""
        raise NotImplementedError

    def cut(self) -> None:
        """The answer ends here, without its proper end."""
        raise NotImplementedError

    def give_up(self) -> None:
        """The body that is being read has taken long, and its place is needed."""
        raise NotImplementedError

    def _reply(self, status: int, content_type: bytes, body: bytes, extra: bytes) -> None:
        """Writes a whole answer that no replica gave. `extra`: header lines."""
        raise NotImplementedError

    @property
    def chunks(self) -> Callable[[bytes], None] | None:
        return None

    def start(self, status: int, content_type: bytes, data: bytes) -> None:
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        raise NotImplementedError

    def comment(self) -> None:
        raise NotImplementedError

    def end(self, data: bytes) -> None:
        raise NotImplementedError

    def whole(self, status: int, content_type: bytes, body: bytes) -> None:
        raise NotImplementedError

    def fail(self, refusal: Refusal, event: bytes) -> None:
        raise NotImplementedError

    def done(self) -> None:
        raise NotImplementedError

    # -- a request that comes in

    def judge_head(self, request: Request, size: int, headers: int, length: int) -> Refusal | None:
        """What every head must keep to. `size`: its bytes; `headers`: how many it has; `length`: of the body, as far as
        it says."""
        fields = request.headers
        if size > self.handler.max_head or headers > MAX_HEADERS:
            return self.too_large_head()
        if request.repeated:
            return Refusal(400, "repeated_header", f"The header {request.repeated.decode()} stands twice.")
        host = fields.get(b"host")
        if host is None:
            if not request.http10:
                return Refusal(400, "no_host", "A request needs a Host header.")
        elif host != self._host:
            if not valid_host(host):
                return INVALID_HOST
            self._host = host
        if request.path is not request.url and not names_a_host(request.url):
            return INVALID_HOST
        if request.through:
            return self.handler.early(self, request)
        if length > self.handler.max_body:
            return self._too_large()
        refusal = None
        if b"content-encoding" in fields:
            refusal = self._encoded(request, fields[b"content-encoding"].strip().lower())
        refusal = refusal or self.handler.early(self, request)
        if refusal is None and length > LITTLE and not self._memory.room(length, length, self.body_since):
            return OVERLOADED
        return refusal

    def take_body(self, request: Request, data: bytes) -> Refusal | None:
        """More of a body. Nothing is taken of one that had to be given up meanwhile (`Request.dropped`)."""
        if request.decoder is not None:
            request.coded += len(data)
            try:
                data = request.decoder.feed(data)
            except TooMuch:
                return self._too_large()
            except Broken:
                return BROKEN_ENCODING
        size = len(data)
        request.size += size
        if request.size > self.handler.max_body:
            return self._too_large()
        room = self._memory.room(size, request.size, self.since)
        if request.dropped:
            return None  # it was the one that had taken the longest
        if not room:
            return OVERLOADED
        self._memory.add(size)
        request.held += size
        if request.size == size:
            request.body = data
            return None
        growing = request.growing
        if growing is None:  # no list of parts: they may be of one byte each
            growing = request.growing = bytearray(request.body)
            request.body = b""
        growing.extend(data)
        return None

    def end_body(self, request: Request) -> Refusal | None:
        """Its body is whole."""
        if request.decoder is not None and not request.decoder.whole:
            if request.coded:
                return BROKEN_ENCODING
            request.decoder = None  # there is no body
        if request.growing is not None:
            request.body, request.growing = bytes(request.growing), None
        return None

    def strange(self, request: Request) -> bool:
        """Nobody has shown a key for it, and enough is being done for strangers."""
        budget = self._budget
        return request.key is None and budget.spent >= MOST and budget.over(self._now())

    def slow_body(self, request: Request, now: float) -> bool:
        late = now - self.body_since > BODY_S + request.size / BODY_RATE
        return late or now - self.since > BODY_S

    def hold(self, request: Request, size: int) -> None:
        """So many bytes are held of `request` from now on."""
        self._memory.add(size - request.held)
        request.held = size

    def drop(self, request: Request) -> None:
        """It will not be answered."""
        self.hold(request, 0)
        request.growing = None
        request.dropped = True

    # -- back-pressure

    def _stop(self, unsent: int) -> None:
        """Its engine waits from now on."""
        self.full = True
        self._full_since = self._now()
        self._full_at = unsent
        if self.exchange is not None:
            self.exchange.pause()

    def _go_on_reading(self) -> None:
        self.full = self.too_slow = False
        if self.exchange is not None:
            self.exchange.resume()

    def _look_at_pace(self, now: float, unsent: int) -> None:
        behind = now - self._full_since
        taken = self._full_at - unsent
        self.too_slow = self.full and behind > PLACE_S and taken < behind * PLACE_RATE

    # -- answers

    def serve(self, source: Source) -> None:
        """From now on `source` answers the present request."""
        self.exchange = source

    def answer(self, status: int, content_type: bytes, body: bytes) -> None:
        """A whole answer that needs no replica."""
        request = self._busy
        if request is not None and request.key is None:
            self._budget.spent += self._price
        self._reply(status, content_type, body, b"")
        self.next()

    def decline(self, refusal: Refusal) -> None:
        """A refusal before any exchange began."""
        self.handler.refused(refusal)
        if self._busy is not None and self._busy.key is None:
            self._budget.spent += self._price
        self.answer_refusal(refusal)
        self.next()

    def answer_refusal(self, refusal: Refusal) -> None:
        request = self._busy
        body = error_body(refusal, request is not None and request.path.startswith(MESSAGES))
        self._reply(refusal.status, JSON, body, told(refusal))

    def lines(self, request: Request) -> bytes:
        """The header lines that every answer to it has."""
        if REPLICA in request.headers and self.exchange is not None:
            return named(request) + b"x-seawall-replica: " + self.exchange.replica.encode() + b"\r\n"
        return named(request)

    # -- refusals

    def too_large_head(self) -> Refusal:
        what = f"{self.handler.max_head} bytes (gateway.maxHead) or has over {MAX_HEADERS} headers"
        return Refusal(431, "head_too_large", f"The head is larger than {what}.")

    def _too_large(self) -> Refusal:
        limit = self.handler.max_body
        return Refusal(413, "body_too_large", f"The body is larger than {limit} bytes (gateway.maxBody).")

    def _encoded(self, request: Request, encoding: bytes) -> Refusal | None:
        if encoding in (b"", b"identity"):
            return None
        request.decoder = decoder_for(encoding, self.handler.max_body)
        if request.decoder is not None:
            return None
        known = " and ".join(name.decode() for name in KNOWN)
        shown = encoding[:40].decode("ascii", "replace")
        message = f"The Content-Encoding `{shown}` is not understood here: send {known}."
        return Refusal(415, "unsupported_encoding", message)


def named(request: Request) -> bytes:
    if not request.id:
        return b""
    return b"x-request-id: %b\r\n%b%b" % (request.id, request.cors, request.limits)


def told(refusal: Refusal) -> bytes:
    """The header lines of a refusal that say what to do."""
    lines = b"" if refusal.retry_after_s is None else b"retry-after: %d\r\n" % refusal.retry_after_s
    if refusal.status == 401:
        lines += b"www-authenticate: Bearer\r\n"
    if refusal.status == 415:
        lines += b"accept-encoding: " + b", ".join(KNOWN) + b"\r\n"
    if refusal.allow is not None:
        lines += b"allow: " + refusal.allow.encode() + b"\r\n"
    return lines


def said_where(error: BaseException | None) -> str:
    """Of a fault of ours: its kind and its place, never what it says, which may be the client's."""
    at = error.__traceback__ if error is not None else None
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    where = f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}" if at is not None else "unknown"
    return f"{type(error).__name__} at {where}"

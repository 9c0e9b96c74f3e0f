"""Connections to replicas: one raw HTTP/1.1 client protocol and a pool of idle connections per replica.

A connection serves one request at a time and hands what it reads to its `user` (an exchange or a probe), one call
per read; only the ordinary chunks of a stream that has begun go straight on to the client (`relay`). Nothing here
decides: breaks are reported with what was seen, the exchange judges them.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol, cast
from urllib.parse import urlsplit

import httptools

from seawall.decide.route.resume import StreamSession
from seawall.errors import InputError
from seawall.gateway.wire import WHOLE, chunk

IDLE_S: Final = 60.0
"""Kept idle for so long at most."""
SURE_IDLE: Final = 0.8
"""The share of the time after which a replica closes idle connections for which they are kept: one that it closes as
we use it costs a second attempt. vLLM (uvicorn) closes them after 5 s, or what VLLM_HTTP_TIMEOUT_KEEP_ALIVE says."""
LEAST_IDLE_S: Final = 2.0
"""What ends sooner was not closed for being idle."""
CONNECT_S = 2.0
REFUSED: Final = "connection refused"
"""Nobody listens on the replica's port: evidence that it has died."""
MAX_IDLE = 256
MAX_HEAD = 64 * 1024
MAX_INTERIM: Final = 16
"""Answers of the 1xx kind before the one that counts."""
OUR_LIMITS: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN}
)
"""Why no connection could be made, and the replica had no part in it: descriptors, ports, the kernel's memory."""
OURS: Final = "the gateway is out of "
"""How such a reason begins."""
AGAIN_S: Final = 0.05
PER_TURN: Final = 32 * 1024
MANY_LINES: Final = 8192
"""So many bytes of a read with so many lines are taken in one turn of the loop: it may hold a quarter of a million
empty lines of events, or forty thousand chunks of one byte, and each costs some calls."""


class User(Protocol):
    """Who is served by a connection."""

    def connected(self, conn: Upstream) -> None: ...

    def connect_failed(self, reason: str) -> None: ...

    def on_head(self, conn: Upstream) -> None: ...

    def on_body(self, parts: list[bytes], complete: bool) -> None: ...

    def on_lost(self, reason: str, answered: bool) -> None: ...


class Upstream:
    """One connection to one replica: an `asyncio.Protocol` in all but its base (decision 24)."""

    __slots__ = (
        "_between",
        "_complete",
        "_head_bytes",
        "_held",
        "_interim",
        "_keep",
        "_parser",
        "_parts",
        "_rest",
        "_send",
        "_session",
        "answered",
        "content_type",
        "heard",
        "idle_since",
        "length",
        "load_header",
        "paused",
        "pool",
        "retry_after",
        "reused",
        "status",
        "transport",
        "user",
    )

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.transport: asyncio.Transport | None = None
        self.user: User | None = None
        self.reused = False
        self.paused = False
        self.idle_since = 0.0
        self._parser: Any = httptools.HttpResponseParser(self)
        self._reset()

    def _reset(self) -> None:
        self.status = 0
        self.content_type = b""
        self.length: int | None = None
        self.load_header: bytes | None = None
        self.retry_after: bytes | None = None
        self.answered = False
        self._keep = True
        self._complete = False
        self._between = False
        """The parser stands between two chunks: a read that is one whole chunk need not pass through it."""
        self._head_bytes = 0
        self._interim = 0
        self._parts: list[bytes] = []
        self._rest = b""
        """What was read and waits for the next turn."""
        self._held = False
        """Nothing more is read meanwhile."""
        self.heard = False
        """Data came since the sweep's last look: of a stream its events, but for comments."""
        self._session: StreamSession | None = None
        self._send: Callable[[bytes], None] | None = None

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # asyncio types it as the base class

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        while self._rest and self.user is not None:
            self._take_rest()
        self._parser = None  # it holds our methods: a cycle, which the calmed collector would leave for hours
        self.pool.lost(self, exc is not None)
        user = self.user
        self.user = self._session = self._send = None
        if user is not None:
            what = "connection reset" if exc else "connection closed"
            user.on_lost(what, self.answered)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        """A request is sent whole, whatever the transport's buffer holds."""

    def resume_writing(self) -> None:
        """See `pause_writing`."""

    def data_received(self, data: bytes) -> None:
        user = self.user
        if user is None:
            # A pooled connection that speaks unasked cannot be trusted with the next request.
            self.abort()
            return
        if self._between and len(data) < 4096:
            # An engine writes one chunk per token, and it mostly arrives as one read.
            line = WHOLE[len(data)]
            if line and data.startswith(line) and data.endswith(b"\r\n"):
                part = data[len(line) : len(data) - 2]
                session, send = self._session, self._send
                if session is not None and send is not None:
                    known = session.ordinary(part)
                    if known:
                        self.heard = True
                        out = chunk(part[:known], session.tail)
                        tape = session.tape
                        if tape is not None:
                            tape.relayed(session.line, len(out))
                        send(out)
                        return
                user.on_body([part], False)
                return
        self.answered = True
        if self._rest:
            self._rest += data
            return
        rest = b""
        if len(data) > PER_TURN and data.count(b"\n") + data.count(b"\r") > MANY_LINES:
            data, rest = data[:PER_TURN], data[PER_TURN:]
        if not self._parse(data):
            return
        if rest and not self.status:  # of a head
            data, rest = rest, b""
            if not self._parse(data):
                return
        # A size line that has begun holds no LF yet, one that has ended was told to us.
        self._between = self._between and not rest and data.endswith(b"\n")
        if self.user is not user:
            return
        if rest:
            if self._complete:
                self._fail("more than the answer")
                return
            self._rest = rest
            if self.transport is not None:
                if not self._held and not self.paused:
                    self.transport.pause_reading()
                self._held = True
                self.pool.later(self._go_on)
        parts = self._parts
        if parts or self._complete:
            self._parts = []
            complete = self._complete
            if complete:
                self._release()
            user.on_body(parts, complete)

    def _parse(self, data: bytes) -> bool:
        """False: nothing more is read, it has failed."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as e:
            self._fail(f"malformed answer: {e}"[:120])
            return False
        if not self.status:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD:
                self._fail("answer head larger than 64 KiB")
                return False
        return True

    def _go_on(self) -> None:
        """The next turn has come. While the user wants nothing its rest waits."""
        if self.paused or not self._rest or self.transport is None:
            return
        self._take_rest()
        if not self._rest:
            self._held = False
            if not self.paused and self.transport is not None:
                self.transport.resume_reading()

    def _take_rest(self) -> None:
        rest, self._rest = self._rest, b""
        self.data_received(rest)

    # -- httptools

    def on_message_begin(self) -> None:
        if self._complete:
            raise ValueError("a second answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-type":
            self.content_type = value
        elif name == b"content-length":
            self.length = int(value)
        elif name == b"connection":
            self._keep = value.lower() != b"close"
        elif name == b"endpoint-load-metrics":
            self.load_header = value
        elif name == b"retry-after":
            self.retry_after = value
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise ValueError("an encoding that nobody asked for")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if not 100 <= self.status <= 599:
            raise ValueError("no status of HTTP")
        self._interim += self.status < 200
        if self._interim > MAX_INTERIM:
            raise ValueError("no end of interim answers")
        if self.status >= 200 and self.user is not None:
            self._keep = self._keep and self._parser.should_keep_alive()
            self.user.on_head(self)

    def on_body(self, data: bytes) -> None:
        self._parts.append(data)

    def on_chunk_header(self) -> None:
        self._between = False

    def on_chunk_complete(self) -> None:
        self._between = True

    def on_message_complete(self) -> None:
        if self.status < 200:
            self.status = 0
        else:
            self._complete = True

    # -- for users

    def send(self, user: User, request: bytes, body: bytes = b"") -> None:
        """Sends one request and serves `user` until its answer is complete or the connection breaks. `body`: of a large
        one, which is not copied behind its head."""
        self._reset()
        self.user = user
        assert self.transport is not None
        if body:
            self.transport.writelines((request, body))
        else:
            self.transport.write(request)

    def relay(self, session: StreamSession, send: Callable[[bytes], None] | None) -> None:
        """The stream has begun, and its client is written to with `send`: from now on `user` is spared its ordinary
        chunks, which is nearly all of them. `send` None: it gets them again."""
        self._session, self._send = session, send

    def detach(self) -> None:
        """The user wants no more: the replica sees a disconnect and frees the request."""
        self.user = self._session = self._send = None
        self.abort()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def pause(self) -> None:
        if not self.paused and self.transport is not None:
            self.paused = True
            if not self._held:
                self.transport.pause_reading()

    def resume(self) -> None:
        if self.paused and self.transport is not None:
            self.paused = False
            if self._held:
                self.pool.later(self._go_on)
            else:
                self.transport.resume_reading()

    def _fail(self, reason: str) -> None:
        user = self.user
        self.detach()
        if user is not None:
            user.on_lost(reason, True)

    def _release(self) -> None:
        self.user = self._session = self._send = None
        if self.paused:
            self.resume()
        if self._keep and self.transport is not None and not self.transport.is_closing():
            self.pool.put(self)
        else:
            self.abort()


class Pool:
    """Idle connections to one replica, newest first, and the constant part of every request's head."""

    def __init__(
        self,
        url: str,
        loop: asyncio.AbstractEventLoop,
        tasks: set[asyncio.Task[None]],
        api_key: str | None = None,
        tls: ssl.SSLContext | None = None,
        now: Callable[[], float] | None = None,
        socket_path: str = "",
    ) -> None:
        """`now`: seconds of the clock that `sweep` is told; None: the loop's. `socket_path`: of a Unix socket, to be
        connected to instead of the URL's host."""
        self._socket_path = socket_path
        self._now = now or loop.time
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"{url!r} is not a replica's URL.", "Write http://HOST:PORT.")
        self.host = parts.hostname
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self.last_event = 0.0
        """When any stream of this replica last got data."""
        auth = f"authorization: Bearer {api_key}\r\n" if api_key else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        self._head = f" HTTP/1.1\r\nhost: {host}:{self.port}\r\n{auth}".encode()
        self._loop = loop
        self._tasks = tasks
        self._idle: deque[Upstream] = deque()
        self._idle_s = IDLE_S
        self._all: set[Upstream] = set()
        self.closed = False

    def request(self, path: bytes, body: bytes, extra: bytes, method: bytes = b"POST") -> bytes:
        """A whole request. `extra` is header lines, each ended by CRLF."""
        return b"%b %b%bcontent-length: %d\r\n%b\r\n%b" % (method, path, self._head, len(body), extra, body)

    def head(self, path: bytes, length: int, extra: bytes) -> bytes:
        """The part of a request before its body."""
        return b"POST %b%bcontent-length: %d\r\n%b\r\n" % (path, self._head, length, extra)

    def later(self, act: Callable[[], None]) -> None:
        """In the next turn of the loop."""
        self._loop.call_soon(act)

    def take(self) -> Upstream | None:
        """The idle connection used last, or None."""
        while self._idle:
            conn = self._idle.pop()
            if conn.transport is not None and not conn.transport.is_closing():
                conn.reused = True
                return conn
        return None

    def put(self, conn: Upstream) -> None:
        if self.closed or len(self._idle) >= MAX_IDLE:
            conn.abort()
            return
        conn.idle_since = self._now()
        self._idle.append(conn)

    def lost(self, conn: Upstream, reset: bool) -> None:
        """A connection has ended. One that the replica closed while it was idle tells how long it keeps them."""
        self._all.discard(conn)
        if conn.user is None and conn in self._idle:
            self._idle.remove(conn)
            idle = self._now() - conn.idle_since
            if not reset and idle > LEAST_IDLE_S:
                self._idle_s = min(self._idle_s, SURE_IDLE * idle)

    def connect(self, user: User) -> asyncio.Task[None]:
        """Opens a connection for `user`, who is told when it stands or why it does not."""
        task = self._loop.create_task(self._connect(user))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _connect(self, user: User) -> None:
        lacking = ""
        try:
            async with asyncio.timeout(CONNECT_S):
                conn: Upstream | None = None
                while conn is None:
                    try:
                        conn = await self._open()
                    except OSError as e:
                        if e.errno not in OUR_LIMITS:
                            raise
                        lacking = OURS + (e.strerror or "room for a connection").lower()
                    if conn is None:  # others give theirs back
                        await asyncio.sleep(AGAIN_S)
        except TimeoutError:
            user.connect_failed(lacking or f"no connection within {CONNECT_S:g} s")
            return
        except ssl.SSLError as e:
            user.connect_failed(f"TLS: {e.reason or 'handshake failed'}")
            return
        except ConnectionRefusedError:
            user.connect_failed(REFUSED)
            return
        except OSError as e:
            user.connect_failed((e.strerror or type(e).__name__).lower())
            return
        self._all.add(conn)
        user.connected(conn)

    async def _open(self) -> Upstream:
        made = cast("Callable[[], asyncio.Protocol]", lambda: Upstream(self))
        if self._socket_path:
            _, protocol = await self._loop.create_unix_connection(made, self._socket_path)
        else:
            _, protocol = await self._loop.create_connection(made, self.host, self.port, ssl=self.tls)
        return cast(Upstream, protocol)

    def sweep(self, now: float) -> None:
        """Closes what idled too long (oldest first)."""
        while self._idle and now - self._idle[0].idle_since > self._idle_s:
            self._idle.popleft().abort()

    def close_idle(self) -> None:
        while self._idle:
            self._idle.pop().abort()

    def close(self) -> None:
        """No new connections are kept; requests in flight go on."""
        self.closed = True
        self.close_idle()

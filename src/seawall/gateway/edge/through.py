"""Connections that are handed through to the batch lane: its uploads and answers are bytes that nobody here reads.

The head of the request has been read, and who asks is known: it goes on with what says so, and without the key. The
connection ends with its answer, so that one request goes through on it. Both ends are slowed down by each other.
Forbidden here: JSON, and more than two buffers of anybody's bytes.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Iterable
from contextlib import suppress
from typing import cast
from urllib.parse import quote

from seawall.decide.route.refusal import Refusal
from seawall.domain.labels import BATCH_MODELS_HEADER, BATCH_SECRET_HEADER, BATCH_TENANT_HEADER
from seawall.gateway.wire import error_body, head

MOST = 256
"""Connections that are handed through at a time."""
CONNECT_S = 5.0
QUIET_S = 600.0
"""Without a byte either way for so long a connection is cut."""
LOOK_S = 30.0
_DROPPED = frozenset({b"authorization", b"x-api-key", b"api-key", b"connection", b"keep-alive", b"upgrade"})
"""Headers that do not go through, besides all that begin with OURS."""
_OURS = b"x-seawall-"
_AWAY = Refusal(
    503, "batch_lane_away", "The batch lane does not answer. Nothing is lost: send it again in a while.", 5
)
_CROWDED = Refusal(503, "too_many_connections", "There are as many uploads as may be. Come again.", 2)


class BatchDoor:
    """The way to the lane, and the secret by which it and the gateway know each other."""

    def __init__(self, address: str, secret: str) -> None:
        host, _, port = address.rpartition(":")
        self.host, self.port = host.strip("[]"), int(port)
        self._secret = secret.encode()
        self.open: set[Through] = set()
        """Connections that go through now."""

    def knows(self, given: bytes) -> bool:
        """Whether who sends this is the lane."""
        return hmac.compare_digest(given, self._secret)

    def begin(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        data: bytes,
        tenant: str,
        models: Iterable[str],
    ) -> Through | Refusal:
        """Takes a connection of whose request `data` has come, from the first byte of its head."""
        if len(self.open) >= MOST:
            return _CROWDED
        said = {BATCH_SECRET_HEADER: self._secret.decode(), BATCH_TENANT_HEADER: quote(tenant, safe="")}
        if models:
            said[BATCH_MODELS_HEADER] = ",".join(quote(m, safe="") for m in models)
        through = Through(self, loop, transport, _introduced(data, said))
        self.open.add(through)
        transport.set_protocol(through)
        through.start()
        return through


def _introduced(data: bytes, said: dict[str, str]) -> bytes:
    """The request with what the gateway says of it, and without what only the gateway may know or say."""
    top, _, rest = data.lstrip(b"\r\n").partition(b"\r\n\r\n")
    first, *lines = top.split(b"\r\n")
    kept = [line for line in lines if not _drops(line.partition(b":")[0].strip().lower())]
    ours = [f"{name}: {value}".encode() for name, value in said.items()]
    return b"\r\n".join([first, *kept, *ours, b"connection: close", b"", b""]) + rest


def _drops(name: bytes) -> bool:
    return name in _DROPPED or name.startswith(_OURS)


class Through(asyncio.Protocol):
    """One connection of a client that the lane answers: the client's side of it."""

    def __init__(
        self, door: BatchDoor, loop: asyncio.AbstractEventLoop, client: asyncio.Transport, data: bytes
    ) -> None:
        self._door, self._loop, self._client = door, loop, client
        self._waits = bytearray(data)
        """Bytes that have come and are for a lane that is not reached yet."""
        self._lane: asyncio.Transport | None = None
        self._full = False
        """The client reads more slowly than the lane sends."""
        self._ended = False
        self._answered = False
        self._moved_at = loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Looks for the lane; the client waits meanwhile."""
        self._client.pause_reading()
        self._task = self._loop.create_task(self._connect())
        self._timer = self._loop.call_later(LOOK_S, self._look)

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                lane, _ = await self._loop.create_connection(
                    lambda: _LaneSide(self), self._door.host, self._door.port
                )
        except (OSError, TimeoutError):
            self._refuse()
            return
        if self._client.is_closing():
            lane.abort()
            return
        self._lane = lane
        lane.write(bytes(self._waits))
        self._waits.clear()
        if self._ended:
            lane.write_eof()
        else:
            self._client.resume_reading()

    def _refuse(self) -> None:
        body = error_body(_AWAY, False)
        top = head(503, b"application/json", len(body), date=b"", extra=b"retry-after: 5\r\n", close=True)
        self._client.write(top + body)
        self._client.close()

    def _look(self) -> None:
        """Cuts what nothing moves on any more."""
        if self._loop.time() - self._moved_at > QUIET_S:
            self.cut()
        else:
            self._timer = self._loop.call_later(LOOK_S, self._look)

    def cut(self) -> None:
        """Ends both sides at once."""
        self._client.abort()

    # -- the client's side

    def data_received(self, data: bytes) -> None:
        self._moved_at = self._loop.time()
        if self._lane is None:
            self._waits += data
        else:
            self._lane.write(data)

    def eof_received(self) -> bool:
        """The client sends no more, and may still wait for its answer."""
        self._ended = True
        if self._lane is not None and self._lane.can_write_eof():
            self._lane.write_eof()
        return self._client.get_extra_info("sslcontext") is None

    def pause_writing(self) -> None:
        self._full = True
        if self._lane is not None:
            self._lane.pause_reading()

    def resume_writing(self) -> None:
        self._full = False
        if self._lane is not None and not self._lane.is_closing():
            self._lane.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.open.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._lane is not None:
            self._lane.abort()

    # -- the lane's side

    def answered(self, data: bytes) -> None:
        self._answered = True
        self._moved_at = self._loop.time()
        self._client.write(data)

    def lane_full(self, full: bool) -> None:
        """The lane reads more slowly than the client sends, or again as fast."""
        if self._client.is_closing():
            return
        with suppress(RuntimeError):
            if full:
                self._client.pause_reading()
            else:
                self._client.resume_reading()

    def lane_lost(self) -> None:
        """The lane has said all that it will say. Without a word of it the client is told to come again."""
        if self._client.is_closing():
            return
        if self._answered:
            self._client.close()
        else:
            self._refuse()


class _LaneSide(asyncio.Protocol):
    """The lane's side of the same connection."""

    def __init__(self, through: Through) -> None:
        self._through = through

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).set_write_buffer_limits(high=1 << 18)

    def data_received(self, data: bytes) -> None:
        self._through.answered(data)

    def pause_writing(self) -> None:
        self._through.lane_full(True)

    def resume_writing(self) -> None:
        self._through.lane_full(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._through.lane_lost()

"""A request that somebody else answers: it is passed on whole, and its answer comes back as it is.

Another process of this gateway, which knows the client by its headers, asks for its key again, and counts it; or a
replica that is asked for a response which it keeps. Here is only the way.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from seawall.decide.route.refusal import Refusal
from seawall.gateway.edge.sink import EVENT_STREAM, Sink
from seawall.gateway.replicas.upstream import Pool, Upstream

LOST = Refusal(502, "worker_lost", "The process that holds this answer has ended. Send it again.", 1)
_documents = msgspec.json.Decoder(dict[str, dict[str, object]])


class Forward:
    """See the module. A `Source` for its client, an `upstream.User` for the connection to the other process."""

    __slots__ = ("_conn", "_held", "_here", "_over", "_pool", "_request", "_sink", "_streams", "replica")

    def __init__(
        self, pool: Pool, request: bytes, sink: Sink, here: Callable[[], None], replica: str = ""
    ) -> None:
        """`here`: answers it in this process, because who should cannot be reached."""
        self._pool, self._request, self._sink, self._here = pool, request, sink, here
        self._conn: Upstream | None = None
        self._held: list[bytes] = []
        self._streams = self._over = False
        self.replica = replica

    def begin(self) -> None:
        conn = self._pool.take()
        if conn is not None:
            self.connected(conn)
        else:
            self._pool.connect(self)

    # -- User

    def connected(self, conn: Upstream) -> None:
        if self._over:
            conn.pool.put(conn)
            return
        self._conn = conn
        conn.send(self, self._request)

    def connect_failed(self, reason: str) -> None:
        if not self._over:
            self._over = True
            self._here()

    def on_head(self, conn: Upstream) -> None:
        self._streams = conn.length is None
        if self._streams:
            kind = EVENT_STREAM if conn.content_type.startswith(b"text/event-stream") else conn.content_type
            self._sink.start(conn.status, kind, b"")

    def on_body(self, parts: list[bytes], complete: bool) -> None:
        conn = self._conn
        if conn is None:
            return
        data = b"".join(parts)
        if not self._streams:
            self._held.append(data)
            if complete:
                self._whole(conn, b"".join(self._held))
        elif complete:
            self._sink.end(data)
        elif data:
            self._sink.write(data)
        if complete:
            self._end()

    def on_lost(self, reason: str, answered: bool) -> None:
        conn, self._conn = self._conn, None
        if self._over:
            return
        if conn is not None and conn.reused and not answered:
            self._pool.connect(self)  # it was idle, and closed as we used it
            return
        self._sink.fail(LOST, b"")
        self._end()

    # -- Source

    def pause(self) -> None:
        if self._conn is not None:
            self._conn.pause()

    def resume(self) -> None:
        if self._conn is not None:
            self._conn.resume()

    def client_gone(self) -> None:
        self._over = True
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.detach()

    def _whole(self, conn: Upstream, body: bytes) -> None:
        refusal = _refusal(conn, body) if conn.status >= 400 else None
        if refusal is not None:
            self._sink.fail(refusal, b"")
        else:
            self._sink.whole(conn.status, conn.content_type, body)

    def _end(self) -> None:
        self._over = True
        self._conn = None
        self._sink.done()


def _refusal(conn: Upstream, body: bytes) -> Refusal | None:
    """A refusal by the other process, with what its headers say; None: it is an engine's."""
    try:
        error = _documents.decode(body)["error"]
    except (msgspec.MsgspecError, KeyError, UnicodeDecodeError, RecursionError):
        return None
    after, param = conn.retry_after, error.get("param")
    if not isinstance(error.get("code"), str):
        return None
    return Refusal(
        conn.status,
        str(error["code"]),
        str(error.get("message")),
        int(after) if after is not None and after.isdigit() else None,
        param=param if isinstance(param, str) else None,
    )

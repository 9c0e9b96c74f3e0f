"""Hedged first token (`gateway.hedgeAfter`): a second attempt elsewhere when the first is late. The first to bring a
token serves the client; the other is cut at once.

Only streams, only before the first token; the desk says when (`Desk.tick`). Here is the second attempt; the first is
the exchange itself, which becomes the second when that wins, or when its own replica breaks.
"""

from __future__ import annotations

from typing import Protocol

from seawall.decide.route.admit import Ticket
from seawall.decide.route.pick import Target
from seawall.gateway.edge.request import Request
from seawall.gateway.edge.sink import Sink
from seawall.gateway.exchange import seam
from seawall.gateway.exchange.lane import FleetLane
from seawall.gateway.replicas.upstream import OURS, Upstream


class Hedged(Protocol):
    """The exchange, as its second attempt knows it."""

    fleet: FleetLane
    request: Request
    payload: bytes
    ticket: Ticket
    sink: Sink
    hedge: Hedge | None

    def overtaken(self, hedge: Hedge, out: bytes, complete: bool) -> None:
        """The second attempt brought the first token."""

    def connected(self, conn: Upstream) -> None: ...

    def connect_failed(self, reason: str) -> None: ...

    def on_head(self, conn: Upstream) -> None: ...

    def on_body(self, parts: list[bytes], complete: bool) -> None: ...

    def on_lost(self, reason: str, answered: bool) -> None: ...


class Hedge:
    """The second attempt of one exchange. An `upstream.User`."""

    __slots__ = ("_exchange", "_heir", "_over", "_sse", "conn", "fed", "session", "target")

    def __init__(self, exchange: Hedged, target: Target) -> None:
        """The desk has given it a place at `target`."""
        fleet = exchange.fleet
        self._exchange, self.target = exchange, target
        self._over = self._heir = self._sse = False
        self.conn: Upstream | None = None
        self.fed: list[bytes] = []
        """What its session was told, for the tape of the exchange that goes on with it."""
        self.session = seam.session(exchange.request.path, exchange.payload, fleet.policy, fleet.rng)
        pool = fleet.pool(target)
        conn = pool.take()
        if conn is not None:
            self.connected(conn)
        else:
            pool.connect(self)

    def connected(self, conn: Upstream) -> None:
        if self._over:
            if self._heir:
                self._exchange.connected(conn)
            else:
                conn.pool.put(conn)
            return
        self.conn = conn
        request = self._exchange.request
        body = self.session.first_request()
        if request.unplaced:
            body = seam.placed(body, request, self.target.name)
        conn.send(self, conn.pool.request(request.path, body, request.extra))

    def connect_failed(self, reason: str) -> None:
        if self._heir:
            self._exchange.connect_failed(reason)
        elif reason.startswith(OURS):
            self.drop()
        else:
            self._broke(reason)

    def on_head(self, conn: Upstream) -> None:
        self._sse = conn.status == 200 and conn.content_type.startswith(b"text/event-stream")

    def on_body(self, parts: list[bytes], complete: bool) -> None:
        if complete:
            self.conn = None
        if not self._sse:
            self.drop()  # a refusal: the first attempt brings its own
            return
        session = self.session
        self.fed += parts
        out = b"".join([session.feed(part) for part in parts])
        if session.failed is not None or (complete and not session.done):
            self._broke(session.failed or "the stream ended early")
        elif out:
            self._over = True
            self._exchange.fleet.stats.hedges_won += 1
            self._exchange.overtaken(self, out, complete)

    def on_lost(self, reason: str, answered: bool) -> None:
        conn, self.conn = self.conn, None
        if conn is not None and conn.reused and not answered:
            self.drop()
        else:
            self._broke(reason)

    def _broke(self, reason: str) -> None:
        if not self._over:
            self._exchange.fleet.evict(self.target, reason)
            self.drop()

    @property
    def streams(self) -> bool:
        """The answer's head has come, and it is a stream."""
        return self._sse

    def yields_to(self, exchange: Hedged) -> None:
        """From now on its connection serves the exchange, also one that is still to come."""
        self._heir = True
        if self.conn is not None:
            self.conn.user = exchange
            if exchange.sink.full:
                self.conn.pause()

    def promoted(self) -> None:
        """The first attempt broke: the exchange goes on with this one."""
        self._over = True
        self._exchange.fleet.stats.hedges_won += 1

    def drop(self) -> None:
        """It lost, or nobody wants the answer any more: the replica is told at once."""
        if self._over:
            return
        self._over = True
        conn, self.conn = self.conn, None
        if conn is not None:
            conn.detach()
        fleet = self._exchange.fleet
        fleet.stats.hedges_lost += 1
        fleet.desk.drop_second(self._exchange.ticket)
        self._exchange.hedge = None

"""Hedged first token (`gateway.hedgeAfter`): a second attempt elsewhere when the first is late (Dean & Barroso,
The Tail at Scale, 2013). The first to bring a token serves the client; the other is cut at once.

Only streams, only before the first token, and never under load: not while anybody waits, only on a replica that is
less than half full, and at most EARNED of the requests (a burst of BURST). Here is the second attempt; the first is
the exchange itself, which becomes the second when that wins, or when its own replica breaks.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from seawall.decide.route.pick import Ask, Target
from seawall.gateway import seam
from seawall.gateway.record import HOLDING, SENT

if TYPE_CHECKING:
    from seawall.gateway.fleet import FleetRuntime
    from seawall.gateway.relay import Exchange
    from seawall.gateway.upstream import Upstream

EARNED = 0.05
BURST = 10.0


class Hedge:
    """The second attempt of one exchange. An `upstream.User`."""

    __slots__ = ("_ask", "_exchange", "_heir", "_over", "_sse", "conn", "session", "target")

    def __init__(self, exchange: Exchange, target: Target, ask: Ask) -> None:
        fleet = exchange.fleet
        self._exchange, self._ask, self.target = exchange, ask, target
        self._over = self._heir = self._sse = False
        self.conn: Upstream | None = None
        self.session = seam.session(exchange.request.path, exchange.payload, fleet.policy, fleet.rng)
        fleet.router.start(target, ask)
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
        conn.send(self, conn.pool.request(request.path, self.session.first_request(), request.extra))

    def connect_failed(self, reason: str) -> None:
        if self._heir:
            self._exchange.connect_failed(reason)
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

    def yields_to(self, exchange: Exchange) -> None:
        """From now on its connection serves the exchange, also one that is still to come."""
        self._heir = True
        if self.conn is not None:
            self.conn.user = exchange
            if exchange.client.full:
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
        fleet.left(self.target, self._ask)
        self._exchange.hedge = None


class Hedges:
    """Who of a fleet's requests gets a second attempt, and when."""

    __slots__ = ("_credit", "_due", "_fleet")

    def __init__(self, fleet: FleetRuntime) -> None:
        self._fleet = fleet
        self._credit = 1.0
        self._due: deque[tuple[float, Exchange]] = deque()

    def watch(self, exchange: Exchange, after_s: float) -> None:
        """It has just been sent for the first time."""
        self._credit = min(BURST, self._credit + EARNED)
        self._due.append((self._fleet.loop.time() + after_s, exchange))
        self._fleet.soon()

    @property
    def waiting(self) -> bool:
        return bool(self._due)

    def sweep(self, now: float) -> None:
        due, fleet = self._due, self._fleet
        while due and due[0][0] <= now:
            exchange = due.popleft()[1]
            late = exchange.phase in (SENT, HOLDING) and not exchange.committed
            if not late or exchange.retried or exchange.hedge is not None or self._credit < 1:
                continue
            if fleet.admission.queued or fleet.admission.others or exchange.target is None:
                continue
            ask = exchange.ticket.ask._replace(avoid=(exchange.target.name,))
            picked = fleet.router.pick(ask, now)
            if picked is not None and picked.target.in_flight * 2 < picked.target.cap:
                self._credit -= 1
                exchange.hedge = Hedge(exchange, picked.target, ask)

"""A connection that a predecessor of this process served: what was recorded of it is played again, and it goes on.

The record (gateway/edge/record.py) holds what was read, what each stream was told and what was about to be written;
the kernel says how many bytes it was handed. Played again, a stream gives the same bytes: those behind the kernel's are
written first, and then the request goes on as after the loss of a replica. What cannot go on is ended, by its reason:

    unrecorded   the record had no room for it
    unknown      the kernel's count and the record's do not fit, or the connection is ending
    untold       a whole answer of more than 1 MiB was on its way
    refused      its fleet, its key or its model is no more

Nothing is decided here of what the client gets, and nothing of a request may be logged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from seawall.decide.route.refusal import Refusal
from seawall.decide.route.resume import StreamSession
from seawall.decide.route.resume.tape import BROKE, DROPPED, FED, FRESH, LINE, RELAYED, WROTE
from seawall.gateway.edge.budget import StrangersBudget
from seawall.gateway.edge.caller import HIGH_WATER, Caller, Connected, Keep
from seawall.gateway.edge.client_side import Client
from seawall.gateway.edge.nowhere import Nowhere
from seawall.gateway.edge.record import (
    ACCEPTED,
    ANSWERED,
    CUT_SHORT,
    READ,
    SAID,
    STARTED,
    UNTOLD,
    Arena,
    Past,
    Record,
    read,
)
from seawall.gateway.edge.request import Request
from seawall.gateway.edge.sink import EVENT_STREAM
from seawall.gateway.exchange.accepted import read_accepted
from seawall.gateway.exchange.exchange import Exchange
from seawall.gateway.intake.app import App
from seawall.gateway.intake.routes import ROUTES
from seawall.gateway.memory import HeldMemory
from seawall.gateway.wire import DateHeader, chunk, framed

HUGE = 1 << 62
CLOSES = b"connection: close\r\n"


class Silent:
    """A `caller.Handler` of connections whose past is played: everything was taken, nothing is done."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.wanted = app.wanted
        self.max_body = self.max_head = self.max_clients = HUGE
        self.clock: DateHeader = app.clock
        self.closing = False
        self.clients: set[Connected] = set()
        self.idle_s = app.idle_s
        self.keep_alive = app.keep_alive
        self.http2 = False
        self.memory = HeldMemory()
        self.budget = StrangersBudget()
        self.keep: Keep | None = None

    @property
    def now(self) -> Callable[[], float]:
        return self._app.now

    def crowded(self, now: float) -> bool:
        return False

    def meet(self, request: Request) -> None:
        self._app.meet(request)

    def early(self, client: Caller, request: Request) -> Refusal | None:
        self._app.early(client, request)
        return None

    def hand_through(self, request: Request, transport: asyncio.Transport, data: bytes) -> Refusal:
        """Such a connection has no record: it cannot come here."""
        return Refusal(503, "batch_lane_away", "Send it again.", 1)

    def handle(self, client: Caller, request: Request) -> None:
        """It waits: the record says what became of it."""

    def refused(self, refusal: Refusal) -> None:
        """It was told."""


class Carried:
    """One connection, as its record tells it."""

    def __init__(self, app: App, loop: asyncio.AbstractEventLoop, high_water: int = HIGH_WATER) -> None:
        self.app = app
        self._silent = Silent(app)
        self.client = Client(self._silent, loop, high_water)
        self.client.transport = Nowhere()
        self.lost = ""
        """Why it cannot go on."""
        self.told: Past | None = None
        """What the record says, until this process writes on in it."""
        self.written = 0
        self.begun = False
        self._tail: list[bytes] = []
        self._handed = 0
        self._exchange: Exchange | None = None
        self._session: StreamSession | None = None
        self._whole = False
        self._headed = False
        self._closes = False
        self._pending: list[bytes] = []

    def play(self, entries: list[tuple[int, bytes]], before: int, handed: int) -> None:
        """`before`: bytes written before the first entry; `handed`: bytes that the kernel got in all."""
        self.written, self._handed = before, handed
        client = self.client
        for kind, data in entries:
            session = self._session
            if kind == RELAYED and session is not None:
                # Most of a long stream's entries, and most of these the kernel has: they need not be written again.
                self.written += framed(session.told_again(data))
                if self.written > handed:
                    self.written -= framed(len(session.written_as(data)))
                    self._write(chunk(session.written_as(data)))
                self.begun = True
            elif kind in (FED, LINE, BROKE) and session is not None:
                out = session.relive(kind, data)
                if out:
                    self._pending.append(out)
            elif kind == WROTE:
                self._wrote()
            elif kind == DROPPED:
                self._pending = []
            elif kind == READ:
                client.data_received(data)
                self._read_on()
            elif kind == ACCEPTED:
                self._accepted(data)
            elif kind == FRESH:
                self._fresh(data)
            elif kind == UNTOLD:
                self.lost = "untold"
            else:
                self._said(kind, data)
            if self.lost:
                return
        if not before <= handed <= self.written:
            self.lost = "unknown"

    def _write(self, data: bytes) -> None:
        self.written += len(data)
        behind = self.written - self._handed
        if behind > 0:
            self._tail.append(data if behind >= len(data) else data[len(data) - behind :])

    def _wrote(self) -> None:
        out, self._pending = b"".join(self._pending), []
        self.begun = True
        exchange = self._exchange
        if self._whole and exchange is not None:
            exchange.sink.write(out)
        elif out:
            self._write(chunk(out) if self.client._chunked else out)

    def _accepted(self, data: bytes) -> None:
        accepted, request = read_accepted(data), self.client._busy
        if request is None:
            self.lost = "unknown"
            return
        request.id = accepted.id
        app, route = self.app, ROUTES.get(request.path)
        meant = app.meant(request)
        if route is None or isinstance(meant, Refusal):
            self.lost = "refused"
            return
        exchange = app.exchange(self.client, request, route, meant[0], meant[1], accepted)
        if isinstance(exchange, Refusal):
            self.lost = "refused"
            return
        exchange.started = accepted.started
        self._exchange, self._session = exchange, exchange.session
        self._whole = accepted.whole
        if exchange.session is not None:
            exchange.session.reseed(accepted.seed)
        if self._whole:
            exchange.sink.start(200, EVENT_STREAM, b"")

    def _fresh(self, data: bytes) -> None:
        """Another attempt's session takes the place of the present one; or none, and the answer is asked for whole."""
        exchange = self._exchange
        if exchange is None:
            return
        if data:
            exchange.anew_with(int(data))
        else:
            exchange.unstreamed()
            self._whole = False
        self._session = exchange.session
        self._pending, self.begun = [], False

    def _said(self, kind: int, data: bytes) -> None:
        self._write(data)
        client = self.client
        request = client._busy
        if kind == STARTED:
            client._started = client._events = self._headed = True
            client._chunked = request is None or not request.http10
            if request is not None and request.http10:
                request.keep = False
            client._last = CLOSES in data
        elif kind == CUT_SHORT:
            self._closes = True
        elif kind == ANSWERED:
            last = client._last or CLOSES in data.partition(b"\r\n\r\n")[0]
            self._closes = request is None or not request.keep or last
            self._next()
        else:
            assert kind == SAID

    def _next(self) -> None:
        """The request is answered: the next one may wait already."""
        client = self.client
        self._exchange = self._session = None
        self._whole = self._headed = self.begun = False
        self._pending = []
        if client._busy is not None:
            client.hold(client._busy, 0)
        client._busy = None
        client._started = client._events = False
        client._chunked = True
        self._read_on()

    def _read_on(self) -> None:
        """Everybody else's turn, which the next request waited for, is over."""
        client = self.client
        while client._busy is None and (client._queue or client._backlog) and not client._refusing:
            client._go_on()

    @property
    def what(self) -> str:
        """What was going on: `stream`, `request`, `idle`."""
        if self.client._busy is None:
            return "idle"
        return "stream" if self._headed or self._session is not None else "request"

    # -- from now on

    def go_on(self, record: Record) -> None:
        """The connection is ours, as its client knows: it goes on."""
        self.told = None
        client, app = self.client, self.app
        transport = client.transport
        assert transport is not None
        client.handler = app
        app.clients.add(client)
        client._memory, client._budget = app.memory, app.budget
        app.memory.add(self._silent.memory.held)
        if client in self._silent.memory.readers:
            app.memory.readers[client] = None
        record.written = self.written
        client.record = record
        if self._tail:
            transport.write(b"".join(self._tail))
        busy, exchange = client._busy, self._exchange
        if self._closes or (client._refusing and busy is None):
            transport.close()
        elif busy is None:
            return
        elif exchange is not None:
            if client._refusing:
                busy.keep = False
            if exchange.session is not None:
                exchange.session.tape = record
            client.serve(exchange)
            exchange.carry_on(self.begun, self._headed, b"".join(self._pending))
        elif client._started:
            client.cut()
        else:
            app.handle(client, busy)


def past_of(
    app: App, loop: asyncio.AbstractEventLoop, arena: Arena, slot: int, handed: int | None
) -> Carried:
    """What a slot tells of a connection to which `handed` bytes were handed; None: nobody knows."""
    past = Carried(app, loop)
    told = past.told = read(arena, slot)
    if told is None:
        past.lost = "unrecorded"
    elif handed is None:
        past.lost = "unknown"
    else:
        past.play(told.entries, arena.first(slot)[1], handed)
    return past

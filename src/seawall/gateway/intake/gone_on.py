"""An answer whose record another process had begun to fill: it is gone on with here, at the very event.

The record says what its readers may have been given, the tape what the session of its stream was told; played again,
the session says the same, and what the record has is swallowed (`Keeping(behind=...)`). Where the two come from, a
store that other gateways share (tier/adopt.py) or the memory of a predecessor (carry_kept.py), is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import msgspec

from seawall.decide.route.record import AnswerRecord, RecordStore
from seawall.decide.route.refusal import Refusal
from seawall.decide.route.resume.tape import BROKE, DROPPED, FED, FRESH, LINE, RELAYED, WROTE
from seawall.gateway.edge.request import Request
from seawall.gateway.edge.sink import EVENT_STREAM, Sink
from seawall.gateway.exchange.accepted import Accepted
from seawall.gateway.exchange.background import InBackground
from seawall.gateway.exchange.exchange import Exchange
from seawall.gateway.exchange.keeping import Keeping
from seawall.gateway.intake.app import App
from seawall.gateway.intake.body import Body
from seawall.gateway.intake.forms import is_form
from seawall.gateway.intake.peek import peek
from seawall.gateway.intake.routes import ROUTES, STREAMS

NO_REQUEST: Final = Refusal(
    502,
    "record_lost",
    "The gateway that was giving this answer is gone, and its request was too large to be kept. Send it again.",
    1,
)


def go_on(
    app: App, shelf: RecordStore, record: AnswerRecord, request: Request, tape: Iterable[tuple[int, bytes]]
) -> Refusal | None:
    """Goes on with a record that is this process's from now on; or why it cannot."""
    meant, route = app.meant(request, _as_called(request)), ROUTES.get(request.path)
    if isinstance(meant, Refusal):
        return meant
    body, served = meant
    if route is None:
        return NO_REQUEST
    if record.background:
        sent = peek(request.sent)
        body = sent if isinstance(sent, Body) else body
    keeping = Keeping(record, shelf, behind=record.count)
    sink: Sink = keeping
    if record.background:
        sink = InBackground(keeping)
        sink.open()
    before = Accepted(app.now(), math.inf, 0, route in STREAMS, request.id)
    exchange = app.exchange(sink, request, route, body, served, before)
    if isinstance(exchange, Refusal):
        return exchange
    keeping.source = exchange
    _play(exchange, sink, keeping, tuple(tape))
    return None


def _as_called(request: Request) -> Body | None:
    """What a body says that may have been rewritten for the engine, with the model as its client calls it."""
    if not request.model or is_form(request.headers.get(b"content-type", b"")):
        return None
    body = peek(request.body)
    return msgspec.structs.replace(body, model=request.model) if isinstance(body, Body) else None


def _play(exchange: Exchange, sink: Sink, keeping: Keeping, tape: tuple[tuple[int, bytes], ...]) -> None:
    """What the session was told, and what it said: the record has that already."""
    record, streams = keeping.record, exchange.request.streams
    begun, pending = False, list[bytes]()
    headed = streams and bool(tape) and record.status != 0
    if headed:
        sink.start(200, EVENT_STREAM, b"")
    for kind, data in tape if streams else ():
        session = exchange.session
        if kind == FRESH and data:
            exchange.anew_with(int(data))
            begun, pending = False, []
        elif kind in (FED, LINE, BROKE) and session is not None:
            pending.append(session.relive(kind, data))
        elif kind == RELAYED and session is not None:
            sink.write(session.relive(kind, data))
            begun = True
        elif kind == WROTE:
            sink.write(b"".join(pending))
            begun, pending = True, []
        elif kind == DROPPED:
            pending = []
    if exchange.session is not None and streams:
        if tape:
            exchange.session.tape = record.tape
        else:
            keeping.taped(exchange.session)
    exchange.carry_on(begun, headed, b"".join(pending))

"""An answer that a gateway which is gone was giving goes on here: its tape is played again, then a replica goes on.

As after the death of this process's predecessor (intake/carry.py), but from the store, for records alone: whoever reads
one is a reader of the copy that is here, and notices nothing. Nothing is decided here of what a client gets.
"""

from __future__ import annotations

import math
import secrets
from typing import cast

from seawall.decide.route.record import RecordState
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
from seawall.gateway.intake.peek import peek
from seawall.gateway.intake.routes import ROUTES, STREAMS
from seawall.gateway.tier.kept import SharedRecord, SharedShelf

NO_REQUEST = Refusal(
    502,
    "record_lost",
    "The gateway that was giving this answer is gone, and its request was too large to be kept. Send it again.",
    1,
)


BEHIND = Refusal(
    410,
    "not_kept",
    "The gateway that was giving this answer is gone, and its last events with it, which would come out otherwise. "
    "Send the request without Last-Event-ID to run it anew.",
)


def adopt(
    app: App, shelf: SharedShelf, record: SharedRecord, facts: dict[str, bytes], tape: list[bytes]
) -> None:
    """Goes on with a record that is this gateway's from now on."""
    request = _request(record, facts)
    refusal = NO_REQUEST if request is None else _go_on(app, shelf, record, request, tape)
    if refusal is not None and record.state is RecordState.RUNNING:
        record.end(RecordState.FAILED, refusal)
        shelf.unlink(record)


def _request(record: SharedRecord, facts: dict[str, bytes]) -> Request | None:
    """The request as it was sent to the gateway that is gone, from the client that asks now."""
    asker = cast("Request | None", record.asker)
    if asker is None or not (facts.get("body") or asker.body):
        return None
    request = Request()
    request.method = b"POST"
    request.url = facts.get("url") or asker.url
    request.path = request.url.partition(b"?")[0]
    request.body = facts.get("body") or asker.body
    request.sent = facts.get("sent", b"")
    request.size = len(request.body)
    request.headers = {k: v for k, v in asker.headers.items() if k != b"content-encoding"}
    request.key, request.cors = asker.key, asker.cors
    request.id = asker.id or secrets.token_hex(8).encode()
    return request


def _go_on(
    app: App, shelf: SharedShelf, record: SharedRecord, request: Request, tape: list[bytes]
) -> Refusal | None:
    if record.furthest > record.count:
        return BEHIND
    meant, route = app.meant(request), ROUTES.get(request.path)
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
    _play(exchange, sink, record, tape)
    return None


def _play(exchange: Exchange, sink: Sink, record: SharedRecord, tape: list[bytes]) -> None:
    """What the session was told, and what it said: the record has that already."""
    begun, pending = False, list[bytes]()
    streams = exchange.request.streams
    headed = streams and bool(tape) and record.status != 0
    if headed:
        sink.start(200, EVENT_STREAM, b"")
    for entry in tape if streams else ():
        kind, data, session = entry[0], entry[1:], exchange.session
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
            assert isinstance(sink, Keeping | InBackground)
            _tape(record, exchange)
    exchange.carry_on(begun, headed, b"".join(pending))


def _tape(record: SharedRecord, exchange: Exchange) -> None:
    session = exchange.session
    if record.tape is not None and session is not None:
        record.tape.add(FRESH, b"%d" % session.seed)
        session.tape = record.tape

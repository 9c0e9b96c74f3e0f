"""Answers that a predecessor of this process was keeping (exchange/written.py): they are here again, and those that had
not ended go on. As carry.py does for connections; these belong to none.

    refused   its fleet, its key or its model is no more
    release   the page was written by another release
    deadly    two gateways died while they took this very answer over

Nothing of a request may be logged.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from seawall.decide.route import response as responses
from seawall.decide.route.record import PIECE_COST, RecordState
from seawall.decide.route.refusal import Refusal
from seawall.gateway.edge.record import Arena, Past, Record
from seawall.gateway.edge.request import Request
from seawall.gateway.exchange.written import (
    ASKED,
    BEGUN,
    FREED,
    OVER,
    PIECE,
    AskedEntry,
    BegunEntry,
    OverEntry,
    WrittenRecord,
    WrittenShelf,
)
from seawall.gateway.intake.app import App
from seawall.gateway.intake.gone_on import go_on

_OURS = frozenset({ASKED, BEGUN, PIECE, FREED, OVER})
_asked = msgspec.msgpack.Decoder(AskedEntry)
_begun = msgspec.msgpack.Decoder(BegunEntry)
_over = msgspec.msgpack.Decoder(OverEntry)


def is_kept(past: Past | None) -> bool:
    """Whether a slot is the page of an answer."""
    return past is not None and bool(past.entries) and past.entries[0][0] == ASKED


class Unfinished(NamedTuple):
    """An answer that is here again, and is to be gone on with."""

    shelf: WrittenShelf
    record: WrittenRecord
    request: Request
    tape: list[tuple[int, bytes]]


class _Waits:
    """A `record.Filler` for the moment in which an answer is here, and nobody fills it yet."""

    def __init__(self, record: WrittenRecord) -> None:
        self._record = record

    def moved(self) -> None:
        """There is nothing to write."""

    def cancel(self) -> None:
        record = self._record
        words = b""
        if record.background:
            response = responses.cancelled(record.opening)
            words = responses.event_of("response.cancelled", record.count, response)
        record.end(RecordState.CANCELLED, None, words)


def restored(app: App, arena: Arena, slot: int, past: Past) -> Unfinished | str:
    """Puts what is on a page into its shelf -> what is to be gone on with; empty: it had ended; or why it is lost."""
    try:
        asked = _asked.decode(past.entries[0][1])
    except msgspec.MsgspecError:
        return "release"
    lane = app.fleets.get(asked.fleet)
    shelf = lane.kept if lane is not None else None
    if not isinstance(shelf, WrittenShelf):
        return "refused"
    record = shelf.restore(asked)
    if record is None:
        return "refused"
    try:
        over = _fill(shelf, record, past)
    except (msgspec.MsgspecError, ValueError):
        shelf.remove(record)
        return "release"
    record.restored(Record(arena, slot, past))
    if over is not None:
        shelf.restore_ended(record, over)
        return ""
    shelf.fill(record, _Waits(record))
    tape = [entry for entry in past.entries if entry[0] not in _OURS]
    return Unfinished(shelf, record, _request(app, asked), tape)


def _fill(shelf: WrittenShelf, record: WrittenRecord, past: Past) -> OverEntry | None:
    """What the page says of the answer -> how it ended, if it did."""
    over: OverEntry | None = None
    for kind, data in past.entries:
        if kind == BEGUN:
            begun = _begun.decode(data)
            record.replica = begun.replica
            record.status, record.content_type = begun.status, begun.content_type
            record.whole = begun.whole
        elif kind == PIECE:
            shelf.takes(record, len(data) + PIECE_COST, anyway=True)
            record.restore_piece(data)
        elif kind == FREED:
            shelf.unlink(record)
        elif kind == OVER:
            over = _over.decode(data)
    return over


def _request(app: App, asked: AskedEntry) -> Request:
    request = Request()
    request.method, request.url = b"POST", asked.url
    request.path = asked.url.partition(b"?")[0]
    request.headers = {k: v for k, v in asked.headers.items() if k != b"content-encoding"}
    request.body, request.sent = asked.body, asked.sent
    request.size = len(asked.body)
    request.id, request.model = asked.request_id, asked.model
    request.key = app.key_of(request.headers)
    return request


def take_up(app: App, kept: Unfinished) -> bool:
    """Goes on with it, if its client has not cancelled it meanwhile. False: it cannot go on, and has failed."""
    record = kept.record
    if record.state is not RecordState.RUNNING:
        return True
    refusal: Refusal | None = go_on(app, kept.shelf, record, kept.request, kept.tape)
    if refusal is None:
        return True
    if record.state is RecordState.RUNNING:
        words = b""
        if record.background and record.status:
            response = responses.failed(record.opening, refusal)
            words = responses.event_of("response.failed", record.count, response)
        kept.shelf.unlink(record)
        record.end(RecordState.FAILED, refusal, words)
    return False

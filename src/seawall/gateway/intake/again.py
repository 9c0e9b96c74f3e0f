"""Requests that come again: what a client says of the one that it has sent before.

`Idempotency-Key` names a request (draft-ietf-httpapi-idempotency-key-header-07). While it runs, and for a while after,
who sends it again joins it instead of beginning anew; with `Last-Event-ID` from behind the event that the client has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from seawall.decide.route.poison import fingerprint
from seawall.decide.route.record import AnswerRecord, RecordState
from seawall.decide.route.refusal import Refusal
from seawall.gateway.edge.client_side import Client
from seawall.gateway.edge.request import Request
from seawall.gateway.edge.sink import Sink
from seawall.gateway.exchange.exchange import Exchange
from seawall.gateway.exchange.keeping import Keeping
from seawall.gateway.exchange.reader import Reader
from seawall.gateway.intake.pages import Served
from seawall.gateway.intake.peek import Body

IDEMPOTENCY: Final = b"idempotency-key"
LAST_EVENT: Final = b"last-event-id"
MAX_KEY: Final = 255
_VISIBLE = frozenset(range(0x20, 0x7F))


class Admits(Protocol):
    """The intake, as far as a request that is kept needs it."""

    def exchange(
        self, sink: Sink, request: Request, route: str, body: Body, served: Served
    ) -> Exchange | Refusal:
        """What serves a request that may come in, ready to begin."""


def keyed(
    intake: Admits, client: Client, request: Request, route: str, body: Body, served: Served
) -> Refusal | None:
    """A request with an Idempotency-Key: joins the one that it is a copy of, or is the first."""
    key, position = key_of(request.headers), position_of(request.headers)
    if isinstance(key, Refusal):
        return key
    if isinstance(position, Refusal):
        return position
    lane, mark = served.fleet, fingerprint(request.path, request.body)

    def told(record: AnswerRecord, new: bool) -> None:
        refusal: Refusal | None = None
        if not new and not position and record.first and record.mark == mark:
            lane.kept.unlink(record)  # its beginning is not there any more: anew
            if not record.followed:
                record.cancel()
            lane.kept.claim(request.tenant.name, key, mark, told)
            return
        if not new:
            refusal = may_join(record, mark, position)
        elif position:
            refusal = NOT_KEPT
        else:
            refusal = _first(intake, client, record, request, route, body, served)
        if refusal is not None:
            if new:
                lane.kept.remove(record)
            client.decline(refusal)
        elif not new:
            lane.stats.reattached += 1
            _read(client, record, position)

    lane.kept.claim(request.tenant.name, key, mark, told)
    return None


def _first(
    intake: Admits,
    client: Client,
    record: AnswerRecord,
    request: Request,
    route: str,
    body: Body,
    served: Served,
) -> Refusal | None:
    """The first of its kind: an exchange fills the record, and the client reads it."""
    keeping = Keeping(record, served.fleet.kept)
    exchange = intake.exchange(keeping, request, route, body, served)
    if isinstance(exchange, Refusal):
        return exchange
    keeping.source = exchange
    _read(client, record, 0)
    exchange.begin()
    return None


def _read(client: Client, record: AnswerRecord, position: int) -> None:
    reader = Reader(record, client, position, numbers=True)
    client.serve(reader)
    reader.begin()


def key_of(headers: Mapping[bytes, bytes]) -> bytes | Refusal:
    """The key's own characters: as the draft has it, in quotes, or as most clients send it, without."""
    key = headers[IDEMPOTENCY].strip()
    if len(key) > 1 and key.startswith(b'"') and key.endswith(b'"'):
        key = key[1:-1]
    if not 0 < len(key) <= MAX_KEY or not _VISIBLE.issuperset(key):
        message = f"The header Idempotency-Key has 1 to {MAX_KEY} visible ASCII characters; a UUID is best."
        return Refusal(400, "invalid_idempotency_key", message)
    return key


def position_of(headers: Mapping[bytes, bytes]) -> int | Refusal:
    """The first event that the client has not: 0 without `Last-Event-ID`."""
    last = headers.get(LAST_EVENT, b"").strip()
    if not last:
        return 0
    if not last.isdigit() or len(last) > 12:
        return Refusal(
            400, "invalid_last_event_id", "The header Last-Event-ID is the `id` of an event: a number."
        )
    return int(last) + 1


def may_join(record: AnswerRecord, mark: bytes, position: int) -> Refusal | None:
    """Whether a request with this mark is a copy of the record's, which can still be read from `position` on."""
    if record.mark != mark:
        return _REUSED
    if position < record.first:
        return _NO_BEGINNING
    if position > record.count + (record.outcome in (RecordState.FAILED, RecordState.OVERFLOWED)):
        return Refusal(400, "invalid_last_event_id", f"Only {record.count} events have been sent so far.")
    return None


NOT_KEPT: Final = Refusal(
    410,
    "not_kept",
    "Nothing is kept under this Idempotency-Key (any more): it cannot go on behind Last-Event-ID. "
    "Send the request without that header to run it anew.",
)
_NO_BEGINNING = Refusal(
    410,
    "not_kept",
    "Its beginning is not kept any more: the answer is longer than gateway.keepMemory allows. "
    "Name the last event that you have in Last-Event-ID, or send the request with a new key.",
)
_REUSED = Refusal(
    422,
    "idempotency_key_reused",
    "This Idempotency-Key is already used: it must not be reused for a request with another path or body. "
    "Send a new key, or the same bytes as before.",
)

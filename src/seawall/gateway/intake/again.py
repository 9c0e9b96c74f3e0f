"""Requests that come again: what a client says of the one that it has sent before.

`Idempotency-Key` names a request (draft-ietf-httpapi-idempotency-key-header-07). While it runs, and for a while after,
who sends it again joins it instead of beginning anew; with `Last-Event-ID` from behind the event that the client has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol

from seawall.decide.route.poison import fingerprint
from seawall.decide.route.record import AnswerRecord
from seawall.decide.route.refusal import Refusal
from seawall.gateway.edge.caller import Caller
from seawall.gateway.edge.request import Request
from seawall.gateway.edge.sink import Sink
from seawall.gateway.exchange.exchange import Exchange
from seawall.gateway.exchange.keeping import Keeping
from seawall.gateway.exchange.reader import Reader
from seawall.gateway.intake.body import Body
from seawall.gateway.intake.pages import Served
from seawall.gateway.intake.peers import Peers

IDEMPOTENCY: Final = b"idempotency-key"
LAST_EVENT: Final = b"last-event-id"
MAX_KEY: Final = 255
_VISIBLE = frozenset(range(0x20, 0x7F))


class Admits(Protocol):
    """The intake, as far as a request that is kept needs it."""

    peers: Peers

    def begin(
        self, client: Caller, request: Request, route: str, body: Body, served: Served
    ) -> Refusal | None:
        """A request whose answer only its client reads."""

    def pass_on(
        self, owner: int, client: Caller, request: Request, hop: bytes, here: Callable[[], None]
    ) -> None:
        """Process `owner` answers it; `here`: this one does, for that one cannot be reached."""

    def exchange(
        self, sink: Sink, request: Request, route: str, body: Body, served: Served
    ) -> Exchange | Refusal:
        """What serves a request that may come in, ready to begin."""


class Again(NamedTuple):
    """What a request says of coming again."""

    key: bytes = b""
    position: int = 0


def again_of(headers: Mapping[bytes, bytes]) -> Again | Refusal:
    if IDEMPOTENCY not in headers:
        return Again()
    key, position = key_of(headers), position_of(headers)
    if isinstance(key, Refusal):
        return key
    return position if isinstance(position, Refusal) else Again(key, position)


class Asked(NamedTuple):
    """A request whose answer is kept, on its way in."""

    intake: Admits
    client: Caller
    request: Request
    route: str
    body: Body
    served: Served

    def begin(self) -> Refusal | None:
        """As any other request."""
        return self.intake.begin(self.client, self.request, self.route, self.body, self.served)

    def exchange(self, sink: Sink) -> Exchange | Refusal:
        return self.intake.exchange(sink, self.request, self.route, self.body, self.served)


def claim(
    asked: Asked,
    again: Again,
    begin: Callable[[AnswerRecord], Refusal | None],
    join: Callable[[AnswerRecord], None],
    id: str = "",
) -> None:
    """`begin` of the first request under its key, `join` of one that is a copy of it."""
    request, lane = asked.request, asked.served.fleet
    mark = request.mark or fingerprint(request.path, request.body)

    def told(record: AnswerRecord, new: bool) -> None:
        refusal: Refusal | None
        if not new:
            record.meet(request)
        if not new and not again.position and record.first and record.mark == mark:
            lane.kept.unlink(record)  # its beginning is not there any more: anew
            if not record.followed:
                record.cancel()
            lane.kept.claim(request.tenant.name, again.key, mark, told, id, again.position > 0)
            return
        if not new:
            refusal = may_join(record, mark, again.position)
        elif again.position:
            refusal = NOT_KEPT
        else:
            refusal = begin(record)
        if refusal is not None:
            if new:
                lane.kept.remove(record)
            asked.client.decline(refusal)
        elif not new:
            lane.stats.reattached += 1
            join(record)

    lane.kept.claim(request.tenant.name, again.key, mark, told, id, again.position > 0)


def keyed(
    asked: Asked, id: str = "", prepare: Callable[[AnswerRecord], None] | None = None
) -> Refusal | None:
    """A request with an Idempotency-Key: an exchange fills the record of the first, and all who send it read it.
    `prepare`: what is to be done with a new record before."""
    again = again_of(asked.request.headers)
    if isinstance(again, Refusal):
        return again

    def begin(record: AnswerRecord) -> Refusal | None:
        if prepare is not None:
            prepare(record)
        keeping = Keeping(record, asked.served.fleet.kept)
        exchange = asked.exchange(keeping)
        if isinstance(exchange, Refusal):
            return exchange
        keeping.source = exchange
        record.meet(asked.request)
        if asked.request.streams:
            keeping.taped(exchange.session)
        read(asked.client, record)
        exchange.begin()
        return None

    claim(asked, again, begin, lambda record: read(asked.client, record, again.position), id)
    return None


def read(client: Caller, record: AnswerRecord, position: int = 0, numbers: bool = True) -> None:
    """From now on the record answers the client, if it is still there."""
    if client.gone:
        return
    reader = Reader(record, client, position, numbers)
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
    if position > record.count + bool(record.last_words) + record.ahead():
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

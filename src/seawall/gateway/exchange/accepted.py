"""What a keeper's record says of a request that was accepted, so that a successor of this process can go on with it."""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from seawall.gateway.edge.record import ACCEPTED, Record
from seawall.gateway.edge.whole_sink import WholeSink
from seawall.gateway.exchange.exchange import Exchange

_accepted: Final = Struct("<ddQ?")


class Accepted(NamedTuple):
    """What a successor must know of a request, beside the request."""

    started: float
    deadline: float
    """By the clock that all processes of this machine share, as `started`."""
    seed: int
    whole: bool
    """Its answer is put together from a stream."""
    id: bytes


def note_accepted(record: Record, exchange: Exchange) -> None:
    """Records that a request has an exchange, and from now on what its stream is told."""
    session = exchange.session
    whole = isinstance(exchange.sink, WholeSink)
    seed = 0 if session is None else session.seed
    until = exchange.ticket.until
    record.add(ACCEPTED, _accepted.pack(exchange.started, until, seed, whole) + exchange.request.id)
    if session is not None:
        session.tape = record


def read_accepted(data: bytes) -> Accepted:
    started, deadline, seed, whole = _accepted.unpack_from(data)
    return Accepted(started, deadline, seed, whole, data[_accepted.size :])

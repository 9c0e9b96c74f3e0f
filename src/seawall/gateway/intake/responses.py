"""`/v1/responses` beyond one answer to one request: `background`, and responses that are found by their ids, read on,
cancelled and deleted, as OpenAI documents them. What is kept lies in records; an engine's own store is not used for it.

A response is its tenant's: anybody else gets the 404 of one that never was.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from time import time
from typing import Final
from urllib.parse import parse_qs

import msgspec

from seawall.decide.route import response as responses
from seawall.decide.route.record import AnswerRecord, RecordState
from seawall.decide.route.refusal import Refusal
from seawall.gateway.edge.caller import Caller
from seawall.gateway.edge.request import Request
from seawall.gateway.exchange.background import InBackground
from seawall.gateway.exchange.forward import Forward
from seawall.gateway.exchange.keeping import Keeping
from seawall.gateway.exchange.lane import FleetLane
from seawall.gateway.intake.again import IDEMPOTENCY, Again, Asked, again_of, claim, keyed, read
from seawall.gateway.intake.asked_fields import field, send_with, values
from seawall.gateway.intake.peers import BY_ID

RESPONSES: Final = b"/v1/responses"
CANCEL: Final = b"/cancel"
JSON: Final = b"application/json"
_TRUE: Final = frozenset({b"true", b"1", b'"true"', b'"True"', b'"1"'})


def serve(asked: Asked) -> Refusal | None:
    """A request to `/v1/responses`."""
    request, lane = asked.request, asked.served.fleet
    if not lane.stores or not field(request, "previous_response_id"):
        return _begin_it(asked)

    def then(refusal: Refusal | None) -> None:
        refusal = refusal or _begin_it(asked)
        if refusal is not None:
            asked.client.decline(refusal)

    _follow(asked, then)
    return None


def _begin_it(asked: Asked) -> Refusal | None:
    request, lane = asked.request, asked.served.fleet
    if lane.kept.keeps:
        if field(request, "background") in _TRUE:
            return in_the_background(asked)
        if IDEMPOTENCY in request.headers:
            return keyed_response(asked)
    if lane.stores:
        _name_it(request)
    return asked.begin()


def keyed_response(asked: Asked) -> Refusal | None:
    """A response with an Idempotency-Key, which can be found by its id, too."""
    request = asked.request
    said = values(request, responses.ASKED)
    if isinstance(said, Refusal):
        return said

    def prepare(record: AnswerRecord) -> None:
        opening = responses.opening(record.id, int(time()), request.model, said, False)
        record.opening = msgspec.json.encode(opening)
        send_with(request, {"request_id": msgspec.json.encode(record.id)})

    return keyed(asked, asked.intake.peers.new_id(), prepare)


def in_the_background(asked: Asked) -> Refusal | None:
    """A response that runs whether or not anybody waits for it."""
    if field(asked.request, "store") == b"false":
        message = "`background` needs `store`: a response that is not kept cannot be found again."
        return Refusal(400, "invalid_value", message, param="background")
    again = again_of(asked.request.headers)
    if isinstance(again, Refusal):
        return again
    said = values(asked.request, responses.ASKED)
    if isinstance(said, Refusal):
        return said

    def begin(record: AnswerRecord) -> Refusal | None:
        opening = responses.opening(record.id, int(time()), asked.request.model, said, True)
        record.opening, record.background = msgspec.json.encode(opening), True
        return _begin(asked, again, record)

    def join(record: AnswerRecord) -> None:
        _show(asked.client, record, asked.body.stream is True, again.position, numbers=True)

    claim(asked, again, begin, join, asked.intake.peers.new_id())
    return None


def _begin(asked: Asked, again: Again, record: AnswerRecord) -> Refusal | None:
    request, client = asked.request, asked.client
    streams = asked.body.stream is True
    as_stream = _for_the_engine(request, record.id)
    body = msgspec.structs.replace(asked.body, stream=True) if as_stream else asked.body
    keeping = Keeping(record, asked.served.fleet.kept)
    sink = InBackground(keeping)
    exchange = asked._replace(body=body).exchange(sink)
    if isinstance(exchange, Refusal):
        return exchange
    keeping.source = exchange
    record.meet(request)
    if request.streams:
        keeping.taped(exchange.session)
    exchange.begin()
    if record.state is not RecordState.RUNNING:  # refused at once: then it is no response
        return record.refusal or Refusal(503, "overloaded", "It could not be begun. Send it again.", 1)
    sink.open()
    _show(client, record, streams, 0, numbers=bool(again.key))
    return None


def _for_the_engine(request: Request, id: str) -> bool:
    """The same request as one that is waited for, as a stream where its answer can be one, under our id. True: it is a
    stream."""
    wanted = {"request_id": msgspec.json.encode(id)}
    as_stream = not _has_tools(request) or field(request, "stream") in _TRUE
    if as_stream:
        wanted["stream"] = b"true"
    send_with(request, wanted, without="background")
    return as_stream


def _has_tools(request: Request) -> bool:
    """Then engines' parsers read a stream in another way (decide/route/whole.py)."""
    tools = field(request, "tools")
    return tools not in (b"", b"[]", b"null") and field(request, "tool_choice") != b'"none"'


def _show(client: Caller, record: AnswerRecord, streams: bool, position: int, numbers: bool) -> None:
    if streams:
        read(client, record, position, numbers)
    else:
        client.answer(200, JSON, responses.response_of(record))


# -- kept by an engine


def _follow(asked: Asked, then: Callable[[Refusal | None], None]) -> None:
    """A request that names a `previous_response_id` goes to the replica that keeps it, and `then` goes on."""
    request, lane, intake = asked.request, asked.served.fleet, asked.intake
    said = values(request, ("previous_response_id",))
    if isinstance(said, Refusal):
        then(said)
        return
    previous = said.get("previous_response_id")
    if not isinstance(previous, str):
        then(None)
        return
    tenant, names = request.tenant.name, list(lane.router.targets)

    def told(record: AnswerRecord | None) -> None:
        keeper = record.replica if record is not None else responses.keeper_of(previous, names, tenant)
        owner = intake.peers.of_id(previous)
        if keeper in names:
            request.only = keeper
            then(None)
        elif record is None and intake.peers.elsewhere(owner, request, BY_ID):
            intake.pass_on(owner, asked.client, request, BY_ID, lambda: _follow(asked, then))
        elif record is not None or lane.tenants.required:
            then(_gone(previous))
        else:  # an id that its client has given it: who keeps it is not known
            then(None)

    lane.kept.find(tenant, previous, told)


def _name_it(request: Request) -> None:
    """Gives a response an id that tells which replica keeps it, unless its client gives it one."""
    if not field(request, "request_id") and field(request, "store") != b"false":
        id = f"resp_{secrets.token_hex(16)}{responses.UNPLACED}"
        send_with(request, {"request_id": msgspec.json.encode(id)})
        request.unplaced = id.encode()


def _gone(id: str) -> Refusal:
    message = (
        f"Response with id '{_shown(id)}' not found: no replica that serves now keeps it for you. "
        "Send the whole conversation in `input`."
    )
    return Refusal(404, "response_not_found", message, param="previous_response_id")


def _shown(id: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in id[:100])


# -- found by its id


Owned = tuple[FleetLane, str]
"""A fleet, and the tenant that the client is there."""


def find(client: Caller, request: Request, owned: Iterable[Owned]) -> bool:
    """Answers a request for one response. False: its path or method is none of this page's."""
    id, _, act = request.path[len(RESPONSES) + 1 :].partition(b"/")
    method = b"GET" if request.method == b"HEAD" else request.method
    acts: dict[tuple[bytes, bytes], Callable[[Caller, Request, FleetLane, AnswerRecord], Refusal | None]] = {
        (b"GET", b""): _retrieve,
        (b"DELETE", b""): _delete,
        (b"POST", b"cancel"): _cancel,
    }
    do = acts.get((method, act))
    if do is None or not id:
        return False
    name = id.decode("latin-1")
    lanes = list(owned)

    def missing() -> None:
        message = f"Response with id '{_shown(name)}' not found."
        client.decline(Refusal(404, "response_not_found", message, param="response_id"))

    def look(at: int) -> None:
        if at == len(lanes):
            if do is not _retrieve or not _asks_keeper(client, request, name, lanes, missing):
                missing()
            return
        lane, tenant = lanes[at]

        def told(record: AnswerRecord | None) -> None:
            if record is None:
                look(at + 1)
                return
            record.meet(request)
            refusal = do(client, request, lane, record)
            if refusal is not None:
                client.decline(refusal)

        lane.kept.find(tenant, name, told)

    look(0)
    return True


def _asks_keeper(
    client: Caller, request: Request, id: str, lanes: Iterable[Owned], missing: Callable[[], None]
) -> bool:
    """Passes the question on to the replica that keeps this response, if the id names one to this tenant."""
    for lane, tenant in lanes:
        keeper = responses.keeper_of(id, lane.router.targets, tenant) if lane.stores else None
        if keeper is None:
            continue

        def not_there() -> None:
            client.exchange = None
            missing()

        pool = lane.pool(lane.router.targets[keeper])
        query = request.url.partition(b"?")[2]
        asked = request.path + (b"?" + query if query else b"")
        forward = Forward(pool, pool.request(asked, b"", b"", b"GET"), client, not_there, keeper)
        client.serve(forward)
        forward.begin()
        return True
    return False


def _retrieve(client: Caller, request: Request, lane: FleetLane, record: AnswerRecord) -> Refusal | None:
    asked = parse_qs(request.url.partition(b"?")[2].decode("latin-1"))
    if asked.get("stream", [""])[-1].lower() not in ("true", "1"):
        client.answer(200, JSON, responses.response_of(record))
        return None
    after = asked.get("starting_after", ["-1"])[-1]
    if not after.removeprefix("-").isdigit() or len(after) > 12:
        message = "`starting_after` is the sequence_number of an event."
        return Refusal(400, "invalid_value", message, param="starting_after")
    position = max(0, int(after) + 1)
    if record.whole:
        message = "This response was not created with `stream`; retrieve it without."
        return Refusal(400, "invalid_value", message, param="stream")
    if position > record.count + bool(record.last_words) + record.ahead() or position < record.first:
        message = f"Events {record.first} to {record.count - 1} are there."
        return Refusal(400, "invalid_value", message, param="starting_after")
    lane.stats.reattached += 1
    read(client, record, position, numbers=False)
    return None


def _cancel(client: Caller, request: Request, lane: FleetLane, record: AnswerRecord) -> Refusal | None:
    if not record.background:
        message = "Cannot cancel a synchronous response: only those with `background` can be."
        return Refusal(400, "invalid_value", message, param="response_id")
    record.cancel()
    client.answer(200, JSON, responses.response_of(record))
    return None


def _delete(client: Caller, request: Request, lane: FleetLane, record: AnswerRecord) -> Refusal | None:
    record.cancel()
    lane.kept.delete(record)
    gone = {"id": record.id, "object": "response", "deleted": True}
    client.answer(200, JSON, msgspec.json.encode(gone))
    return None

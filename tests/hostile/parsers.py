"""What three parsers understand of the same bytes: the gateway's edge, h11 and llhttp, as values to compare."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from time import monotonic

import h11
import httptools

from seawall.decide.route.refusal import Refusal
from seawall.gateway.edge.budget import StrangersBudget
from seawall.gateway.edge.caller import MAX_HEAD
from seawall.gateway.edge.client_side import Client
from seawall.gateway.edge.request import Request
from seawall.gateway.memory import HeldMemory
from seawall.gateway.wire import DateHeader
from tests.unit.gateway.scripted import Pipe

SEEN = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"x-a", b"authorization", b"content-type", b"expect"}
)


@dataclass
class Understood:
    """Requests in their order, and how it ended."""

    requests: list[tuple[bytes, bytes, bytes]] = field(default_factory=list)
    """(method, target, body) of each that came whole."""
    refused: str = ""
    """Why the rest was not read; empty: it was, as far as it came."""


class Recorder:
    """A handler that answers everything and keeps what it was asked."""

    wanted = SEEN
    max_body = 1 << 20
    max_head = MAX_HEAD
    idle_s = 75.0
    keep_alive = b""
    http2 = False
    closing = False
    keep = None

    def __init__(self) -> None:
        self.clock = DateHeader()
        self.clients: set[Client] = set()
        self.memory = HeldMemory()
        self.budget = StrangersBudget()
        self.max_clients = 1 << 30
        self.seen = Understood()

    def now(self) -> float:
        return monotonic()

    def meet(self, request: Request) -> None:
        request.path = request.url

    def early(self, client: Client, request: Request) -> Refusal | None:
        return None

    def handle(self, client: Client, request: Request) -> None:
        self.seen.requests.append((request.method, request.url, request.body))
        client.answer(200, b"text/plain", b"")

    def crowded(self, now: float) -> bool:
        return False

    def refused(self, refusal: Refusal) -> None:
        self.seen.refused = refusal.code


async def by_gateway(data: bytes, step: int) -> Understood:
    recorder = Recorder()
    client, pipe = Client(recorder, asyncio.get_running_loop()), Pipe()
    client.connection_made(pipe)  # type: ignore[arg-type]  # a pipe is enough of a transport
    for at in range(0, len(data), step):
        if pipe.closed:
            break
        client.data_received(data[at : at + step])
        while client._due and not pipe.closed:
            await asyncio.sleep(0)
    return recorder.seen


def by_h11(data: bytes) -> Understood:
    out = Understood()
    conn = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    method = target = body = b""
    try:
        conn.receive_data(data)
        while True:
            event = conn.next_event()
            if isinstance(event, h11.Request):
                method, target, body = bytes(event.method), bytes(event.target), b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                out.requests.append((method, target, body))
                conn.send(h11.Response(status_code=405, headers=[("content-length", "0")]))
                conn.send(h11.EndOfMessage())
                if conn.our_state is not h11.DONE or conn.their_state is not h11.DONE:
                    return out
                conn.start_next_cycle()
            else:
                return out
    except h11.RemoteProtocolError as e:
        out.refused = str(e)
    return out


class _Llhttp:
    def __init__(self) -> None:
        self.out = Understood()
        self.url = self.body = b""
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self.url = self.body = b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.out.requests.append((self.parser.get_method(), self.url, self.body))


def by_llhttp(data: bytes) -> Understood:
    """Up to the first upgrade: what follows is nobody's HTTP to it."""
    made = _Llhttp()
    try:
        made.parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        made.out.refused = "upgrade"
    except (httptools.HttpParserError, httptools.HttpParserInvalidURLError) as e:
        made.out.refused = str(e)
    return made.out

"""Engines that lie, flood, mumble and hang up: each row is what one says to a request. Whatever it says, the client
gets a clear end, the counters add up, nothing is held afterwards, nobody is paid back, and no traceback is written."""

from __future__ import annotations

import itertools
import json
import logging
from typing import Any

import pytest

from tests.unit.gateway.both import EDGES, Edge, ask
from tests.unit.gateway.scripted import Bench, post, with_bench

ASK = b'{"model":"m","prompt":"x","max_tokens":5}'
STREAM = b'{"model":"m","prompt":"x","stream":true}'
TOP = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(text: str = "a", finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "text": text, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "x", "choices": [choice], **more}).encode() + b"\n\n"


def stream(*events: bytes) -> list[bytes]:
    return [TOP, *map(chunk, events), LAST]


def whole(body: bytes) -> list[bytes]:
    return [WHOLE % (len(body), body)]


def usage(prompt: str, completion: str) -> bytes:
    choice = b'{"choices":[{"text":"hi","finish_reason":"stop"}],'
    return choice + b'"usage":{"prompt_tokens":%b,"completion_tokens":%b}}' % (
        prompt.encode(),
        completion.encode(),
    )


def counted(number: str) -> list[bytes]:
    """A stream that ends with such a usage."""
    told = b'{"prompt_tokens":%b,"completion_tokens":%b}' % (number.encode(), number.encode())
    return stream(event(), event("", "stop"), b'data: {"id":"x","choices":[],"usage":%b}\n\n' % told, DONE)


def status(line: str, body: bytes = b"{}") -> list[bytes]:
    return [f"HTTP/1.1 {line}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body]


NUMBERS = (
    "-1",
    "-99999999999",
    "1e20",
    "100000000000000000000",
    "1.5",
    '"7"',
    "null",
    "[]",
    "true",
    "9" * 400,
)
"""What stands where a count of tokens is due."""
STATUSES = (
    "000 X",
    "001 X",
    "099 X",
    "600 X",
    "999 X",
    "20 OK",
    "2000 OK",
    "-1 X",
    "abc X",
    "200",
    "204 No",
    "304 Not",
)
BROKEN_EVENTS = (
    b"data: {\n\n", b"data: nul\n\n", b"data: []\n\n", b"data: 1\n\n", b'data: {"choices":1}\n\n',
    b"data: \xff\xfe\n\n", b'data: {"choices":[{"index":"a"}]}\n\n', b'data: {"choices":[null]}\n\n',
    b"data: " + b"[" * 5000 + b"\n\n", b'data: {"choices":[{"index":0,"text":7,"finish_reason":{}}]}\n\n',
    b'data: {"choices":[{"index":-5,"text":"a"}]}\n\n', b'data: {"error":1}\n\n',
    b'data: {"error":{"code":"x"}}\n\n', b'data: {"id":{},"choices":[{"index":0,"text":"a"}]}\n\n',
)  # fmt: skip

ENGINES: dict[str, tuple[bytes, list[bytes]]] = {
    **{f"usage of {n[:24]} in a whole answer": (ASK, whole(usage(n, "3"))) for n in NUMBERS},
    **{f"answer of {n[:24]} in a whole answer": (ASK, whole(usage("3", n))) for n in NUMBERS},
    **{f"usage of {n[:24]} in a stream": (STREAM, counted(n)) for n in NUMBERS},
    **{f"status {line}": (ASK, status(line)) for line in STATUSES},
    **{f"a stream with {e[:40]!r}": (STREAM, stream(event(), e, DONE)) for e in BROKEN_EVENTS},
    "1xx without end, one by one": (ASK, [b"HTTP/1.1 100 Continue\r\n\r\n"] * 200),
    "103 with hints without end": (ASK, [b"HTTP/1.1 103 Early\r\nlink: </x>\r\n\r\n"] * 200),
    "102 and then 200": (ASK, [b"HTTP/1.1 102 P\r\n\r\n" + whole(usage("1", "2"))[0]]),
    "a line of 40 MiB": (STREAM, [TOP, *[chunk(b"data: " + b"x" * 2**20)] * 41]),
    "a line of 40 MiB with returns": (STREAM, [TOP, *[chunk(b"data: \r" + b"x" * 2**20)] * 41]),
    "comments only": (STREAM, stream(*[b": ping\n\n"] * 500)),
    "an event of many values": (STREAM, stream(event(), b'data: {"x":[' + b"1," * 500_000 + b"1]}\n\n", DONE)),
    "chunks of one byte": (STREAM, [TOP, *[chunk(b"%c" % c) for c in event() + event("", "stop") + DONE], LAST]),
    "a whole answer of chunks of one byte": (
        ASK,
        [CHUNKED + b"1\r\n \r\n" * 20_000, chunk(usage("1", "2")), LAST],
    ),
    "gzip that nobody asked for": (
        ASK,
        [b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\n\x1f\x8b\x08"],
    ),
    "a stream of gzip": (STREAM, [TOP[:-2] + b"content-encoding: gzip\r\n\r\n", chunk(b"\x1f\x8b\x08")]),
    "a redirect": (ASK, [b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n"]),
    "another protocol": (ASK, [b"HTTP/1.1 101 Switching\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\nPRI"]),
    "two lengths": (ASK, [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}"]),
    "a length and chunks": (
        ASK,
        [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"],
    ),
    "more than its length": (ASK, [whole(usage("1", "2"))[0] + b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"]),
    "less than its length": (ASK, [b"HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n{"]),
    "a header of a megabyte": (ASK, [b"HTTP/1.1 200 OK\r\nx: " + b"y" * 2**20 + b"\r\n\r\n"]),
    "headers without end": (ASK, [b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 50_000]),
    "trailers without end": (STREAM, [TOP, chunk(event("", "stop") + DONE), b"0\r\n" + b"a: b\r\n" * 50_000]),
    "nothing behind its head": (STREAM, [TOP, LAST]),
    "[DONE] alone": (STREAM, stream(DONE)),
    "[DONE] twice": (STREAM, stream(event(), event("", "stop"), DONE, DONE)),
    "a head of 100 KiB": (ASK, [b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 100_000 + b"\r\n\r\n"]),
    "a length below zero": (ASK, [b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n{}"]),
    "a length of 400 digits": (ASK, [b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 400 + b"\r\n\r\n{}"]),
    "a chunk of 2**70 bytes": (STREAM, [TOP + b"4" + b"0" * 17 + b"\r\n"]),
    "HTTP/2's preface": (ASK, [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]),
    "TLS's hello": (ASK, [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32)]),
    "a load of nonsense in its metrics header": (
        ASK,
        [b"HTTP/1.1 200 OK\r\nendpoint-load-metrics: num_requests_waiting=1e999,kv_cache_usage_perc=..\r\n"
         b"content-length: 2\r\n\r\n{}"],
    ),
}  # fmt: skip


def test_the_table_is_long() -> None:
    assert len(ENGINES) >= 60


@EDGES
@pytest.mark.parametrize("name", ENGINES)
def test_a_hostile_engine_harms_nobody(name: str, edge: type[Edge], caplog: pytest.LogCaptureFixture) -> None:
    asked, said = ENGINES[name]

    def script(b: Bench) -> None:
        b.client.connection_lost(None)
        client = edge(b)
        with caplog.at_level(logging.ERROR):
            ask(client, asked)
            for data in said:
                for at in range(0, len(data), 65536):
                    if not b.up_pipe.closed:
                        b.up.data_received(data[at : at + 65536])
            for exchange in list(b.fleet.active):
                exchange.check(b.app.now())
            if b.fleet.active and not b.up_pipe.closed:
                b.up.connection_lost(None)
        stats = b.fleet.stats
        assert stats.admitted == 1 == stats.finished + stats.failed + stats.cancelled + stats.pending
        assert stats.tokens_in >= 0 and stats.tokens_out >= 0 and stats.tokens_in < 2**32 > stats.tokens_out
        assert all(t.meter.used >= 0 for t in b.fleet.tenants.all())
        client.close()
        assert b.app.memory.held == 0 and b.fleet.stats.pending == 0
        assert not caplog.records, caplog.text

    with_bench(script)


def test_an_answer_in_an_encoding_that_nobody_asked_for_reaches_no_client() -> None:
    """Its head would go without the word that says so, and what follows would be taken for JSON."""

    def script(b: Bench) -> None:
        b.client.data_received(post(ASK))
        b.up.data_received(ENGINES["gzip that nobody asked for"][1][0])
        assert b"\x1f\x8b" not in b.pipe.out and b.up_pipe.closed

    with_bench(script)


def test_what_no_engine_can_count_is_never_paid_back() -> None:
    for prompt, completion in itertools.product(NUMBERS[:4], repeat=2):

        def script(b: Bench, answer: bytes = usage(prompt, completion)) -> None:
            b.client.data_received(post(ASK))
            b.up.data_received(WHOLE % (len(answer), answer))
            assert b.pipe.out.endswith(answer), "the client has what the engine said"
            assert (b.fleet.stats.tokens_in, b.fleet.stats.tokens_out) == (0, 0)

        with_bench(script)

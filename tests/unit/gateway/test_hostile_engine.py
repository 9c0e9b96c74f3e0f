"""An engine is not trusted either: what it sends beyond the protocol harms neither the gateway nor other clients."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .test_protocol import ANSWER, ASK, JSON_ANSWER, Bench, chunk_event, cut, post, stream_answer, with_bench

STREAM_ASK = b'{"model":"m","prompt":"x","stream":true}'
TOP = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
JSON_TOP = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in parts)


def ended_without_harm(b: Bench) -> None:
    s = b.fleet.stats
    assert s.admitted == s.finished + s.failed + s.cancelled + s.pending
    assert s.pending == len(b.fleet.active)


BROKEN = {
    "CL + TE": JSON_TOP + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two CL": JSON_TOP + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}x",
    "CL sign": JSON_TOP + b"content-length: +2\r\n\r\n{}",
    "obs-fold": JSON_TOP + b"x: a\r\n b\r\ncontent-length: 2\r\n\r\n{}",
    "bare LF": b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}",
    "chunk size overflow": TOP + b"f" * 17 + b"\r\n",
    "chunk size junk": TOP + b"zz\r\n",
    "no HTTP": b"220 smtp ready\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"x: %b\r\n" % (b"y" * 1000) * 80,
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nhello",
    "endless 100s": b"HTTP/1.1 100 Continue\r\n\r\n" * 8000,
    "CL that is no number": JSON_TOP + b"content-length: two\r\n\r\n{}",
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("ask", [ASK, STREAM_ASK], ids=["whole", "stream"])
def test_a_malformed_answer_ends_its_connection_and_is_tried_elsewhere(name: str, ask: bytes) -> None:
    def script(b: Bench) -> None:
        b.client.data_received(post(ask))
        b.up.data_received(BROKEN[name])
        assert b.up_pipe.closed, "its connection is not used again"
        assert b.pipe.out.partition(b"\r\n\r\n")[2] == b"", (
            "nothing of it reached the client but a stream's head"
        )
        assert b.fleet.stats.pending == 1, "the request waits for another replica"
        ended_without_harm(b)

    with_bench(script)


def test_interim_answers_and_trailers_are_skipped() -> None:
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\ncontent-type: text/evil\r\n\r\n"
    body = chunked(ANSWER)
    trailers = b"0\r\nset-cookie: a=b\r\nx-evil: 1\r\n\r\n"

    def script(b: Bench) -> None:
        for part in (hints, JSON_TOP + b"transfer-encoding: chunked\r\n\r\n", body, trailers):
            if part is hints:
                b.client.data_received(post(ASK))
            b.up.data_received(part)
        answer = bytes(b.pipe.out)
        assert answer.startswith(b"HTTP/1.1 200 OK") and answer.endswith(ANSWER)
        assert b"text/evil" not in answer and b"set-cookie" not in answer and b"x-evil" not in answer
        assert b.fleet.stats.finished == 1

    with_bench(script)


@pytest.mark.parametrize("extra", [b"x", JSON_ANSWER, b"HTTP/1.1 500 X\r\ncontent-length: 2\r\n\r\n{}"])
@pytest.mark.parametrize("at_once", [True, False])
def test_data_behind_the_end_is_never_the_next_requests_answer(extra: bytes, at_once: bool) -> None:
    def script(b: Bench) -> None:
        b.client.data_received(post(ASK))
        for part in [JSON_ANSWER + extra] if at_once else [JSON_ANSWER, extra]:
            b.up.data_received(part)
        assert b.up_pipe.closed, "a connection that says more than it was asked is not used again"
        assert bytes(b.pipe.out).count(b"HTTP/1.1 ") <= 1
        assert b.fleet.stats.finished + b.fleet.stats.pending == 1
        ended_without_harm(b)

    with_bench(script)


@pytest.mark.parametrize("more", [chunk_event("more"), b"data: [DONE]\n\n", b"junk\n\n"])
def test_events_behind_done_do_not_reach_the_client(more: bytes) -> None:
    def script(b: Bench) -> None:
        b.client.data_received(post(STREAM_ASK))
        good = [chunk_event("a"), chunk_event("", "stop"), b"data: [DONE]\n\n"]
        b.up.data_received(stream_answer([*good, more]))
        assert (
            b"more" not in b.pipe.out
            and bytes(b.pipe.out).count(b"[DONE]") == 1
            and b"junk" not in b.pipe.out
        )
        assert b.fleet.stats.finished == 1

    with_bench(script)


def deep(levels: int) -> bytes:
    return b'{"choices":' + b"[" * levels + b"]" * levels + b"}"


EVIL_EVENTS: dict[str, Callable[[], bytes]] = {
    "a line without an end": lambda: b"data: " + b"x" * (33 * 2**20),
    "nested lists": lambda: b"data: " + deep(100_000) + b"\n\n",
    "not UTF-8": lambda: b'data: {"choices":[{"index":0,"text":"\xff\xfe"}]}\n\n',
    "a huge number": lambda: b'data: {"choices":[{"index":' + b"9" * 5000 + b',"text":"a"}]}\n\n',
    "NaN": lambda: b'data: {"choices":[{"index":NaN,"text":"a"}]}\n\n',
    "no object": lambda: b"data: [1]\n\n",
    "an index of its own": lambda: b'data: {"choices":[{"index":{},"text":"a","finish_reason":"stop"}]}\n\n',
}


@pytest.mark.parametrize("name", EVIL_EVENTS)
@pytest.mark.parametrize("path", [b"/v1/completions", b"/v1/messages", b"/v1/responses"])
def test_an_event_that_no_engine_writes_breaks_the_stream_not_the_gateway(name: str, path: bytes) -> None:
    event = EVIL_EVENTS[name]()

    def script(b: Bench) -> None:
        b.client.data_received(post(STREAM_ASK).replace(b"/v1/completions", path))
        for at in range(0, len(event), 2**20):
            b.up.data_received((b"" if at else TOP) + chunked(event[at : at + 2**20]))
        exchange = next(iter(b.fleet.active), None)
        held = 0 if exchange is None or exchange.session is None else exchange.session._splitter.held
        assert held < 2**20, "what was read of it has been let go"
        assert b"\xff\xfe" not in b.pipe.out
        ended_without_harm(b)

    with_bench(script)


@settings(max_examples=60)
@given(st.sampled_from(sorted(BROKEN)), st.lists(st.integers(0, 5000), max_size=6), st.binary(max_size=30))
def test_any_split_of_a_malformed_answer_is_refused_alike(name: str, points: list[int], junk: bytes) -> None:
    def script(b: Bench) -> None:
        b.client.data_received(post(STREAM_ASK))
        for part in cut(BROKEN[name] + junk, points):
            if b.up_pipe.closed:
                break
            b.up.data_received(part)
        assert b.pipe.out.partition(b"\r\n\r\n")[2] == b"" and b.up_pipe.closed
        ended_without_harm(b)

    with_bench(script)


@pytest.mark.parametrize(
    "field", ["metadata", "messages", "prompt", "response_format", "tools", "temperature"]
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_body_nested_too_deeply_is_refused_wherever_the_nest_is(field: str, stream: bool) -> None:
    levels = 400  # as deep as fits into maxBody here
    nest = b"[" * levels + b"]" * levels
    body = b'{"model":"m","stream":%b,"%b":%b}' % (json.dumps(stream).encode(), field.encode(), nest)
    far = body.replace(nest, b"[" * 900 + b"]" * 900)

    def script(b: Bench) -> None:
        b.client.data_received(post(body))
        b.client.data_received(post(far))
        ended_without_harm(b)
        assert not b.pipe.closed or b.pipe.out.startswith(b"HTTP/1.1 4")

    with_bench(script)

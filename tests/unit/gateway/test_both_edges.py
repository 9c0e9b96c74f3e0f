"""What holds for a request holds whatever carries it: HTTP/1.1 or HTTP/2."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import zlib
from typing import Any

import pytest
from tests.unit.gateway.both import EDGES, Http2, ask
from tests.unit.gateway.scripted import ANSWER, ASK, JSON_ANSWER, Bench, with_bench

from seawall.gateway.edge.caller import BODY_S, LINGER_S, MAX_HEAD

STREAM = b'{"model":"m","prompt":"x","stream":true}'
TOP = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "text": text, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "x", "choices": [choice]}).encode() + b"\n\n"


@EDGES
def test_a_whole_answer_is_passed_on_as_it_is(edge: Any) -> None:
    def script(b: Bench) -> None:
        e = edge(b)
        ask(e, ASK, headers={b"X-Request-Id": b"me"})
        assert b.sent_upstream()[1] == json.loads(ASK) and b"x-request-id: me" in b.sent_upstream()[0]
        b.up.data_received(JSON_ANSWER)
        a = e.answer
        assert (a.status, a.body, a.whole) == (200, ANSWER, True)
        assert a.headers["x-request-id"] == "me" and a.headers["content-length"] == str(len(ANSWER))
        assert {"date", "content-type"} <= a.headers.keys()

    with_bench(script)


@EDGES
@pytest.mark.parametrize("length", [True, False])
def test_a_body_comes_with_its_length_or_without_and_in_pieces(edge: Any, length: bool) -> None:
    def script(b: Bench) -> None:
        e = edge(b)
        e.head(b"POST", b"/v1/completions", {}, len(ASK) if length else None)
        for i in range(len(ASK)):
            e.body(ASK[i : i + 1], last=i == len(ASK) - 1)
        assert b.sent_upstream()[1] == json.loads(ASK)

    with_bench(script)


@EDGES
def test_a_stream_passes_event_by_event_with_its_comments_and_ends(edge: Any) -> None:
    def script(b: Bench) -> None:
        e = edge(b)
        ask(e, STREAM)
        b.up.data_received(TOP)
        assert e.answer.status == 200 and e.answer.headers["cache-control"] == "no-store"
        assert not e.answer.whole
        (exchange,) = b.fleet.active
        exchange.check(b.app.now() + 11)
        assert e.answer.body == b": waiting\n\n"
        for text in ("a", "b"):
            b.up.data_received(chunk(event(text)))
            assert e.answer.body.endswith(event(text))
        b.up.data_received(chunk(event("", "stop")) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        assert e.answer.body.endswith(b"data: [DONE]\n\n") and e.answer.whole

    with_bench(script)


@EDGES
def test_a_stream_that_breaks_is_never_taken_for_whole(edge: Any) -> None:
    def script(b: Bench) -> None:
        e = edge(b)
        ask(e, STREAM)
        b.up.data_received(TOP + chunk(event("a")))
        (exchange,) = b.fleet.active
        exchange.shut_down()
        assert b"shutting_down" in e.answer.body and not e.answer.whole
        assert b.fleet.stats.failed == 1

    with_bench(script)


@EDGES
def test_a_client_that_leaves_ends_its_request_at_the_engine(edge: Any) -> None:
    def script(b: Bench) -> None:
        e = edge(b)
        ask(e, STREAM)
        b.up.data_received(TOP + chunk(event("a")))
        e.leave()
        assert b.up_pipe.closed and b.fleet.stats.cancelled == 1 and not b.fleet.active

    with_bench(script)


@EDGES
def test_a_head_request_has_a_head_and_no_body(edge: Any) -> None:
    def script(b: Bench) -> None:
        e = edge(b)
        e.head(b"HEAD", b"/health", {}, 0)
        e.body(b"")
        if edge is Http2:
            assert e.answer.whole
        assert (e.answer.status, e.answer.body, e.answer.headers["content-length"]) == (200, b"", "2")
        e.head(b"HEAD", b"/nothing", {}, 0)
        e.body(b"")
        assert e.answer.status == 404 and e.answer.body == b"" and e.answer.headers["content-length"] != "0"

    with_bench(script)


REFUSED: dict[str, tuple[bytes, bytes, dict[bytes, bytes], bytes, int, str]] = {
    "an unknown path": (b"GET", b"/sleep", {}, b"", 404, "unknown_route"),
    "a wrong method": (b"PUT", b"/v1/completions", {}, b"", 405, "method_not_allowed"),
    "no JSON": (b"POST", b"/v1/completions", {}, b"{", 400, "invalid_json"),
    "an unknown model": (b"POST", b"/v1/completions", {}, b'{"model":"x"}', 404, "model_not_found"),
    "too large": (b"POST", b"/v1/completions", {}, b"x" * 3000, 413, "body_too_large"),
    "an encoding": (b"POST", b"/x", {b"Content-Encoding": b"br"}, b"{}", 415, "unsupported_encoding"),
    "not gzip": (b"POST", b"/x", {b"Content-Encoding": b"gzip"}, b"{}", 400, "invalid_encoding"),
    "half a gzip": (
        b"POST", b"/v1/completions", {b"Content-Encoding": b"gzip"}, gzip.compress(ASK)[:-9], 400, "invalid_encoding"),
    "a bomb": (b"POST", b"/x", {b"Content-Encoding": b"gzip"}, gzip.compress(bytes(10**6)), 413, "body_too_large"),
    "a large head": (b"GET", b"/health", {b"X": b"a" * MAX_HEAD}, b"", 431, "head_too_large"),
    "a long path": (b"GET", b"/health?" + b"a" * MAX_HEAD, {}, b"", 431, "head_too_large"),
    "many headers": (b"GET", b"/health", {b"X-%d" % i: b"a" for i in range(101)}, b"", 431, "head_too_large"),
    "a deadline": (b"POST", b"/v1/completions", {b"X-Seawall-Deadline": b"soon"}, ASK, 400, "invalid_deadline"),
}  # fmt: skip


@EDGES
@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("announced", [True, False])
def test_refusals_are_the_same(edge: Any, name: str, announced: bool) -> None:
    method, path, headers, body, status, code = REFUSED[name]

    def script(b: Bench) -> None:
        e = edge(b)
        e.head(method, path, headers, len(body) if announced or method == b"GET" else None)
        e.body(body)
        a = e.answer
        assert (a.status, json.loads(a.body)["error"]["code"]) == (status, code)
        assert a.whole and a.headers["x-request-id"] and not b.up_pipe.out
        assert ("allow" in a.headers) == (status == 405) and ("accept-encoding" in a.headers) == (
            status == 415
        )
        assert b.app.refusals[code] == 1
        if isinstance(e, Http2):
            ask(e, b"", b"/health", method=b"GET")
            assert e.answer.status == 200, "other streams go on"

    with_bench(script)


@EDGES
def test_compressed_bodies_are_decoded(edge: Any) -> None:
    def script(b: Bench) -> None:
        ask(edge(b), gzip.compress(ASK), headers={b"Content-Encoding": b"gzip"})
        assert b.sent_upstream()[1] == json.loads(ASK)

    with_bench(script)


@EDGES
def test_who_expects_to_be_told_is_told_to_go_on(edge: Any) -> None:
    def script(b: Bench) -> None:
        e = edge(b)
        e.head(b"POST", b"/v1/completions", {b"Expect": b"100-continue"}, len(ASK))
        if isinstance(e, Http2):
            assert e.answers[e.id]["interim"] == 1
        else:
            assert e.pipe.out.startswith(b"HTTP/1.1 100")
        assert e.answer is None
        e.body(ASK)
        assert b.up_pipe.out

    with_bench(script)


@EDGES
def test_a_body_that_trickles_in_is_refused(edge: Any) -> None:
    def script(b: Bench) -> None:
        e = edge(b)
        e.head(b"POST", b"/v1/completions", {}, 2000)
        e.body(b"{", last=False)
        e.check(b.app.now() + BODY_S - 1)
        assert e.answer is None
        e.check(b.app.now() + BODY_S + 1)
        assert e.answer.status == 408 and b'"slow_body"' in e.answer.body

    with_bench(script)


@EDGES
def test_what_is_held_is_counted_and_given_back(edge: Any) -> None:
    """Any order of beginning, going on, leaving and breaking: in the end nothing is held."""

    def script(b: Bench) -> None:
        b.client.connection_lost(None)
        b.app.max_body = 1 << 20
        b.fleet.spec = b.fleet.spec.__class__(**{**vars(b.fleet.spec), "max_body": 1 << 20})
        rng = random.Random(7)
        for _ in range(30):
            e = edge(b)
            body = json.dumps({"model": "m", "prompt": "x" * rng.randrange(50_000)}).encode()
            e.head(b"POST", b"/v1/completions", {}, rng.choice([None, len(body)]))
            e.body(body[: rng.randrange(len(body))], last=False)
            act = rng.choice(["leave", "lose", "finish", "slow"])
            if act == "leave":
                e.leave()
            elif act == "slow":
                e.check(b.app.now() + BODY_S * 10)
            elif act == "finish":
                e.body(b"}", last=False)
            held = b.app.memory.held
            assert held > 0 or (act == "leave" and not isinstance(e, Http2))
            if isinstance(e, Http2) or act != "leave":
                e.close()
            assert b.app.memory.held == 0 and not b.app.memory.readers and not b.app.clients

    with_bench(script)


@EDGES
def test_where_memory_is_short_a_body_is_refused_before_it_is_sent(edge: Any) -> None:
    def script(b: Bench) -> None:
        b.app.max_body = 1 << 22
        b.app.memory.bound = 1 << 20
        e = edge(b)
        e.head(b"POST", b"/v1/completions", {}, 2 << 20)
        assert e.answer.status == 503 and b'"overloaded"' in e.answer.body
        assert e.answer.headers["retry-after"] == "2"

    with_bench(script)


@EDGES
def test_bodies_at_once_stay_within_the_bound(edge: Any) -> None:
    def script(b: Bench) -> None:
        b.app.max_body = 1 << 22
        b.app.memory.bound = bound = 16 << 20
        clients, most = [edge(b)], 0
        for _ in range(200):
            if edge is not Http2:
                clients.append(edge(b))
            clients[-1].head(b"POST", b"/v1/completions", {}, None)
            clients[-1].body(b"x" * 200_000, last=False)
            most = max(most, b.app.memory.held)
        assert bound // 2 < most <= bound * 9 // 8
        assert b.app.refusals["overloaded"] > 100

    with_bench(script)


@EDGES
def test_a_fault_of_ours_is_told_and_logged_without_what_was_sent(edge: Any, caplog: Any) -> None:
    def script(b: Bench) -> None:
        e = edge(b)
        b.app.models["m"] = object()  # type: ignore[assignment]
        ask(e, b'{"model":"m","prompt":"secret"}')
        assert e.answer.status == 500 and b"internal_error" in e.answer.body
        assert "secret" not in caplog.text and "a fault of the gateway" in caplog.text

    with_bench(script)


@EDGES
def test_strangers_wait_for_their_budget(edge: Any) -> None:
    async def main() -> None:
        b = Bench(asyncio.get_running_loop())
        real, looked = b.app.now, False
        b.app.now = lambda: real() if looked else 1.0  # the window does not end before it has been looked at
        e = edge(b)
        b.app.budget.over(1.0)
        b.app.budget.spent = 1 << 20
        ask(e, b"", b"/health", method=b"GET")
        await asyncio.sleep(0.05)
        assert e.answer is None
        looked = True
        async with asyncio.timeout(10):
            while e.answer is None:
                await asyncio.sleep(0.001)
        assert e.answer.status == 200

    asyncio.run(main())


@EDGES
def test_a_zlib_bomb_in_tiny_pieces_is_refused(edge: Any) -> None:
    def script(b: Bench) -> None:
        e = edge(b)
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        bomb = packer.compress(bytes(10**7)) + packer.flush()
        e.head(b"POST", b"/v1/completions", {b"Content-Encoding": b"gzip"}, None)
        for i in range(0, len(bomb), 100):
            e.body(bomb[i : i + 100], last=False)
        assert e.answer.status == 413

    with_bench(script)


@EDGES
def test_an_idle_connection_is_closed_in_its_time_and_sooner_in_a_drain(edge: Any) -> None:
    def script(b: Bench) -> None:
        e = edge(b)
        ask(e, b"", b"/health", method=b"GET")
        e.check(b.app.now() + b.app.idle_s - 1)
        assert not e.pipe.closed
        e.check(b.app.now() + b.app.idle_s + 1)
        assert e.pipe.closed
        e = edge(b)
        ask(e, b"", b"/health", method=b"GET")
        b.app.closing = True
        e.check(b.app.now())
        assert not e.pipe.closed
        e.check(b.app.now() + LINGER_S + 0.1)
        assert e.pipe.closed

    with_bench(script)

"""What only HTTP/2 has: streams beside each other, windows, frames that ask for nothing, words of farewell."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from h2.settings import SettingCodes
from tests.unit.gateway.both import Http2, ask
from tests.unit.gateway.scripted import ASK, JSON_ANSWER, Bench, Pipe, with_bench

from seawall.gateway.edge.caller import BODY_S, HEAD_S, LINGER_S, PLACE_S, REFUSED_S, SEND_S, SLACK
from seawall.gateway.edge.http2 import FAREWELL_S, MAX_STREAMS
from seawall.gateway.edge.http2_frames import MOST_IDLE
from seawall.gateway.edge.record import Arena, Record
from seawall.gateway.replicas.upstream import Upstream

CALM = 0xB
STREAM = b'{"model":"m","prompt":"x","stream":true}'
TOP = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">BHBBL", len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def event(size: int) -> bytes:
    data = (
        b"data: " + json.dumps({"id": "x", "choices": [{"index": 0, "text": "a" * size}]}).encode() + b"\n\n"
    )
    return b"%x\r\n%b\r\n" % (len(data), data)


def second_upstream(b: Bench) -> tuple[Upstream, Pipe]:
    pool = b.fleet.pool(next(iter(b.fleet.targets)))
    up, pipe = Upstream(pool), Pipe()
    up.connection_made(pipe)  # type: ignore[arg-type]
    pool.put(up)
    return up, pipe


async def settled(e: Http2) -> None:
    while e.connection._soon:
        await asyncio.sleep(0)
    e.turn()


@pytest.mark.parametrize("stream", [1, 7, 2])
def test_a_reset_of_a_stream_that_nobody_opened_breaks_the_protocol(stream: int) -> None:
    """RFC 9113, 5.1: on an idle stream only a head and a priority may come. Of one that has ended it is nothing."""

    def script(b: Bench) -> None:
        e = Http2(b)
        if stream == 7:
            id = e.head(b"GET", b"/health", {}, None, ends=True)
            e.connection.data_received(frame(3, stream=id, payload=bytes(4)))
            e.turn()
            assert e.goaway is None and not e.pipe.closed
        e.connection.data_received(frame(3, stream=stream, payload=bytes(4)))
        e.turn()
        assert e.goaway == 1 and e.pipe.closed

    with_bench(script)


# -- floods


def opened(e: Http2, path: bytes = b"/v1/completions") -> int:
    """A stream whose body is on its way."""
    return e.head(b"POST", path, {}, None)


def request_block(e: Http2) -> bytes:
    return e.peer.encoder.encode(
        [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/v1/completions"), (b":authority", b"g")]
    )


def resets(e: Http2) -> Iterator[bytes]:
    for id in range(101, 60_000, 2):
        yield frame(1, 5, id, request_block(e)) + frame(3, 0, id, struct.pack(">L", 8))


def beyond(e: Http2) -> Iterator[bytes]:
    for id in range(101, 60_000, 2):
        yield frame(1, 4, id, request_block(e))


def endless(make: Callable[[int], bytes]) -> Callable[[Http2], Iterator[bytes]]:
    def shape(e: Http2) -> Iterator[bytes]:
        id = opened(e)
        for _ in range(20_000):
            yield make(id)

    return shape


def pieces_of_a_head(size: int) -> Callable[[Http2], Iterator[bytes]]:
    def shape(e: Http2) -> Iterator[bytes]:
        yield frame(1, 0, 101, request_block(e))
        for _ in range(20_000):
            yield frame(9, 0, 101, b"\x00" * size)

    return shape


FLOODS: dict[str, Callable[[Http2], Iterator[bytes]]] = {
    "pings": endless(lambda id: frame(6, 0, 0, b"12345678")),
    "answers to pings": endless(lambda id: frame(6, 1, 0, b"12345678")),
    "settings": endless(lambda id: frame(4)),
    "settings that change": endless(lambda id: frame(4, 0, 0, struct.pack(">HL", 4, 70_000) * 300)),
    "answers to settings": endless(lambda id: frame(4, 1)),
    "priorities": endless(lambda id: frame(2, 0, 7, b"\0\0\0\0\1")),
    "empty data": endless(lambda id: frame(0, 0, id)),
    "padding": endless(lambda id: frame(0, 8, id, b"\x20" + bytes(32))),
    "data of a byte": endless(lambda id: frame(0, 0, id, b"a")),
    "windows of a byte": endless(lambda id: frame(8, 0, id, b"\0\0\0\1")),
    "windows of the connection": endless(lambda id: frame(8, 0, 0, b"\0\0\0\1")),
    "unknown frames": endless(lambda id: frame(0x42, 0, id, b"x")),
    "farewells": endless(lambda id: frame(7, 0, 0, bytes(8))),
    "rapid resets": resets,
    "streams beyond the limit": beyond,
    "empty pieces of a head": pieces_of_a_head(0),
    "large pieces of a head": pieces_of_a_head(16_000),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_bounded_and_others_are_served_meanwhile(name: str) -> None:
    async def main() -> None:
        b = Bench(asyncio.get_running_loop())
        b.client.connection_lost(None)
        e, innocent = Http2(b), Http2(b)
        frames, given, turns = FLOODS[name](e), 0, 0
        while not e.pipe.closed:
            piece = b"".join(next(frames) for _ in range(100))
            given += 100
            e.connection.data_received(piece)
            assert b.app.memory.held < 4 << 20
            while e.connection._soon and not e.pipe.closed:
                turns += 1
                ask(innocent, b"", b"/health", method=b"GET")
                await asyncio.sleep(0)
                await settled(innocent)
                assert innocent.answer is not None and innocent.answer.status == 200
                b.app.budget.spent = 0
        assert given <= 2 * MOST_IDLE and given <= 64 * (turns + 4)
        assert bytes(e.pipe.out).endswith(
            struct.pack(">LL", e.connection._h2.highest_inbound_stream_id, CALM)
        )
        assert b.app.refusals["too_many_frames"] == 1 and b.fleet.stats.pending == 0
        assert not e.connection.streams
        for one in (e, innocent):
            one.connection.connection_lost(None)
        assert b.app.memory.held == 0 and not b.app.clients

    asyncio.run(main())


def test_what_is_reset_before_its_turn_costs_no_engine_anything() -> None:
    def script(b: Bench) -> None:
        e = Http2(b)
        for _ in range(100):
            id = e.peer.get_next_available_stream_id()
            fields = [
                (b":method", b"POST"),
                (b":scheme", b"http"),
                (b":path", b"/v1/completions"),
                (b":authority", b"g"),
            ]
            e.peer.send_headers(id, fields)
            e.peer.send_data(id, ASK, end_stream=True)
            e.peer.reset_stream(id, 8)
            e.turn()
        assert not e.pipe.closed and not b.up_pipe.out and b.fleet.stats.admitted == 0

    with_bench(script)


def test_who_takes_an_answer_may_say_so_for_every_frame_of_it() -> None:
    """Some clients open the windows, and ping, for every frame that they get."""

    async def main() -> None:
        b = Bench(asyncio.get_running_loop())
        e = Http2(b)
        ask(e, STREAM)
        b.up.data_received(TOP)
        for _ in range(3 * MOST_IDLE):
            b.up.data_received(event(1))
            e.connection.data_received(frame(8, 0, e.id, b"\0\0\0\1") + frame(8, 0, 0, b"\0\0\0\1"))
            e.turn()
            await settled(e)
        assert not e.pipe.closed

    asyncio.run(main())


def test_a_head_that_does_not_end_and_a_frame_that_does_not_end_are_ended() -> None:
    def script(b: Bench) -> None:
        for data, most in (
            (frame(1, 0, 1, b"\x82"), HEAD_S),
            (frame(1, 0, 1, b"\x82" * 40)[:20], HEAD_S),
            (frame(6, 0, 0, b"12345678")[:-1], HEAD_S),
        ):
            e = Http2(b)
            e.connection.data_received(data)
            e.connection.check(b.app.now() + most - 1)
            assert not e.pipe.closed
            e.connection.check(b.app.now() + most + 1)
            assert e.pipe.closed
        e = Http2(b)
        id = opened(e)
        e.connection.data_received(frame(0, 0, id, b"a" * 100)[:50])
        e.connection.check(b.app.now() + HEAD_S + 1)
        assert not e.pipe.closed
        e.connection.check(b.app.now() + BODY_S + 1)
        assert e.pipe.closed

    with_bench(script)


# -- windows


def test_a_slow_stream_holds_up_itself_alone() -> None:
    def script(b: Bench) -> None:
        b.fleet.spec = b.fleet.spec.__class__(**vars(b.fleet.spec))
        up2, _ = second_upstream(b)
        e = Http2(b, ack=False)
        e.peer.increment_flow_control_window(1 << 30)
        ask(e, STREAM)
        slow = e.id
        ask(e, STREAM)
        fast = e.id
        first, second = (b.up, up2) if b.up_pipe.out else (up2, b.up)
        first.data_received(TOP)
        second.data_received(TOP)
        users = {id(first.user): first, id(second.user): second}
        exchange = e.connection.streams[slow].exchange
        slow_up = users.pop(id(exchange))
        (fast_up,) = users.values()
        held = b.app.memory.held
        sent = 0
        while not slow_up.paused:
            slow_up.data_received(event(1000))
            sent += 1
            assert sent < 3000
        e.turn()
        assert e.answers[slow]["body"].count(b"data: ") <= 66
        assert SLACK < b.app.memory.held - held < SLACK + 10_000
        assert e.connection.streams[slow].full
        for _ in range(200):
            e.peer.increment_flow_control_window(1_500, fast)
            fast_up.data_received(event(1000))
            e.turn()
        e.turn()
        assert e.answers[fast]["body"].count(b"data: ") == 200 and not fast_up.paused
        now = b.app.now()
        e.check(now + PLACE_S + 1)
        assert e.connection.streams[slow].too_slow and not e.connection.streams[fast].too_slow
        e.peer.increment_flow_control_window(2 << 20, slow)
        e.turn()
        assert e.answers[slow]["body"].count(b"data: ") == sent and not slow_up.paused
        assert not e.connection.streams[slow].full and b.app.memory.held - held < 10_000

    with_bench(script)


def test_a_stream_that_takes_nothing_is_ended_and_the_connection_goes_on() -> None:
    def script(b: Bench) -> None:
        e = Http2(b, ack=False)
        ask(e, STREAM)
        b.up.data_received(TOP)
        while not b.up.paused:
            b.up.data_received(event(1000))
        now = b.app.now()
        e.check(now + 1)
        e.check(now + SEND_S - 1)
        assert e.reset_of(e.id) is None
        e.check(now + SEND_S + 2)
        assert e.reset_of(e.id) == 8 and b.up_pipe.closed and b.fleet.stats.cancelled == 1
        ask(e, b"", b"/health", method=b"GET")
        e.peer.increment_flow_control_window(1000)
        assert e.answer is not None and e.answer.status == 200

    with_bench(script)


def test_a_client_whose_tcp_is_full_is_not_served_further_until_it_reads() -> None:
    async def main() -> None:
        b = Bench(asyncio.get_running_loop())
        e = Http2(b)
        ask(e, STREAM)
        b.up.data_received(TOP + event(1))
        e.connection.pause_writing()
        before = e.answer
        for _ in range(3):
            b.up.data_received(event(10))
        assert before is not None and e.answer is not None and e.answer.body == before.body
        running = e.id
        ask(e, b"", b"/v1/models", method=b"GET")
        assert e.answer is None
        e.connection.resume_writing()
        await settled(e)
        assert e.answer is not None and e.answer.status == 200
        one = e.answer_of(running)
        assert one is not None and one.body.count(b"data: ") == 4

    asyncio.run(main())


def test_an_answer_larger_than_all_windows_arrives_whole() -> None:
    async def main() -> None:
        b = Bench(asyncio.get_running_loop())
        e = Http2(b)
        ask(e, ASK)
        body = b'{"choices":[],"x":"' + b"y" * 900_000 + b'"}'
        b.up.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        while e.answer is None or not e.answer.whole:
            await asyncio.sleep(0)
        assert e.answer.body == body

    asyncio.run(main())


def test_windows_that_shrink_below_nothing_are_waited_for() -> None:
    def script(b: Bench) -> None:
        e = Http2(b, ack=False)
        ask(e, STREAM)
        b.up.data_received(TOP + event(30_000))
        e.connection.data_received(frame(4, 0, 0, struct.pack(">HL", 4, 100)))
        b.up.data_received(event(10))
        assert e.connection.streams[e.id].out
        e.connection.data_received(frame(4, 0, 0, struct.pack(">HL", 4, 200_000)))
        assert not e.connection.streams[e.id].out

    with_bench(script)


# -- heads

GET = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/health"), (b":authority", b"g")]


def without(name: bytes) -> list[tuple[bytes, bytes]]:
    return [f for f in GET if f[0] != name]


def instead(name: bytes, value: bytes) -> list[tuple[bytes, bytes]]:
    return [(k, value if k == name else v) for k, v in GET]


HEADS: dict[str, tuple[list[tuple[bytes, bytes]], int]] = {
    "right": (GET, 200),
    "https": (instead(b":scheme", b"https"), 200),
    "no authority, a host": ([*without(b":authority"), (b"host", b"g")], 200),
    "a host that is the authority": ([*GET, (b"host", b"g")], 200),
    "te: trailers": ([*GET, (b"te", b"trailers")], 200),
    "a query": (instead(b":path", b"/health?a=b"), 200),
    "an empty value": ([*GET, (b"x", b"")], 200),
    "no method": (without(b":method"), 400),
    "no path": (without(b":path"), 400),
    "an empty path": (instead(b":path", b""), 400),
    "no scheme": (without(b":scheme"), 400),
    "another scheme": (instead(b":scheme", b"ftp"), 400),
    "neither authority nor host": (without(b":authority"), 400),
    "a host that is none": ([*without(b":authority"), (b"host", b"a,b")], 400),
    "an authority that is none": ([*without(b":authority"), (b":authority", b"[::g]")], 400),
    "another host": ([*GET, (b"host", b"h")], 400),
    "two hosts": ([*without(b":authority"), (b"host", b"g"), (b"host", b"h")], 400),
    "a user in the authority": (instead(b":authority", b"me@g"), 400),
    "a space in the authority": (instead(b":authority", b"g h"), 400),
    "a path without a slash": (instead(b":path", b"health"), 400),
    "a URL as path": (instead(b":path", b"http://g/health"), 400),
    "a star": (instead(b":path", b"*"), 400),
    "a space in the path": (instead(b":path", b"/health HTTP/1.1"), 400),
    "a line's end in the path": (instead(b":path", b"/health\r\nx: y"), 400),
    "NUL in the path": (instead(b":path", b"/health\0"), 400),
    "a byte beyond ASCII in the path": (instead(b":path", b"/health\xff"), 400),
    "a space in the method": (instead(b":method", b"GET /x"), 400),
    "an empty method": (instead(b":method", b""), 400),
    "two methods": ([*GET, (b":method", b"GET")], 400),
    "two paths": ([GET[0], *GET[1:], (b":path", b"/v1/models")], 400),
    "an unknown pseudo-header": ([*GET, (b":version", b"1")], 400),
    "a protocol": ([*GET, (b":protocol", b"websocket")], 400),
    "a status": ([*GET, (b":status", b"200")], 400),
    "a pseudo-header behind a header": ([*without(b":path"), (b"x", b"y"), (b":path", b"/health")], 400),
    "capitals": ([*GET, (b"X", b"y")], 400),
    "a space in a name": ([*GET, (b"x y", b"z")], 400),
    "a colon in a name": ([*GET, (b"x:y", b"z")], 400),
    "no name": ([*GET, (b"", b"z")], 400),
    "a name beyond ASCII": ([*GET, (b"\xc3\xa9", b"z")], 400),
    "a line's end in a value": ([*GET, (b"x", b"a\r\nb: c")], 400),
    "LF in a value": ([*GET, (b"x", b"a\nb")], 400),
    "NUL in a value": ([*GET, (b"x", b"a\0")], 400),
    "DEL in a value": ([*GET, (b"x", b"a\x7f")], 400),
    "a space before a value": ([*GET, (b"x", b" a")], 400),
    "a tab behind a value": ([*GET, (b"x", b"a\t")], 400),
    "connection": ([*GET, (b"connection", b"close")], 400),
    "keep-alive": ([*GET, (b"keep-alive", b"timeout=5")], 400),
    "proxy-connection": ([*GET, (b"proxy-connection", b"close")], 400),
    "upgrade": ([*GET, (b"upgrade", b"h2c")], 400),
    "transfer-encoding": ([*GET, (b"transfer-encoding", b"chunked")], 400),
    "te: gzip": ([*GET, (b"te", b"gzip")], 400),
    "two authorizations": ([*GET, (b"authorization", b"a"), (b"authorization", b"b")], 400),
    "two lengths": ([*GET, (b"content-length", b"0"), (b"content-length", b"0")], 400),
    "a length with a sign": ([*GET, (b"content-length", b"+0")], 400),
    "a length of words": ([*GET, (b"content-length", b"one")], 400),
    "a length without end": ([*GET, (b"content-length", b"1" + b"0" * 40)], 400),
    "a length where nothing comes": ([*GET, (b"content-length", b"5")], 400),
    "an unknown method": (instead(b":method", b"FOO"), 405),
    "CONNECT": ([(b":method", b"CONNECT"), (b":authority", b"g:443")], 405),
    "CONNECT with a path": ([(b":method", b"CONNECT"), (b":authority", b"g"), (b":path", b"/")], 400),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_are_strict_and_a_wrong_one_ends_its_stream_alone(name: str) -> None:
    fields, status = HEADS[name]

    def script(b: Bench) -> None:
        e = Http2(b)
        id = e.head(b"", b"", {}, None, ends=True, pseudo=list(fields))
        a = e.answer_of(id)
        assert a is not None and a.status == status and a.whole, a
        if status == 400:
            assert json.loads(a.body)["error"]["code"] in (
                "bad_request",
                "no_host",
                "invalid_host",
                "repeated_header",
            )
        ask(e, b"", b"/health", method=b"GET")
        assert e.answer is not None and e.answer.status == 200

    with_bench(script)


def test_cookies_come_in_crumbs() -> None:
    def script(b: Bench) -> None:
        b.app.wanted = b.app.wanted | {b"cookie"}
        e = Http2(b)
        stream = e.head(b"", b"", {}, None, pseudo=[*GET, (b"cookie", b"a=b"), (b"cookie", b"c=d")])
        request = e.connection.streams[stream].parsing
        assert request is not None
        assert request.headers[b"cookie"] == b"a=b; c=d"

    with_bench(script)


@pytest.mark.parametrize("extra", [b"a", b""])
def test_a_body_has_the_length_that_it_says(extra: bytes) -> None:
    def script(b: Bench) -> None:
        e = Http2(b)
        e.head(b"POST", b"/v1/completions", {}, len(ASK))
        e.body(ASK + extra if extra else ASK[:-1])
        assert e.answer is not None and e.answer.status == 400 and not b.up_pipe.out
        ask(e, ASK)
        assert b.up_pipe.out, "other streams go on"

    with_bench(script)


def test_a_refused_body_is_read_on_for_a_while() -> None:
    def script(b: Bench) -> None:
        e = Http2(b)
        ends, stays = [e.head(b"POST", b"/v1/completions", {}, 99_999_999) for _ in range(2)]
        now = b.app.now()
        for id in (ends, stays):
            a = e.answer_of(id)
            assert a is not None and a.status == 413 and a.whole and e.reset_of(id) is None
        e.id = ends
        e.body(b"x" * 3_000_000)
        e.check(now + REFUSED_S - 1)
        assert e.reset_of(stays) is None
        e.check(now + REFUSED_S + 1)
        assert e.reset_of(stays) == 0 and e.reset_of(ends) is None
        assert b.app.memory.held < 200_000 and not e.pipe.closed

    with_bench(script)


def test_trailers_end_a_request_and_are_not_used() -> None:
    def script(b: Bench) -> None:
        e = Http2(b)
        e.head(b"POST", b"/v1/completions", {}, None)
        e.body(ASK, last=False)
        e.peer.send_headers(e.id, [(b"x-sum", b"1"), (b"content-length", b"3")], end_stream=True)
        e.turn()
        assert b.sent_upstream()[1] == json.loads(ASK)
        b.up.data_received(JSON_ANSWER)
        assert e.answer is not None and e.answer.whole
        e.head(b"POST", b"/v1/completions", {}, None)
        e.body(ASK, last=False)
        e.peer.send_headers(e.id, [(b"x sum", b"1")], end_stream=True)
        assert e.answer is not None and e.answer.status == 400

    with_bench(script)


def test_a_huge_head_ends_the_connection_and_a_large_one_its_stream() -> None:
    def script(b: Bench) -> None:
        e = Http2(b)
        e.head(b"GET", b"/health", {b"x": b"a" * 40_000}, None, ends=True)
        assert e.answer is not None and e.answer.status == 431 and not e.pipe.closed
        e.head(b"GET", b"/health", {b"x": b"\xff" * 120_000}, None, ends=True)
        assert e.goaway == CALM and e.pipe.closed

    with_bench(script)


@pytest.mark.parametrize("size", [0, 1, 100, 126, 127, 128, 254, 255, 16_000])
@pytest.mark.parametrize("table", [None, 0, 100, 1 << 30])
def test_clients_read_the_heads_that_we_write(size: int, table: int | None) -> None:
    def script(b: Bench) -> None:
        b.app.origins = frozenset({"*"})
        b.app.wanted = b.app.wanted | {b"origin", b"access-control-request-headers"}
        e = Http2(b)
        if table is not None:
            e.peer.update_settings({SettingCodes.HEADER_TABLE_SIZE: table})
            e.turn()
        for _ in range(2):
            asked = {b"origin": b"http://x", b"access-control-request-headers": b"a" * size}
            e.head(b"OPTIONS", b"/v1/models", asked, None, ends=True)
            a = e.answer
            assert a is not None and a.status == 200
            assert a.headers["access-control-allow-headers"] == "a" * size
            assert len(a.headers["x-request-id"]) > 5
            ask(e, b"", b"/nothing", method=b"GET")
            assert e.answer is not None and e.answer.status == 404

    with_bench(script)


def test_a_bomb_of_compressed_headers_ends_the_connection() -> None:
    def script(b: Bench) -> None:
        e = Http2(b)
        e.peer.encoder.encode([(b"x", b"a" * 3000)])
        e.connection.data_received(
            frame(
                1, 5, 1, b"\x82\x86\x84\x41\x01g" + b"\x40\x01x\x7f\xb9\x16" + b"a" * 3000 + b"\xbe" * 10_000
            )
        )
        assert e.pipe.closed and b.app.memory.held < 1 << 20

    with_bench(script)


# -- streams and farewells


def test_more_streams_than_may_be_are_to_be_opened_later() -> None:
    async def main() -> None:
        b = Bench(asyncio.get_running_loop())
        e = Http2(b)
        e.peer.remote_settings = type(e.peer.remote_settings)(client=False)
        ids = [opened(e) for _ in range(MAX_STREAMS)]
        more = opened(e)
        await settled(e)
        assert e.reset_of(more) == 7 and all(e.reset_of(id) is None for id in ids)
        e.id = ids[0]
        e.leave()
        e.body(b"")
        again = opened(e)
        assert e.reset_of(again) is None and len(e.connection.streams) == MAX_STREAMS

    asyncio.run(main())


def test_a_few_requests_of_a_connection_are_taken_up_in_a_turn() -> None:
    async def main() -> None:
        b = Bench(asyncio.get_running_loop())
        e = Http2(b)
        for _ in range(40):
            id = e.peer.get_next_available_stream_id()
            e.peer.send_headers(id, GET, end_stream=True)
        e.connection.data_received(e.peer.data_to_send())
        e.turn()
        assert sum(a["whole"] for a in e.answers.values()) <= 8
        async with asyncio.timeout(30):
            while sum(a["whole"] for a in e.answers.values()) < 40:  # strangers have a budget
                await asyncio.sleep(0.001)
                e.turn()

    asyncio.run(main())


def test_a_client_that_says_farewell_gets_its_answers() -> None:
    def script(b: Bench) -> None:
        e = Http2(b)
        ask(e, ASK)
        e.connection.data_received(frame(7, 0, 0, bytes(8)))
        b.up.data_received(JSON_ANSWER)
        assert e.answer is not None and e.answer.whole

    with_bench(script)


def test_a_drain_says_so_and_loses_nothing() -> None:
    async def main() -> None:
        b = Bench(asyncio.get_running_loop())
        e = Http2(b)
        ask(e, STREAM)
        b.up.data_received(TOP + event(1))
        running = e.id
        b.app.closing = True
        now = b.app.now()
        e.connection.check(now)
        assert frame(7, 0, 0, b"")[3:] not in e.pipe.out, (
            "no word while a stream runs: there are clients that break it"
        )
        e.connection.check(now + FAREWELL_S + 1)
        last = frame(7, 0, 0, struct.pack(">LL", 2**31 - 1, 0))
        assert bytes(e.pipe.out).endswith(last), "no stream is excluded yet"
        block = e.peer.encoder.encode(GET)
        e.connection.data_received(frame(1, 5, running + 2, block))
        assert b"{}" in bytes(e.pipe.out).rpartition(last)[2], "one that was on its way is served"
        e.connection.check(now + FAREWELL_S + LINGER_S + 2)
        assert bytes(e.pipe.out).endswith(frame(7, 0, 0, struct.pack(">LL", running + 2, 0)))
        e.connection.data_received(frame(1, 5, running + 4, e.peer.encoder.encode(GET)))
        assert bytes(e.pipe.out).endswith(frame(3, 0, running + 4, struct.pack(">L", 7)))
        assert not e.pipe.closed
        b.up.data_received(event(1) + b"%x\r\n%b\r\n0\r\n\r\n" % (14, b"data: [DONE]\n\n"))
        while not e.pipe.closed:
            await asyncio.sleep(0)
        assert b"[DONE]" in e.pipe.out and b.fleet.stats.failed <= 1

    asyncio.run(main())


@pytest.mark.parametrize(
    "data",
    [
        frame(4, 0, 1),
        frame(4, 0, 0, b"\0\4\xff\xff\xff\xff"),
        frame(4, 0, 0, b"12345"),
        frame(6, 0, 0, b"1234"),
        frame(8, 0, 0, bytes(4)),
        frame(8, 0, 0, b"\x7f\xff\xff\xff"),
        frame(0, 0, 0, b"a" * 40),
        frame(0, 0, 99, b"a" * 40),
        frame(1, 4, 2, b"\x82"),
        frame(1, 4, 0, b"\x82"),
        frame(1, 4, 1, b"\xff\xff\xff\xff\xff"),
        frame(3, 0, 0, bytes(4)),
        frame(5, 4, 1, bytes(4)),
        frame(9, 4, 1, b"\x82"),
        frame(1, 0, 1, b"\x82") + frame(6, 0, 0, b"12345678"),
        frame(1, 0, 1, b"\x82") + frame(2, 0, 1, bytes(5)),
        frame(0, 8, 99, b"\xff" + bytes(40)),
        b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(64),
    ],
    ids=lambda data: data[:14].hex(),
)
def test_what_breaks_the_protocol_ends_the_connection(data: bytes, caplog: Any) -> None:
    def script(b: Bench) -> None:
        b.client.connection_lost(None)
        e = Http2(b)
        ask(e, STREAM)
        e.connection.data_received(data)
        e.connection.check(b.app.now() + HEAD_S + 1)
        assert e.pipe.closed and e.pipe.out[-17:-8] == frame(7, 0, 0, bytes(8))[:9]
        assert b.app.refusals == {"bad_request": 1} and b.fleet.stats.cancelled == 1 and not caplog.records
        e.connection.connection_lost(None)
        assert b.app.memory.held == 0

    with_bench(script)


class Keeper:
    """Holds what it is given in a record of its own."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.arena = Arena(blocks=4)

    def hold(self, transport: Any) -> Record:
        self.told.append("held")
        return Record(self.arena, self.arena.take_slot())

    def let_go(self, record: Record) -> None:
        self.told.append("let go")

    def unhold(self, record: Record, why: str) -> None:
        self.told.append(why)


def test_a_connection_that_cannot_be_kept_is_counted() -> None:
    def script(b: Bench) -> None:
        b.app.keep = keeper = Keeper()
        e = Http2(b)
        ask(e, b"", b"/health", method=b"GET")
        e.connection.connection_lost(None)
        assert keeper.told == ["held", "http2"]

    with_bench(script)


def test_the_preface_in_pieces_and_after_a_request() -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4)

    def script(b: Bench) -> None:
        for step in (1, 7, 24, 30, 1000):
            client, pipe = b.connect()
            got = client
            for at in range(0, len(preface), step):
                (got.http2 or client).data_received(preface[at : at + step])
            assert client.http2 is not None and pipe.out[3] == 4, step
        client, pipe = b.connect()
        client.data_received(b"GET /health HTTP/1.1\r\nHost: g\r\n\r\n")
        client.data_received(preface)
        assert client.http2 is None and pipe.closed and b"HTTP/1.1 400" in pipe.out
        b.app.http2 = False
        client, pipe = b.connect()
        client.data_received(preface)
        assert client.http2 is None and pipe.out.startswith(b"HTTP/1.1 400")

    with_bench(script)

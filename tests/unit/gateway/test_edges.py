"""Where requests end and begin: CONNECT, upgrades, heads in pieces, clients that close their half."""

from __future__ import annotations

import asyncio
import json
import socket
import struct

import pytest
from tests.unit.gateway.conftest import SPEC, FakeEngine, Start
from tests.unit.gateway.scripted import ANSWER, ASK, JSON_ANSWER, Bench, post, with_bench
from tests.within import within

SMUGGLED = post(ASK, path=b"/v1/completions")
CHUNKED = b"POST /x HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
LIMIT = 32 * 1024
PATIENT = SPEC.replace("stallTimeout: 600ms, firstByteTimeout: 1s, ", "")


@pytest.mark.parametrize(
    "more", [b"", b"Content-Length: %d\r\n" % len(SMUGGLED), b"Transfer-Encoding: chunked\r\n"]
)
def test_what_follows_a_connect_is_never_read_as_a_request(more: bytes) -> None:
    def script(b: Bench) -> None:
        b.client.data_received(
            b"CONNECT g:443 HTTP/1.1\r\nHost: g\r\n" + more + b"\r\n" + SMUGGLED + SMUGGLED
        )
        b.client.data_received(SMUGGLED)
        top = bytes(b.pipe.out)
        assert (
            top.startswith(b"HTTP/1.1 405")
            and b"\r\nallow: GET, POST\r\n" in top
            and top.count(b"HTTP/1.1 ") == 1
        )
        assert b"connection: close" in top and not b.up_pipe.out

    with_bench(script)


@pytest.mark.parametrize("offer", [b"Upgrade: h2c\r\n", b"Upgrade: websocket\r\nConnection: keep-alive\r\n",
                                   b"Connection: upgrade\r\n",
                                   b"Upgrade: h2c\r\nConnection: close, upgrade\r\n"])  # fmt: skip
@pytest.mark.parametrize("chunked", [True, False])
def test_an_upgrade_is_one_where_both_headers_say_so_and_each_request_gets_its_own_answer(
    offer: bytes, chunked: bool
) -> None:
    def script(b: Bench) -> None:
        body = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(ASK), ASK)
        if not chunked:
            body = b"Content-Length: %d\r\n\r\n%b" % (len(ASK), ASK)
        b.client.data_received(b"POST /v1/completions HTTP/1.1\r\nHost: g\r\n" + offer + body)
        assert b.sent_upstream()[1] == json.loads(ASK)
        b.up.data_received(JSON_ANSWER)
        assert bytes(b.pipe.out).endswith(ANSWER)
        if b"close" not in offer:
            b.client.data_received(b"GET /health HTTP/1.1\r\nHost: g\r\n\r\n")
            assert bytes(b.pipe.out).endswith(b"\r\n\r\n{}")

    with_bench(script)


def padded(size: int, with_: bytes = b"a") -> bytes:
    """A request whose head has exactly so many bytes."""
    top, end = b"GET /health HTTP/1.1\r\nHost: g\r\nX-Pad: b", b"c\r\n\r\n"
    return top + with_ * (size - len(top) - len(end)) + end


@pytest.mark.parametrize("with_", [b"a", b" "])
@pytest.mark.parametrize("size", [17_000, LIMIT, LIMIT + 1, 120_000])
@pytest.mark.parametrize("step", [1 << 30, 30_000, 4_000, 777])
@pytest.mark.parametrize("before", [b"", post(b"{}", path=b"/x"), CHUNKED, b"\r\n\r\n"])
def test_a_head_has_one_measure_however_it_arrives(size: int, step: int, before: bytes, with_: bytes) -> None:
    async def main() -> None:
        bench = Bench(asyncio.get_running_loop())
        data = before + padded(size, with_)
        for at in range(0, len(data), step):
            bench.client.data_received(data[at : at + step])
        for _ in range(5):
            await asyncio.sleep(0)
        answer = bytes(bench.pipe.out)
        if before.strip():
            assert answer.startswith(b"HTTP/1.1 404")
            answer = answer[answer.index(b"HTTP/1.1", 9) :]
        assert answer.startswith(b"HTTP/1.1 200" if size <= LIMIT else b"HTTP/1.1 431"), answer[:300]

    asyncio.run(main())


@pytest.mark.parametrize("line", [b"GET  /health HTTP/1.1", b"GET /health  HTTP/1.1", b"GET   /health   HTTP/1.1",
                                  b"POST  /v1/completions HTTP/1.1", b" GET /health HTTP/1.1"])  # fmt: skip
@pytest.mark.parametrize("before", [b"", b"\r\n", CHUNKED, b"GET /health HTTP/1.1\r\nHost: g\r\n\r\n"])  # fmt: skip
@pytest.mark.parametrize("step", [1 << 20, 5, 1])
def test_a_request_line_has_two_spaces_in_all(line: bytes, before: bytes, step: int) -> None:
    async def main() -> None:
        b = Bench(asyncio.get_running_loop())
        data = before + line + b"\r\nHost: g\r\n\r\n"
        for at in range(0, len(data), step):
            if not b.pipe.closed:
                b.client.data_received(data[at : at + step])
        for _ in range(5):
            await asyncio.sleep(0)
        assert b"HTTP/1.1 400" in b.pipe.out and b.pipe.closed, bytes(b.pipe.out)

    asyncio.run(main())


def test_a_request_is_passed_on_with_headers_of_sane_length_only() -> None:
    def script(b: Bench) -> None:
        trace = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"
        b.client.data_received(post(ASK, b"traceparent: %b\r\ntracestate: a=%b\r\n" % (trace, b"x" * 2000)))
        top, _ = b.sent_upstream()
        assert trace in top and b"tracestate" not in top
        b.up.data_received(JSON_ANSWER)
        b.up_pipe.out.clear()
        b.client.data_received(post(ASK, b"traceparent: " + b"x" * 20_000 + b"\r\ntracestate: a=b\r\n"))
        assert b"trace" not in b.sent_upstream()[0]

    with_bench(script)


@pytest.mark.parametrize(
    "given", [b"Root=1-67891233-abcdef012345678912345678", b"Self=1-a;Root=1-b", b"a/b+c==", b"a@b,c~d"]
)
def test_ids_of_load_balancers_survive(given: bytes) -> None:
    def script(b: Bench) -> None:
        b.client.data_received(post(ASK, b"X-Request-Id: " + given + b"\r\n"))
        assert b"\r\nx-request-id: " + given + b"\r\n" in b.sent_upstream()[0] + b"\r\n"
        b.up.data_received(JSON_ANSWER)
        assert b"\r\nx-request-id: " + given + b"\r\n" in b.pipe.out

    with_bench(script)


async def half_closed(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    writer.write_eof()
    try:
        return await within(reader.read(), 20)
    finally:
        writer.close()


async def test_a_client_that_closes_its_half_is_answered(start: Start, engine: FakeEngine) -> None:
    gateway = await start(engine)
    get = b"GET /v1/models HTTP/1.1\r\nHost: g\r\n\r\n"
    ask = post(b'{"model":"m","prompt":"x"}')
    assert (await half_closed(gateway.port, get)).count(b"HTTP/1.1 200 OK") == 1
    assert (await half_closed(gateway.port, get + ask + get)).count(b"HTTP/1.1 200 OK") == 3
    streamed = await half_closed(gateway.port, post(b'{"model":"m","prompt":"x","stream":true}') + get)
    assert b"[DONE]" in streamed and streamed.count(b"HTTP/1.1 200 OK") == 2
    assert b"200 OK" not in await half_closed(gateway.port, ask[:-3]), (
        "a body that is not whole is no request"
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_one_that_waits_long_is_answered_too(start: Start, engine: FakeEngine, stream: bool) -> None:
    """Longer than the gateway takes to ask whether it has left."""
    engine.gate = asyncio.Event()
    gateway = await start(engine, spec=PATIENT)
    body = json.dumps({"model": "m", "prompt": "x", "stream": stream}).encode()
    asking = asyncio.ensure_future(half_closed(gateway.port, post(body)))
    done, _ = await asyncio.wait([asking], timeout=2.5)
    assert not done
    engine.gate.set()
    answer = await asking
    assert b"HTTP/1.1 200 OK" in answer and (b"[DONE]" if stream else b"hello") in answer


@pytest.mark.parametrize("stream", [False, True])
async def test_one_that_has_closed_both_halves_is_let_go(
    start: Start, engine: FakeEngine, stream: bool
) -> None:
    engine.gate = asyncio.Event()
    gateway = await start(engine, spec=PATIENT)
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(post(json.dumps({"model": "m", "prompt": "x", "stream": stream}).encode()))
    while not engine.open:
        await asyncio.sleep(0.01)
    writer.close()
    async with asyncio.timeout(20):
        while not engine.cancelled:
            await asyncio.sleep(0.01)
    assert (await gateway.reconciled())["cancelled_total"] == 1


async def test_one_that_closes_its_half_and_leaves_much_later_is_let_go(
    start: Start, engine: FakeEngine
) -> None:
    """After the gateway has asked whether it has left: the sweep looks again."""
    engine.gate = asyncio.Event()
    gateway = await start(engine, spec=PATIENT)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(post(b'{"model":"m","prompt":"x"}'))
    writer.write_eof()
    assert b"100 Continue" in await within(reader.readuntil(b"\r\n\r\n"), 20), "it was asked"
    done, _ = await asyncio.wait([asyncio.ensure_future(reader.read())], timeout=1.5)
    assert not done and not engine.cancelled
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
    async with asyncio.timeout(20):
        while not engine.cancelled:
            await asyncio.sleep(0.01)
    assert (await gateway.reconciled())["cancelled_total"] == 1

"""Bodies that come compressed, and for how long connections are kept."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
import zlib
from typing import Any

import pytest
from backports import zstd
from tests.unit.gateway.conftest import SPEC as SERVER_SPEC
from tests.unit.gateway.conftest import FakeEngine, Start
from tests.unit.gateway.scripted import ASK, JSON_ANSWER, Bench, post, with_bench
from tests.within import within

from seawall.config.load import parse_fleets
from seawall.gateway.edge.caller import IDLE_S
from seawall.gateway.edge.decode import BodyDecoder, TooMuch

PACK = {"gzip": gzip.compress, "x-gzip": gzip.compress, "zstd": zstd.compress, "GZIP": gzip.compress}


def encoded(body: bytes, encoding: str, chunked: bool = False, path: bytes = b"/v1/completions") -> bytes:
    extra = f"Content-Encoding: {encoding}\r\n".encode()
    if not chunked:
        return post(body, extra, path)
    top = b"POST %b HTTP/1.1\r\nHost: g\r\n%bTransfer-Encoding: chunked\r\n\r\n" % (path, extra)
    return top + b"".join(b"1\r\n%c\r\n" % c for c in body) + b"0\r\n\r\n"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("encoding", PACK)
def test_compressed_bodies_reach_the_engine_as_what_they_stand_for(encoding: str, chunked: bool) -> None:
    def script(b: Bench) -> None:
        whole = encoded(PACK[encoding](ASK), encoding, chunked)
        for at in range(0, len(whole), 7):
            b.client.data_received(whole[at : at + 7])
        top, body = b.sent_upstream()
        assert body == json.loads(ASK) and b"encoding" not in top and f"length: {len(ASK)}".encode() in top
        b.up.data_received(JSON_ANSWER)
        b.client.data_received(b"GET /health HTTP/1.1\r\nHost: g\r\n\r\n")
        assert bytes(b.pipe.out).endswith(b"\r\n\r\n{}"), "the connection goes on"

    with_bench(script)


def stepwise(encoding: str, body: bytes) -> tuple[int, bytes]:
    """(the most bytes that were made in one turn of the loop, what the engine got)"""

    async def main() -> tuple[int, bytes]:
        b = Bench(asyncio.get_running_loop())
        b.app.max_body = 1 << 26
        b.fleet.spec = b.fleet.spec.__class__(**{**vars(b.fleet.spec), "max_body": 1 << 26})
        b.client.data_received(encoded(PACK[encoding](body), encoding))
        held, most = b.app.memory.held, b.app.memory.held
        async with asyncio.timeout(60):
            while not (b.up_pipe.out or b.pipe.out):
                await asyncio.sleep(0)
                most, held = max(most, b.app.memory.held - held), b.app.memory.held
        assert not b.pipe.out, bytes(b.pipe.out[:300])
        return most, bytes(b.up_pipe.out).partition(b"\r\n\r\n")[2]

    return asyncio.run(main())


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_what_a_read_comes_to_is_made_in_turns_that_others_have_between(encoding: str) -> None:
    body = ASK[:-1] + b" " * (24 << 20) + b"}"
    most, got = stepwise(encoding, body)
    assert got == body
    assert encoding == "zstd" or most <= 4 << 20, "zlib takes 2.5 ms for a MiB"


def refused(b: Bench, request: bytes) -> tuple[bytes, Any]:
    client, pipe = b.connect()
    client.data_received(request)
    top, _, body = bytes(pipe.out).partition(b"\r\n\r\n")
    assert not b.up_pipe.out, "nothing of it reached a replica"
    return top, json.loads(body)["error"]["code"]


@pytest.mark.parametrize(
    "encoding", ["br", "deflate", "gzip, gzip", "zstd,gzip", "compress", "\xe9", "gzip;q=1"]
)
def test_what_is_not_understood_is_named(encoding: str) -> None:
    def script(b: Bench) -> None:
        request = post(ASK, b"Content-Encoding: " + encoding.encode("latin-1") + b"\r\n")
        top, code = refused(b, request)
        assert top.startswith(b"HTTP/1.1 415") and code == "unsupported_encoding"
        assert b"\r\naccept-encoding: gzip, zstd\r\n" in top and b"x-request-id" in top

    with_bench(script)


def test_no_encoding_and_no_body_are_no_matter() -> None:
    def script(b: Bench) -> None:
        b.client.data_received(post(ASK, b"Content-Encoding: identity\r\n"))
        assert b.sent_upstream()[1] == json.loads(ASK)
        client, pipe = b.connect()
        client.data_received(b"GET /health HTTP/1.1\r\nHost: g\r\nContent-Encoding: gzip\r\n\r\n")
        assert pipe.out.startswith(b"HTTP/1.1 200")

    with_bench(script)


BROKEN = {
    "cut gzip": ("gzip", gzip.compress(ASK)[:-4]),
    "cut zstd": ("zstd", zstd.compress(ASK)[:-2]),
    "plain": ("gzip", ASK),
    "plain zstd": ("zstd", ASK),
    "the other one": ("zstd", gzip.compress(ASK)),
    "damaged": ("gzip", gzip.compress(ASK)[:-8] + b"\0" * 8),
    "more behind it": ("gzip", gzip.compress(ASK) + b"x"),
    "two members": ("gzip", gzip.compress(ASK) * 2),
    "two frames": ("zstd", zstd.compress(ASK) * 2),
    "zlib": ("gzip", zlib.compress(ASK)),
    "a huge window": ("zstd", b"\x28\xb5\x2f\xfd\x00\xa0" + b"\0" * 20),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("step", [1 << 20, 1])
def test_a_body_that_is_not_what_it_claims_is_refused(name: str, step: int) -> None:
    def script(b: Bench) -> None:
        encoding, body = BROKEN[name]
        client, pipe = b.connect()
        whole = encoded(body, encoding)
        for at in range(0, len(whole), step):
            client.data_received(whole[at : at + step])
        assert pipe.out.startswith(b"HTTP/1.1 400") and b"invalid_encoding" in pipe.out and not b.up_pipe.out

    with_bench(script)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_bomb_is_refused_before_it_goes_off(encoding: str) -> None:
    bomb = PACK[encoding](b"\0" * (64 << 20))
    assert len(bomb) < 100_000

    def script(b: Bench) -> None:
        b.app.max_body = 1 << 20
        tracemalloc.start()
        try:
            top, code = refused(b, encoded(bomb, encoding))
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert top.startswith(b"HTTP/1.1 413") and code == "body_too_large" and most < 8 << 20

    with_bench(script)


def test_the_limit_is_of_what_a_body_stands_for() -> None:
    for encoding in (b"gzip", b"zstd"):
        exact = PACK[encoding.decode()](b"a" * 1000)
        assert BodyDecoder(encoding, 1000).feed(exact) == b"a" * 1000
        with pytest.raises(TooMuch):
            BodyDecoder(encoding, 999).feed(exact)


def test_clients_are_told_for_how_long_a_connection_is_kept() -> None:
    def script(b: Bench) -> None:
        b.client.data_received(b"GET /health HTTP/1.1\r\nHost: g\r\n\r\n")
        assert b"\r\nkeep-alive: timeout=615\r\n" in b.pipe.out and IDLE_S > 600
        now = b.app.loop.time()
        b.client.check(now + IDLE_S - 1)
        assert not b.pipe.closed
        b.client.check(now + IDLE_S + 1)
        assert b.pipe.closed
        client, pipe = b.connect()
        client.data_received(b"GET /health HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n")
        assert b"keep-alive" not in pipe.out

    with_bench(script)


async def test_the_idle_time_is_a_key_of_the_spec(start: Start, engine: FakeEngine) -> None:
    gateway = await start(
        engine, spec=SERVER_SPEC.replace('{resume: "off"', '{idleTimeout: 2s, resume: "off"')
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: g\r\n\r\n")
    answer = await within(reader.read(), 20)
    assert b"keep-alive: timeout=1\r\n" in answer, "and it was closed"
    writer.close()


def test_bodies_are_as_large_as_vllm_takes_them() -> None:
    fleet = parse_fleets(SERVER_SPEC)[0]
    assert fleet.spec.gateway.max_body == 32 * 2**20

"""Clients that lost their connection come again: same key, same bytes, from where they were."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.within import within

from seawall.gateway.tell import keyring

from .conftest import SPEC, FakeEngine, Gateway, split
from .waiting import until

KEEPS = SPEC.replace(
    "stallTimeout: 600ms, firstByteTimeout: 1s, queueTimeout: 2s", "queueTimeout: 1m, keepFor: 5m"
)


class Stream:
    """One client that reads as it likes, and may leave."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.head = b""
        self.body = bytearray()
        self.over = False

    async def begin(self) -> Stream:
        self.head = await within(self.reader.readuntil(b"\r\n\r\n"), 10)
        return self

    async def past(self, contains: bytes) -> None:
        """Until a chunk holds that, or the end comes."""
        last = b""
        while not self.over and contains not in last:
            last = await self._chunk()

    async def read(self) -> bytes:
        """To the end -> the whole body."""
        while not self.over:
            await self._chunk()
        return bytes(self.body)

    async def _chunk(self) -> bytes:
        size = int((await within(self.reader.readline(), 10)).strip() or b"-1", 16)
        if size < 0:
            raise ConnectionResetError("cut")
        data = (await self.reader.readexactly(size + 2))[:-2]
        self.over = size == 0
        self.body += data
        return data

    def leave(self) -> None:
        reset(self.writer)


def reset(writer: asyncio.StreamWriter) -> None:
    """As a network that is gone, but told at once."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def open_stream(
    gateway: Gateway, key: str, last: int | None = None, auth: str = "", **more: Any
) -> Stream:
    body = json.dumps({"model": "m", "prompt": "x", "stream": True, **more}).encode()
    extra = f"Last-Event-ID: {last}\r\n" if last is not None else ""
    extra += f"Authorization: Bearer {auth}\r\n" if auth else ""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(
        f"POST /v1/completions HTTP/1.1\r\nHost: g\r\nIdempotency-Key: {key}\r\n{extra}"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    return await Stream(reader, writer).begin()


def events(body: bytes) -> list[tuple[int, bytes]]:
    """(id, data) of each event."""
    found = []
    for event in body.split(b"\n\n"):
        if event.startswith(b"id: "):
            number, _, rest = event.partition(b"\n")
            found.append((int(number[4:]), rest.removeprefix(b"data: ")))
    return found


def generations(engine: FakeEngine) -> int:
    return sum(path == "/v1/completions" for path, _, _ in engine.log)


async def held(
    gateway: Gateway, engine: FakeEngine, key: str = "k", **more: Any
) -> tuple[Stream, asyncio.Event]:
    """A client that has the first event of a stream which waits for the gate."""
    engine.gate = asyncio.Event()
    stream = await open_stream(gateway, key, **more)
    await stream.past(b"t0")
    return stream, engine.gate


async def test_a_stream_without_a_key_keeps_its_bytes(start: Any, engine: FakeEngine) -> None:
    gateway = await start(engine, spec=KEEPS)
    _, _, plain = await gateway.complete(stream=True)
    assert b"id: " not in plain
    assert not gateway.server.app.fleets["m"].kept
    _, _, keyed = await gateway.post(
        "/v1/completions", {"model": "m", "prompt": "x", "stream": True}, Idempotency_Key="a"
    )
    assert [n for n, _ in events(keyed)] == list(range(6))
    assert b"".join(b"data: " + data + b"\n\n" for _, data in events(keyed)) == plain


async def test_who_comes_again_joins_the_running_stream_from_its_beginning(
    start: Any, engine: FakeEngine
) -> None:
    gateway = await start(engine, spec=KEEPS)
    first, gate = await held(gateway, engine)
    first.leave()
    again = await open_stream(gateway, "k")
    await again.past(b"t0")
    gate.set()
    body = await again.read()
    assert [n for n, _ in events(body)] == list(range(6))
    assert events(body)[-1][1] == b"[DONE]"
    assert generations(engine) == 1
    assert engine.cancelled == 0
    counts = await gateway.reconciled()
    assert (counts["finished_total"], counts["cancelled_total"]) == (1, 0)


async def test_the_answer_goes_on_without_a_client_and_is_read_later(start: Any, engine: FakeEngine) -> None:
    gateway = await start(engine, spec=KEEPS)
    first, gate = await held(gateway, engine)
    first.leave()
    await until(lambda: not gateway.server.app.clients)
    gate.set()
    kept = gateway.server.app.fleets["m"].kept
    await until(lambda: not kept.running)
    await engine.kill()
    again = await open_stream(gateway, "k")
    assert [n for n, _ in events(await again.read())] == list(range(6))


async def test_last_event_id_goes_on_behind_it(start: Any, engine: FakeEngine) -> None:
    gateway = await start(engine, spec=KEEPS)
    first, gate = await held(gateway, engine)
    first.leave()
    again = await open_stream(gateway, "k", last=0)
    gate.set()
    assert [n for n, _ in events(await again.read())] == [1, 2, 3, 4, 5]
    done = await open_stream(gateway, "k", last=5)
    assert events(await done.read()) == []
    status, _, body = await again_post(gateway, "k", last="6")
    assert (status, json.loads(body)["error"]["code"]) == (400, "invalid_last_event_id")
    for wrong in ("x", "-1", "1" * 20):
        assert (await again_post(gateway, "k", last=wrong))[0] == 400


async def again_post(
    gateway: Gateway, key: str, last: str = "", path: str = "/v1/completions", **more: Any
) -> tuple[int, dict[str, str], bytes]:
    headers = {"Last_Event_ID": last} if last else {}
    return await gateway.post(
        path, {"model": "m", "prompt": "x", "stream": True, **more}, Idempotency_Key=key, **headers
    )


async def test_two_clients_read_one_stream(start: Any, engine: FakeEngine) -> None:
    gateway = await start(engine, spec=KEEPS)
    first, gate = await held(gateway, engine)
    second = await open_stream(gateway, "k")
    gate.set()
    assert await first.read() == await second.read()
    assert generations(engine) == 1
    status, _, _ = await again_post(gateway, '"k"')
    assert status == 200, "in quotes, as the draft writes it"
    assert generations(engine) == 1


async def test_another_request_under_the_same_key_is_refused(start: Any, engine: FakeEngine) -> None:
    gateway = await start(engine, spec=KEEPS)
    await again_post(gateway, "k")
    status, _, body = await again_post(gateway, "k", max_tokens=9)
    error = json.loads(body)["error"]
    assert (status, error["code"]) == (422, "idempotency_key_reused")
    assert "Idempotency-Key is already used" in error["message"]
    assert (await again_post(gateway, "k", path="/v1/chat/completions"))[0] == 422
    for key in ("", "x" * 256, "ä"):
        assert (await again_post(gateway, key))[0] == 400


async def test_whole_answers_are_kept_too(start: Any, engine: FakeEngine) -> None:
    gateway = await start(engine, spec=KEEPS)
    for more in ({"max_tokens": 5}, {"max_tokens": 5000}):  # given whole by the engine, and put together here
        engine.gate = asyncio.Event()
        body = json.dumps({"model": "m", "prompt": "x", **more}).encode()
        key = f"k{more['max_tokens']}"
        head = f"POST /v1/completions HTTP/1.1\r\nHost: g\r\nIdempotency-Key: {key}\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        before = generations(engine)
        writer.write(head.encode() + body)
        await until(lambda n=before: generations(engine) == n + 1)
        reset(writer)
        await until(lambda: not gateway.server.app.clients)
        engine.gate.set()
        status, headers, answer = await gateway.post(
            "/v1/completions", {"model": "m", "prompt": "x", **more}, Idempotency_Key=key
        )
        assert (status, headers["content-type"]) == (200, "application/json")
        assert json.loads(answer)["choices"][0]["finish_reason"] == "stop"
        assert generations(engine) == before + 1
        assert engine.cancelled == 0


async def test_a_tenant_sees_only_its_own(start: Any, engine: FakeEngine, tmp_path: Any) -> None:
    secrets = {}
    for tenant in ("a", "b"):
        secrets[tenant], key = keyring.make(tenant)
        keyring.change(tmp_path / "keys.json", add=key)
    gateway = await start(engine, spec=KEEPS, keys=tmp_path / "keys.json")
    first, gate = await held(gateway, engine, auth=secrets["a"])
    theirs = await open_stream(gateway, "k", auth=secrets["b"])
    await theirs.past(b"t0")
    assert generations(engine) == 2, "another tenant's key of the same name is another key"
    gate.set()
    assert len(events(await first.read())) == len(events(await theirs.read())) == 6
    _, _, body = await again_post(gateway, "k")
    assert json.loads(body)["error"]["code"] == "invalid_api_key"


async def test_refusals_and_failures_are_not_kept(start: Any, engine: FakeEngine) -> None:
    gateway = await start(engine, spec=KEEPS)
    engine.faults = ["400"]
    assert (await again_post(gateway, "k", stream=False, max_tokens=5))[0] == 400
    assert (await again_post(gateway, "k", stream=False, max_tokens=5))[0] == 200
    engine.faults = ["cut_after_2"]
    _, headers, body = await again_post(gateway, "s")
    assert headers["cut"] == "True"
    assert b'"upstream_lost"' in body
    status, _, body = await again_post(gateway, "s", last="1")
    assert (status, json.loads(body)["error"]["code"]) == (410, "not_kept")
    _, headers, body = await again_post(gateway, "s")
    assert headers["cut"] == "False"
    assert events(body)[-1][1] == b"[DONE]"


async def test_what_is_not_kept_any_more_is_said(start: Any, engine: FakeEngine) -> None:
    gateway = await start(engine, spec=KEEPS.replace("keepFor: 5m", "keepFor: 20ms"))
    await again_post(gateway, "k")
    kept = gateway.server.app.fleets["m"].kept
    await until(lambda: not len(kept))
    status, _, body = await again_post(gateway, "k", last="2")
    assert (status, json.loads(body)["error"]["code"]) == (410, "not_kept")
    assert (await again_post(gateway, "k"))[0] == 200
    assert generations(engine) == 2


async def test_without_keeping_the_header_means_nothing(start: Any, engine: FakeEngine) -> None:
    gateway = await start(engine, spec=KEEPS.replace("keepFor: 5m", "keepFor: 0s"))
    for _ in range(2):
        _, _, body = await again_post(gateway, "k")
        assert b"id: " not in body
    assert generations(engine) == 2


async def test_a_thousand_kept_answers_stay_within_the_bound(start: Any, engine: FakeEngine) -> None:
    gateway = await start(engine, spec=KEEPS.replace("keepFor: 5m", "keepFor: 5m, keepMemory: 200k"))
    kept = gateway.server.app.fleets["m"].kept
    body = json.dumps({"model": "m", "prompt": "x", "max_tokens": 5}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    for i in range(1000):
        writer.write(
            b"POST /v1/completions HTTP/1.1\r\nHost: g\r\nIdempotency-Key: %d\r\nContent-Length: %d\r\n\r\n%b"
            % (i, len(body), body)
        )
        head = await within(reader.readuntil(b"\r\n\r\n"), 10)
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(size)
        assert kept.held <= 200_000
    writer.close()
    assert 100 < len(kept) < 200
    before = generations(engine)
    await again_post(gateway, "999", stream=False, max_tokens=5)
    status, _, _ = await gateway.post("/v1/completions", body, Idempotency_Key="999")
    assert status == 200
    assert generations(engine) == before, "the last one is still there"
    await gateway.post("/v1/completions", body, Idempotency_Key="0")
    assert generations(engine) == before + 1, "the first one is not"


SMALL = KEEPS.replace("keepFor: 5m", "keepFor: 5m, keepMemory: 400k")


async def test_an_answer_that_nobody_reads_ends_at_the_bound_and_says_so(
    start: Any, engine: FakeEngine
) -> None:
    gateway = await start(engine, spec=SMALL)
    engine.pad, engine.tokens = "y" * 5000, 400
    first, gate = await held(gateway, engine)
    first.leave()
    await until(lambda: not gateway.server.app.clients)
    gate.set()
    kept = gateway.server.app.fleets["m"].kept
    await until(lambda: not kept.running)
    assert kept.held <= 100_000
    await until(lambda: not engine.open)
    again = await open_stream(gateway, "k")
    with contextlib.suppress(ConnectionResetError, asyncio.IncompleteReadError):
        await again.read()
    got = events(bytes(again.body))
    assert [n for n, _ in got] == list(range(len(got)))
    assert len(got) > 10
    assert json.loads(got[-1][1])["error"]["code"] == "record_full"
    assert not again.over, "no client takes it for whole"
    counts = await gateway.reconciled()
    assert counts["failed_total"] == 1


async def test_a_slow_reader_slows_the_engine_and_gets_everything(start: Any, engine: FakeEngine) -> None:
    gateway = await start(engine, spec=SMALL)
    engine.pad, engine.tokens = "y" * 20_000, 400
    first, gate = await held(gateway, engine)
    gate.set()
    kept = gateway.server.app.fleets["m"].kept
    record = kept.running[0]
    await until(lambda: record.first > 0, 20)
    most, n = 0, 0
    while not first.over:
        n += 1
        await first.past(b"t%d " % n)
        most = max(most, kept.held)
    assert most <= 100_000 + 2 * 21_000
    assert [n for n, _ in events(bytes(first.body))] == list(range(401))
    status, _, body = await again_post(gateway, "k", last="0")
    assert (status, json.loads(body)["error"]["code"]) == (410, "not_kept"), "its beginning was let go"
    engine.pad = ""
    assert (await again_post(gateway, "k"))[0] == 200, "from its beginning it begins anew"
    assert generations(engine) == 2


async def test_an_answer_larger_than_the_bound_still_reaches_its_client(
    start: Any, engine: FakeEngine
) -> None:
    gateway = await start(engine, spec=KEEPS.replace("keepFor: 5m", "keepFor: 5m, keepMemory: 1k"))
    for _ in range(2):
        status, _, answer = await again_post(gateway, "k", stream=False, max_tokens=5)
        assert status == 200
        assert json.loads(answer)["choices"]
        _, headers, body = await again_post(gateway, "s")
        assert headers["cut"] == "False"
        assert len(events(body)) == 6


async def test_a_drain_waits_for_readers_and_not_for_nobody(start: Any, engine: FakeEngine) -> None:
    gateway = await start(engine, spec=KEEPS, grace_s=30)
    stays, gate = await held(gateway, engine, "stays")
    leaves, _ = await held(gateway, engine, "leaves")
    leaves.leave()
    await until(lambda: len(gateway.server.app.clients) == 1)
    gateway.server.stop()
    await until(lambda: gateway.server.app.closing)
    kept = gateway.server.app.fleets["m"].kept
    assert len(kept.running) == 2, "while others are here somebody may come on a connection that is open"
    gate.set()
    await stays.read()
    stays.leave()
    assert await within(gateway.task, 10) == 0
    assert not kept.running


async def test_a_request_that_waits_in_the_queue_is_joined(start: Any, engine: FakeEngine) -> None:
    gateway = await start(engine, spec=KEEPS.replace("keepFor: 5m", "keepFor: 5m, maxInFlight: 1"))
    first, gate = await held(gateway, engine, "a")
    posts = [asyncio.ensure_future(again_post(gateway, "b")) for _ in range(2)]
    fleet = gateway.server.app.fleets["m"]
    await until(lambda: fleet.stats.reattached == 1)
    gate.set()
    await first.read()
    bodies = [body for _, _, body in await asyncio.gather(*posts)]
    assert bodies[0] == bodies[1]
    assert len(events(bodies[0])) == 6
    assert generations(engine) == 2


async def test_a_refused_request_leaves_its_key_free(start: Any, engine: FakeEngine) -> None:
    gateway = await start(
        engine, spec=KEEPS.replace("keepFor: 5m", "keepFor: 5m, maxInFlight: 1, maxQueued: 1")
    )
    first, gate = await held(gateway, engine, "a")
    waits = asyncio.ensure_future(again_post(gateway, "b"))
    fleet = gateway.server.app.fleets["m"]
    await until(lambda: fleet.admission.queued == 1)
    status, headers, _ = await again_post(gateway, "c")
    assert (status, "retry-after" in headers) == (429, True)
    gate.set()
    await first.read()
    await waits
    assert (await again_post(gateway, "c"))[0] == 200


async def test_keep_alive_goes_on_behind_a_kept_answer(start: Any, engine: FakeEngine) -> None:
    gateway = await start(engine, spec=KEEPS)
    body = json.dumps({"model": "m", "prompt": "x", "stream": True}).encode()
    one = b"POST /v1/completions HTTP/1.1\r\nHost: g\r\nIdempotency-Key: k\r\nContent-Length: %d\r\n" % len(
        body
    )
    answer = await gateway.raw(one + b"\r\n" + body + one + b"Connection: close\r\n\r\n" + body)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.count(b"[DONE]") == 2
    assert generations(engine) == 1
    assert split(answer)[0] == 200


async def test_the_openai_clients_own_retry_joins(start: Any, engine: FakeEngine) -> None:
    import openai

    gateway = await start(engine, spec=KEEPS)
    engine.gate = asyncio.Event()
    fleet = gateway.server.app.fleets["m"]
    breaks = [True]

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A proxy that loses the first connection as soon as the engine has the request."""
        up, down = await asyncio.open_connection("127.0.0.1", gateway.port)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    sink.write(data)
            sink.close()

        both = [asyncio.ensure_future(copy(reader, down)), asyncio.ensure_future(copy(up, writer))]
        if breaks and breaks.pop():
            await until(lambda: len(engine.log) == 1)
            reset(writer)
            reset(down)
        await asyncio.gather(*both)

    async with await asyncio.start_server(pass_on, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        client = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=3)
        asked = asyncio.ensure_future(
            client.chat.completions.create(
                model="m",
                messages=[{"role": "user", "content": "x"}],
                max_tokens=5,
                extra_headers={"Idempotency-Key": "8e03978e"},
            )
        )
        await until(lambda: fleet.stats.reattached == 1, 20)
        engine.gate.set()
        assert (await asked).choices[0].message.content == "hello"
        await client.close()
    assert len(engine.log) == 1


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    async with FakeEngine("a") as e:
        yield e

"""Coming up, going down, clients that leave, clients that do not read."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from tests.unit.gateway.waiting import until

from seawall.gateway.edge.caller import SLACK


async def test_a_client_that_leaves_frees_the_replica(start: Any, engine: Any) -> None:
    gateway = await start(engine)
    engine.gate = asyncio.Event()
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    body = b'{"model":"m","prompt":"x"}'
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: g\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await until(lambda: engine.open == 1)
    writer.transport.abort()
    await until(lambda: engine.cancelled == 1)
    f = await gateway.reconciled()
    assert f["cancelled_total"] == 1 and f["pending"] == 0 and f["in_flight"] == 0


async def test_requests_over_the_cap_wait_in_order_and_over_the_bound_get_429(
    start: Any, engine: Any, spec: str
) -> None:
    gateway = await start(engine, spec=spec.replace("firstByteTimeout: 1s", "maxInFlight: 2, maxQueued: 3"))
    engine.gate = asyncio.Event()
    asked = [asyncio.ensure_future(gateway.complete()) for _ in range(9)]
    await until(lambda: sum(t.done() for t in asked) == 4)
    await until(lambda: engine.open == 2)
    refused = [t.result() for t in asked if t.done()]
    assert {r[0] for r in refused} == {429} and all(int(r[1]["retry-after"]) >= 1 for r in refused)
    f = await gateway.reconciled()
    assert (f["in_flight"], f["queued"], f["rejected_total"], f["admitted_total"]) == (2, 3, 4, 5)
    engine.gate.set()
    assert sorted([(await t)[0] for t in asked]) == [200] * 5 + [429] * 4
    f = await gateway.reconciled()
    assert f["pending"] == 0 and f["finished_total"] == 5


async def test_discovery_changes_are_followed_and_a_broken_document_changes_nothing(
    start: Any, engine: Any, other: Any, tmp_path: Path
) -> None:
    file = tmp_path / "replicas.json"

    def write(*urls: str) -> None:
        new = tmp_path / "new"
        replicas = [{"name": f"m-{u[-5:]}", "fleet": "m", "url": u} for u in urls]
        new.write_text(json.dumps({"version": 1, "replicas": replicas}))
        new.rename(file)

    gateway = await start(discovery=f"file:{file}")
    asked = asyncio.ensure_future(gateway.complete())
    await asyncio.sleep(0.1)
    assert not asked.done(), "held while the fleet has no replica"
    write(engine.url)
    assert (await asked)[0] == 200
    file.write_text('{"replicas": [')
    await asyncio.sleep(0.1)
    assert (await gateway.complete())[0] == 200
    write(other.url)
    await until(lambda: next(iter(gateway.server.app.fleets["m"].targets)).replica.url == other.url)
    assert b'"replica":"b"' in (await gateway.complete())[2]


async def test_a_stop_finishes_what_runs_and_refuses_new_connections(start: Any, engine: Any) -> None:
    gateway = await start(engine)
    engine.gate = asyncio.Event()
    asked = asyncio.ensure_future(gateway.complete(stream=True))
    await until(lambda: engine.open == 1)
    gateway.server.stop()
    await until(lambda: gateway.server.app.closing)
    await asyncio.sleep(0.1)
    assert (await gateway.get("/readyz", admin=True))[0] == 503
    assert (await gateway.state())["draining"] is True
    try:
        await asyncio.open_connection("127.0.0.1", gateway.port)
        raise AssertionError("it still listens")
    except ConnectionRefusedError:
        pass
    engine.gate.set()
    status, headers, body = await asked
    assert status == 200 and headers["cut"] == "False" and b"[DONE]" in body
    assert await gateway.task == 0


async def test_a_client_between_two_requests_is_answered_while_the_gateway_drains(
    start: Any, engine: Any
) -> None:
    gateway = await start(engine)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    body = b'{"model":"m","prompt":"x"}'
    request = b"POST /v1/completions HTTP/1.1\r\nHost: g\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    for last in (False, True):
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200")
        assert (b"connection: close" in head) is last
        await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
        if not last:
            gateway.server.stop()
            await asyncio.sleep(0.1)
    assert await reader.read() == b""
    assert await gateway.task == 0


async def test_a_slow_reader_stops_the_replica_instead_of_filling_memory(start: Any, engine: Any) -> None:
    gateway = await start(engine)
    engine.tokens, engine.pad = 20_000, "x" * 4000
    _reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
    body = b'{"model":"m","prompt":"x","stream":true}'
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: g\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await until(lambda: any(c.full for c in gateway.server.app.clients), 20)
    client = next(c for c in gateway.server.app.clients if c.full)
    await asyncio.sleep(1.0)  # longer than stallTimeout
    assert client.transport.get_write_buffer_size() < SLACK + 512 * 1024
    f = await gateway.reconciled()
    assert f["in_flight"] == 1, "a client that reads slowly is not a hang"
    writer.transport.abort()
    await until(lambda: engine.open == 0)


async def test_pipelined_requests_are_answered_in_order_on_one_connection(start: Any, engine: Any) -> None:
    gateway = await start(engine)
    one = b"GET /v1/models HTTP/1.1\r\nHost: g\r\n\r\n"
    body = b'{"model":"m","prompt":"x"}'
    two = b"POST /v1/completions HTTP/1.1\r\nHost: g\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    last = b"GET /v1/models/m HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n"
    answer = await gateway.raw(one + two + two + last)
    assert answer.count(b"HTTP/1.1 200 OK") == 4
    kinds = [b'"object":"list"', b'"replica"', b'"replica"', b'"owned_by":"seawall"']
    at = -1
    for kind in kinds:
        at = answer.find(kind, at + 1)
        assert at > 0

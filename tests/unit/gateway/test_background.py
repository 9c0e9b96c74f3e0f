"""Responses that run in the background, and are found, read on, cancelled and deleted by their ids."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.within import within

from seawall.gateway.tell import keyring

from .conftest import FakeEngine, Gateway, split
from .test_real_clients import sim
from .test_reattach import KEEPS
from .waiting import until


class Answers(FakeEngine):
    """Gives responses: their first events at once, the rest when the gate opens."""

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: dict[str, Any]
    ) -> None:
        if "input" not in data or self.faults:
            return await super()._answer(reader, writer, data)
        response = {
            "id": data.get("request_id", "resp_engine"), "object": "response", "background": False, "model": "m",
            "created_at": 1, "status": "in_progress", "output": [], "parallel_tool_calls": True,
            "tool_choice": "auto", "tools": [],
        }  # fmt: skip
        if not data.get("stream"):
            if self.gate is not None:
                await self._or_gone(reader, self.gate.wait())
            return self._json(writer, 200, {**response, "status": "completed", "output": ["whole"]})
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        kinds = ["response.created", "response.in_progress"]
        docs = [{"type": kind, "response": response} for kind in kinds]
        place = {"output_index": 0, "content_index": 0, "item_id": "i"}
        docs += [
            {"type": "response.output_text.delta", "delta": f"t{i} ", **place} for i in range(self.tokens)
        ]
        done = {**response, "status": "completed", "output": ["said"]}
        docs.append({"type": "response.completed", "response": done})
        for n, doc in enumerate(docs):
            if self.gate is not None and n == 3:
                await self._or_gone(reader, self.gate.wait())
            event = f"event: {doc['type']}\ndata: {json.dumps({**doc, 'sequence_number': n})}\n\n"
            self._chunk(writer, event.encode())
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        return None


@pytest.fixture
async def engine() -> AsyncIterator[Answers]:
    async with Answers("a") as e:
        yield e


async def call(
    gateway: Gateway, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, dict[str, str], Any]:
    data = b"" if body is None else json.dumps(body).encode()
    lines = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in headers.items())
    top = f"{method} {path} HTTP/1.1\r\nHost: g\r\nContent-Length: {len(data)}\r\n{lines}Connection: close\r\n\r\n"
    status, got, answer = split(await gateway.raw(top.encode() + data))
    return status, got, answer if got.get("cut") else json.loads(answer)


ASK = {"model": "m", "input": "x", "background": True, "metadata": {"a": "b"}}


def documents(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(e.partition(b"data: ")[2]) for e in body.split(b"\n\n") if b"data: " in e]


async def test_a_response_in_the_background_runs_without_a_client(start: Any, engine: Answers) -> None:
    gateway = await start(engine, spec=KEEPS)
    engine.gate = asyncio.Event()
    status, _, queued = await call(gateway, "POST", "/v1/responses", ASK)
    assert (status, queued["status"], queued["background"]) == (200, "queued", True)
    assert (queued["object"], queued["metadata"], queued["output"]) == ("response", {"a": "b"}, [])
    path = f"/v1/responses/{queued['id']}"
    record = gateway.server.app.fleets["m"].kept.running[0]
    await until(lambda: record.count > 2)
    assert (await call(gateway, "GET", path))[2]["status"] == "in_progress"
    engine.gate.set()
    await until(lambda: not gateway.server.app.fleets["m"].kept.running)
    status, _, done = await call(gateway, "GET", path)
    assert (status, done["status"], done["output"]) == (200, "completed", ["said"])
    assert (done["id"], done["background"]) == (queued["id"], True)
    asked = engine.log[-1][2]
    assert ("background" in asked, asked["stream"], asked["request_id"]) == (False, True, queued["id"])


async def test_its_stream_is_read_from_behind_any_event(start: Any, engine: Answers) -> None:
    gateway = await start(engine, spec=KEEPS)
    status, headers, body = await call(gateway, "POST", "/v1/responses", {**ASK, "stream": True})
    docs = documents(body)
    assert (status, headers["cut"]) == (200, "False")
    assert [d["sequence_number"] for d in docs] == list(range(len(docs)))
    assert [d["type"] for d in docs[:3]] == ["response.created", "response.queued", "response.in_progress"]
    assert docs[-1]["type"] == "response.completed"
    assert b"id: " not in body
    path = f"/v1/responses/{docs[0]['response']['id']}?stream=true"
    for after in (-1, 0, 3, len(docs) - 1):
        _, _, again = await call(gateway, "GET", f"{path}&starting_after={after}")
        assert documents(again) == docs[after + 1 :]
    for wrong in ("x", "99", "1" * 20):
        assert (await call(gateway, "GET", f"{path}&starting_after={wrong}"))[0] == 400
    assert documents((await call(gateway, "GET", path))[2]) == docs
    assert len(engine.log) == 1


async def test_the_client_of_a_background_stream_may_leave(start: Any, engine: Answers) -> None:
    gateway = await start(engine, spec=KEEPS)
    engine.gate = asyncio.Event()
    data = json.dumps({**ASK, "stream": True}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"POST /v1/responses HTTP/1.1\r\nHost: g\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
    seen = await within(reader.readuntil(b"response.queued"), 10)
    writer.transport.abort()
    id = "resp_" + seen.partition(b'"resp_')[2].partition(b'"')[0].decode()
    engine.gate.set()
    _, _, body = await call(gateway, "GET", f"/v1/responses/{id}?stream=true&starting_after=1")
    assert documents(body)[-1]["response"]["status"] == "completed"
    assert engine.cancelled == 0


async def test_cancel_stops_the_engine(start: Any, engine: Answers) -> None:
    gateway = await start(engine, spec=KEEPS)
    engine.gate = asyncio.Event()
    queued = (await call(gateway, "POST", "/v1/responses", ASK))[2]
    path = f"/v1/responses/{queued['id']}"
    reading = asyncio.ensure_future(call(gateway, "GET", path + "?stream=true"))
    record = gateway.server.app.fleets["m"].kept.running[0]
    await until(lambda: record.count > 3 and record.followed)
    status, _, cancelled = await call(gateway, "POST", path + "/cancel")
    assert (status, cancelled["status"]) == (200, "cancelled")
    await until(lambda: engine.cancelled == 1)
    _, headers, body = await reading
    assert documents(body)[-1]["type"] == "response.cancelled"
    assert headers["cut"] == "False"
    assert (await call(gateway, "GET", path))[2]["status"] == "cancelled"
    assert (await call(gateway, "POST", path + "/cancel"))[2]["status"] == "cancelled", "twice is once"
    assert (await gateway.reconciled())["cancelled_total"] == 1
    engine.gate.set()
    done = (await call(gateway, "POST", "/v1/responses", ASK))[2]
    await until(lambda: not gateway.server.app.fleets["m"].kept.running)
    late = await call(gateway, "POST", f"/v1/responses/{done['id']}/cancel")
    assert (late[0], late[2]["status"]) == (200, "completed")


async def test_a_response_is_its_tenants_and_can_be_deleted(
    start: Any, engine: Answers, tmp_path: Path
) -> None:
    auth = {}
    for tenant in ("a", "b"):
        secret, key = keyring.make(tenant)
        keyring.change(tmp_path / "keys.json", add=key)
        auth[tenant] = f"Bearer {secret}"
    gateway = await start(engine, spec=KEEPS, keys=tmp_path / "keys.json")
    queued = (await call(gateway, "POST", "/v1/responses", ASK, Authorization=auth["a"]))[2]
    path = f"/v1/responses/{queued['id']}"
    for method, at in (
        ("GET", path),
        ("GET", path + "?stream=true"),
        ("POST", path + "/cancel"),
        ("DELETE", path),
    ):
        status, _, body = await call(gateway, method, at, Authorization=auth["b"])
        assert (status, body["error"]["code"]) == (404, "response_not_found"), (method, at)
        assert (await call(gateway, method, at))[0] == 401
    assert (await call(gateway, "GET", path, Authorization=auth["a"]))[0] == 200
    status, _, gone = await call(gateway, "DELETE", path, Authorization=auth["a"])
    assert (status, gone["deleted"]) == (200, True)
    assert (await call(gateway, "GET", path, Authorization=auth["a"]))[0] == 404
    assert (await call(gateway, "PUT", path, Authorization=auth["a"]))[0] in (404, 405)


async def test_what_fails_says_so_by_its_status(start: Any, engine: Answers) -> None:
    gateway = await start(engine, spec=KEEPS)
    engine.faults = ["400"]
    queued = (await call(gateway, "POST", "/v1/responses", ASK))[2]
    path = f"/v1/responses/{queued['id']}"
    await until(lambda: not gateway.server.app.fleets["m"].kept.running)
    failed = (await call(gateway, "GET", path))[2]
    assert (failed["status"], "bad" in failed["error"]["message"]) == ("failed", True)
    _, headers, body = await call(gateway, "GET", path + "?stream=true")
    assert (documents(body)[-1]["type"], headers["cut"]) == ("response.failed", "False")
    status, _, body = await call(gateway, "POST", "/v1/responses", {**ASK, "store": False})
    assert (status, body["error"]["param"]) == (400, "background")


async def test_with_tools_the_engine_answers_whole(start: Any, engine: Answers) -> None:
    gateway = await start(engine, spec=KEEPS)
    queued = (
        await call(gateway, "POST", "/v1/responses", {**ASK, "tools": [{"type": "function", "name": "f"}]})
    )[2]
    await until(lambda: not gateway.server.app.fleets["m"].kept.running)
    path = f"/v1/responses/{queued['id']}"
    done = (await call(gateway, "GET", path))[2]
    assert (done["output"], done["background"], engine.log[-1][2].get("stream")) == (["whole"], True, None)
    docs = documents((await call(gateway, "GET", path + "?stream=true"))[2])
    assert [d["type"].partition(".")[2] for d in docs] == ["created", "queued", "completed"]


async def test_a_background_request_with_a_key_is_one(start: Any, engine: Answers) -> None:
    gateway = await start(engine, spec=KEEPS)
    both = [await call(gateway, "POST", "/v1/responses", ASK, Idempotency_Key="k") for _ in range(2)]
    assert both[0][2]["id"] == both[1][2]["id"]
    await until(lambda: not gateway.server.app.fleets["m"].kept.running)
    assert len(engine.log) == 1


async def test_a_response_with_a_key_is_found_by_its_id(start: Any, engine: Answers) -> None:
    gateway = await start(engine, spec=KEEPS)
    plain = {"model": "m", "input": "x", "stream": True}
    _, _, body = await call(gateway, "POST", "/v1/responses", plain, Idempotency_Key="k")
    docs = documents(body)
    assert body.count(b"id: ") >= len(docs)
    path = f"/v1/responses/{docs[0]['response']['id']}"
    _, _, rest = await call(gateway, "GET", path + "?stream=true&starting_after=2")
    assert documents(rest) == docs[3:]
    assert (await call(gateway, "GET", path))[2]["status"] == "completed"
    assert (await call(gateway, "POST", path + "/cancel"))[0] == 400


async def test_a_full_fleet_refuses_at_once(start: Any, engine: Answers) -> None:
    spec = KEEPS.replace("keepFor: 5m", "keepFor: 5m, maxInFlight: 1, maxQueued: 1")
    gateway = await start(engine, spec=spec)
    engine.gate = asyncio.Event()
    got = [await call(gateway, "POST", "/v1/responses", ASK) for _ in range(3)]
    assert [status for status, _, _ in got] == [200, 200, 429]
    assert "retry-after" in got[2][1]
    kept = gateway.server.app.fleets["m"].kept
    assert len(kept) == 2
    engine.gate.set()
    await until(lambda: not kept.running)


async def test_the_openai_client_works_in_the_background(start: Any) -> None:
    import openai

    process, url = await sim(0, "--sim-step", "0.01")
    try:
        gateway = await start(url, spec=KEEPS)
        client = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=30)
        made = await client.responses.create(model="m", input="a", background=True, max_output_tokens=40)
        assert made.status == "queued"
        stream = await client.responses.create(
            model="m", input="a", background=True, stream=True, max_output_tokens=40, temperature=0
        )
        seen, id = [], ""
        async for event in stream:
            seen.append(event)
            id = event.response.id if event.type == "response.created" else id
            if event.sequence_number == 10:
                await stream.close()
                break
        rest = await client.responses.retrieve(id, stream=True, starting_after=10)
        async for event in rest:
            seen.append(event)
        assert [e.sequence_number for e in seen] == list(range(len(seen)))
        text = "".join(e.delta for e in seen if e.type == "response.output_text.delta")
        assert text == seen[-1].response.output_text
        while (now := await client.responses.retrieve(made.id)).status in ("queued", "in_progress"):
            await asyncio.sleep(0.02)
        assert now.status in ("completed", "incomplete")
        assert now.output_text
        await client.responses.delete(made.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(made.id)
        long = await client.responses.create(model="m", input="a", background=True, max_output_tokens=4000)
        assert (await client.responses.cancel(long.id)).status == "cancelled"
        await client.close()
    finally:
        process.kill()
        await process.wait()

"""A gateway is killed: responses go on as chats do; a client with a key, whose record is lost, gets nothing wrong."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from .keepers import kept_gateway, kill
from .test_background import Answers, documents
from .test_reattach import Stream, events
from .waiting import until


async def opened(port: int, path: str, body: dict[str, object], extra: str = "") -> Stream:
    data = json.dumps({"model": "m", "stream": True, "temperature": 0, **body}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    top = f"POST {path} HTTP/1.1\r\nHost: g\r\n{extra}Content-Length: {len(data)}\r\n\r\n"
    writer.write(top.encode() + data)
    return await Stream(reader, writer).begin()


async def test_the_stream_of_a_response_goes_on_through_a_kill(tmp_path: Path) -> None:
    async with Answers("a") as engine, kept_gateway(tmp_path, engine) as (gateway, _):
        engine.gate = asyncio.Event()
        stream = await opened(gateway.port, "/v1/responses", {"input": "x"})
        await stream.past(b"t0")
        await kill(gateway)
        await until(lambda: len(engine.log) == 2, 30)
        engine.gate.set()
        docs = documents(await stream.read())
        assert [d["sequence_number"] for d in docs] == list(range(len(docs)))
        assert docs[-1]["type"] == "response.completed"


async def test_a_client_with_a_key_is_cut_and_begins_anew(tmp_path: Path) -> None:
    async with Answers("a") as engine, kept_gateway(tmp_path, engine) as (gateway, _):
        engine.gate = asyncio.Event()
        key = "Idempotency-Key: k\r\n"
        stream = await opened(gateway.port, "/v1/completions", {"prompt": "x"}, key)
        await stream.past(b"t0")
        await kill(gateway)
        engine.gate.set()
        rest = await asyncio.wait_for(stream.reader.read(), 30)
        assert rest == b""
        again = await opened(gateway.port, "/v1/completions", {"prompt": "x"}, key)
        assert [n for n, _ in events(await again.read())] == list(range(6))

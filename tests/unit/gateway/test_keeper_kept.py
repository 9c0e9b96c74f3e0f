"""A gateway is killed: responses go on as chats do; a client with a key is cut, and joins its answer again
(more of that in test_kept_kill.py). One whose connection cannot be kept is cut, counted, and answered whole when it
comes again."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.within import within

from .keepers import SPEC, kept_gateway, kill
from .test_background import Answers, documents
from .test_keeper import metric
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


async def test_a_client_with_a_key_is_cut_and_joins_its_answer(tmp_path: Path) -> None:
    async with Answers("a") as engine, kept_gateway(tmp_path, engine) as (gateway, _):
        engine.gate = asyncio.Event()
        key = "Idempotency-Key: k\r\n"
        stream = await opened(gateway.port, "/v1/completions", {"prompt": "x"}, key)
        await stream.past(b"t0")
        await kill(gateway)
        await until(lambda: len(engine.log) == 2, 30)
        engine.gate.set()
        rest = await within(stream.reader.read(), 30)
        assert rest == b""
        again = await opened(gateway.port, "/v1/completions", {"prompt": "x"}, key)
        assert [n for n, _ in events(await again.read())] == list(range(6))
        assert len(engine.log) == 2, "it is not asked for a third time"


@pytest.mark.parametrize(
    ("tls", "http2", "why"), [(True, False, "tls"), (True, True, "tls"), (False, True, "http2")]
)
async def test_a_connection_that_cannot_be_kept_is_counted_and_its_client_comes_again(
    tmp_path: Path, certificate: Any, tls: bool, http2: bool, why: str
) -> None:
    cert, key = certificate
    more = ("--tls-cert", str(cert), "--tls-key", str(key)) if tls else ()
    ask = {"model": "m", "prompt": "x", "stream": True}
    named = {"Idempotency-Key": "k"}
    unkept = f'seawall_unkept_connections_total{{why="{why}"}}'
    async with Answers("a") as engine, kept_gateway(tmp_path, engine, SPEC, *more) as (gateway, _):
        url = f"http{'s' if tls else ''}://127.0.0.1:{gateway.port}/v1/completions"
        trust = ssl.create_default_context(cafile=str(cert)) if tls else False
        if isinstance(trust, ssl.SSLContext):
            trust.check_hostname = False
        engine.gate = asyncio.Event()
        async with httpx2.AsyncClient(verify=trust, http1=not http2, http2=http2, timeout=60) as client:
            with pytest.raises(httpx2.TransportError):
                async with client.stream("POST", url, json=ask, headers=named) as cut:
                    parts = cut.aiter_text()
                    first = await anext(parts)
                    assert (cut.http_version == "HTTP/2") is http2
                    assert await metric(gateway, unkept) == 1  # what was told outlives who told it
                    await kill(gateway)
                    assert "".join([first] + [part async for part in parts]).endswith("[DONE]\n\n")
            engine.gate.set()
            whole = await client.post(url, json=ask, headers=named)
        assert whole.status_code == 200 and [n for n, _ in events(whole.content)] == list(range(6))
        assert events(whole.content)[-1][1] == b"[DONE]"
        page = (await gateway.get("/metrics")).decode()
        assert f'seawall_carried_connections_lost_total{{why="{why}"}} 1' in page
        assert await metric(gateway, unkept) == 2  # the one that was cut, and the one that came again

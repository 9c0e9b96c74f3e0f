"""Clients that others have made speak HTTP/2 with the gateway: httpx2 and curl, over TLS and by prior knowledge."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from tests.unit.gateway.conftest import FakeEngine, Gateway, Start

ASK = {"model": "m", "prompt": "x"}
LIMITS = httpx2.Limits(max_connections=1)
HTTP2_CURL = shutil.which("curl")


@pytest.fixture(params=["tls", "prior knowledge"])
async def gateway(request: Any, start: Start, engine: FakeEngine, certificate: Any, spec: str) -> Gateway:
    more = {"tls_cert": certificate[0], "tls_key": certificate[1]} if request.param == "tls" else {}
    spec = spec.replace("stallTimeout: 600ms, firstByteTimeout: 1s, ", "maxInFlight: 500, maxBody: 4000000, ")
    return await start(engine, spec=spec, **more)


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx2.AsyncClient]:
    """One connection for everything."""
    tls = gateway.url.startswith("https")
    async with httpx2.AsyncClient(
        http2=True, http1=tls, verify=False, limits=LIMITS, base_url=gateway.url, timeout=30
    ) as made:
        yield made


async def test_whole_answers_streams_and_refusals(client: httpx2.AsyncClient) -> None:
    whole = await client.post("/v1/completions", json=ASK)
    assert whole.http_version == "HTTP/2" and whole.json()["choices"][0]["text"] == "hello"
    async with client.stream("POST", "/v1/completions", json={**ASK, "stream": True}) as streamed:
        text = "".join([part async for part in streamed.aiter_text()])
    assert text.count("data: ") == 6 and text.endswith("data: [DONE]\n\n")
    assert (await client.get("/sleep")).status_code == 404
    assert (await client.head("/health")).headers["content-length"] == "2"
    large = {**ASK, "prompt": "x" * 3_000_000}
    assert (await client.post("/v1/completions", json=large)).status_code == 200
    assert (await client.post("/v1/completions", content=b"x" * 5_000_000)).status_code == 413
    assert (await client.get("/health")).status_code == 200


async def test_hundreds_of_streams_share_one_connection(
    client: httpx2.AsyncClient, gateway: Gateway, engine: FakeEngine
) -> None:
    engine.gate = asyncio.Event()
    asked = [
        asyncio.ensure_future(client.post("/v1/completions", json={**ASK, "stream": n % 2 == 0}))
        for n in range(200)
    ]
    async with asyncio.timeout(60):
        while engine.open < 100:  # httpx2 believes in 100 streams until it has read our settings
            await asyncio.sleep(0.01)
    assert len(gateway.server.app.clients) == 1
    engine.gate.set()
    answers = await asyncio.gather(*asked)
    assert all(a.status_code == 200 for a in answers)
    assert (await gateway.reconciled())["finished_total"] == 200


async def test_a_drain_loses_no_stream(
    client: httpx2.AsyncClient, gateway: Gateway, engine: FakeEngine
) -> None:
    engine.gate = asyncio.Event()
    asked = [
        asyncio.ensure_future(client.post("/v1/completions", json={**ASK, "stream": True})) for _ in range(20)
    ]
    async with asyncio.timeout(30):
        while engine.open < 20:
            await asyncio.sleep(0.01)
    gateway.server.stop()
    async with asyncio.timeout(30):
        while not gateway.server.app.closing:
            await asyncio.sleep(0.01)
        late = asyncio.ensure_future(client.post("/v1/completions", json=ASK))
        while engine.open < 21:
            await asyncio.sleep(0.01)
    engine.gate.set()
    answers = await asyncio.gather(*asked)
    assert all(a.text.endswith("data: [DONE]\n\n") for a in answers)
    assert (await late).status_code == 200, "one that was on its way"
    assert await gateway.task == 0


@pytest.mark.skipif(HTTP2_CURL is None, reason="no curl is here")
async def test_curl(gateway: Gateway) -> None:
    how = "--http2" if gateway.url.startswith("https") else "--http2-prior-knowledge"
    data = json.dumps({**ASK, "stream": True})
    argv = ["-ksS", how, "-w", "%{http_version} %{response_code}", "-d", data]
    curl = await asyncio.create_subprocess_exec(
        "curl", *argv, gateway.url + "/v1/completions", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await curl.communicate()
    assert out.endswith(b"data: [DONE]\n\n2 200"), out


async def test_who_asks_for_http_1_1_gets_it(gateway: Gateway) -> None:
    async with httpx2.AsyncClient(verify=False) as client:
        answer = await client.get(gateway.url + "/health")
    assert answer.http_version == "HTTP/1.1" and answer.headers["keep-alive"]


async def test_it_can_be_turned_off_while_it_is_spoken(
    gateway: Gateway, client: httpx2.AsyncClient, engine: FakeEngine
) -> None:
    """Connections that are there go on; new ones speak HTTP/1.1."""
    assert (await client.get("/health")).http_version == "HTTP/2"
    (spec,) = gateway.server.settings.specs
    spec.write_text(spec.read_text().replace("gateway: {", "gateway: {http2: false, "))
    await gateway.server.config.reload()
    assert (await client.get("/health")).http_version == "HTTP/2"
    if gateway.url.startswith("https"):
        async with httpx2.AsyncClient(http2=True, verify=False) as late:
            assert (await late.get(gateway.url + "/health")).http_version == "HTTP/1.1"
    else:
        answer = await gateway.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400")

"""Answers that run without a client, or for which a client comes again, when the gateway is killed or an engine is."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from tests.within import within

from seawall.gateway.tell import keyring

from .conftest import split
from .keepers import SPEC, kept_gateway, kill
from .processes import Process, exchange
from .test_background import ASK, Answers, documents
from .test_keeper import metric
from .test_real_clients import sim
from .test_reattach import KEEPS
from .waiting import until

TOKENS = 150


@pytest.fixture
async def engine() -> AsyncIterator[Answers]:
    async with Answers("a") as e:
        yield e


async def call(gateway: Process, method: str, path: str, body: Any = None, *lines: str) -> tuple[int, bytes]:
    data = b"" if body is None else json.dumps(body).encode()
    head = "\r\n".join(
        (f"{method} {path} HTTP/1.1", "Host: g", f"Content-Length: {len(data)}", "Connection: close", *lines)
    )
    status, _, answer = split(await exchange(gateway.port, f"{head}\r\n\r\n".encode() + data))
    return status, answer


async def response(gateway: Process, path: str) -> Any:
    status, body = await call(gateway, "GET", path)
    assert status == 200, body
    return json.loads(body)


async def ended(gateway: Process, path: str) -> Any:
    while (now := await response(gateway, path))["status"] in ("queued", "in_progress"):
        await asyncio.sleep(0.05)
    return now


async def test_a_response_in_the_background_outlives_its_gateway(tmp_path: Path, engine: Answers) -> None:
    async with kept_gateway(tmp_path, engine) as (gateway, _):
        _, unbroken = await call(gateway, "POST", "/v1/responses", {**ASK, "stream": True})
        engine.gate = asyncio.Event()
        made = json.loads((await call(gateway, "POST", "/v1/responses", ASK))[1])
        path = f"/v1/responses/{made['id']}"
        while (await response(gateway, path))["status"] != "in_progress":
            await asyncio.sleep(0.02)
        for deaths in (1, 2):
            await kill(gateway)
            assert (await response(gateway, path))["status"] == "in_progress", "from the first moment on"
            await until(lambda deaths=deaths: len(engine.log) == 2 + deaths)
            assert await metric(gateway, "seawall_carried_connections_total") == deaths
        finished = await metric(gateway, "seawall_requests_finished_total")
        engine.gate.set()
        done = await ended(gateway, path)
        assert await metric(gateway, "seawall_requests_finished_total") == finished + 1
        assert (done["status"], done["id"], done["output"]) == ("completed", made["id"], ["said"])
        _, events = await call(gateway, "GET", path + "?stream=true")
        told, alone = documents(events), documents(unbroken)
        assert [d["sequence_number"] for d in told] == list(range(len(alone)))
        assert [(d["type"], d.get("delta")) for d in told] == [(d["type"], d.get("delta")) for d in alone]
        await kill(gateway)
        assert (await response(gateway, path))["status"] == "completed", "what has ended is kept, too"
        assert len(engine.log) == 4, "and is not asked for again"
        assert await metric(gateway, "seawall_carried_connections_total") == 2
        assert await metric(gateway, "seawall_requests_failed_total") == 0


async def test_what_was_cancelled_stays_so_and_what_goes_on_can_be(tmp_path: Path, engine: Answers) -> None:
    async with kept_gateway(tmp_path, engine) as (gateway, _):
        engine.gate = asyncio.Event()
        paths = []
        for _ in range(3):
            made = json.loads((await call(gateway, "POST", "/v1/responses", ASK))[1])
            paths.append(f"/v1/responses/{made['id']}")
        await until(lambda: len(engine.log) == 3)
        assert json.loads((await call(gateway, "POST", paths[0] + "/cancel"))[1])["status"] == "cancelled"
        assert (await call(gateway, "DELETE", paths[1]))[0] == 200
        await kill(gateway)
        assert (await response(gateway, paths[0]))["status"] == "cancelled"
        assert (await call(gateway, "GET", paths[1]))[0] == 404
        await until(lambda: len(engine.log) == 4)
        gone = engine.cancelled
        assert json.loads((await call(gateway, "POST", paths[2] + "/cancel"))[1])["status"] == "cancelled"
        await until(lambda: engine.cancelled == gone + 1)
        _, events = await call(gateway, "GET", paths[2] + "?stream=true")
        assert documents(events)[-1]["type"] == "response.cancelled"
        assert len(engine.log) == 4, "neither of the others was asked for again"


async def test_a_request_that_comes_again_after_a_kill_joins_its_answer(
    tmp_path: Path, engine: Answers
) -> None:
    body = {"model": "m", "input": "x", "stream": True}
    async with kept_gateway(tmp_path, engine) as (gateway, _):
        _, unbroken = await call(gateway, "POST", "/v1/responses", body, "Idempotency-Key: alone")
        engine.gate = asyncio.Event()
        data = json.dumps(body).encode()
        head = f"POST /v1/responses HTTP/1.1\r\nHost: g\r\nIdempotency-Key: k\r\nContent-Length: {len(data)}\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(head.encode() + data)
        seen = await within(reader.readuntil(b"t0 "), 60)
        await kill(gateway)
        with contextlib.suppress(OSError):
            seen += await within(reader.read(), 60)  # it is cut, and says so by having no end
        writer.close()
        assert b"\r\n0\r\n\r\n" not in seen
        last = seen.count(b"\nid: ") - 1
        engine.gate.set()
        again = await call(
            gateway, "POST", "/v1/responses", body, "Idempotency-Key: k", f"Last-Event-ID: {last}"
        )
        assert again[0] == 200
        both = documents(seen) + documents(again[1])
        assert [(d["type"], d.get("delta")) for d in both] == [
            (d["type"], d.get("delta")) for d in documents(unbroken)
        ]
        assert len({d["response"]["id"] for d in both if "response" in d}) == 1
        other = await call(gateway, "POST", "/v1/responses", {**body, "input": "y"}, "Idempotency-Key: k")
        assert other[0] == 422


async def test_it_is_still_its_tenants_after_a_kill(tmp_path: Path, engine: Answers) -> None:
    lines = {}
    for tenant in ("a", "b"):
        secret, key = keyring.make(tenant)
        keyring.change(tmp_path / "keys.json", add=key)
        lines[tenant] = f"Authorization: Bearer {secret}"
    spec = SPEC + f"  gateway: {{tenants: [{{name: a}}, {{name: b}}], keysFile: {tmp_path}/keys.json}}\n"
    async with kept_gateway(tmp_path, engine, spec) as (gateway, _):
        engine.gate = asyncio.Event()
        made = json.loads((await call(gateway, "POST", "/v1/responses", ASK, lines["a"]))[1])
        path = f"/v1/responses/{made['id']}"
        await kill(gateway)
        engine.gate.set()
        assert (await call(gateway, "GET", path, None, lines["b"]))[0] == 404
        assert (await call(gateway, "POST", path + "/cancel", None, lines["b"]))[0] == 404
        while True:
            status, body = await call(gateway, "GET", path, None, lines["a"])
            assert status == 200
            if json.loads(body)["status"] == "completed":
                break
            await asyncio.sleep(0.05)


async def test_the_official_client_reads_on_after_the_gateways_death(tmp_path: Path) -> None:
    process, url = await sim(0, "--sim-step", "0.02")
    try:
        engine: Any = type("Url", (), {"url": url})
        async with (
            kept_gateway(tmp_path, engine) as (gateway, _),
            openai.AsyncOpenAI(
                base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="x", max_retries=0, timeout=60
            ) as client,
        ):
            asked: Any = {"model": "m", "input": "a", "max_output_tokens": TOKENS, "temperature": 0}
            alone = await client.responses.create(**asked)
            stream = await client.responses.create(**asked, background=True, stream=True)
            seen: list[Any] = []
            with contextlib.suppress(Exception):  # whatever httpx calls a connection that is cut
                async for event in stream:
                    seen.append(event)
                    if len(seen) == 20:
                        await kill(gateway)
            assert seen[0].type == "response.created" and 20 <= len(seen) < TOKENS
            id, last = seen[0].response.id, seen[-1].sequence_number
            async for event in await client.responses.retrieve(id, stream=True, starting_after=last):
                seen.append(event)
            assert [e.sequence_number for e in seen] == list(range(len(seen)))
            text = "".join(e.delta for e in seen if e.type == "response.output_text.delta")
            assert text == alone.output_text == (await client.responses.retrieve(id)).output_text
    finally:
        process.kill()
        await process.wait()


async def test_a_response_in_the_background_outlives_its_engine(start: Any) -> None:
    engines = list(await asyncio.gather(sim(0, "--sim-step", "0.02"), sim(0, "--sim-step", "0.02")))
    try:
        gateway = await start(*(url for _, url in engines), spec=KEEPS.replace('"off"', "exact"))
        async with openai.AsyncOpenAI(
            base_url=f"{gateway.url}/v1", api_key="x", max_retries=0, timeout=60
        ) as client:
            asked: Any = {"model": "m", "input": "a", "max_output_tokens": TOKENS, "temperature": 0}
            alone = await client.responses.create(**asked)
            made, other = [await client.responses.create(**asked, background=True) for _ in range(2)]
            kept = gateway.server.app.fleets["m"].kept
            await until(lambda: len(kept.running) == 2 and all(r.count > 10 for r in kept.running))
            serving = next(r.replica for r in kept.running if r.id == made.id)
            engines[int(serving.removeprefix("m-"))][0].kill()
            assert (await client.responses.cancel(other.id)).status == "cancelled"
            while (now := await client.responses.retrieve(made.id)).status in ("queued", "in_progress"):
                await asyncio.sleep(0.05)
            assert (now.status, now.output_text) == (alone.status, alone.output_text), now.error
            assert (await client.responses.retrieve(other.id)).status == "cancelled"
    finally:
        for process, _ in engines:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def test_a_response_that_samples_goes_on_with_its_draws_and_a_message_that_does_says_that_it_cannot(
    tmp_path: Path,
) -> None:
    """vLLM takes a seed on /v1/responses, and none on /v1/messages: after its gateway's death as after its engine's."""
    process, url = await sim(0, "--sim-step", "0.02")
    try:
        engine: Any = type("Url", (), {"url": url})
        async with (
            kept_gateway(tmp_path, engine) as (gateway, _),
            httpx2.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}", timeout=60) as client,
        ):
            said = {"messages": [{"role": "user", "content": "a"}], "max_tokens": TOKENS}
            asks = (("responses", {"input": "a", "max_output_tokens": TOKENS}), ("messages", said))
            told = {}
            async with contextlib.AsyncExitStack() as open_ones:
                streams = {}
                for route, body in asks:
                    ask = {"model": "m", "temperature": 1.0, "stream": True, **body}
                    stream = client.stream("POST", f"/v1/{route}", json=ask)
                    lines = (await open_ones.enter_async_context(stream)).aiter_lines()
                    told[route] = [await anext(lines) for _ in range(40)]
                    streams[route] = lines
                await kill(gateway)
                for route, lines in streams.items():
                    with contextlib.suppress(
                        httpx2.RemoteProtocolError
                    ):  # behind an error there is no proper end
                        async for line in lines:
                            told[route].append(line)
            docs = {r: documents("\n".join([*lines, ""]).encode()) for r, lines in told.items()}
            deltas = [d["delta"] for d in docs["responses"] if d["type"] == "response.output_text.delta"]
            last = docs["responses"][-1]["response"]
            assert "".join(deltas) == last["output"][0]["content"][0]["text"] and len(deltas) > 40
            assert docs["messages"][-1]["type"] == "error", docs["messages"][-1]
            assert await metric(gateway, "seawall_requests_failed_total") == 1
    finally:
        process.kill()
        await process.wait()

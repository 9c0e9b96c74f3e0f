"""Several processes of one gateway: what comes again finds its record, whichever process the connection lands at."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.within import within

from seawall.gateway.intake.peers import socket_of
from seawall.gateway.tell import keyring

from .conftest import FakeEngine, Gateway
from .test_background import ASK, Answers, call, documents
from .test_previous_response import STORES, Keeps
from .test_reattach import KEEPS, again_post, events, generations, held, open_stream
from .waiting import until

WORKERS = 2


@pytest.fixture
async def engine() -> AsyncIterator[Answers]:
    async with Answers("a") as e:
        yield e


async def workers(
    start: Any, folder: Path, *engines: FakeEngine, spec: str = KEEPS, **more: Any
) -> list[Gateway]:
    """In this process, each with a port of its own, so that a test chooses where it lands."""
    board = folder / "board"
    return [
        await start(*engines, spec=spec, board=board, worker=i, workers=WORKERS, **more)
        for i in range(WORKERS)
    ]


def runs_at(gateways: list[Gateway]) -> list[int]:
    return [len(g.server.app.fleets["m"].kept.running) for g in gateways]


async def test_who_comes_again_at_another_worker_joins(start: Any, engine: Answers, tmp_path: Path) -> None:
    gateways = await workers(start, tmp_path, engine)
    for n, key in enumerate("abcd"):
        first, gate = await held(gateways[n % 2], engine, key)
        assert sum(runs_at(gateways)) == 1
        first.leave()
        again = await open_stream(gateways[1 - n % 2], key, last=0)
        await until(
            lambda: sum(f.stats.reattached for g in gateways for f in g.server.app.fleets.values()) > 0
        )
        gate.set()
        assert [i for i, _ in events(await again.read())] == [1, 2, 3, 4, 5]
        whole = await open_stream(gateways[n % 2], key)
        assert len(events(await whole.read())) == 6
        assert generations(engine) == n + 1
    assert engine.cancelled == 0


async def test_both_workers_take_part(start: Any, engine: Answers, tmp_path: Path) -> None:
    gateways = await workers(start, tmp_path, engine)
    for key in "abcdefgh":
        assert (await again_post(gateways[0], key))[0] == 200
    assert all(len(g.server.app.fleets["m"].kept) for g in gateways)
    assert (await again_post(gateways[1], "a", max_tokens=3))[0] == 422
    status, headers, answer = await again_post(gateways[1], "i", stream=False, max_tokens=5)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(answer)["choices"]


async def test_a_response_is_found_through_any_worker(start: Any, engine: Answers, tmp_path: Path) -> None:
    gateways = await workers(start, tmp_path, engine)
    for here, there in (gateways, gateways[::-1]):
        engine.gate = asyncio.Event()
        queued = (await call(here, "POST", "/v1/responses", ASK))[2]
        path = f"/v1/responses/{queued['id']}"
        assert (await call(there, "GET", path))[2]["id"] == queued["id"]
        reading = asyncio.ensure_future(call(there, "GET", path + "?stream=true&starting_after=0"))
        engine.gate.set()
        _, headers, body = await reading
        assert [d["sequence_number"] for d in documents(body)][:3] == [1, 2, 3]
        assert documents(body)[-1]["response"]["status"] == "completed"
        assert headers["cut"] == "False"
        assert (await call(there, "POST", path + "/cancel"))[2]["status"] == "completed"
        assert (await call(there, "DELETE", path))[2]["deleted"]
        status, _, body = await call(there, "GET", path)
        assert (status, body["error"]["code"]) == (404, "response_not_found")


async def test_a_follow_up_of_what_another_worker_keeps(start: Any, tmp_path: Path) -> None:
    async with Keeps("a") as a, Keeps("b") as b:
        gateways = await workers(start, tmp_path, a, b, spec=STORES)
        for n in range(6):
            here, there = gateways[n % 2], gateways[1 - n % 2]
            made = (await call(here, "POST", "/v1/responses", ASK))[2]
            await until(lambda: not any(runs_at(gateways)))
            ask = {"model": "m", "input": "x", "previous_response_id": made["id"]}
            assert (await call(there, "POST", "/v1/responses", ask))[0] == 200
            assert (await call(there, "POST", "/v1/responses", ask, Idempotency_Key=f"k{n}"))[0] == 200


async def test_keys_and_refusals_pass_through(start: Any, engine: Answers, tmp_path: Path) -> None:
    auth = {}
    for tenant in ("a", "b"):
        secret, key = keyring.make(tenant)
        keyring.change(tmp_path / "keys.json", add=key)
        auth[tenant] = f"Bearer {secret}"
    spec = KEEPS.replace("keepFor: 5m", "keepFor: 5m, tenants: [{name: a}, {name: b, requestsPerMinute: 1}]")
    gateways = await workers(start, tmp_path, engine, spec=spec, keys=tmp_path / "keys.json")
    queued = (await call(gateways[0], "POST", "/v1/responses", ASK, Authorization=auth["a"]))[2]
    path = f"/v1/responses/{queued['id']}"
    assert (await call(gateways[1], "GET", path, Authorization=auth["a"]))[0] == 200
    assert (await call(gateways[1], "GET", path, Authorization=auth["b"]))[0] == 404
    assert (await call(gateways[1], "GET", path))[0] == 401
    got = []
    for n in range(12):
        got.append(
            await gateways[n % 2].post(
                "/v1/completions",
                {"model": "m", "prompt": "x"},
                Idempotency_Key=str(n),
                Authorization=auth["b"],
            )
        )
    refused = [(headers, json.loads(body)) for status, headers, body in got if status == 429]
    assert len(refused) >= 10
    for headers, body in refused:
        assert ("retry-after" in headers, body["error"]["code"]) == (True, "rate_limited")


async def test_a_worker_that_is_gone_is_done_without(start: Any, engine: Answers, tmp_path: Path) -> None:
    gateways = await workers(start, tmp_path, engine)
    gateways[1].server.stop()
    await within(gateways[1].task, 10)
    assert not socket_of(tmp_path, 1).exists() or not gateways[1].server.app.clients
    for key in "abcdef":
        status, _, body = await again_post(gateways[0], key)
        assert (status, len(events(body))) == (200, 6)
    assert (await call(gateways[0], "GET", "/v1/responses/resp_01ff"))[0] == 404

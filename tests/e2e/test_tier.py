"""Three real gateway processes, a real store, simulated engines: what one is told and then dies of, the others know."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.store_server import TOOLS

from seawall.domain.told import read
from seawall.engines.vllm.metrics import RUNNING, WAITING
from seawall.load.client import LoadClient
from seawall.prove.tier import GatewayChild, TierFleet

FLEET: dict[str, Any] = {
    "apiVersion": "seawall.dev/v1alpha1",
    "kind": "Fleet",
    "metadata": {"name": "m"},
    "spec": {
        "model": {"source": "file:///none", "servedNames": ["m"]},
        "engine": {"kind": "sim", "maxNumSeqs": 16, "extraArgs": ["--sim-step", "0.08", "--sim-seed", "1"]},
        "gateway": {"maxInFlight": 6, "queueTimeout": "60s", "truthBudget": 0},  # engines count clients alone
    },
}
SPEED = 5.0
"""A busy machine is allowed so many times what a quiet one needs."""


@contextlib.asynccontextmanager
async def tier(folder: Path) -> AsyncIterator[TierFleet]:
    os.environ["PATH"] = f"{TOOLS}:{os.environ['PATH']}"
    fleet = TierFleet(folder, FLEET, ())
    await fleet.start(engines=2, gateways=3)
    try:
        await eventually(lambda: all_of(fleet, "seawall_store_up", 1))
        yield fleet
    finally:
        await fleet.stop()


async def eventually(holds: Any, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(0.05)


async def all_of(fleet: TierFleet, metric: str, value: float) -> bool:
    return all([await g.metric(metric) == value for g in fleet.gateways if g.alive])


async def send(gateway: GatewayChild, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
    """A request on a connection of its own, to the answer's end."""
    data = json.dumps(body).encode() if body is not None else b""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(
        f"{method} {path} HTTP/1.0\r\nHost: g\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
    )
    try:
        answer = await reader.read()
    finally:
        writer.close()
    head, _, rest = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), rest


@pytest.mark.timeout(120)
async def test_what_a_killed_gateway_was_giving_goes_on_at_another(tmp_path: Path) -> None:
    async with tier(tmp_path) as fleet:
        one, two, three = fleet.gateways
        ask = {"model": "m", "input": "Tell of the sea.", "temperature": 0, "max_output_tokens": 40}
        status, quiet = await send(one, "POST", "/v1/responses", ask)
        assert status == 200
        wanted = json.loads(quiet)["output"][0]["content"][0]["text"]
        status, opened = await send(one, "POST", "/v1/responses", {**ask, "background": True})
        assert status == 200
        id = json.loads(opened)["id"]
        await eventually(lambda: has_text(two, id))
        await one.kill()
        read = asyncio.ensure_future(send(three, "GET", f"/v1/responses/{id}?stream=true&starting_after=3"))
        await eventually(lambda: is_(two, id, "incomplete"))  # max_output_tokens
        whole = json.loads((await send(two, "GET", f"/v1/responses/{id}"))[1])
        assert whole["output"][0]["content"][0]["text"] == wanted
        events = [json.loads(x[6:]) for x in (await read)[1].decode().splitlines() if x.startswith("data: {")]
        assert [e["sequence_number"] for e in events] == list(range(4, 4 + len(events)))
        assert events[-1]["type"] == "response.completed"
        assert events[-1]["response"]["output"][0]["content"][0]["text"] == wanted
        assert (await send(two, "GET", f"/v1/responses/{id}x"))[0] == 404


async def has_text(gateway: GatewayChild, id: str) -> bool:
    """A few tokens are there."""
    status, page = await send(gateway, "GET", f"/v1/responses/{id}")
    return status == 200 and json.loads(page)["status"] == "in_progress"


async def is_(gateway: GatewayChild, id: str, state: str) -> bool:
    status, page = await send(gateway, "GET", f"/v1/responses/{id}")
    return status == 200 and bool(json.loads(page)["status"] == state)


@pytest.mark.timeout(120)
async def test_places_evictions_and_the_death_of_a_gateway_at_rest(tmp_path: Path) -> None:
    async with tier(tmp_path) as fleet:
        body = {"model": "m", "prompt": "a", "max_tokens": 30, "ignore_eos": True}
        asked = [
            asyncio.ensure_future(LoadClient(g.url).request("/v1/completions", body))
            for g in fleet.gateways
            for _ in range(12)
        ]
        most = 0
        while not all(t.done() for t in asked):
            for url in fleet.engines:
                _, page = await LoadClient(url).get("/metrics")
                most = max(most, running(page.decode()))
            await asyncio.sleep(0.05)
        assert {t.result().status for t in asked} == {200}
        assert 4 <= most <= 6 + 3, most

        await fleet.gateways[2].kill()  # nothing is in flight there
        began = time.monotonic()
        while time.monotonic() - began < 4.5:  # longer than its places are held for it
            assert await all_of(fleet, "seawall_store_up", 1)
            await asyncio.sleep(0.1)

        await next(iter(fleet.engines.values())).kill()
        small = {"model": "m", "prompt": "a", "max_tokens": 1}
        client = LoadClient(fleet.gateways[0].url)
        at_once = [client.request("/v1/completions", small) for _ in range(12)]  # more than one replica takes
        assert {o.status for o in await asyncio.gather(*at_once)} == {200}
        began = time.monotonic()
        await eventually(lambda: out(fleet.gateways[1]))
        assert time.monotonic() - began < 1.0 * SPEED


def running(page: str) -> int:
    names = (RUNNING + "{", WAITING + "{")
    return int(sum(float(x.rpartition(" ")[2]) for x in page.splitlines() if x.startswith(names)))


async def out(gateway: GatewayChild) -> bool:
    """It gives this replica nothing."""
    _, page = await LoadClient(gateway.admin_url).get("/debug/state")
    replicas = read(json.loads(page)).replicas.values()
    return sum(r.state in ("evicted", "probing") for r in replicas) == 1

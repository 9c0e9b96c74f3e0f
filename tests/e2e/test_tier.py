"""Three real gateway processes, a real store, simulated engines: what one is told and then dies of, the others know."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.store_server import TOOLS

from seawall.decide.route.lease import COLD
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
async def tier(
    folder: Path, engines: int = 2, gateways: int = 3, tenants: tuple[dict[str, Any], ...] = ()
) -> AsyncIterator[TierFleet]:
    os.environ["PATH"] = f"{TOOLS}:{os.environ['PATH']}"
    spec = {**FLEET["spec"], "gateway": {**FLEET["spec"]["gateway"], "tenants": [*tenants]}}
    fleet = TierFleet(folder, {**FLEET, "spec": spec}, ())
    await fleet.start(engines, gateways)
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


async def send(
    gateway: GatewayChild, method: str, path: str, body: Any = None, key: str = ""
) -> tuple[int, bytes]:
    """A request on a connection of its own, to the answer's end."""
    data = json.dumps(body).encode() if body is not None else b""
    head = f"{method} {path} HTTP/1.0\r\nHost: g\r\nContent-Length: {len(data)}\r\n"
    head += f"Authorization: Bearer {key}\r\n" if key else ""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(head.encode() + b"\r\n" + data)
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
        most = await most_at_once(fleet, asked)
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


async def at_each(fleet: TierFleet) -> list[int]:
    """What each engine has."""
    pages = [await LoadClient(url).get("/metrics") for url in fleet.engines]
    return [running(page.decode()) for _, page in pages]


async def most_at_once(fleet: TierFleet, asked: list[asyncio.Future[Any]]) -> int:
    """That any engine has, until all is answered."""
    most = 0
    while not all(t.done() for t in asked):
        most = max(most, *await at_each(fleet))
        await asyncio.sleep(0.05)
    return most


def running(page: str) -> int:
    names = (RUNNING + "{", WAITING + "{")
    return int(sum(float(x.rpartition(" ")[2]) for x in page.splitlines() if x.startswith(names)))


async def out(gateway: GatewayChild) -> bool:
    """It gives this replica nothing."""
    _, page = await LoadClient(gateway.admin_url).get("/debug/state")
    replicas = read(json.loads(page)).replicas.values()
    return sum(r.state in ("evicted", "probing") for r in replicas) == 1


PER_MINUTE = 120
LIMITED: tuple[dict[str, Any], ...] = ({"name": "a", "requestsPerMinute": PER_MINUTE}, {"name": "b"})


async def passed(gateways: list[GatewayChild], key: str, each: int) -> int:
    """How many of so many small requests to each are answered; the others are over the limit."""
    body = {"model": "m", "prompt": "a", "max_tokens": 1}

    async def client(gateway: GatewayChild) -> list[int]:
        return [(await send(gateway, "POST", "/v1/completions", body, key))[0] for _ in range(each // 4)]

    found = await asyncio.gather(*(client(g) for g in gateways for _ in range(4)))
    statuses = [status for one in found for status in one]
    assert set(statuses) <= {200, 429}
    return statuses.count(200)


@pytest.mark.timeout(180)
async def test_a_gateway_that_is_stopped_and_goes_on_takes_neither_the_limit_nor_the_places_of_the_others(
    tmp_path: Path,
) -> None:
    async with tier(tmp_path, tenants=LIMITED) as fleet:
        asleep, *others = fleet.gateways
        began = time.monotonic()
        spent = await passed(fleet.gateways, fleet.secrets["a"], 60)
        asleep.signal(signal.SIGSTOP)
        long = {"model": "m", "prompt": "a", "max_tokens": 80, "ignore_eos": True}
        asked = [
            asyncio.ensure_future(send(g, "POST", "/v1/completions", long, fleet.secrets["b"]))
            for g in others
            for _ in range(16)
        ]
        await eventually(lambda: heard_of(others, 2))
        await eventually(lambda: full(fleet), 60.0)  # the others have all the places, and more wait
        spent += await passed(others, fleet.secrets["a"], 8)
        late = asyncio.ensure_future(passed([asleep], fleet.secrets["a"], 60))
        asked += [
            asyncio.ensure_future(send(asleep, "POST", "/v1/completions", long, fleet.secrets["b"]))
            for _ in range(8)
        ]
        await asyncio.sleep(0.2)  # they lie in its sockets when it goes on
        asleep.signal(signal.SIGCONT)
        most = await most_at_once(fleet, asked)
        assert most <= 6 + 3, most
        assert {t.result()[0] for t in asked} == {200}, "nobody's request is lost of it"
        spent += await late
        due = PER_MINUTE + PER_MINUTE / 60 * (time.monotonic() - began)
        assert spent <= due * 1.02 + COLD * PER_MINUTE / 3 + 2, (spent, due)
        assert await all_of(fleet, "seawall_store_gateways", 3)


async def heard_of(gateways: list[GatewayChild], count: int) -> bool:
    """They share with so many, themselves counted in."""
    return all([await g.metric("seawall_store_gateways") == count for g in gateways])


async def full(fleet: TierFleet) -> bool:
    """Every engine has as many as it is to have."""
    return min(await at_each(fleet)) >= 6


@pytest.mark.timeout(180)
async def test_two_fleets_of_one_name_share_a_store_and_nothing_else(tmp_path: Path) -> None:
    async with tier(tmp_path / "one", 1, 2, LIMITED) as one:
        two = TierFleet(tmp_path / "two", json.loads(one.spec.read_text()), ())
        two.store = Scoped(one.store.url)  # type: ignore[assignment]
        await two.start(engines=1, gateways=2)
        try:
            await eventually(lambda: heard_of(one.gateways + two.gateways, 2))
            for fleet in (one, two):
                began = time.monotonic()
                count = await passed(fleet.gateways, fleet.secrets["a"], 2 * PER_MINUTE)
                due = PER_MINUTE + PER_MINUTE / 60 * (time.monotonic() - began)
                assert PER_MINUTE * 0.9 <= count <= due * 1.02 + 2, "each has the whole limit"
            await next(iter(two.engines.values())).kill()
            ask = {"model": "m", "prompt": "a", "max_tokens": 1}
            lost = asyncio.ensure_future(
                send(two.gateways[0], "POST", "/v1/completions", ask, two.secrets["b"])
            )
            await eventually(lambda: out(two.gateways[0]))
            assert not any([await out(g) for g in one.gateways])
            assert await heard_of(one.gateways + two.gateways, 2)
            lost.cancel()
        finally:
            await two.stop()


class Scoped:
    """The store of another fleet, of which this one has a part of its own."""

    def __init__(self, url: str) -> None:
        self.url = f"{url}?scope=two"

    async def serve(self) -> None:
        """It runs."""

    async def kill(self) -> None:
        """Its owner ends it."""

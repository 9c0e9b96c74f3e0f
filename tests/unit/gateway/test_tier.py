"""Three gateways and one store, a real server: limits, places, suspicions; and what holds when the store is away."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.store_server import StoreServer, store_server

from seawall.domain.told import all_sides, read
from seawall.gateway.tell import keyring

FLEET = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: m}
spec:
  model: {source: file:///none}
  gateway:
    resume: "off"
    queueTimeout: 20s
    %s
"""


@pytest.fixture
async def store() -> AsyncIterator[StoreServer]:
    async with store_server() as server:
        yield server


async def eventually(condition: Any, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def tier_of(
    start: Any, store: StoreServer, engines: list[Any], more: str, **settings: Any
) -> list[Any]:
    spec = FLEET % more
    gateways = [await start(*engines, spec=spec, store=store.url, **settings) for _ in range(3)]
    await eventually(lambda: all(g.server.tier.up for g in gateways))
    return gateways


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Any]:
    made: dict[str, str] = {}
    for tenant in ("a", "b"):
        made[tenant], key = keyring.make(tenant)
        keyring.change(tmp_path / "keys.json", add=key)
    return {"file": tmp_path / "keys.json", **made}


async def ask(gateway: Any, secret: str = "", **more: Any) -> int:
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    status: int = (await gateway.post("/v1/completions", {"model": "m", "prompt": "x", **more}, **headers))[0]
    return status


async def test_three_gateways_keep_one_rate_at_ten_times_too_much(
    start: Any, engine: Any, store: StoreServer, keys: dict[str, Any]
) -> None:
    limit = "tenants: [{name: a, requestsPerMinute: 120}, {name: b}]"
    gateways = await tier_of(start, store, [engine], limit, keys=keys["file"])
    began = time.monotonic()
    asked = dict.fromkeys(range(3), 0)
    passed = 0

    async def client(n: int) -> None:
        nonlocal passed
        while sum(asked.values()) < 450:
            asked[n] += 1
            status = await ask(gateways[n], keys["a"])
            passed += status == 200
            await asyncio.sleep(0.01)

    await asyncio.gather(*(client(n) for n in range(3) for _ in range(2)))
    due = 120 + 2 * (time.monotonic() - began)
    assert due - 8 <= passed <= due * 1.02, (passed, due, asked)
    assert await ask(gateways[0], keys["b"]) == 200


async def test_a_quota_is_spent_once_and_a_killed_gateway_takes_one_lease(
    start: Any, engine: Any, store: StoreServer, keys: dict[str, Any]
) -> None:
    limit = "tenants: [{name: a, tokenQuota: 1500}, {name: b}]"
    gateways = await tier_of(start, store, [engine], limit, keys=keys["file"])
    passed = 0
    for round_ in range(60):
        passed += await ask(gateways[round_ % 3], keys["a"], max_tokens=10) == 200
        await asyncio.sleep(0.02)
    spent = passed * 10  # what the engine counts
    assert spent == 600, "60 requests fit"
    gateways[0].server.stop()  # it gives nothing back: to the store it is as if it were killed
    for _ in range(150):
        passed += await ask(gateways[1], keys["a"], max_tokens=10) == 200
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)
    assert 1300 <= passed * 10 <= 1500 * 1.02, passed


async def test_a_replicas_cap_holds_over_all(start: Any, engine: Any, store: StoreServer) -> None:
    engine.gate = asyncio.Event()
    gateways = await tier_of(start, store, [engine], "maxInFlight: 9")
    most = 0
    tasks = [asyncio.ensure_future(ask(g)) for g in gateways for _ in range(12)]
    for _ in range(60):
        await asyncio.sleep(0.02)
        most = max(most, engine.open)
    assert 8 <= most <= 9 + 3, most
    engine.gate.set()
    assert set(await asyncio.gather(*tasks)) == {200}
    await eventually(lambda: all(t.others == 0 for g in gateways for t in g.server.app.fleets["m"].targets))


async def test_a_gateway_that_is_gone_holds_no_places(start: Any, engine: Any, store: StoreServer) -> None:
    engine.gate = asyncio.Event()
    gateways = await tier_of(start, store, [engine], "maxInFlight: 6", grace_s=0.0)
    tasks = [asyncio.ensure_future(ask(gateways[0])) for _ in range(6)]
    await eventually(lambda: engine.open == 6)
    waiting = [asyncio.ensure_future(ask(gateways[1])) for _ in range(6)]
    await asyncio.sleep(0.3)
    assert engine.open <= 7
    gateways[0].server.stop()  # it gives nothing back: to the store it is as if it were killed
    await asyncio.gather(*tasks)
    await eventually(lambda: gateways[1].server.app.fleets["m"].router.in_flight == 6)
    engine.gate.set()
    assert set(await asyncio.gather(*waiting)) == {200}


async def test_an_eviction_is_a_suspicion_that_each_verifies_within_a_second(
    start: Any, engine: Any, other: Any, store: StoreServer
) -> None:
    gateways = await tier_of(start, store, [engine, other], "maxInFlight: 9")

    def state(gateway: Any, url: str) -> str:
        found = [t for t in gateway.server.app.fleets["m"].targets if t.replica.url == url]
        return str(found[0].state)

    dead = other.url
    await other.kill()
    began = time.monotonic()
    for _ in range(4):
        assert await ask(gateways[0]) == 200
    await eventually(lambda: all(state(g, dead) in ("evicted", "probing") for g in gateways))
    assert time.monotonic() - began < 3, "a second, and a busy machine's patience"
    lane = gateways[0].server.app.fleets["m"]
    healthy = next(t for t in lane.targets if t.replica.url == engine.url)
    lane.evict(healthy, "a mistake")
    await asyncio.sleep(0.6)
    assert state(gateways[1], engine.url) == "ready", "it gave a token here"


async def test_a_poison_verdict_counts_where_replicas_died_too(
    start: Any, engine: Any, other: Any, store: StoreServer
) -> None:
    gateways = await tier_of(start, store, [engine, other], "maxInFlight: 9")
    lanes = [g.server.app.fleets["m"] for g in gateways]
    lanes[0].quarantine.add(b"/v1/completions", b"{}", gateways[0].server.app.now())
    await asyncio.sleep(0.5)
    assert not lanes[1].quarantine, "two healthy replicas speak against it"
    for target in list(lanes[1].targets):
        lanes[1].desk.died(target, gateways[1].server.app.now())
    await eventually(lambda: len(lanes[1].quarantine) == 1)
    assert not lanes[2].quarantine


async def test_without_the_store_nobody_waits_and_it_is_said(
    start: Any, engine: Any, store: StoreServer, keys: dict[str, Any]
) -> None:
    limit = "tenants: [{name: a, requestsPerMinute: 600}, {name: b}]"
    gateways = await tier_of(start, store, [engine], limit, keys=keys["file"])
    assert await ask(gateways[0], keys["a"]) == 200
    for how in ("paused", "killed"):
        if how == "paused":
            store.pause()
        else:
            await store.kill()
        await eventually(lambda: not any(g.server.tier.up for g in gateways))
        await eventually(lambda: all(g.server.tier.alone for g in gateways))
        began = time.monotonic()
        assert [await ask(g, keys["a"]) for g in gateways] == [200, 200, 200]
        assert time.monotonic() - began < 2
        page = (await gateways[0].get("/metrics", admin=True))[2].decode()
        assert "seawall_store_up 0" in page
        if how == "paused":
            store.go_on()
        else:
            await store.start()
        await eventually(lambda: all(g.server.tier.up for g in gateways))
        assert await ask(gateways[2], keys["a"]) == 200


async def test_a_store_that_is_not_there_at_the_start_stops_nobody(start: Any, engine: Any) -> None:
    gateway = await start(engine, spec=FLEET % "maxInFlight: 9", store="redis://127.0.0.1:1/0")
    assert await ask(gateway) == 200
    state = json.loads((await gateway.get("/debug/state", admin=True))[2])
    assert state["fleets"]["m"]["finished_total"] == 1


async def test_what_nobody_understands_in_the_store_ends_no_gateway(
    start: Any, engine: Any, store: StoreServer
) -> None:
    gateways = await tier_of(start, store, [engine], "maxInFlight: 9")
    client = gateways[0].server.tier.store.link.client
    await client.hset("{seawall}:fleet:m:d", "stranger", "[not json")
    await eventually(lambda: all(g.server.tier.failures for g in gateways))
    assert [await ask(g) for g in gateways] == [200, 200, 200]
    await client.hdel("{seawall}:fleet:m:d", "stranger")
    await eventually(lambda: all(g.server.tier.up for g in gateways))


async def test_a_canarys_tally_is_one_however_many_gateways_and_outlives_them(
    start: Any, engine: Any, other: Any, store: StoreServer, tmp_path: Path
) -> None:
    found = tmp_path / "replicas.json"
    replicas = [
        {"name": f"r{i}", "fleet": "m", "url": e.url, "group": group}
        for i, (e, group) in enumerate(((engine, "stable"), (other, "canary")))
    ]
    found.write_text(json.dumps({"replicas": replicas, "canary_weights": {"m": 50}}))
    gateways = [
        await start(spec=FLEET % "maxInFlight: 9", store=store.url, discovery=f"file:{found}")
        for _ in range(2)
    ]
    await eventually(lambda: all(g.server.app.fleets["m"].has_canary for g in gateways))
    for _ in range(20):
        assert [await ask(g) for g in gateways] == [200, 200]
    one, two = (g.server.tier for g in gateways)

    def told(tier: Any, name: str) -> int:
        return sum(s.requests for s in tier.tallies.get("m", {}).get(name, {}).values())

    await eventually(lambda: told(one, two.name) == told(two, one.name) == 20)
    gateways[1].server.stop()
    await gateways[1].task
    state = read(await gateways[0].state())
    assert sum(s.requests for s in all_sides(state.fleets["m"]).values()) == 40


async def test_what_happened_while_the_store_was_away_is_told_when_it_is_back(
    start: Any, engine: Any, store: StoreServer
) -> None:
    gateways = await tier_of(start, store, [engine], "maxInFlight: 9")
    await store.kill()
    await eventually(lambda: not any(g.server.tier.up for g in gateways))
    app = gateways[0].server.app
    app.fleets["m"].quarantine.add(b"/v1/completions", b"{}", app.now())
    failures = gateways[0].server.tier.failures
    await eventually(lambda: gateways[0].server.tier.failures >= failures + 2)
    await store.start()
    await eventually(lambda: all(g.server.tier._hints for g in gateways[1:]))

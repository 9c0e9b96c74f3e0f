"""Answers that are kept, found through every gateway: a real store, several gateways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.store_server import StoreServer, store_server
from tests.within import within

from seawall.decide.route.record import RecordState, ShelfRules
from seawall.gateway.tell import keyring
from seawall.gateway.tier.kept import SharedShelf
from seawall.gateway.tier.outbox import PATIENCE_S

FLEET = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: m}
spec:
  model: {source: file:///none}
  gateway: {queueTimeout: 20s, %s}
"""
BODY = {"model": "m", "prompt": "x", "stream": True}


@pytest.fixture
async def store() -> AsyncIterator[StoreServer]:
    async with store_server() as server:
        yield server


async def eventually(condition: Any, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def two(
    start: Any, store: StoreServer, *engines: Any, more: str = "", patience_s: float = 20.0, **settings: Any
) -> list[Any]:
    """Two gateways with one store, whose word takes longer on a busy machine than a request waits for it."""
    gateways = [await start(*engines, spec=FLEET % more, store=store.url, **settings) for _ in range(2)]
    for gateway in gateways:
        gateway.server.tier.outbox.patience_s = patience_s
    await eventually(lambda: all(g.server.tier.up and g.server.tier.outbox.up for g in gateways))
    return gateways


def generations(engine: Any) -> int:
    return sum(path.startswith("/v1/") for path, _, _ in engine.log)


async def told(gateway: Any) -> None:
    """All that it keeps is in the store."""
    await eventually(lambda: not gateway.server.tier.outbox._changed)
    await asyncio.sleep(0.05)


async def test_a_stream_that_ended_at_one_gateway_is_read_at_the_other(
    start: Any, engine: Any, store: StoreServer
) -> None:
    one, other = await two(start, store, engine)
    first = await one.post("/v1/completions", BODY, Idempotency_Key="k")
    await told(one)
    again = await other.post("/v1/completions", BODY, Idempotency_Key="k")
    assert again[0] == 200 and again[2] == first[2]
    behind = await other.post("/v1/completions", BODY, Idempotency_Key="k", Last_Event_ID="2")
    assert first[2].endswith(behind[2]) and behind[2].startswith(b"id: 3\n")
    assert generations(engine) == 1
    reused = await other.post("/v1/completions", {**BODY, "prompt": "y"}, Idempotency_Key="k")
    assert reused[0] == 422


async def test_who_comes_again_elsewhere_follows_what_still_runs(
    start: Any, engine: Any, store: StoreServer
) -> None:
    engine.gate = asyncio.Event()
    one, other = await two(start, store, engine)
    first = asyncio.ensure_future(one.post("/v1/completions", BODY, Idempotency_Key="k"))
    await eventually(lambda: generations(engine) == 1)
    again = asyncio.ensure_future(other.post("/v1/completions", BODY, Idempotency_Key="k"))
    await eventually(lambda: len(other.server.app.fleets["m"].kept) == 1)
    engine.gate.set()
    assert (await first)[2] == (await again)[2]
    assert generations(engine) == 1


async def test_a_large_whole_answer_is_found_in_parts(start: Any, engine: Any, store: StoreServer) -> None:
    engine.name = "n" * 900_000
    one, other = await two(start, store, engine)
    body = {"model": "m", "prompt": "x"}
    first = await one.post("/v1/completions", body, Idempotency_Key="k")
    await told(one)
    again = await other.post("/v1/completions", body, Idempotency_Key="k")
    assert first[0] == again[0] == 200 and len(first[2]) > 900_000 and first[2] == again[2]
    assert generations(engine) == 1


async def test_each_tenant_sees_its_own(start: Any, engine: Any, store: StoreServer, tmp_path: Path) -> None:
    secrets: dict[str, str] = {}
    for tenant in ("a", "b"):
        secrets[tenant], key = keyring.make(tenant)
        keyring.change(tmp_path / "keys.json", add=key)
    one, other = await two(
        start, store, engine, more="tenants: [{name: a}, {name: b}]", keys=tmp_path / "keys.json"
    )
    bearer = {t: {"Authorization": f"Bearer {s}", "Idempotency_Key": "k"} for t, s in secrets.items()}
    await one.post("/v1/completions", BODY, **bearer["a"])
    await told(one)
    await other.post("/v1/completions", BODY, **bearer["b"])
    assert generations(engine) == 2
    await other.post("/v1/completions", BODY, **bearer["a"])
    assert generations(engine) == 2
    position = await other.post("/v1/completions", {**BODY, "n": 1}, Last_Event_ID="1", **bearer["b"])
    assert position[0] == 422


async def test_a_refusal_is_kept_nowhere(start: Any, engine: Any, store: StoreServer) -> None:
    engine.faults = ["400"]
    one, other = await two(start, store, engine)
    assert (await one.post("/v1/completions", BODY, Idempotency_Key="k"))[0] == 400
    await told(one)
    assert (await other.post("/v1/completions", BODY, Idempotency_Key="k"))[0] == 200


async def test_without_the_store_a_key_is_served_at_once_and_what_was_flushed_is_told_again(
    start: Any, engine: Any, store: StoreServer
) -> None:
    engine.gate = asyncio.Event()
    one, other = await two(start, store, engine)
    running = asyncio.ensure_future(one.post("/v1/completions", BODY, Idempotency_Key="k"))
    await eventually(lambda: generations(engine) == 1)
    await told(one)
    await one.server.tier.store.link.client.flushall()
    engine.gate.set()
    first = await running
    await told(one)
    assert (await other.post("/v1/completions", BODY, Idempotency_Key="k"))[2] == first[2]
    await store.kill()
    await eventually(lambda: not any(g.server.tier.up for g in (one, other)))
    alone = await within(other.post("/v1/completions", BODY, Idempotency_Key="new"), 5)
    assert alone[0] == 200 and alone[2] == first[2]
    assert generations(engine) == 2


async def test_what_two_ask_at_once_is_generated_once(start: Any, engine: Any, store: StoreServer) -> None:
    gateways = await two(start, store, engine)
    answers = await asyncio.gather(
        *(g.post("/v1/completions", BODY, Idempotency_Key=k) for g in gateways for k in "abc" for _ in "xy")
    )
    assert {a[0] for a in answers} == {200} and generations(engine) == 3


async def test_a_deleted_answer_is_kept_nowhere(start: Any, engine: Any, store: StoreServer) -> None:
    one, other = await two(start, store, engine)
    shelves = [g.server.app.fleets["m"].kept for g in (one, other)]
    await one.post("/v1/completions", BODY, Idempotency_Key="k")
    await told(one)
    await other.post("/v1/completions", BODY, Idempotency_Key="k")
    (copy,) = shelves[1]._all
    shelves[1].delete(copy)
    await eventually(lambda: not any(len(shelf) for shelf in shelves))
    await told(other)
    await other.post("/v1/completions", BODY, Idempotency_Key="k")
    assert generations(engine) == 2


async def test_a_store_that_stands_still_holds_up_no_key_for_long(
    start: Any, engine: Any, store: StoreServer
) -> None:
    one, _ = await two(start, store, engine, patience_s=PATIENCE_S)
    store.pause()
    try:
        answers = await within(
            asyncio.gather(*(one.post("/v1/completions", BODY, Idempotency_Key=k) for k in "abcd")), 5
        )
        stood_still = one.server.tier.outbox._late
    finally:
        store.go_on()
    assert {a[0] for a in answers} == {200}
    assert stood_still, "they were answered before the store had said anything"


async def test_what_began_without_the_stores_word_is_kept_as_soon_as_it_comes(
    start: Any, engine: Any, store: StoreServer
) -> None:
    one, other = await two(start, store, engine, patience_s=PATIENCE_S)
    store.pause()
    try:
        first = await within(one.post("/v1/completions", BODY, Idempotency_Key="k"), 20)
    finally:
        store.go_on()
    await eventually(lambda: not one.server.tier.outbox._late and one.server.tier.outbox.up)
    await told(one)
    await eventually(lambda: other.server.tier.outbox.up)
    again = await other.post("/v1/completions", BODY, Idempotency_Key="k")
    assert again[2] == first[2] and generations(engine) == 1


class Told:
    """An outbox that tells nothing by itself, and a follower of its one record."""

    def __init__(self, up: bool = True) -> None:
        self.up = up
        self.later: list[Any] = []
        self.shelf = SharedShelf("m", ShelfRules(60.0, 2**20), lambda: 0.0, self, self.hold)  # type: ignore[arg-type]
        self.position = self.seen = 0
        self.shelf.claim("t", b"", b"", self.made, "resp_1")
        self.record.follow(self)

    @property
    def asks(self) -> bool:
        return self.up

    def made(self, record: Any, new: bool) -> None:
        self.record = record
        record.begin(200, b"text/event-stream")

    def hold(self, seconds: float, then: Any) -> None:
        self.later.append(then)

    def changed(self, mirror: Any) -> None:
        """It is told when the test says so."""

    def remove(self, name: str, anybodys: bool = False) -> None:
        """Nobody asks."""

    def more(self) -> None:
        self.seen = self.record.count

    def waiting(self) -> None:
        """Nothing comes."""


def test_a_client_has_nothing_that_the_store_has_not_while_it_answers() -> None:
    told = Told()
    record, mirror = told.record, told.record.mirror
    for n in range(3):
        assert record.append(b"%d" % n)
    assert (told.seen, record.made, record.read(0, 100)) == (0, 3, [])
    facts, pieces, _ = mirror.news()
    assert pieces == [b"0", b"1", b"2"] and facts["state"] == b"running"
    record.append(b"3")
    mirror.told(len(pieces), 0, 0.0)
    assert (told.seen, record.read(0, 100)) == (3, [b"0", b"1", b"2"])
    told.later.pop()()  # HOLD_S is over
    assert told.seen == 3, "what was there when it began has been shown"
    told.later.pop()()
    assert told.seen == 4, "and no later than that"
    record.append(b"4")
    record.end(RecordState.WHOLE)
    assert told.seen == record.made == 5, "the end holds nothing back"
    away = Told(up=False)
    assert away.record.append(b"0") and away.seen == 1, "nothing waits for a store that is away"
    assert away.record.mirror.news()[1] == [b"0"], "it is told when it is back"


async def test_a_store_that_stands_still_holds_up_no_event_for_long(
    start: Any, engine: Any, store: StoreServer
) -> None:
    one, _ = await two(start, store, engine, patience_s=PATIENCE_S)
    engine.gate = asyncio.Event()
    asked = asyncio.ensure_future(one.post("/v1/completions", BODY, Idempotency_Key="k"))
    await eventually(lambda: generations(engine) == 1)
    store.pause()
    try:
        engine.gate.set()
        assert (await within(asked, 3))[0] == 200
    finally:
        store.go_on()


async def test_a_gateway_that_has_just_begun_knows_what_the_others_keep(
    start: Any, engine: Any, store: StoreServer
) -> None:
    one, _ = await two(start, store, engine)
    first = await one.post("/v1/completions", BODY, Idempotency_Key="k")
    await told(one)
    fresh = await start(engine, spec=FLEET % "", store=store.url)
    behind = await fresh.post("/v1/completions", BODY, Idempotency_Key="k", Last_Event_ID="2")
    assert behind[0] == 200 and first[2].endswith(behind[2])

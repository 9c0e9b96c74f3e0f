"""A late first token is asked of a second replica: the first to answer serves, the other is cut."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.unit.gateway.waiting import until

HEDGE = "firstByteTimeout: 1s, hedgeAfter: 100ms"


@pytest.fixture
def hedging(spec: str) -> str:
    return spec.replace("firstByteTimeout: 1s", HEDGE.replace("1s", "10s"))


def late_and_quick(*engines: Any) -> tuple[Any, Any]:
    return next(e for e in engines if e.open), next(e for e in engines if not e.open)


async def test_the_first_token_wins_and_the_loser_is_cut(
    start: Any, engine: Any, other: Any, hedging: str
) -> None:
    gateway = await start(engine, other, spec=hedging)
    engine.faults = other.faults = ["late"]  # whoever is asked first is late, the second is not
    status, _, answer = await gateway.complete(stream=True)
    assert status == 200 and answer.count(b"data: ") == 6 and b"[DONE]" in answer
    await until(lambda: engine.open == other.open == 0)
    assert engine.gone + other.gone == 1, "the slow one was told within a moment"
    fleet = gateway.server.app.fleets["m"]
    assert (fleet.stats.hedges_won, fleet.stats.hedges_lost) == (1, 0)
    assert fleet.router.in_flight == 0 and not fleet.active
    assert {t.state for t in fleet.targets} == {"ready"}, "to be late is no reason to be evicted"
    assert (await gateway.reconciled())["finished_total"] == 1


async def test_a_long_whole_answer_is_hedged_as_the_stream_that_it_is_put_together_from(
    start: Any, engine: Any, other: Any, hedging: str
) -> None:
    """Its second attempt was asked for whole: a generation that nobody could use."""
    gateway = await start(engine, other, spec=hedging)
    engine.faults = other.faults = ["late"]
    status, headers, answer = await gateway.complete(max_tokens=5000)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(answer)["choices"][0]["text"] == "t0 t1 t2 t3 t4 "
    assert [b["stream"] for _, _, b in engine.log + other.log if b["prompt"] == "x"] == [True, True]
    assert gateway.server.app.fleets["m"].stats.hedges_won == 1


async def test_the_first_attempt_may_still_win(start: Any, engine: Any, other: Any, hedging: str) -> None:
    gateway = await start(engine, other, spec=hedging)
    engine.faults = other.faults = ["late", "late"]
    asked = asyncio.ensure_future(gateway.complete(stream=True))
    await until(lambda: engine.open == other.open == 1)
    first = engine if engine.began < other.began else other
    first.let_go.set()
    assert (await asked)[0] == 200
    await until(lambda: engine.open == other.open == 0)
    fleet = gateway.server.app.fleets["m"]
    assert (fleet.stats.hedges_won, fleet.stats.hedges_lost) == (0, 1)
    assert fleet.router.in_flight == 0


async def test_when_the_first_replica_dies_the_second_attempt_is_there_already(
    start: Any, engine: Any, other: Any, hedging: str
) -> None:
    gateway = await start(engine, other, spec=hedging)
    engine.faults = other.faults = ["late", "late"]
    asked = asyncio.ensure_future(gateway.complete(stream=True))
    await until(lambda: engine.open == other.open == 1)
    first, second = (engine, other) if engine.began < other.began else (other, engine)
    await first.kill()
    await until(lambda: gateway.server.app.fleets["m"].stats.hedges_won == 1)
    second.let_go.set()
    assert (await asked)[0] == 200
    f = await gateway.reconciled()
    assert (f["finished_total"], f["retried_total"], f["in_flight"]) == (1, 0, 0)


async def test_both_die_and_a_client_leaves_nothing_behind(
    start: Any, engine: Any, other: Any, hedging: str
) -> None:
    gateway = await start(engine, other, spec=hedging)
    engine.faults = other.faults = ["late", "late"]
    asked = asyncio.ensure_future(gateway.complete(stream=True))
    await until(lambda: engine.open == other.open == 1)
    asked.cancel()
    await until(lambda: engine.open == other.open == 0)
    fleet = gateway.server.app.fleets["m"]
    assert fleet.router.in_flight == 0 and not fleet.active and fleet.stats.hedges_lost == 1
    engine.faults = other.faults = ["late", "late"]
    asked = asyncio.ensure_future(gateway.complete(stream=True))
    fleet.desk.credit = 5.0
    await until(lambda: engine.open == other.open == 1)
    await engine.kill()
    await other.kill()
    await engine.start()
    assert (await asked)[0] in (200, 422)
    assert fleet.router.in_flight == 0


async def test_nothing_is_hedged_under_load_or_beyond_the_budget(
    start: Any, engine: Any, other: Any, hedging: str
) -> None:
    spec = hedging.replace("hedgeAfter: 100ms, queueTimeout: 2s", "maxInFlight: 1, hedgeAfter: 1s")
    gateway = await start(engine, other, spec=spec)
    engine.gate = other.gate = asyncio.Event()
    engine.faults, other.faults = ["late"] * 4, ["late"] * 4
    asked = [asyncio.ensure_future(gateway.complete(stream=True)) for _ in range(4)]
    lane = gateway.server.app.fleets["m"]
    await until(lambda: lane.desk.admission.queued == 2)  # before the first of them could be hedged
    await asyncio.sleep(1.2)  # nothing happens meanwhile
    stats = lane.stats
    assert all(t.second is None for t in lane.desk.tickets) and stats.hedges_won == stats.hedges_lost == 0
    engine.gate.set()
    engine.faults, other.faults = [], []
    engine.let_go.set()
    other.let_go.set()
    assert [(await a)[0] for a in asked] == [200] * 4
    fleet = gateway.server.app.fleets["m"]
    assert fleet.desk.credit < 2, "four requests earn a fifth of a second attempt"

"""A request that kills every engine it touches must not take the fleet with it."""

from __future__ import annotations

import asyncio
import json
from math import inf
from time import monotonic
from types import SimpleNamespace as Some
from typing import Any

import pytest

from seawall.decide.route.pick import Ask
from seawall.decide.route.poison import MOST, QUARANTINE_S, Quarantine, blame
from seawall.gateway.edge.client_side import Client
from seawall.gateway.edge.request import Request
from seawall.gateway.exchange.exchange import Exchange

from .conftest import FakeEngine


class Mortal(FakeEngine):
    """Dies, and stays dead, of a certain prompt."""

    async def _answer(self, reader: Any, writer: Any, data: dict[str, Any]) -> None:
        if "poison" in json.dumps(data):
            await self.kill()
            raise ConnectionResetError
        await super()._answer(reader, writer, data)


@pytest.fixture
async def fleet() -> Any:
    engines = [await Mortal(name).start() for name in "abcd"]
    yield engines
    for one in engines:
        await one.kill()


def living(engines: list[FakeEngine]) -> int:
    return sum(e._server is not None for e in engines)


@pytest.mark.parametrize("stream", [False, True])
async def test_it_takes_two_replicas_and_is_kept_out(
    start: Any, fleet: list[FakeEngine], stream: bool
) -> None:
    gateway = await start(*fleet)
    status, _, answer = await gateway.complete(stream=stream, prompt="poison")
    assert (status, json.loads(answer)["error"]["code"]) == (422, "poison_request")
    assert living(fleet) == 2
    status, _, answer = await gateway.complete(stream=stream, prompt="poison")
    assert (status, json.loads(answer)["error"]["code"]) == (422, "poison_request")
    assert living(fleet) == 2, "its copy did not reach a replica"
    assert (await gateway.complete())[0] == 200
    f = await gateway.reconciled()
    assert f["failed_total"] == 1 and f["in_flight"] == 0
    page = (await gateway.get("/metrics", admin=True))[2].decode()
    assert 'seawall_poison_requests_total{fleet="m"} 1' in page


async def test_streams_that_flow_are_not_suspected_and_are_mended(
    start: Any, fleet: list[FakeEngine], spec: str
) -> None:
    """Two replicas die of the poison; the streams that ran beside it go on elsewhere."""
    gateway = await start(*fleet, spec=spec.replace('resume: "off"', "resume: exact"))
    for engine in fleet:
        engine.tokens, engine.pace_s = 60, 0.02
    ask = {"stream": True, "temperature": 0, "presence_penalty": 1}
    streams = [asyncio.ensure_future(gateway.complete(**ask, prompt=f"p{i}")) for i in range(8)]
    while sum(e.open for e in fleet) < 8:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert (await gateway.complete(prompt="poison"))[0] == 422
    for status, _, answer in await asyncio.gather(*streams):
        assert status == 200 and b"[DONE]" in answer
    assert living(fleet) == 2


async def test_a_replica_that_resets_but_lives_is_no_death(start: Any, engine: Any, other: Any) -> None:
    gateway = await start(engine, other)
    engine.faults, other.faults = ["reset"], ["reset"]
    assert (await gateway.complete())[0] == 200
    assert not gateway.server.app.fleets["m"].quarantine


async def test_a_replica_that_gave_a_token_and_was_cut_off_again_is_no_death(
    start: Any, engine: Any, other: Any
) -> None:
    """Under a storm of resets both may be out of service, for other cuts, as the verdict falls."""
    app = (await start(engine, other)).server.app
    fleet = app.fleets["m"]
    first, second = fleet.targets
    asked = Exchange(Client(app, app.loop), Request(), fleet, None, b"", Ask(1), inf)
    for target in (first, second):
        fleet.evict(target, "reset")
    assert fleet.proven(first)
    fleet.evict(first, "reset")
    asked.ticket.died_on = (first, second)
    assert fleet.condemn(asked.ticket, b"/p", b"x", asked.started) is False
    later = monotonic()
    assert fleet.condemn(asked.ticket, b"/p", b"x", later) is None, "resets are no evidence of a death"
    fleet.desk.died(first, monotonic())
    assert fleet.condemn(asked.ticket, b"/p", b"x", later) is None, "of both it takes evidence"
    fleet.desk.died(second, monotonic())
    assert fleet.condemn(asked.ticket, b"/p", b"x", later) is True


def test_of_a_crowd_nobody_is_convicted_until_one_alone_is_left() -> None:
    poison, bystander, fresh = Some(deaths=0), Some(deaths=0), Some(deaths=0)
    assert blame([poison, bystander]) is None
    assert blame([poison, bystander]) is None
    assert blame([poison, fresh]) is poison
    assert fresh.deaths == 1


def test_the_quarantine_ends_and_is_bounded() -> None:
    q = Quarantine()
    q.add(b"/p", b"x", 10.0)
    assert q.left_s(b"/p", b"x", 10.0) == QUARANTINE_S
    assert q.left_s(b"/p", b"y", 10.0) == q.left_s(b"/q", b"x", 10.0) == 0
    assert q.left_s(b"/p", b"x", 10.0 + QUARANTINE_S) == 0 and not q
    for i in range(MOST + 5):
        q.add(b"/p", b"%d" % i, 20.0)
    assert len(q) == MOST and q.left_s(b"/p", b"0", 21.0) == 0 < q.left_s(b"/p", b"9", 21.0)

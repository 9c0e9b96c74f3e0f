"""Signs of life for whoever waits: a comment every ten seconds, whatever a stream waits for; and where the line runs
between whole answers that are asked for as streams and those that are not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.within import within

from .conftest import FakeEngine
from .test_silence import SPEC, generations, opened
from .waiting import until

COMMENT = b": waiting\n\n"
END = b"0\r\n\r\n"


async def signs(gateway: Any, reader: asyncio.StreamReader) -> bytes:
    """What its client gets when ten seconds have passed, by the sweep's clock, and not before."""
    lane = gateway.server.app.fleets["m"]
    (exchange,) = lane.active
    now = lane.now()
    exchange.check(now)  # what has come so far is heard
    exchange.check(now + 9.0)
    exchange.check(now + 10.5)
    exchange.check(now + 11.0)
    exchange.check(now + 21.0)
    return await within(reader.readuntil(COMMENT), 10) + await within(reader.readuntil(COMMENT), 10)


@pytest.mark.parametrize("begun", [False, True], ids=["prefilled", "held back"])
async def test_a_stream_that_shows_nothing_says_every_ten_seconds_that_it_lives(
    start: Any, engine: FakeEngine, begun: bool
) -> None:
    gateway = await start(engine, spec=SPEC)
    engine.gate = asyncio.Event()
    if not begun:
        engine.faults = ["head_and_nothing"]
    reader, writer, _ = await opened(gateway)
    if begun:
        assert b"t0" in await within(reader.readuntil(b"\n\n"), 10)
    seen = await signs(gateway, reader)
    assert seen.count(COMMENT) == 2 and b"data:" not in seen
    engine.gate.set()
    if begun:
        rest = await within(reader.readuntil(END), 10)
        assert b"t4" in rest and COMMENT not in rest and b"[DONE]" in rest
    writer.close()


async def test_a_stream_that_waits_for_its_replica_to_come_back_says_so_and_is_whole(
    start: Any, engine: FakeEngine
) -> None:
    gateway = await start(engine, spec=SPEC.replace("resume: exact", "resume: exact, queueTimeout: 5m"))
    engine.gate = asyncio.Event()
    reader, writer, _ = await opened(gateway)
    assert b"t0" in await within(reader.readuntil(b"\n\n"), 10)
    await engine.kill()
    lane = gateway.server.app.fleets["m"]
    await until(lambda: lane.admission.queued == 1)
    assert (await signs(gateway, reader)).count(COMMENT) == 2
    engine.gate.set()
    await engine.start(engine.port)
    rest = await within(reader.readuntil(END), 30)
    assert b"t0" not in rest and [b"t%d" % i in rest for i in range(1, 5)] == [True] * 4
    assert b"[DONE]" in rest
    writer.close()


@pytest.mark.parametrize(("usual", "streamed"), [(20, False), (3000, True)])
async def test_where_a_request_names_no_length_what_the_fleet_usually_answers_counts(
    start: Any, engine: FakeEngine, usual: int, streamed: bool
) -> None:
    gateway = await start(engine, spec=SPEC)
    lane = gateway.server.app.fleets["m"]
    for _ in range(100):
        lane.learn_output(usual)
    assert (await gateway.complete(temperature=0))[0] == 200
    assert generations(engine) == [streamed]

"""A batch and a fleet at rest: it waits as long as its window lets it, then a replica is started for it, in time."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.unit.batch.played_fleet import PlayedLane, played
from tests.virtual_time import run

from seawall.decide.scale.behavior import DEFAULT_DOWN, DEFAULT_UP
from seawall.decide.scale.fleet import ScaleState, decide
from seawall.decide.scale.policy import DemandSeen, ScalePolicy

WINDOW_S = 3600
START_S = 120.0
"""Seconds that a replica takes to start."""


async def scaler(lane: PlayedLane, policy: ScalePolicy) -> float:
    """Looks as the local mode does, and starts a replica where the decision says so -> when, since the beginning."""
    state: ScaleState = {}
    while True:
        told = (await lane.fleet.look()).fleets["f"]
        decision, state = decide(
            policy, DemandSeen(replicas=0, queued=float(told.queued)), state, lane.fleet.loop.time()
        )
        if decision.replicas:
            began = lane.fleet.loop.time()
            await asyncio.sleep(START_S)
            lane.fleet.serve()
            return began
        await asyncio.sleep(15.0)


def test_a_replica_is_woken_when_the_deadline_needs_it_and_not_before(tmp_path: Path) -> None:
    async def story() -> tuple[float, float, int]:
        async with played(tmp_path, serves=False) as lane:
            policy = ScalePolicy(lowest=0, highest=2, target=16.0, up=DEFAULT_UP, down=DEFAULT_DOWN)
            woken = asyncio.create_task(scaler(lane, policy))
            made = await lane.submit([24] * 300, window_s=WINDOW_S)
            await asyncio.sleep(10)
            assert "one is called for in 49 min" in lane.outlook.told(made, lane.now())["reason"]
            await asyncio.sleep(WINDOW_S - 605)
            assert "call for replicas" in lane.outlook.told(made, lane.now())["reason"]
            over = await lane.until(300)
            found = await lane.lane.call(lane.lane.store.batch, made.id)
            assert found is not None
            return await woken, over - made.created, found.failed

    at, took, late = run(story())
    assert WINDOW_S - 650 < at < WINDOW_S - 500, (
        "for as long as it can, it waits for others to wake the fleet"
    )
    assert took < WINDOW_S and late == 0


def test_who_is_there_for_others_is_used_at_once(tmp_path: Path) -> None:
    async def story() -> float:
        async with played(tmp_path, serves=False) as lane:
            made = await lane.submit([24] * 300, window_s=WINDOW_S)
            await asyncio.sleep(100)
            assert lane.fleet.desk.admission.queued == 0, "nothing of it counts as demand"
            lane.fleet.serve()
            return await lane.until(300) - made.created

    assert run(story()) < 120

"""Gateways come, die and go on with each other's streams: a replica's places hold over all, and one each above."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from tests.store_server import StoreServer, store_server

from seawall.decide.route.lease import AWAY_S
from seawall.decide.route.pick import Ask, Router
from seawall.domain.seen import Replica
from seawall.drivers.kept_store import KeptStore
from seawall.drivers.store import MEMBER_S, SharedStore
from seawall.drivers.store_client import parse_address
from seawall.gateway.tier.tier import Tier

CAP = 8
REPLICAS = [Replica(fleet="f", name=f"r{i}", url=f"http://r{i}") for i in range(2)]


class Lane:
    """What a tier needs of a fleet: requests wait, first those whose gateway died."""

    has_canary = False
    kept = None

    def __init__(self, rng: Random, name: str = "f") -> None:
        self.name = name
        self.router = Router(CAP, rng)
        self.router.gateways, self.router.agrees = 3, True
        self.router.update(REPLICAS)
        self.waiting = Counter[bool]()
        self.running: list[tuple[Any, Ask]] = []
        self.clock = 0.0
        self.wants: list[Any] = []
        """Replicas of which our own asks want a place."""
        self.asking: list[Any] = []
        """Those where they have one."""
        self.admission: Any = SimpleNamespace(waiting=self.demand, queued=0)
        self.quarantine: Any = SimpleNamespace(marks=lambda: frozenset())

    @property
    def targets(self) -> list[Any]:
        return list(self.router.targets.values())

    def has(self, target: Any) -> bool:
        return target in self.targets

    def demand(self) -> dict[str, tuple[float, int]]:
        return {"t": (1.0, self.waiting.total())} if self.waiting.total() else {}

    def pump(self) -> None:
        for urgent in (True, False):
            while self.waiting[urgent]:
                ask = Ask(100, urgent=urgent)
                picked = self.router.pick(ask, self.clock)
                if picked is None:
                    break
                self.router.start(picked.target, ask, picked.found)
                self.running.append((picked.target, ask))
                self.waiting[urgent] -= 1
        self.admission.queued = self.waiting.total()

    def ask(self, target: Any) -> None:
        """As the truth watch does it: it wants a place, and begins once it has one."""
        self.router.ask(target)
        self.wants.append(target)

    def begin_asks(self) -> None:
        for target in [t for t in self.wants if self.router.has_place(t, self.clock)]:
            self.wants.remove(target)
            self.asking.append(target)

    def end_ask(self) -> None:
        if self.asking:
            self.router.asked(self.asking.pop())
            self.pump()

    def end(self, rng: Random) -> None:
        if self.running:
            target, ask = self.running.pop(rng.randrange(len(self.running)))
            self.router.end(target, ask)
            self.pump()


def _tier(store: StoreServer, *lanes: Lane) -> Tier:
    address = parse_address(store.url)
    links: Any = SharedStore(address), KeptStore(address)
    fleets: Any = {lane.name: lane for lane in lanes}
    return Tier(links, lambda: lanes[0].clock, lambda: fleets, lambda *_: None, lambda *_: None, 3)


def _busy(lanes: list[Lane], replica: str) -> list[int]:
    """What each gateway has there, our own asks that have begun included."""
    return [
        lane.router.targets[replica].in_flight + [t.name for t in lane.asking].count(replica)
        for lane in lanes
    ]


@pytest.mark.parametrize("seed", range(12))
async def test_no_replica_has_more_than_its_places_and_one_for_each_gateway(seed: int) -> None:
    rng = Random(seed)
    async with store_server() as store:
        lanes = [Lane(Random(seed)) for _ in range(3)]
        tiers = [_tier(store, lane) for lane in lanes]
        for tier in tiers:
            await tier.turn()
        client = tiers[0].store.link.client
        for step in range(300):
            lane = rng.choice(lanes)
            match rng.randrange(16):
                case 0 | 1 | 2:
                    lane.waiting[False] += rng.randrange(4)
                    lane.pump()
                case 3 | 4:
                    lane.end(rng)
                case 5 if (
                    step > 20
                ):  # a gateway dies; its streams go on at the others; another one takes its place
                    gone = rng.randrange(3)
                    orphans = len(lanes[gone].running) + lanes[gone].waiting.total()
                    await client.hset("{seawall}:fleet:f:m", tiers[gone].name, f"{-MEMBER_S:.3f}")
                    lanes[gone] = Lane(Random(step))
                    tiers[gone] = _tier(store, lanes[gone])
                    await tiers[gone].turn()
                    for _ in range(orphans):
                        heir = rng.choice(lanes)
                        heir.waiting[True] += 1
                    for heir in lanes:
                        heir.pump()
                case 6 if len(lane.wants) + len(lane.asking) < 2:
                    lane.ask(rng.choice(lane.targets))
                case 7:
                    lane.end_ask()
                case _:
                    await tiers[rng.randrange(3)].round()
            for lane in lanes:
                lane.begin_asks()
            for replica in REPLICAS:
                busy = _busy(lanes, replica.name)
                assert sum(busy) <= CAP + len(lanes), f"step {step}: {replica.name} has {busy}"
        for tier in tiers:
            await tier.store.close()


async def test_each_fleet_has_its_own_number_of_gateways_whoever_is_told_last() -> None:
    async with store_server() as store:
        of_f, of_g = [Lane(Random(0)) for _ in range(3)], [Lane(Random(0), "g") for _ in range(2)]
        tiers = [_tier(store, f, g) for f, g in zip(of_f, of_g, strict=False)] + [_tier(store, of_f[2])]
        for _ in range(4):
            for tier in tiers:
                await tier.turn()
        assert [lane.router.gateways for lane in of_f] == [3, 3, 3]
        assert [lane.router.gateways for lane in of_g] == [2, 2]
        assert [tier.gateways for tier in tiers] == [3, 3, 3]
        await store.kill()
        for lane in of_f + of_g:
            lane.clock = AWAY_S + 0.1
        for tier in tiers:
            await tier.turn()
        for lane in of_f + of_g:
            lane.waiting[False] = 100
            lane.pump()
        for lanes, each in ((of_f, CAP // 3), (of_g, CAP // 2)):
            assert [_busy([lane], "r0") for lane in lanes] == [[each]] * len(lanes), "its share of each fleet"
        for tier in tiers:
            await tier.store.close()


async def _two_of_which_one_stood_still(store: StoreServer) -> tuple[list[Lane], list[Tier]]:
    """The first had its places, and stood still; the other took them, for nobody kept them for it."""
    lanes = [Lane(Random(0)) for _ in range(2)]
    tiers = [_tier(store, lane) for lane in lanes]
    for _ in range(4):
        for tier in tiers:
            await tier.turn()
    await tiers[1].store.link.client.hset("{seawall}:fleet:f:m", tiers[0].name, f"{-MEMBER_S:.3f}")
    lanes[1].waiting[False] = 100
    lanes[1].pump()
    async with asyncio.timeout(30):  # a store that is new gives nobody more than it has
        while _busy(lanes, "r0") != [0, CAP] or _busy(lanes, "r1") != [0, CAP]:
            await tiers[1].round()
    return lanes, tiers


async def test_a_gateway_that_stood_still_places_nothing_before_it_has_asked() -> None:
    async with store_server() as store:
        lanes, tiers = await _two_of_which_one_stood_still(store)
        asleep = lanes[0]
        asleep.clock = MEMBER_S + 0.1
        asleep.waiting[False], asleep.waiting[True] = 20, 20
        asleep.ask(asleep.targets[0])
        asleep.pump()
        asleep.begin_asks()
        assert _busy(lanes, "r0") == [0, CAP] and _busy(lanes, "r1") == [0, CAP]
        for _ in range(4):
            await tiers[0].round()
            asleep.begin_asks()
            for replica in REPLICAS:
                assert sum(_busy(lanes, replica.name)) <= CAP + len(lanes)
        lanes[1].waiting.clear()
        while lanes[1].running:
            lanes[1].end(Random(0))
        async with asyncio.timeout(30):
            while sum(_busy([asleep], "r0")) < CAP:  # it goes on with what has become free
                for tier in tiers:
                    await tier.round()
                asleep.begin_asks()
        for tier in tiers:
            await tier.store.close()


async def test_a_store_that_was_not_heard_in_ones_own_sleep_is_not_away() -> None:
    """The answer's time limit passes while the gateway stands still: silence that nobody listened to."""
    async with store_server() as store:
        lanes, tiers = await _two_of_which_one_stood_still(store)
        asleep = lanes[0]
        asleep.waiting[False] = 20
        store.pause()
        turn = asyncio.ensure_future(tiers[0].turn())
        await asyncio.sleep(0)
        asleep.clock = 60.0
        asleep.pump()
        await turn
        assert _busy(lanes, "r0") == [0, CAP], "it did not go on alone"
        for _ in range(2):  # but one that does not answer who is awake is
            asleep.clock += AWAY_S
            await tiers[0].turn()
        assert _busy([asleep], "r0") == [CAP // 2], "its share"
        store.go_on()
        for tier in tiers:
            await tier.store.close()

"""Gateways come, die and go on with each other's streams: a replica's places hold over all, and one each above."""

from __future__ import annotations

from collections import Counter
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from tests.store_server import StoreServer, store_server

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

    name = "f"
    has_canary = False
    kept = None

    def __init__(self, rng: Random) -> None:
        self.router = Router(CAP, rng)
        self.router.gateways, self.router.agrees = 3, True
        self.router.update(REPLICAS)
        self.waiting = Counter[bool]()
        self.running: list[tuple[Any, Ask]] = []
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
                picked = self.router.pick(ask, 0.0)
                if picked is None:
                    break
                self.router.start(picked.target, ask, picked.found)
                self.running.append((picked.target, ask))
                self.waiting[urgent] -= 1
        self.admission.queued = self.waiting.total()

    def end(self, rng: Random) -> None:
        if self.running:
            target, ask = self.running.pop(rng.randrange(len(self.running)))
            self.router.end(target, ask)
            self.pump()


def _tier(store: StoreServer, lane: Lane) -> Tier:
    address = parse_address(store.url)
    links: Any = SharedStore(address), KeptStore(address)
    return Tier(links, lambda: 0.0, lambda: {"f": lane}, lambda *_: None, lambda *_: None, 3)  # type: ignore[dict-item]


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
            match rng.randrange(12):
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
                case _:
                    await tiers[rng.randrange(3)].round()
            for replica in REPLICAS:
                busy = [x.router.targets[replica.name].in_flight for x in lanes]
                assert sum(busy) <= CAP + len(lanes), f"step {step}: {replica.name} has {busy}"
        for tier in tiers:
            await tier.store.close()

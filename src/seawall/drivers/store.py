"""What gateways ask of the shared store (Valkey or Redis) ten times a second: budgets, places, tallies and news.

What a script does is atomic, and is the same as the pure rule beside it: `LEASES` is `decide.route.lease.Pot.turn`. The
store's clock counts, never a gateway's; it may jump, for another server has another one. Every call has a time limit;
who calls is never a request. Forbidden here: rules of our own, and anything that waits for ever.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from seawall.decide.route.lease import ACTIVE_S, GONE_S, LEASE, LeaseAsk, LeaseTold
from seawall.decide.route.share import Demand
from seawall.drivers.store_client import Password, StoreAddress, StoreAway, StoreLink
from seawall.drivers.store_scripts import ROUND

MEMBER_S: Final = 3.0
"""Without a word for so long a gateway holds no places at replicas any more."""
TALLY_S: Final = 86_400
"""Seconds for which the tally of a gateway that is gone counts."""
T = TypeVar("T")


@dataclass(frozen=True)
class PlacesTold:
    """What the store says of one fleet's replicas."""

    demands: tuple[Demand, ...]
    """Tenant -> (weight, requests that wait), of each gateway, this one included."""
    places: tuple[tuple[int, int, int], ...]
    """Places that are ours, requests of others, places of others, at each replica that was asked for."""


@dataclass(frozen=True)
class StoreAsk(Generic[T]):
    """One part of a message, and how its answer is read."""

    part: str
    keys: Sequence[str]
    argv: Sequence[object]
    read: Callable[[Any], T]


class SharedStore:
    """A connection to it. All methods raise `StoreAway` when it does not answer in time."""

    def __init__(
        self, address: StoreAddress, password: Password | None = None, ca: Path | None = None
    ) -> None:
        self.address = address
        self.link = StoreLink(address, password, ca=ca)
        self._news = self.link.key("news")
        self._news_at = ""

    async def ask(self, *asks: StoreAsk[Any]) -> list[Any]:
        """All of it in one message; the answers in that order."""
        keys: list[str] = []
        argv: list[object] = []
        for one in asks:
            keys += one.keys
            argv += (one.part, len(one.keys), len(one.argv), *one.argv)
        answers = await self.link.script(ROUND, keys, argv)
        try:
            return [one.read(answer) for one, answer in zip(asks, answers, strict=True)]
        except (ValueError, TypeError, LookupError, AttributeError) as e:
            raise StoreAway(f"it holds what no gateway has written: {type(e).__name__}: {e}") from None

    def leases(
        self, gateway: str, asks: Mapping[str, tuple[float, float, LeaseAsk]], now: float | None = None
    ) -> StoreAsk[list[LeaseTold]]:
        """What is granted of each budget: (cap, per second, what is told). `now`: the store's clock, for tests."""
        argv: list[object] = [gateway, "" if now is None else f"{now:.6f}", GONE_S, ACTIVE_S, LEASE]
        for cap, per_s, a in asks.values():
            argv += (
                cap,
                per_s,
                f"{a.spent:.6f}",
                f"{a.granted:.6f}",
                f"{a.released:.6f}",
                int(a.active),
                a.level,
            )
        return StoreAsk("leases", [self.link.key(f"lease:{name}") for name in asks], argv, _leases)

    def places(
        self,
        gateway: str,
        fleet: str,
        cap: int,
        demand: Demand,
        wanted: Mapping[str, tuple[int, int, int]],
    ) -> StoreAsk[PlacesTold]:
        """`wanted`: replica -> requests in flight, places wanted in all, places that are ours already."""
        argv: list[object] = [gateway, cap, MEMBER_S, json.dumps(demand, separators=(",", ":"))]
        for replica, three in wanted.items():
            argv += (replica, *three)
        return StoreAsk("places", [self.link.key(f"fleet:{fleet}")], argv, _places)

    def tallies(self, gateway: str, fleet: str, own: str) -> StoreAsk[dict[str, str]]:
        """Tells this gateway's tally of a fleet, and hears those of others, of gone ones, too: name -> what it told."""

        def read(told: list[str]) -> dict[str, str]:
            return {name: text for name, text in zip(told[::2], told[1::2], strict=True) if name != gateway}

        return StoreAsk("tallies", [self.link.key(f"tally:{fleet}")], [gateway, own, TALLY_S], read)

    def news(self, own: Sequence[Mapping[str, str]]) -> StoreAsk[list[dict[str, str]]]:
        """Tells all gateways, and hears what others have told since the last time; at first nothing."""
        argv: list[object] = [self._news_at]
        for one in own:
            argv += (2 * len(one), *(x for pair in one.items() for x in pair))
        return StoreAsk("news", [self._news], argv, self._heard)

    def _heard(self, told: Any) -> list[dict[str, str]]:
        self._news_at, entries = told
        return [dict(zip(flat[::2], flat[1::2], strict=True)) for _, flat in entries]

    async def close(self) -> None:
        await self.link.close()


def _leases(lines: list[str]) -> list[LeaseTold]:
    told = [line.split() for line in lines]
    return [LeaseTold(float(granted), float(level), int(n)) for granted, level, n in told]


def _places(told: Any) -> PlacesTold:
    demands, places = told
    found = [tuple(map(int, line.split())) for line in places]
    return PlacesTold(tuple(json.loads(d) for d in demands), tuple((a, b, c) for a, b, c in found))

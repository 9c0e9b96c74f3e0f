"""What this gateway has in common with the others: budgets, replicas' places, fairness, suspicions. One per process.

Every ROUND_S it tells the store what changed, and hears the rest; no request ever waits for it. When the store does not
answer, this gateway goes on alone with its share of everything, says so, and settles when the store is back. Forbidden
here: touching a request, and believing another gateway: what it says of a replica or a request is a suspicion.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from seawall.decide.route.lease import AWAY_S, BudgetLease, LeaseAsk, LeaseTold
from seawall.decide.route.meter import Meter
from seawall.decide.route.pick import Target
from seawall.decide.route.poison import DEATHS
from seawall.decide.route.prefix import Brought
from seawall.decide.route.record import ShelfRules
from seawall.decide.route.share import Demand, places_wanted, share_of
from seawall.domain.told import SideState, StoreState
from seawall.drivers.kept_store import KeptStore
from seawall.drivers.store import MEMBER_S, PlacesTold, SharedStore, StoreAsk
from seawall.drivers.store_client import TIMEOUT_S, StoreAway
from seawall.gateway.exchange.lane import FleetLane
from seawall.gateway.tier.kept import SharedShelf
from seawall.gateway.tier.outbox import Adopt, KeptOutbox
from seawall.gateway.tier.prefixes import packed, unpacked

log = logging.getLogger("seawall.gateway.tier")
ROUND_S: Final = 0.1
"""Between two rounds."""
TALLY_EVERY: Final = 10
QUIET_EVERY: Final = 3
"""A fleet in which nothing happens is told of every third round."""
HINT_S: Final = 30.0
"""How long a poison verdict of another gateway waits for evidence here."""
MOST_UNSAID: Final = 1000
HEARSAY: Final = "another gateway evicted it"
OUT: Final = ("evicted", "probing")
RoundPart = tuple[StoreAsk[Any], Callable[[Any], None]]
"""One part of a message, and who takes its answer."""


class Tier:
    """See the module."""

    def __init__(
        self,
        stores: tuple[SharedStore, KeptStore],
        now: Callable[[], float],
        fleets: Callable[[], Mapping[str, FleetLane]],
        suspect: Callable[[FleetLane, Target, str], None],
        adopt: Adopt,
        gateways: int = 2,
    ) -> None:
        self.store, kept = stores
        self.name = secrets.token_hex(6)
        self.outbox = KeptOutbox(kept, self.name, now, adopt, self._say)
        """Records of answers, told and fetched."""
        self._unsaid: list[dict[str, str]] = []
        self.expected = max(1, gateways)
        """Gateways, before any has told."""
        self.up = False
        self.closing = False
        self.heard_at = self.awake_at = now()
        self.rounds = self.failures = 0
        self.round_s = 0.0
        """Seconds that the last round took."""
        self.error = "it has not answered yet"
        self.alone_s = 0.0
        """Seconds without the store, in all."""
        self._now = now
        self._fleets = fleets
        self._suspect = suspect
        self.tallies: dict[str, dict[str, dict[str, SideState]]] = {}
        """Fleet -> other gateway -> its sides of the canary split, as it last told."""
        self._meters: dict[str, Meter] = {}
        self._demands: dict[str, tuple[Demand, ...]] = {}
        self._evictions: dict[Target, int] = {}
        self._marks: dict[str, set[bytes]] = {}
        self._hints: dict[tuple[str, bytes], float] = {}

    def share(self, name: str, meter: Meter) -> None:
        """An account that all gateways keep together."""
        self._meters[name] = meter
        meter.lend(self.expected)

    def shelf(self, fleet: str, rules: ShelfRules) -> SharedShelf:
        """Where answers of this fleet are kept, for all gateways to find."""
        loop = asyncio.get_running_loop()
        return SharedShelf(fleet, rules, self._now, self.outbox, loop.call_later)

    def _say(self, news: dict[str, str]) -> None:
        self._unsaid.append(news | {"by": self.name})

    @property
    def gateways(self) -> int:
        """That share a fleet with this one, as far as is known: each fleet has its own, this is the most."""
        return max((f.router.gateways for f in self._fleets().values()), default=self.expected)

    @property
    def alone(self) -> bool:
        """The store has been silent for too long: this gateway goes by its own share. While this process stood still
        nobody was silent."""
        return self._now() - max(self.heard_at, self.awake_at) > AWAY_S

    async def run(self) -> None:
        """Until `closing`: a client's library may swallow a cancellation."""
        was = self._now()
        while not self.closing:
            await self.turn()
            now = self._now()
            if self.alone:
                self.alone_s += now - was
            was = now
            await asyncio.sleep(ROUND_S)
            self._woke(now + ROUND_S)

    async def turn(self) -> None:
        """A round, whatever comes of it, within the time limit of a call. One is due before the first request: whose
        the places are that this gateway finds is not to be guessed."""
        try:
            await self.round()
        except Exception:  # what another release has written there must not end this gateway
            log.exception("a round with the store failed: a fault of the gateway")
            self._lost("a fault of the gateway: see its log")

    def told(self) -> StoreState:
        """How the store stands."""
        return StoreState(
            address=self.store.address.shown, up=self.up, alone=self.alone, alone_s=round(self.alone_s, 3),
            gateways=self.gateways, round_s=round(self.round_s, 4), error="" if self.up else self.error,
        )  # fmt: skip

    async def round(self) -> None:
        """Tells and hears once, in one message."""
        began = self._now()
        self._gather()
        fleets = self._fleets().values()
        parts = [self._leases(), *map(self._places, fleets), *map(self._tally, fleets)]
        asked = [one for one in parts if one is not None]
        news = self._unsaid[:MOST_UNSAID]
        try:
            *answers, heard = await self.store.ask(*(ask for ask, _ in asked), self.store.news(news))
        except StoreAway as e:
            self.round_s = self._now() - began
            self._woke(began + TIMEOUT_S)
            self._lost(str(e))
            return
        self.round_s = self._now() - began
        self.rounds += 1
        del self._unsaid[: len(news)]
        for (_, take), answer in zip(asked, answers, strict=True):
            take(answer)
        for one in heard:
            if one.get("by") != self.name:
                self._hear(one)
        if not self.up:
            log.warning("the store %s answers", self.store.address.shown)
            self.outbox.up = True
        self.up, self.heard_at = True, self._now()
        self._believe()

    def _lost(self, why: str) -> None:
        """The store did not answer, or not as it should."""
        self.failures += 1
        if self.up or self.failures == 1:
            log.error("the store %s is away (%s): going on alone", self.store.address.shown, why)
        self.up, self.error = False, why
        if self.alone:
            self._alone()

    def _woke(self, due: float) -> None:
        """Something was due then. When it comes much later, it was this process that stood still."""
        now = self._now()
        if now - due > AWAY_S:
            self.awake_at = now

    # -- budgets

    def _leases(self) -> RoundPart | None:
        now = self._now()
        asks: dict[str, tuple[float, float, LeaseAsk]] = {}
        leases: list[BudgetLease] = []
        for name, meter in self._meters.items():
            for kind, lease in meter.leases.items():
                if lease.silent(now):
                    continue
                asks[f"{name}:{kind}"] = lease.cap, lease.per_s, lease.ask(now)
                leases.append(lease)

        def take(told: list[LeaseTold]) -> None:
            for lease, one in zip(leases, told, strict=True):
                lease.told(one, self._now())

        return (self.store.leases(self.name, asks), take) if asks else None

    # -- places and fairness

    def _places(self, fleet: FleetLane) -> RoundPart | None:
        waiting = fleet.admission.waiting()
        targets = list(fleet.targets)
        router, began = fleet.router, self._now()
        busy = bool(waiting) or router.in_flight > 0 or router.asks > 0
        if not busy and self.rounds % QUIET_EVERY:
            return None
        demand = {name: (weight, float(count)) for name, (weight, count) in waiting.items()}
        part = share_of(demand, self._demands.get(fleet.name, ()))
        cap = router.cap
        wanted = {
            t.name: (
                t.taken,
                places_wanted(cap, t.taken, t.others, router.gateways, part),
                max(0, cap - t.held),
            )
            for t in targets
        }

        def take(told: PlacesTold) -> None:
            self._demands[fleet.name] = told.demands
            router.gateways = max(1, len(told.demands))
            # So long the others keep places for this gateway, by the moment at which it asked.
            router.sure_until = began + MEMBER_S
            for target, (ours, theirs, claims) in zip(targets, told.places, strict=True):
                if not fleet.has(target):
                    continue
                # Who has more than its part keeps what runs, and takes nothing new: else it would never shrink.
                allowed = min(ours, wanted[target.name][1])
                # Above the cap their claims count: what we have too much of is not ours to add to.
                router.set_others(target, theirs, max(claims, cap - allowed))
            if fleet.admission.queued and router.free():
                fleet.pump()

        return self.store.places(self.name, fleet.name, cap, demand, wanted), take

    def _alone(self) -> None:
        """Nobody knows what others spend, nor what they have at a replica: each keeps to its share."""
        now = self._now()
        for meter in self._meters.values():
            for lease in meter.leases.values():
                if not lease.silent(now):
                    lease.without_store(now)
        for fleet in self._fleets().values():
            cap = fleet.router.cap
            own = max(1, cap // fleet.router.gateways)
            fleet.router.sure_until = now + MEMBER_S
            for target in fleet.targets:
                fleet.router.set_others(target, target.others, cap - own)
            if fleet.admission.queued and fleet.router.free():
                fleet.pump()

    # -- tallies

    def _tally(self, fleet: FleetLane) -> RoundPart | None:
        """A canary's numbers outlive the gateway that counted them."""
        if not fleet.has_canary:
            self.tallies.pop(fleet.name, None)
            return None
        if self.rounds % TALLY_EVERY:
            return None
        sides = {
            name: msgspec.convert(s, SideState, from_attributes=True) for name, s in fleet.stats.sides.items()
        }

        def take(told: dict[str, str]) -> None:
            found: dict[str, dict[str, SideState]] = {}
            for name, text in told.items():
                with contextlib.suppress(msgspec.MsgspecError):
                    found[name] = msgspec.json.decode(text, type=dict[str, SideState])
            self.tallies[fleet.name] = found

        return self.store.tallies(self.name, fleet.name, msgspec.json.encode(sides).decode()), take

    # -- suspicions

    def _gather(self) -> None:
        """What is new here and is to be told. It waits until the store has heard it."""
        fleets = self._fleets()
        for fleet in fleets.values():
            for t in fleet.targets:
                before = self._evictions.get(t, 0)
                if t.evictions > before and t.state in OUT and not t.reason.startswith(HEARSAY):
                    self._say({"what": "evicted", "fleet": fleet.name} | _named(t))
                if t.evictions != before:
                    self._evictions[t] = t.evictions
            marks = fleet.quarantine.marks()
            for mark in marks - self._marks.get(fleet.name, set()):
                self._say({"what": "poison", "fleet": fleet.name, "mark": mark.hex()})
            self._marks[fleet.name] = marks
            if self.up and (parts := packed(functools.partial(_next, fleet))):
                data = json.dumps(parts, separators=(",", ":"))
                self._say({"what": "prefix", "fleet": fleet.name, "data": data})
        if self._evictions:
            known = {t for f in fleets.values() for t in f.targets}
            self._evictions = {t: n for t, n in self._evictions.items() if t in known}
        del self._unsaid[:-MOST_UNSAID]

    def _hear(self, one: Mapping[str, str]) -> None:
        if one.get("what") == "cancel":
            self.outbox.heard_cancel(one.get("record", ""))
            return
        if one.get("what") == "forget":
            for lane in self._fleets().values():
                if isinstance(lane.kept, SharedShelf):
                    lane.kept.forget(one.get("record", ""))
            return
        fleet = self._fleets().get(one.get("fleet", ""))
        if fleet is None:
            return
        if one.get("what") == "prefix":
            for brought in unpacked(one.get("data", "")):
                if brought.replica in fleet.router.targets:
                    fleet.router.prefix.hear(brought)
        elif one.get("what") == "evicted":
            for target in fleet.targets:
                if _named(target).items() <= one.items() and target.state == "ready":
                    self._suspect(fleet, target, HEARSAY)
        elif one.get("what") == "poison":
            try:
                self._hints[fleet.name, bytes.fromhex(one.get("mark", ""))] = self._now() + HINT_S
            except ValueError:
                return

    def _believe(self) -> None:
        """A poison verdict counts here once as many replicas as it names have been seen to be out here, too."""
        now = self._now()
        for (name, mark), until in list(self._hints.items()):
            fleet = self._fleets().get(name)
            if fleet is None or now > until:
                del self._hints[name, mark]
            elif sum(t.state in OUT or now - t.died_at < HINT_S for t in fleet.targets) >= DEATHS:
                fleet.quarantine.add(b"", b"", now, mark)
                self._marks.setdefault(name, set()).add(mark)
                del self._hints[name, mark]


def _next(fleet: FleetLane) -> Brought | None:
    """The next prompt of which other gateways are to be told."""
    news = fleet.router.prefix.news
    if news is None:
        fleet.router.prefix.share()
        return None
    return news.popleft() if news else None


def _named(target: Target) -> dict[str, str]:
    return {"replica": target.name, "url": target.replica.url}

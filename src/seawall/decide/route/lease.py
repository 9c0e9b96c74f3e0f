"""A budget that several gateways spend together: a pot in a store, and each gateway's lease of it. Sans-IO.

A pot is a token bucket: `cap` at most, `per_s` more every second (0: a quota, which only falls). A gateway spends what
it has been granted, and asks for more in the background, so that no request waits: `turn` is what the store does with
one such message, here in Python for the simulator and for tests; drivers/store.py holds the same in Lua.

All numbers that travel are totals since the gateway began, and only grow: a message that is lost, doubled or late
changes nothing. So what was granted never exceeds the pot, and what was spent never exceeds what was granted by more
than the overdrafts. Those let a burst pass while the pot is known to have it: half of what is left is for all gateways
together (all of it for one that is alone, and for one request of each); and COLD of the pot, or one request, for those
that have not heard of it. An overdraft is paid from the pot before anybody is granted more.
Forbidden here: awaiting, clocks, the global rng. `now` in seconds of a monotonic clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, NamedTuple

LEASE: Final = 0.01
"""Share of a pot that one gateway holds at most; never less than 1."""
COLD: Final = 0.1
"""Share of a pot that a gateway may spend before it has heard of it, divided by the gateways."""
IDLE_S: Final = 5.0
"""Without a request for so long a gateway gives its lease back."""
AWAY_S: Final = 1.0
"""Without a word of the store for so long a gateway goes on alone, with its share of the pot."""
GONE_S: Final = 60.0
"""Without a word of a gateway for so long its lease is forgotten."""
BACK_S: Final = 1.0
"""The store's clock is another one when it is so far behind what it was: after a change of servers."""
ACTIVE_S: Final = 2.0
"""Gateways that have asked in so long share what is left."""


class LeaseAsk(NamedTuple):
    """What a gateway tells of one lease. Totals since it began."""

    spent: float
    granted: float
    released: float
    active: bool
    """It wants more; otherwise it only settles."""
    level: float
    """Of the pot, as last heard; below 0: never. A store that has lost the pot begins from it."""


class LeaseTold(NamedTuple):
    """What the store answers."""

    granted: float
    """In all, since the gateway began."""
    level: float
    """Left in the pot."""
    gateways: int
    """That share it now."""


@dataclass
class _Member:
    granted: float
    released: float
    seen: float
    asked: float


@dataclass
class Pot:
    """One budget as the store keeps it."""

    cap: float
    per_s: float
    level: float = -1.0
    at: float = 0.0
    members: dict[str, _Member] = field(default_factory=dict)

    def turn(self, gateway: str, ask: LeaseAsk, now: float) -> LeaseTold:
        """One message of one gateway."""
        if not self.members and self.level < 0:
            self.level, self.at = (self.cap if ask.level < 0 else min(self.cap, ask.level)), now
        if self.per_s > 0:
            self.level = min(self.cap, self.level + max(0.0, now - self.at) * self.per_s)
        self.at = now if self.at - now > BACK_S else max(self.at, now)
        for name in [n for n, m in self.members.items() if abs(now - m.seen) > GONE_S and n != gateway]:
            del self.members[name]
        member = self.members.get(gateway)
        if member is None:  # new here, or known to a store that has lost it
            member = self.members[gateway] = _Member(ask.granted, ask.released, now, -math.inf)
        member.seen = now
        if ask.released > member.released:
            self.level = min(self.cap, self.level + ask.released - member.released)
            member.released = ask.released
        if ask.active:
            member.asked = now
        active = max(1, sum(abs(now - m.asked) <= ACTIVE_S for m in self.members.values()))
        hand = member.granted - member.released - ask.spent
        raised = 0.0
        if hand < 0:
            raised = min(max(0.0, self.level), -hand)
        if ask.active and self.level > raised:
            left, held = self.level - raised, max(0.0, hand)
            fair = min((left + held) / (2 * active), max(1.0, LEASE * self.cap))
            raised += min(left, max(0.0, fair - held))
        member.granted += raised
        self.level -= raised
        return LeaseTold(member.granted, self.level, active)


class BudgetLease:
    """One gateway's part of one pot."""

    __slots__ = (
        "alone",
        "away",
        "cap",
        "filled_at",
        "gateways",
        "granted",
        "heard_at",
        "level",
        "per_s",
        "released",
        "spent",
        "used_at",
    )

    def __init__(self, cap: float, per_s: float, gateways: int = 2) -> None:
        self.gateways = max(1, gateways)
        """That share the pot now, this one counted in."""
        self.granted = self.released = self.spent = 0.0
        self.level = -1.0
        """Of the pot, as last heard; below 0: never."""
        self.heard_at = -math.inf
        self.used_at = -math.inf
        self.away = False
        """The store does not answer: this gateway goes by its own share of the pot."""
        self.alone = 0.0
        """That share, as far as it has come since the store fell silent."""
        self.filled_at = -math.inf
        self.configure(cap, per_s)

    def configure(self, cap: float, per_s: float) -> None:
        """Takes another limit; what was spent stays spent."""
        self.cap, self.per_s = cap, per_s

    @property
    def hand(self) -> float:
        """Granted and not spent; below 0: overdrawn."""
        return self.granted - self.released - self.spent + self.alone

    @property
    def known(self) -> bool:
        """The store has told of the pot."""
        return self.level >= 0

    def silent(self, now: float) -> bool:
        """There is nothing to ask of it, nor to tell."""
        idle = now - self.used_at
        if self.away:
            return False
        if self.hand == 0 and not self.known and idle > IDLE_S:
            return True
        return idle > 2 * IDLE_S and self.hand >= 0 and now - self.heard_at < 20 * AWAY_S

    def room(self, now: float) -> float:
        """How much one request may take now."""
        self.used_at = now
        hand = self.hand
        if self.away:
            return hand
        if not self.known:
            return self.cap * (COLD if self.spent else 1.0) / self.gateways + hand
        heard_s = now - self.heard_at
        fresh = heard_s <= AWAY_S
        level = self.level if fresh else min(self.cap, self.level + heard_s * self.per_s)
        if hand >= -max(1.0, LEASE * self.cap):
            return hand + level
        if fresh:
            return hand + (level if self.gateways == 1 else level / (2 * self.gateways))
        return hand + min(level, COLD * self.cap) / self.gateways

    def without_store(self, now: float) -> None:
        """The store is away: this gateway's share of the pot fills here. To be called several times in AWAY_S: when
        longer has passed since the last time, this process stood still, and others may have spent what came then."""
        share = 1 / self.gateways
        if self.per_s > 0:
            room = self.cap * share - max(0.0, self.hand)
            span = now - max(self.heard_at, self.filled_at)
            self.alone += max(0.0, min(room, min(span, AWAY_S) * self.per_s * share))
        elif not self.away:
            level = self.level if self.known else self.cap
            self.alone += max(0.0, level * share - max(0.0, self.hand))
        self.away, self.filled_at = True, now

    def take(self, amount: float) -> None:
        """It is spent; a negative amount: what was reckoned too much."""
        self.spent += amount

    def ask(self, now: float) -> LeaseAsk:
        """What is to be told now. What nobody needs any more is given back."""
        idle = now - self.used_at > IDLE_S
        if idle and self.alone == 0 and self.known:
            over = self.granted - self.released - self.spent
            if over > 0:
                self.released += over
        return LeaseAsk(self.spent, self.granted, self.released, not idle, self.level)

    def told(self, told: LeaseTold, now: float) -> None:
        """The store's answer, whichever message it was to."""
        self.granted = max(self.granted, told.granted)
        self.level, self.gateways = max(0.0, told.level), max(1, told.gateways)
        self.heard_at = now
        self.away, self.alone, self.filled_at = False, 0.0, -math.inf

    def wait_s(self, amount: float) -> float:
        """Seconds until so much may be there; inf: never by itself."""
        if self.per_s <= 0:
            return math.inf
        return max(0.0, amount - self.hand) / self.per_s

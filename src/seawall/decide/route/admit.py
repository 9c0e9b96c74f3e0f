"""Who may wait, for how long, and who is next. Sans-IO and synchronous: the gateway and the simulator use it.

One `Admission` per fleet. Waiting is bounded in requests and in tokens; what is over the bound is refused at
once, with a Retry-After from the measured rate of finishing. Among those who wait, order is

1. broken streams that must be resumed (they were admitted long ago),
2. the lowest priority number, except that every EIGHTH turn goes to the lowest-ranking level that waits,
   so that no level starves; lines of batches (DUE, SPARE) have no part in that: they are served when nobody else waits,
3. within a level, deficit round robin over tenants, on tokens (Shreedhar & Varghese, SIGCOMM 1995): each
   tenant gets tokens in proportion to its weight, whatever the number and size of its requests.

Nothing is forgotten: every ticket leaves by exactly one of `next`, `cancel`, `expire`.
Forbidden here: awaiting, clocks, the global rng. `now` is in seconds of any monotonic clock.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any, Final

from seawall.decide.route.pick import Ask, Target
from seawall.decide.route.prefix import Visit

QUANTUM = 2048
"""Tokens a tenant of weight 1 earns per round."""
EIGHTH = 8
LEAST: Final = 9
"""The last priority of a client: of who ranks himself last."""
DUE: Final = 10
"""Priority of a batch's line whose time is short: it waits in line after everybody, and so counts as demand."""
SPARE: Final = 11
"""Priority of a batch's line that lives on what others leave. It never waits at the door (`Desk.offer`)."""
WHEEL_S = 0.25
"""Resolution of queue deadlines."""


@dataclass(frozen=True)
class Bounds:
    """What may wait in one fleet. None: 60 s of the fleet's measured work."""

    requests: int | None = None
    tokens: int | None = None
    least: int = 64
    most: int = 10_000


@dataclass(frozen=True)
class Admitted:
    """Go on: pick a replica now."""

    reason: str = "a replica is free"


ADMITTED: Final = Admitted()


@dataclass(frozen=True)
class Queued:
    ahead: int
    reason: str


@dataclass(frozen=True)
class Rejected:
    retry_after_s: int
    reason: str


class Ticket:
    """One request at the desk: who asks for what, where it waits, where it is. `owner` is whatever the shell wants
    back; nothing here looks at it."""

    __slots__ = (
        "ask",
        "awaits",
        "begun",
        "bucket",
        "convicted",
        "deadline",
        "deaths",
        "died_on",
        "owner",
        "priority",
        "queued_at",
        "second",
        "target",
        "tenant",
        "tokens",
        "until",
        "visit",
        "weight",
    )

    def __init__(
        self,
        ask: Ask,
        tenant: str = "",
        weight: float = 1.0,
        priority: int = 5,
        deadline: float = math.inf,
        owner: Any = None,
    ) -> None:
        self.ask = ask
        self.tenant = tenant
        self.weight = weight
        self.priority = priority
        self.until = deadline
        """The request's own deadline."""
        self.deadline = deadline
        """How long it may wait in the queue."""
        self.tokens = ask.tokens if ask.tokens > 1 else 1
        self.owner = owner
        self.queued_at = -1.0
        self.bucket = -1
        self.target: Target | None = None
        """The replica that it has a place at."""
        self.second: Target | None = None
        """The replica of its hedged attempt."""
        self.visit: Visit | None = None
        """What the index of prompts remembers of it at `target`."""
        self.awaits = False
        """It has been sent to `target`, which has given it nothing yet."""
        self.begun = False
        """Its client has a part of the answer, or it is a whole answer that a replica was at work on."""
        self.deaths = 0
        self.died_on: tuple[Target, ...] = ()
        """The replicas that seemed to die before giving it anything."""
        self.convicted = False
        """Two deaths are laid to this request alone (see `poison`)."""


class _Line:
    """One tenant's requests at one level."""

    __slots__ = ("deficit", "name", "tickets", "weight")

    def __init__(self, name: str) -> None:
        self.name = name
        self.tickets: OrderedDict[Ticket, None] = OrderedDict()
        self.deficit = 0.0
        self.weight = 1.0


class _Level:
    """Deficit round robin over the tenants of one priority."""

    __slots__ = ("lines", "round")

    def __init__(self) -> None:
        self.lines: dict[str, _Line] = {}
        self.round: deque[_Line] = deque()

    def add(self, ticket: Ticket) -> None:
        line = self.lines.get(ticket.tenant)
        if line is None:
            line = self.lines[ticket.tenant] = _Line(ticket.tenant)
            self.round.append(line)
        line.weight = max(1e-3, ticket.weight)
        line.tickets[ticket] = None

    def add_front(self, ticket: Ticket) -> None:
        """Back to where it was taken from: the head of its line, which is next, its tokens given back."""
        line = self.lines.get(ticket.tenant)
        if line is None:
            line = self.lines[ticket.tenant] = _Line(ticket.tenant)
            line.weight = max(1e-3, ticket.weight)
        else:
            self.round.remove(line)
        self.round.appendleft(line)
        line.deficit += ticket.tokens
        line.tickets[ticket] = None
        line.tickets.move_to_end(ticket, last=False)

    def discard(self, ticket: Ticket) -> None:
        line = self.lines[ticket.tenant]
        del line.tickets[ticket]
        if not line.tickets:
            self._leave(line)

    def pop(self) -> Ticket:
        while True:
            line = self.round[0]
            head = next(iter(line.tickets))
            if line.deficit >= head.tokens:
                line.deficit -= head.tokens
                line.tickets.popitem(last=False)
                if not line.tickets:
                    self._leave(line)
                return head
            # With one tenant nobody is waited for: give it what it needs instead of going round.
            need = head.tokens - line.deficit
            line.deficit += need if len(self.round) == 1 else QUANTUM * line.weight
            self.round.rotate(-1)

    def _leave(self, line: _Line) -> None:
        """An idle tenant saves up nothing."""
        del self.lines[line.name]
        self.round.remove(line)


class Admission:
    """The waiting room of one fleet."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.queued = 0
        self.queued_tokens = 0
        self.others = 0
        self.others_tokens = 0
        """Waiting in other gateway processes of this machine."""
        self.rate = 0.0
        """Requests finished per second, smoothed."""
        self._levels: dict[int, _Level] = {}
        self._urgent: OrderedDict[Ticket, None] = OrderedDict()
        self._wheel: dict[int, dict[Ticket, None]] = {}
        self._swept = -1
        self._turns = 0
        self._finished = 0
        self._since: float | None = None

    def offer(self, ticket: Ticket, free: bool, now: float) -> Admitted | Queued | Rejected:
        """Admits at once when a place is free and nobody waits; queues within bounds; else refuses."""
        if free and not self.queued:
            return ADMITTED
        limit = self.limit()
        if self.queued + self.others >= limit:
            return Rejected(self.retry_after(), f"{limit} requests are waiting already")
        tokens = self.bounds.tokens
        waiting = self.queued_tokens + self.others_tokens
        if tokens is not None and waiting and waiting + ticket.tokens > tokens:
            return Rejected(self.retry_after(), f"{waiting} tokens are waiting already")
        ahead = self.queued
        self._enter(ticket, now)
        self._level(ticket.priority).add(ticket)
        return Queued(ahead, f"{ahead} requests are ahead" if ahead else "no replica is free")

    def urgent(self, ticket: Ticket, now: float) -> None:
        """A stream that broke and found no free replica: it waits in front of everybody, over any bound."""
        self._enter(ticket, now)
        self._urgent[ticket] = None

    def force(self, ticket: Ticket, now: float) -> None:
        """Admitted, but no free replica suits it (an adapter, a group): it waits in its line."""
        self._enter(ticket, now)
        self._level(ticket.priority).add(ticket)

    def next(self) -> Ticket | None:
        """Takes the ticket whose turn it is. None: nobody waits."""
        if not self.queued:
            return None
        if self._urgent:
            ticket = self._urgent.popitem(last=False)[0]
        else:
            self._turns += 1
            at = min(self._levels)
            if self._turns % EIGHTH == 0:
                at = max((level for level in self._levels if level < DUE), default=at)
            level = self._levels[at]
            ticket = level.pop()
            if not level.lines:
                del self._levels[at]
        self._leave(ticket)
        return ticket

    @property
    def has_urgent(self) -> bool:
        """A broken stream waits, which may exceed a replica's cap."""
        return bool(self._urgent)

    def put_back(self, ticket: Ticket, now: float) -> None:
        """The ticket just taken found no replica: it keeps its place."""
        since = ticket.queued_at
        self._enter(ticket, now)
        ticket.queued_at = since
        if ticket.ask.urgent:
            self._urgent[ticket] = None
            self._urgent.move_to_end(ticket, last=False)
        else:
            self._level(ticket.priority).add_front(ticket)

    def cancel(self, ticket: Ticket) -> bool:
        """The client went away while waiting. False: it was not waiting."""
        if ticket.bucket < 0:
            return False
        self._drop(ticket)
        return True

    def expire(self, now: float) -> list[Ticket]:
        """Takes out everyone whose deadline has passed."""
        at = int(now / WHEEL_S)
        if at <= self._swept:
            return []
        out: list[Ticket] = []
        late = [b for b in self._wheel if b < at]
        self._swept = at
        for bucket in late:
            for ticket in list(self._wheel.get(bucket, ())):
                self._drop(ticket)
                out.append(ticket)
        return out

    def waiting(self) -> dict[str, tuple[float, int]]:
        """Tenant -> its weight and its requests that wait in line."""
        found: dict[str, tuple[float, int]] = {}
        for level in self._levels.values():
            for line in level.lines.values():
                found[line.name] = line.weight, found.get(line.name, (0.0, 0))[1] + len(line.tickets)
        return found

    @property
    def due(self) -> int:
        """Of those that wait in line, lines of batches whose time is short."""
        level = self._levels.get(DUE)
        return sum(len(line.tickets) for line in level.lines.values()) if level is not None else 0

    def finished(self, now: float) -> None:
        """A request of this fleet left its replica: the measure of how fast the queue drains."""
        self._finished += 1
        if self._since is None:
            self._since = now

    def tick(self, now: float) -> None:
        """Once a second or so: turns what was counted into a rate (half-life about 5 s)."""
        if self._since is None or now - self._since < 0.5:
            return
        span = now - self._since
        keep = 0.5 ** (span / 5)
        fresh = self._finished / span
        self.rate = fresh if self.rate == 0 else self.rate * keep + fresh * (1 - keep)
        self._finished, self._since = 0, now

    def limit(self) -> int:
        """How many requests may wait now."""
        if self.bounds.requests is not None:
            return self.bounds.requests
        return max(self.bounds.least, min(self.bounds.most, int(60 * self.rate)))

    def retry_after(self) -> int:
        """Seconds until what waits now will have drained: 1..60."""
        waiting = self.queued + self.others
        # After hours of standing still the rate is a denormal number, by which nothing can be divided.
        return max(1, math.ceil(min(60.0, (waiting + 1) / self.rate))) if self.rate > 1e-9 else 5

    def _level(self, priority: int) -> _Level:
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = _Level()
        return level

    def _enter(self, ticket: Ticket, now: float) -> None:
        self.queued += 1
        self.queued_tokens += ticket.tokens
        ticket.queued_at = now
        bucket = 1 << 60 if ticket.deadline == math.inf else int(ticket.deadline / WHEEL_S)
        ticket.bucket = max(bucket, 0)
        self._wheel.setdefault(ticket.bucket, {})[ticket] = None

    def _leave(self, ticket: Ticket) -> None:
        self.queued -= 1
        self.queued_tokens -= ticket.tokens
        slot = self._wheel[ticket.bucket]
        del slot[ticket]
        if not slot:
            del self._wheel[ticket.bucket]
        ticket.bucket = -1

    def _drop(self, ticket: Ticket) -> None:
        if ticket in self._urgent:
            del self._urgent[ticket]
        else:
            level = self._levels[ticket.priority]
            level.discard(ticket)
            if not level.lines:
                del self._levels[ticket.priority]
        self._leave(ticket)

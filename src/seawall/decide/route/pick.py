"""Which replica takes a request. Sans-IO and synchronous: the gateway and the simulator call the same object.

A `Router` serves one fleet. It keeps a list of the replicas that may take work (ready, not draining, not
evicted, below their cap), so that picking costs the same with 4 replicas and with 400. A pick weighs

    outstanding tokens / weight  +  waiting tokens the replica reported (fading with age)  -  tokens it has cached

Tokens that a replica has cached are no work, and count neither as a request's nor as a replica's. Session keys go to
the same replica through a hash ring. Load beats both: a replica that has far more to do than the mean of the others is
left.
Forbidden here: awaiting, clocks, the global rng. `now` is in seconds of any monotonic clock.
"""

from __future__ import annotations

import math
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from random import Random
from typing import Final, Literal, NamedTuple

from seawall.decide.route.prefix import PrefixIndex, Remembered, Visit
from seawall.domain.seen import Replica

State = Literal["ready", "draining", "evicted", "probing"]

SCAN_UP_TO: Final = 8
"""So many open replicas are all weighed; of more, a random few (power of d choices)."""
CHOICES: Final = 3
FRESH_S: Final = 2.0
STALE_S: Final = 10.0
"""A load report counts fully until FRESH_S old, and not at all from STALE_S on."""
RING_POINTS: Final = 24
OVERLOAD: Final = 2.0
"""A session's replica is left when it has more than so many times the mean of the other replicas' requests, plus 2. A
prefix's replica is left when its load is above the lightest one's by so many times what is cached there, or when it has
more than so many times its requests, plus 2, plus 1 for each WORTH tokens that are cached."""
WORTH: Final = 16_384
"""Tokens whose computation takes longer than one more neighbour in an engine's batch costs."""


class Ask:
    """What a request needs of a replica. It is not changed; `but` makes another."""

    __slots__ = (
        "adapter",
        "avoid",
        "blocks",
        "cached",
        "group",
        "only",
        "session",
        "size",
        "tokens",
        "urgent",
    )

    def __init__(
        self,
        tokens: int = 0,
        adapter: str | None = None,
        group: str | None = None,
        session: str | None = None,
        blocks: Sequence[int] = (),
        avoid: tuple[str, ...] = (),
        urgent: bool = False,
        size: int = 0,
        cached: int = 0,
        only: str | None = None,
    ) -> None:
        self.tokens: Final = tokens
        """Prompt plus expected output."""
        self.adapter: Final = adapter
        self.group: Final = group
        """`stable` or `canary`; None: any."""
        self.session: Final = session
        self.blocks: Final = blocks
        """Marks of the prompt's leading blocks (`prefix.blocks_of`)."""
        self.avoid: Final = avoid
        """Replicas that failed this very request."""
        self.urgent: Final = urgent
        """A broken stream that is being resumed: may exceed the cap by a tenth (at least one)."""
        self.size: Final = size
        """Of the prompt, in bytes; 0: unknown."""
        self.cached: Final = cached
        """Of `tokens`: probably in the cache of the replica where it has a place."""
        self.only: Final = only
        """The one replica that keeps what it refers to; None: any may serve it."""

    def but(
        self, avoid: tuple[str, ...] | None = None, urgent: bool | None = None, cached: int | None = None
    ) -> Ask:
        """The same, but for what is given."""
        return Ask(
            self.tokens,
            self.adapter,
            self.group,
            self.session,
            self.blocks,
            self.avoid if avoid is None else avoid,
            self.urgent if urgent is None else urgent,
            self.size,
            self.cached if cached is None else cached,
            self.only,
        )


class Target:
    """One replica with its counters. Only `Router` and `Desk` change them."""

    __slots__ = (
        "asks",
        "cap",
        "died_at",
        "errors",
        "evictions",
        "held",
        "in_flight",
        "kv_use",
        "open_at",
        "others",
        "proven_at",
        "reason",
        "replica",
        "reported_at",
        "resting",
        "returns",
        "state",
        "suspect",
        "tokens",
        "waiting",
        "weight",
    )

    def __init__(self, replica: Replica, cap: int) -> None:
        self.replica = replica
        self.weight = max(replica.weight, 1e-6)
        self.cap = cap
        self.in_flight = 0
        self.asks = 0
        """Of ours, with answers that are known (gateway/replicas/truth.py): they take places, and are no load."""
        self.others = 0
        """In flight on this replica from other gateways."""
        self.held = 0
        """Places at this replica that belong to other gateways: what they have in flight, and may send at once."""
        self.tokens = 0
        self.waiting = 0.0
        self.kv_use = 0.0
        self.reported_at = -1e9
        self.state: State = "ready"
        self.reason = ""
        self.open_at = -1
        self.evictions = 0
        self.returns = 0
        """How often it was evicted, and how often it came back."""
        self.resting = False
        """It said that it is full: nothing new until `wake`."""
        self.suspect = ""
        """Why it is suspected (`evidence`): it gets nothing new, and keeps what it has. Empty: it is not."""
        self.errors: set[bytes] = set()
        """Marks of the prompts that it has answered with 5xx since it last answered well."""
        self.died_at = -1.0
        """When there was evidence that it had died: its port refused, or it said so itself."""
        self.proven_at = -1.0
        """When it last gave a real token after an eviction."""

    @property
    def name(self) -> str:
        return self.replica.name

    @property
    def taken(self) -> int:
        """Places that this gateway has taken there."""
        return self.in_flight + self.asks


class Picked:
    """The replica that a request is given."""

    __slots__ = ("cached", "found", "reason", "target")

    def __init__(self, target: Target, reason: str, found: Remembered | None = None, cached: int = 0) -> None:
        self.target: Final = target
        self.reason: Final = reason
        self.found: Final = found
        """What is remembered of the prompt, at all replicas."""
        self.cached: Final = cached
        """Tokens of the prompt that `target` has probably cached."""


class Changes(NamedTuple):
    """What a discovery document changed."""

    added: tuple[Target, ...] = ()
    removed: tuple[Target, ...] = ()
    drained: tuple[Target, ...] = ()
    returned: tuple[Target, ...] = ()


class Router:
    """The replicas of one fleet and who is to take the next request."""

    def __init__(self, cap: int, rng: Random, prefix_blocks: int = 65_536) -> None:
        self.cap = max(1, cap)
        self.targets: dict[str, Target] = {}
        self.prefix = PrefixIndex(prefix_blocks)
        self.in_flight = self.asks = 0
        self.tokens = 0
        """Outstanding at all replicas."""
        self.elsewhere = 0
        """In flight at all replicas from other gateways."""
        self.gateways = 1
        """That share the places of these replicas."""
        self.agrees = False
        """Places are agreed on with other gateways: until that is done this one takes one at each replica."""
        self.sure_until = math.inf
        """When what is known of others' places is too old to place anything by it (seconds, as `now`)."""
        self._rng = rng
        self._open: dict[str, list[Target]] = {}
        self._alive: dict[str, int] = {}
        self._ring: list[tuple[int, str]] | None = None
        self._turn = 0

    def recap(self, cap: int) -> None:
        """Every replica takes so many requests at a time from now on."""
        cap = max(1, cap)
        if cap == self.cap:
            return
        self.cap = cap
        for target in self.targets.values():
            target.cap = cap
            if target.taken + target.held >= cap:
                self._close(target)
            else:
                self._reopen(target)

    def update(self, replicas: Iterable[Replica]) -> Changes:
        """Takes the newest discovery. Who left is evicted (its requests run on until they end or break);
        who is unchanged keeps its counters; who came back under the same name at another URL is new."""
        wanted = {r.name: r for r in replicas}
        added, drained, returned = [], [], []
        removed = [t for n, t in self.targets.items() if n not in wanted or wanted[n].url != t.replica.url]
        for t in removed:
            self._close(t)
            t.state, t.reason = "evicted", "left discovery"
            self.set_others(t, 0)
            del self.targets[t.name]
        for name, replica in wanted.items():
            known = self.targets.get(name)
            if known is None:
                known = self.targets[name] = Target(replica, self.cap)
                known.held = self.cap - 1 if self.agrees else 0
                added.append(known)
            self._close(known)
            before, known.replica = known.state, replica
            known.weight = max(replica.weight, 1e-6)
            if replica.draining or not replica.ready:
                known.state = "draining"
                known.reason = "draining" if replica.draining else "not ready"
                if before != "draining" and known not in added:
                    drained.append(known)
            elif before == "draining":
                known.state, known.reason = "ready", ""
                returned.append(known)
            self._reopen(known)
        if added or removed:
            self._ring = None
            for t in removed:
                self.prefix.forget(t.name)
        self._count()
        return Changes(tuple(added), tuple(removed), tuple(drained), tuple(returned))

    def alive(self, group: str | None = None) -> int:
        """Replicas that are ready, full or not."""
        return self._alive.get(group, 0) if group else sum(self._alive.values())

    def others_serve(self, ask: Ask) -> bool:
        """Whether a live replica that did not fail this request could serve it, now or once it has room."""
        return any(t.state == "ready" and self._fits(t, ask) for t in self.targets.values())

    def serves(self, target: Target, ask: Ask) -> bool:
        """Whether it is one of those that answer such requests, now or after a rest."""
        return (
            target.state == "ready"
            and not target.suspect
            and ask.group in (None, target.replica.group)
            and ask.only in (None, target.name)
            and self._fits(target, ask)
        )

    def suits(self, target: Target, ask: Ask) -> bool:
        """Whether this request could be served there, if there were a place."""
        return not target.resting and self.serves(target, ask)

    def free(self) -> bool:
        """Whether any replica may take one more request."""
        return bool(self._open)

    def pick(self, ask: Ask, now: float) -> Picked | None:
        """The replica for this request, or None when every one that could serve it is full, out or avoided, or nobody
        knows any more which places are others'."""
        if now > self.sure_until:
            return None
        if ask.only is not None:
            keeper = self.targets.get(ask.only)
            if keeper is not None and keeper.open_at >= 0:
                return Picked(keeper, "it keeps what the request refers to")
            return self._over_cap(ask)
        candidates = self._candidates(ask)
        if not candidates:
            return self._over_cap(ask)
        if not ask.blocks:
            if ask.session is not None and (chosen := self._by_session(ask)):
                return Picked(chosen, "session")
            return self._by_load(candidates, ask, now) or self._over_cap(ask)
        found = self.prefix.find(ask.blocks)
        if ask.session is not None and (chosen := self._by_session(ask)):
            return Picked(chosen, "session", found, self._cached(found, chosen, ask))
        lightest = self._by_load(candidates, ask, now)
        kept = self._by_prefix(ask, found, lightest, now) if found else None
        if kept is not None:
            return kept
        picked = lightest or self._over_cap(ask)
        if picked is None:
            return None
        return Picked(picked.target, picked.reason, found, self._cached(found, picked.target, ask))

    def _cached(self, found: Remembered, target: Target, ask: Ask) -> int:
        steps = found.get(target.replica.name)
        return min(self.prefix.expected(steps, ask.size), ask.tokens - 1) if steps else 0

    def _by_load(self, candidates: list[Target], ask: Ask, now: float) -> Picked | None:
        if len(candidates) <= SCAN_UP_TO:
            return self._lightest(candidates, ask, now)
        few: list[Target] = []
        plain = not ask.avoid and ask.adapter is None
        for _ in range(CHOICES * 3):
            t = candidates[int(self._rng.random() * len(candidates))]
            if plain or self._fits(t, ask):
                few.append(t)
                if len(few) == CHOICES:
                    break
        return self._lightest(few or candidates, ask, now)

    def start(self, target: Target, ask: Ask, found: Remembered | None = None) -> Visit | None:
        """A request goes to `target`. Call it in the same breath as `pick`, with what that has `found`, and with
        `ask.cached` as that has said. Its visit, to be told what it cost; None: its prompt has no mark."""
        self._turn += 1  # here, not in `pick`: how often somebody looked in vain must not matter
        target.in_flight += 1
        target.tokens += ask.tokens - ask.cached
        self.tokens += ask.tokens - ask.cached
        self.in_flight += 1
        visit: Visit | None = None
        if ask.blocks:
            steps = found.get(target.replica.name) if found is not None else None
            visit = self.prefix.learn(ask.blocks, target.replica.name, ask.size, steps)
        if target.open_at >= 0 and target.in_flight + target.asks + target.held >= target.cap:
            self._close(target)
        return visit

    def end(self, target: Target, ask: Ask) -> None:
        """The request left `target`, for whatever reason. Exactly once per `start`."""
        target.in_flight -= 1
        target.tokens -= ask.tokens - ask.cached
        self.tokens -= ask.tokens - ask.cached
        self.in_flight -= 1
        if target.open_at < 0:
            self._reopen(target)

    def ask(self, target: Target) -> None:
        """An ask of ours wants a place: a request that ends there leaves it to this one."""
        target.asks += 1
        self.asks += 1
        if target.taken + target.held >= target.cap:
            self._close(target)

    def asked(self, target: Target) -> None:
        """It is over. Exactly once per `ask`."""
        target.asks -= 1
        self.asks -= 1
        if target.open_at < 0:
            self._reopen(target)

    def has_place(self, target: Target, now: float) -> bool:
        """All that is there, asks of ours included, is within the cap."""
        return target.taken + target.held <= target.cap and now <= self.sure_until

    def evict(self, target: Target, reason: str) -> bool:
        """Stops routing to a replica on evidence that it is broken. False: it was out already."""
        if target.state in ("evicted", "probing"):
            return False
        target.state, target.reason = "evicted", reason
        target.evictions += 1
        self._close(target)
        self.prefix.forget(target.name)
        self._count()
        return True

    def probing(self, target: Target) -> None:
        if target.state == "evicted" and target.name in self.targets:
            target.state = "probing"

    def restore(self, target: Target) -> bool:
        """A real token came back from it. False: discovery has taken it out meanwhile."""
        if self.targets.get(target.name) is not target or target.state not in ("evicted", "probing"):
            return False
        r = target.replica
        target.state = "draining" if r.draining or not r.ready else "ready"
        target.reason = target.suspect = ""
        target.returns += 1
        self._reopen(target)
        self._count()
        return target.state == "ready"

    def rest(self, target: Target) -> None:
        """It answered 503: alive, but full. The shell calls `wake` a moment later."""
        target.resting = True
        self._close(target)

    def wake(self, target: Target) -> None:
        target.resting = False
        self._reopen(target)

    def suspect(self, target: Target, why: str) -> None:
        """It may hang: nothing new goes there until `trust`."""
        target.suspect = why
        self._close(target)

    def trust(self, target: Target) -> None:
        target.suspect = ""
        self._reopen(target)

    def report(self, target: Target, waiting: float, kv_use: float, now: float) -> None:
        """Load that the replica told us itself: requests waiting, share of KV cache in use (0..1)."""
        target.waiting, target.kv_use, target.reported_at = waiting, kv_use, now

    def set_others(self, target: Target, in_flight: int, held: int | None = None) -> None:
        """How many requests other gateways have on this replica, and how many of its places are theirs (None: as
        many)."""
        places = in_flight if held is None else held
        if in_flight == target.others and places == target.held:
            return
        self.elsewhere += in_flight - target.others
        target.others, target.held = in_flight, places
        if target.taken + places >= target.cap:
            self._close(target)
        elif target.open_at < 0:
            self._reopen(target)

    def load(self, target: Target, now: float) -> float:
        """Outstanding tokens per unit of capacity, as this process knows or was told."""
        if target.others or now - target.reported_at < STALE_S:
            return self._told_load(target, now)
        return target.tokens / target.weight

    def _told_load(self, target: Target, now: float) -> float:
        """The same, of one that others use, or that has reported."""
        tokens = float(target.tokens)
        busy = target.in_flight + target.others
        mean = tokens / target.in_flight if target.in_flight else 512.0
        tokens += target.others * mean
        age = now - target.reported_at
        if age < STALE_S:
            fresh = 1.0 if age <= FRESH_S else (STALE_S - age) / (STALE_S - FRESH_S)
            tokens += fresh * target.waiting * mean
            if target.kv_use > 0.9:
                tokens += fresh * (target.kv_use - 0.9) * 10 * mean * max(1, busy)
        return tokens / target.weight

    def _candidates(self, ask: Ask) -> list[Target]:
        groups = self._open
        if ask.group is not None and self._alive.get(ask.group) and not self._all_avoided(ask):
            return groups.get(ask.group, [])
        if len(groups) == 1:
            return next(iter(groups.values()))
        return [t for members in groups.values() for t in members]

    def _all_avoided(self, ask: Ask) -> bool:
        """Every live replica of the asked group has failed this request: then the other side may take it."""
        return bool(ask.avoid) and all(
            t.name in ask.avoid
            for t in self.targets.values()
            if t.state == "ready" and t.replica.group == ask.group
        )

    def _fits(self, t: Target, ask: Ask) -> bool:
        if ask.only is not None:
            return t.name == ask.only
        if ask.avoid and t.name in ask.avoid:
            return False
        has = t.replica.adapters
        return ask.adapter is None or has is None or ask.adapter in has

    def _lightest(self, candidates: list[Target], ask: Ask, now: float) -> Picked | None:
        best: Target | None = None
        least = 0.0
        first = self._turn % len(candidates)
        plain = not ask.avoid and ask.adapter is None
        for t in candidates[first:] + candidates[:first]:
            if plain or self._fits(t, ask):
                load = self.load(t, now)
                if best is None or load < least:
                    best, least = t, load
        return Picked(best, "least loaded") if best else None

    def _over_cap(self, ask: Ask) -> Picked | None:
        """A resumed stream does not queue behind new ones: it may take a place above the cap. There are a tenth more of
        these, of which several gateways have each its part, and one at least. What is free, but another gateway's, is
        as full as what it uses: it gives that away in the same moment."""
        if not ask.urgent:
            return None
        full = [
            t
            for t in self.targets.values()
            if t.state == "ready"
            and not t.resting
            and not t.suspect
            and t.taken + t.held < t.cap + max(1, t.cap // 10 // self.gateways)
            and self._fits(t, ask)
        ]
        best = min(full, key=lambda t: (t.in_flight + t.others) / t.weight, default=None)
        return Picked(best, "resumed above the cap") if best else None

    def _by_session(self, ask: Ask) -> Target | None:
        ring = self._ring
        if ring is None:
            ring = self._ring = sorted(
                (zlib.crc32(f"{name}#{i}".encode()), name)
                for name in self.targets
                for i in range(RING_POINTS)
            )
        if not ring:
            return None
        at = bisect_left(ring, (zlib.crc32(str(ask.session).encode()), ""))
        tried: set[str] = set()
        for step in range(len(ring)):
            name = ring[(at + step) % len(ring)][1]
            if name in tried:
                continue
            tried.add(name)
            t = self.targets[name]
            if t.open_at >= 0 and (ask.group in (None, t.replica.group)) and self._fits(t, ask):
                return t if self._not_overloaded(t) else None
            if len(tried) > 4:
                return None
        return None

    def _by_prefix(self, ask: Ask, found: Remembered, lightest: Picked | None, now: float) -> Picked | None:
        """Of those that have a part of the prompt who is done with it first, unless `lightest` would be far sooner."""
        best: Target | None = None
        busy, most, least = 0, 0, math.inf
        plain = not ask.avoid and ask.adapter is None
        if lightest is not None:
            free = lightest.target
            busy = free.in_flight + free.others
            least = self.load(free, now) - OVERLOAD * self._cached(found, free, ask) / free.weight
        for name, steps in found.items():
            t = self.targets.get(name)
            if t is None or t.open_at < 0 or not (plain or self._fits(t, ask)):
                continue
            if ask.group is not None and ask.group != t.replica.group:
                continue
            cached = min(self.prefix.expected(steps, ask.size), ask.tokens - 1)
            if cached <= 0 or t.in_flight + t.others > OVERLOAD * busy + 2 + cached / WORTH:
                continue
            load = self.load(t, now) - OVERLOAD * cached / t.weight
            if load < least:
                best, most, least = t, cached, load
        return Picked(best, f"prefix of about {most} tokens cached", found, most) if best else None

    def _not_overloaded(self, t: Target) -> bool:
        others = self.alive() - 1
        if others <= 0:
            return True
        busy = t.in_flight + t.others
        return busy <= OVERLOAD * ((self.in_flight + self.elsewhere - busy) / others) + 2

    def _reopen(self, t: Target) -> None:
        if (
            t.open_at < 0
            and t.state == "ready"
            and not t.resting
            and not t.suspect
            and t.in_flight + t.asks + t.held < t.cap
            and self.targets.get(t.replica.name) is t
        ):
            members = self._open.setdefault(t.replica.group, [])
            t.open_at = len(members)
            members.append(t)

    def _close(self, t: Target) -> None:
        if t.open_at >= 0:
            members = self._open[t.replica.group]
            last = members.pop()
            if last is not t:
                members[t.open_at] = last
                last.open_at = t.open_at
            t.open_at = -1
            if not members:
                del self._open[t.replica.group]

    def _count(self) -> None:
        alive: dict[str, int] = {}
        for t in self.targets.values():
            if t.state == "ready":
                alive[t.replica.group] = alive.get(t.replica.group, 0) + 1
        self._alive = alive


def side(percent: int, key: str) -> Literal["stable", "canary"]:
    """Which side of a canary split a key belongs to: the same key, the same side, and raising `percent`
    moves keys only towards the canary."""
    return "canary" if zlib.crc32(key.encode()) % 10_000 < percent * 100 else "stable"

"""One fleet as the gateway runs it: its router, its waiting room, its pools and its counters.

Who comes here: exchanges (admit, place, release), discovery (`discovered`), the sweep (`sweep`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from random import Random
from time import monotonic
from typing import TYPE_CHECKING

from seawall.decide.route.admit import Admission, Bounds, Ticket
from seawall.decide.route.pick import Ask, Picked, Router, Target
from seawall.decide.route.poison import Quarantine, blame
from seawall.domain.seen import Replica
from seawall.domain.spec import Fleet
from seawall.gateway.hedge import Hedges
from seawall.gateway.peek import DEFAULT_OUTPUT
from seawall.gateway.seam import policy_of
from seawall.gateway.shadow import Shadow
from seawall.gateway.stats import FleetStats
from seawall.gateway.tenants import Share, Tenants
from seawall.gateway.upstream import Pool

if TYPE_CHECKING:
    from seawall.gateway.relay import Exchange

REST_S = 0.25
SOON_S = 0.05
ERRORS_IN_A_ROW = 3
_LOAD = re.compile(rb"(num_requests_waiting|kv_cache_usage_perc)[\"=: ]+([0-9.]+)")


class FleetRuntime:
    """Everything that lives as long as the fleet is served."""

    def __init__(
        self,
        fleet: Fleet,
        loop: asyncio.AbstractEventLoop,
        rng: Random,
        open_pool: Callable[[str], Pool],
        on_evicted: Callable[[FleetRuntime, Target], None],
        share: Share | None = None,
    ) -> None:
        self.loop = loop
        self.stats = FleetStats()
        self.active: set[Exchange] = set()
        of_fleet = f"{fleet.name} "
        self.tenants = Tenants(share and (lambda name: share(of_fleet + name)))
        self.canary_percent = 0
        self.has_canary = False
        self.shadow: Shadow | None = None
        self.quarantine = Quarantine()
        self.hedges = Hedges(self)
        self.rng = rng
        self.typical_output = float(DEFAULT_OUTPUT)
        self._open_pool = open_pool
        self._on_evicted = on_evicted
        self._pools: dict[Target, Pool] = {}
        self._leaving: dict[Target, Pool] = {}
        self._resting: dict[Target, float] = {}
        self._soon: asyncio.TimerHandle | None = None
        self._proven_at: dict[Target, float] = {}
        self.router = Router(1, rng)
        self.admission = Admission(Bounds())
        self.configure(fleet)

    def configure(self, fleet: Fleet) -> None:
        """Takes a new spec; counters, queue and connections stay."""
        self.fleet = fleet
        self.name = fleet.name
        self.spec = fleet.spec.gateway
        self.policy = policy_of(fleet)
        self.session_key = self.spec.session_header.lower().encode()
        self.tenants.configure(self.spec.tenants)
        canary = fleet.spec.rollout.canary
        if canary is not None and canary.shadow:
            self.shadow = self.shadow or Shadow(self)
        elif self.shadow is not None:
            self.shadow.close()
            self.shadow = None
        cap = self.spec.max_in_flight or fleet.spec.engine.max_num_seqs or 256
        self.router.cap = cap
        for target in self.router.targets.values():
            target.cap = cap
        self.admission.bounds = Bounds(self.spec.max_queued, self.spec.max_queued_tokens)

    def discovered(self, replicas: Iterable[Replica], canary_percent: int) -> None:
        """The newest list of this fleet's replicas."""
        replicas = tuple(replicas)
        self.canary_percent = canary_percent
        self.has_canary = any(r.group == "canary" for r in replicas)
        changes = self.router.update(replicas)
        for target in changes.added:
            self._pools[target] = self._open_pool(target.replica.url)
        for target in changes.removed:
            pool = self._pools.pop(target)
            self._proven_at.pop(target, None)
            pool.close()
            if target.in_flight:
                self._leaving[target] = pool
        if changes.added or changes.returned:
            self.pump()

    def pool(self, target: Target) -> Pool:
        return self._pools.get(target) or self._leaving[target]

    @property
    def targets(self) -> Iterable[Target]:
        return self.router.targets.values()

    def place(self, ask: Ask) -> Picked | None:
        """Picks a replica. `avoid` is a wish: when nobody else is alive, the avoided one may try again."""
        now = self.loop.time()
        picked = self.router.pick(ask, now)
        if picked is None and ask.avoid and self.router.alive() <= len(set(ask.avoid)):
            picked = self.router.pick(ask._replace(avoid=()), now)
        return picked

    def left(self, target: Target, ask: Ask) -> None:
        """A request left its replica: its place is free for who waits."""
        self.router.end(target, ask)
        if not target.in_flight:
            self._leaving.pop(target, None)
        if self.admission.queued:
            self.loop.call_soon(self.pump)

    def pump(self) -> None:
        """Gives free places to those who wait, in the order of admission."""
        admission, router = self.admission, self.router
        stuck: list[Ticket] = []
        now = self.loop.time()
        while admission.queued and len(stuck) < 16:
            if not router.free() and not admission.has_urgent:
                break
            ticket = admission.next()
            if ticket is None:
                break
            picked = self.place(ticket.ask)
            if picked is None:
                stuck.append(ticket)
                continue
            exchange: Exchange = ticket.owner
            self.stats.queue_wait.add(now - ticket.queued_at)
            exchange.go(picked)
        for ticket in reversed(stuck):
            admission.put_back(ticket, now)

    def evict(self, target: Target, reason: str, *, sudden: bool = False) -> None:
        """Stops routing to `target` on evidence, and has it probed. `sudden`: it seems to have died."""
        if sudden and target.state == "ready":
            waiting = [e for e in self.active if e.target is target and e.awaits_token]
            convict = blame(waiting)
            if convict is not None:
                convict.convicted = True
        if self.router.evict(target, reason):
            pool = self._pools.get(target)
            if pool is not None:
                pool.close_idle()
                self._on_evicted(self, target)

    def erred(self, target: Target) -> None:
        """A 5xx that may be the request's own fault: only a row of them speaks against the replica."""
        pool = self.pool(target)
        pool.errors_in_a_row += 1
        if pool.errors_in_a_row >= ERRORS_IN_A_ROW:
            self.evict(target, f"{ERRORS_IN_A_ROW} answers of 5xx in a row")

    def condemn(self, exchange: Exchange, dead: tuple[str, ...]) -> bool:
        """Keeps a convict's request out, unless one of the replicas that died of it gave a token since the request
        came: then only its connection had broken. It need not be ready now: another one may have broken since."""
        for t in self.targets:
            if t.name in dead and (t.state == "ready" or self._proven_at.get(t, 0.0) > exchange.started):
                return False
        self.stats.poison += 1
        self.quarantine.add(exchange.request.path, exchange.request.body, self.loop.time())
        return True

    def proven(self, target: Target) -> bool:
        """A real token came back from an evicted replica."""
        if not self.router.restore(target):
            return False
        self._proven_at[target] = monotonic()
        pool = self._pools.get(target)
        if pool is not None:
            pool.errors_in_a_row = 0
        self.pump()
        return True

    def rest(self, target: Target) -> None:
        """It said 503: give it a quarter of a second."""
        self._resting[target] = self.loop.time() + REST_S
        self.router.rest(target)
        self.soon()

    def reported(self, target: Target, header: bytes, now: float) -> None:
        """Reads an `endpoint-load-metrics` header."""
        waiting = kv = 0.0
        for name, value in _LOAD.findall(header[:512]):
            try:
                number = float(value)
            except ValueError:
                continue
            if name == b"num_requests_waiting":
                waiting = number
            else:
                kv = number
        self.router.report(target, waiting, kv, now)

    def cost_usd(self, prompt: int, completion: int) -> float:
        """Price of so many tokens, in USD."""
        spec = self.spec
        return (prompt * (spec.prompt_price or 0.0) + completion * (spec.completion_price or 0.0)) / 1e6

    def learn_output(self, tokens: int) -> None:
        """How long answers are here: what an unbounded request is reckoned at."""
        self.typical_output += 0.05 * (min(tokens, 16_384) - self.typical_output)

    def soon(self) -> None:
        """Something waits: a ticket, a replica that rests, a second attempt. It is looked at every SOON_S until none
        does; where nothing waits, nobody wakes so often, which costs a tenth of the CPU of a gateway that streams."""
        if self._soon is None:
            self._soon = self.loop.call_later(SOON_S, self._look)

    @property
    def _waited_for(self) -> bool:
        return bool(self.admission.queued or self._resting or self.hedges.waiting)

    def _look(self) -> None:
        self._soon = None
        now = self.loop.time()
        self.hedges.sweep(now)
        for target, until in list(self._resting.items()):
            if now >= until:
                del self._resting[target]
                self.router.wake(target)
        if self.admission.queued:
            for ticket in self.admission.expire(now):
                exchange: Exchange = ticket.owner
                exchange.waited_too_long()
            self.pump()
        if self._waited_for:
            self.soon()

    def sweep(self, now: float) -> None:
        """Exchanges that hang or are late, idle connections, rates. Every quarter of a second or so."""
        self.admission.tick(now)
        self.tenants.look(now)
        for pool in self._pools.values():
            pool.sweep(now)
        for exchange in list(self.active):
            exchange.check(now)
        if self._waited_for:
            self.soon()

    def close(self) -> None:
        if self._soon is not None:
            self._soon.cancel()
        if self.shadow is not None:
            self.shadow.close()
        for pool in (*self._pools.values(), *self._leaving.values()):
            pool.close()

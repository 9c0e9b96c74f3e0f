"""One fleet as the gateway runs it: its desk, its connections and its counters.

The desk (decide/route/desk.py) decides who goes where, when, and which replica is out; here its values are obeyed.
Who comes here: exchanges, discovery (`discovered`), the sweep (`sweep`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from seawall.decide.route.admit import Admission, Bounds, Ticket
from seawall.decide.route.attempt import Limits
from seawall.decide.route.breaks import Break
from seawall.decide.route.cost import Made, Rates
from seawall.decide.route.desk import Desk, DeskRules
from seawall.decide.route.evidence import Pace
from seawall.decide.route.pick import Router, Target
from seawall.decide.route.poison import Quarantine
from seawall.decide.route.record import Shelf, ShelfRules
from seawall.domain.seen import Replica
from seawall.domain.spec import Fleet
from seawall.engines.vllm.environment import RESPONSES_STORE
from seawall.gateway.exchange.seam import policy_of
from seawall.gateway.exchange.shadow import Shadow
from seawall.gateway.exchange.waste import gpus_of
from seawall.gateway.memory import HeldMemory
from seawall.gateway.replicas.upstream import Pool
from seawall.gateway.tell.ended import Ended
from seawall.gateway.tell.stats import FleetStats
from seawall.gateway.tell.tenants import Share, Tenants

SOON_S = 0.05
DEFAULT_OUTPUT = 256
"""Tokens reckoned for an answer whose length nobody bounded, until answers have been seen."""
CPU_TOKEN_S = 0.01
GPU_TOKEN_S = 0.001
"""Seconds per prompt token on a slow device."""
STEP_TOKENS = 8192
"""vLLM's own `--max-num-batched-tokens` on large GPUs; smaller ones take less."""
_LOAD = re.compile(rb"(num_requests_waiting|kv_cache_usage_perc)[\"=: ]+([0-9.]+)")


class Held(Protocol):
    """An exchange, as its lane knows it: the owner of a ticket."""

    def go(self) -> None:
        """It has a place."""

    def hedged(self, target: Target) -> None:
        """It has a second place."""

    def waited_too_long(self) -> None: ...

    def gives_way(self) -> None:
        """It is a line of a batch, and its place is needed."""

    def verdict(self) -> None: ...

    def replica_died(self, reason: str) -> None:
        """There is evidence that its replica is dead."""

    def leave_replica(self, reason: str) -> None:
        """Its replica answers wrongly, and serves on."""

    def check(self, now: float) -> None: ...

    @property
    def recorded(self) -> int:
        """Bytes that are held of its answer."""

    def too_much(self) -> None:
        """What it holds is needed for others."""

    def shut_down(self) -> None: ...


@dataclass(frozen=True)
class Road:
    """What all lanes of a process run on."""

    loop: asyncio.AbstractEventLoop
    now: Callable[[], float]
    """Seconds of a monotonic clock: the one that everything here goes by."""
    rng: Random
    open_pool: Callable[[str], Pool]
    """Connections to the engine at a URL."""
    on_evicted: Callable[[FleetLane, Target], None]
    tell: Callable[[Ended], None]
    """Takes what is known of a request that is over."""
    memory: HeldMemory
    """What all of them hold."""
    share: Share | None = None
    """With several processes: the accounts that they keep together."""
    shelf: Callable[[str, ShelfRules], Shelf] | None = None
    """With other gateways: where what a fleet keeps lies."""
    gateways: int = 1
    """About so many share the replicas' places."""
    agrees: bool = False
    """They agree on who has which."""


class FleetLane:
    """Everything that lives as long as the fleet is served."""

    def __init__(self, fleet: Fleet, road: Road) -> None:
        self.loop = road.loop
        self.now = now = road.now
        self.tell = road.tell
        self.stats = FleetStats()
        self.memory = road.memory
        of_fleet, share = f"{fleet.name} ", road.share
        self.tenants = Tenants(share and (lambda name, meter: share(of_fleet + name, meter)))
        self.canary_percent = 0
        self.has_canary = False
        self.shadow: Shadow | None = None
        self.rng = rng = road.rng
        self.typical_output = float(DEFAULT_OUTPUT)
        self.rates = Rates()
        self.longest: int | None = None
        """Tokens of a request and its answer, as an engine told; None: none did."""
        self.asked_longest = False
        self._open_pool = road.open_pool
        self._on_evicted = road.on_evicted
        self._pools: dict[Target, Pool] = {}
        self._leaving: dict[Target, Pool] = {}
        self._soon: asyncio.TimerHandle | None = None
        self.desk = Desk(rules_of(fleet), rng)
        self.desk.router.gateways, self.desk.router.agrees = road.gateways, road.agrees
        rules = kept_of(fleet)
        self.kept = road.shelf(fleet.name, rules) if road.shelf is not None else Shelf(rules, now)
        """Answers for clients that come again."""
        self.configure(fleet)

    def configure(self, fleet: Fleet) -> None:
        """Takes a new spec; counters, queue and connections stay."""
        self.fleet = fleet
        self.name = fleet.name
        self.spec = fleet.spec.gateway
        self.policy = policy_of(fleet)
        self.limits = Limits(
            fleet.name, self.spec.retries, self.spec.first_byte_timeout, self.spec.stall_timeout
        )
        self.hedges = self.spec.hedge_after is not None
        self.gpus = gpus_of(fleet.spec)
        self.stores = fleet.spec.engine.env.get(RESPONSES_STORE, "0").strip() not in ("", "0")
        """Its engines keep responses, each its own."""
        self.session_key = self.spec.session_header.lower().encode()
        self.sessions = self.spec.sessions
        self.tenants.configure(self.spec.tenants)
        canary = fleet.spec.rollout.canary
        if canary is not None and canary.shadow:
            self.shadow = self.shadow or Shadow(self)
        elif self.shadow is not None:
            self.shadow.close()
            self.shadow = None
        self.desk.configure(rules_of(fleet))
        self.kept.rules = kept_of(fleet)

    def discovered(self, replicas: Iterable[Replica], canary_percent: int, coming: bool = False) -> None:
        """The newest list of this fleet's replicas."""
        replicas = tuple(replicas)
        self.canary_percent = canary_percent
        self.has_canary = any(r.group == "canary" for r in replicas)
        changes = self.desk.discovered(replicas, coming)
        for target in changes.added:
            self._pools[target] = self._open_pool(target.replica.url)
        for target in changes.removed:
            pool = self._pools.pop(target)
            pool.close()
            if target.in_flight:
                self._leaving[target] = pool
        if changes.added or changes.returned:
            self.pump()

    def pool(self, target: Target) -> Pool:
        return self._pools.get(target) or self._leaving[target]

    @property
    def targets(self) -> Iterable[Target]:
        return self.desk.router.targets.values()

    @property
    def router(self) -> Router:
        return self.desk.router

    @property
    def admission(self) -> Admission:
        return self.desk.admission

    @property
    def quarantine(self) -> Quarantine:
        return self.desk.quarantine

    @property
    def active(self) -> list[Held]:
        """Exchanges that are admitted and not over."""
        return [ticket.owner for ticket in self.desk.tickets]

    def left(self, ticket: Ticket) -> None:
        """A request is over: its place is free for who waits."""
        self.desk.left(ticket, self.now())
        if self.desk.admission.queued:
            self.loop.call_soon(self.pump)

    def told(self, ticket: Ticket, made: Made, tokens: int, cached: int | None, answer: int) -> None:
        """What an engine counted of a request that it has answered whole."""
        self.rates.learn(made, tokens)
        both = self.desk.told(ticket, tokens, cached, answer)
        if both is not None:
            self.stats.cached(both[0], both[1])

    def broke(self, ticket: Ticket, what: Break) -> None:
        """Its replica failed a request, which leaves it."""
        target = ticket.target
        assert target is not None
        out = self.desk.broke(ticket, what, self.now())
        if out:
            self._evicted(target)
        if self.desk.waits:
            self.soon()
        if self.desk.admission.queued:
            self.loop.call_soon(self.pump)

    def pump(self) -> None:
        """Free places for those who wait."""
        for placed in self.desk.pump(self.now()):
            self._go(placed.ticket)

    def _go(self, ticket: Ticket) -> None:
        exchange: Held = ticket.owner
        self.stats.queue_wait.add(self.now() - ticket.queued_at)
        exchange.go()

    def evict(self, target: Target, reason: str) -> None:
        """Stops routing to `target` on evidence, and has it probed."""
        if self.desk.evict(target, reason):
            self._evicted(target)

    def _evicted(self, target: Target) -> None:
        pool = self._pools.get(target)
        if pool is not None:
            pool.close_idle()
            self._on_evicted(self, target)

    def erred(self, target: Target, mark: bytes) -> None:
        """An answer of 5xx that is passed on, to the prompt of this mark."""
        if self.desk.erred(target, mark, self.now()):
            self._evicted(target)

    def died(self, target: Target, reason: str) -> None:
        """There is evidence that it is dead: it is out, and all that it holds is tried elsewhere."""
        self.desk.died(target, self.now())
        self.evict(target, reason)
        for ticket in [t for t in self.desk.tickets if t.target is target]:
            exchange: Held = ticket.owner
            exchange.replica_died(reason)

    def leave(self, target: Target, reason: str) -> None:
        """It answers wrongly: it is out, and what can go on elsewhere without a loss for its client does."""
        self.evict(target, reason)
        for ticket in [t for t in self.desk.tickets if t.target is target]:
            exchange: Held = ticket.owner
            exchange.leave_replica(reason)

    def unread(self, target: Target) -> int:
        """Tokens of prompts, about, that it was sent and has given nothing for."""
        return sum(t.ask.size for t in self.desk.tickets if t.target is target and t.awaits) // 4

    def ask(self, target: Target) -> None:
        """An ask of ours wants one of its places."""
        self.desk.router.ask(target)

    def asked(self, target: Target) -> None:
        self.desk.router.asked(target)
        self.pump()

    def has_place(self, target: Target) -> bool:
        return self.desk.router.has_place(target, self.now())

    def doubt(self, target: Target, reason: str) -> None:
        """It may hang: nothing new goes there."""
        self.desk.doubt(target, reason)

    def trust(self, target: Target) -> None:
        """It has shown a sign of life."""
        self.desk.trust(target)
        self.pump()

    def condemn(
        self, ticket: Ticket, path: bytes, body: bytes, since: float, mark: bytes = b""
    ) -> bool | None:
        """Keeps a convict's request out, if it is known that the replicas died of it. `since`: when it came. None: not
        known yet."""
        guilty = self.desk.died_of(ticket, since)
        if guilty:
            self.stats.poison += 1
            self.desk.quarantine.add(path, body, self.now(), mark)
        return guilty

    @property
    def model(self) -> str:
        """A name that its engines serve."""
        return self.fleet.served_names[0]

    @property
    def pace(self) -> Pace:
        """Of a replica that has not shown any: a slow device of its kind."""
        spec = self.fleet.spec
        return Pace(
            prompt_token_s=CPU_TOKEN_S if spec.hardware.gpu == "cpu" else GPU_TOKEN_S,
            step_tokens=spec.engine.max_num_batched_tokens or STEP_TOKENS,
        )

    def has(self, target: Target) -> bool:
        """Discovery has not taken it away."""
        return self.desk.router.targets.get(target.name) is target

    def probing(self, target: Target) -> bool:
        """It is asked for a proof now. False: there is nothing to prove any more."""
        router = self.desk.router
        if target.state not in ("evicted", "probing") or router.targets.get(target.name) is not target:
            return False
        router.probing(target)
        return True

    def proven(self, target: Target) -> bool:
        """A real token came back from an evicted replica."""
        if not self.desk.proven(target, self.now()):
            return False
        self.pump()
        return True

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

    def waits(self, ticket: Ticket) -> None:
        """It has just found no place: a line of a batch gives way to it, or it is looked at again soon."""
        line = self.desk.give_way(ticket)
        if line is not None:
            held: Held = line.owner
            held.gives_way()
        self.soon()

    def soon(self) -> None:
        """Something `waits` at the desk: it is looked at every SOON_S until nothing does. Where nothing waits, nobody
        wakes so often, which costs a tenth of the CPU of a gateway that streams."""
        if self._soon is None:
            self._soon = self.loop.call_later(SOON_S, self._look)

    def _look(self) -> None:
        self._soon = None
        self._tick(self.now())

    def _tick(self, now: float) -> None:
        tick = self.desk.tick(now)
        for second in tick.seconds:
            exchange: Held = second.ticket.owner
            exchange.hedged(second.picked.target)
        for ticket in tick.late:
            exchange = ticket.owner
            exchange.waited_too_long()
        for placed in tick.placed:
            self._go(placed.ticket)
        for ticket in tick.verdicts:
            exchange = ticket.owner
            exchange.verdict()
        if self.desk.waits:
            self.soon()

    def sweep(self, now: float) -> None:
        """Exchanges that hang or are late, idle connections, rates. Every quarter of a second or so."""
        self._tick(now)
        self.tenants.look(now)
        self.kept.sweep(now)
        for pool in self._pools.values():
            pool.sweep(now)
        for target in [t for t in self._leaving if not t.in_flight]:
            del self._leaving[target]
        for exchange in self.active:
            exchange.check(now)

    def close(self) -> None:
        if self._soon is not None:
            self._soon.cancel()
        if self.shadow is not None:
            self.shadow.close()
        for pool in (*self._pools.values(), *self._leaving.values()):
            pool.close()


def rules_of(fleet: Fleet) -> DeskRules:
    """What a fleet's spec says about its desk."""
    spec = fleet.spec.gateway
    return DeskRules(
        spec.max_in_flight or fleet.spec.engine.max_num_seqs or 256,
        Bounds(spec.max_queued, spec.max_queued_tokens),
        spec.queue_timeout,
        spec.hedge_after,
    )


def kept_of(fleet: Fleet) -> ShelfRules:
    """What a fleet's spec says about answers that are kept."""
    spec = fleet.spec.gateway
    return ShelfRules(spec.keep_for, spec.keep_memory)

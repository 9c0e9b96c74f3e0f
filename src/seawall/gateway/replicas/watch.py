"""Watches replicas that are out, or that owe an answer and are silent: one owner each, until it is well again or gone.

An evicted replica is asked for one real token, and only that brings it back: at once, then with growing pauses up to
MAX_PAUSE_S. One that still takes requests and is silent for `quiet_s` is looked at more closely: its metrics, and an
ask for one token. What that means is decided by `decide/route/evidence.py`: a suspect gets nothing new, a dead one is
evicted and what it holds is tried elsewhere. Between requests replicas are asked prompts whose answers are known
(`truth.py`), and one that was out comes back when its tokens are the right ones. Forbidden here: taking silence for
death.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Protocol

from seawall.decide.route.evidence import LEFT, Pace, Patience, Pulse, Sight, Verdict, look
from seawall.decide.route.pick import Target
from seawall.gateway.replicas.probe import METRICS_S, TIMEOUT_S, metrics, serves
from seawall.gateway.replicas.truth import TruthWatch
from seawall.gateway.replicas.upstream import OURS, REFUSED, Pool

log = logging.getLogger("seawall.gateway.replicas.watch")
FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 2.0
LOOK_S = 1.0
ALIKE = 3
"""So many replicas are asked for the pace of one that does not show any; the slowest counts."""
OUT = ("evicted", "probing")
TokenProof = Callable[[Pool, str, float], Awaitable[str]]


class WatchedFleet(Protocol):
    """The part of a fleet (`exchange.lane.FleetLane`) that its replicas' watch needs."""

    name: str
    now: Callable[[], float]

    @property
    def model(self) -> str:
        """A name that its engines serve."""

    @property
    def targets(self) -> Iterable[Target]: ...

    @property
    def pace(self) -> Pace:
        """Of a replica that has not shown any."""

    def pool(self, target: Target) -> Pool: ...

    def has(self, target: Target) -> bool:
        """Discovery has not taken it away."""

    def unread(self, target: Target) -> int:
        """Tokens of prompts, about, that it was sent and has given nothing for."""

    def probing(self, target: Target) -> bool:
        """It is asked for a proof now. False: there is nothing to prove any more."""

    def proven(self, target: Target) -> bool: ...

    def died(self, target: Target, reason: str) -> None: ...

    def doubt(self, target: Target, reason: str) -> None: ...

    def trust(self, target: Target) -> None: ...

    def evict(self, target: Target, reason: str) -> None: ...

    def leave(self, target: Target, reason: str) -> None: ...

    def ask(self, target: Target) -> None: ...

    def asked(self, target: Target) -> None: ...

    def has_place(self, target: Target) -> bool: ...


class Watch:
    """See the module. `proof` says what came instead of a token; empty: one came."""

    def __init__(
        self, proof: TokenProof = serves, patience: Patience = LEFT, truth: TruthWatch | None = None
    ) -> None:
        self._proof = proof
        self.truth = truth or TruthWatch()
        self._patience = patience
        self._metrics_s = min(METRICS_S, max(1.0, patience.quiet_s))
        self._owned: dict[Target, asyncio.Task[None]] = {}
        self._asked: dict[Target, asyncio.Task[None]] = {}

    def evicted(self, fleet: WatchedFleet, target: Target) -> None:
        log.warning("%s: evicted %s: %s", fleet.name, target.name, target.reason)
        self._own(fleet, target)

    def heard(self, fleet: WatchedFleet, target: Target, why: str) -> None:
        """Another gateway says that it has evicted this replica: a suspicion, until it has been asked for a token."""
        if target not in self._owned and target not in self._asked and target.state not in OUT:
            task = asyncio.get_running_loop().create_task(self._verify(fleet, target, why))
            self._asked[target] = task

    async def _verify(self, fleet: WatchedFleet, target: Target, why: str) -> None:
        try:
            fleet.doubt(target, why)
            failed = await self._proof(fleet.pool(target), fleet.model, TIMEOUT_S)
            failed = failed or await self.truth.returns(fleet, target)
            if failed and fleet.has(target) and target.state not in OUT:
                fleet.evict(target, f"{why}; here, too: {failed}")
            elif target.suspect == why:
                fleet.trust(target)
        except Exception:
            log.exception("%s: a look at %s failed: a fault of the gateway", fleet.name, target.name)
        finally:
            del self._asked[target]

    def sweep(self, fleet: WatchedFleet, now: float) -> None:
        """Looks for replicas that owe an answer and are silent."""
        for target in fleet.targets:
            if self._silent(fleet, target, now):
                self._own(fleet, target)

    def patrol(self, fleet: WatchedFleet, now: float) -> None:
        """Asks replicas that nobody else looks at for answers that are known."""
        for target in self.truth.look(fleet, now):
            if target not in self._owned and target not in self._asked:
                self._asked[target] = asyncio.get_running_loop().create_task(self._routine(fleet, target))

    async def _routine(self, fleet: WatchedFleet, target: Target) -> None:
        try:
            await self.truth.routine(fleet, target)
        except Exception:
            log.exception("%s: an ask of %s failed: a fault of the gateway", fleet.name, target.name)
        finally:
            del self._asked[target]

    def _silent(self, fleet: WatchedFleet, target: Target, now: float) -> bool:
        """It owes an answer, and has shown no sign for a while."""
        return bool(target.in_flight) and now - fleet.pool(target).last_event >= self._patience.quiet_s

    def _own(self, fleet: WatchedFleet, target: Target) -> None:
        if target not in self._owned:
            task = asyncio.get_running_loop().create_task(self._care(fleet, target))
            self._owned[target] = task

    async def _care(self, fleet: WatchedFleet, target: Target) -> None:
        """Owns `target` until nothing is wrong with it, or it is gone. Between the last check and the end nothing
        waits, so an eviction cannot fall between two owners."""
        try:
            while fleet.has(target):
                if target.state in OUT:
                    await self._prove(fleet, target)
                elif not self._silent(fleet, target, fleet.now()) or not await self._doubt(fleet, target):
                    return
        except Exception:
            log.exception("%s: the watch of %s failed: a fault of the gateway", fleet.name, target.name)
        finally:
            del self._owned[target]

    async def _prove(self, fleet: WatchedFleet, target: Target) -> None:
        """Until it gives a token. What still waits there is tried elsewhere once the replica is known to be dead."""
        pause = FIRST_PAUSE_S
        pulse: Pulse | None = None
        while fleet.probing(target):
            failed = await self._proof(fleet.pool(target), fleet.model, TIMEOUT_S)
            failed = failed or await self.truth.returns(fleet, target)
            if not failed:
                if fleet.proven(target):
                    log.warning("%s: %s gave a token: back in service", fleet.name, target.name)
                return
            if failed == REFUSED:
                fleet.died(target, "its port refuses connections")
            elif target.in_flight:
                pulse = pulse or await self._first(fleet, target)
                pulse = await self._look(fleet, target, pulse, answered=False)
            await asyncio.sleep(pause)
            pause = min(MAX_PAUSE_S, pause * 1.6)

    async def _doubt(self, fleet: WatchedFleet, target: Target) -> bool:
        """A closer look at one that is silent. True: it is out now."""
        pulse = await self._first(fleet, target)
        answered: bool | None = None
        while fleet.has(target) and target.in_flight and target.state not in OUT:
            pulse = await self._look(fleet, target, pulse, answered)
            if not pulse.looks:
                break  # it has shown a sign
            answered = None
            if fleet.now() - pulse.sign_s >= self._patience.quiet_s and target.state not in OUT:
                ask_s = self._patience.quiet_s * (1 if pulse.deaf else 2)
                failed = await self._proof(fleet.pool(target), fleet.model, ask_s)
                if failed == REFUSED:
                    fleet.died(target, "its port refuses connections")
                answered = None if failed.startswith(OURS) else not failed
            await asyncio.sleep(min(LOOK_S, self._patience.quiet_s))
        if target.suspect and target.state not in OUT and not self.truth.blames(fleet, target):
            fleet.trust(target)
        return target.state in OUT

    async def _first(self, fleet: WatchedFleet, target: Target) -> Pulse:
        load = (await metrics(fleet.pool(target), self._metrics_s)).load
        return Pulse(sign_s=fleet.pool(target).last_event, marks=load.marks if load is not None else ())

    async def _look(self, fleet: WatchedFleet, target: Target, pulse: Pulse, answered: bool | None) -> Pulse:
        """One look, and what follows from it."""
        pool = fleet.pool(target)
        load, deaf = await metrics(pool, self._metrics_s)
        pace = fleet.pace
        seen_s = load.prompt_token_s if load is not None else None
        if seen_s is None:
            seen_s = await self._pace_of_its_like(fleet, target)
        if seen_s is not None:
            pace = replace(pace, prompt_token_s=seen_s, seen=True)
        marks = load.marks if load else None
        unread = fleet.unread(target)
        sight = Sight(
            marks=marks, deaf=deaf, heard_s=pool.last_event, answered=answered, unread_tokens=unread
        )
        opinion, pulse = look(pulse, sight, pace, self._patience, fleet.now())
        if not pulse.looks:
            pool.last_event = max(pool.last_event, pulse.sign_s)
        match opinion.verdict:
            case Verdict.DEAD:
                fleet.died(target, opinion.reason)
            case Verdict.SUSPECT if not target.suspect:
                log.warning("%s: %s is suspect: %s", fleet.name, target.name, opinion.reason)
                fleet.doubt(target, opinion.reason)
            case _:
                pass
        return pulse

    async def _pace_of_its_like(self, fleet: WatchedFleet, target: Target) -> float | None:
        """Seconds per prompt token that another replica of the same strength has shown: for one that has shown none, or
        does not tell any more."""
        weight = target.replica.weight
        alike = [
            t for t in fleet.targets if t is not target and t.state == "ready" and t.replica.weight == weight
        ]
        pages = await asyncio.gather(*(metrics(fleet.pool(t), self._metrics_s) for t in alike[:ALIKE]))
        paces = [
            p.load.prompt_token_s for p in pages if p.load is not None and p.load.prompt_token_s is not None
        ]
        return max(paces, default=None)

    async def close(self) -> None:
        tasks = [*self._owned.values(), *self._asked.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.truth.close()

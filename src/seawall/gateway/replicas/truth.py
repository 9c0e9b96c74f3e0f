"""Asks replicas whose answers are known, and says what follows: doubt, eviction, or that there is nothing to go by.

What an answer means is decided by `decide/truth`. The watch (`watch.py`) owns when a replica may be asked, so that
nobody is asked by two at once. Forbidden here: keeping a request of a client waiting, and taking an answer that does
not come for a wrong one.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import msgspec

from seawall.decide.route.pick import Target
from seawall.decide.truth import standing as rules
from seawall.decide.truth.fingerprint import (
    Deviation,
    Distance,
    Fingerprint,
    Identity,
    KnownAnswer,
    PinnedPrompt,
    TruthAnswer,
    compare,
)
from seawall.decide.truth.learn import Learned, learn
from seawall.decide.truth.prompts import prompts
from seawall.decide.truth.standing import TruthStanding
from seawall.domain import labels
from seawall.engines.vllm.truth import answer_of, ask_of, is_no_number
from seawall.gateway.replicas.probe import ask
from seawall.gateway.replicas.upstream import Pool

log = logging.getLogger("seawall.gateway.replicas.truth")
CANARY = "canary"
"""Replicas of this group may answer otherwise by intention: the canary's own comparison judges them."""
ASK_S = 30.0
A_SECOND = 10.0
"""Routine asks of one gateway process, however many replicas there are: 300 in 30 s, for 0.4% of a core."""
PLACE_S = 30.0
LOOK_S = 0.05
"""An ask waits so long for a place at a full replica, and looks so often."""
AT_ONCE = 4
LOADED = 3
"""Times that each prompt is asked while others run beside it, to measure what batching does."""
LEARNED_FROM = 3
"""Replicas at most."""
COARSE = 3.0
"""What was measured in so short a time, and not under a real load, is taken times this."""
SETTLE_S = 900.0
"""After a change of what is served nothing is learned for so long: replicas of before and after are there."""
AGAIN_S = 60.0
"""Between two attempts to learn from replicas that do not agree."""


HOT_S = 60.0
"""Between two counts of the tokens in use."""
NEW = TruthStanding()


class TruthFleet(Protocol):
    """The part of a fleet (`exchange.lane.FleetLane`) that this needs."""

    name: str
    now: Callable[[], float]

    @property
    def model(self) -> str: ...

    @property
    def targets(self) -> Iterable[Target]: ...

    def pool(self, target: Target) -> Pool: ...

    def has(self, target: Target) -> bool: ...

    def doubt(self, target: Target, reason: str) -> None: ...

    def trust(self, target: Target) -> None: ...

    def leave(self, target: Target, reason: str) -> None: ...

    def ask(self, target: Target) -> None:
        """An ask of ours wants one of its places; `asked` gives it back."""

    def asked(self, target: Target) -> None: ...

    def has_place(self, target: Target) -> bool:
        """What it holds, asks that want a place counted in, is within its cap."""


@dataclass
class FleetTruth:
    """What is known of one fleet's answers."""

    share: float
    """Of each replica's time, for routine asks; 0: nothing is asked."""
    fingerprint: Fingerprint | None = None
    given: bool = False
    """The fingerprint was made beforehand, not learned here."""
    problem: str = ""
    """Why there is none."""
    learn_at: float = 0.0
    standings: dict[Target, TruthStanding] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    """Answers by what they were: same, moved, none."""
    took_s: float = 0.0
    cannot: str = ""
    """Why its engines cannot be asked at all."""
    identity: Identity | None = None
    """What the fleet is said to be."""
    used: Counter[int] = field(default_factory=Counter)
    """Token ids that its streams have said lately, as far as was looked."""
    _hot: tuple[str, ...] = ()
    _hot_s: float = -math.inf

    def adopt(self, fingerprint: Fingerprint | None, share: float, identity: Identity, now: float) -> None:
        """Takes what is beside the spec now. What was learned of another model, version or flags is forgotten."""
        self.share = share
        if self.identity not in (None, identity):
            self.cannot = ""
            if not self.given:
                self.fingerprint, self.learn_at = None, now + SETTLE_S
                self.standings.clear()
        self.identity = identity
        if fingerprint is not None or self.given:
            if fingerprint != self.fingerprint:
                self.standings.clear()
            self.fingerprint, self.given = fingerprint, fingerprint is not None
            self.problem = ""

    def hot(self, now: float) -> tuple[str, ...]:
        """Sweeps of the tokens in use; old use counts for half of new each time that this is counted again."""
        if now - self._hot_s >= HOT_S and self.fingerprint is not None:
            self._hot, self._hot_s = rules.hot_sweeps(self.used, rules.prompts_of(self.fingerprint)), now
            self.used = Counter({i: n // 2 for i, n in self.used.items() if n > 1})
        return self._hot


class TruthWatch:
    """See the module."""

    def __init__(self) -> None:
        self.fleets: dict[str, FleetTruth] = {}
        self._learning: dict[str, asyncio.Task[None]] = {}
        self._credit, self._looked_s = A_SECOND, -math.inf

    def configure(self, known: Mapping[str, tuple[Fingerprint | None, float, Identity]], now: float) -> None:
        """Fleet -> its fingerprint, if one was made, the share of time for asks, and what it is said to be."""
        for name in [n for n in self.fleets if n not in known]:
            del self.fleets[name]
        for name, (fingerprint, share, identity) in known.items():
            self.fleets.setdefault(name, FleetTruth(share)).adopt(fingerprint, share, identity, now)

    def look(self, fleet: TruthFleet, now: float) -> list[Target]:
        """Replicas that should be asked now. Learns, too, where nothing is known."""
        truth = self.fleets.get(fleet.name)
        if truth is None or not truth.share or truth.cannot:
            return []
        ready = [t for t in fleet.targets if t.state == "ready" and t.replica.group != CANARY]
        if truth.fingerprint is None:
            self._learn_from(fleet, truth, ready, now)
            return []
        for gone in [t for t in truth.standings if not fleet.has(t)]:
            del truth.standings[gone]
        due = [(s.due_s, t) for t in ready if self._due(fleet, t, s := truth.standings.get(t) or NEW, now)]
        self._credit = min(A_SECOND, self._credit + A_SECOND * max(0.0, now - self._looked_s))
        self._looked_s = now
        some = [t for _, t in sorted(due, key=lambda one: one[0])[: int(self._credit)]]
        self._credit -= len(some)
        return some

    def _due(self, fleet: TruthFleet, target: Target, standing: TruthStanding, now: float) -> bool:
        """Its turn, and it has served since it was asked last: who is idle harms nobody, and may be scaled away, which
        an ask at the wrong moment would put off."""
        if standing.urgent:
            return True
        last = max(fleet.pool(target).last_event, standing.sick_s)
        serves = target.in_flight > 0 or last > standing.asked_s
        return standing.due_s <= now and (serves or not standing.turn or standing.state in rules.BLAMED)

    def standing(self, fleet: TruthFleet, target: Target) -> TruthStanding:
        truth = self.fleets.get(fleet.name)
        return (truth.standings.get(target) if truth is not None else None) or NEW

    def blames(self, fleet: TruthFleet, target: Target) -> bool:
        """Whether its answers are why it is suspect or out: a sign of life changes nothing about that."""
        return self.standing(fleet, target).state in rules.BLAMED

    def said(self, fleet: TruthFleet, ids: Sequence[int]) -> None:
        """What a stream has said lately: sweeps of these tokens come first."""
        truth = self.fleets.get(fleet.name)
        if truth is not None and truth.given:
            truth.used.update(ids)

    def sick(self, fleet: TruthFleet, target: Target, why: str) -> None:
        """A stream of this replica looks sick."""
        truth = self.fleets.get(fleet.name)
        if truth is None or truth.fingerprint is None:
            return
        now = fleet.now()
        before = self.standing(fleet, target)
        truth.standings[target] = after = rules.looks_sick(before, now)
        if after is not before:
            log.warning("%s: %s looks sick, it is asked now: %s", fleet.name, target.name, why)

    async def routine(self, fleet: TruthFleet, target: Target) -> None:
        """Asks the next prompt, and as many more as what comes demands."""
        truth = self.fleets[fleet.name]
        while truth.fingerprint is not None and fleet.has(target) and target.state == "ready":
            wanted = rules.prompts_of(truth.fingerprint)
            before = self.standing(fleet, target)
            name = rules.next_prompt(before, wanted, fleet.now(), truth.hot(fleet.now()))
            known = truth.fingerprint.of(name) if name is not None else None
            if known is None:
                return
            deviation, took_s = await self._deviation(fleet, truth, target, known)
            if deviation is None:
                pause = min(rules.MOST_S, max(rules.LEAST_S, took_s / truth.share))
                truth.standings[target] = replace(before, due_s=fleet.now() + pause, asked_s=fleet.now())
                return
            after = rules.heard(before, deviation, wanted, took_s, truth.share, fleet.now())
            truth.standings[target] = after
            self._follow(fleet, truth, target, before, after)
            if not after.urgent:
                return

    def _follow(
        self,
        fleet: TruthFleet,
        truth: FleetTruth,
        target: Target,
        before: TruthStanding,
        after: TruthStanding,
    ) -> None:
        """What a changed standing means for the replica."""
        if after.state == "true":
            if before.state in rules.BLAMED:
                log.warning("%s: %s answers as known again", fleet.name, target.name)
                fleet.trust(target)
        elif after.state in rules.BLAMED:
            leaves = rules.may_leave(after, _others(truth, target))
            if after.state != before.state:
                what = "is taken out" if after.state == "wrong" else "gets nothing new"
                alone = "serves on, for too few others answer as known: is the fingerprint out of date?"
                log.error("%s: %s %s: %s", fleet.name, target.name, what if leaves else alone, after.reason)
            if leaves and after.state == "wrong":
                fleet.leave(target, after.reason)
            elif leaves and not target.suspect:
                fleet.doubt(target, after.reason)

    async def returns(self, fleet: TruthFleet, target: Target) -> str:
        """Whether a replica that is out, and gives tokens, gives the right ones: empty, else why it stays out."""
        truth = self.fleets.get(fleet.name)
        if truth is None or truth.fingerprint is None or not truth.share or truth.cannot:
            return ""
        if target.replica.group == CANARY:
            return ""
        standing = self.standing(fleet, target)
        blamed = standing.state != "true"
        first = [truth.fingerprint.of(m.prompt) for m in standing.evidence]
        rest = [k for k in truth.fingerprint.known if not k.prompt.covers]
        deviations: list[Deviation] = []
        for known in [k for k in first if k is not None] + rest[: None if blamed else 2]:
            deviation, _ = await self._deviation(fleet, truth, target, known)
            if deviation is None:
                return "asked for logprobs it gave none"
            deviations.append(deviation)
            if deviation.moved and blamed and rules.may_leave(standing, _others(truth, target)):
                return standing.reason
        after = rules.told_all(standing, deviations)
        if after.state == "odd":  # few were asked: the watch goes on from here
            after = replace(after, state="doubted")
        truth.standings[target] = after
        return (
            after.reason if after.state == "wrong" and rules.may_leave(after, _others(truth, target)) else ""
        )

    async def _deviation(
        self, fleet: TruthFleet, truth: FleetTruth, target: Target, known: KnownAnswer
    ) -> tuple[Deviation | None, float]:
        """How its answer is away from the known one (None: it gave none, which says nothing), and seconds it took."""
        answer, took_s = await self._ask(fleet, truth, target, known.prompt)
        truth.took_s += took_s
        deviation: Deviation | None = None
        if answer == "absurd":
            deviation = Deviation(known.prompt.name, known.prompt.kind, "absurd")
        elif isinstance(answer, TruthAnswer):
            deviation = compare(known, answer)
        result = "none" if deviation is None else "moved" if deviation.moved else "same"
        truth.asked[result] = truth.asked.get(result, 0) + 1
        return deviation, took_s

    async def _ask(
        self, fleet: TruthFleet, truth: FleetTruth, target: Target, prompt: PinnedPrompt
    ) -> tuple[TruthAnswer | str, float]:
        """Its answer, and seconds that it took. An ask takes one of the replica's places, and waits for one."""
        fleet.ask(target)
        try:
            until = fleet.now() + PLACE_S
            while target.state == "ready" and not target.suspect and not fleet.has_place(target):
                if fleet.now() > until or not fleet.has(target):
                    return "none", 0.0
                await asyncio.sleep(LOOK_S)
            began = fleet.now()
            return await self._answer(fleet, truth, target, prompt), fleet.now() - began
        finally:
            fleet.asked(target)

    async def _answer(
        self, fleet: TruthFleet, truth: FleetTruth, target: Target, prompt: PinnedPrompt
    ) -> TruthAnswer | str:
        path, body = ask_of(prompt, fleet.model, os.urandom(9).hex())
        status, page = await ask(fleet.pool(target), path.encode(), msgspec.json.encode(body), ASK_S)
        if status == 200:
            try:
                answer: TruthAnswer = answer_of(msgspec.json.decode(page))
                return answer
            except (ValueError, msgspec.MsgspecError):
                return "none"
        text = page.decode("utf-8", "replace")
        if is_no_number(status, text):
            return "absurd"
        if status in (400, 404, 405, 422):
            truth.cannot = (
                f"asked for a greedy answer with logprobs, {target.name} says {status}: {text[:200]}"
            )
            log.warning("%s: its answers are not watched: %s", fleet.name, truth.cannot)
        return "none"

    def lines(self, fleets: Iterable[TruthFleet]) -> list[tuple[str, dict[str, str], float]]:
        """Samples for the metrics page."""
        out: list[tuple[str, dict[str, str], float]] = []
        for fleet in fleets:
            truth, tag = self.fleets.get(fleet.name), {"fleet": fleet.name}
            if truth is None or not truth.share:
                continue
            for result in ("same", "moved", "none"):
                out.append((labels.TRUTH_ASKS_TOTAL, {**tag, "result": result}, truth.asked.get(result, 0)))
            out.append((labels.TRUTH_SECONDS_TOTAL, tag, round(truth.took_s, 3)))
            source = "given" if truth.given else "learned"
            for one in ("given", "learned"):
                known = truth.fingerprint is not None and one == source
                out.append((labels.TRUTH_KNOWN, {**tag, "source": one}, int(known)))
            out.append((labels.TRUTH_DISAGREE, tag, int(bool(truth.problem))))
            for target in fleet.targets:
                standing = truth.standings.get(target)
                if standing is not None and standing.state in rules.BLAMED:
                    who = {**tag, "replica": target.name, "state": standing.state, "kind": standing.kind}
                    out.append((labels.REPLICA_ANSWERS_WRONGLY, who, 1))
        return out

    # -- learning

    def _learn_from(self, fleet: TruthFleet, truth: FleetTruth, ready: Sequence[Target], now: float) -> None:
        if len(ready) < 2 or now < truth.learn_at or fleet.name in self._learning:
            return
        task = asyncio.get_running_loop().create_task(self._learn(fleet, truth, ready[:LEARNED_FROM]))
        self._learning[fleet.name] = task

    async def _learn(self, fleet: TruthFleet, truth: FleetTruth, from_: Sequence[Target]) -> None:
        try:
            learned = await self._hear_all(fleet, truth, from_)
            truth.learn_at = fleet.now() + AGAIN_S
            if learned is None or truth.given:
                return
            if learned.fingerprint is None:
                truth.problem = (
                    f"{', '.join(learned.others)} answer {', '.join(learned.disagree[:4])} differently: one of them is "
                    "wrong, and nothing here says which. Make the truth from verified weights: seawall fingerprint"
                )
                log.error("%s: %s", fleet.name, truth.problem)
                return
            known = [
                replace(k, noise=Distance(COARSE * k.noise.mean, COARSE * k.noise.worst))
                for k in learned.fingerprint.known
            ]
            truth.fingerprint, truth.problem = replace(learned.fingerprint, known=tuple(known)), ""
            log.warning("%s: right answers are those that %s", fleet.name, truth.fingerprint.source)
        except Exception:
            log.exception("%s: learning its answers failed: a fault of the gateway", fleet.name)
        finally:
            del self._learning[fleet.name]

    async def _hear_all(
        self, fleet: TruthFleet, truth: FleetTruth, from_: Sequence[Target]
    ) -> Learned | None:
        """Each prompt from each replica: once after the other, then several at a time."""
        wanted = prompts()
        heard: dict[str, dict[str, list[TruthAnswer]]] = {t.name: {p.name: [] for p in wanted} for t in from_}
        places = asyncio.Semaphore(AT_ONCE)

        async def one(target: Target, prompt: PinnedPrompt) -> bool:
            async with places:
                if truth.cannot or not fleet.has(target):
                    return False
                answer, _ = await self._ask(fleet, truth, target, prompt)
            if isinstance(answer, TruthAnswer):
                heard[target.name][prompt.name].append(answer)
            return isinstance(answer, TruthAnswer)

        for target in from_:
            for prompt in wanted:
                if not await one(target, prompt):
                    return None
        for n in range(LOADED):
            order = [(t, p) for p in wanted[n:] + wanted[:n] for t in from_]
            if not all(await asyncio.gather(*(one(t, p) for t, p in order))):
                return None
        return learn(wanted, heard, Identity(model=fleet.model))

    async def close(self) -> None:
        tasks = list(self._learning.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _others(truth: FleetTruth, target: Target) -> list[TruthStanding]:
    return [s for t, s in truth.standings.items() if t is not target]

"""A fleet of one engine in virtual time, under the gateway's own desk and the simulated engine's own scheduler, and the
lane's own worker beside interactive requests. What is measured are decisions: the machine's speed has no part in it."""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from tests.unit.batch.making import a_batch, a_line, write_lines

from seawall.batch.audit import ActionLog
from seawall.batch.lane import BatchLane
from seawall.batch.lines import AskedLine, LineRules, check
from seawall.batch.outlook import Outlook
from seawall.batch.send import SendAgain, Sender
from seawall.batch.words import BatchRecord, LineResult
from seawall.batch.worker import LineWorker
from seawall.decide.batch.rules import FleetRules, LaneRules
from seawall.decide.route.admit import DUE, SPARE, Queued, Rejected, Ticket
from seawall.decide.route.desk import Desk, DeskRules
from seawall.decide.route.pick import Ask
from seawall.domain.action import Timing
from seawall.domain.seen import Replica
from seawall.domain.told import TTFT_BOUNDS_S, FleetState, GatewayState, ReplicaState
from seawall.engines.sim.language import Continuation, Sampling
from seawall.engines.sim.scheduler import Scheduler, Sequence, StepLimits

FLAT = Timing(base_s=0.02, prefill_token_s=2e-5, decode_seq_s=0.0, weight_read_s=0.0, kv_token_s=0.0)
"""A step of 20 ms, and 0.02 ms more for each token of a prompt."""
EPOCH = 1_000_000.0
DAY_S = 86_400
START = 200


@dataclass
class Asked:
    """One request at the played fleet."""

    tokens: int
    prompt: int
    over: asyncio.Future[str]
    ticket: Ticket | None = None
    sequence: Sequence | None = None
    first_s: float | None = None


@dataclass
class Told:
    """What interactive requests saw."""

    ttfts: list[float] = field(default_factory=list)
    tokens: int = 0


class PlayedFleet:
    """See the module."""

    def __init__(self, places: int = 32, timing: Timing = FLAT, seed: int = 1, serves: bool = True) -> None:
        self.loop = asyncio.get_running_loop()
        self.desk = Desk(DeskRules(places), random.Random(seed))
        self.serves = False
        """Its replica is there."""
        limits = StepLimits(max_num_seqs=places, by_priority=True, blocks=100_000)
        self.engine = Scheduler(limits, timing)
        self.places = places
        self.ttft_counts = [0] * (len(TTFT_BOUNDS_S) + 1)
        self.gave_way = 0
        self._wake = asyncio.Event()
        if serves:
            self.serve()

    def serve(self) -> None:
        """Its replica is ready from now on."""
        self.serves = True
        self.desk.discovered([Replica(name="r", url="http://r", fleet="f")])
        for placed in self.desk.pump(self.loop.time()):
            self._go(placed.ticket.owner)

    async def steps(self) -> None:
        while True:
            step = self.engine.plan_step(self.loop.time())
            if step is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            await asyncio.sleep(step.duration_s)
            self.engine.finish_step(step, self.loop.time())

    async def ask(self, tokens: int, prompt: int, priority: int = 5) -> Asked | None:
        """A request that is over; None: it was refused."""
        asked = Asked(tokens, prompt, self.loop.create_future())
        asked.ticket = ticket = Ticket(Ask(tokens + prompt), priority=priority, owner=asked)
        found = self.desk.offer(ticket, self.loop.time())
        if isinstance(found, Rejected):
            return None
        if isinstance(found, Queued):
            line = self.desk.give_way(ticket)
            if line is not None:
                self.gave_way += 1
                line.owner.over.set_result("gave way")
        else:
            self._go(asked)
        try:
            await asked.over
        finally:
            if asked.sequence is not None:
                self.engine.abort(asked.sequence)
            self.desk.left(ticket, self.loop.time())
            for placed in self.desk.pump(self.loop.time()):
                self._go(placed.ticket.owner)
        return asked

    def _go(self, asked: Asked) -> None:
        assert asked.ticket is not None
        now = self.loop.time()

        def deliver(sequence: Sequence, token: int | None, reason: str | None, stop: int | None) -> None:
            if asked.first_s is None:
                asked.first_s = self.loop.time()
            if reason is not None and not asked.over.done():
                asked.over.set_result(reason)

        prompt = list(range(START, START + asked.prompt))
        priority = 1 if asked.ticket.priority >= SPARE else 0
        continuation = Continuation(prompt, Sampling(ignore_eos=True))
        asked.sequence = Sequence(
            prompt, continuation, asked.tokens, deliver, priority=priority, arrived_s=now
        )
        self.engine.add(asked.sequence)
        self._wake.set()

    async def interactive(
        self, rate: Callable[[float], float], seconds: float, tokens: int, seed: int
    ) -> Told:
        """Open-loop arrivals of a rate per second that may change, from a seed."""
        rng, told, began = random.Random(seed), Told(), self.loop.time()

        async def one() -> None:
            at = self.loop.time()
            asked = await self.ask(tokens, rng.randint(10, 60))
            if asked is not None and asked.first_s is not None:
                told.ttfts.append(asked.first_s - at)
                self.ttft_counts[bisect_left(TTFT_BOUNDS_S, told.ttfts[-1])] += 1
                told.tokens += tokens

        async with asyncio.TaskGroup() as group:
            while self.loop.time() - began < seconds:
                await asyncio.sleep(rng.expovariate(rate(self.loop.time() - began)))
                group.create_task(one())
        return told

    async def capacity(self, tokens: int, prompt: int, seconds: float = 20.0) -> float:
        """Tokens per second when all places are always taken by such requests."""
        began, made = self.loop.time(), 0

        async def one_after_another() -> None:
            nonlocal made
            while self.loop.time() - began < seconds:
                await self.ask(tokens, prompt)
                made += tokens

        async with asyncio.TaskGroup() as group:
            for _ in range(self.places):
                group.create_task(one_after_another())
        return made / (self.loop.time() - began)

    async def look(self) -> GatewayState:
        """What its gateway tells."""
        waits = self.desk.admission
        fleet = FleetState(queued=waits.queued, queued_due=waits.due, ttft_counts=list(self.ttft_counts))
        replica = ReplicaState(fleet="f", state="ready", cap=self.places)
        return GatewayState(fleets={"f": fleet}, replicas={"r": replica} if self.serves else {})


class PlayedSender(Sender):
    """Sends lines to the played fleet. A line's answer has as many tokens as it may have."""

    def __init__(self, fleet: PlayedFleet) -> None:
        super().__init__("http://nowhere", "s")
        self._fleet = fleet

    async def send(
        self, batch: BatchRecord, line: AskedLine, due: bool, tries: int
    ) -> LineResult | SendAgain:
        tokens = msgspec.json.decode(line.body).get("max_tokens", 1)
        asked = await self._fleet.ask(tokens, 30, DUE if due else SPARE)
        if asked is None:
            return SendAgain(True, "no place")
        if asked.over.result() == "gave way":
            return SendAgain(True, "it gave way", began=True)
        return LineResult(line.line, True, b"{}", tokens_out=tokens, units=line.units)


class PlayedLane:
    """The lane's worker at a played fleet."""

    def __init__(
        self,
        folder: Path,
        fleet: PlayedFleet,
        rules: FleetRules | None = None,
        audit: ActionLog | None = None,
    ) -> None:
        self.rules = LaneRules((rules or FleetRules("f", frozenset({"m"})),))
        self.fleet = fleet
        self.lane = BatchLane(folder, None, self.rules, now=self.now, audit=audit)
        self.outlook = Outlook(self.rules)
        self.worker = LineWorker(
            self.lane, self.outlook, PlayedSender(fleet), fleet.look, now=fleet.loop.time
        )
        self._folder = folder

    def now(self) -> float:
        return EPOCH + self.fleet.loop.time()

    async def submit(
        self, lengths: Iterable[int], name: str = "batch_1", tenant: str = "t", window_s: int = DAY_S
    ) -> BatchRecord:
        """A batch in progress, whose lines have answers of these lengths."""
        lane = self.lane
        body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "x" * 100}]}
        lines = [a_line(f"q{i}", body={**body, "max_tokens": n}) for i, n in enumerate(lengths)]
        path = write_lines(lane.blobs.path(f"file-{name}"), lines)
        rules = LineRules(lines and lines[0]["url"], frozenset({"m"}), 10**6)
        found = check(path, rules)
        batch = a_batch(
            name, input_file=f"file-{name}", tenant=tenant, created=int(self.now()), window_s=window_s
        )
        await lane.call(lane.store.add_batch, batch)
        started = await lane.call(lane.store.start, name, found, self.now())
        assert started is not None
        lane.changed.set()
        return started

    async def done(self, name: str = "batch_1") -> int:
        batch = await self.lane.call(self.lane.store.batch, name)
        assert batch is not None
        return batch.completed + batch.failed

    async def until(self, lines: int, name: str = "batch_1") -> float:
        """When so many lines of a batch are done."""
        while await self.done(name) < lines:
            await asyncio.sleep(0.1)
        return self.now()


@asynccontextmanager
async def played(
    folder: Path,
    places: int = 32,
    timing: Timing = FLAT,
    rules: FleetRules | None = None,
    serves: bool = True,
    audit: ActionLog | None = None,
) -> AsyncIterator[PlayedLane]:
    """A fleet and its lane that run."""
    fleet = PlayedFleet(places, timing, serves=serves)
    lane = PlayedLane(folder, fleet, rules, audit)
    running = [asyncio.create_task(fleet.steps()), asyncio.create_task(lane.worker.run())]
    try:
        yield lane
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await lane.lane.close()

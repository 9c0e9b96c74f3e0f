"""The lane's worker: it sends lines while others leave room, keeps their results, and ends batches.

It obeys `decide.batch`: how many lines (`spare`), whose (`turns`), and when a batch is in need (`finish`). What it is
killed at is found again by the rules of `store`. Forbidden here: HTTP to clients, and holding more lines than are under
way and a little ahead.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic

from seawall.batch.assemble import assemble
from seawall.batch.create import look_through
from seawall.batch.lane import LEASE_S, BatchLane
from seawall.batch.lines import AskedLine
from seawall.batch.measure import Interactive
from seawall.batch.outlook import Outlook
from seawall.batch.send import SendAgain, Sender, failed, pause
from seawall.batch.under_way import UnderWay
from seawall.batch.words import BatchRecord, LineError, LineResult
from seawall.decide.batch.rules import FleetRules
from seawall.decide.batch.spare import Spare, SparePolicy, SpareState, decide
from seawall.decide.batch.turns import TurnAsk, Turns
from seawall.domain.told import GatewayState
from seawall.errors import SeawallError

log = logging.getLogger("seawall.batch")
LOOK_S = 0.25
"""Between two looks at the gateway, and so between two decisions of how many lines run."""
CLEAN_S = 60.0
MOST_HELD = 2000
"""Results that wait for the store: with more nothing is sent."""
WAKES = 4
"""Lines of batches in need that wait at the gateway where no replica serves: somebody starts one for them."""
FILL = 200
FELL = 0.75
"""A limit is said to have fallen when it is less than so much of what it was."""
TRIED_S = 0.025
TRIED = 64
"""After a refusal one more line is tried every TRIED_S; where there are more than TRIED places, one of so many."""
UNCONTROLLED = 6
"""Times the places that there are, in lines that a lane without control sends."""
Look = Callable[[], Awaitable[GatewayState | None]]


@dataclass
class TenantSpent:
    """What lines of one tenant took."""

    tokens: int = 0
    gpu_s: float = 0.0
    usd: float = 0.0


class LineWorker:
    """See the module."""

    def __init__(
        self,
        lane: BatchLane,
        outlook: Outlook,
        sender: Sender,
        look: Look,
        controlled: bool = True,
        now: Callable[[], float] = monotonic,
    ) -> None:
        """`controlled`: interactive requests come first; without, lines are requests like any other (a proof's)."""
        self._controlled = controlled
        self._lane, self._outlook, self._sender, self._look, self._now = lane, outlook, sender, look, now
        self.batches: dict[str, UnderWay] = {}
        self._measure = Interactive()
        self._turns = Turns()
        self._states: dict[str, SpareState] = {}
        self.spare: dict[str, Spare] = {}
        self._refused: dict[str, int] = defaultdict(int)
        self._full: dict[str, tuple[int, float]] = {}
        """Fleet that refused a line -> lines under way then, and when: little by little some more are tried."""
        self._results: dict[str, list[LineResult]] = defaultdict(list)
        self._go = asyncio.Event()
        self._settle = asyncio.Event()
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._gpus = {f.name: f.gpus for f in lane.rules.fleets}
        self.spent: dict[str, TenantSpent] = {}
        """Tenant -> what its lines took, since the start."""
        self.again = 0
        """Lines that were sent again after something broke, since the start."""
        self.lines = {"done": 0, "failed": 0}
        self._closing = False

    async def run(self) -> None:
        """Works until it is cancelled; what is under way then runs again elsewhere."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for work in (self._own, self._watch, self._dispatch, self._keep, self._clean):
                group.create_task(self._for_ever(work))

    async def _for_ever(self, work: Callable[[], Awaitable[None]]) -> None:
        """A store that fails is tried again: nothing is lost meanwhile, and nothing goes on."""
        while True:
            try:
                await work()
            except (SeawallError, OSError) as e:
                log.error("%s; it is tried again", e)
                await asyncio.sleep(1.0)

    async def drain(self, grace_s: float) -> None:
        """Sends nothing more, and lets what is under way finish, for so long."""
        self._closing = True
        until = self._now() + grace_s
        while self._now() < until and any(u.running for u in self.batches.values()):
            await asyncio.sleep(0.02)
        while any(self._results.values()):
            await self._flush()

    # -- whose batches

    async def _own(self) -> None:
        lane = self._lane
        now = lane.now()
        mine = await lane.call(lane.store.take, lane.owner, now, now + LEASE_S)
        for batch in mine:
            await self._meet(batch)
        known = {b.id for b in mine}
        for name in [n for n in self.batches if n not in known and n not in self._ending]:
            await self._forget(name)  # its lease passed, and another has it
        await pause(LEASE_S / 10, lane.changed)

    async def _meet(self, batch: BatchRecord) -> None:
        """Acts as the status of a batch of ours asks for."""
        lane = self._lane
        if batch.id in self._ending or batch.id in lane.looking:
            return
        if batch.status == "validating":
            lane.looking.add(batch.id)
            self._start_end(batch.id, self._look_again(batch))
        elif batch.status == "in_progress" and batch.id not in self.batches:
            again = await lane.call(lane.store.orphans, batch.id)
            self.again += again
            self.batches[batch.id] = UnderWay(lane, batch)
            self._outlook.left(batch, batch.units_left)
            self._go.set()
        elif batch.status in ("cancelling", "finalizing"):
            self._start_end(batch.id, self._finish(batch))
        if batch.status == "in_progress" and lane.now() >= batch.deadline:
            self._start_end(batch.id, self._expire(self.batches[batch.id]))

    async def _look_again(self, batch: BatchRecord) -> None:
        try:
            await look_through(self._lane, self._outlook, batch, frozenset(), refuse=False)
        finally:
            self._lane.looking.discard(batch.id)

    def _start_end(self, name: str, work: Awaitable[None]) -> None:
        async def doing() -> None:
            try:
                await work
            except (SeawallError, OSError) as e:
                log.error("%s: %s; it is tried again", name, e)
                await asyncio.sleep(1.0)
            finally:
                self._ending.pop(name, None)
                self._lane.changed.set()

        self._ending[name] = self._group.create_task(doing())

    async def _forget(self, name: str) -> None:
        under = self.batches.pop(name, None)
        self._outlook.over(name)
        if under is not None:
            await under.end()
            under.close()
        self._results.pop(name, None)

    # -- how many lines

    async def _watch(self) -> None:
        """One look at the gateway, and what follows from it for each fleet."""
        state = await self._look()
        now = self._now()
        if state is None:
            self._measure.lost()
        else:
            self._measure.told(state, now)
        for fleet in self._lane.rules.fleets:
            self._control(fleet, now)
        self._go.set()
        await asyncio.sleep(LOOK_S)

    def _control(self, fleet: FleetRules, now: float) -> None:
        running = self._running(fleet.name)
        refused, self._refused[fleet.name] = self._refused[fleet.name], 0
        seen = self._measure.seen(fleet.name, len(running), refused)
        busy = max(0, self._measure.in_flight(fleet.name) - len(running))
        self._outlook.sees(fleet.name, self._measure.ready(fleet.name), busy)
        policy = SparePolicy(fleet.ttft_s, fleet.tpot_s)
        state = self._states.get(fleet.name, SpareState())
        before = self.spare.get(fleet.name)
        spare, self._states[fleet.name] = decide(policy, seen, state, now)
        if not self._controlled:
            spare = Spare(UNCONTROLLED * seen.places, 0, "nobody looks")
        self.spare[fleet.name] = spare
        self._outlook.reasons[fleet.name] = spare.reason
        for _, task in sorted(running, key=lambda r: r[0], reverse=True)[: spare.end]:
            task.cancel()
        mine = [u for u in self.batches.values() if self._fleet(u.batch) == fleet.name]
        self._outlook.pace(fleet.name).look(
            [(now - since, units) for u in mine for since, units in u.sent.values()],
            now,
            fell=before is not None and spare.limit < FELL * before.limit,
            more=any(u.waiting for u in mine),
        )

    def work_left(self, fleet: str) -> tuple[float, int]:
        """(units, lines) without a durable result, of a fleet's batches."""
        mine = [u for u in self.batches.values() if self._fleet(u.batch) == fleet]
        return sum(u.units_left for u in mine), sum(u.left for u in mine)

    def running(self, fleet: str) -> int:
        """Lines under way at a fleet."""
        return len(self._running(fleet))

    def _running(self, fleet: str) -> list[tuple[int, asyncio.Task[None]]]:
        """(line, task) of the lines under way at a fleet."""
        return [
            pair for u in self.batches.values() if self._fleet(u.batch) == fleet for pair in u.running.items()
        ]

    def _fleet(self, batch: BatchRecord) -> str:
        found = self._lane.rules.fleet_of(batch.model)
        return found.name if found else ""

    # -- whose lines

    async def _dispatch(self) -> None:
        sent = await self._round()
        if not sent:
            await pause(TRIED_S if self._full else LOOK_S, self._go)

    async def _round(self) -> int:
        """Sends what may be sent now -> how many lines."""
        if self._closing or sum(map(len, self._results.values())) > MOST_HELD:
            return 0
        chosen: dict[str, list[AskedLine]] = defaultdict(list)
        due: dict[str, bool] = {}
        count = 0
        try:
            for fleet in self._lane.rules.fleets:
                await self._choose(fleet, chosen, due)
            while chosen:
                name, lines = chosen.popitem()
                under = self.batches.get(name)
                if under is not None:
                    count += await self._begin(under, lines, due[name])
        finally:
            for name, lines in chosen.items():  # the store failed before their turn
                if name in self.batches:
                    self.batches[name].untake(lines)
        return count

    async def _begin(self, under: UnderWay, lines: list[AskedLine], due: bool) -> int:
        """Notes that lines are about to be sent, and sends them -> how many."""
        lane, name, begun = self._lane, under.batch.id, False
        try:
            if not under.ending:
                begun = await lane.call(lane.store.begin, name, lane.owner, [line.line for line in lines])
        finally:
            under.untake(lines, back=not begun or under.ending)
        if not begun or under.ending:
            lane.changed.set()  # it was cancelled, or is another's: the next look says which
            return 0
        for line in lines:
            under.running[line.line] = self._group.create_task(self._send(under, line, due))
        return len(lines)

    async def _choose(
        self, fleet: FleetRules, chosen: dict[str, list[AskedLine]], due: dict[str, bool]
    ) -> None:
        """Takes the next lines of a fleet's batches, as many as there is room for."""
        mine = [u for u in self.batches.values() if self._fleet(u.batch) == fleet.name and not u.ending]
        await self._fill(mine)
        room = self._room(fleet.name, mine, due)
        while room > 0:
            await self._fill(mine)
            picked = self._turns.next(
                TurnAsk(
                    u.batch.id,
                    u.batch.tenant,
                    u.batch.deadline,
                    fleet.weights.get(u.batch.tenant, 1.0),
                    due.get(u.batch.id, False),
                )
                for u in mine
                if u.waiting and not u.ending
            )
            if picked is None:
                return
            chosen[picked.id].append(self.batches[picked.id].take())
            room -= 1

    async def _fill(self, mine: list[UnderWay]) -> None:
        """Reads on where nothing waits, and ends what has nothing left."""
        for under in mine:
            try:
                await under.fill()
            except (FileNotFoundError, ValueError) as e:  # its file is gone, or is not what it was
                self._give_up(under, f"The input cannot be read any more: {e}.")
            except OSError as e:  # the volume may come back; others go on
                under.trouble(str(e))
            if under.done:
                self._end(under)

    def _room(self, fleet: str, mine: list[UnderWay], due: dict[str, bool]) -> int:
        now = self._lane.now()
        for under in mine:
            due[under.batch.id] = not self._controlled or self._outlook.needy(under.batch.id, now)
        limit = self.spare.get(fleet, Spare(0, 0, "")).limit
        limit = min(limit, self._free(fleet, limit))
        if any(due[u.batch.id] for u in mine) and not self._measure.ready(fleet):
            limit = max(limit, WAKES)
        return limit - sum(len(u.running) for u in mine)

    def _free(self, fleet: str, limit: int) -> int:
        """Lines for which there probably are places, after some were refused: more, the longer ago that is."""
        if fleet not in self._full:
            return limit
        running, at = self._full[fleet]
        free = running + max(1, limit // TRIED) * int((self._now() - at) / TRIED_S)
        if free >= limit:
            del self._full[fleet]
        return free

    async def _send(self, under: UnderWay, line: AskedLine, due: bool) -> None:
        """One line under way, to its result or back to the others."""
        batch, fleet, began = under.batch, self._fleet(under.batch), self._now()
        tries = under.tries.get(line.line, 0) + 1
        under.sent[line.line] = (began, line.units)
        pace = self._outlook.pace(fleet)
        beside = max(1, self.running(fleet), self._measure.in_flight(fleet))
        try:
            outcome = await self._sender.send(batch, line, due, tries)
        except asyncio.CancelledError:
            outcome = SendAgain(False, "it gave way")
        finally:
            under.running.pop(line.line, None)
            under.sent.pop(line.line, None)
        if isinstance(outcome, SendAgain):
            under.back([line])
            if outcome.refused:
                self._refused[fleet] += 1
                self._full[fleet] = self.running(fleet), self._now()
            else:
                under.tries[line.line] = tries
            if outcome.began or not outcome.refused:
                pace.lost(self._now() - began)
                await self._count_again(under)
            return
        pace.done(line.units, self._now() - began)
        under.tries.pop(line.line, None)
        under.held.add(line.line)
        gpus = max(1, self._measure.ready(fleet)) * self._gpus.get(fleet, 1)
        share = (self._now() - began) * gpus / beside
        self._results[batch.id].append(outcome._replace(busy_s=share))
        self._settle.set()
        self._go.set()

    async def _count_again(self, under: UnderWay) -> None:
        """A line is sent again that may have run."""
        self.again += 1
        if not under.ending:
            with contextlib.suppress(SeawallError):  # a count that the store could not take is too low by one
                await self._lane.call(self._lane.store.ran_again, under.batch.id, 1)

    # -- results

    async def _keep(self) -> None:
        """Makes results durable: all that came while the last ones were written go together."""
        await pause(LOOK_S, self._settle)
        await self._flush()

    async def _flush(self) -> None:
        for name in list(self._results):
            results = self._results.get(name)
            if not results:
                continue
            lane = self._lane
            some = results[:FILL]
            new = await lane.call(lane.store.put, name, lane.owner, some)
            del results[: len(some)]
            if results:
                self._settle.set()
            self.lines["done"] += sum(r.good for r in some)
            self.lines["failed"] += sum(not r.good for r in some)
            under = self.batches.get(name)
            if under is None:
                continue
            self._account(under.batch, some[:new] if new < len(some) else some)
            under.held -= {r.line for r in some}
            under.left -= new
            under.units_left = max(0.0, under.units_left - sum(r.units for r in some) * new / len(some))
            self._outlook.left(under.batch, under.units_left if under.left else 0.0)
            if under.done:
                self._end(under)

    def _account(self, batch: BatchRecord, results: list[LineResult]) -> None:
        spent = self.spent.setdefault(batch.tenant, TenantSpent())
        tokens_in, tokens_out = sum(r.tokens_in for r in results), sum(r.tokens_out for r in results)
        spent.tokens += tokens_in + tokens_out
        spent.gpu_s += sum(r.busy_s for r in results)
        spent.usd += self._outlook.price(batch.model, tokens_in, tokens_out)

    # -- ends

    def _end(self, under: UnderWay) -> None:
        """All lines have a result: its files are made."""
        if not under.ending:
            under.ending = True
            self._start_end(under.batch.id, self._complete(under))

    async def _complete(self, under: UnderWay) -> None:
        lane = self._lane
        batch = await lane.call(lane.store.batch, under.batch.id)
        if batch is not None and batch.completed + batch.failed < batch.total:
            log.error("%s: some lines have no result yet; its input is read again", batch.id)
            self.batches[batch.id] = UnderWay(lane, batch)
            return
        moved = await lane.call(lane.store.move, under.batch.id, ["in_progress"], "finalizing", lane.now())
        if moved is None:
            under.ending = False  # it was cancelled meanwhile
            return
        await self._finish(moved)

    def _give_up(self, under: UnderWay, why: str) -> None:
        """Ends a batch whose lines cannot be read: what was answered is kept."""
        if under.ending:
            return
        log.error("%s: %s", under.batch.id, why)
        under.ending = True
        error = LineError(code="file_unreadable", message=why[:500], param="input_file_id")
        store, lane, name = self._lane.store, self._lane, under.batch.id

        async def giving_up() -> None:
            moved = await lane.call(store.give_up, name, error, lane.now())
            if moved is not None:
                await self._finish(moved)

        self._start_end(name, giving_up())

    async def _expire(self, under: UnderWay) -> None:
        """Ends a batch whose window is over: lines without a result are said to be late."""
        lane, batch = self._lane, under.batch
        await under.end()
        while self._results.get(batch.id):
            await self._flush()
        store = lane.store
        message = f"The batch's window of {batch.window} was over before this line was answered."
        await self._unanswered(batch, "batch_expired", message)
        moved = await lane.call(
            lambda: store.move(batch.id, ["in_progress"], "finalizing", lane.now(), ends_as="expired")
        )
        if moved is not None:
            await self._finish(moved)

    async def _unanswered(self, batch: BatchRecord, code: str, message: str) -> None:
        """Every line that has no result gets this one."""
        lane = self._lane
        try:
            source = await lane.source(batch)
        except FileNotFoundError:
            log.error("%s: its input is gone; lines without a result cannot be named", batch.id)
            return
        try:
            while some := await lane.call(source.next, FILL, 1 << 22):
                late = [failed(batch, line, code, message) for line in some]
                await lane.call(lane.store.put, batch.id, lane.owner, late)
        except ValueError as e:
            log.error("%s: its input is not what it was (%s); the rest cannot be named", batch.id, e)
        finally:
            source.close()

    async def _finish(self, batch: BatchRecord) -> None:
        """Writes its files and says that it is over."""
        lane = self._lane
        under = self.batches.get(batch.id)
        if under is not None:
            await under.end()
            while self._results.get(batch.id):
                await self._flush()
        status = "cancelled" if batch.status == "cancelling" else batch.ends_as
        if status == "cancelled" and batch.total:
            message = "The batch was cancelled before this line was answered."
            await self._unanswered(batch, "batch_cancelled", message)

        def writing() -> None:
            store = lane.another()
            try:
                assemble(store, lane.blobs, batch, status, lane.now(), int(lane.rules.spec.retention))
            finally:
                store.close()

        await asyncio.to_thread(writing)
        over = await lane.call(lane.store.batch, batch.id)
        if over is not None:
            told = self._outlook.told(over, lane.now())
            await lane.note(
                "batch.over", over.tenant, over.id, status=over.status, lines=over.total, completed=over.completed,
                failed=over.failed, ran_twice=over.twice, tokens_in=over.tokens_in, tokens_out=over.tokens_out,
                gpu_seconds=told["gpu_seconds"], cost_usd=told["cost_usd"],
            )  # fmt: skip
        await self._forget(batch.id)

    async def _clean(self) -> None:
        await self._lane.clean()
        await asyncio.sleep(CLEAN_S)

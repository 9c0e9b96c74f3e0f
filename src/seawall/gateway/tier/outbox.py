"""The task that tells the store of records, and fetches those of other gateways. One per process.

What has changed is told as soon as the message before has been answered; while the store is away it waits here, in the
records themselves. Forbidden here: holding up who fills a record, or who reads one that is here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

import msgspec

from seawall.decide.route.record import RecordState
from seawall.decide.route.refusal import Refusal
from seawall.drivers.kept_store import Fetched, KeptStore
from seawall.drivers.store_client import StoreAway
from seawall.gateway.tier.kept import Mirror, SharedRecord, SharedShelf

log = logging.getLogger("seawall.gateway.tier.outbox")
T = TypeVar("T")
LIVE_S: Final = 0.4
CALM_S: Final = 1.0
"""So often a gateway tells that it is there, with answers that others may ask for, and without."""
KEEP_S: Final = 30.0
"""A record of which there is nothing new is told of so often, lest its time in the store be over."""
RETRY_S: Final = 0.1
SOON_S: Final = 0.05
IDLE_S: Final = 0.5
"""Between two looks at another gateway's record: while somebody reads it, and while nobody does."""
PATIENCE_S: Final = 0.2
"""A request waits so long for the store's word on its key, and goes on without it."""
LATELY_S: Final = 3.0
"""A store that answered so long ago is asked for keys and ids all the same."""
LEFT_S: Final = 10.0
"""Nobody has read a copy for so long: it goes."""
Adopt = Callable[[SharedShelf, SharedRecord, dict[str, bytes], list[bytes]], None]
"""Goes on with the answer of a record whose owner is gone, from its facts and its tape."""


class KeptOutbox:
    """See the module."""

    def __init__(
        self,
        store: KeptStore,
        name: str,
        now: Callable[[], float],
        adopt: Adopt,
        tell: Callable[[dict[str, str]], None],
    ) -> None:
        self.store = store
        self.name = name
        self.up = False
        self.up_at = now()
        """When it last was; a gateway that has just begun asks as if it had been."""
        self.closing = False
        self.taken = 0
        """Records of gateways that were gone, gone on with here."""
        self._now = now
        self._adopt = adopt
        self._tell = tell
        self._mirrors: dict[str, Mirror] = {}
        self._changed: dict[Mirror, None] = {}
        self._removed: dict[str, bool] = {}
        self.patience_s = PATIENCE_S
        self._late = 0
        """Keys on which the store's word is overdue."""
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def asks(self) -> bool:
        if self._late:
            return False
        return self.up or self._now() - self.up_at < LATELY_S

    # -- what records and shelves ask

    def changed(self, mirror: Mirror) -> None:
        self._mirrors[mirror.name] = mirror
        self._changed[mirror] = None
        self._wake.set()

    def remove(self, name: str, anybodys: bool = False) -> None:
        self._mirrors.pop(name, None)
        self._removed[name] = anybodys
        if anybodys:
            self._tell({"what": "forget", "record": name})
        self._wake.set()

    def cancel(self, record: SharedRecord) -> None:
        self._tell({"what": "cancel", "record": record.theirs})

    def heard_cancel(self, name: str) -> None:
        """Another gateway's client does not want what is filled here."""
        mirror = self._mirrors.get(name)
        if mirror is not None:
            mirror.record.cancel()

    def claim(
        self,
        shelf: SharedShelf,
        record: SharedRecord,
        late: Callable[[], None],
        done: Callable[[Fetched | None], None],
    ) -> None:
        async def ask() -> Fetched | None:
            name = shelf.name(record)
            try:
                facts = {"mark": record.mark, "id": record.id.encode(), "state": b"running"}
                return await self._twice(lambda: self._claim(name, shelf.ttl_ms, facts))
            except StoreAway as e:
                log.warning("the store was not asked of a key: %s", e)
                return None

        async def wait() -> None:
            asked = asyncio.get_running_loop().create_task(ask())
            try:
                await asyncio.wait({asked}, timeout=self.patience_s)
                if not asked.done():
                    self._late += 1
                    try:
                        late()
                        await asyncio.wait({asked})
                    finally:
                        self._late -= 1
                done(asked.result())
            finally:
                asked.cancel()

        self._do(wait())

    def find(
        self, shelf: SharedShelf, tenant: str, id: str, done: Callable[[str, Fetched | None], None]
    ) -> None:
        async def ask() -> None:
            name, found = "", None
            try:
                known = await self._twice(lambda: self.store.name_of(shelf.id_name(tenant, id)))
                name = known or ""
                found = await self._twice(lambda: self.store.fetch(name, 0, 0)) if name else None
            except StoreAway as e:
                log.warning("the store was not asked of a response: %s", e)
            done(name, found)

        self._do(ask())

    async def _claim(self, name: str, ttl_ms: int, facts: dict[str, bytes]) -> Fetched | None:
        if await self.store.claim(name, self.name, ttl_ms, facts):
            return None
        found = await self.store.fetch(name, 0, 0)
        ours = found is not None and found.facts.get("owner") == self.name.encode()
        return None if ours else found  # an ask of ours was heard though it was not answered in time

    @staticmethod
    async def _twice(ask: Callable[[], Awaitable[T]]) -> T:
        """A busy machine may be slow once: who comes again would be told that nothing is kept."""
        try:
            return await ask()
        except StoreAway:
            return await ask()

    def follow(self, record: SharedRecord, first: Fetched, ready: Callable[[], None]) -> None:
        self._do(self._follow(record, ready))

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a fault of the gateway", exc_info=task.exception())

    # -- telling

    async def run(self) -> None:
        """Until `closing`."""
        live_at = -1e9
        while not self.closing:
            try:
                if self._now() - live_at >= self._live_s:
                    await self.store.live(self.name)
                    live_at = self._now()
                    self._remind(live_at)
                await self._flush()
                self.up, self.up_at = True, self._now()
            except StoreAway:
                self.up = False
                await asyncio.sleep(RETRY_S)
                continue
            except Exception:
                log.exception("records cannot be told: a fault of the gateway")
                self.up = False
                await asyncio.sleep(LIVE_S)
                continue
            if not self._changed and not self._removed:
                self._wake.clear()
                try:
                    async with asyncio.timeout(max(0.0, live_at + self._live_s - self._now())):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    @property
    def _live_s(self) -> float:
        return LIVE_S if self._mirrors else CALM_S

    def _remind(self, now: float) -> None:
        for mirror in self._mirrors.values():
            if not mirror.ended and now - mirror.told_at > KEEP_S:
                self._changed[mirror] = None

    async def _flush(self) -> None:
        while self._removed:
            name, anybodys = next(iter(self._removed.items()))
            await self.store.remove(name, "" if anybodys else self.name)
            del self._removed[name]
        for mirror in list(self._changed):
            await self._push(mirror)

    async def _push(self, mirror: Mirror) -> None:
        """Until nothing is new."""
        self._changed.pop(mirror, None)
        while not mirror.dead:
            facts, pieces, entries = mirror.news()
            shelf = mirror.record.shelf
            try:
                answer = await self.store.push(
                    mirror.name,
                    self.name,
                    shelf.ttl_ms,
                    facts,
                    (mirror.pieces, pieces),
                    (mirror.taped, entries),
                    mirror.id_name,
                )
            except StoreAway:
                self._changed[mirror] = None
                raise
            if answer == "ok":
                mirror.told(len(pieces), len(entries), self._now())
                if not mirror.owes:
                    break
            elif answer == "lost" and not mirror.record.earlier:
                mirror.anew()
            else:
                log.warning("a record is told no more: %s", answer)
                mirror.record.stop_mirror()
                if answer == "gone":
                    mirror.record.cancel()
        if mirror.dead or mirror.ended:
            self._mirrors.pop(mirror.name, None)
            if mirror.ended and not mirror.dead:
                await self.store.end_tape(mirror.name)
                mirror.record.stop_mirror()

    # -- another gateway's records

    async def _follow(self, record: SharedRecord, ready: Callable[[], None]) -> None:
        told, read_at = False, self._now()
        while not self.closing and record.theirs:
            try:
                found = await self.store.fetch(record.theirs, record.count, 256)
            except StoreAway:
                found = Fetched({}, [], 0, True)
            if found is None:
                break
            if not self._take_in(record, found):
                await asyncio.sleep(SOON_S)
                continue
            behind = found.count > record.count
            if not told and not behind:
                told = True
                ready()
            if behind:
                continue
            if record.state is not RecordState.RUNNING:
                return
            if not found.alive and await self._take(record, found):
                if not told:
                    ready()
                return
            if record.followed:
                read_at = self._now()
            elif self._now() - read_at > LEFT_S:
                record.shelf.drop_copy(record)
                return
            await asyncio.sleep(SOON_S if record.followed else IDLE_S)
        if record.theirs and record.state is RecordState.RUNNING:
            record.theirs = ""
            record.end(RecordState.FAILED, LOST)
            record.shelf.unlink(record)
        if not told:
            ready()

    def _take_in(self, record: SharedRecord, found: Fetched) -> bool:
        """What was fetched. False: there is no room for it yet."""
        facts = found.facts
        if not facts:
            return True
        if int(facts.get("status", b"0")) and (not record.status):
            record.opening = facts.get("opening", record.opening)
            record.replica = facts.get("replica", b"").decode()
            record.begin(int(facts["status"]), facts.get("type", b""), bool(facts.get("whole")))
        for piece in found.pieces:
            if not record.append(piece):
                record.let_go()
                if not record.append(piece, anyway=record.followed and record.first == record.count):
                    return False
        state = RecordState(facts.get("state", b"running").decode())
        if state is not RecordState.RUNNING and record.count >= found.count:
            words = facts.get("refusal", b"")
            refusal = Refusal(**msgspec.json.decode(words)) if words else None
            record.end(state, refusal, facts.get("last", b""))
        return True

    async def _take(self, record: SharedRecord, found: Fetched) -> bool:
        """The owner is gone: this gateway goes on, if somebody is there who asked."""
        name = record.theirs
        if record.asker is None and not record.background:
            return False
        try:
            if not await self.store.take(name, found.facts["owner"].decode(), self.name):
                return False
            tape: list[bytes] = []
            while more := await self.store.tape(name, len(tape), 1000):
                tape += more
        except StoreAway:
            return False
        self.taken += 1
        log.warning("a gateway is gone: an answer of it goes on here")
        record.shelf.taken(record, found.facts, record.count, len(tape))
        self._adopt(record.shelf, record, found.facts, tape)
        return True

    def abandon(self) -> None:
        """This gateway ends: what it has not finished is for others to go on with."""
        for mirror in self._mirrors.values():
            if not mirror.ended:
                mirror.record.stop_mirror()

    async def close(self) -> None:
        self.closing = True
        self._wake.set()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(StoreAway):
            await self.store.leave(self.name)
        await self.store.close()


LOST: Final = Refusal(502, "record_lost", "What was kept of this answer is lost. Send the request again.", 1)

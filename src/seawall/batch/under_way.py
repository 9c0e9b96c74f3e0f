"""One batch that is being worked on: its lines that wait, that are under way, and that are left.

Forbidden here: deciding whose turn it is, and sending.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable

from seawall.batch.lane import BatchLane
from seawall.batch.lines import AskedLine, LineSource
from seawall.batch.words import BatchRecord

log = logging.getLogger("seawall.batch")
READ_LINES = 256
READ_BYTES = 4 * 2**20


class UnderWay:
    """See the module."""

    def __init__(self, lane: BatchLane, batch: BatchRecord) -> None:
        self._lane = lane
        self.batch = batch
        self.left = batch.total - batch.completed - batch.failed
        """Lines without a durable result."""
        self.units_left = batch.units_left
        """Their work."""
        self.waiting: deque[AskedLine] = deque()
        self.taken: set[int] = set()
        """Lines that are chosen, and not under way yet."""
        self.running: dict[int, asyncio.Task[None]] = {}
        self.sent: dict[int, tuple[float, float]] = {}
        """Line under way -> when it was sent, and its units."""
        self.held: set[int] = set()
        """Lines whose result is not durable yet."""
        self.tries: dict[int, int] = {}
        self.read_all = False
        self.ending = False
        """Nothing of it is sent any more."""
        self._source: LineSource | None = None
        self._why = ""

    async def fill(self) -> None:
        """Reads on, where nothing waits."""
        if self.waiting or self.read_all or self.ending:
            return
        lane = self._lane
        if self._source is None:
            self._source = await lane.source(self.batch)
        some = await lane.call(self._source.next, READ_LINES, READ_BYTES)
        self.waiting.extend(some)
        if not some:
            self.read_all = True
            self.close()

    def trouble(self, why: str) -> None:
        """Says that its lines cannot be read just now, once for each cause."""
        if why != self._why:
            self._why = why
            log.error("%s: its input cannot be read (%s); it is tried again", self.batch.id, why)

    def take(self) -> AskedLine:
        """The next line, which is to be sent."""
        line = self.waiting.popleft()
        self.taken.add(line.line)
        return line

    def untake(self, lines: Iterable[AskedLine], back: bool = True) -> None:
        """Lines that were chosen are under way from now on, or the next ones again (`back`)."""
        some = list(lines)
        self.taken.difference_update(line.line for line in some)
        if back:
            self.back(some)

    def back(self, lines: Iterable[AskedLine]) -> None:
        """Lines that were sent and have no result: they are the next ones."""
        self.waiting.extendleft(reversed(list(lines)))

    @property
    def done(self) -> bool:
        """All lines have a durable result."""
        return self.read_all and not (self.waiting or self.taken or self.running or self.held)

    async def end(self) -> None:
        """Ends what is under way."""
        self.ending = True
        tasks = list(self.running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.close()

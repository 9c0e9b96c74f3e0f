"""What the gateway processes of one machine tell each other: a shared table of small counts, no locks.

Each process writes its own row and reads the others', at every sweep (50 ms): requests in flight per replica,
requests waiting per fleet. So caps and queue bounds hold for all workers together, give or take what one
sweep admits. A column is the CRC of a name; two names that collide share a count, which only makes the
limit stricter. Rates and quotas of keys are divided evenly between the workers instead.
"""

from __future__ import annotations

import mmap
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seawall.gateway.app import App

COLUMNS = 4096


class Board:
    """The table: `rows` x COLUMNS signed 64-bit integers in a file that all workers map."""

    def __init__(self, path: Path, row: int, rows: int) -> None:
        size = rows * COLUMNS * 8
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(fd).st_size < size:
                os.ftruncate(fd, size)
            self._map = mmap.mmap(fd, size)
        finally:
            os.close(fd)
        self._cells = memoryview(self._map).cast("q")
        self._own = row * COLUMNS
        self._others = [r * COLUMNS for r in range(rows) if r != row]
        self._used: set[int] = set()
        self.clear()

    def clear(self) -> None:
        """A worker that starts anew owes nobody what its predecessor held."""
        self._cells[self._own : self._own + COLUMNS] = memoryview(bytes(COLUMNS * 8)).cast("q")

    def put(self, name: str, count: int) -> None:
        column = zlib.crc32(name.encode()) % COLUMNS
        self._cells[self._own + column] = count

    def others(self, name: str) -> int:
        """What all other workers have put under `name`."""
        column = zlib.crc32(name.encode()) % COLUMNS
        cells = self._cells
        return sum(cells[row + column] for row in self._others)

    def exchange(self, app: App) -> None:
        """One round of telling and hearing."""
        for name, fleet in app.fleets.items():
            self.put(f"queued {name}", fleet.admission.queued)
            fleet.admission.others = self.others(f"queued {name}")
            for target in fleet.targets:
                self.put(target.name, target.in_flight)
                fleet.router.set_others(target, self.others(target.name))

    def close(self) -> None:
        self.clear()
        self._cells.release()
        self._map.close()

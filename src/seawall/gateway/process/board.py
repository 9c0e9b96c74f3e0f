"""What the gateway processes of one machine tell each other: a shared table of counts.

Each process writes its own row and reads the others', without locks: requests in flight per replica and waiting per
fleet every 50 ms, what tenants and keys took at every request. So caps and queue bounds hold for all
workers together, give or take what is admitted meanwhile, and rates and quotas give or take what is decided in the same
microseconds. A process that starts in a row empties it (its predecessor holds nothing any more), except for what was
used of quotas, which stays used. Columns are given to names once, under a file lock.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from hashlib import blake2b
from pathlib import Path

from seawall.decide.route.meter import Taken
from seawall.gateway.intake.app import App

COLUMNS = 16_384
"""Names; the last ones share a column, which only makes their limits stricter."""
_PARTS = 3
"""Cells per name: two that a new process empties, one that it keeps."""
_ROW = COLUMNS * _PARTS


class Board:
    """The table: a row of names, then `rows` rows of signed 64-bit counts, in a file that all workers map."""

    def __init__(self, path: Path, row: int, rows: int) -> None:
        size = (COLUMNS + rows * _ROW) * 8
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if os.fstat(self._fd).st_size < size:
            os.ftruncate(self._fd, size)
        self._map = mmap.mmap(self._fd, size)
        self._cells = memoryview(self._map).cast("q")
        self._own = COLUMNS + row * _ROW
        self._others = [COLUMNS + r * _ROW for r in range(rows) if r != row]
        self._columns: dict[str, int] = {}
        self.clear()

    def clear(self) -> None:
        """A worker that starts anew owes nobody what its predecessor held; others see a new epoch."""
        own, cells = self._own, self._cells
        epoch = cells[own] + 1
        cells[own : own + 2 * COLUMNS] = memoryview(bytes(2 * COLUMNS * 8)).cast("q")
        cells[own] = epoch

    def _column(self, name: str) -> int:
        column = self._columns.get(name)
        if column is None:
            column = self._columns[name] = self._give_column(name)
        return column

    def _give_column(self, name: str) -> int:
        mark = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little", signed=True) or 1
        cells = self._cells
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            for step in range(COLUMNS - 1):
                column = 1 + (mark + step) % (COLUMNS - 1)  # column 0 holds the rows' epochs
                if cells[column] in (0, mark):
                    cells[column] = mark
                    return column
            return 1 + mark % (COLUMNS - 1)
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def put(self, name: str, count: int) -> None:
        self._cells[self._own + self._column(name)] = count

    def others(self, name: str) -> int:
        """What all other workers have put under `name`."""
        column, cells = self._column(name), self._cells
        return sum([cells[row + column] for row in self._others])

    def share(self, name: str) -> SharedTaken:
        """A tenant's or key's account, kept by all workers together."""
        return SharedTaken(self._cells, self._own, self._others, self._column(name))

    def exchange(self, app: App, places: bool = True) -> None:
        """One round of telling and hearing. `places`: replicas' places are shared here, too."""
        for name, fleet in app.fleets.items():
            self.put(f"queued {name}", fleet.admission.queued)
            self.put(f"queued tokens {name}", fleet.admission.queued_tokens)
            fleet.admission.others = self.others(f"queued {name}")
            fleet.admission.others_tokens = self.others(f"queued tokens {name}")
            for target in fleet.targets if places else ():
                self.put(target.name, target.taken)
                fleet.router.set_others(target, self.others(target.name))

    def close(self) -> None:
        """Empties the row. Accounts that `share` gave must not be used any more."""
        self.clear()
        os.close(self._fd)


class SharedTaken:
    """One account's three columns: requests and tokens since each process began, tokens of the quota for good."""

    __slots__ = ("_cells", "_column", "_others", "_own", "_seen")

    def __init__(self, cells: memoryview, own: int, others: list[int], column: int) -> None:
        self._cells, self._own, self._others, self._column = cells, own, others, column
        self._seen = {row: (cells[row], *self._read(row)[:2]) for row in others}

    def _read(self, row: int) -> tuple[int, int, int]:
        cells, at = self._cells, row + self._column
        return cells[at], cells[at + COLUMNS], cells[at + 2 * COLUMNS]

    def own_used(self) -> int:
        return self._read(self._own)[2]

    def tell(self, requests: int, tokens: int, used: int) -> None:
        cells, at = self._cells, self._own + self._column
        cells[at], cells[at + COLUMNS], cells[at + 2 * COLUMNS] = requests, tokens, used

    def fresh(self) -> Taken:
        requests = tokens = used = 0
        for row in self._others:
            epoch, (r, t, u) = self._cells[row], self._read(row)
            seen = self._seen[row]
            before = seen[1:] if seen[0] == epoch else (0, 0)
            requests += r - before[0]
            tokens += t - before[1]
            used += u
            self._seen[row] = (epoch, r, t)
        return Taken(requests, tokens, used)

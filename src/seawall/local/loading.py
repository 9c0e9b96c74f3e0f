"""What a person who waits for a start wants to know: how far it is, and how long it usually takes.

The stage is read from the replica's log; the usual duration is what earlier starts on this machine took, kept in the
state folder. Forbidden here: deciding anything. A start is late by its budget, not by what is usual.
"""

from __future__ import annotations

import contextlib
import json
import statistics
from pathlib import Path

from seawall.drivers import cache
from seawall.engines.vllm.stages import stage
from seawall.local.causes import tail

KEPT = 9
"""Starts that are remembered of each fleet."""
_TAIL = 64 * 1024


class Loading:
    """The starts of one `seawall up`. Costs a stat per starting replica and look, and a read where its log grew."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._from: dict[tuple[str, int], int] = {}
        """(replica, pid) -> size of its log when it was first seen: what is before it is an earlier start's."""
        self._read: dict[tuple[str, int], tuple[int, str]] = {}
        self._took: dict[str, list[float]] = {}
        self._noted: set[tuple[str, int]] = set()
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            data = json.loads(file.read_bytes())
            self._took = {str(k): [float(s) for s in v][-KEPT:] for k, v in data.items()}

    def stage(self, replica: str, pid: int, log: Path) -> str:
        """How far the start of a replica is, in a few words."""
        try:
            size = log.stat().st_size
        except OSError:
            size = 0
        begin = self._from.setdefault((replica, pid), size)
        before = self._read.get((replica, pid))
        if before is not None and before[0] == size:
            return before[1]
        fresh = max(0, size - begin)
        words = stage(tail(log, min(fresh, _TAIL)) if fresh else "")
        self._read[replica, pid] = (size, words)
        return words

    def started(self, fleet: str, replica: str, pid: int, took_s: float) -> None:
        """Remembers how long a process took to be ready the first time. It may be told again (after a sleep, too)."""
        if (replica, pid) in self._noted:
            return
        self._noted.add((replica, pid))
        self._took[fleet] = [*self._took.get(fleet, []), round(took_s, 1)][-KEPT:]
        with contextlib.suppress(OSError):  # a full disk: it is only told for comfort
            cache.write_atomic(self._file, json.dumps(self._took))

    def usual_s(self, fleet: str) -> float | None:
        """What a start of this fleet takes here, in seconds; None before the first."""
        took = self._took.get(fleet)
        return statistics.median(took) if took else None

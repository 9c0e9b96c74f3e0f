"""How fast lines are worked on: what one unit of their work takes, and how many lines run at once (Little's law).

Counting lines that are done per second would err at the beginning of every batch, where places fill and the first waves
come in, and for long whenever the load changes; the time that a line's work takes is known from the first lines on,
and how many run is known at once. Forbidden here: clocks; `now` is in seconds of any monotonic clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Final

LINE_UNITS: Final = 1.0
"""The work of a line that asks nothing: one unit is about what one more token of an answer takes."""
BYTE_UNITS: Final = 0.0025
"""The work of one byte of a request: a prompt's token is read about a hundred times as fast as one is written."""
OPEN_UNITS: Final = 256.0
"""The work of an answer whose length nobody bounded."""
REMEMBERED: Final = 64
"""Lines that are remembered, at least, or WAVES times those that run at once: what a unit takes is their mean."""
WAVES: Final = 4
LOOKED_S: Final = 10.0
"""How far is looked back where a limit fell: it will rise and fall again, and its mean is what goes on running."""
NOW_S: Final = 2.0
"""The same where none fell. What was less than half of what runs now was the way up, and is left out."""


def units(size: int, answer: int | None) -> float:
    """The work of a line whose request has so many bytes, and whose answer at most so many tokens (None: unbounded; 0:
    it has none)."""
    return LINE_UNITS + size * BYTE_UNITS + (OPEN_UNITS if answer is None else max(0, answer))


class LinePace:
    """See the module. Of one fleet."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._units = 0.0
        self._ran: deque[tuple[float, int]] = deque()
        """(when, lines that ran then), while more would have run."""
        self._fell_at = float("-inf")
        self._beside = 0.0
        self._late = 0.0

    def done(self, work: float, seconds: float) -> None:
        """A line of so many units has its result, so many seconds after it was sent."""
        keep = 1.0 - 1.0 / max(REMEMBERED, WAVES * self._beside)
        self._seconds = self._seconds * keep + seconds
        self._units = self._units * keep + work

    def lost(self, seconds: float) -> None:
        """A place was taken for so long by a line that has to be sent again."""
        if self._units:
            self._seconds += seconds

    def look(self, running: Collection[tuple[float, float]], now: float, fell: bool, more: bool) -> None:
        """`running`: (seconds since it was sent, units) of each line under way. `fell`: so many may not run any more.
        `more`: others wait, so that the fleet has what it takes."""
        if fell:
            self._fell_at = now
        each = self._seconds / self._units if self._units else 0.0
        self._late = sum(max(0.0, age - each * work) for age, work in running) if each else 0.0
        if not more:
            return
        self._ran.append((now, len(running)))
        while self._ran[0][0] < now - LOOKED_S:
            self._ran.popleft()
        falls = now - self._fell_at < LOOKED_S
        since = now - (LOOKED_S if falls else NOW_S)
        lately = [n for when, n in self._ran if when > since and (falls or 2 * n >= len(running))]
        self._beside = sum(lately) / len(lately)

    @property
    def per_s(self) -> float:
        """Units per second; 0: nobody knows."""
        seconds = self._seconds + self._late
        return self._beside * self._units / seconds if seconds > 0 else 0.0

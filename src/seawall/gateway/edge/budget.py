"""How much a process does for strangers at a time: answers of its own that nobody has shown a key for.

A health check costs as little to ask as to answer, and thousands fit into one read. Over the budget they wait for the
next window, connection by connection, and everybody else goes on. Forbidden here: deciding who is a stranger.
"""

from __future__ import annotations

from typing import Final

WINDOW_S: Final = 0.01
MOST: Final = 128
"""Answers in one window."""
PER_TURN: Final = 4
"""Requests of one connection that are taken up in one turn of the loop."""
SLICE: Final = 1024
"""Bytes that are read at a time where requests may begin (a few dozen of the smallest), and of a compressed body."""
PIECES_PER_TURN: Final = 4096
"""Pieces of one connection's body that are taken in one turn: one read may hold forty thousand chunks of one byte."""
CHUNKS: Final = 16 * 1024
"""Bytes of a chunked body that are read at a time."""
MADE_PER_TURN: Final = 2 << 20
"""Bytes that are made of one connection's compressed bodies in one turn of the loop: some milliseconds of it. gzip
makes a thousand of one."""


class StrangersBudget:
    """Of one process."""

    __slots__ = ("_since", "spent")

    def __init__(self) -> None:
        self.spent = 0
        self._since = 0.0

    def over(self, now: float) -> bool:
        """Whether an answer more must wait."""
        if now - self._since >= WINDOW_S:
            self._since, self.spent = now, 0
        return self.spent >= MOST

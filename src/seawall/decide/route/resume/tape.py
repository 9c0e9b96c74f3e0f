"""What a stream session was told, in order, so that another process can come to the same session.

A session draws from nothing but what it was made of, its seed and what it was fed, so whoever plays a tape again
gets the same session and the same bytes for the client (`StreamSession.relive`). Where a tape lies is not known here;
the gateway's lies in memory that outlives it (gateway/edge/record.py). Forbidden here: I/O, and what an entry means
to HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

FED: Final = 1
"""Bytes of the replica's stream."""
LINE: Final = 2
"""An ordinary chunk of it, in its shortest form (`StreamSession.line`)."""
RELAYED: Final = 3
"""The same, and what it became went to the client as one write."""
WROTE: Final = 4
"""All that had come of the entries before went to the client as one write."""
DROPPED: Final = 5
"""All that had come of the entries before was for nobody."""
BROKE: Final = 6
"""The replica's stream broke: time, whether it was at the model's length, whether it counts, reason."""
FRESH: Final = 7
"""A session begins: its seed. What was told to another before counts for nothing."""


class Tape:
    """Takes entries. This one keeps none: the base of those that do."""

    __slots__ = ()

    def add(self, kind: int, data: bytes) -> None:
        """One more entry: `kind` is one of the above. Before what it leads to is done."""

    def relayed(self, line: bytes, size: int) -> None:
        """A RELAYED entry, for a write of `size` bytes."""


class ListTape(Tape):
    """A tape in memory. `told` hears the size of each entry."""

    __slots__ = ("entries", "told")

    def __init__(self, told: Callable[[int], None]) -> None:
        self.entries: list[tuple[int, bytes]] = []
        self.told = told

    def add(self, kind: int, data: bytes) -> None:
        self.entries.append((kind, data))
        self.told(len(data))

    def relayed(self, line: bytes, size: int) -> None:
        self.add(RELAYED, line)


def broke(reason: str, now: float, full: bool, counts: bool) -> bytes:
    """The data of a BROKE entry."""
    return f"{now!r} {full:d} {counts:d} {reason}".encode()


def read_broke(data: bytes) -> tuple[str, float, bool, bool]:
    """(reason, now, full, counts) of a BROKE entry."""
    now, full, counts, reason = data.decode().split(" ", 3)
    return reason, float(now), full == "1", counts == "1"

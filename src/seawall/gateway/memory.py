"""What a gateway process holds of others' bytes: bodies, records of streams, answers that wait for their readers.

Every byte is counted as it comes, and given back when it is let go; over the bound nothing new is taken. The bound
follows from the memory that the process may use in all. A body that is not whole yet can be given up, the one that
has taken the longest first; what has been accepted cannot. Forbidden here: knowing what is held.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

LITTLE: Final = 64 * 1024
"""Bodies up to this size may use an eighth beyond the bound: large ones do not keep them out."""
SLOW_S: Final = 5.0
"""A body that has been on its way for so long may be given up for another."""
CONNECTION: Final = 12 * 1024
"""What a connection costs, with its parser and its buffers."""
UNLIMITED: Final = 1 << 60
"""Control groups say so in numbers beyond this."""


class Uploader(Protocol):
    """Whose body is on its way."""

    body_since: float

    def give_up(self) -> None:
        """Lets go of what has come of it."""


class HeldMemory:
    """See the module."""

    __slots__ = ("bound", "held", "readers")

    def __init__(self, bound: int = UNLIMITED) -> None:
        self.bound = bound
        self.held = 0
        self.readers: dict[Uploader, None] = {}
        """In the order in which their bodies began."""

    def add(self, size: int) -> None:
        """So many bytes more are held, or less: what cannot be refused."""
        self.held += size

    @property
    def over(self) -> bool:
        return self.held > self.bound

    def room(self, size: int, whole: int, now: float) -> bool:
        """Whether so many bytes more may be held, of a body of at least `whole`. Takes none."""
        bound = self.bound if whole > LITTLE else self.bound + self.bound // 8
        while self.held + size > bound:
            oldest = next(iter(self.readers), None)
            if oldest is None or now - oldest.body_since < SLOW_S:
                return False
            oldest.give_up()
            self.readers.pop(oldest, None)
        return True


def allowed(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """Bytes that the control groups of this process leave it, the strictest of them; None: they say nothing."""
    limits = []
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, name = root, "memory.max"
        elif "memory" in controllers.split(","):
            base, name = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        folder = base / path.lstrip("/")
        for at in (folder, *folder.parents):
            limits.append(_limit(at / name))
            if at == base:
                break
    return min((x for x in limits if x is not None), default=None)


def _limit(file: Path) -> int | None:
    try:
        value = file.read_text().strip()
    except OSError:
        return None
    return int(value) if value.isdigit() and int(value) < UNLIMITED else None

"""Requests that kill engines: who is to blame for a death, and who is kept out afterwards. Sans-IO.

A request is *suspected* once a replica died suddenly before giving it a token. It is *convicted* when that
happens a second time and, of all requests that were on the dead replica, it alone had been suspected before. It is
condemned only on evidence that both have died (`Desk.died_of`): a connection that broke is none.
Streams that had begun to flow are never suspected: replicas may be killed under them all day. So of a crowd
that dies together twice nobody is convicted; they are tried again and fall apart over the replicas.
A convict's fingerprint is kept out for QUARANTINE_S. Forbidden here: awaiting, clocks, keeping any body.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b
from typing import Protocol, TypeVar

DEATHS = 2
QUARANTINE_S = 600.0
MOST = 1024
"""Fingerprints kept; the oldest leaves first."""


class Suspect(Protocol):
    deaths: int
    """Replicas that died before giving this request a token."""


S = TypeVar("S", bound=Suspect)


def blame(present: Iterable[S]) -> S | None:
    """Notes a death for everyone who waited for a first token there; the convict, if one alone is to blame."""
    repeated: list[S] = []
    for one in present:
        one.deaths += 1
        if one.deaths >= DEATHS:
            repeated.append(one)
    return repeated[0] if len(repeated) == 1 else None


class Quarantine:
    """Fingerprints of convicts, each for QUARANTINE_S, at most MOST."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def add(self, path: bytes, body: bytes, now: float, mark: bytes = b"") -> None:
        """`now`: seconds, any origin. `mark`: the fingerprint, where it is known."""
        mark = mark or fingerprint(path, body)
        self._until[mark] = now + QUARANTINE_S
        self._until.move_to_end(mark)
        if len(self._until) > MOST:
            self._until.popitem(last=False)

    def marks(self) -> set[bytes]:
        """Of all that are kept out."""
        return set(self._until)

    def left_s(self, path: bytes, body: bytes, now: float, mark: bytes = b"") -> float:
        """Seconds that this request is still kept out; 0: it may pass."""
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)
        if not self._until:
            return 0.0
        return max(0.0, self._until.get(mark or fingerprint(path, body), now) - now)


def fingerprint(path: bytes, body: bytes) -> bytes:
    """The mark of a request, by which its copies are known."""
    return blake2b(path + b"\0" + body, digest_size=16).digest()

"""Records: what a request has been given so far, kept for a client that comes again for it.

A record is a list of *pieces*: the events of a stream, one by one, or the body of a whole answer. One filler begins it,
appends to it and ends it; any number of followers read it, each from its own position, while it grows and afterwards.
`RecordStore` is where they lie. The one here, `Shelf`, is the memory of one process, with a bound; another (shared
memory, a database) can stand in its place, so it answers by callback: it may have to ask somebody first.

Forbidden here: I/O, clocks, and knowing what a piece says. `now` is in seconds of any monotonic clock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple, Protocol

from seawall.decide.route.refusal import Refusal
from seawall.decide.route.resume.tape import Tape

PIECE_COST = 64
"""Bytes of memory that a piece takes beside its own."""
RECORD_COST = 1024
"""And a record, without any."""
SHARE = 4
"""One record may take this part of the memory, so that one endless answer does not push out all others."""


class RecordState(Enum):
    """How the request of a record stands."""

    RUNNING = "running"
    WHOLE = "whole"
    FAILED = "failed"
    CANCELLED = "cancelled"
    OVERFLOWED = "overflowed"
    """There was no room for more, and nobody who read it."""


class Follower(Protocol):
    """Who reads a record."""

    position: int
    """The piece that it reads next: it has all before."""

    def more(self) -> None:
        """Something has come, or the end has."""

    def waiting(self) -> None:
        """Nothing has come, and the request lives."""


class Filler(Protocol):
    """Who fills a record."""

    def moved(self) -> None:
        """A follower has read on, or has left: there may be room."""

    def cancel(self) -> None:
        """The answer is not wanted any more."""


class Asker(Protocol):
    """A request, as far as a record's store needs it to have it gone on with by another process."""

    url: bytes
    body: bytes
    sent: bytes
    """The body for the engine, where it is another."""


class AnswerRecord(Protocol):
    """See the module."""

    id: str
    """Of a response (`resp_...`), by which it is found; empty: it has none."""
    mark: bytes
    """Of the request (`poison.fingerprint`): another one under the same key is no copy."""
    opening: bytes
    """Of a response, as JSON: what is known of it before an engine says anything; empty: it is none."""
    background: bool
    """It is a response that runs in the background: nobody need wait for it."""
    status: int
    """Of the answer; 0: it has not begun."""
    content_type: bytes
    whole: bool
    """It is one body of known length, else a stream or a huge answer."""
    replica: str
    """Where the answer came from as it began."""
    state: RecordState
    refusal: Refusal | None
    """Why it failed."""
    last_words: bytes
    """An event behind the last piece that says so."""
    first: int
    """The oldest piece that is still there."""
    count: int
    """Pieces so far, those included that are not there any more."""
    tape: Tape | None
    """Where the session of its stream is to tell what it is told, so that another process can go on with it."""

    @property
    def made(self) -> int:
        """Pieces so far, with those that are not shown to followers yet."""

    def meet(self, asker: Asker) -> None:
        """The request that begins it, or one that comes again for it."""

    def ahead(self) -> int:
        """So many events may have been sent that are not here yet, for somebody else fills it."""

    def begin(self, status: int, content_type: bytes, whole: bool = False) -> None: ...

    def append(self, piece: bytes, anyway: bool = False) -> bool:
        """False: there is no room, it was not taken. `anyway`: it is taken even so, for those who read it now."""

    def let_go(self) -> None:
        """What all followers have read is not kept any longer, for want of room."""

    def end(self, state: RecordState, refusal: Refusal | None = None, last_words: bytes = b"") -> None: ...

    def tell_waiting(self) -> None:
        """Nothing has come, and the request lives: followers hear of it."""

    def read(self, position: int, most: int) -> list[bytes]:
        """Pieces from there on, about `most` bytes; none: nothing is there yet. `position` is not below `first`."""

    def follow(self, follower: Follower) -> None: ...

    def leave(self, follower: Follower) -> None: ...

    def took(self) -> None:
        """A follower has read on."""

    @property
    def followed(self) -> bool: ...

    def cancel(self) -> None:
        """Whoever fills it is asked to stop."""


class RecordStore(Protocol):
    """See the module."""

    def claim(
        self,
        tenant: str,
        key: bytes,
        mark: bytes,
        told: Callable[[AnswerRecord, bool], None],
        id: str = "",
        comes_again: bool = False,
    ) -> None:
        """`told` the record under this key of this tenant, and whether it is new. An empty key is nobody's: new.
        `comes_again`: the client has had a part, so one that is new is none to it."""

    def find(self, tenant: str, id: str, told: Callable[[AnswerRecord | None], None]) -> None: ...

    def fill(self, record: AnswerRecord, filler: Filler) -> None:
        """Who fills it, and is told when there is room, or that it is not wanted."""

    def unlink(self, record: AnswerRecord) -> None:
        """Its key is free: who comes again begins anew."""

    def remove(self, record: AnswerRecord) -> None:
        """It is not kept any more."""

    def delete(self, record: AnswerRecord) -> None:
        """Its client does not want it any more."""


class ShelfRules(NamedTuple):
    """What a fleet's spec says about what is kept."""

    keep_s: float
    """An answer is kept for so long after its end. 0: nothing is kept at all."""
    memory: int
    """Bytes of all records together."""


class KeptRecord:
    """A record in memory. Made by a `Shelf`."""

    __slots__ = (
        "_filler",
        "_followers",
        "_pieces",
        "_shelf",
        "background",
        "content_type",
        "cost",
        "count",
        "first",
        "id",
        "key",
        "last_words",
        "mark",
        "opening",
        "refusal",
        "replica",
        "state",
        "status",
        "tape",
        "tenant",
        "until",
        "whole",
    )

    def __init__(self, shelf: Shelf, tenant: str, key: bytes, mark: bytes, id: str) -> None:
        self._shelf = shelf
        self.tenant, self.key, self.mark, self.id = tenant, key, mark, id
        self.opening = b""
        self.background = False
        self.status = 0
        self.content_type = b""
        self.whole = False
        self.replica = ""
        self.state = RecordState.RUNNING
        self.refusal: Refusal | None = None
        self.last_words = b""
        self.first = self.count = 0
        self.tape: Tape | None = None
        self.cost = RECORD_COST + len(key)
        self.until = 0.0
        """When it is thrown away; it has ended."""
        self._pieces: list[bytes] = []
        self._followers: list[Follower] = []
        self._filler: Filler | None = None

    @property
    def made(self) -> int:
        return self.count

    def meet(self, asker: Asker) -> None:
        """One process needs no more than the record."""

    def ahead(self) -> int:
        return 0

    # -- who fills it

    def filled_by(self, filler: Filler) -> None:
        self._filler = filler

    def begin(self, status: int, content_type: bytes, whole: bool = False) -> None:
        self.status, self.content_type, self.whole = status, content_type, whole
        self._tell()

    def append(self, piece: bytes, anyway: bool = False) -> bool:
        if not self._shelf.takes(self, len(piece) + PIECE_COST, anyway):
            return False
        self._pieces.append(piece)
        self.count += 1
        self._tell()
        return True

    def let_go(self) -> None:
        read = min((f.position for f in self._followers), default=self.first)
        gone = read - self.first
        if gone > 0:
            freed = sum(map(len, self._pieces[:gone])) + gone * PIECE_COST
            del self._pieces[:gone]
            self.first = read
            self._shelf.grew(self, -freed)

    def end(self, state: RecordState, refusal: Refusal | None = None, last_words: bytes = b"") -> None:
        if self.state is not RecordState.RUNNING:
            return
        self.state, self.refusal, self.last_words = state, refusal, last_words
        self._filler = None
        self._shelf.ended(self)
        self._tell()

    def tell_waiting(self) -> None:
        for follower in tuple(self._followers):
            follower.waiting()

    def _tell(self) -> None:
        for follower in tuple(self._followers):
            follower.more()

    # -- who reads it

    def read(self, position: int, most: int) -> list[bytes]:
        found: list[bytes] = []
        size = 0
        for at in range(position - self.first, self.count - self.first):
            piece = self._pieces[at]
            found.append(piece)
            size += len(piece)
            if size >= most:
                break
        return found

    def follow(self, follower: Follower) -> None:
        self._followers.append(follower)

    def leave(self, follower: Follower) -> None:
        if follower in self._followers:
            self._followers.remove(follower)
        if self.state is not RecordState.RUNNING:
            self._shelf.left(self)
        elif self._filler is not None:
            self._filler.moved()

    def took(self) -> None:
        if self._filler is not None:
            self._filler.moved()

    @property
    def followed(self) -> bool:
        return bool(self._followers)

    def cancel(self) -> None:
        if self._filler is not None:
            self._filler.cancel()


class Shelf:
    """The records of one fleet in the memory of this process. Over the bound those go that ended first and that nobody
    is reading; a running one that finds no room is told so, and who fills it decides."""

    def __init__(self, rules: ShelfRules, now: Callable[[], float]) -> None:
        self.rules = rules
        self.held = 0
        """Bytes of all records."""
        self._now = now
        self._by_key: dict[tuple[str, bytes], KeptRecord] = {}
        self._by_id: dict[tuple[str, str], KeptRecord] = {}
        self._all: dict[KeptRecord, None] = {}
        self._over: OrderedDict[KeptRecord, None] = OrderedDict()
        """Those that have ended, the first first."""

    def __len__(self) -> int:
        return len(self._all)

    @property
    def keeps(self) -> bool:
        return self.rules.keep_s > 0

    @property
    def running(self) -> list[KeptRecord]:
        return [r for r in self._all if r.state is RecordState.RUNNING]

    def claim(
        self,
        tenant: str,
        key: bytes,
        mark: bytes,
        told: Callable[[AnswerRecord, bool], None],
        id: str = "",
        comes_again: bool = False,
    ) -> None:
        known = self._by_key.get((tenant, key)) if key else None
        if known is not None and (known.state is RecordState.RUNNING or self._now() < known.until):
            told(known, False)
            return
        if known is not None:
            self.remove(known)
        record = self._make(tenant, key, mark, id)
        self._enter(record)
        told(record, True)

    def _make(self, tenant: str, key: bytes, mark: bytes, id: str) -> KeptRecord:
        return KeptRecord(self, tenant, key, mark, id)

    def _enter(self, record: KeptRecord) -> None:
        self._all[record] = None
        self.held += record.cost
        if record.key:
            self._by_key[record.tenant, record.key] = record
        if record.id:
            self._by_id[record.tenant, record.id] = record

    def find(self, tenant: str, id: str, told: Callable[[AnswerRecord | None], None]) -> None:
        record = self._by_id.get((tenant, id))
        if record is not None and record.state is not RecordState.RUNNING and self._now() >= record.until:
            record = None
        told(record)

    def fill(self, record: AnswerRecord, filler: Filler) -> None:
        assert isinstance(record, KeptRecord)
        record.filled_by(filler)

    def unlink(self, record: AnswerRecord) -> None:
        assert isinstance(record, KeptRecord)
        self._free_key(record)
        if record.state is not RecordState.RUNNING:
            self.left(record)

    def _free_key(self, record: KeptRecord) -> None:
        if self._by_key.get((record.tenant, record.key)) is record:
            del self._by_key[record.tenant, record.key]
        record.key = b""

    def remove(self, record: AnswerRecord) -> None:
        assert isinstance(record, KeptRecord)
        self._free_key(record)
        if self._by_id.get((record.tenant, record.id)) is record:
            del self._by_id[record.tenant, record.id]
        self._over.pop(record, None)
        if record in self._all:
            del self._all[record]
            self.held -= record.cost

    def delete(self, record: AnswerRecord) -> None:
        self.remove(record)

    # -- what its records ask of it

    def takes(self, record: KeptRecord, more: int, anyway: bool) -> bool:
        """Whether there is room for more of this one; what ended first makes room."""
        room = record.cost + more <= self.rules.memory // SHARE
        while room and self.held + more > self.rules.memory:
            oldest = next((r for r in self._over if not r.followed), None)
            if oldest is None:
                room = False
            else:
                self.remove(oldest)
        if room or anyway:
            self.grew(record, more)
        return room or anyway

    def grew(self, record: KeptRecord, more: int) -> None:
        record.cost += more
        if record in self._all:
            self.held += more

    def ended(self, record: KeptRecord) -> None:
        record.until = self._now() + self.rules.keep_s
        self._over[record] = None
        self.left(record)

    def left(self, record: KeptRecord) -> None:
        """Nobody can find it, and nobody reads it: it goes."""
        if not record.followed and not record.key and not record.id:
            self.remove(record)

    def sweep(self, now: float) -> None:
        """Answers whose time is over go. Who is reading one reads on."""
        while self._over:
            oldest = next(iter(self._over))
            if now < oldest.until:
                break
            if oldest.followed:
                oldest.until = now + self.rules.keep_s
                self._over.move_to_end(oldest)
            else:
                self.remove(oldest)

"""Records of answers that every gateway finds: those of this one are told to the store, those of others read from it.

A record is filled at one gateway, in its own memory, and what is new is told to the store right after: followers see
it when the store has it, or after HOLD_S. Where a client comes again, at another gateway, a copy is fetched and
followed; when the owner is gone, that gateway takes the record and goes on with its answer (tier/adopt.py). Without the
store each keeps its own.
Forbidden here: what a piece says; and telling the store of a request that did not ask to be kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

import msgspec

from seawall.decide.route.record import (
    PIECE_COST,
    AnswerRecord,
    Asker,
    KeptRecord,
    RecordState,
    Shelf,
    ShelfRules,
)
from seawall.decide.route.refusal import Refusal
from seawall.decide.route.resume.tape import ListTape
from seawall.drivers.kept_store import Fetched

PART: Final = 64 * 1024
"""A whole answer lies in the store in parts of so many bytes."""
MESSAGE: Final = 512 * 1024
"""About so many bytes go to the store at a time,"""
MOST: Final = 500
"""in so many pieces at most."""
LARGEST_REQUEST: Final = 2**20
"""A larger request is not told: its answer ends with the gateway that fills it, unless its client sends it again."""
AHEAD: Final = 256
"""Events that a client may have of a gateway that is gone, or lives, beyond those that are in the store."""
HOLD_S: Final = 0.05
"""A piece is shown when the store has it, or after so long: what a client has another gateway can go on from."""
LEAST_TTL_S: Final = 120.0


class Outbox(Protocol):
    """Who tells the store."""

    up: bool
    """The store answered the last time."""

    @property
    def asks(self) -> bool:
        """It is asked: it answers, or did a moment ago."""

    def changed(self, mirror: Mirror) -> None:
        """There is something new to tell of this one."""

    def claim(
        self,
        shelf: SharedShelf,
        record: SharedRecord,
        late: Callable[[], None],
        done: Callable[[Fetched | None], None],
    ) -> None:
        """Asks the store for this record's place: None, it is this one's now; else what lies there. `late` comes before
        where the store takes its time."""

    def find(
        self, shelf: SharedShelf, tenant: str, id: str, done: Callable[[str, Fetched | None], None]
    ) -> None:
        """The name of the record that has this id, and what lies there."""

    def follow(self, record: SharedRecord, first: Fetched, ready: Callable[[], None]) -> None:
        """Fills a copy of a record that is another's, from now on. `ready`: what is there now has come."""

    def cancel(self, record: SharedRecord) -> None:
        """The owner of this copy's record is told that its answer is not wanted."""

    def remove(self, name: str, anybodys: bool = False) -> None:
        """This record of ours is not kept any more. `anybodys`: whoever fills it."""


def name_of(fleet: str, tenant: str, kind: str, key: bytes) -> str:
    """In the store. It tells nothing, and no other tenant's key or id comes to it."""
    digest = hashlib.sha256()
    for part in (fleet.encode(), tenant.encode(), kind.encode(), key):
        digest.update(b"%d:" % len(part) + part)
    return digest.hexdigest()[:40]


class Mirror:
    """What the store has been told of a record that is filled here."""

    __slots__ = ("_owed", "_sent", "dead", "id_name", "name", "pieces", "record", "taped", "told_at")

    def __init__(self, record: SharedRecord, name: str, id_name: str) -> None:
        self.record = record
        self.name = name
        self.id_name = id_name
        self.dead = False
        """It is not told any more."""
        self.pieces = self.taped = 0
        """That the store has."""
        self.told_at = 0.0
        self._sent: dict[str, bytes] = {}
        self._owed: dict[str, bytes] = {}

    @property
    def ended(self) -> bool:
        return self.record.state is not RecordState.RUNNING

    def news(self) -> tuple[dict[str, bytes], list[bytes], list[bytes]]:
        """Facts, pieces and entries that the store has not, as many as go into one message."""
        record = self.record
        parts, tape = _parts(record, self.pieces), record.entries(self.taped)
        pieces, size = _fitting(parts, 0)
        entries, _ = _fitting(tape, size)
        whole = len(entries) + self.taped == record.taped and next(parts, None) is None
        facts = facts_of(record)
        if not whole:
            facts["state"] = RecordState.RUNNING.value.encode()  # the end is told last
        self._owed = {k: v for k, v in facts.items() if self._sent.get(k) != v}
        return self._owed, pieces, entries

    def told(self, pieces: int, entries: int, now: float) -> None:
        self.pieces += pieces
        self.taped += entries
        if not self.record.whole:
            self.record.show(self.pieces)
        self._sent |= self._owed
        self.told_at = now

    def anew(self) -> None:
        """The store has lost it."""
        self.pieces = self.taped = 0
        self._sent = {}

    def goes_on(self, pieces: int, entries: int) -> None:
        """It was another gateway's: so much of it is there."""
        self.pieces, self.taped = pieces, entries

    @property
    def owes(self) -> bool:
        facts, pieces, entries = self.news()
        return bool(facts or pieces or entries)


def _fitting(parts: Iterator[bytes], size: int) -> tuple[list[bytes], int]:
    found: list[bytes] = []
    while size < MESSAGE and len(found) < MOST:
        part = next(parts, None)
        if part is None:
            break
        found.append(part)
        size += len(part)
    return found, size


def _parts(record: SharedRecord, at: int) -> Iterator[bytes]:
    if not record.whole:
        yield from record.all_from(at)
        return
    body = b"".join(record.read(0, 1 << 62))
    for begin in range(at * PART, len(body), PART):
        yield body[begin : begin + PART]


def facts_of(record: SharedRecord) -> dict[str, bytes]:
    """All that is known of a record beside its pieces."""
    refusal = record.refusal
    return {
        "mark": record.mark,
        "id": record.id.encode(),
        "opening": record.opening,
        "background": b"1" if record.background else b"",
        "status": b"%d" % record.status,
        "type": record.content_type,
        "whole": b"1" if record.whole else b"",
        "replica": record.replica.encode(),
        "state": record.state.value.encode(),
        "refusal": msgspec.json.encode(refusal._asdict()) if refusal is not None else b"",
        "last": record.last_words,
        **record.asked,
    }


class SharedRecord(KeptRecord):
    """A record that the store knows of: of this gateway (`mirror`), or a copy of another's (`theirs`)."""

    __slots__ = ("_hold", "_holding", "_outbox", "_waits", "asked", "asker", "earlier", "mirror", "theirs")

    def __init__(self, shelf: SharedShelf, tenant: str, key: bytes, mark: bytes, id: str) -> None:
        super().__init__(shelf, tenant, key, mark, id)
        self._outbox = shelf.outbox
        self._hold = shelf.hold
        self._holding = False
        self._waits = 0
        """Pieces that are not shown yet."""
        self.mirror: Mirror | None = None
        self.theirs = ""
        """The name of the record in the store that this is a copy of; empty: it is filled here."""
        self.asked: dict[str, bytes] = {}
        """The request, as it is told to the store."""
        self.asker: Asker | None = None
        """Of a copy: the request that came last for it."""
        self.earlier = 0
        """Entries of its tape that another gateway has told the store."""

    @property
    def shelf(self) -> SharedShelf:
        assert isinstance(self._shelf, SharedShelf)
        return self._shelf

    @property
    def furthest(self) -> int:
        """The piece that the reader who has most reads next."""
        return max((f.position for f in self._followers), default=0)

    # -- its tape

    @property
    def taped(self) -> int:
        return self.earlier + (len(self.tape.entries) if isinstance(self.tape, ListTape) else 0)

    def entries(self, at: int) -> Iterator[bytes]:
        """From there on, each as the store has it: its kind, its data."""
        if isinstance(self.tape, ListTape):
            for kind, data in self.tape.entries[max(0, at - self.earlier) :]:
                yield bytes((kind,)) + data

    def begin_tape(self) -> None:
        self.tape = ListTape(self._tape_grew)

    def _tape_grew(self, size: int) -> None:
        self._shelf.grew(self, size + PIECE_COST)
        self._changed()

    # -- who asks

    def meet(self, asker: Asker) -> None:
        self.asker = asker
        if self.mirror is not None and not self.asked:
            if len(asker.body) + len(asker.sent) <= LARGEST_REQUEST:
                self.asked = {"url": asker.url, "body": asker.body, "sent": asker.sent}
            self.asker = None

    def ahead(self) -> int:
        return AHEAD if self.theirs and self.state is RecordState.RUNNING else 0

    # -- what changes

    def let_go(self) -> None:
        super().let_go()
        if self.first and self.mirror is not None:
            self.forsake()  # its beginning is nowhere any more

    def begin(self, status: int, content_type: bytes, whole: bool = False) -> None:
        super().begin(status, content_type, whole)
        self._changed()

    def end(self, state: RecordState, refusal: Refusal | None = None, last_words: bytes = b"") -> None:
        self.show(self.made)
        super().end(state, refusal, last_words)
        self._changed()
        if self.mirror is None or self.mirror.dead:
            self._drop_tape()

    def cancel(self) -> None:
        if self.theirs:
            self._outbox.cancel(self)
        else:
            super().cancel()

    def _changed(self) -> None:
        if self.mirror is not None and not self.mirror.dead:
            self._outbox.changed(self.mirror)

    def append(self, piece: bytes, anyway: bool = False) -> bool:
        mirror = self.mirror
        if mirror is None or mirror.dead or not self._outbox.up:
            self.show(self.made)
            taken = super().append(piece, anyway)
            self._changed()
            return taken
        if not self._shelf.takes(self, len(piece) + PIECE_COST, anyway):
            return False
        self._pieces.append(piece)
        self._waits += 1
        self._changed()
        if not self._holding:
            self._hold_until(self.made)
        return True

    @property
    def made(self) -> int:
        return self.count + self._waits

    def all_from(self, position: int) -> list[bytes]:
        """All pieces from there on, those that are not shown, too."""
        return self._pieces[position - self.first :]

    def show(self, upto: int) -> None:
        """Followers may have the pieces before this one."""
        more = min(upto, self.made) - self.count
        if more > 0:
            self.count += more
            self._waits -= more
            self._tell()

    def _hold_until(self, made: int) -> None:
        """What is there now is shown after HOLD_S, whatever the store says."""

        def late() -> None:
            self._holding = False
            self.show(made)
            if self._waits:
                self._hold_until(self.made)

        self._holding = True
        self._hold(HOLD_S, late)

    def tell_all(self) -> None:
        """The store is told of it from its beginning."""
        self._changed()

    def stop_mirror(self) -> None:
        """The store is not told of it any more."""
        if self.mirror is not None:
            self.mirror.dead = True
        self._drop_tape()
        self.show(self.made)

    def forsake(self) -> None:
        """It is not to be found elsewhere any more."""
        mirror = self.mirror
        if mirror is not None and not mirror.dead:
            self.stop_mirror()
            self._outbox.remove(mirror.name)

    def _drop_tape(self) -> None:
        tape = self.tape
        if isinstance(tape, ListTape) and tape.entries:
            self._shelf.grew(self, -sum(len(data) + PIECE_COST for _, data in tape.entries))
            tape.entries = []
        self.tape = None


class SharedShelf(Shelf):
    """The records of one fleet at one gateway of several."""

    def __init__(
        self,
        fleet: str,
        rules: ShelfRules,
        now: Callable[[], float],
        outbox: Outbox,
        hold: Callable[[float, Callable[[], None]], object],
    ) -> None:
        super().__init__(rules, now)
        self.fleet = fleet
        self.outbox = outbox
        self.hold = hold
        """Calls back after so many seconds."""
        self._asked: dict[tuple[str, bytes], list[Callable[[], None]]] = {}
        """Keys that the store is being asked for, and who waits for its word."""

    @property
    def ttl_ms(self) -> int:
        return int(max(LEAST_TTL_S, self.rules.keep_s) * 1000)

    def name(self, record: KeptRecord) -> str:
        if record.key:
            return name_of(self.fleet, record.tenant, "key", record.key)
        return self.id_name(record.tenant, record.id)

    def id_name(self, tenant: str, id: str) -> str:
        return name_of(self.fleet, tenant, "id", id.encode())

    def _make(self, tenant: str, key: bytes, mark: bytes, id: str) -> SharedRecord:
        return SharedRecord(self, tenant, key, mark, id)

    def claim(
        self,
        tenant: str,
        key: bytes,
        mark: bytes,
        told: Callable[[AnswerRecord, bool], None],
        id: str = "",
        comes_again: bool = False,
    ) -> None:
        def again() -> None:
            self.claim(tenant, key, mark, told, id, comes_again)

        known = self._by_key.get((tenant, key)) if key else None
        if known is not None and (known.state is RecordState.RUNNING or self._now() < known.until):
            told(known, False)
            return
        if not key or not self.outbox.asks:
            if known is not None:
                self.remove(known)
            record = self._make(tenant, key, mark, id)
            if key or id:
                self._mirrored(record)
            self._enter(record)
            told(record, True)
            return
        if (tenant, key) in self._asked:
            self._asked[tenant, key].append(again)
            return
        self._asked[tenant, key] = []
        if known is not None:
            self.remove(known)
        record = self._make(tenant, key, mark, id)

        def late() -> None:
            if comes_again:
                return  # what it has had lies there, or nowhere
            waiting = self._asked.pop((tenant, key), [])
            record.begin_tape()
            self._enter(record)
            told(record, True)
            for other in waiting:
                other()

        def done(found: Fetched | None) -> None:
            waiting = self._asked.pop((tenant, key), None)
            if waiting is None:  # it has begun here meanwhile
                self._late_word(record, found)
                return
            if found is None:
                self._mirrored(record)
                self._enter(record)
                told(record, True)
            else:
                self._copy(self.name(record), tenant, key, found, lambda copy: told(copy, False))
            for other in waiting:
                other()

        self.outbox.claim(self, record, late, done)

    def _late_word(self, record: SharedRecord, found: Fetched | None) -> None:
        """The store says whose a key is that is served here already: where it is another's, each has its own."""
        if found is not None:
            record.stop_mirror()
        elif record not in self._all:
            if (record.tenant, record.key) not in self._by_key:
                self.outbox.remove(self.name(record))
        else:
            self._mirrored(record)
            if record.asker is not None:
                record.meet(record.asker)
            record.tell_all()

    def find(self, tenant: str, id: str, told: Callable[[AnswerRecord | None], None]) -> None:
        if self._by_id.get((tenant, id)) is not None or not self.outbox.asks or not self.keeps:
            super().find(tenant, id, told)
            return

        def done(name: str, found: Fetched | None) -> None:
            if found is None or self._by_id.get((tenant, id)) is not None:
                Shelf.find(self, tenant, id, told)
            else:
                self._copy(name, tenant, b"", found, told)

        self.outbox.find(self, tenant, id, done)

    def _copy(
        self, name: str, tenant: str, key: bytes, found: Fetched, ready: Callable[[SharedRecord], None]
    ) -> None:
        facts = found.facts
        id = facts.get("id", b"").decode()
        known = self._by_id.get((tenant, id)) if id else None
        if isinstance(known, SharedRecord):
            if key and not known.key:
                known.key = key
                self._by_key[tenant, key] = known
            ready(known)
            return
        copy = self._make(tenant, key, facts.get("mark", b""), id)
        copy.theirs = name
        copy.opening, copy.background = facts.get("opening", b""), bool(facts.get("background"))
        self._enter(copy)
        self.outbox.follow(copy, found, lambda: ready(copy))

    def _mirrored(self, record: SharedRecord) -> None:
        """From now on the store is told of it."""
        id_name = self.id_name(record.tenant, record.id) if record.id else ""
        record.mirror = Mirror(record, self.name(record), id_name)
        if record.tape is None:
            record.begin_tape()

    def taken(self, record: SharedRecord, facts: Mapping[str, bytes], pieces: int, entries: int) -> None:
        """A copy whose owner is gone is this gateway's: so much of it the store has."""
        record.theirs, record.earlier = "", entries
        record.asked = {name: facts.get(name, b"") for name in ("url", "body", "sent")}
        self._mirrored(record)
        assert record.mirror is not None
        record.mirror.goes_on(pieces, entries)

    def unlink(self, record: AnswerRecord) -> None:
        if isinstance(record, SharedRecord):
            record.forsake()
        super().unlink(record)

    def remove(self, record: AnswerRecord) -> None:
        if isinstance(record, SharedRecord):
            record.forsake()
        super().remove(record)

    def drop_copy(self, record: SharedRecord) -> None:
        """Nobody reads this copy; the record itself stays where it is."""
        super().remove(record)

    def forget(self, name: str) -> None:
        """A client of another gateway wants this record kept nowhere."""
        for record in list(self._all):
            if isinstance(record, SharedRecord) and name in (
                record.theirs,
                record.mirror and record.mirror.name,
            ):
                record.theirs = ""
                record.cancel()
                self.remove(record)

    def delete(self, record: AnswerRecord) -> None:
        """Its client wants it kept nowhere."""
        if isinstance(record, SharedRecord) and record.theirs:
            self.outbox.remove(record.theirs, anybodys=True)
        self.remove(record)

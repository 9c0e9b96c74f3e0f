"""Records of answers that are written down as they grow, in memory that outlives this process (edge/record.py): what
runs without a client, and what a client comes again for, goes on when this process is killed.

A record has a slot of its own there, which belongs to no connection, and in it, in this order: who asked what (ASKED),
then how its answer begins (BEGUN), its pieces, what the session of its stream was told (decide/route/resume/tape.py),
that its key is free (FREED), how it ended (OVER). Each entry stands there before anybody reads what it says, so a
successor (intake/carry_kept.py) finds all that a client may have been given.

Who finds no room is not written down, and ends with the process. Forbidden here: what a piece says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

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
from seawall.decide.route.resume.tape import Tape
from seawall.gateway.edge.record import Arena, Record
from seawall.gateway.edge.request import Request

ASKED: Final = 24
BEGUN: Final = 25
PIECE: Final = 26
FREED: Final = 27
OVER: Final = 28
LARGEST_REQUEST: Final = 2**20
"""A larger request is not written down: its answer ends with this process, unless its client sends it again."""
SHARE: Final = 2
"""Records of answers take this part of the memory at most: the rest is for connections."""


class AskedEntry(msgspec.Struct, frozen=True, array_like=True):
    """Whose record it is, and the request that it answers."""

    fleet: str
    tenant: str
    key: bytes
    mark: bytes
    id: str
    opening: bytes
    background: bool
    request_id: bytes
    model: str
    """As its client calls it: a large body is rewritten for the engine."""
    url: bytes
    headers: dict[bytes, bytes]
    body: bytes
    sent: bytes


class BegunEntry(msgspec.Struct, frozen=True, array_like=True):
    """How the answer begins."""

    status: int
    content_type: bytes
    whole: bool
    replica: str


class OverEntry(msgspec.Struct, frozen=True, array_like=True):
    """How it ended. `at`: by the clock that all processes of this machine share."""

    at: float
    state: str
    refusal: Refusal | None
    last_words: bytes
    replica: str


_encode = msgspec.msgpack.encode


class KeptPages:
    """Where records are written down: the memory of this process, once it has one that a keeper holds."""

    __slots__ = ("_place",)

    def __init__(self) -> None:
        self._place: Callable[[], Arena] | None = None

    def open(self, place: Callable[[], Arena]) -> None:
        """From now on they are. `place`: the memory that new ones go to."""
        self._place = place

    def shelf(self, fleet: str, rules: ShelfRules, now: Callable[[], float]) -> WrittenShelf:
        """Where the answers of this fleet are kept."""
        return WrittenShelf(fleet, rules, now, self)

    def page(self) -> Record | None:
        """A slot for a record; None: there is no room, or nobody holds what is written."""
        if self._place is None:
            return None
        arena = self._place()
        if not has_room(arena):
            return None
        slot = arena.take_slot()
        if slot < 0:
            return None
        page = Record(arena, slot)
        page.renew()
        return page


def has_room(arena: Arena) -> bool:
    """Whether answers may take more of this memory."""
    return arena.used * SHARE < arena.blocks


class WrittenRecord(KeptRecord):
    """A record, and its page in memory that outlives this process."""

    __slots__ = ("_met", "_page")

    def __init__(self, shelf: WrittenShelf, tenant: str, key: bytes, mark: bytes, id: str) -> None:
        super().__init__(shelf, tenant, key, mark, id)
        self._met = False
        self._page: Record | None = None

    @property
    def written(self) -> bool:
        """A successor of this process finds it."""
        return self._page is not None and self._page.holds

    def meet(self, asker: Asker) -> None:
        if self._met or not isinstance(asker, Request):
            return
        self._met = True
        shelf = self._shelf
        assert isinstance(shelf, WrittenShelf)
        if len(asker.body) + len(asker.sent) > LARGEST_REQUEST:
            return
        page = shelf.pages.page()
        if page is None:
            return
        asked = AskedEntry(
            shelf.fleet, self.tenant, self.key, self.mark, self.id, self.opening, self.background,
            asker.id, asker.model, asker.url, asker.headers, asker.body, asker.sent,
        )  # fmt: skip
        page.add(ASKED, _encode(asked))
        self._page = self.tape = page

    def restore_piece(self, piece: bytes) -> None:
        """A piece that a predecessor wrote down."""
        self._pieces.append(piece)
        self.count += 1

    def restored(self, page: Record) -> None:
        """It is what a predecessor wrote on this page, and is written on there."""
        self._met = True
        self._page = self.tape = page

    # -- who fills it

    def begin(self, status: int, content_type: bytes, whole: bool = False) -> None:
        self._write(BEGUN, BegunEntry(status, content_type, whole, self.replica))
        super().begin(status, content_type, whole)

    def append(self, piece: bytes, anyway: bool = False) -> bool:
        if not self._shelf.takes(self, len(piece) + PIECE_COST, anyway):
            return False
        page = self._page
        if page is not None:
            if has_room(page.arena):
                page.add(PIECE, piece)
            else:
                self.tear_out()
        self._pieces.append(piece)
        self.count += 1
        self._tell()
        return True

    def let_go(self) -> None:
        super().let_go()
        if self.first:
            self.tear_out()  # its beginning is nowhere any more

    def end(self, state: RecordState, refusal: Refusal | None = None, last_words: bytes = b"") -> None:
        if self.state is RecordState.RUNNING:
            shelf = self._shelf
            assert isinstance(shelf, WrittenShelf)
            self._write(OVER, OverEntry(shelf.now(), state.value, refusal, last_words, self.replica))
        super().end(state, refusal, last_words)

    def key_is_free(self) -> None:
        """Who comes again with its key begins anew."""
        if self._page is not None:
            self._page.add(FREED, b"")

    def tear_out(self) -> None:
        """It is not written down any more. Its session may go on telling its page, which takes nothing then."""
        page, self._page = self._page, None
        tape: Tape | None = None
        self.tape = tape
        if page is not None:
            page.release()
            page.arena.give_slot(page.slot)

    def _write(self, kind: int, entry: msgspec.Struct) -> None:
        if self._page is not None:
            self._page.add(kind, _encode(entry))


class WrittenShelf(Shelf):
    """The records of one fleet in the memory of this process, written down on its pages."""

    def __init__(self, fleet: str, rules: ShelfRules, now: Callable[[], float], pages: KeptPages) -> None:
        super().__init__(rules, now)
        self.fleet = fleet
        self.pages = pages
        self.now = now

    def _make(self, tenant: str, key: bytes, mark: bytes, id: str) -> WrittenRecord:
        return WrittenRecord(self, tenant, key, mark, id)

    def restore(self, asked: AskedEntry) -> WrittenRecord | None:
        """A record that a predecessor of this process had, empty; None: there is another in its place."""
        taken = asked.key and (asked.tenant, asked.key) in self._by_key
        if taken or (asked.id and (asked.tenant, asked.id) in self._by_id):
            return None
        record = self._make(asked.tenant, asked.key, asked.mark, asked.id)
        record.opening, record.background = asked.opening, asked.background
        self._enter(record)
        return record

    def restore_ended(self, record: WrittenRecord, over: OverEntry) -> None:
        """A restored record had ended; what is left of its time is left."""
        record.state, record.replica = RecordState(over.state), over.replica
        record.refusal, record.last_words = over.refusal, over.last_words
        super().ended(record)
        record.until = over.at + self.rules.keep_s

    def unlink(self, record: AnswerRecord) -> None:
        if isinstance(record, WrittenRecord):
            record.key_is_free()
        super().unlink(record)

    def remove(self, record: AnswerRecord) -> None:
        if isinstance(record, WrittenRecord):
            record.tear_out()
        super().remove(record)

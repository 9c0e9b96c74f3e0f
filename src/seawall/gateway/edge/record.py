"""What each connection was sent and given, in memory that outlives this process, so that another can go on at its byte.

Before anything is done it is written here: bytes that were read, that a request was accepted, what its stream was told
(decide/route/resume/tape.py), bytes that are about to be written. How many of these the kernel has taken is asked of
the kernel; what lies between is what a successor writes first. The memory (a memfd) is passed on by the keeper.

    slots     one per connection: where its entries begin, how many bytes had been written before them
    blocks    of BLOCK bytes: the next block, then entries: a word (kind, size), `size` bytes, the next word; 0: the end

Torn writes: an entry's word is written last, behind a zero that ends the entries; a slot has two halves, and one word
says which holds. So whoever reads finds all entries, or all but the one that was being written. One process writes, and
only a dead one's memory is read. Forbidden here: what an entry means; waiting; keeping more than the arena holds.
"""

from __future__ import annotations

import mmap
import os
from typing import Final, NamedTuple

from seawall.decide.route.resume.tape import RELAYED, Tape

READ: Final = 16
"""Bytes from the client."""
ACCEPTED: Final = 17
"""The present request has an exchange."""
STARTED: Final = 18
"""The head of a stream, about to be written; and what went with it."""
SAID: Final = 19
"""Bytes about to be written that no replica sent: a comment, `100 Continue`."""
ANSWERED: Final = 20
"""The last bytes of the present answer, about to be written."""
CUT_SHORT: Final = 21
"""The same, and the connection ends behind them."""
UNTOLD: Final = 22
"""An answer is passed on that is not recorded: whoever reads this cannot go on with it."""

MAGIC: Final = 0x5357_0001
"""The form of the memory; another release may have another."""
BLOCK: Final = 2048
SLOTS: Final = 65_536
MAX_BYTES: Final = 256 * 2**20
"""Of blocks. Memory that no connection has needed is not taken up; what was needed once is used again."""
_SLOT_WORDS: Final = 8
_HEADER_WORDS: Final = 16
_MORE: Final = 0x80
"""On a kind: the entry goes on in the next block."""
_USED: Final = 2
_TAKING: Final = 4
"""One of the take-overs that were begun and not ended; there is room for a few."""
_MOST_TAKING: Final = 60
_NOTHING: Final = 0
_LOST: Final = 0xFFFF_FFFF
"""In place of a slot's first block: not all of it could be recorded."""
_WORD: Final = 0xFFFF_FFFF


class Arena:
    """The memory of all connections. `fd` None: new memory; else what a predecessor left."""

    __slots__ = (
        "_free",
        "_free_slots",
        "_map",
        "_next_block",
        "_next_slot",
        "blocks",
        "cells",
        "fd",
        "full",
        "words",
    )

    def __init__(self, fd: int | None = None, blocks: int = MAX_BYTES // BLOCK) -> None:
        """ValueError when the memory is not of this form."""
        head = _HEADER_WORDS * 4 + SLOTS * _SLOT_WORDS * 4
        made = fd is None
        self.fd: int = os.memfd_create("seawall-record") if fd is None else fd
        if made:
            os.ftruncate(self.fd, head + blocks * BLOCK)
        self._map = mmap.mmap(self.fd, 0)
        self.cells = memoryview(self._map)
        self.words = self.cells.cast("I")
        words = self.words
        if made:
            words[1], words[2], words[0] = blocks, BLOCK, MAGIC
        elif len(words) < _HEADER_WORDS or words[0] != MAGIC or words[2] != BLOCK:
            raise ValueError("the record was written by another release")
        self.blocks: int = words[1]
        self.full = 0
        """Times that something found no room."""
        self._free: list[int] = []
        self._next_block = 1  # block 0 is nobody's: a link to it is none
        self._free_slots: list[int] = []
        self._next_slot = 0
        if not made:
            self._find_free()

    def _find_free(self) -> None:
        """What a predecessor used stays used."""
        used = {block for slot in self.slots() for block in self.chain(self.first(slot)[0])}
        self._next_block = max(used, default=0) + 1
        self._free = [b for b in range(1, self._next_block) if b not in used]
        taken = set(self.slots())
        self._next_slot = max(taken, default=-1) + 1
        self._free_slots = [s for s in range(self._next_slot) if s not in taken]

    def close(self) -> None:
        self.words.release()
        self.cells.release()
        self._map.close()
        os.close(self.fd)

    # -- slots

    def slots(self) -> list[int]:
        """Those that connections have."""
        words = self.words
        return [s for s in range(SLOTS) if words[_HEADER_WORDS + s * _SLOT_WORDS]]

    def take_slot(self) -> int:
        """A slot with nothing in it; -1: there is none."""
        if self._free_slots:
            slot = self._free_slots.pop()
        elif self._next_slot < SLOTS:
            slot, self._next_slot = self._next_slot, self._next_slot + 1
        else:
            self.full += 1
            return -1
        at = _HEADER_WORDS + slot * _SLOT_WORDS
        self.words[at + 1] = self.words[at + 2] = self.words[at + 3] = 0
        self.words[at] = _USED
        return slot

    def give_slot(self, slot: int) -> None:
        self.free(self.first(slot)[0])
        self.words[_HEADER_WORDS + slot * _SLOT_WORDS] = 0
        self._free_slots.append(slot)

    @property
    def taken(self) -> int:
        """Slots that something is in."""
        return self._next_slot - len(self._free_slots)

    def first(self, slot: int) -> tuple[int, int]:
        """(where a slot's entries begin, bytes written before them). 0: nowhere; _LOST: they are not all there."""
        words, at = self.words, _HEADER_WORDS + slot * _SLOT_WORDS
        at += 4 if words[at] & 1 else 1
        return words[at], words[at + 1] | words[at + 2] << 32

    def begin(self, slot: int, first: int, before: int) -> None:
        """From now on a slot's entries begin there."""
        words, at = self.words, _HEADER_WORDS + slot * _SLOT_WORDS
        state: int = words[at]
        half = at + (1 if state & 1 else 4)
        words[half] = first
        words[half + 1] = before & _WORD
        words[half + 2] = before >> 32
        words[at] = state ^ 1

    def taking(self, slot: int, now: bool) -> int:
        """Notes that a slot is being taken over, or that it has been. Returns how often somebody died of it before, or
        while it happened to be done."""
        words, at = self.words, _HEADER_WORDS + slot * _SLOT_WORDS
        state: int = words[at]
        before = state & _MOST_TAKING
        if now and before < _MOST_TAKING:
            words[at] = state + _TAKING
        elif not now:
            words[at] = state & ~_MOST_TAKING
        return before // _TAKING

    # -- blocks

    @property
    def used(self) -> int:
        """Blocks that are taken."""
        return self._next_block - 1 - len(self._free)

    def place(self, block: int) -> int:
        """The first byte of a block."""
        return (_HEADER_WORDS + SLOTS * _SLOT_WORDS) * 4 + (block - 1) * BLOCK

    def take(self) -> int:
        """An empty block; 0: there is none."""
        if self._free:
            block = self._free.pop()
        elif self._next_block <= self.blocks:
            block = self._next_block
            self._next_block += 1
        else:
            self.full += 1
            return 0
        at = self.place(block) >> 2
        self.words[at] = self.words[at + 1] = 0
        return block

    def chain(self, first: int) -> list[int]:
        """A block and those behind it."""
        found: list[int] = []
        while first not in (0, _LOST) and len(found) <= self.blocks:
            found.append(first)
            first = self.words[self.place(first) >> 2]
        return found

    def free(self, first: int) -> None:
        self._free += self.chain(first)[::-1]


class Record(Tape):
    """One connection's entries. `add` costs no more than a copy."""

    __slots__ = ("_at", "_block", "_until", "arena", "slot", "written")

    def __init__(self, arena: Arena, slot: int, past: Past | None = None) -> None:
        """Goes on behind what is in the slot (`past`, where that has just been read); `written` is then the caller's
        to set."""
        self.arena = arena
        self.slot = slot
        self.written = 0
        """Bytes that were written to the connection, or are about to be."""
        self._block = self._at = self._until = 0
        past = past or read(arena, slot)
        self.written = arena.first(slot)[1]
        if past is not None and past.block:
            self._block, self._at = past.block, past.at
            self._until = arena.place(past.block) + BLOCK
            if self._at < self._until:
                arena.words[self._at >> 2] = 0
            link = arena.place(past.block) >> 2
            torn, arena.words[link] = arena.words[link], 0
            arena.free(torn)

    @property
    def holds(self) -> bool:
        """It has entries."""
        return self._block != 0

    def renew(self) -> None:
        """The entries so far are no longer needed: the kernel has all that was written."""
        arena, slot = self.arena, self.slot
        old = arena.first(slot)[0]
        block = arena.take()
        self._block = block
        if block:
            self._at = arena.place(block) + 4
            self._until = self._at + BLOCK - 4
        else:
            self._at = self._until = 0
        arena.begin(slot, block or _LOST, self.written)
        if old:
            arena.free(old)

    def release(self) -> None:
        """As `renew`, for a connection that rests: nothing is held for it."""
        if self._block:
            old = self.arena.first(self.slot)[0]
            self._block = self._at = self._until = 0
            self.arena.begin(self.slot, _NOTHING, self.written)
            self.arena.free(old)

    def add(self, kind: int, data: bytes) -> None:
        size, at = len(data), self._at
        begin = at + 4
        after = (begin + size + 3) & ~3
        if after > self._until:
            self._add_long(kind, data)
            return
        arena = self.arena
        words = arena.words
        end = begin + size
        if size:
            arena.cells[begin:end] = data
        if after < self._until:
            words[after >> 2] = 0
        words[at >> 2] = kind << 24 | size
        self._at = after

    def relayed(self, line: bytes, size: int) -> None:
        self.written += size
        self.add(RELAYED, line)

    def wrote(self, kind: int, data: bytes) -> None:
        """An entry of bytes that are about to be written."""
        self.written += len(data)
        self.add(kind, data)

    def _add_long(self, kind: int, data: bytes) -> None:
        """An entry that fills up this block, and others."""
        view = memoryview(data)
        while self._block:
            room = self._until - self._at - 4
            if room >= len(view):
                self.add(kind, bytes(view))
                return
            if room > 0 and len(view):
                self.add(kind | _MORE, bytes(view[:room]))
                view = view[room:]
            self._go_on()

    def _go_on(self) -> None:
        """Another block, or the end of this record: what cannot be told whole is not told."""
        arena = self.arena
        block = arena.take()
        if not block:
            old = arena.first(self.slot)[0]
            arena.begin(self.slot, _LOST, self.written)
            arena.free(old)
            self._block = self._at = self._until = 0
            return
        arena.words[arena.place(self._block) >> 2] = block
        self._block = block
        self._at = arena.place(block) + 4
        self._until = self._at + BLOCK - 4


class Past(NamedTuple):
    """What is found in a slot: its whole entries, and where the next one would stand."""

    entries: list[tuple[int, bytes]]
    """(kind, data)."""
    block: int
    at: int


def read(arena: Arena, slot: int) -> Past | None:
    """What a slot holds. None: it could not all be recorded."""
    block = arena.first(slot)[0]
    if block == _LOST:
        return None
    entries: list[tuple[int, bytes]] = []
    parts: list[bytes] = []
    words, cells, blocks = arena.words, arena.cells, arena.blocks
    last = end_at = seen = 0
    while block and seen <= blocks:
        seen += 1
        begin = arena.place(block)
        at, until = begin + 4, begin + BLOCK
        if not last:
            last, end_at = block, at
        while at < until:
            word: int = words[at >> 2]
            end = at + 4 + (word & 0xFFFFFF)
            kind = word >> 24
            if not kind or end > until:
                break
            data = bytes(cells[at + 4 : end])
            at = (end + 3) & ~3
            if kind & _MORE:
                parts.append(data)
                continue
            if parts:
                parts.append(data)
                data = b"".join(parts)
                parts = []
            entries.append((kind, data))
            last, end_at = block, at
        block = words[begin >> 2]
    return Past(entries, last, end_at)

"""The record of a connection: whoever is killed at any byte of writing it leaves all that was told before."""

from __future__ import annotations

import json
import os
import sys
from random import Random
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.decide.route.resume import Policy, StreamSession
from seawall.gateway import compiled
from seawall.gateway.edge.record import ACCEPTED, BLOCK, READ, SAID, Arena, Record, read
from seawall.gateway.process.takeover import busy_first
from seawall.gateway.wire import chunk, framed


def plain() -> ModuleType:
    """The module as Python, so that its memory can be replaced by one that tells every store."""
    folder = compiled.ROOT / "seawall"
    tape = ModuleType("plain_tape")
    exec((folder / "decide/route/resume/tape.py").read_text("utf-8"), tape.__dict__)
    sys.modules[tape.__name__] = tape
    module = ModuleType("plain_record")
    sys.modules[module.__name__] = module
    source = (folder / "gateway/edge/record.py").read_text("utf-8")
    exec(source.replace("seawall.decide.route.resume.tape", tape.__name__), module.__dict__)
    return module


PLAIN = plain()


class Told:
    """Memory that also tells what was stored where, in order: bytes one by one, words whole (the kernel cannot stop a
    process within an aligned store)."""

    def __init__(self, cells: memoryview, width: int, stores: list[tuple[int, bytes]]) -> None:
        self._cells, self._width, self._stores = cells, width, stores

    def __len__(self) -> int:
        return len(self._cells)

    def __getitem__(self, at: Any) -> Any:
        return self._cells[at]

    def __setitem__(self, at: Any, value: Any) -> None:
        self._cells[at] = value
        if self._width == 1:
            self._stores.extend((at.start + i, bytes([b])) for i, b in enumerate(value))
        else:
            self._stores.append((at * 4, value.to_bytes(4, "little")))


Step = tuple[str, bytes]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.binary(max_size=60)),
        st.tuples(st.just("add"), st.integers(BLOCK - 40, 3 * BLOCK).map(lambda n: b"x" * n)),
        st.tuples(st.just("renew"), st.just(b"")),
        st.tuples(st.just("release"), st.just(b"")),
    ),
    max_size=6,
)


def play(record: Any, steps: list[Step]) -> list[list[tuple[int, bytes]]]:
    """Does the steps -> what is to be read after each store of a step: a state from this list, never backwards."""
    states: list[list[tuple[int, bytes]]] = [[]]
    for what, data in steps:
        if what == "add":
            if not record.holds:
                record.renew()
                states.append([])
            record.wrote(SAID, data)
            states.append([*states[-1], (SAID, data)])
        elif what == "renew":
            record.renew()
            states.append([])
        else:
            record.release()
            states.append([])
    return states


@given(STEPS)
@settings(max_examples=25, deadline=None)
def test_killed_at_any_byte_it_leaves_whole_entries(steps: list[Step]) -> None:
    arena, after = PLAIN.Arena(blocks=32), Arena(blocks=32)
    stores: list[tuple[int, bytes]] = []
    cells, words = arena.cells, arena.words
    slot = arena.take_slot()
    assert after.take_slot() == slot
    arena.cells, arena.words = Told(cells, 1, stores), Told(words, 4, stores)
    states = play(PLAIN.Record(arena, slot), steps)
    reached = 0
    for at, data in stores:
        after.cells[at : at + len(data)] = data
        past = read(after, slot)
        assert past is not None
        following = [i for i in range(reached, len(states)) if states[i] == past.entries]
        assert following, "what is read was never told, or was told and is lost"
        reached = following[0]
    assert states[-1] == (past.entries if stores else [])
    arena.cells, arena.words = cells, words
    arena.close()
    after.close()


@given(STEPS, st.integers(0, 5000), STEPS)
@settings(max_examples=25, deadline=None)
def test_a_successor_writes_on_where_a_torn_entry_begins(
    steps: list[Step], killed_at: int, more: list[Step]
) -> None:
    arena = PLAIN.Arena(blocks=64)
    stores: list[tuple[int, bytes]] = []
    cells, words = arena.cells, arena.words
    slot = arena.take_slot()
    arena.cells, arena.words = Told(cells, 1, stores), Told(words, 4, stores)
    play(PLAIN.Record(arena, slot), steps)
    arena.cells, arena.words = cells, words
    left = Arena(blocks=64)
    assert left.take_slot() == slot
    for at, data in stores[:killed_at]:
        left.cells[at : at + len(data)] = data
    successor = Arena(os.dup(left.fd))
    before = read(successor, slot)
    assert before is not None
    record = Record(successor, slot)
    assert read(successor, slot) == before
    told = list(before.entries)
    for what, data in more:
        if what == "add":
            if not record.holds:
                record.renew()
            record.add(READ, data)
            told.append((READ, data))
        elif what == "renew":
            record.renew()
            told = []
    past = read(successor, slot)
    assert past is not None
    assert past.entries == told
    successor.give_slot(slot)
    assert successor.slots() == []
    for each in (arena, left, successor):
        each.close()


def test_nothing_leaks_and_memory_is_bounded() -> None:
    arena = Arena(blocks=8)
    records = [Record(arena, arena.take_slot()) for _ in range(3)]
    for _ in range(50):
        for record in records:
            record.renew()
            record.wrote(ACCEPTED, b"r" * BLOCK)
    assert arena.full == 0
    records[0].wrote(SAID, b"z" * 8 * BLOCK)
    assert arena.full == 1
    assert read(arena, records[0].slot) is None, "what cannot be told whole is not told"
    records[0].wrote(SAID, b"more")
    assert read(arena, records[1].slot) is not None
    written = records[0].written
    records[0].renew()
    records[0].add(READ, b"next")
    past = read(arena, records[0].slot)
    assert past is not None
    assert past.entries == [(READ, b"next")]
    assert arena.first(records[0].slot)[1] == written
    for record in records:
        record.release()
    record = Record(arena, arena.take_slot())
    record.renew()
    record.add(SAID, b"y" * 7 * (BLOCK - 8))
    assert read(arena, record.slot) is not None
    arena.close()


def test_memory_of_another_form_is_refused() -> None:
    arena = Arena(blocks=1)
    arena.words[0] = 1
    with pytest.raises(ValueError, match="another release"):
        Arena(os.dup(arena.fd))
    arena.close()


def test_a_connection_that_rests_costs_its_slot_alone() -> None:
    arena = Arena(blocks=64)
    slots = [arena.take_slot() for _ in range(1000)]
    for slot in slots:
        record = Record(arena, slot)
        record.renew()
        record.wrote(SAID, b"answer" * 100)
        record.release()
    assert arena.full == 0
    assert [arena.first(slot) for slot in slots] == [(0, 600)] * 1000
    arena.close()


def test_streams_are_taken_over_before_who_rests() -> None:
    arena = Arena(blocks=64)
    slots = [arena.take_slot() for _ in range(6)]
    for slot in slots[3:5]:
        record = Record(arena, slot)
        record.renew()
        record.wrote(SAID, b"x")
    assert busy_first(arena, slots) == [slots[3], slots[4], slots[0], slots[1], slots[2], slots[5]]
    arena.close()


@given(st.integers(0, 5000))
@settings(deadline=None)
def test_the_size_of_a_chunk_is_known_without_making_it(size: int) -> None:
    assert framed(size) == len(chunk(b"x" * size))


TEXTS = st.lists(st.tuples(st.text(max_size=12), st.integers(0, 150_000)), min_size=1, max_size=12)


@given(TEXTS, st.booleans())
@settings(max_examples=40, deadline=None)
def test_what_a_tape_tells_again_is_as_long_as_what_was_written(
    texts: list[tuple[str, int]], shows_ids: bool
) -> None:
    """A successor counts the bytes of most chunks without making them."""
    asked: dict[str, Any] = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    if shows_ids:
        asked["return_token_ids"] = True
    body = json.dumps(asked).encode()
    first, second = (StreamSession("/v1/chat/completions", body, Policy(), Random(1)) for _ in range(2))
    second.reseed(first.seed)
    for text, token in [("a", 1), *texts]:
        inside = json.dumps(text)[1:-1]
        data = (
            'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
            f'"delta":{{"content":"{inside}"}},"logprobs":null,"finish_reason":null,"token_ids":[{token}]}}]}}\n\n'
        ).encode()
        length = first.ordinary(data)
        if not length:
            assert second.feed(data) == first.feed(data)
            continue
        sent = data[:length] + first.tail
        assert second.told_again(first.line) == len(sent)
        assert second.written_as(first.line) == sent
    assert second.tokens_out == first.tokens_out

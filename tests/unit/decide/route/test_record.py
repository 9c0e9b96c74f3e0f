"""Records: what is kept, for how long, within which bound."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.decide.route.record import (
    PIECE_COST,
    RECORD_COST,
    SHARE,
    KeptRecord,
    RecordState,
    Shelf,
    ShelfRules,
)
from seawall.decide.route.refusal import Refusal


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Follows:
    """A follower that reads all that there is, or nothing."""

    def __init__(self, record: KeptRecord, position: int = 0, reads: bool = True) -> None:
        self.record, self.position, self.reads = record, position, reads
        self.got: list[bytes] = []
        self.waited = 0
        record.follow(self)

    def more(self) -> None:
        while self.reads and (pieces := self.record.read(self.position, 100)):
            self.got += pieces
            self.position += len(pieces)
            self.record.took()

    def waiting(self) -> None:
        self.waited += 1


class Fills:
    def __init__(self) -> None:
        self.moves = self.cancels = 0

    def moved(self) -> None:
        self.moves += 1

    def cancel(self) -> None:
        self.cancels += 1


def shelf(memory: int = 2**20, keep_s: float = 600.0) -> tuple[Shelf, Time]:
    time = Time()
    return Shelf(ShelfRules(keep_s, memory), time), time


def claim(store: Shelf, key: bytes = b"", tenant: str = "t", id: str = "") -> tuple[KeptRecord, bool]:
    told: list[Any] = []
    store.claim(tenant, key, b"mark", lambda record, new: told.append((record, new)), id)
    return told[0]


def find(store: Shelf, id: str, tenant: str = "t") -> Any:
    told: list[Any] = []
    store.find(tenant, id, told.append)
    return told[0]


def whole(store: Shelf, key: bytes, body: bytes = b"answer") -> KeptRecord:
    record, new = claim(store, key)
    assert new
    record.begin(200, b"application/json", whole=True)
    assert record.append(body)
    record.end(RecordState.WHOLE)
    return record


def test_a_key_finds_its_record_until_its_time_is_over() -> None:
    store, time = shelf(keep_s=10)
    record = whole(store, b"k")
    time.now = 9.9
    assert claim(store, b"k") == (record, False)
    time.now = 10.0
    again, new = claim(store, b"k")
    assert new and again is not record
    assert len(store) == 1, "the one whose time was over has gone"


def test_a_running_record_does_not_age() -> None:
    store, time = shelf(keep_s=10)
    record, _ = claim(store, b"k")
    time.now = 1e6
    store.sweep(time.now)
    assert claim(store, b"k") == (record, False)
    record.end(RecordState.WHOLE)
    time.now += 9
    store.sweep(time.now)
    assert claim(store, b"k") == (record, False)


def test_a_key_is_one_tenants() -> None:
    store, _ = shelf()
    mine, _ = claim(store, b"k", "a", "resp_1")
    theirs, new = claim(store, b"k", "b")
    assert new and theirs is not mine
    assert find(store, "resp_1", "a") is mine
    assert find(store, "resp_1", "b") is None


def test_a_follower_reads_from_its_position_while_it_grows_and_afterwards() -> None:
    store, _ = shelf()
    record, _ = claim(store, b"k")
    early = Follows(record)
    record.begin(200, b"text/event-stream")
    record.append(b"0")
    record.append(b"1")
    late = Follows(record, 1)
    late.more()
    record.append(b"2")
    record.tell_waiting()
    record.end(RecordState.WHOLE)
    after = Follows(record, 3)
    after.more()
    assert (early.got, late.got, after.got) == ([b"0", b"1", b"2"], [b"1", b"2"], [])
    assert early.waited == 1
    assert record.state is RecordState.WHOLE


def test_over_the_bound_those_go_that_ended_first_and_nobody_reads() -> None:
    body = b"x" * 1000
    cost = RECORD_COST + 1 + PIECE_COST + len(body)
    store, _ = shelf(memory=4 * cost)
    records = {key: whole(store, key, body) for key in (b"a", b"b", b"c")}
    reader = Follows(records[b"a"], reads=False)
    whole(store, b"d", body)
    whole(store, b"e", body)
    assert [claim(store, k)[1] for k in (b"a", b"c", b"d", b"e")] == [False, False, False, False]
    assert claim(store, b"b")[1], "the first that nobody read"
    assert reader.record.read(0, 9999) == [body]


def test_one_record_takes_no_more_than_its_share() -> None:
    store, _ = shelf(memory=SHARE * 4000)
    record, _ = claim(store, b"k")
    taken = 0
    while record.append(b"x" * 100):
        taken += 1
    assert (taken + 1) * 164 + RECORD_COST > 4000 >= taken * 164 + RECORD_COST
    assert record.count == taken


def test_what_all_followers_have_makes_room() -> None:
    store, _ = shelf(memory=SHARE * 4000)
    record, _ = claim(store, b"k")
    filler = Fills()
    store.fill(record, filler)
    fast, slow = Follows(record), Follows(record, reads=False)
    while record.append(b"x" * 100):
        pass
    record.let_go()
    assert record.first == 0, "the slow one has read nothing"
    slow.position = 5
    record.let_go()
    assert (record.first, record.read(5, 1)) == (5, [b"x" * 100])
    assert record.append(b"y")
    assert fast.got[-1] == b"y"
    record.leave(slow)
    assert filler.moves > 0
    record.cancel()
    assert filler.cancels == 1


def test_a_failed_record_frees_its_key() -> None:
    store, _ = shelf()
    record, _ = claim(store, b"k")
    reader = Follows(record)
    store.unlink(record)
    record.end(RecordState.FAILED, Refusal(502, "upstream_lost", "lost"))
    assert claim(store, b"k")[1]
    assert len(store) == 2
    record.leave(reader)
    assert len(store) == 1, "nobody can find it any more"


def test_what_nobody_can_find_is_not_held() -> None:
    store, _ = shelf()
    record, _ = claim(store)
    record.append(b"x")
    record.end(RecordState.WHOLE)
    assert (len(store), store.held) == (0, 0)


@given(
    st.lists(
        st.tuples(st.sampled_from(["claim", "append", "end", "read", "leave", "go"]), st.integers(0, 3)),
        max_size=60,
    )
)
@pytest.mark.parametrize("memory", [3000, 20_000])
def test_memory_is_what_the_records_cost_and_within_the_bound(
    memory: int, acts: list[tuple[str, int]]
) -> None:
    store, time = shelf(memory=memory, keep_s=5)
    records: list[KeptRecord] = []
    followers: list[Follows] = []
    for act, which in acts:
        time.now += 1
        store.sweep(time.now)
        record = records[which % len(records)] if records else None
        if act == "claim" or record is None:
            records.append(claim(store, b"%d" % which)[0])
        elif act == "append" and record.state is RecordState.RUNNING:
            before = store.held
            if record.append(b"x" * 100 * which):
                assert store.held <= max(memory, before)
        elif act == "end":
            record.end(RecordState.WHOLE)
        elif act == "read":
            followers.append(Follows(record, record.first, reads=bool(which % 2)))
        elif act == "leave" and followers:
            follower = followers.pop()
            follower.record.leave(follower)
        elif act == "go":
            record.let_go()
        assert store.held == sum(r.cost for r in store._all)

"""The store: what was written is there after any kill, each line has one result, and counts agree with results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.batch.making import a_batch, a_result

from seawall.batch.assemble import assemble
from seawall.batch.blobs import Blobs
from seawall.batch.database import open_database
from seawall.batch.store import BatchStore
from seawall.batch.words import LineError, StoredFile
from seawall.errors import InputError


def running(store: BatchStore, total: int = 5, name: str = "batch_1") -> None:
    store.add_batch(a_batch(name))
    assert store.move(name, ["validating"], "in_progress", 1001, total=total)
    store.take("me", 1001, 2000)


def test_a_batch_comes_back_as_it_was_put(store: BatchStore) -> None:
    errors = (LineError(code="c", message="m", line=3, param="body"),)
    made = a_batch(metadata={"a": "b"}, errors=errors, output_lives_s=7, model="m", stamps={"failed": 3})
    assert store.add_batch(made) == made
    assert store.batch("batch_1") == made
    assert store.batch("batch_2") is None


def test_one_key_makes_one_batch(store: BatchStore) -> None:
    first = store.add_batch(a_batch("batch_1"), "key")
    assert store.add_batch(a_batch("batch_2"), "key") == first
    assert store.add_batch(a_batch("batch_3", tenant="other"), "key").id == "batch_3"
    assert [b.id for b in store.batches("t", None, 10)] == ["batch_1"]


def test_a_status_is_left_only_for_one_that_may_follow(store: BatchStore) -> None:
    running(store)
    assert store.move("batch_1", ["validating"], "failed", 1002) is None
    batch = store.move("batch_1", ["in_progress"], "cancelling", 1003)
    assert batch is not None and batch.status == "cancelling"
    assert batch.stamps == {"in_progress": 1001, "cancelling": 1003}


def test_a_result_counts_once(store: BatchStore) -> None:
    running(store)
    assert store.begin("batch_1", "me", [1, 2, 3])
    assert store.put("batch_1", "me", [a_result(1), a_result(2, good=False)]) == 2
    assert (
        store.put("batch_1", "me", [a_result(2, text='"other"'), a_result(3), a_result(3, text='"x"')]) == 1
    )
    batch = store.batch("batch_1")
    assert batch is not None
    assert (batch.completed, batch.failed, batch.tokens_in, batch.tokens_out, batch.busy_s) == (
        2,
        1,
        9,
        6,
        1.5,
    )
    assert [(n, good) for n, good, _ in store.results("batch_1")] == [(1, True), (2, False), (3, True)]
    assert store.done("batch_1", 2, 9) == {2, 3}
    assert store.orphans("batch_1") == 0


def test_lines_that_a_kill_left_behind_are_counted(store: BatchStore) -> None:
    running(store)
    store.begin("batch_1", "me", [1, 2, 3])
    store.put("batch_1", "me", [a_result(2)])
    assert store.orphans("batch_1") == 2
    assert store.orphans("batch_1") == 0
    batch = store.batch("batch_1")
    assert batch is not None and batch.twice == 2


def test_one_worker_at_a_time_has_a_batch(store: BatchStore) -> None:
    running(store)
    assert [b.id for b in store.take("me", 1500, 2500)] == ["batch_1"]
    assert store.take("other", 2000, 3000) == []
    assert [b.id for b in store.take("other", 2501, 3500)] == ["batch_1"]
    assert store.put("batch_1", "me", [a_result(1)]) == 0
    assert not store.begin("batch_1", "me", [2])
    store.let_go("other")
    assert [b.id for b in store.take("me", 2502, 3500)] == ["batch_1"]


def test_nothing_is_put_into_a_batch_that_is_over(store: BatchStore, tmp_path: Path) -> None:
    running(store, total=1)
    store.put("batch_1", "me", [a_result(1)])
    store.move("batch_1", ["in_progress"], "finalizing", 1002)
    batch = store.batch("batch_1")
    assert batch is not None
    assemble(store, Blobs(tmp_path / "files"), batch, "completed", 1003, 60)
    assert store.put("batch_1", "me", [a_result(2)]) == 0
    ended = store.batch("batch_1")
    assert ended is not None and ended.completed == 1 and ended.over


def test_files_of_a_tenant_come_in_pages(store: BatchStore) -> None:
    made = [
        StoredFile(id=f"f{i}", tenant="t", name="n", purpose="batch", size=10, created=100 + i // 2)
        for i in range(5)
    ]
    for file in made:
        store.add_file(file)
    store.add_file(StoredFile(id="x", tenant="u", name="n", purpose="batch", size=10, created=1))
    page = store.files("t", None, None, 2, True)
    assert [f.id for f in page] == ["f4", "f3"]
    assert [f.id for f in store.files("t", None, page[-1], 9, True)] == ["f2", "f1", "f0"]
    assert [f.id for f in store.files("t", "batch", page[-1], 9, False)] == ["f4"]
    assert store.files("t", "batch_output", None, 9, True) == []
    assert store.holding("t").size == 50 and store.holding("t").files == 5


def test_a_file_that_a_batch_reads_stays(store: BatchStore) -> None:
    store.add_file(
        StoredFile(id="file-in", tenant="t", name="n", purpose="batch", size=1, created=1, expires=5)
    )
    running(store)
    assert store.forget_file("file-in") == "batch_1"
    assert store.expired_files(10) == []
    store.move("batch_1", ["in_progress"], "failed", 9)
    assert [f.id for f in store.expired_files(10)] == ["file-in"]
    assert store.forget_file("file-in") is None
    assert store.file("file-in") is None


def test_rows_of_what_is_over_are_swept(store: BatchStore) -> None:
    running(store)
    running(store, name="batch_2")
    for name in ("batch_1", "batch_2"):
        store.put(name, "me", [a_result(n) for n in range(1, 6)])
    store.move("batch_1", ["in_progress"], "failed", 9)
    assert store.sweep_lines(3) == 3
    assert store.sweep_lines(3) == 2
    assert store.sweep_lines(3) == 0
    assert len(list(store.results("batch_2"))) == 5


def test_output_and_errors_are_in_the_order_of_lines(store: BatchStore, tmp_path: Path) -> None:
    running(store, total=400)
    for n in (400, 1, 3, 2, *range(4, 400)):
        store.put("batch_1", "me", [a_result(n, good=n % 7 != 0)])
    blobs = Blobs(tmp_path / "files")
    batch = store.move("batch_1", ["in_progress"], "finalizing", 1002)
    assert batch is not None
    assemble(store, blobs, batch, "completed", 1003, 60)
    assemble(store, blobs, batch, "completed", 1004, 60)
    ended = store.batch("batch_1")
    assert ended is not None and ended.output_file and ended.error_file and ended.stamps["completed"] == 1003
    output = blobs.path(ended.output_file).read_text().splitlines()
    errors = blobs.path(ended.error_file).read_text().splitlines()
    assert output == [f'{{"line":{n}}}' for n in range(1, 401) if n % 7]
    assert errors == [f'{{"line":{n}}}' for n in range(1, 401) if n % 7 == 0]
    told = store.file(ended.output_file)
    assert told is not None and told.size == blobs.path(told.id).stat().st_size and told.expires == 1063
    assert [p.name for p in blobs.folder.glob("*.part")] == []


def test_a_half_written_file_is_not_there(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"), blobs.new("file-1") as out:
        for part in broken():
            out.write(part)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyError):
        blobs.path("../etc/passwd")


def test_a_store_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="mysql"):
        open_database("mysql://host/x")
    (tmp_path / "text").write_text("this is no database, but a text that is longer than a header" * 40)
    with pytest.raises(InputError, match="cannot be opened"):
        open_database(str(tmp_path / "text"))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "put", "kill", "other"]),
        st.lists(st.integers(1, 12), min_size=1, max_size=6, unique=True),
    ),
    max_size=30,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_each_line_has_one_result_whatever_is_killed(
    steps: list[tuple[str, list[int]]], tmp_path_factory
) -> None:  # type: ignore[no-untyped-def]
    """Begun, answered, killed and taken over in any order: results are unique, first come stays, and counts agree."""
    path = str(tmp_path_factory.mktemp("s") / "s.db")
    store, owner, now = BatchStore(open_database(path)), "w0", 1000.0
    store.add_batch(a_batch())
    store.move("batch_1", ["validating"], "in_progress", now, total=12)
    store.take(owner, now, now + 10)
    first: dict[int, bytes] = {}
    sent: set[int] = set()
    again = 0
    for turn, (what, lines) in enumerate(steps):
        if what == "begin":
            store.begin("batch_1", owner, lines)
            sent |= set(lines) - first.keys()
        elif what == "put":
            made = [a_result(n, text=f'"{turn} {n}"') for n in lines]
            store.put("batch_1", owner, made)
            for result in made:
                first.setdefault(result.line, result.text)
            sent -= set(lines)
        else:
            store.close()
            store = BatchStore(open_database(path))
            if what == "other":
                now, owner = now + 20, f"w{turn}"
            store.take(owner, now, now + 10)
            again += store.orphans("batch_1")
    assert {n: text for n, _, text in store.results("batch_1")} == first
    batch = store.batch("batch_1")
    assert batch is not None
    assert (batch.completed, batch.failed, batch.twice) == (len(first), 0, again)
    store.close()

"""How batches end that do not just run to their end: cancelled, without their input, and forgotten after their time."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.batch.making import a_batch, a_line, write_lines
from tests.unit.batch.played_fleet import PlayedLane, played
from tests.virtual_time import run

from seawall.batch.lane import BatchLane
from seawall.batch.store import BatchStore
from seawall.batch.words import BatchRecord, StoredFile
from seawall.decide.batch.rules import FleetRules, LaneRules
from seawall.domain.spec import BatchSpec

RULES = LaneRules((FleetRules("f", frozenset({"m"})),), BatchSpec(retention=7200.0))


def lines_of(lane: BatchLane, file: str | None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lane.blobs.path(file).read_text().splitlines()] if file else []


async def over(lane: PlayedLane, name: str) -> BatchRecord:
    while not (batch := await lane.lane.call(lane.lane.store.batch, name)).over:  # type: ignore[union-attr]
        await asyncio.sleep(0.1)
    assert batch is not None
    return batch


def test_lines_that_a_cancelled_batch_did_not_come_to_say_so(tmp_path: Path) -> None:
    async def story() -> tuple[BatchRecord, list[Any], list[Any]]:
        async with played(tmp_path) as lane:
            await lane.submit([24] * 300)
            await lane.until(40)
            await lane.lane.call(
                lane.lane.store.move, "batch_1", ["in_progress"], "cancelling", lane.lane.now()
            )
            lane.lane.changed.set()
            batch = await over(lane, "batch_1")
            return batch, lines_of(lane.lane, batch.output_file), lines_of(lane.lane, batch.error_file)

    batch, good, bad = run(story())
    assert batch.status == "cancelled" and 40 <= batch.completed < 300
    assert (len(good), len(bad)) == (batch.completed, batch.failed) and batch.completed + batch.failed == 300
    assert {b["error"]["code"] for b in bad} == {"batch_cancelled"}
    assert all(b["response"] is None and b["custom_id"] for b in bad)


def test_lines_whose_window_is_over_say_so_and_what_was_answered_is_kept(tmp_path: Path) -> None:
    async def story() -> tuple[BatchRecord, list[Any], list[Any], float]:
        async with played(tmp_path) as lane:
            await lane.submit([24] * 400, window_s=600)
            await lane.until(100)
            lane.fleet.serves = False  # its replica is not there any more
            lane.fleet.desk.discovered([])
            batch = await over(lane, "batch_1")
            late = lane.lane.now() - batch.deadline
            return batch, lines_of(lane.lane, batch.output_file), lines_of(lane.lane, batch.error_file), late

    batch, good, bad, late = run(story())
    assert batch.status == "expired" and batch.as_json()["expired_at"] >= batch.deadline and late < 10
    assert (len(good), len(bad)) == (batch.completed, batch.failed) and len(good) + len(bad) == 400
    assert len(good) >= 100 and {b["error"]["code"] for b in bad} == {"batch_expired"}


def test_a_batch_whose_file_is_gone_ends_and_holds_up_no_other(tmp_path: Path) -> None:
    async def story() -> tuple[BatchRecord, BatchRecord]:
        async with played(tmp_path) as lane:
            await lane.submit([24] * 1000, "batch_1")
            await lane.submit([24] * 1000, "batch_2")
            lane.lane.blobs.path("file-batch_1").unlink()
            return await over(lane, "batch_1"), await over(lane, "batch_2")

    lost, other = run(story())
    assert lost.status == "failed" and lost.errors[0].code == "file_unreadable"
    assert other.status == "completed" and other.completed == 1000


def test_a_batch_whose_file_is_not_what_it_was_ends_and_keeps_its_answers(tmp_path: Path) -> None:
    async def story() -> tuple[BatchRecord, list[Any]]:
        async with played(tmp_path) as lane:
            await lane.submit([4] * 2000, "batch_1")
            path = lane.lane.blobs.path("file-batch_1")
            with path.open("r+b") as torn:
                torn.seek(path.stat().st_size * 3 // 4)
                torn.write(b"\0" * 500)
            batch = await over(lane, "batch_1")
            return batch, lines_of(lane.lane, batch.output_file)

    batch, good = run(story())
    assert batch.status == "failed" and 1000 < batch.completed == len(good)


def test_a_batch_is_forgotten_when_its_end_is_long_ago(store: BatchStore) -> None:
    """Its creation may be longer ago than files are kept: windows are up to ninety days."""
    store.add_batch(a_batch("batch_long", created=1000))
    store.add_batch(a_batch("batch_short", created=1000))
    store.move("batch_short", ["validating"], "failed", 1010.0)
    store.move("batch_long", ["validating"], "cancelling", 9000.0)
    store.finish("batch_long", "cancelled", 9001.0, None, None)
    assert [b.id for b in store.old_batches(9000.0)] == ["batch_short"]
    assert {b.id for b in store.old_batches(9002.0)} == {"batch_short", "batch_long"}


async def test_what_is_swept_is_gone_whole(tmp_path: Path) -> None:
    now = [1000.0]
    lane = BatchLane(tmp_path, None, RULES, now=lambda: now[0])
    for name in ("batch_old", "batch_runs"):
        write_lines(lane.blobs.path(f"file-{name}"), [a_line("a")])
        lane.store.add_file(
            StoredFile(
                id=f"file-{name}", tenant="t", name="n", purpose="batch", size=9, created=1000, expires=1500
            )
        )
        lane.store.add_batch(a_batch(name, input_file=f"file-{name}"))
    lane.store.move("batch_old", ["validating"], "failed", 1000.0)
    now[0] = 1001.0 + 7200
    await lane.clean()
    assert lane.store.batch("batch_old") is None and not lane.blobs.path("file-batch_old").exists()
    assert lane.store.batch("batch_runs") is not None and lane.blobs.path("file-batch_runs").exists()
    await lane.close()


@pytest.mark.parametrize("most", [1, 3])
def test_so_many_batches_of_a_tenant_run_and_a_key_still_finds_its_own(store: BatchStore, most: int) -> None:
    for n in range(most):
        assert store.add_batch(a_batch(f"batch_{n}"), f"key{n}", most=most) is not None
    assert store.add_batch(a_batch("batch_more"), "key-more", most=most) is None
    again = store.add_batch(a_batch("batch_more"), "key0", most=most)
    assert again is not None and again.id == "batch_0"
    assert store.add_batch(a_batch("batch_other", tenant="u"), "key0", most=most) is not None
    store.move("batch_0", ["validating"], "failed", 1.0)
    assert store.add_batch(a_batch("batch_more"), most=most) is not None


def test_what_two_uploads_bring_at_once_is_counted_together(store: BatchStore) -> None:
    def file(name: str, size: int) -> StoredFile:
        return StoredFile(id=name, tenant="t", name="n", purpose="batch", size=size, created=1)

    assert store.add_file(file("a", 600), 3, 1000) and not store.add_file(file("b", 500), 3, 1000)
    assert store.file("b") is None
    assert store.add_file(file("c", 100), 3, 1000) and store.add_file(file("d", 100), 3, 1000)
    assert not store.add_file(file("e", 1), 3, 1000), "a fourth"

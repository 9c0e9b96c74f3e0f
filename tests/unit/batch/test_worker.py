"""The worker with a gateway that is played: what fails is tried again, and no line is forgotten meanwhile."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.unit.batch.making import a_batch, a_line, write_lines

from seawall.batch.lane import BatchLane
from seawall.batch.lines import AskedLine, Checked
from seawall.batch.outlook import Outlook
from seawall.batch.send import SendAgain, Sender
from seawall.batch.store import BatchStore
from seawall.batch.words import BatchRecord, LineResult
from seawall.batch.worker import LineWorker
from seawall.decide.batch.rules import FleetRules, LaneRules
from seawall.domain.told import FleetState, GatewayState, ReplicaState
from seawall.errors import SourceError

RULES = LaneRules((FleetRules("f", frozenset({"m"})),))
STATE = GatewayState(
    fleets={"f": FleetState()}, replicas={"r": ReplicaState(fleet="f", state="ready", cap=16)}
)


class Played(Sender):
    """A gateway that answers each line, after it has refused it as often as it is told to."""

    def __init__(self, *before: SendAgain) -> None:
        super().__init__("http://nowhere", "s")
        self._before = before
        self.sent: dict[int, int] = {}

    async def send(
        self, batch: BatchRecord, line: AskedLine, due: bool, tries: int
    ) -> LineResult | SendAgain:
        turn = self.sent[line.line] = self.sent.get(line.line, 0) + 1
        await asyncio.sleep(0)
        if turn <= len(self._before):
            return self._before[turn - 1]
        return LineResult(line.line, True, json.dumps(line.custom_id).encode())


class Failing(BatchStore):
    """A store whose first writes of each kind fail."""

    def __init__(self, other: BatchStore, fails: int) -> None:
        super().__init__(other.database)
        self._left = {"begin": fails, "put": fails, "ran_again": fails}

    def _fail(self, what: str) -> None:
        if self._left[what]:
            self._left[what] -= 1
            raise SourceError("the disk is full.")

    def begin(self, batch: str, owner: str, lines: object) -> bool:
        self._fail("begin")
        return super().begin(batch, owner, lines)  # type: ignore[arg-type]

    def put(self, batch: str, owner: str, results: object) -> int:
        self._fail("put")
        return super().put(batch, owner, results)  # type: ignore[arg-type]

    def ran_again(self, batch: str, lines: int) -> None:
        self._fail("ran_again")
        super().ran_again(batch, lines)


async def worked(
    folder: Path, sender: Sender, fails: int = 0, lines: int = 40
) -> tuple[BatchRecord, list[str]]:
    """One batch, worked on to its end -> it, and its output."""
    lane = BatchLane(folder, None, RULES, now=lambda: 2000.0)
    lane.store = Failing(lane.store, fails)
    write_lines(lane.blobs.path("file-in"), [a_line(f"q{i}") for i in range(lines)])
    lane.store.add_batch(a_batch())
    lane.store.start("batch_1", Checked(lines, {"m": lines}), 1001.0)

    async def look() -> GatewayState:
        return STATE

    worker = asyncio.create_task(LineWorker(lane, Outlook(RULES), sender, look).run())
    try:
        async with asyncio.timeout(60):
            while not (batch := await lane.call(lane.store.batch, "batch_1")).over:  # type: ignore[union-attr]
                await asyncio.sleep(0.05)
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    assert batch is not None and batch.output_file is not None
    output = lane.blobs.path(batch.output_file).read_text().splitlines()
    await lane.close()
    return batch, output


async def test_a_store_that_fails_for_a_while_costs_no_line(tmp_path: Path) -> None:
    batch, output = await worked(tmp_path, Played(), fails=2)
    assert (batch.status, batch.completed, batch.twice) == ("completed", 40, 0)
    assert output == [f'"q{i}"' for i in range(40)]


async def test_refused_lines_run_later_and_broken_ones_again(tmp_path: Path) -> None:
    sender = Played(SendAgain(True, "no place"), SendAgain(False, "reset"))
    batch, output = await worked(tmp_path, sender, lines=12)
    assert output == [f'"q{i}"' for i in range(12)]
    assert set(sender.sent.values()) == {3}
    assert batch.twice == 12

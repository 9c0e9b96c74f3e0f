"""A batch of very many lines through the lane's own reading, store and writing, with engines that answer at once: the
process's memory, seconds of its batch's creation, lines per second, and whether each line has one result.

    python bench/batch_lines.py [--lines 1000000] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from seawall.batch.create import create
from seawall.batch.lane import BatchLane
from seawall.batch.lines import AskedLine
from seawall.batch.outlook import Outlook
from seawall.batch.requests import BatchAsk
from seawall.batch.send import SendAgain, Sender
from seawall.batch.words import BatchRecord, LineResult, StoredFile
from seawall.batch.worker import LineWorker
from seawall.decide.batch.rules import FleetRules, LaneRules
from seawall.domain.spec import BatchSpec
from seawall.domain.told import FleetState, GatewayState, ReplicaState

CHAT = "/v1/chat/completions"
PLACES = 512
STATE = GatewayState(
    fleets={"f": FleetState()}, replicas={"r": ReplicaState(fleet="f", state="ready", cap=PLACES)}
)


class AtOnce(Sender):
    """A gateway that has every answer ready."""

    def __init__(self) -> None:
        super().__init__("http://nowhere", "s")

    async def send(
        self, batch: BatchRecord, line: AskedLine, due: bool, tries: int
    ) -> LineResult | SendAgain:
        await asyncio.sleep(0)
        text = b'{"custom_id":"%b","response":{"status_code":200,"body":{"choices":[{"text":"%b"}]}}}'
        return LineResult(
            line.line, True, text % (line.custom_id.encode(), b"a" * 100), 20, 25, units=line.units
        )


def write_lines(path: Path, lines: int) -> None:
    with path.open("w") as out:
        for n in range(lines):
            body = {
                "model": "m",
                "max_tokens": 25,
                "messages": [{"role": "user", "content": f"{n}: {'x' * 60}"}],
            }
            line = {"custom_id": f"q{n}", "method": "POST", "url": CHAT, "body": body}
            out.write(json.dumps(line) + "\n")


async def work(folder: Path, lines: int, store: str | None) -> dict[str, float]:
    """One batch from its creation to its files, in this process."""
    rules = LaneRules((FleetRules("f", frozenset({"m"})),), BatchSpec(max_lines=lines))
    lane, outlook = BatchLane(folder, store, rules), Outlook(rules)
    size = lane.blobs.path("file-in").stat().st_size
    file = StoredFile(
        id="file-in", tenant="t", name="in", purpose="batch", size=size, created=int(lane.now())
    )
    await lane.call(lane.store.add_file, file)

    async def look() -> GatewayState:
        return STATE

    began = time.perf_counter()
    batch = await create(lane, outlook, BatchAsk(CHAT, "file-in", "24h", 86_400), file, frozenset(), None)
    created = time.perf_counter() - began
    assert batch.status == "in_progress", batch.errors
    worker = asyncio.create_task(LineWorker(lane, outlook, AtOnce(), look).run())
    while not batch.over and not worker.done():
        await asyncio.sleep(0.25)
        found = await lane.call(lane.store.batch, batch.id)
        assert found is not None
        batch = found
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    assert batch.output_file is not None
    right = 0
    with lane.blobs.path(batch.output_file).open("rb") as out:
        for expected, text in itertools.zip_longest(range(lines), out):
            right += (
                expected is not None
                and text is not None
                and text.startswith(b'{"custom_id":"q%d"' % expected)
            )
    took = time.perf_counter() - began
    await lane.close()
    peak = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
    return {
        "lines": lines,
        "input_mb": round(size / 2**20, 1),
        "created_s": round(created, 2),
        "seconds": round(took, 1),
        "lines_per_s": round(lines / took),
        "each_once_in_order": right,
        "ran_twice": batch.twice,
        "rss_mb": round(int(peak) / 1024, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--store", default=None, help="postgresql://...; SQLite where it is left out")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--in", dest="folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.folder is not None:
        print(json.dumps(asyncio.run(work(asked.folder, asked.lines, asked.store))))
        return
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "files").mkdir()
        write_lines(folder / "files" / "file-in", asked.lines)
        more = [*(["--store", asked.store] if asked.store else []), "--lines", str(asked.lines)]
        child = [sys.executable, __file__, "--in", str(folder), *more]
        done = subprocess.run(child, stdout=subprocess.PIPE, text=True, check=True)
        if asked.json:
            print(done.stdout.strip())
            return
        for name, value in json.loads(done.stdout).items():
            print(f"{name:<22}{value:>12,}")


if __name__ == "__main__":
    main()

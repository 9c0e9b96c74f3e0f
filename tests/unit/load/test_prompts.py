"""A bench without a command line: the prompts it draws, and the schedule it keeps."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from seawall.load.bench import Bench, Prompts, Schedule
from seawall.load.drive import Driver, LoadTarget, Run


def contents(prompts: Prompts, count: int = 4) -> list[object]:
    return [turn.chat("m", {})["messages"] for turn in itertools.islice(prompts.turns(count), count)]


def test_a_seed_makes_the_same_prompts_and_another_seed_others() -> None:
    one = Prompts(prompt_tokens=40, spread=1.0, seed=1)
    assert contents(one) == contents(Prompts(prompt_tokens=40, spread=1.0, seed=1))
    assert contents(one) != contents(Prompts(prompt_tokens=40, spread=1.0, seed=2))


def test_lengths_of_a_trace_win_over_the_mean() -> None:
    turns = Prompts(prompt_tokens=500, output_tokens=500).turns(2, ([7, 30], [3, 4]))
    asked = [next(turns).completion("m", {}) for _ in range(2)]
    assert [a["max_tokens"] for a in asked] == [3, 4]
    assert len(str(asked[0]["prompt"]).split()) < len(str(asked[1]["prompt"]).split()) < 60


async def _planned(schedule: Schedule, said: list[str]) -> tuple[str, int | None]:
    """(which loop was started, how many requests it planned), with a runner that lets nothing be sent."""
    seen: list[tuple[str, int | None]] = []

    async def ran(driver: Driver, run: Callable[[], Awaitable[Run]]) -> Run:
        task = run()
        seen.append((getattr(task, "__qualname__", "").rpartition(".")[2], driver.live.planned))
        task.close()  # type: ignore[attr-defined]
        return Run([], 0.0, 0.0, 0)

    bench = Bench(
        target=LoadTarget(url="http://127.0.0.1:9", model="m"), prompts=Prompts(), schedule=schedule
    )
    await bench.once(ran, said.append)
    return seen[0]


@pytest.mark.parametrize(
    ("schedule", "loop"),
    [
        (Schedule(), "open_loop"),
        (Schedule(rate="5/s for 3s"), "open_loop"),
        (Schedule(concurrency=3), "closed_loop"),
        (Schedule(concurrency=3, duration_s=5.0), "closed_loop"),
    ],
)
async def test_a_schedule_is_an_open_or_a_closed_loop(schedule: Schedule, loop: str) -> None:
    assert (await _planned(schedule, []))[0] == loop


async def test_a_trace_says_what_it_brings(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:00.0,10,5\n2023-11-16 18:15:09.0,20,5\n"
    )
    said: list[str] = []
    assert (await _planned(Schedule(trace=path), said))[0] == "open_loop"
    assert "2 requests over 9 s" in said[0]

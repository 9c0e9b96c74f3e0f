"""Stories of one kept process, on a clock that jumps."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.unit.local.fakes import FakeService, JumpClock
from tests.within import within

from seawall.decide.replica import LifePolicy, ReplicaPhase
from seawall.local.keeper import Care, Keeper

CARE = Care(
    life=LifePolicy(startup_s=60, backoff_first_s=1, backoff_max_s=8),
    notice_s=15, drain_s=30,
)  # fmt: skip


class Story:
    """A keeper with its service, and everything it said."""

    def __init__(self, tmp_path: Path, care: Care = CARE) -> None:
        self.clock = JumpClock()
        self.service = FakeService(self.clock)
        self.told: list[str] = []
        self.keeper = Keeper(
            "r-0", self.service, tmp_path / "log", care, spawn=self.service.spawn, clock=self.clock,
            changed=lambda k, why: self.told.append(f"{k.life.phase}: {why}"),
        )  # fmt: skip

    def at(self, phase: ReplicaPhase) -> bool:
        return self.keeper.life.phase is phase

    async def until(self, phase: ReplicaPhase) -> None:
        for _ in range(20_000):
            if self.at(phase):
                return
            await asyncio.sleep(0)
        raise AssertionError(f"never {phase}: {self.told}")

    async def play(self, seconds: float) -> None:
        end = self.clock.t + seconds
        while self.clock.t < end:
            await asyncio.sleep(0)

    async def end(self, task: asyncio.Task[None]) -> None:
        self.keeper.drain("done")
        await within(task, 10)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


async def test_it_starts_proves_itself_and_serves(story: Story) -> None:
    task = asyncio.create_task(story.keeper.run())
    await story.until(ReplicaPhase.READY)
    assert [t.split(":")[0] for t in story.told] == ["starting", "proving", "ready"]
    await story.end(task)
    assert story.at(ReplicaPhase.STOPPED)


async def test_it_finishes_what_runs_sleeps_wakes_and_proves_itself_again(story: Story) -> None:
    task = asyncio.create_task(story.keeper.run())
    await story.until(ReplicaPhase.READY)
    story.service.quiet = True
    story.keeper.doze("somebody else needs the room")
    await story.until(ReplicaPhase.ASLEEP)
    assert story.service.asleep
    assert not story.keeper.serving
    await story.play(500)
    assert story.at(ReplicaPhase.ASLEEP), "no liveness probe wakes or kills a sleeper"
    story.keeper.rouse()
    await story.until(ReplicaPhase.READY)
    assert not story.service.asleep
    assert len(story.service.processes) == 1
    await story.end(task)


@pytest.mark.parametrize("asleep", [False, True])
async def test_one_that_refuses_to_sleep_or_to_wake_is_stopped(story: Story, asleep: bool) -> None:
    task = asyncio.create_task(story.keeper.run())
    await story.until(ReplicaPhase.READY)
    story.service.quiet = True
    if asleep:
        story.keeper.doze("because")
        await story.until(ReplicaPhase.ASLEEP)
    story.service.refuses = "it answered 500"
    story.keeper.rouse() if asleep else story.keeper.doze("because")
    await story.until(ReplicaPhase.STOPPED if asleep else ReplicaPhase.FAILED)
    assert "it answered 500" in "".join(story.told)
    story.service.refuses = None
    await story.end(task)


async def test_a_sleeper_that_dies_is_seen(story: Story) -> None:
    task = asyncio.create_task(story.keeper.run())
    await story.until(ReplicaPhase.READY)
    story.service.quiet = True
    story.keeper.doze("because")
    await story.until(ReplicaPhase.ASLEEP)
    story.service.processes[0].die(137)
    await story.until(ReplicaPhase.FAILED)
    await story.end(task)


async def test_a_crash_is_restarted_after_a_back_off(story: Story) -> None:
    task = asyncio.create_task(story.keeper.run())
    await story.until(ReplicaPhase.READY)
    story.service.processes[0].die(137)
    await story.until(ReplicaPhase.FAILED)
    assert story.told[-1] == "failed: killed by signal 9"
    await story.until(ReplicaPhase.READY)
    assert len(story.service.processes) == 2
    await story.end(task)


async def test_one_that_never_loads_is_killed_when_its_budget_is_over(story: Story) -> None:
    story.service.load_s = 1e9
    task = asyncio.create_task(story.keeper.run())
    await story.until(ReplicaPhase.FAILED)
    assert "start-up budget of 60 s" in story.told[-1]
    await story.until(ReplicaPhase.STARTING)
    assert story.service.processes[0].said[0][0] == "kill"
    await story.end(task)


async def test_listening_is_not_serving(story: Story) -> None:
    """/v1/models answers 200, but no token ever comes: it never becomes ready."""
    story.service.proof = "asked for one token it answered 500"
    task = asyncio.create_task(story.keeper.run())
    await story.until(ReplicaPhase.FAILED)
    assert not any(t.startswith("ready") for t in story.told)
    await story.end(task)


async def test_a_hung_engine_whose_health_is_200_is_found_and_replaced(story: Story) -> None:
    task = asyncio.create_task(story.keeper.run())
    await story.until(ReplicaPhase.READY)
    story.service.moving, story.service.proof = False, "no token within 15 s"
    await story.until(ReplicaPhase.FAILED)
    assert "stalled" in story.told[-1]
    story.service.moving, story.service.proof = True, None
    await story.until(ReplicaPhase.READY)
    assert ("kill" in [word for word, _ in story.service.processes[0].said]) is True
    await story.end(task)


async def test_a_stopped_engine_is_replaced_within_a_minute_or_so_however_slow_it_is_planned(
    story: Story,
) -> None:
    """SIGSTOP: connections are accepted, and nothing is answered. A planned pace would explain half an hour of that."""
    story.service.prompt_token_s = 0.05
    task = asyncio.create_task(story.keeper.run())
    await story.until(ReplicaPhase.READY)
    began = story.clock.t
    story.service.deaf, story.service.proof = True, "no token within 15 s"
    await story.until(ReplicaPhase.FAILED)
    assert "nor any other question" in story.told[-1]
    assert story.clock.t - began < 90
    story.service.deaf, story.service.proof = False, None
    await story.until(ReplicaPhase.READY)
    await story.end(task)


async def test_a_prefill_of_81_seconds_is_not_a_hang(story: Story) -> None:
    """One prompt of 7,400 tokens on a CPU: no counter moves, no token comes, and the engine is well."""
    story.service.prompt_token_s = 0.005
    task = asyncio.create_task(story.keeper.run())
    await story.until(ReplicaPhase.READY)
    story.service.moving, story.service.proof = False, "no token within 15 s"
    await story.play(81)
    story.service.moving, story.service.proof = True, None
    await story.play(60)
    assert story.at(ReplicaPhase.READY), story.told
    assert len(story.service.processes) == 1
    await story.end(task)


async def test_an_idle_engine_that_answers_its_probe_is_left_alone(story: Story) -> None:
    task = asyncio.create_task(story.keeper.run())
    await story.until(ReplicaPhase.READY)
    story.service.moving = False
    await story.play(300)
    assert story.at(ReplicaPhase.READY)
    await story.end(task)


async def test_a_drain_gives_notice_first_then_term_and_waits(story: Story) -> None:
    task = asyncio.create_task(story.keeper.run())
    await story.until(ReplicaPhase.READY)
    await story.play(2)
    began = story.clock.t
    story.keeper.drain("replaced")
    await within(task, 10)
    (word, at), (last, _) = story.service.processes[0].said
    assert (word, last) == ("term", "kill")
    assert at - began >= 15
    assert "killed" not in story.told[-1]


async def test_a_drain_is_quicker_when_the_gateway_says_nothing_is_in_flight(story: Story) -> None:
    task = asyncio.create_task(story.keeper.run())
    await story.until(ReplicaPhase.READY)
    await story.play(2)
    story.service.quiet = True
    began = story.clock.t
    story.keeper.drain("replaced")
    await within(task, 10)
    assert story.service.processes[0].said[0][1] - began < 3


async def test_a_drain_that_takes_too_long_ends_in_a_kill(story: Story) -> None:
    story.service.drain_s = None
    task = asyncio.create_task(story.keeper.run())
    await story.until(ReplicaPhase.READY)
    await story.play(2)
    story.keeper.drain("replaced")
    await within(task, 10)
    words = dict(story.service.processes[0].said)
    assert words["kill"] - words["term"] >= 30
    assert story.told[-1].endswith(", killed")


async def test_one_that_still_loads_is_stopped_at_once(story: Story) -> None:
    task = asyncio.create_task(story.keeper.run())
    await story.play(1)
    story.keeper.drain("not wanted any more")
    await within(task, 10)
    assert [word for word, _ in story.service.processes[0].said] == ["kill"]


async def test_cancelled_it_leaves_no_process(story: Story) -> None:
    task = asyncio.create_task(story.keeper.run())
    await story.until(ReplicaPhase.READY)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert story.service.processes[0].exit_code == 137

"""What is said of a batch before any line of it was measured: by the steps that were planned."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.unit.batch.making import a_batch
from tests.unit.batch.played_fleet import DAY_S, FLAT, played
from tests.unit.batch.test_figures import GROWING
from tests.virtual_time import run

from seawall.batch.lines import Checked
from seawall.batch.outlook import Outlook
from seawall.cli.batch import serve
from seawall.decide.batch.planned import LineShape, PlannedSpeed, as_text, planned_speed, read_text
from seawall.decide.batch.rules import FleetRules, LaneRules
from seawall.domain.action import Plan, Timing

FLEET = FleetRules("f", frozenset({"m"}))
MEASURED = replace(FLAT, source="seawall bench of 2026-11-30")
SHAPE = LineShape(prompt_tokens=30.0, answer_tokens=24.0, units=25.5)


def speed(timing: Timing = FLAT, most: int = 1, start_s: float = 0.0) -> PlannedSpeed:
    return PlannedSpeed(timing, seats=32, kv_tokens=10**6, start_s=start_s, most=most)


@pytest.mark.parametrize(
    ("timing", "rate", "length"), [(FLAT, 6.0, 24), (GROWING, 0.0, 100), (GROWING, 6.0, 24)]
)
def test_a_finish_told_before_the_first_line_is_near_what_the_engine_does(
    tmp_path: Path, timing: Timing, rate: float, length: int
) -> None:
    """The engine is the simulated one's own scheduler; interactive requests come beside at `rate` per second."""

    async def story() -> tuple[float, float, str]:
        async with played(tmp_path, timing=timing) as lane:
            lane.outlook = lane.worker._outlook = Outlook(lane.rules, {"f": speed(timing)})
            if rate:
                traffic = asyncio.create_task(lane.fleet.interactive(lambda _: rate, 10_000, 24, seed=3))
                await asyncio.sleep(10)
            batch = await lane.submit([length] * 400)
            began = lane.now()
            await asyncio.sleep(0.3)
            told, whence = (
                lane.outlook.finish(batch.id, lane.now()),
                lane.outlook.told(batch, lane.now())["rate"],
            )
            assert told is not None and await lane.done() == 0
            over = await lane.until(400)
            if rate:
                traffic.cancel()
            return told - began, over - began, str(whence)

    told, took, whence = run(story())
    assert whence == "planned"
    assert 0.75 <= told / took <= 1.25


def refused(outlook: Outlook, lines: int, window_s: int) -> str | None:
    batch = a_batch("batch_1", window_s=window_s, created=1000)
    return outlook.refuses(
        batch, Checked(lines=lines, models={"m": lines}, units=25.5 * lines, size=120 * lines), 1000.0
    )


def test_a_window_that_even_twice_an_estimate_misses_is_refused_with_the_earliest() -> None:
    outlook = Outlook(LaneRules((FLEET,)), {"f": speed()})
    per_s = speed().units_per_s(SHAPE, 1) / SHAPE.units
    hour = int(per_s * 3600)
    assert refused(outlook, int(hour * 1.7), 3600) is None, "an estimate may be off by two"
    why = refused(outlook, hour * 4, 3600)
    assert why is not None and "is planned to do at most" in why and "earliest window" in why
    assert "with 1 replica " in why
    exact = Outlook(LaneRules((FLEET,)), {"f": speed(MEASURED)})
    assert refused(exact, int(hour * 1.7), 3600) is not None, "what was measured is believed"


def test_replicas_that_may_be_woken_count_and_so_does_their_start() -> None:
    hour = int(speed().units_per_s(SHAPE, 1) / SHAPE.units * 3600)
    four = Outlook(LaneRules((FLEET,)), {"f": speed(most=4)})
    assert refused(four, hour * 4, 3600) is None
    slow = Outlook(LaneRules((FLEET,)), {"f": speed(most=4, start_s=3000.0)})
    assert refused(slow, hour * 4, 3600) is not None, (
        "nobody serves, and it takes 50 minutes until somebody does"
    )
    slow.sees("f", 1, 0)
    assert refused(slow, hour * 4, 3600) is None


def test_a_fleet_at_rest_is_in_need_so_much_earlier_as_its_start_takes() -> None:
    batch = replace(a_batch("batch_1", model="m", window_s=3600), total=100, units=2550.0)
    at = {}
    for start in (0.0, 900.0):
        outlook = Outlook(LaneRules((FLEET,)), {"f": speed(start_s=start)})
        outlook.left(batch, 2550.0)
        at[start] = next(t for t in range(1000, 1000 + DAY_S) if outlook.needy(batch.id, float(t)))
    assert at[0.0] - at[900.0] == pytest.approx(900, abs=1)


def test_what_was_measured_is_believed_instead() -> None:
    outlook = Outlook(LaneRules((FLEET,)), {"f": speed()})
    batch = replace(a_batch("batch_1", model="m", window_s=3600), total=100, units=2550.0)
    outlook.left(batch, 2550.0)
    assert outlook.told(batch, 1000.0)["rate"] == "planned"
    outlook.pace("f").look([(0.0, 25.5)], 1.0, fell=False, more=True)
    outlook.pace("f").done(25.5, 10.0)
    assert outlook.told(batch, 1000.0)["rate"] == "measured"
    assert outlook.rate("f") == pytest.approx(2.55)


def test_without_a_plan_nothing_is_told_and_no_window_refused() -> None:
    outlook = Outlook(LaneRules((FLEET,)))
    assert refused(outlook, 10**9, 600) is None
    assert outlook.told(a_batch("batch_1"), 1000.0)["rate"] == "unknown"


def test_requests_that_are_none_take_places_and_time() -> None:
    planned = speed(
        Timing(base_s=0.0, prefill_token_s=0.0, decode_seq_s=1e-3, weight_read_s=0.0, kv_token_s=0.0)
    )
    alone, beside = planned.units_per_s(SHAPE, 2), planned.units_per_s(SHAPE, 2, busy=32)
    assert beside == pytest.approx(alone / 2), (
        "of 64 places half are theirs, and a step takes as long as before"
    )
    assert planned.units_per_s(SHAPE, 1, busy=1000) > 0


def test_a_small_cache_holds_fewer_lines_at_once() -> None:
    roomy, small = speed(), replace(speed(), kv_tokens=54 * 8)
    assert small.units_per_s(SHAPE, 1) < roomy.units_per_s(SHAPE, 1) / 3


def test_a_plan_is_carried_in_an_argument_and_one_that_does_not_fit_says_nothing() -> None:
    plan = Plan(
        fleet="f", model="m", fits=True, reason="", gpu="l4", gpus_per_replica=1, tensor_parallel=1,
        kv_cache_tokens=50_000, timing=GROWING,
    )  # fmt: skip
    made = planned_speed(plan, 3)
    assert made is not None and made.most == 3 and made.start_s == plan.startup.total_s
    assert read_text(as_text("f", made)) == ("f", made)
    assert planned_speed(replace(plan, fits=False), 3) is None


@pytest.mark.parametrize("text", ["f", "f={}", 'f={"seats": 1}', "f=[[[", "f=3", 'f={"timing": 3}'])
def test_what_is_no_plan_is_told_in_a_line(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEAWALL_BATCH_SECRET", "s")
    with pytest.raises(ValueError):
        read_text(text)
    fleet = Path(__file__).parents[3] / "examples" / "smollm2.yaml"
    argv = [str(fleet), "--gateway", "http://127.0.0.1:1", "--admin", "http://127.0.0.1:1", "--folder", "x"]
    said = CliRunner().invoke(serve, [*argv, "--planned", text])
    assert "--planned" in str(said.exception) and "is not what seawall has written" in str(said.exception)

"""What the lane is held to, in virtual time: it uses what interactive requests leave, they hardly notice, and it says
early when it will be done."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.unit.batch.played_fleet import DAY_S, FLAT, PlayedFleet, Told, played
from tests.virtual_time import quantile, run

from seawall.domain.action import Timing

GROWING = Timing(base_s=0.006, prefill_token_s=1e-4, decode_seq_s=8e-4, weight_read_s=0.012, kv_token_s=1e-8)
"""A step that takes longer the more run in it, from 15 on."""


@dataclass
class Beside:
    alone: Told
    beside: Told
    used: float
    gave_way: int


async def beside(
    folder: Path, rate: float, length: int, seconds: float = 25.0, window_s: int = DAY_S
) -> Beside:
    fleet = PlayedFleet()
    steps = asyncio.create_task(fleet.steps())
    most = await fleet.capacity(length, 30)
    alone = await fleet.interactive(lambda _: rate, seconds, 24, seed=7)
    steps.cancel()
    async with played(folder) as lane:
        await lane.submit([length] * 20_000, window_s=window_s)
        await asyncio.sleep(5 + length * 0.02)
        before, at = await lane.done(), lane.now()
        told = await lane.fleet.interactive(lambda _: rate, seconds, 24, seed=7)
        done = await lane.done() - before
        left = most - told.tokens / (lane.now() - at)
        return Beside(alone, told, done * length / (lane.now() - at) / left, lane.fleet.gave_way)


@pytest.mark.parametrize(("rate", "length"), [(6.0, 24), (12.0, 300)])
def test_interactive_requests_hardly_notice_and_what_they_leave_is_used(
    tmp_path: Path, rate: float, length: int
) -> None:
    seen = run(beside(tmp_path, rate, length))
    ratio = quantile(seen.beside.ttfts, 0.99) / quantile(seen.alone.ttfts, 0.99)
    assert ratio <= 1.1, "an interactive request has a place at once, and waits for one step of the engine"
    assert seen.used >= 0.9
    assert seen.gave_way < len(seen.beside.ttfts) / 2, "most find a place that is free"


def test_lines_whose_time_is_short_do_not_give_way_to_each_other(tmp_path: Path) -> None:
    """They wait in line as interactive requests do, and are none: to these they give way as all lines do."""
    seen = run(beside(tmp_path, 12.0, 300, seconds=60.0, window_s=3600))
    assert seen.used >= 0.8, "they take each place at once, and so lose a little more to who comes next"
    assert quantile(seen.beside.ttfts, 0.99) <= 1.1 * quantile(seen.alone.ttfts, 0.99)


async def finish(folder: Path, lengths: list[int], rate: float, timing: Timing) -> float:
    """By what share of its whole time the finish was missed that was told at a tenth of the lines."""
    async with played(folder, timing=timing) as lane:
        if rate:
            traffic = asyncio.create_task(lane.fleet.interactive(lambda _: rate, 10_000, 24, seed=3))
            await asyncio.sleep(10)
        began = lane.now()
        await lane.submit(lengths)
        await lane.until(len(lengths) // 10)
        told = lane.outlook.finish("batch_1", lane.now())
        assert told is not None
        over = await lane.until(len(lengths))
        if rate:
            traffic.cancel()
        return abs(told - over) / (over - began)


RNG = random.Random(5)


@pytest.mark.parametrize(
    ("lengths", "rate", "timing"),
    [
        ([24] * 1000, 12.0, FLAT),
        ([RNG.choice((4, 24, 120)) for _ in range(800)], 6.0, GROWING),
        (sorted(RNG.randint(5, 60) for _ in range(1200)), 0.0, FLAT),
        ([300] * 320, 0.0, GROWING),
    ],
    ids=["alike", "mixed", "short ones first", "few and long"],
)
def test_the_finish_that_is_told_at_a_tenth_is_kept(
    tmp_path: Path, lengths: list[int], rate: float, timing: Timing
) -> None:
    assert run(finish(tmp_path, lengths, rate, timing)) <= 0.15


def test_tenants_that_share_are_told_so(tmp_path: Path) -> None:
    async def two() -> tuple[float, float]:
        async with played(tmp_path) as lane:
            await lane.submit([24] * 600, "batch_a", "a")
            await lane.submit([24] * 600, "batch_b", "b")
            await lane.until(60, "batch_a")
            told = lane.outlook.finish("batch_a", lane.now())
            assert told is not None
            began = lane.now()
            return told - began, await lane.until(600, "batch_a") - began

    told, took = run(two())
    assert abs(told - took) <= 0.15 * took

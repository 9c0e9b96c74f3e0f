"""What retries and resumes throw away is counted: tokens where they are known, and the GPU time of what was lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from seawall.config.load import parse_fleets
from seawall.gateway.exchange.waste import gpus_of

from .conftest import FakeEngine
from .test_silence import SPEC, begin

SIZE = len('{"model": "m", "prompt": "x", "stream": true, "temperature": 0, "presence_penalty": 1}')


async def wasted(gateway: Any) -> tuple[int, int, float]:
    f = await gateway.reconciled()
    page = (await gateway.get("/metrics", admin=True))[2].decode()
    seconds = f["wasted_gpu_seconds_total"]
    assert f'seawall_wasted_tokens_total{{fleet="m",kind="prompt"}} {f["wasted_prompt_tokens_total"]}' in page
    assert (
        f'seawall_wasted_tokens_total{{fleet="m",kind="completion"}} {f["wasted_completion_tokens_total"]}'
        in page
    )
    assert "seawall_wasted_gpu_seconds_total" in page
    return f["wasted_prompt_tokens_total"], f["wasted_completion_tokens_total"], seconds


async def test_nothing_is_wasted_where_nothing_breaks(start: Any, engine: FakeEngine) -> None:
    gateway = await begin(start, engine)
    assert (await gateway.complete(stream=True))[0] == (await gateway.complete())[0] == 200
    assert await wasted(gateway) == (0, 0, 0)


async def test_a_replayed_stream_wastes_what_it_had(
    start: Any, engine: FakeEngine, other: FakeEngine
) -> None:
    gateway = await begin(start, engine, other)
    engine.faults = other.faults = ["cut_after_2"]
    engine.pace_s = other.pace_s = 0.05
    assert (await gateway.complete(stream=True, temperature=0, presence_penalty=1))[0] == 200
    prompt, completion, seconds = await wasted(gateway)
    assert (prompt, completion) == (SIZE // 4, 2)
    assert 0.05 < seconds < 10


async def test_a_retried_answer_wastes_its_time(start: Any, engine: FakeEngine, other: FakeEngine) -> None:
    """Nobody knows what had been generated of it."""
    gateway = await begin(start, engine, other)
    engine.always = other.always = "late"
    asked = asyncio.ensure_future(gateway.complete())
    while not (engine.open or other.open):
        await asyncio.sleep(0.01)
    first = engine if engine.open else other
    await asyncio.sleep(0.1)
    first.always = ""
    (other if first is engine else engine).always = ""
    await first.kill()
    assert (await asked)[0] == 200
    prompt, completion, seconds = await wasted(gateway)
    assert prompt > 0 and completion == 0 and seconds > 0.05


async def test_a_refused_connection_has_cost_the_engine_nothing(
    start: Any, engine: FakeEngine, other: FakeEngine
) -> None:
    gateway = await begin(start, engine, other)
    await engine.kill()
    assert {(await gateway.complete())[0] for _ in range(4)} == {200}
    assert await wasted(gateway) == (0, 0, 0)


@pytest.mark.parametrize(
    ("hardware", "gpus"),
    [
        ("{gpu: cpu}", 1),
        ("{gpu: H100-80GB, tensorParallel: 4, pipelineParallel: 2}", 8),
        ("{gpusPerReplica: 2}", 2),
    ],
)
def test_the_time_is_that_of_all_gpus_of_a_replica(hardware: str, gpus: int) -> None:
    (fleet,) = parse_fleets(SPEC + f"  hardware: {hardware}\n")
    assert gpus_of(fleet.spec) == gpus

"""The load generator: schedules are kept, capacity is found, calibration gives back what the engine was made of."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from tests.unit.load.test_measure import finished

from seawall.errors import EngineError, InputError
from seawall.load.capacity import find_capacity, search, solve
from seawall.load.client import LoadClient, RequestOutcome
from seawall.load.drive import Driver, LoadTarget, Run
from seawall.load.measure import Objective, Summary, summarise
from seawall.load.page import page
from seawall.load.prompts import Conversations, Synthetic, read_conversations


def target(url: str) -> LoadTarget:
    return LoadTarget(url=url, model="sim", ignore_eos=True)


def test_prompts_are_different_and_share_what_they_are_told_to_share() -> None:
    turns = iter(Synthetic(prompt_tokens=[50], output_tokens=[7], shared_prefix=20, groups=2))
    texts = [next(turns).messages[0]["content"] for _ in range(20)]
    assert len(set(texts)) == 20
    assert len({t.split()[:20].__str__() for t in texts}) == 2
    assert next(turns).max_tokens == 7


def test_conversations_go_turn_by_turn(tmp_path: Path) -> None:
    file = tmp_path / "share.json"
    said = [
        {"from": w, "value": v} for w, v in (("human", "a"), ("gpt", "b c"), ("human", "d"), ("gpt", "e"))
    ]
    file.write_text(json.dumps([{"conversations": said}, {"conversations": [{"from": "gpt", "value": "x"}]}]))
    talks = read_conversations(file)
    assert len(talks) == 1
    turns = iter(Conversations(talks, multi_turn=True))
    assert [len(next(turns).messages) for _ in range(4)] == [1, 3, 1, 3]
    file.write_text("{nonsense")
    with pytest.raises(InputError, match="ShareGPT"):
        read_conversations(file)


async def test_an_open_loop_keeps_its_schedule(sim_engine: str) -> None:
    turns = iter(Synthetic(prompt_tokens=[8], output_tokens=[10]))
    run = await Driver(target(sim_engine), turns).open_loop([0.0, 0.1, 0.1, 0.3])
    assert all(o.ok and o.tokens == 10 for o in run.outcomes)
    due = sorted(o.intended_s for o in run.outcomes)
    assert [round(d - due[0], 3) for d in due] == [0.0, 0.1, 0.1, 0.3]


async def test_a_closed_loop_keeps_its_number(sim_engine: str) -> None:
    turns = iter(Synthetic(prompt_tokens=[8], output_tokens=[4]))
    run = await Driver(target(sim_engine), turns).closed_loop(3, seconds=None, requests=11)
    assert len(run.outcomes) == 11
    assert run.summary().finished == 11


async def test_a_server_that_stalls_is_seen_by_every_request_that_was_due(sim_engine: str) -> None:
    """Coordinated omission: a client that waited for the stalled one would have seen one late answer of forty."""
    turns = iter(Synthetic(prompt_tokens=[8], output_tokens=[4]))
    await LoadClient(sim_engine).request("/sim/fault", {"kind": "hang", "seconds": 1.0})
    run = await Driver(target(sim_engine), turns).open_loop([i * 0.025 for i in range(40)])
    seen = run.summary()
    assert seen.finished == 40
    assert seen.ttft is not None and seen.late is not None
    assert seen.ttft.max > 0.8
    assert seen.ttft.percentiles["p50"] > 0.25
    assert seen.late.percentiles["p50"] < 0.1


@pytest.mark.parametrize("honour", [True, False])
async def test_a_429_is_an_error_or_waited_out_as_asked(honour: bool) -> None:
    asked: list[float] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split()[0]))
        asked.append(time.monotonic())
        body = json.dumps(
            {"choices": [{"text": "a", "finish_reason": "stop"}], "usage": {"completion_tokens": 5}}
        )
        status = "429 Too Many Requests\r\nretry-after: 0.4" if len(asked) == 1 else "200 OK"
        answer = f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n{body}"
        writer.write(answer.encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        wanted = LoadTarget(url=url, model="m", endpoint="completions", stream=False, honour_429=honour)
        driver = Driver(wanted, iter(Synthetic(prompt_tokens=[4], output_tokens=[4])))
        seen = (await driver.closed_loop(1, seconds=None, requests=1)).summary()
    if not honour:
        assert (seen.finished, seen.errors, len(asked)) == (0, {"http-429": 1}, 1)
        return
    assert (seen.finished, seen.retried_after_429) == (1, 1)
    assert asked[1] - asked[0] >= 0.4
    assert seen.ttft is not None and seen.ttft.max >= 0.4, "it counts from the first try"
    assert seen.tpot is None, "an answer that comes whole has no time per token"


async def test_a_server_too_slow_for_one_request_has_no_capacity(sim_engine: str) -> None:
    said: list[str] = []

    def driver(count: int, turn: int) -> Driver:
        return Driver(target(sim_engine), iter(Synthetic(prompt_tokens=[8], output_tokens=[4], seed=turn)))

    found = await search(driver, lambda _, go: go(), Objective(e2e_s=0.0001), 1.0, said.append)
    assert (found.rate, found.probes) == (0.0, [])
    assert said == ["one request at a time misses the objective"]


async def test_a_search_asks_nothing_twice_and_enough_to_tell() -> None:
    asked: list[tuple[int, int]] = []

    def driver(count: int, turn: int) -> Driver:
        asked.append((count, turn))
        return Driver(target("http://127.0.0.1:9"), iter(()))

    async def ran(_: Driver, go: object) -> Run:
        ttft = 0.1 if len(asked) < 5 else 9.0
        return Run([finished(i, i, i + ttft, i + ttft + 1) for i in range(30)], 30.0, 0.1, 0)

    found = await search(driver, ran, Objective(ttft_s=1.0), 2.0, lambda _: None)
    turns = [turn for _, turn in asked]
    assert len(set(turns)) == len(turns) > 4, "a prompt that was sent before is answered by the prefix cache"
    assert min(count for count, turn in asked if turn > 1) == 25
    assert found.rate == pytest.approx(2.0, rel=0.1), "30 of 30 in 30 s start the search at 1/s"
    assert found.run.summary(Objective(ttft_s=1.0)).good == 30


async def test_the_capacity_is_found_between_what_holds_and_what_does_not() -> None:
    async def run_at(rate: float) -> Summary:
        ttft = 0.1 if rate <= 13 else 9.0
        return summarise([finished(0, 0, ttft, ttft + 1)], 1.0, Objective(ttft_s=1.0))

    rate, probes = await find_capacity(run_at, 2.0)
    assert 12 <= rate <= 13
    assert len(probes) <= 12
    none, _ = await find_capacity(run_at, 1e9)
    assert none == 0 or none <= 13


def test_calibration_explains_what_it_saw() -> None:
    timing = solve(
        alone_tpot_s=0.02, many=64, many_tpot_s=0.1, prompt_tokens=1000, prefill_s=0.204, source="x"
    )
    assert timing.step_s(0, 1, 0) == pytest.approx(0.02)
    assert timing.step_s(0, 64, 0) == pytest.approx(0.1, rel=0.01)
    assert timing.step_s(1000, 0, 0) == pytest.approx(0.204, rel=0.01)


def test_a_calibration_that_was_disturbed_is_refused() -> None:
    with pytest.raises(EngineError, match="815 ms a token, 64 together 96 ms"):
        solve(alone_tpot_s=0.815, many=64, many_tpot_s=0.096, prompt_tokens=500, prefill_s=0.2, source="x")


def test_the_report_stands_alone() -> None:
    outcomes = [finished(i, i, i + 0.1, i + 1) for i in range(5)]
    text = page("<bench>", summarise(outcomes, 6), outcomes, {"url": "http://x"})
    assert "<svg" in text
    assert "&lt;bench&gt;" in text
    assert "<script" not in text
    assert "src=" not in text
    assert 'name="viewport"' in text and "prefers-color-scheme:dark" in text


def test_the_report_shows_throughput_distributions_and_objectives_over_labelled_axes() -> None:
    outcomes = [finished(i, i, i + 0.1 * (i % 4 + 1), i + 2) for i in range(20)]
    outcomes.append(RequestOutcome(intended_s=3.0, ended_s=3.1, error="reset"))
    aims = Objective(ttft_s=0.3)
    text = page("bench", summarise(outcomes, 20), outcomes, {}, aims)
    titles = ("Requests", "Output tokens, by when their answer ended", "Time to first token: distribution")
    for words in (*titles, "per second", "time since the start"):
        assert f">{words}<" in text, words
    assert text.count("objective 300 ms") >= 2, "over time, and in the distribution"
    assert ">p50 200 ms<" in text and ">p99 400 ms<" in text
    assert ">failed<" in text


def test_a_run_of_which_nothing_finished_has_a_report_too() -> None:
    outcomes = [RequestOutcome(intended_s=0.0, ended_s=0.0, error="connect")]
    assert "nothing was measured" in page("bench", summarise(outcomes, 1), outcomes, {})
    assert "nothing was measured" in page("bench", summarise([], 1), [], {})

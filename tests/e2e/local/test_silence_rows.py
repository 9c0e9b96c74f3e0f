"""What silence was once taken for, row by row of docs/reference/liveness.md, from outside: processes and HTTP only.

So the same stories run against any state of the sources: SEAWALL_ROWS=SRC_FOLDER says whose gateway is tried (`here`:
these). They take as long as the silences that they are about, two minutes when run at once, and are run by hand:

    SEAWALL_ROWS=here pytest -n 10 tests/e2e/local/test_silence_rows.py
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from tests.e2e.local.up_process import seawall_up
from tests.unit.gateway.conftest import FakeEngine
from tests.unit.gateway.processes import Process, gateway_process
from tests.within import within

from seawall.engines.vllm import metrics as names

TRIED = os.environ.get("SEAWALL_ROWS", "")
pytestmark = [
    pytest.mark.skipif(not TRIED, reason="SEAWALL_ROWS says whose gateway is tried"),
    pytest.mark.timeout(400),
]
SPEC = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: m}
spec:
  model: {source: file:///none}
  gateway: {resume: exact}
"""
"""No time-outs: the defaults."""
UP = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: m}
spec:
  model: {source: "hf://example/tiny"}
  engine: {kind: sim, maxNumBatchedTokens: 2048, extraArgs: [--sim-timing, TIMING]}
  hardware: {gpu: cpu, cloud: local}
  traffic: {maxContext: 2k}
  scaling: {min: 1, max: 1}
"""


def source() -> str:
    return ":" if TRIED == "here" else f"export PYTHONPATH={TRIED}"


@contextlib.asynccontextmanager
async def gateway(folder: Path, *engines: FakeEngine, args: tuple[str, ...] = ()) -> AsyncIterator[Process]:
    (folder / "f.yaml").write_text(SPEC)
    urls = ",".join(e.url for e in engines)
    async with gateway_process(folder / "f.yaml", f"static:{urls}", *args, shell=source()) as started:
        yield started


async def complete(gateway: Process, **fields: Any) -> httpx2.Response:
    body = {"model": "m", "prompt": "x", "temperature": 0, **fields}
    async with httpx2.AsyncClient(timeout=None, trust_env=False) as client:
        return await client.post(f"http://127.0.0.1:{gateway.port}/v1/completions", json=body)


async def evictions(gateway: Process) -> int:
    return sum(r["evictions"] for r in (await gateway.state())["replicas"].values())


def asks(*engines: FakeEngine) -> int:
    """Requests of clients that they were given, continuations too; no asks of the gateway's own."""
    bodies = [b for e in engines for _, _, b in e.log if b is not None]
    return sum(b.get("prompt") != "a" and "return_tokens_as_token_ids" not in b for b in bodies)


async def until(true: Callable[[], Any], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def computing(*engines: FakeEngine) -> AsyncIterator[None]:
    """Step after step, as their counters say; what is asked is answered as they like."""

    async def steps() -> None:
        while True:
            for engine in engines:
                engine.steps += 1
            await asyncio.sleep(0.5)

    task = asyncio.ensure_future(steps())
    try:
        yield
    finally:
        task.cancel()


async def left_alone(folder: Path, fault: str, seconds: float, **fields: Any) -> None:
    """Two healthy engines are silent for so long, and at work: nobody asks again, and nobody is taken out."""
    async with (
        FakeEngine() as one,
        FakeEngine() as two,
        computing(one, two),
        gateway(folder, one, two) as tried,
    ):
        if fault:
            one.always = two.always = fault
        else:
            one.gate = two.gate = asyncio.Event()
        asked = asyncio.ensure_future(complete(tried, **fields))
        await until(lambda: asks(one, two))
        await asyncio.wait([asked], timeout=seconds)
        assert (asked.done(), asks(one, two), await evictions(tried)) == (False, 1, 0)
        one.always = two.always = ""
        for engine in (one, two):
            engine.let_go.set()
            if engine.gate is not None:
                engine.gate.set()
        assert (await within(asked, 30)).status_code == 200


async def test_a_whole_answer_of_more_than_120_seconds(tmp_path: Path) -> None:
    await left_alone(tmp_path, "", 130.0, max_tokens=5000)


def test_a_prefill_of_81_seconds_in_one_step(tmp_path: Path) -> None:
    """Under `seawall up`: its supervisor restarted the engine after 42 s."""
    timing = {"base_s": 0.01, "prefill_token_s": 0.081, "decode_seq_s": 1e-5, "weight_read_s": 0.01,
              "kv_token_s": 0.0, "source": "a slow CPU"}  # fmt: skip
    path = tmp_path / "f.yaml"
    path.write_text(UP.replace("TIMING", json.dumps(json.dumps(timing))))
    with seawall_up(tmp_path / "up", str(path), env={} if TRIED == "here" else {"PYTHONPATH": TRIED}) as up:
        up.settled(240)
        before = up.status()["replicas"]
        prompt = {"model": "m", "prompt": "word " * 500, "max_tokens": 5, "temperature": 0}
        answer = httpx2.post(f"{up.url}/v1/completions", json=prompt, timeout=None, trust_env=False)
        assert answer.status_code == 200, answer.text
        after = up.status()["replicas"]
        assert [(r["name"], r["pid"]) for r in after] == [(r["name"], r["pid"]) for r in before]


async def test_comments_before_the_first_token(tmp_path: Path) -> None:
    await left_alone(tmp_path, "comments_first", 35.0, stream=True)


async def test_a_tool_call_that_is_held_back_behind_the_first_token(tmp_path: Path) -> None:
    await left_alone(tmp_path, "", 35.0, stream=True)


async def test_the_only_replica_comes_back_after_85_seconds(tmp_path: Path) -> None:
    async with FakeEngine() as engine:
        seen = {"replicas": [{"name": "a", "fleet": "m", "url": engine.url}]}
        (tmp_path / "d.json").write_text(json.dumps(seen))
        (tmp_path / "f.yaml").write_text(SPEC)
        discovery = f"file:{tmp_path / 'd.json'}"
        async with gateway_process(tmp_path / "f.yaml", discovery, shell=source()) as tried:
            engine.gate = asyncio.Event()
            asked = asyncio.ensure_future(complete(tried, stream=True))
            await until(lambda: asks(engine))
            (tmp_path / "new.json").write_text(json.dumps({"replicas": [], "coming": ["m"]}))
            await engine.kill()
            (tmp_path / "new.json").rename(tmp_path / "d.json")
            await asyncio.wait([asked], timeout=85)
            engine.gate.set()
            await engine.start()
            (tmp_path / "new.json").write_text(json.dumps(seen))
            (tmp_path / "new.json").rename(tmp_path / "d.json")
            answer = await within(asked, 60)
            assert b"[DONE]" in answer.content and b"error" not in answer.content, answer.content


async def test_resets_of_replicas_that_live_and_prove_it_late(tmp_path: Path) -> None:
    async with FakeEngine() as one, FakeEngine() as two, gateway(tmp_path, one, two) as tried:
        one.always = two.always = "reset"
        asked = asyncio.ensure_future(complete(tried))
        await until(lambda: asks(one, two) >= 2)
        await asyncio.wait([asked], timeout=3)  # a busy machine: nobody has died, no proof is in yet
        one.always = two.always = ""
        answer = await within(asked, 60)
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("stream", [False, True])
async def test_what_waits_at_an_engine_that_accepts_and_never_answers(tmp_path: Path, stream: bool) -> None:
    async with FakeEngine() as one, FakeEngine() as two, gateway(tmp_path, one, two) as tried:
        one.page = two.page = f"{names.PREFILL_S} 0.2\n{names.PREFILLED_TOKENS} 10000\n"
        one.always = "hang"
        answers = await within(
            asyncio.gather(*(complete(tried, stream=stream, seed=n) for n in range(4))), 90
        )
        assert {a.status_code for a in answers} == {200}


async def test_the_death_of_one_of_two_gateways(tmp_path: Path) -> None:
    async with FakeEngine() as engine, gateway(tmp_path, engine, args=("--workers", "2")) as tried:
        engine.gate, engine.tokens = asyncio.Event(), 20
        asked = [asyncio.ensure_future(complete(tried, stream=True)) for _ in range(20)]
        await until(lambda: asks(engine) == 20)
        await asyncio.sleep(1)  # the first token is on its way
        below = psutil.Process(tried.child.pid).children(recursive=True)
        holding = [p for p in below if any(c.status == "ESTABLISHED" for c in p.net_connections("tcp"))]
        clients = [p for p in holding if any(c.laddr.port == tried.port for c in p.net_connections("tcp"))]
        serves = [p for p in clients if "-S" not in p.cmdline()]  # no keeper
        os.kill(serves[0].pid, signal.SIGKILL)
        await asyncio.sleep(2)
        engine.gate.set()
        answers = await within(asyncio.gather(*asked, return_exceptions=True), 60)
        lost = [a for a in answers if isinstance(a, BaseException) or b"[DONE]" not in a.content]
        assert not lost, f"{len(lost)} of 20: {lost[0]!r}"


async def test_one_odd_prompt(tmp_path: Path) -> None:
    async with FakeEngine() as one, FakeEngine() as two, gateway(tmp_path, one, two) as tried:
        one.always = two.always = "500"
        assert {(await complete(tried, prompt="odd", seed=n)).status_code for n in range(6)} == {500}
        assert (await evictions(tried), asks(one, two) <= 8) == (0, True)

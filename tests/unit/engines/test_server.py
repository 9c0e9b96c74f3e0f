"""The simulated server's life: slow loading, the ways to die, and what its flags do."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from tests.engine_metrics import until
from tests.within import within

from seawall.engines.sim.asks import MAX_N, ApiRefusal, read
from seawall.engines.sim.language import Sampling, answer
from seawall.engines.sim.tokens import vocabulary
from seawall.load.client import ClientPatience, LoadClient, RequestOutcome

BODY: dict[str, Any] = {"model": "sim", "prompt": "the tide", "temperature": 0, "max_tokens": 60, "ignore_eos": True,
                        "stream": True, "return_token_ids": True}  # fmt: skip
SHORT = ClientPatience(first_s=30.0, stall_s=4.0, total_s=60)
Start = Callable[..., Awaitable["Running"]]


class Running:
    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process, self.url = process, url

    async def stream(self, **fields: Any) -> RequestOutcome:
        client = LoadClient(self.url)
        outcome = await client.request("/v1/completions", {**BODY, **fields}, patience=SHORT)
        client.close()
        return outcome


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    children: list[asyncio.subprocess.Process] = []

    async def made(*flags: str) -> Running:
        argv = ["-m", "seawall", "engine", "sim", "--port", "0", "--model-name", "sim", "--sim-step", "0.02"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *argv, *flags, stdout=asyncio.subprocess.PIPE
        )
        children.append(process)
        assert process.stdout is not None
        line = await within(process.stdout.readline(), 90)
        return Running(process, line.decode().split()[-1])

    yield made
    for child in children:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def test_what_it_says_is_the_pure_function(start: Start) -> None:
    engine = await start("--sim-step", "0")
    outcome = await engine.stream()
    ids = answer(vocabulary().encode("the tide"), 60, Sampling(ignore_eos=True))
    assert outcome.ids == ids
    assert "".join(outcome.text).startswith(vocabulary().decode(ids)[:20])


@pytest.mark.parametrize(
    ("how", "error"), [("hang", "stalled"), ("error", "error-event"), ("abort", "aborted")]
)
async def test_sigterm_without_a_drain(start: Start, how: str, error: str) -> None:
    engine = await start("--sim-sigterm", how)
    stream = asyncio.ensure_future(engine.stream(max_tokens=500))
    await until(engine.url, "generation_tokens_total", 1)
    engine.process.send_signal(signal.SIGTERM)
    assert (await stream).error == error
    assert await within(engine.process.wait(), 20) == 0


async def test_a_drain_that_is_too_short_hangs_its_streams(start: Start) -> None:
    engine = await start("--shutdown-timeout", "0.3")
    stream = asyncio.ensure_future(engine.stream(max_tokens=500))
    await until(engine.url, "generation_tokens_total", 1)
    engine.process.send_signal(signal.SIGTERM)
    assert (await stream).error == "stalled"


async def test_a_dead_engine_ends_its_streams_and_the_process(start: Start) -> None:
    engine = await start()
    stream = asyncio.ensure_future(engine.stream(max_tokens=500))
    await until(engine.url, "generation_tokens_total", 1)
    client = LoadClient(engine.url)
    await client.request("/sim/fault", {"kind": "engine-dead"})
    assert (await stream).error == "error-event"
    assert await within(engine.process.wait(), 20) == 1


async def test_keep_alive_comments_go_on_while_it_hangs(start: Start) -> None:
    engine = await start("--sse-keep-alive-interval", "0.2")
    host, port = engine.url.removeprefix("http://").split(":")
    client = LoadClient(engine.url)
    await client.request("/sim/fault", {"kind": "hang"})
    reader, writer = await asyncio.open_connection(host, int(port))
    body = b'{"model":"sim","prompt":"x","stream":true}'
    head = f"POST /v1/completions HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    seen = b""
    while seen.count(b": keep-alive") < 2:
        seen += await within(reader.read(1000), 10)
    assert b"data:" not in seen
    assert (await client.get("/health"))[0] == 200
    writer.close()


async def test_an_order_that_is_not_understood_is_refused(start: Start) -> None:
    engine = await start()
    client = LoadClient(engine.url)
    for order in ({"kind": "earthquake"}, {"kind": "eof", "afterTokens": 3}):
        assert (await client.request("/sim/fault", order)).status == 400
    assert (await engine.stream(max_tokens=3)).ok


async def test_adapters_and_embeddings(start: Start) -> None:
    engine = await start("--lora-modules", "poet=/adapters/poet")
    plain, poet = await engine.stream(max_tokens=20), await engine.stream(model="poet", max_tokens=20)
    assert plain.ids != poet.ids
    pooling = LoadClient((await start("--runner", "pooling")).url)
    outcome = await pooling.request("/v1/embeddings", {"model": "sim", "input": ["a", "b"]})
    assert outcome.status == 200


async def test_a_flag_that_vllm_does_not_know_is_refused() -> None:
    argv = ["-m", "seawall", "engine", "sim", "--swap-space", "4"]
    process = await asyncio.create_subprocess_exec(sys.executable, *argv, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    assert process.returncode == 2
    assert b"unrecognized arguments: --swap-space" in said


def test_no_request_asks_for_answers_without_end() -> None:
    """vLLM's own bound: without one a request would have the engine make places for its answers for ever."""
    for n in (MAX_N + 1, 2**63):
        with pytest.raises(ApiRefusal, match="n must be at most"):
            read({"prompt": "x", "n": n, "temperature": 1}, False, vocabulary(), ["m"], random.Random(1))

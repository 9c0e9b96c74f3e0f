"""Scenarios in which silence, and a process that is gone, must not be taken for the end of a request.

Each has requests of its own: whole answers, prompts and pauses that last longer than the others' time-outs. What their
clients saw is the verdict's; here is seen what was done to replicas that were well.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence

from seawall.prove.cases import CaseRequest
from seawall.prove.stage import Stage

Asks = Callable[[str, bool], list[CaseRequest]]
"""(model, whether its engines are real ones) -> the requests of a scenario. Few of a real one: a CPU makes some ten
tokens a second, and the right answers are learnt one after another."""
TOPICS = ("tides", "a lock", "the mole", "a pilot", "ballast", "a foghorn")


def long_answers(model: str, real: bool) -> list[CaseRequest]:
    """Whole answers, long enough to be put together from streams."""
    if real:
        return [_whole(model, topic, 257) for topic in TOPICS[:2]]
    return [_whole(model, topic, 260 + 10 * i) for i, topic in enumerate(TOPICS)]


def _whole(model: str, topic: str, tokens: int) -> CaseRequest:
    said = [{"role": "user", "content": f"Tell a long story about {topic}."}]
    body = {"model": model, "temperature": 0, "max_tokens": tokens, "ignore_eos": True, "messages": said}
    return f"whole {topic}", "/v1/chat/completions", {**body, "stream": False}


def long_prompts(model: str, real: bool) -> list[CaseRequest]:
    """Prompts that an engine computes in one silent step of many seconds."""
    if real:
        return [_prompt(model, topic, 600) for topic in TOPICS[:4]]
    return [_prompt(model, topic, 1100) for topic in TOPICS]


def _prompt(model: str, topic: str, words: int) -> CaseRequest:
    body = {"model": model, "temperature": 0, "max_tokens": 8, "ignore_eos": True, "stream": True}
    return f"prompt {topic}", "/v1/completions", {**body, "prompt": f"{topic}:" + " sea" * words}


def held_back(model: str, real: bool) -> list[CaseRequest]:
    """Streams that are silent between their first token and their last, as a tool call is that the engine's parser
    holds back until it is whole."""
    if real:
        return [_held(model, topic, 90) for topic in TOPICS[:2]]
    return [_held(model, topic, 60) for topic in TOPICS]


def _held(model: str, topic: str, tokens: int) -> CaseRequest:
    body = {"model": model, "temperature": 0, "max_tokens": tokens, "ignore_eos": True, "stream": True}
    return f"held {topic}", "/v1/completions", {**body, "prompt": f"About {topic}:", "stream_interval": 1000}


SLOW_PROMPT = 1100
"""Words of a long prompt; a simulated engine makes a token of each."""
STEP_S = 0.12
"""A simulated step: 8 tokens per second and stream, so that a hundred streams leave two cores to other scenarios."""


def slow_requests(silent_s: float) -> Asks:
    """A long prompt, two whole answers and one held back, each without a word for so many seconds."""
    tokens = round(silent_s / STEP_S)

    def asks(model: str, real: bool) -> list[CaseRequest]:
        prompt = _prompt(model, "the tide gauge", SLOW_PROMPT)
        return [
            prompt,
            *(_whole(model, topic, tokens) for topic in TOPICS[:2]),
            _held(model, "a tender", tokens),
        ]

    return asks


async def long_answer(stage: Stage) -> None:
    before, count = await _evictions(stage), len(await stage.ready())
    await asyncio.sleep(2.5)
    victim = await stage.victim()
    stage.mark(f"kill -9 {victim.name}, in the middle of whole answers")
    stage.signal(victim.pid, signal.SIGKILL)
    await asyncio.sleep(6.0)
    await _left_alone(stage, before, but=victim.name)
    if not stage.slow:
        await stage.until_ready(count, 30.0)
        stage.mark(f"{count} ready again")


async def long_prefill(stage: Stage) -> None:
    await _bears(stage, "every replica computes a prompt and shows nothing", 14.0)


async def held_tokens(stage: Stage) -> None:
    await _bears(stage, "engines hold back what follows the first token", 7.0)


def healthy_slow(silent_s: float) -> Callable[[Stage], Awaitable[None]]:
    """Until shortly before the first of them may end: each client asks once."""

    async def play(stage: Stage) -> None:
        await _bears(
            stage, f"a prefill, whole answers, a held-back call: silence of {silent_s:.0f} s", 0.9 * silent_s
        )

    return play


async def _bears(stage: Stage, what: str, seconds: float) -> None:
    """Nothing happens but silence: nobody is evicted, restarted or asked twice."""
    before, pids = await _evictions(stage), await _pids(stage)
    counted = await stage.totals()
    stage.mark(what)
    await asyncio.sleep(seconds)
    await _left_alone(stage, before)
    now = await stage.totals()
    again = now.retried_total + now.resumed_total - counted.retried_total - counted.resumed_total
    if again:
        stage.fail(f"{again} requests were asked again, though their replicas were at work")
    if await _pids(stage) != pids:
        stage.fail("a replica was restarted, though it was at work")


async def lone_replica(stage: Stage) -> None:
    await stage.until_busy("a stream to lose")
    (victim,) = await stage.ready()
    stage.mark(f"kill -9 {victim.name}, the only replica")
    stage.signal(victim.pid, signal.SIGKILL)

    async def back() -> bool:
        return [r.pid for r in await stage.ready()] not in ([], [victim.pid])

    await stage.until("its successor", back, 900.0 if stage.slow else 60.0)
    stage.mark("it is back")


async def _evictions(stage: Stage) -> dict[str, int]:
    return {name: r.evictions for name, r in (await stage.gateway_state()).replicas.items()}


async def _pids(stage: Stage) -> dict[str, int]:
    return {r.name: r.pid for r in await stage.deployment.replicas()}


async def _left_alone(stage: Stage, before: dict[str, int], but: str = "") -> None:
    """Replicas that were well have not been taken out of service."""
    now = await _evictions(stage)
    out: Sequence[str] = [n for n, times in now.items() if n != but and times > before.get(n, 0)]
    for name in out:
        stage.fail(f"{name} was evicted {now[name] - before.get(name, 0)} times, though it was well")

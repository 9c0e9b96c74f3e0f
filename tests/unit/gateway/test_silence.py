"""Silence is not death: what is slow and healthy is left alone, what hangs is left, by evidence and at the defaults."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from random import Random
from time import monotonic
from typing import Any

import pytest
from tests.within import within

from seawall.decide.route.admit import Bounds
from seawall.decide.route.desk import Desk, DeskRules
from seawall.decide.route.evidence import Pace, Patience
from seawall.decide.route.pick import Target
from seawall.domain.seen import Replica
from seawall.engines.vllm import metrics as names
from seawall.gateway.replicas.watch import Watch

from .conftest import FakeEngine, Gateway

SPEC = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: m}
spec:
  model: {source: file:///none}
  engine: {maxNumBatchedTokens: 16}
  gateway: {resume: exact}
"""
"""No time-outs: the defaults. A step takes 16 tokens, so it is planned to take 16 ms, and may take 160."""
SHORT = Patience(quiet_s=0.2, still_s=0.2)
LONG_PREFILL = SPEC.replace("16}", "1000}")
"""A step of a second as planned: ten seconds of silence are explained."""


async def begin(start: Any, *engines: FakeEngine, spec: str = SPEC) -> Gateway:
    gateway: Gateway = await start(*engines, spec=spec, patience=SHORT)
    return gateway


async def until(true: Callable[[], Any], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


def asks(engine: FakeEngine) -> int:
    """Requests of clients that it was given; not ours for one token, or for answers that are known."""
    clients = [b for _, _, b in engine.log if b is not None and "return_tokens_as_token_ids" not in b]
    return sum(body.get("prompt") != "a" for body in clients)


async def works_on(engine: FakeEngine, gateway: Gateway, seconds: float) -> None:
    """It computes step after step, and answers nothing."""
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        engine.steps += 1
        await asyncio.sleep(0.05)


async def replicas(gateway: Gateway) -> dict[str, Any]:
    return {r["url"]: r for r in (await gateway.state())["replicas"].values()}


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_takes_long_is_not_cut(
    start: Any, engine: FakeEngine, other: FakeEngine, stream: bool
) -> None:
    """A whole answer of minutes; a tool call that the engine's parser holds back behind the first token."""
    gateway = await begin(start, engine, other)
    engine.gate, other.gate = asyncio.Event(), asyncio.Event()
    asked = asyncio.ensure_future(gateway.complete(stream=stream, temperature=0, max_tokens=5000))
    await until(lambda: engine.open or other.open)
    busy = engine if engine.open else other
    await works_on(busy, gateway, 2.0)
    assert not asked.done()
    assert [r["evictions"] for r in (await replicas(gateway)).values()] == [0, 0]
    engine.gate.set(), other.gate.set()
    assert (await asked)[0] == 200
    assert asks(engine) + asks(other) == 1, "it was asked for once"


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_odd_prompt_that_every_engine_refuses_speaks_against_none_of_them(
    start: Any, engine: FakeEngine, other: FakeEngine, stream: bool, at_once: bool
) -> None:
    """Three 5xx answers to it, and both replicas were evicted: everybody else waited; and each request of six was asked
    three times."""
    gateway = await begin(start, engine, other)
    engine.always = other.always = "500"
    asked = [gateway.complete(prompt="odd", stream=stream, seed=n) for n in range(6)]
    if at_once:
        answers = await asyncio.gather(*asked)
    else:
        answers = [await one for one in asked]
    assert {a[0] for a in answers} == {500}
    engine.always = other.always = ""
    assert [r["evictions"] for r in (await replicas(gateway)).values()] == [0, 0]
    assert asks(engine) + asks(other) == 8, "two second opinions, and then every replica's is known"
    assert (await gateway.complete(prompt="plain"))[0] == 200


async def test_a_prompt_that_was_refused_is_asked_everywhere_while_its_replica_fails_others(
    start: Any, engine: FakeEngine, other: FakeEngine
) -> None:
    """Both were ill; one has recovered: the other's 5xx is no word about the prompt."""
    gateway = await begin(start, engine, other)
    engine.always = other.always = "500"
    for prompt in ("one", "two"):
        assert (await gateway.complete(prompt=prompt))[0] == 500
    engine.always = ""
    for _ in range(4):
        assert (await gateway.complete(prompt="one"))[0] == 200


async def test_a_prefill_without_any_sign_is_not_cut(
    start: Any, engine: FakeEngine, other: FakeEngine
) -> None:
    """One long step: no counter moves, and the ask for one token waits behind it."""
    gateway = await begin(start, engine, other, spec=LONG_PREFILL)
    engine.always = other.always = "late"
    asked = asyncio.ensure_future(gateway.complete(stream=True, temperature=0))
    await asyncio.sleep(2.5)
    assert not asked.done()
    assert [r["evictions"] for r in (await replicas(gateway)).values()] == [0, 0]
    engine.always = other.always = ""
    engine.let_go.set(), other.let_go.set()
    assert (await asked)[0] == 200
    assert asks(engine) + asks(other) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_what_waits_at_a_replica_that_hangs_is_moved(
    start: Any, engine: FakeEngine, other: FakeEngine, stream: bool
) -> None:
    gateway = await begin(start, engine, other)
    engine.always = "hang"
    answers = await asyncio.gather(*(gateway.complete(stream=stream, temperature=0) for _ in range(4)))
    assert {a[0] for a in answers} == {200}
    seen = (await replicas(gateway))[engine.url]
    assert seen["evictions"] == 1
    assert "for one token unanswered" in seen["reason"]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_engine_that_answers_nothing_at_all_is_left_whatever_its_work_would_explain(
    start: Any, engine: FakeEngine, other: FakeEngine, stream: bool
) -> None:
    """A process that was stopped: minutes of silence were explained by a step of 8,192 tokens, as planned."""
    gateway = await begin(start, engine, other, spec=SPEC.replace("16}", "8192}"))
    engine.deaf = True
    asked = [gateway.complete(stream=stream, temperature=0) for _ in range(4)]
    async with asyncio.timeout(60):
        assert {a[0] for a in await asyncio.gather(*asked)} == {200}
    seen = (await replicas(gateway))[engine.url]
    assert seen["evictions"] == 1 and "nor any other question" in seen["reason"]


NAMED = {"type": "function", "function": {"name": "greet"}}


@pytest.mark.parametrize("choice", [NAMED, "required", "auto"], ids=["named", "required", "auto"])
async def test_whole_tool_calls_go_as_they_are_and_evidence_watches_them(
    start: Any, engine: FakeEngine, other: FakeEngine, choice: Any
) -> None:
    """Not cut while the engine works, moved when it hangs, ended when the client leaves."""
    gateway = await begin(start, engine, other)
    body = {"model": "m", "messages": [], "tools": [NAMED], "tool_choice": choice, "max_tokens": 5000}

    async def ask() -> int:
        return (await gateway.post("/v1/chat/completions", body))[0]

    engine.gate, other.gate = asyncio.Event(), asyncio.Event()
    asked = asyncio.ensure_future(ask())
    await until(lambda: engine.open or other.open)
    busy = engine if engine.open else other
    await works_on(busy, gateway, 1.0)
    assert not asked.done() and not busy.log[-1][2].get("stream"), "asked as it is"
    assert [r["evictions"] for r in (await replicas(gateway)).values()] == [0, 0]
    asked.cancel()
    await until(lambda: busy.cancelled == 1)
    engine.gate.set(), other.gate.set()
    engine.always = "hang"
    assert await asyncio.gather(*(ask() for _ in range(3))) == [200] * 3
    assert (await replicas(gateway))[engine.url]["evictions"] == 1


async def test_a_replica_that_has_shown_no_pace_is_taken_for_as_fast_as_its_like(
    start: Any, engine: FakeEngine, other: FakeEngine
) -> None:
    """As planned its first step might take minutes; the other one has shown that it takes a moment."""
    gateway = await begin(start, engine, other, spec=SPEC.replace("16}", "8192}"))
    other.page = f"{names.PREFILL_S} 0.1\n{names.PREFILLED_TOKENS} 20000\n"
    engine.always = "hang"
    async with asyncio.timeout(30):
        answers = await asyncio.gather(*(gateway.complete(temperature=0) for _ in range(4)))
    assert {a[0] for a in answers} == {200}
    assert (await replicas(gateway))[engine.url]["evictions"] == 1


ROUTES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "x", "n": 2, "seed": 1},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}]},
    "/v1/messages": {"messages": [{"role": "user", "content": "x"}], "max_tokens": 5},
    "/v1/responses": {"input": "x"},
    "/v1/embeddings": {"input": "x"},
    "/tokenize": {"prompt": "x"},
}


@pytest.mark.parametrize("fault", ["hang", "head_and_nothing", "half_a_body"])
async def test_a_hang_is_left_on_every_route_whatever_has_come(
    start: Any, engine: FakeEngine, other: FakeEngine, fault: str
) -> None:
    """Nothing, the head of an answer, a part of it: another replica answers, and the client cannot tell."""
    gateway = await begin(start, engine, other)
    engine.always = fault
    asked = [gateway.post(path, {"model": "m", **body}) for path, body in ROUTES.items() for _ in range(3)]
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*asked)
    assert {a[0] for a in answers} == {200} and all(b"hello" in a[2] for a in answers)
    assert (await replicas(gateway))[engine.url]["evictions"] == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_the_client_that_leaves_ends_the_engines_work_on_every_route(
    start: Any, engine: FakeEngine, stream: bool
) -> None:
    """Asked as it is, or as a stream that is put together here: nobody computes for nobody."""
    gateway = await begin(start, engine)
    engine.gate = asyncio.Event()
    for path, body in ROUTES.items():
        before, asks_before = engine.cancelled, asks(engine)
        wanted = {"model": "m", "max_tokens": 5000, "stream": stream, **body}
        asked = asyncio.ensure_future(gateway.post(path, wanted))
        await until(lambda n=asks_before: asks(engine) > n)  # type: ignore[misc]
        asked.cancel()
        await until(lambda n=before: engine.cancelled > n)  # type: ignore[misc]


async def test_a_stream_that_hangs_in_the_middle_goes_on_elsewhere(
    start: Any, engine: FakeEngine, other: FakeEngine
) -> None:
    gateway = await begin(start, engine)
    engine.faults = ["comments_after_2"]
    asked = asyncio.ensure_future(gateway.complete(stream=True, temperature=0, presence_penalty=1))
    await until(lambda: engine.open)
    engine.always = "hang"
    target = next(iter(gateway.server.app.fleets["m"].targets))
    await until(lambda: target.evictions)
    engine.always = ""
    status, _, body = await asked
    assert status == 200 and b"[DONE]" in body, "the only replica is back, and the stream is whole"


async def test_a_suspect_gets_nothing_new_and_keeps_what_it_has(
    start: Any, engine: FakeEngine, other: FakeEngine
) -> None:
    gateway = await begin(start, engine, other)
    fleet = gateway.server.app.fleets["m"]
    engine.always = "late"
    asked = []
    while not engine.open:
        asked.append(asyncio.ensure_future(gateway.complete()))
        await asyncio.sleep(0.05)
    target = next(t for t in fleet.targets if t.replica.url == engine.url)
    await until(lambda: target.suspect)
    before = asks(engine)
    assert [(await gateway.complete())[0] for _ in range(6)] == [200] * 6
    assert asks(engine) == before
    engine.steps += 1
    await until(lambda: not target.suspect)
    assert target.evictions == 0
    engine.always = ""
    engine.let_go.set()
    assert {(await a)[0] for a in asked} == {200}


class OneReplica:
    """A fleet of one replica, as its watch knows it."""

    def __init__(self) -> None:
        self.name = self.model = "m"
        self.now = monotonic
        self.pace = Pace(prompt_token_s=0.0)
        self.desk = Desk(DeskRules(4, Bounds(4)), Random(1))
        self.desk.discovered([Replica(name="a", fleet="m", url="http://127.0.0.1:1")])
        (self.target,) = self.targets = list(self.desk.router.targets.values())
        self.watch = Watch(self.and_again, SHORT)

    async def and_again(self, pool: Any, model: str, timeout_s: float) -> str:
        """It gives its token, and is evicted before anything else can happen."""
        if self.target.evictions < 3:
            asyncio.get_running_loop().call_soon(self.evict)
        return ""

    def evict(self) -> None:
        if self.desk.evict(self.target, "again, in the same breath"):
            self.watch.evicted(self, self.target)

    def pool(self, target: Target) -> Any:
        return None

    def has(self, target: Target) -> bool:
        return True

    def probing(self, target: Target) -> bool:
        return target.state in ("evicted", "probing")

    def proven(self, target: Target) -> bool:
        return self.desk.proven(target, monotonic())

    def died(self, target: Target, reason: str) -> None: ...

    def doubt(self, target: Target, reason: str) -> None: ...

    def trust(self, target: Target) -> None: ...

    def ask(self, target: Target) -> None: ...

    def asked(self, target: Target) -> None: ...

    def has_place(self, target: Target) -> bool:
        return True


async def test_an_eviction_never_falls_between_two_owners() -> None:
    """A replica that was evicted again as the one that had restored it was ending stayed out for ever."""
    fleet = OneReplica()
    fleet.evict()
    await until(lambda: fleet.target.returns == 3 and fleet.target.state == "ready")
    await fleet.watch.close()


async def opened(gateway: Gateway, **more: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    """A stream whose head has come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    body = json.dumps({"model": "m", "prompt": "x", "stream": True, "temperature": 0, **more}).encode()
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: g\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return reader, writer, await within(reader.readuntil(b"\r\n\r\n"), 10)


async def test_a_streams_head_comes_with_the_engines_and_comments_are_no_token(
    start: Any, engine: FakeEngine
) -> None:
    gateway = await begin(start, engine)
    engine.faults = ["comments_first"]
    reader, writer, head = await opened(gateway)
    assert head.startswith(b"HTTP/1.1 200"), "before anything of content"
    (exchange,) = gateway.server.app.fleets["m"].active
    await asyncio.sleep(0.3)
    assert not exchange.attempt.begun and not exchange.first_token_at, "a comment is no token"
    engine.let_go.set()
    assert b"[DONE]" in await within(reader.readuntil(b"0\r\n\r\n"), 10)
    writer.close()


async def test_a_stream_that_has_its_head_is_still_tried_elsewhere(
    start: Any, engine: FakeEngine, other: FakeEngine
) -> None:
    gateway = await begin(start, engine, other)
    engine.faults = other.faults = ["error_event"]
    status, _, body = await gateway.complete(stream=True, temperature=0)
    assert status == 200 and b"[DONE]" in body and b"error" not in body


async def test_a_stream_that_waits_in_the_queue_gets_its_head_and_signs_of_life(
    start: Any, engine: FakeEngine
) -> None:
    waits = SPEC.replace("resume: exact", "resume: exact, maxInFlight: 1, headersAfter: 300ms")
    gateway = await begin(start, engine, spec=waits)
    engine.gate = asyncio.Event()
    first = asyncio.ensure_future(gateway.complete(stream=True))
    await until(lambda: engine.open)
    reader, writer, head = await opened(gateway)
    assert head.startswith(b"HTTP/1.1 200")
    assert b": waiting" in await within(reader.readuntil(b"\n\n"), 10)
    engine.gate.set()
    assert b"[DONE]" in await within(reader.readuntil(b"0\r\n\r\n"), 10)
    assert (await first)[0] == 200
    writer.close()


async def test_a_refusal_behind_the_head_is_an_error_event(start: Any, engine: FakeEngine) -> None:
    waits = SPEC.replace("resume: exact", "resume: exact, headersAfter: 1ms, queueTimeout: 1s")
    gateway = await begin(start, engine, spec=waits)
    engine.faults = ["late400"]
    status, headers, body = await gateway.complete(stream=True)
    assert status == 200 and headers["cut"] == "True"
    assert b'data: {"error":{"message":"bad","code":400}}' in body


async def test_a_long_whole_answer_is_asked_as_a_stream_and_survives_its_replica(
    start: Any, engine: FakeEngine, other: FakeEngine
) -> None:
    gateway = await begin(start, engine, other)
    engine.faults = other.faults = ["cut_after_2"]
    status, headers, body = await gateway.complete(temperature=0, max_tokens=5000, presence_penalty=1)
    answer = json.loads(body)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert answer["choices"][0]["text"] == "t0 t1 t2 t3 t4 "
    assert [b["stream"] for _, _, b in engine.log + other.log if b.get("prompt") == "x"] == [True] * 2
    f = await gateway.reconciled()
    assert f["resumed_total"] >= 1


def generations(*engines: FakeEngine) -> list[bool]:
    """Whether each was asked for as a stream."""
    return [bool(b.get("stream")) for e in engines for _, _, b in e.log if b and b.get("prompt") == "x"]


async def plain_after_all(gateway: Gateway, **more: Any) -> None:
    """The engine's own whole answer, and nothing of the stream before it."""
    status, headers, body = await gateway.complete(temperature=0, max_tokens=5000, **more)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body)["choices"][0]["text"] == "hello"
    f = await gateway.reconciled()
    assert (f["finished_total"], f["retried_total"], f["failed_total"]) == (1, 1, 0)


async def test_a_stream_that_makes_no_answer_is_asked_again_as_it_was(start: Any, engine: FakeEngine) -> None:
    """An event that a client of the stream would have been given, and that nobody can put together."""
    gateway = await begin(start, engine)
    engine.faults = ["odd_after_2"]
    await plain_after_all(gateway)
    assert generations(engine) == [True, False]
    assert (await replicas(gateway))[engine.url]["evictions"] == 0, "it is no fault of the replica"


async def test_an_answer_that_is_too_long_to_hold_is_passed_on_as_the_engine_writes_it(
    start: Any, engine: FakeEngine
) -> None:
    gateway = await begin(start, engine)
    engine.pad, engine.tokens = "x" * 2**20, 40
    await plain_after_all(gateway)
    assert generations(engine) == [True, False]
    assert engine.open == 0, "the stream was given up"


async def test_a_whole_answer_that_cannot_be_resumed_is_asked_from_its_start(
    start: Any, engine: FakeEngine, other: FakeEngine
) -> None:
    """The client of a stream has a part of it and must be told; this one has nothing."""
    gateway = await begin(start, engine, other, spec=SPEC.replace("resume: exact", 'resume: "off"'))
    engine.faults = other.faults = ["cut_after_2"]
    await plain_after_all(gateway)
    assert generations(engine, other).count(True) == 1


async def test_a_refusal_in_the_middle_is_no_end_of_a_whole_answer(
    start: Any, engine: FakeEngine, other: FakeEngine
) -> None:
    """The engine that should go on refuses to; the client has seen nothing yet."""
    gateway = await begin(start, engine)
    engine.faults = ["cut_after_2", "400"]
    status, _, body = await gateway.complete(temperature=0, max_tokens=5000)
    assert status == 200 and json.loads(body)["choices"][0]["text"] == "hello"


async def test_a_short_whole_answer_keeps_the_engines_own_way(start: Any, engine: FakeEngine) -> None:
    gateway = await begin(start, engine)
    assert json.loads((await gateway.complete(max_tokens=200))[2])["replica"] == "a"
    assert not engine.log[-1][2].get("stream")

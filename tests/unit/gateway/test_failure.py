"""What clients see when replicas fail."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest


@pytest.mark.parametrize("fault", ["reset", "503", "drain500", "abort"])
async def test_a_failure_before_the_first_byte_is_retried_elsewhere(
    start: Any, engine: Any, other: Any, fault: str
) -> None:
    gateway = await start(engine, other)
    engine.faults = [fault] * 50
    for _ in range(6):
        status, _, body = await gateway.complete()
        assert status == 200 and b'"replica":"b"' in body
    f = await gateway.reconciled()
    assert f["finished_total"] == 6 and f["failed_total"] == 0 and f["retried_total"] >= 1


def test_an_aborted_message_is_no_answer() -> None:
    from seawall.decide.route.attempt import Judgement
    from seawall.gateway.exchange.judge import judge

    aborted = (
        b'{"id":"chatcmpl-1","type":"message","role":"assistant","content":[{"type":"text","text":"a"}]}'
    )
    assert judge(200, aborted) is Judgement.ABORTED
    assert judge(200, aborted[:-1] + b',"stop_reason":"end_turn"}') is Judgement.PASS
    response = b'{"id":"resp_1","output":[{"type":"message","role":"assistant","content":[]}]}'
    assert (
        judge(200, b'{"id":"resp_1","instructions":"' + b"x" * 200 + b'",' + response[1:]) is Judgement.PASS
    )


def test_nan_that_vllm_answers_as_a_bad_request_is_the_engines_fault() -> None:
    from seawall.decide.route.attempt import Judgement
    from seawall.gateway.exchange.judge import judge

    said = b'{"error":{"message":"Out of range float values are not JSON compliant","code":400}}'
    assert judge(400, said) is Judgement.SENSELESS
    assert judge(400, b'{"error":{"message":"temperature must be positive","code":400}}') is Judgement.PASS


def test_the_engines_bound_on_answers_is_read_from_its_flags() -> None:
    from seawall.gateway.exchange.seam import most_tokens

    name = "--override-generation-config"
    assert most_tokens(["--x", name, '{"max_new_tokens": 64}']) == 64
    assert most_tokens([name + '={"max_new_tokens":32,"top_p":0.5}']) == 32
    assert most_tokens(["--max-model-len", "5"]) is most_tokens([name]) is most_tokens([name, "{"]) is None


@pytest.mark.parametrize("fault", ["bare_done", "error_event", "reset"])
async def test_a_stream_that_fails_at_once_is_retried_elsewhere(
    start: Any, engine: Any, other: Any, fault: str
) -> None:
    gateway = await start(engine, other)
    engine.faults = [fault] * 50
    for _ in range(4):
        status, headers, body = await gateway.complete(stream=True)
        assert status == 200 and headers["cut"] == "False"
        assert body.count(b"data: ") == 6 and body.endswith(b"data: [DONE]\n\n")


async def test_a_dead_replica_costs_nobody_anything(start: Any, engine: Any, other: Any) -> None:
    gateway = await start(engine, other)
    for _ in range(4):
        await gateway.complete()
    await engine.kill()
    answers = await asyncio.gather(*(gateway.complete() for _ in range(20)))
    assert {a[0] for a in answers} == {200}
    state = await gateway.state()
    assert sorted(r["state"] for r in state["replicas"].values())[1:] == ["ready"]
    await engine.start()
    for _ in range(200):
        if {r["state"] for r in (await gateway.state())["replicas"].values()} == {"ready"}:
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError("the replica never came back")
    assert any(body and body.get("max_tokens") == 1 for _, _, body in engine.log), "proven by a token"


async def test_a_stream_that_breaks_in_the_middle_never_looks_whole(start: Any, engine: Any) -> None:
    gateway = await start(engine)
    for fault in ("cut_after_2", "dead_after_2"):
        engine.faults = [fault]
        status, headers, body = await gateway.complete(stream=True)
        assert status == 200 and headers["cut"] == "True"
        assert b'"error"' in body and b"[DONE]" not in body and b"t1 " in body
    f = await gateway.reconciled()
    assert f["failed_total"] == 2


async def test_a_hang_is_seen_in_spite_of_keep_alive_comments(start: Any, engine: Any) -> None:
    gateway = await start(engine)
    engine.faults = ["comments_after_2"]
    _, headers, body = await gateway.complete(stream=True)
    assert headers["cut"] == "True" and b"no data event for 0.6 s" in body


async def test_a_hang_before_the_first_byte_is_retried(start: Any, engine: Any, other: Any) -> None:
    gateway = await start(engine, other)
    engine.always = "hang"
    answers = await asyncio.gather(*(gateway.complete() for _ in range(4)))
    assert {a[0] for a in answers} == {200}
    state = await gateway.state()
    assert {r["state"] for r in state["replicas"].values() if r["url"] == engine.url} <= {
        "evicted",
        "probing",
    }


async def test_errors_of_the_request_itself_are_passed_on(start: Any, engine: Any) -> None:
    gateway = await start(engine)
    engine.faults = ["400"]
    status, _, body = await gateway.complete()
    assert status == 400 and b'"bad"' in body


async def test_without_any_replica_requests_wait_and_then_hear_503(start: Any, spec: str) -> None:
    gateway = await start("http://127.0.0.1:9", spec=spec.replace("queueTimeout: 2s", "queueTimeout: 500ms"))
    status, _headers, body = await gateway.complete()
    assert status in (502, 503) and b'"error"' in body
    await gateway.reconciled()


async def test_full_replicas_answer_503_with_a_time_to_come_back(start: Any, engine: Any) -> None:
    gateway = await start(engine)
    engine.always = "503"
    status, headers, _ = await gateway.complete()
    assert status == 503 and int(headers["retry-after"]) >= 1


async def test_one_request_that_fails_everywhere_takes_no_replica_out(start: Any, engine: Any) -> None:
    """Errors on three different requests speak against a replica, any number on one request does not."""
    gateway = await start(engine)

    async def states() -> list[str]:
        return [r["state"] for r in (await gateway.state())["replicas"].values()]

    engine.always = "500"
    for row in (1, 2):
        assert (await gateway.complete())[0] == 500
        assert await states() == ["ready"], row
    for _ in range(6):
        assert (await gateway.complete())[0] == 500
    assert await states() == ["ready"], "however often it comes"
    engine.always = ""
    assert (await gateway.complete(stream=True))[0] == 200
    engine.always = "500"
    for row in (1, 2):
        assert (await gateway.complete(prompt=f"another {row}"))[0] == 500
        assert await states() == ["ready"]
    waiting = asyncio.ensure_future(gateway.complete(prompt="a third"))
    while await states() == ["ready"]:
        await asyncio.sleep(0.01)
    engine.always = ""
    assert (await waiting)[0] == 200, "a token has brought the replica back"

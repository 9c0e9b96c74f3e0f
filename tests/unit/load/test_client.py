"""The client against a server that fails on command: every failure has its name, nothing is taken for whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from seawall.load.client import ClientPatience, LoadClient, RequestOutcome

BODY: dict[str, Any] = {
    "model": "sim", "messages": [{"role": "user", "content": "the tide"}], "temperature": 0, "max_tokens": 20,
    "ignore_eos": True, "stream": True, "return_token_ids": True, "stream_options": {"include_usage": True},
}  # fmt: skip
SHORT = ClientPatience(first_s=1.0, stall_s=0.6, total_s=20)


@pytest.fixture
async def client(sim_engine: str) -> AsyncIterator[LoadClient]:
    made = LoadClient(sim_engine)
    yield made
    await made.request("/sim/fault", {"kind": "clear"})
    made.close()


async def chat(client: LoadClient, **options: Any) -> RequestOutcome:
    return await client.request("/v1/chat/completions", BODY, patience=SHORT, **options)


async def test_a_whole_stream(client: LoadClient) -> None:
    o = await chat(client)
    assert (o.ok, o.finish_reason, o.tokens, len(o.ids), o.done) == (True, "length", 20, 20, True)
    assert o.ttft_s is not None
    assert 0 < o.ttft_s <= o.e2e_s
    assert "".join(o.text)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("eof", "eof"),
        ("reset", "reset"),
        ("abort", "aborted"),
        ("done-only", "no-finish"),
        ("error", "error-event"),
        ("freeze", "stalled"),
    ],
)
async def test_a_broken_stream_has_a_name(client: LoadClient, kind: str, error: str) -> None:
    await client.request("/sim/fault", {"kind": kind, "after_tokens": 5})
    o = await chat(client)
    assert o.error in ({error, "eof"} if error == "reset" else {error}), o.detail
    assert 0 < len(o.ids) < 20
    assert (await chat(client)).ok


async def test_a_server_that_fails_refuses_or_is_silent(client: LoadClient) -> None:
    await client.request("/sim/fault", {"kind": "fail", "status": 503})
    assert (await chat(client)).error == "http-503"
    await client.request("/sim/fault", {"kind": "clear"})
    await client.request("/sim/fault", {"kind": "hang", "seconds": 2.0})
    assert (await chat(client)).error == "stalled"
    assert (await LoadClient("http://127.0.0.1:9").request("/x", {})).error == "refused"


async def test_a_client_that_leaves_and_one_that_reads_slowly(client: LoadClient) -> None:
    left = await chat(client, stop_after=3)
    assert left.error == "cancelled"
    assert len(left.event_s) == 3
    slow = await client.request(
        "/v1/chat/completions", BODY, read_rate=4000.0, patience=ClientPatience(stall_s=10)
    )
    assert slow.ok
    assert slow.tokens == 20


async def test_whole_answers_and_plain_gets(client: LoadClient) -> None:
    whole = await client.request("/v1/chat/completions", {**BODY, "stream": False, "stream_options": None})
    assert (whole.ok, whole.tokens) == (True, 20)
    status, body = await client.get("/v1/models")
    assert status == 200
    assert b'"sim"' in body

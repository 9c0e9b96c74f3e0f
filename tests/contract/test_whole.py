"""Whole answers put together from streams are what the engine itself answers, on real vLLM and simulated alike."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.contract.conftest import Server

from seawall.decide.route.whole import Whole, as_stream

pytestmark = pytest.mark.timeout(1000)
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
MESSAGES, RESPONSES = "/v1/messages", "/v1/responses"
SAID = [{"role": "user", "content": "Say hi to Ann, then tell her about the sea."}]
TOOL = {"type": "function", "function": {"name": "greet", "parameters": {"type": "object", "properties": {}}}}
CASES: list[tuple[str, dict[str, Any]]] = [
    (TEXT, {}),
    (TEXT, {"max_tokens": 1}),
    (TEXT, {"n": 2, "temperature": 0.8, "seed": 1, "logprobs": 2}),
    (TEXT, {"prompt": ["a b", "c d"], "echo": True}),
    (TEXT, {"stop": ["the", "a"], "return_token_ids": True, "max_tokens": 30}),
    (TEXT, {"logprobs": 0, "max_tokens": 20, "ignore_eos": True}),
    (TEXT, {"prompt": [100, 101, 102], "return_token_ids": True}),
    (CHAT, {}),
    (CHAT, {"return_token_ids": True}),
    (CHAT, {"n": 2, "temperature": 0.7, "seed": 3, "logprobs": True, "top_logprobs": 2}),
    (CHAT, {"stop": ["e"], "include_stop_str_in_output": True, "max_tokens": 40}),
    (CHAT, {"logprobs": True, "max_tokens": 30, "ignore_eos": True}),
    (CHAT, {"tools": [TOOL], "tool_choice": "none"}),
    (CHAT, {"tools": [TOOL], "tool_choice": "none", "n": 2, "temperature": 0.7, "seed": 3, "logprobs": True}),
    (CHAT, {"response_format": {"type": "json_object"}, "max_tokens": 24}),
    (CHAT, {"max_completion_tokens": 3, "stream": False, "stream_options": None}),
    (MESSAGES, {}),
    (MESSAGES, {"stop_sequences": ["e"], "max_tokens": 40}),
    (
        MESSAGES,
        {"tools": [{"name": "greet", "input_schema": {"type": "object"}}], "tool_choice": {"type": "none"}},
    ),
    (RESPONSES, {}),
    (RESPONSES, {"tools": [{"type": "function", "name": "greet", "parameters": {}}], "tool_choice": "none"}),
    (RESPONSES, {"max_output_tokens": 40}),
]


def request(route: str, model: str, fields: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "temperature": 0}
    if route == RESPONSES:
        return {**body, "input": SAID[0]["content"], "max_output_tokens": 8, **fields}
    said = {"prompt": "Once upon a time"} if route == TEXT else {"messages": SAID}
    return {**body, **said, "max_tokens": 8, **fields}


def plain(answer: Any) -> Any:
    """Without ids and times, which no two answers share."""
    if isinstance(answer, dict):
        return {k: plain(v) for k, v in answer.items() if k not in ("id", "created", "created_at")}
    return [plain(v) for v in answer] if isinstance(answer, list) else answer


@pytest.mark.parametrize(("route", "fields"), CASES, ids=lambda v: json.dumps(v)[:60])
def test_it_is_what_the_engine_answers(server: Server, route: str, fields: dict[str, Any]) -> None:
    body = json.dumps(request(route, server.model, fields)).encode()
    theirs = server.ask("POST", route, body)
    assert theirs.status == 200, theirs.body
    streamed = as_stream(route, body)
    assert streamed is not None
    stream = server.ask("POST", route, streamed)
    assert stream.status == 200, stream.body
    whole = Whole(route, body)
    for at in range(0, len(stream.body), 97):
        whole.feed(stream.body[at : at + 97])
    ours = json.loads(whole.answer())
    assert plain(ours) == plain(theirs.json)
    assert ours["id"].strip("-_0123456789abcdef") == theirs.json["id"].strip("-_0123456789abcdef")
    if server.kind == "vllm":
        assert list(ours) == list(theirs.json), "in the same order"


@pytest.mark.parametrize(
    ("route", "fields"),
    [
        (TEXT, {"prompt_logprobs": 1}),
        (TEXT, {"echo": True, "logprobs": 1}),
        (CHAT, {"echo": True}),
        (CHAT, {"tools": [TOOL]}),
        (CHAT, {"tools": [TOOL], "tool_choice": "auto"}),
        (CHAT, {"tools": [TOOL], "tool_choice": "required"}),
        (CHAT, {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "greet"}}}),
        (RESPONSES, {"background": True}),
        ("/v1/embeddings", {}),
    ],
)  # fmt: skip
def test_what_cannot_be_put_together_is_left_to_the_engine(route: str, fields: dict[str, Any]) -> None:
    assert as_stream(route, json.dumps({"model": "m", **fields}).encode()) is None

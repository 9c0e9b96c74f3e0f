"""Every cut point of every kind of request: the client gets the answer of an unbroken stream."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .client import CHAT, TEXT, cut_at, run
from .model_engine import Server, serve

MESSAGES: dict[str, Any] = {
    "model": "m",
    "stream": True,
    "messages": [{"role": "user", "content": " the sea 猫"}],
}
PROMPT: dict[str, Any] = {"model": "m", "stream": True, "prompt": " the sea 猫"}
GREEDY = {"temperature": 0}
USAGE = {"stream_options": {"include_usage": True}}
EACH = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
FORM = {"response_format": {"type": "json_object"}}
TOOLS = {"tools": [{"type": "function", "function": {"name": "weather"}}]}

# name -> (route, body, way)
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "chat-greedy": (CHAT, MESSAGES | GREEDY | {"max_tokens": 24}, "continue"),
    "chat-usage": (CHAT, MESSAGES | GREEDY | USAGE | {"max_tokens": 20}, "continue"),
    "chat-continuous-usage": (CHAT, MESSAGES | GREEDY | EACH | {"max_tokens": 12}, "continue"),
    "chat-no-limit": (CHAT, MESSAGES | GREEDY, "continue"),
    "chat-ids": (CHAT, MESSAGES | GREEDY | {"max_tokens": 20, "return_token_ids": True}, "continue"),
    "chat-stop": (
        CHAT,
        MESSAGES | GREEDY | {"max_completion_tokens": 60, "stop": [" wall", "1 the"]},
        "continue",
    ),
    "chat-structured": (CHAT, MESSAGES | FORM | USAGE, "replay"),
    "chat-structured-greedy": (CHAT, MESSAGES | FORM | GREEDY, "replay"),
    "chat-tools": (CHAT, MESSAGES | TOOLS | GREEDY | {"max_tokens": 20}, "replay"),
    "chat-seeded": (CHAT, MESSAGES | {"seed": 11, "temperature": 0.8, "max_tokens": 20}, "replay"),
    "chat-logprobs": (CHAT, MESSAGES | GREEDY | {"logprobs": True, "max_tokens": 16}, "replay"),
    "chat-n": (CHAT, MESSAGES | {"n": 3, "seed": 3, "max_tokens": 8} | USAGE, "replay"),
    "chat-penalty": (CHAT, MESSAGES | GREEDY | {"presence_penalty": 0.5, "max_tokens": 16}, "replay"),
    "text-greedy": (TEXT, PROMPT | GREEDY | {"max_tokens": 24}, "continue"),
    "text-default-limit": (TEXT, PROMPT | GREEDY, "continue"),
    "text-usage": (TEXT, PROMPT | GREEDY | USAGE | {"max_tokens": 20}, "continue"),
    "text-continuous-usage": (TEXT, PROMPT | GREEDY | EACH | {"max_tokens": 12}, "continue"),
    "text-logprobs": (TEXT, PROMPT | GREEDY | {"logprobs": 1, "max_tokens": 20}, "continue"),
    "text-logprobs-ids": (
        TEXT,
        PROMPT | GREEDY | {"logprobs": 1, "max_tokens": 20, "return_token_ids": True},
        "continue",
    ),
    "text-stop": (TEXT, PROMPT | GREEDY | {"max_tokens": 60, "stop": " wall", "min_tokens": 9}, "continue"),
    "text-stop-included": (
        TEXT,
        PROMPT | GREEDY | {"max_tokens": 60, "stop": [" wall", " 12"], "include_stop_str_in_output": True},
        "continue",
    ),
    "text-prompts": (TEXT, PROMPT | GREEDY | {"prompt": [" sea", " wall"], "max_tokens": 8}, "replay"),
    "text-token-prompt": (TEXT, PROMPT | GREEDY | {"prompt": [3, 2, 1], "max_tokens": 12}, "continue"),
    "text-unknown-field": (TEXT, PROMPT | GREEDY | {"watermarking": True, "max_tokens": 8}, "replay"),
}


@pytest.mark.parametrize("parser", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_every_cut_point_gives_the_unbroken_answer(name: str, parser: bool) -> None:
    route, body, way = CASES[name]
    servers = [Server("a", parser=parser), Server("b", parser=parser)]
    events = serve(route, json.dumps(body | {"return_token_ids": True}).encode(), servers[0])
    want = run(route, body, servers=servers)
    assert want.session.row.way == way
    for cut in range(len(events) + 1):
        got = run(route, body, cut_at(cut), servers=servers)
        assert got.view.same_answer(want.view), (cut, got.retries, got.view, want.view)
        assert got.session.finish_ok
        assert len(got.view.ids) == len(got.view.created) == 1
        if got.end is None:  # what the gateway has to end itself lacks the engine's fingerprint
            assert got.view.fingerprint == want.view.fingerprint
            usage, whole = got.session.usage, want.session.usage
            assert usage is not None and whole is not None
            assert usage == whole or (usage.estimated and whole.estimated)

"""The relay loop of `client.run`, against servers that speak HTTP: the simulated engine and the real one."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import httpx2

from seawall.decide.route.resume import Policy, Retry, StreamSession

from .client import CHAT, TEXT, Run

MODEL = "smol"
GREEDY = {"temperature": 0}
USAGE = {"stream_options": {"include_usage": True}}
EACH = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "year": {"type": "integer"}},
    "required": ["city", "year"],
}
FORM = {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}


def chat(text: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return CHAT, {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": text}], **more}


def text(prompt: Any, **more: Any) -> tuple[str, dict[str, Any]]:
    return TEXT, {"model": MODEL, "stream": True, "prompt": prompt, **more}


EMOJI = "Write three emoji and the word for cat in Chinese."
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": chat("What is the capital of France?", **GREEDY, max_tokens=16),
    "chat-emoji": chat(EMOJI, **GREEDY, **USAGE, max_tokens=18),
    "chat-each-usage": chat(EMOJI, **GREEDY, **EACH, max_tokens=9),
    "chat-ids": chat(EMOJI, **GREEDY, max_tokens=9, return_token_ids=True),
    "chat-stop": chat("Count from 1 to 20.", **GREEDY, max_tokens=40, stop=["5, 6", "5\n6", "\n"]),
    "chat-logprobs": chat("Say hello.", **GREEDY, logprobs=True, top_logprobs=2, max_tokens=8),
    "chat-seeded": chat("Tell me a joke.", temperature=0.9, seed=42, max_tokens=14),
    "chat-n": chat("Tell me a joke.", temperature=0.9, seed=42, n=2, max_tokens=8, **USAGE),
    "chat-penalty": chat("Repeat: a a a a", **GREEDY, frequency_penalty=0.7, max_tokens=12),
    "chat-structured": chat("Where and when?", **GREEDY, **FORM, max_tokens=40),
    "chat-tools": chat("Weather in Paris?", **GREEDY, tools=[TOOL], tool_choice="required", max_tokens=40),
    "text": text("The capital of France is", **GREEDY, max_tokens=16),
    "text-emoji": text("😀😁😂", **GREEDY, max_tokens=14),
    "text-cjk": text("猫は可愛い。犬は", **GREEDY, **USAGE, max_tokens=16),
    "text-logprobs": text("Hello", **GREEDY, logprobs=2, max_tokens=10),
    "text-stop": text("1, 2, 3, 4,", **GREEDY, stop=[" 7, 8"], max_tokens=30),
    "text-stop-kept": text(
        "1, 2, 3,", **GREEDY, stop=[" 6, 7"], include_stop_str_in_output=True, max_tokens=30
    ),
    "text-min-tokens": text("1, 2, 3,", **GREEDY, stop=[","], min_tokens=6, max_tokens=30),
    "text-repetition": text("a a a a", **GREEDY, repetition_penalty=1.3, max_tokens=12),
    "text-prompts": text(["1, 2, 3,", "A, B, C,"], **GREEDY, max_tokens=6),
}

HELLO = [{"role": "user", "content": "Say hello, then write three emoji."}]
LISTED = {"include": ["message.output_text.logprobs"], "top_logprobs": 1}
PLAIN_TOOL = {"name": "get_weather", "input_schema": SCHEMA}


def message(**more: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/messages", {"model": MODEL, "stream": True, "messages": HELLO, "max_tokens": 16, **more}


def response(**more: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/responses", {"model": MODEL, "stream": True, "input": HELLO, "max_output_tokens": 16, **more}


TYPED: dict[str, tuple[str, dict[str, Any]]] = {
    "message": message(**GREEDY),
    "message-stop": message(**GREEDY, stop_sequences=["!", "ello"]),
    "response": response(**GREEDY),
    "response-seeded": response(temperature=0.9, **LISTED),
}
TYPED_TOOLS: dict[str, tuple[str, dict[str, Any]]] = {
    "message-tool": message(**GREEDY, tools=[PLAIN_TOOL], tool_choice={"type": "any"}),
    "response-tool": response(
        **GREEDY,
        tools=[{"type": "function", "name": "get_weather", "parameters": SCHEMA}],
        tool_choice="required",
    ),
}
"""Only against the real engine: the simulated one calls no tools on these routes."""


def relay(
    http: httpx2.Client,
    urls: list[str],
    route: str,
    body: dict[str, Any],
    cuts: tuple[int, ...] = (),
    policy: Policy | None = None,
) -> Run:
    """Attempt i goes to urls[i % n] and, if there is a cuts[i], is lost after so many reads of the network."""
    session = StreamSession(route, json.dumps(body).encode(), policy or Policy(max_resumes=20), Random(3))
    result = Run(b"", session)
    path, sent = route, session.first_request()
    for attempt in range(20):
        reads = 0
        headers = {"content-type": "application/json"}
        with http.stream("POST", urls[attempt % len(urls)] + path, content=sent, headers=headers) as answer:
            assert answer.status_code == 200, (answer.read(), sent)
            try:
                for data in answer.iter_raw():
                    if attempt < len(cuts) and reads >= cuts[attempt]:
                        break
                    reads += 1
                    result.raw += session.feed(data)
                    if session.failed:
                        break
            except httpx2.TransportError:
                pass  # the replica is lost: what follows is the session's
        if session.done:
            return result
        decision = session.broken("reset", float(attempt))
        if not isinstance(decision, Retry):
            result.raw += decision.event
            result.end = decision
            return result
        result.retries.append(decision)
        path, sent = decision.path, decision.body
    raise AssertionError("never ended")

"""What of a running stream is looked at to tell that no sane model says it: its end, as ids, text and logprobs."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from seawall.decide.route.resume import Policy, StreamSession
from seawall.decide.truth.sick import TAIL

from .client import CHAT, TEXT


def stream(route: str, said: list[tuple[str, int]], logprobs: Any = None) -> StreamSession:
    body = {"model": "m", "messages": [], "prompt": "x", "stream": True, "temperature": 0}
    session = StreamSession(route, json.dumps(body).encode(), Policy(), Random(1))
    for text, token in said:
        choice = {"index": 0, "finish_reason": None, "token_ids": [token], "logprobs": logprobs}
        choice |= {"delta": {"content": text}} if route == CHAT else {"text": text}
        head = {"id": "a", "object": "x", "created": 1, "model": "m", "choices": [choice]}
        session.feed(b"data: " + json.dumps(head, separators=(",", ":")).encode() + b"\n\n")
    return session


@pytest.mark.parametrize("route", [CHAT, TEXT])
def test_bytes_that_are_no_text_are_seen_whatever_their_ids(route: str) -> None:
    words = [(f"word{n} ", n) for n in range(TAIL)]
    assert not stream(route, words).looks_sick(TAIL)
    assert not stream(route, [*words, ("�", 1)]).looks_sick(TAIL), "half a character, now and then"
    assert "UTF-8" in stream(route, [*words, *(("�", n) for n in range(20))]).looks_sick(TAIL)
    assert "different ones" in stream(route, [("!", 0)] * TAIL).looks_sick(TAIL)


@pytest.mark.parametrize("bad", [None, -9999.0, 3.0])
def test_logprobs_that_a_client_has_asked_for_are_looked_at(bad: float | None) -> None:
    chat = {"content": [{"token": "a", "logprob": bad, "top_logprobs": []}]}
    assert "logprob" in stream(CHAT, [("a", 1)], chat).looks_sick(TAIL)
    fine = {"content": [{"token": "a", "logprob": -0.5, "top_logprobs": []}]}
    assert not stream(CHAT, [("a", 1)], fine).looks_sick(TAIL)
    if bad is not None:
        text = {"tokens": ["a"], "token_logprobs": [bad], "text_offset": [0], "top_logprobs": [{"a": bad}]}
        assert "logprob" in stream(TEXT, [("a", 1)], text).looks_sick(TAIL)


def test_an_echoed_prompt_has_no_logprob_for_its_first_token() -> None:
    text = {"tokens": ["x", "a"], "token_logprobs": [None, -0.1], "text_offset": [0, 1], "top_logprobs": []}
    assert not stream(TEXT, [("xa", 1)], text).looks_sick(TAIL)

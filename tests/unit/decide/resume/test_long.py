"""Streams longer than what is kept as it came: the record is shortened on the way, and nothing of it is lost."""

from __future__ import annotations

import json
from random import Random

import pytest

from seawall.decide.route.resume import Policy, Retry, StreamSession

TEXTS = ["plain", 'say \\"no', "]}]}", "[7]", "\\n\\n", '\\"},', "{", " ", "é", "\\u00e9\\t"]
"""Insides of JSON strings, some of which look like the ends of chunks."""
TAIL = b'"},"logprobs":null,"finish_reason":null,"token_ids":[%d]}]}\n\n'


def opening() -> bytes:
    choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None}
    doc = {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return (
        b"data: "
        + json.dumps(
            {**doc, "choices": [{**choice, "finish_reason": None}], "prompt_token_ids": [1, 2]},
            separators=(",", ":"),
        ).encode()
        + b"\n\n"
    )


def chunk(text: str, token: int) -> bytes:
    head = '{"id":"a","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
    return f'data: {head}"delta":{{"content":"{text}'.encode() + TAIL % token


@pytest.mark.parametrize("length", [1, 60, 61, 500])
def test_a_long_stream_goes_on_from_all_of_its_tokens(length: int) -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true,"temperature":0,"max_tokens":900}'
    session = StreamSession("/v1/chat/completions", body, Policy(), Random(1))
    session.feed(opening())
    out = b""
    for i in range(length):
        out += session.feed(chunk(TEXTS[i % len(TEXTS)], 100 + i))
    assert out.count(b'"token_ids":null') == length
    assert session.tokens_out == length
    assert session.nbytes < 20 * length + 4200
    retry = session.broken("reset", 0.0)
    assert isinstance(retry, Retry)
    asked = json.loads(retry.body)
    assert asked["prompt"] == [1, 2, *range(100, 100 + length)]
    assert asked["max_tokens"] == 900 - length
    # The next replica's chunks are counted behind them.
    more = json.dumps(
        {"id": "b", "choices": [{"index": 0, "text": "on", "finish_reason": None, "token_ids": [7]}]}
    )
    assert b'"content":"on"' in session.feed(b"data: " + more.encode() + b"\n\n")
    assert session.tokens_out == length + 1

"""A whole answer put together from a stream: bounded, and nothing that an engine may send breaks it but as `Unfit`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.decide.route.whole import CHAT, COMPLETIONS, MESSAGES, RESPONSES, Unfit, Whole

ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["index", "text", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)
MESSAGE = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": {}}
STREAMS: dict[str, list[dict[str, Any]]] = {
    CHAT: [
        {
            "id": "c",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}],
        },
        {
            "id": "c",
            "choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [{"token": "a"}]}}],
        },
        {"id": "c", "choices": [{"index": 0, "delta": {"reasoning": "b"}, "finish_reason": "stop"}]},
        {"id": "c", "choices": [], "usage": {"prompt_tokens": 1}},
    ],
    COMPLETIONS: [
        {"id": "c", "created": 1, "model": "m", "choices": [{"index": 0, "text": "a", "token_ids": [1]}]},
        {"id": "c", "choices": [{"index": 1, "text": "b", "finish_reason": "stop", "stop_reason": "x"}]},
    ],
    MESSAGES: [
        {"type": "message_start", "message": MESSAGE},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}},
    ],
    RESPONSES: [
        {"type": "response.created", "response": {"id": "r"}},
        {"type": "response.completed", "response": {"id": "r", "output": []}},
    ],
}


def paths(doc: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    inner = doc.items() if isinstance(doc, dict) else enumerate(doc) if isinstance(doc, list) else ()
    return [at, *(p for key, value in inner for p in paths(value, (*at, key)))]


def put(doc: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(doc) if isinstance(doc, dict) else list(doc)
    copy[path[0]] = put(doc[path[0]], path[1:], value)
    return copy


def event(doc: Any) -> bytes:
    return b"data: " + json.dumps(doc).encode() + b"\n\n"


@given(st.data())
def test_an_event_of_any_other_form_is_unfit_or_harmless(data: st.DataObject) -> None:
    route = data.draw(st.sampled_from(sorted(STREAMS)))
    events = list(STREAMS[route])
    which = data.draw(st.integers(0, len(events) - 1))
    path = data.draw(st.sampled_from(paths(events[which])))
    events[which] = put(events[which], path, data.draw(ODD))
    whole = Whole(route, b"{}")
    try:
        for one in events:
            whole.feed(event(one))
        json.loads(whole.answer())
    except Unfit as e:
        assert str(e)


@pytest.mark.parametrize("route", STREAMS)
def test_a_stream_without_an_answer_makes_none(route: str) -> None:
    whole = Whole(route, b"{}")
    whole.feed(b": ping\n\ndata: [DONE]\n\n")
    with pytest.raises(Unfit):
        whole.answer()


@pytest.mark.parametrize("junk", [b"data: {\n\n", b"data: \xff\n\n", b"data: " + b"[" * 100_000 + b"\n\n"])
@pytest.mark.parametrize("route", [CHAT, COMPLETIONS, MESSAGES])
def test_what_is_no_json_is_unfit(route: str, junk: bytes) -> None:
    with pytest.raises(Unfit):
        Whole(route, b"{}").feed(junk)


@pytest.mark.parametrize("route", [CHAT, COMPLETIONS, MESSAGES])
def test_what_is_held_is_bounded(route: str) -> None:
    whole = Whole(route, b"{}", most=10_000)
    for one in STREAMS[route]:
        whole.feed(event(one))
    more = {CHAT: 1, COMPLETIONS: 0, MESSAGES: 2}[route]
    with pytest.raises(Unfit, match="longer than 10000 bytes"):
        for _ in range(1000):
            whole.feed(event(STREAMS[route][more]))


def test_logprobs_are_passed_on_as_they_are_written() -> None:
    whole = Whole(CHAT, b"{}")
    row = b'{"token":"a","logprob":-1.2300,"bytes":[97],"top_logprobs":[]}'
    for _ in range(3):
        whole.feed(
            b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":['
            + row
            + b"]}}]}\n\n"
        )
    assert b'"content":[' + b",".join([row] * 3) + b"]" in whole.answer()

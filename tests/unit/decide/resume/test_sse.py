"""Events are cut the same way wherever the network cuts the bytes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.decide.route.sse import EventSplitter, EventTooLarge, data_of, name_of

PIECES = st.lists(
    st.sampled_from([b"data: a", b"data:b", b": note", b"\n", b"\r\n", b"\r", b"\n\n", b"id: 1"])
)


@given(PIECES.map(b"".join), st.lists(st.integers(0, 60)))
def test_any_split_gives_the_same_events(raw: bytes, cuts: list[int]) -> None:
    raw += b"."  # no CR at the very end, which rightly waits for its LF
    at_once, split = EventSplitter(), EventSplitter()
    bounds = sorted({min(cut, len(raw)) for cut in cuts} | {0, len(raw)})
    pieces = [raw[a:b] for a, b in itertools.pairwise(bounds)]
    events = [event for piece in pieces for event in split.feed(piece)]
    assert events == at_once.feed(raw)
    assert b"".join(events) + bytes(raw[len(b"".join(events)) :]) == raw
    assert split.held == at_once.held == len(raw) - len(b"".join(events))


def test_every_line_ending_ends_an_event() -> None:
    raw = b"data: 1\n\ndata: 2\r\n\r\ndata: 3\r\rdata: 4\n\r\n"
    assert [data_of(event) for event in EventSplitter().feed(raw)] == [b"1", b"2", b"3", b"4"]


def test_comments_names_and_many_lines() -> None:
    assert data_of(b": keep-alive\n\n") is None
    assert data_of(b"event: x\ndata: a\ndata:b\n\n") == b"a\nb"
    assert name_of(b"event: message_stop\ndata: {}\n\n") == b"message_stop"
    assert name_of(b"data: {}\n\n") == b""
    assert name_of(b"event:") == b"" and name_of(b"event:x") == b"x", "cut before the end of its line"


def test_an_endless_event_is_refused_with_bounded_memory() -> None:
    splitter = EventSplitter(limit=100)
    splitter.feed(b"data: " + b"x" * 90)
    with pytest.raises(EventTooLarge, match="more than 100 bytes"):
        splitter.feed(b"x" * 50)
    assert splitter.held == 0
    assert splitter.feed(b"data: y\n\n") == [b"data: y\n\n"]

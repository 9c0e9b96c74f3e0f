"""`/v1/messages` and `/v1/responses`: a broken stream of typed events is replayed, and the client sees one stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.decide.route.resume import Finish, GiveUp, Policy, Retry, StreamSession

from .typed_client import message, parse, plain, response, story

GREEDY = {"model": "m", "stream": True, "temperature": 0}
ENGINES: dict[str, Callable[..., list[bytes]]] = {"/v1/messages": message, "/v1/responses": response}
routes = pytest.mark.parametrize("route", ENGINES)


def session(route: str, policy: Policy | None = None, **fields: Any) -> StreamSession:
    return StreamSession(
        route, json.dumps(GREEDY | fields).encode(), policy or Policy(max_resumes=9), Random(1)
    )


def fed(s: StreamSession, events: Iterable[bytes]) -> bytes:
    return b"".join(s.feed(event) for event in events)


def resumed(s: StreamSession, events: list[bytes]) -> bytes:
    decision = s.broken("reset", 0.0)
    if isinstance(decision, Finish):
        return decision.event
    assert isinstance(decision, Retry), decision
    assert (decision.path, decision.body) == (s.route, s.first_request())
    return fed(s, events)


@routes
@pytest.mark.parametrize("width", [1, 2, 5])
def test_every_cut_point_gives_one_stream(route: str, width: int) -> None:
    engine = ENGINES[route]
    first, second = engine(1, 3), engine(2, width)
    want = story(b"".join(first))
    for cut in range(len(first)):
        s = session(route)
        raw = fed(s, first[:cut]) + resumed(s, second)
        assert story(raw) == want, cut
        assert s.finish_ok and s.usage is not None and s.usage.completion_tokens == 21
        if cut and raw.startswith(b"".join(first[:cut])):  # the opening is the first run's once it was sent
            assert next(d for d in parse(raw) if "id" in json.dumps(d)) == parse(first[0])[0]


@routes
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_number_of_breaks_in_any_pieces(route: str, data: Any) -> None:
    engine = ENGINES[route]
    s = session(route, Policy(max_resumes=99))
    raw = b""
    for attempt in range(data.draw(st.integers(1, 4))):
        stream = b"".join(engine(attempt, data.draw(st.integers(1, 6))))
        cut = data.draw(st.integers(0, len(stream) - 1))
        size = data.draw(st.integers(1, 200))
        for at in range(0, cut, size):
            raw += s.feed(stream[at : min(cut, at + size)])
        decision = s.broken("reset", float(attempt))
        if isinstance(decision, Finish):
            raw += decision.event
            break
    else:
        raw += fed(s, engine(77, 2))
    assert story(raw) == story(b"".join(engine(5, 1)))
    assert s.finish_ok


@routes
def test_until_the_first_token_nothing_has_begun(route: str) -> None:
    s = session(route, temperature=0.7)  # a sampled message cannot be replayed; one that has not begun can
    events = ENGINES[route](1, 2)
    assert fed(s, events[:2]) == b"" and not s.started
    raw = resumed(s, ENGINES[route](2, 2, words="Other words."))
    assert s.finish_ok and s.resumes == 0
    assert story(raw) == story(b"".join(ENGINES[route](3, 1, words="Other words.")))


@routes
def test_another_answer_ends_in_an_error_event_of_the_routes_own_shape(route: str) -> None:
    s = session(route)
    raw = fed(s, ENGINES[route](1, 2)[:-5])
    s.broken("reset", 0.0)
    assert fed(s, ENGINES[route](2, 2, words="The see,")) == b""
    assert s.failed and "differs" in s.failed and not s.blames_replica
    end = s.broken("", 1.0)
    assert isinstance(end, GiveUp)
    error = parse(raw + end.event)[-1]
    assert error["type"] == "error"
    assert "Send the request again" in json.dumps(error)
    assert error.get("sequence_number", len(parse(raw))) == len(parse(raw))


@routes
def test_best_effort_swallows_as_much_as_was_sent(route: str) -> None:
    s = session(route, Policy(mode="best-effort"))
    fed(s, ENGINES[route](1, 1)[:12])
    s.broken("reset", 0.0)
    out = fed(s, ENGINES[route](2, 4, words="thE SEa, 猫!"))
    assert s.finish_ok and b"event: " in out


@routes
def test_off_passes_on_and_never_replays(route: str) -> None:
    events = ENGINES[route](1, 2)
    s = session(route, Policy(mode="off"))
    assert fed(s, events) == b"".join(events) and s.finish_ok
    s = session(route, Policy(mode="off"))
    fed(s, events[:8])
    assert isinstance(s.broken("reset", 0.0), GiveUp)


def test_a_message_that_samples_is_not_replayed_but_a_response_gets_a_seed() -> None:
    s = session("/v1/messages", temperature=0.5)
    fed(s, message(1, 2)[:8])
    assert isinstance(s.broken("reset", 0.0), GiveUp)
    assert b"seed" not in session("/v1/messages", temperature=0.5).first_request()
    assert b'"seed":' in session("/v1/responses", temperature=0.5).first_request()
    assert b'"seed": 7' in session("/v1/responses", temperature=0.5, seed=7).first_request()


@pytest.mark.parametrize(
    "fields",
    [{"previous_response_id": "resp_1"}, {"background": True}, {"tools": [{"type": "code_interpreter"}]}],
)
def test_what_one_replica_keeps_is_not_replayed_elsewhere(fields: dict[str, Any]) -> None:
    s = session("/v1/responses", **fields)
    fed(s, response(1, 2)[:6])
    assert isinstance(s.broken("reset", 0.0), GiveUp)
    assert session("/v1/responses", tools=[{"type": "function", "name": "f"}]).row.way == "replay"


def test_an_aborted_message_looks_finished_and_is_not_believed() -> None:
    """vLLM writes `stop_reason: null` for an abort, and message_stop even for a bare [DONE]."""
    s = session("/v1/messages")
    raw = fed(s, message(1, 2, stop=None))
    assert s.failed == "the engine aborted it"
    assert parse(raw)[-1]["type"] == "content_block_delta", "nor is the end of the block that came before it"
    assert story(raw + resumed(s, message(2, 3))) == story(b"".join(message(3, 1)))
    s = session("/v1/messages")
    raw = fed(s, [*message(1, 2)[:9], b'event: message_stop\ndata: {"type":"message_stop"}\n\n'])
    assert s.failed and not s.done
    assert story(raw + resumed(s, message(2, 3))) == story(b"".join(message(3, 1)))


def test_only_the_end_of_a_message_was_missing() -> None:
    s = session("/v1/messages")
    raw = fed(s, message(1, 2)[:-1])
    end = s.broken("eof", 0.0)
    assert isinstance(end, Finish)
    assert raw + end.event == b"".join(message(1, 2))


def test_a_cancelled_response_is_not_believed() -> None:
    s = session("/v1/responses")
    fed(s, response(1, 2, status="cancelled"))
    assert s.failed == "the engine aborted it"


def test_a_response_that_was_aborted_and_is_called_completed_is_not_believed() -> None:
    words = ["The", " sea", ",", " the", " sea", "."]
    s = session("/v1/responses")
    raw = fed(s, plain(1, words[:4], tokens=4))
    assert s.failed and "as if aborted" in s.failed and not s.blames_replica
    assert parse(raw)[-1]["type"] == "response.output_text.delta", "nor are the ends that came before it"
    assert story(raw + resumed(s, plain(2, words, tokens=7))) == story(b"".join(plain(3, words, tokens=7)))
    assert s.finish_ok


@pytest.mark.parametrize(
    ("tokens", "fields"),
    [
        (4, {}),
        (9, {}),
        (3, {"stop": ["."]}),
        (3, {"include_stop_str_in_output": True}),
        (3, {"background": True}),
    ],
)
def test_a_response_that_may_have_ended_by_itself_is_believed(tokens: int, fields: dict[str, Any]) -> None:
    """A last token without text, several tokens in one delta, a stop string that took text; or nobody to ask."""
    s = session("/v1/responses", **fields)
    events = plain(1, ["a", "b", "c"], tokens)
    assert fed(s, events) == b"".join(events) and s.finish_ok


def test_a_response_that_ends_so_twice_has_ended() -> None:
    s = session("/v1/responses")
    raw = fed(s, plain(1, ["a", "b"], tokens=2))
    assert s.failed
    assert story(raw + resumed(s, plain(2, ["a", "b"], tokens=2))) == story(
        b"".join(plain(3, ["a", "b"], tokens=2))
    )
    assert s.finish_ok


@routes
@pytest.mark.parametrize("junk", [b"data: {\n\n", b"data: 7\n\n", b'event: x\ndata: {"type":["a"]}\n\n'])
def test_events_in_an_unknown_form_fail_the_attempt_not_the_gateway(route: str, junk: bytes) -> None:
    s = session(route)
    fed(s, ENGINES[route](1, 2)[:6])
    s.feed(junk)
    assert s.failed or s.feed(b": still here\n\n") == b": still here\n\n"

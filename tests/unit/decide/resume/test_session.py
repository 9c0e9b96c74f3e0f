"""One stream: what is hidden, what counts as an end, what happens when a replica is lost."""

from __future__ import annotations

import itertools
import json
import re
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from seawall.decide.route.resume import Finish, GiveUp, Policy, Retry, StreamSession, Usage

from .client import CHAT, TEXT, Cut, cut_at, run
from .model_engine import Server, decode, serve
from .test_matrix import CASES, EACH, FORM, GREEDY, MESSAGES, PROMPT, TOOLS, USAGE

OPEN = MESSAGES | {"max_tokens": 12}
"""Sampling without a seed."""
SERIAL = re.compile(rb'"id":"[^"]*","object":"([^"]*)","created":\d+|"id":"call-\d+"')


def session(route: str = CHAT, policy: Policy | None = None, **more: Any) -> StreamSession:
    body = (MESSAGES if route == CHAT else PROMPT) | more
    return StreamSession(route, json.dumps(body).encode(), policy or Policy(), Random(1))


def one_form(raw: bytes) -> bytes:
    return SERIAL.sub(rb"\1", raw)


# -- hiding


@pytest.mark.parametrize("parser", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_an_unbroken_stream_is_byte_exact(name: str, parser: bool) -> None:
    """Whatever the gateway added, the client gets the bytes that its own request would have got."""
    route, body, _ = CASES[name]
    for policy in (Policy(), Policy(mode="off"), Policy(usage=False)):
        server = Server(parser=parser)
        want = b"".join(serve(route, json.dumps(body).encode(), server))
        if body.get("temperature") != 0 and "seed" not in body:
            continue  # two samples differ; the matrix compares those within one session
        got = run(route, body, policy=policy, servers=[server])
        assert one_form(got.raw) == one_form(want)
        assert got.session.finish_ok and got.session.done


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(CASES)), st.lists(st.integers(0, 20_000), max_size=30), st.integers(1, 3))
def test_any_split_of_the_bytes_gives_the_same_bytes(name: str, cuts: list[int], width: int) -> None:
    route, body, _ = CASES[name]
    server = Server(width=width)
    one, other = (StreamSession(route, json.dumps(body).encode(), Policy(), Random(1)) for _ in range(2))
    raw = b": keep-alive\n\n" + b"".join(serve(route, one.first_request(), server))
    bounds = sorted({cut % len(raw) for cut in cuts} | {0, len(raw)})
    got = b"".join(one.feed(raw[a:b]) for a, b in itertools.pairwise(bounds))
    assert got == other.feed(raw)
    assert got.startswith(b": keep-alive\n\n")
    assert (one.done, one.usage, one.tokens_out) == (other.done, other.usage, other.tokens_out)


@settings(max_examples=1500, deadline=None)
@given(
    st.sampled_from(["greedy", "completions"]),
    st.booleans(),
    st.sampled_from([b'"content":"', b'"text":"', b'"token_ids":']),
    st.integers(0, 12),
    st.integers(0, 2),
    st.one_of(
        st.text('"\\\n,:]}[{0123 x', max_size=6),
        st.sampled_from(
            ["", '","":"', '","logprobs":"', '"},"x":{"":"', "\n\n: ", "\\n", "1,2", "[1]", " 7"]
        ),
    ),
)
def test_a_chunk_that_is_not_read_counts_as_one_that_is(
    name: str, off: bool, behind: bytes, at: int, gone: int, put: str
) -> None:
    """One session gets each event whole, and passes ordinary ones on unread; the other in halves, and reads all."""
    route, body = (CHAT, MESSAGES | GREEDY) if name == "greedy" else (TEXT, PROMPT | GREEDY)
    policy = Policy(mode="off") if off else Policy()
    unread, read = (StreamSession(route, json.dumps(body).encode(), policy, Random(1)) for _ in range(2))
    events = list(serve(route, unread.first_request(), Server()))
    assume(behind in events[4])
    at += events[4].index(behind) + len(behind)
    events[4] = events[4][:at] + put.encode() + events[4][at + gone :]
    if b"\n" not in events[4][:-2]:  # of what is inside a line's text nothing is judged
        try:
            json.loads(events[4].removeprefix(b"data: "))
        except ValueError:
            reject()
    for event in events[:6]:
        if unread.failed:
            break
        assert unread.feed(event) == read.feed(event[:9]) + read.feed(event[9:])
        assert (unread.failed, unread.tokens_out, unread.said()) == (
            read.failed,
            read.tokens_out,
            read.said(),
        )
    assert unread.broken("lost", 0.0) == read.broken("lost", 0.0)


@pytest.mark.parametrize("off", [False, True])
def test_a_chunk_whose_end_lies_over_its_head_is_no_fault_of_ours(off: bool) -> None:
    """Two quotes where one text stands are one quote here, and the event no JSON: it is read as any other is."""
    one = StreamSession(
        CHAT, json.dumps(MESSAGES | GREEDY).encode(), Policy(mode="off") if off else Policy(), Random(1)
    )
    events = list(serve(CHAT, one.first_request(), Server()))
    for event in events[:4]:
        one.feed(event)
    begin = events[4].index(b'"content":"') + len(b'"content":"')
    for width in range(1, 30):
        end = events[4].index(b'"', begin)
        one.feed(events[4][: begin - width] + events[4][end:])
    assert one.failed or not one.done


def test_the_request_keeps_its_own_bytes() -> None:
    raw = b'{ "model":"m", "messages":[], "stream":true,"temperature":0, "max_tokens" : 5 } '
    assert StreamSession(CHAT, raw, Policy(), Random(1)).first_request() == (
        raw.rstrip()[:-1] + b',"return_token_ids":true}'
    )
    refused = raw[:-2] + b',"return_token_ids":false}'
    first = json.loads(StreamSession(CHAT, refused, Policy(), Random(1)).first_request())
    assert first == json.loads(refused) | {"return_token_ids": True}
    off = StreamSession(CHAT, raw, Policy(mode="off", usage=False), Random(1))
    assert off.first_request() == raw


@pytest.mark.parametrize(
    ("more", "seeded"),
    [
        (FORM, True),
        (TOOLS, True),
        ({"n": 2}, True),
        ({"stop": "x"}, True),
        (FORM | GREEDY, False),
        ({}, False),
    ],
)
def test_a_seed_is_added_only_where_a_replay_would_draw_other_tokens(
    more: dict[str, Any], seeded: bool
) -> None:
    first = json.loads(session(**more).first_request())
    assert ("seed" in first) == seeded
    assert json.loads(session(**more, seed=5).first_request())["seed"] == 5
    assert "seed" not in json.loads(session(policy=Policy(mode="off"), **more).first_request())


def test_continuous_usage_is_not_switched_on_by_adding_usage() -> None:
    only_each = {"stream_options": {"continuous_usage_stats": True}}
    first = json.loads(session(**TOOLS, **GREEDY, **only_each).first_request())
    assert first["stream_options"] == {"continuous_usage_stats": False, "include_usage": True}


# -- what counts as an end


def streamed(ask: StreamSession, events: list[bytes]) -> bytes:
    return b"".join(ask.feed(event) for event in events)


ERROR = (
    b'data: {"error":{"message":"EngineCore died","type":"InternalServerError","param":null,"code":500}}\n\n'
)


@pytest.mark.parametrize(
    "death",
    [
        [ERROR, b"data: [DONE]\n\n"],
        [b"data: [DONE]\n\n"],
        [b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"!"},"finish_reason":"abort"}]}\n\n'],
        [b"data: {broken\n\n"],
        [b'data: {"choices":[5]}\n\n'],
    ],
)
def test_a_dying_engine_is_not_a_success(death: list[bytes]) -> None:
    body = MESSAGES | GREEDY | {"max_tokens": 12}
    want = run(CHAT, body)
    events = serve(CHAT, session(**GREEDY, max_tokens=12).first_request())
    got = run(CHAT, body, lambda attempt, new: new if attempt else [*events[:5], *death])
    assert got.view.same_answer(want.view)
    assert got.session.resumes == 1
    assert len(got.retries) == 1


def test_the_clients_own_fault_is_its_answer() -> None:
    ask = session(**GREEDY)
    fault = b'data: {"error":{"message":"bad grammar","code":400}}\n\n'
    assert ask.feed(fault + b"data: [DONE]\n\n") == fault + b"data: [DONE]\n\n"
    assert ask.done and ask.failed is None


def test_between_the_finish_and_done_the_gateway_ends_the_stream_itself() -> None:
    body = MESSAGES | GREEDY | USAGE | {"max_tokens": 9}
    events = serve(CHAT, session(**GREEDY, **USAGE, max_tokens=9).first_request())
    for missing in (1, 2):
        got = run(CHAT, body, cut_at(len(events) - missing))
        assert isinstance(got.end, Finish)
        assert got.view.usage == {"prompt_tokens": 5, "total_tokens": 14, "completion_tokens": 9}
        assert got.view.done == 1 and got.session.usage == Usage(prompt_tokens=5, completion_tokens=9)


def test_when_only_the_finish_chunk_is_missing_no_request_is_sent() -> None:
    """k = N: max_tokens 0 would be refused by the engine."""
    events = serve(TEXT, session(TEXT, **GREEDY, max_tokens=6).first_request())
    last = json.loads(events[-2][6:])
    last["choices"][0]["finish_reason"] = None
    cut = json.dumps(last, separators=(",", ":"), ensure_ascii=False).encode()
    got = run(TEXT, PROMPT | GREEDY | {"max_tokens": 6}, lambda *_: [*events[:-2], b"data: " + cut + b"\n\n"])
    whole = not decode(last["choices"][0]["token_ids"]).endswith("�")
    assert whole and isinstance(got.end, Finish) and not got.retries
    assert got.view.same_answer(run(TEXT, PROMPT | GREEDY | {"max_tokens": 6}).view)


# -- breaks


def test_before_the_client_has_anything_the_same_request_is_sent_again() -> None:
    for more in (GREEDY, FORM, {"seed": 1}):
        ask = session(**more)
        assert ask.feed(b": ping\n\ndata: {") == b": ping\n\n"
        decision = ask.broken("connection reset", 0.0)
        assert isinstance(decision, Retry)
        assert (decision.path, decision.body) == (CHAT, ask.first_request())
        assert "nothing had been sent" in decision.reason and ask.resumes == 0
        assert ask.feed(b"".join(serve(CHAT, decision.body))).endswith(b"data: [DONE]\n\n")
        assert ask.finish_ok


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(CASES)), st.lists(st.integers(0, 30), max_size=5), st.integers(1, 3))
def test_a_resumed_stream_is_resumed_again(name: str, cuts: list[int], width: int) -> None:
    route, body, _ = CASES[name]
    servers = [Server("a", width=width), Server("b", width=1 + width % 3)]
    want = run(route, body, servers=servers[:1])
    got = run(route, body, cut_at(*cuts), servers=servers)
    if isinstance(got.end, GiveUp):
        assert width > 1, got.end
        return
    assert got.view.same_answer(want.view), (got.retries, got.view, want.view)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 16), min_size=1, max_size=4), st.booleans())
def test_sampling_without_a_seed_goes_on_from_its_own_tokens(cuts: list[int], usage: bool) -> None:
    """Another sample is drawn behind the cut, but what the client has stays the prompt of what follows."""
    body = OPEN | (EACH if usage else {}) | {"ignore_eos": True}
    got = run(CHAT, body, cut_at(*cuts))
    assert got.view.error is None and got.session.finish_ok
    assert got.view.finish[0][0] == "length"
    assert got.session.usage == Usage(prompt_tokens=5, completion_tokens=12)
    for before, retry in zip([None, *got.retries], got.retries, strict=False):
        if retry.path == TEXT:
            asked = json.loads(retry.body)
            ids = asked["prompt"][5:]
            assert got.view.text[0].startswith(decode(ids))
            assert asked["max_tokens"] == 12 - len(ids)
            assert "seed" not in asked and before is not retry
    if usage:
        assert got.view.last_usage["completion_tokens"] == 12


def test_half_characters_are_generated_again() -> None:
    """Ids behind the last whole character are left out; the detokenizer would replay the prompt otherwise."""
    seen = 0
    for cut in range(2, 26):
        got = run(CHAT, MESSAGES | GREEDY | {"max_tokens": 24}, cut_at(cut))
        for retry in got.retries:
            ids = json.loads(retry.body)["prompt"]
            assert not decode(ids).endswith("�")
            seen += len(ids) - 5 < cut - 1
    assert seen


def test_with_a_tokenizer_every_boundary_is_known() -> None:
    class Decoder:
        def decode(self, ids: Any, skip_special_tokens: bool = True) -> str:
            return decode(list(ids))

    body = MESSAGES | GREEDY | {"max_tokens": 24}
    servers = [Server("a", width=3), Server("b", width=2)]
    want = run(CHAT, body, servers=servers)
    for cut in range(1, 14):
        got = run(CHAT, body, cut_at(cut), Policy(decoder=Decoder()), servers)
        assert got.view.same_answer(want.view) and got.session.resumes <= 1


def test_chunks_of_many_tokens_without_a_tokenizer() -> None:
    """A boundary that proves to lie inside a character is noticed and another one taken."""
    servers = [Server("a", width=4), Server("b", width=3)]
    body = MESSAGES | GREEDY | {"max_tokens": 40, "min_tokens": 40}
    want = run(CHAT, body, servers=servers)
    for cut in range(1, 12):
        got = run(CHAT, body, cut_at(cut), servers=servers)
        assert got.view.same_answer(want.view), (cut, got.retries)


def test_sampled_chunks_of_many_tokens_go_on_inside_a_character() -> None:
    """No other draw is needed: what vLLM repeats of prompt and answer is recognized and left out."""
    servers = [Server("a", width=3), Server("b", width=4)]
    body = OPEN | {"max_tokens": 40, "ignore_eos": True}
    saved = 0
    for cut in range(2, 13):
        for _ in range(4):
            got = run(CHAT, body, cut_at(cut), servers=servers)
            if isinstance(got.end, GiveUp):  # the answer was too short to be recognized
                assert cut < 6
                continue
            retry = json.loads(got.retries[0].body)
            if "prompt" not in retry:  # only half a character had come: nothing had been sent
                continue
            inside = decode(retry["prompt"]).endswith("�")
            saved += inside
            sent = decode(retry["prompt"][5:]).rstrip("�")
            assert got.view.text[0].startswith(sent) and "the sea 猫" not in got.view.text[0]
            assert got.session.usage == Usage(prompt_tokens=5, completion_tokens=40)
    assert saved


def test_another_answer_is_an_error_when_exact_and_goes_on_when_best_effort() -> None:
    servers = [Server("a"), Server("b", quirk=1)]
    body = MESSAGES | FORM | {"seed": 3, "max_tokens": 20, "response_format": None, "tools": TOOLS["tools"]}
    exact = run(CHAT, body, cut_at(12), servers=servers)
    assert isinstance(exact.end, GiveUp) and "differs" in exact.end.reason
    assert exact.view.error["type"] == "upstream_lost" and exact.view.done == 0
    assert not exact.session.finish_ok
    easy = run(CHAT, body, cut_at(12), Policy(mode="best-effort"), servers)
    assert easy.view.error is None and easy.view.done == 1 and easy.session.finish_ok


def cut_after(*counts: int) -> Cut:
    """Attempt i ends after so many events; the last count holds for all that follow."""

    def cut(attempt: int, events: list[bytes]) -> list[bytes]:
        return events[: counts[min(attempt, len(counts) - 1)]]

    return cut


LONG = MESSAGES | GREEDY | {"max_tokens": 60, "ignore_eos": True}
AGES = Policy(max_resumes=3, window_s=0.0)
"""Breaks that are far apart."""


@pytest.mark.parametrize("policy", [Policy(max_resumes=3), AGES])
@pytest.mark.parametrize("more", [{}, {"presence_penalty": 1}, {"n": 2, "temperature": 1, "seed": 1}])
def test_a_stream_that_breaks_without_a_token_more_is_given_up_however_slowly(
    policy: Policy, more: dict[str, Any]
) -> None:
    """It broke there before, and will again: each further attempt throws a generation away."""
    got = run(CHAT, LONG | more, cut_after(6, 1), policy)
    assert isinstance(got.end, GiveUp) and len(got.retries) == 3
    assert "3 in a row without a token more" in got.end.reason or "4 in a row" in got.end.reason


def test_a_stream_that_gets_on_survives_more_breaks_within_bounds() -> None:
    unlucky = run(CHAT, LONG, cut_after(4, 4, 4, 4, 4, 4, 999), Policy(max_resumes=3))
    assert unlucky.session.finish_ok and len(unlucky.retries) == 6, "seven attempts, each with a few tokens"
    at_once = run(CHAT, LONG, cut_after(3), Policy(max_resumes=3))
    assert isinstance(at_once.end, GiveUp) and len(at_once.retries) == 6, "within a minute"
    slowly = run(CHAT, LONG, cut_after(3), AGES)
    assert isinstance(slowly.end, GiveUp) and len(slowly.retries) == 12, "in all"
    assert isinstance(run(CHAT, LONG, cut_after(3), Policy(max_resumes=0)).end, GiveUp)


def test_off_retries_only_what_nobody_has_seen() -> None:
    off = Policy(mode="off")
    body = MESSAGES | GREEDY | {"max_tokens": 9}
    assert run(CHAT, body, cut_at(0), off).session.finish_ok
    got = run(CHAT, body, cut_at(4), off)
    assert isinstance(got.end, GiveUp) and "resume: off" in got.end.reason
    assert got.view.error and not got.session.finish_ok


def test_reasoning_that_the_request_did_not_tell_of_is_replayed() -> None:
    servers = [Server("a", reasoning=True), Server("b", reasoning=True)]
    body = MESSAGES | GREEDY | {"max_tokens": 16}
    want = run(CHAT, body, servers=servers)
    assert want.view.reasoning[0] and want.session.row.way == "continue"
    for cut in range(1, 18):
        got = run(CHAT, body, cut_at(cut), servers=servers)
        assert got.view.same_answer(want.view), (cut, got.retries)
    known = run(CHAT, body, cut_at(6), Policy(reasoning=True), servers)
    assert known.session.row.way == "replay" and known.view.same_answer(want.view)


def test_an_engine_that_tells_no_ids_is_replayed() -> None:
    servers = [Server("old", honours_ids=False)]
    body = MESSAGES | GREEDY | {"max_tokens": 16}
    want = run(CHAT, body, servers=servers)
    for cut in range(1, 18):
        got = run(CHAT, body, cut_at(cut), servers=servers)
        assert got.view.same_answer(want.view)
        assert all(retry.path == CHAT for retry in got.retries)


# -- the other routes, and hostile bytes


@given(st.lists(st.binary(max_size=80)))
def test_no_bytes_make_it_raise(pieces: list[bytes]) -> None:
    for route in (CHAT, TEXT, "/v1/messages", "/v1/rerank"):
        ask = session(route)
        for piece in pieces:
            ask.feed(b"data: " + piece + b"\n\n")
        assert isinstance(ask.broken("reset", 1.0), Retry | GiveUp | Finish)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "index",
                    "delta",
                    "content",
                    "text",
                    "token_ids",
                    "prompt_token_ids",
                    "finish_reason",
                    "usage",
                    "logprobs",
                    "tool_calls",
                    "function",
                    "arguments",
                    "error",
                    "code",
                    "role",
                    "prompt_tokens",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=120, deadline=None)
@given(
    st.lists(
        st.dictionaries(st.sampled_from(["id", "choices", "usage", "error", "created"]), JSON), max_size=6
    ),
    JSON,
)
def test_no_json_makes_it_raise(docs: list[Any], odd: Any) -> None:
    for more in (GREEDY, FORM):
        ask = session(**more, stop=odd, max_tokens=odd, stream_options=odd)
        for doc in docs:
            ask.feed(b"data: " + json.dumps(doc).encode() + b"\n\n")
        ask.broken("reset", 1.0)
        for doc in docs:
            ask.feed(b"data: " + json.dumps(doc).encode() + b"\n\n")


def test_a_body_that_is_no_object_is_refused() -> None:
    for body in (b"", b"[]", b"{", b'"x"'):
        with pytest.raises(msgspec.DecodeError):
            StreamSession(CHAT, body, Policy(), Random(1))


def test_the_record_is_small() -> None:
    ask = session(**GREEDY)
    prompt = ",".join(str(i % 50_000) for i in range(100_000))
    role = '{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}'
    head = '{"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":['
    echo = f'data: {head}{role}],"prompt_token_ids":[{prompt}],"prompt_text":null}}\n\n'
    assert ask.feed(echo.encode()) == b""  # it waits for the first token, with which the engine writes it
    before = ask.nbytes
    tail = '"},"logprobs":null,"finish_reason":null,"token_ids":['
    shown = [
        ask.feed(f'data: {head}{{"index":0,"delta":{{"content":" w{tail}{i}]}}]}}\n\n'.encode())
        for i in range(10_000)
    ]
    assert b'"prompt_token_ids":null' in shown[0] and len(shown[0]) < 600
    assert ask.tokens_out == 10_000 and ask.usage == Usage(prompt_tokens=100_000, completion_tokens=10_000)
    assert (ask.nbytes - before) / 10_000 < 16
    assert before < 700_000


def test_a_stream_that_nobody_counted_is_estimated() -> None:
    """A client that leaves in the middle pays for what it has got."""
    ask = session(seed=1, max_tokens=12)
    assert ask.usage is None
    for event in serve(CHAT, ask.first_request())[:6]:
        ask.feed(event)
    usage = ask.usage
    assert usage is not None and usage.estimated
    assert (
        usage.completion_tokens == ask.tokens_out >= 4
        and usage.prompt_tokens == len(json.dumps(MESSAGES)) // 4 + 7
    )

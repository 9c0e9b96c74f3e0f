"""How long an answer may be, behind a break as before it."""

from __future__ import annotations

import json
from random import Random

import pytest

from seawall.decide.route.resume import Finish, Policy, Retry, StreamSession

from .client import CHAT, cut_at, run, view
from .model_engine import Server, serve
from .test_matrix import GREEDY, MESSAGES


def test_without_max_tokens_the_models_length_is_the_limit() -> None:
    servers = [Server("a", max_model_len=30), Server("b", max_model_len=30)]
    body = MESSAGES | GREEDY | {"ignore_eos": True}
    want = run(CHAT, body, servers=servers)
    for policy in (Policy(), Policy(max_model_len=30)):
        for cut in range(1, 20):
            assert run(CHAT, body, cut_at(cut), policy, servers).view.same_answer(want.view)


@pytest.mark.parametrize("asked", [{}, {"max_tokens": 20}])
def test_the_engines_own_bound_is_not_granted_anew(asked: dict[str, int]) -> None:
    """vLLM bounds by it what asks for more, too."""
    body = MESSAGES | GREEDY | {"ignore_eos": True} | asked
    servers = [Server("a", most_tokens=12), Server("b", most_tokens=12)]
    got = run(CHAT, body, cut_at(5), Policy(most_tokens=12, max_model_len=30), servers)
    assert got.view.same_answer(run(CHAT, body, servers=servers).view)
    assert len(got.retries) == 1
    again, usage = json.loads(got.retries[0].body), got.session.usage
    assert usage is not None
    assert again["max_tokens"] == 12 - (len(again["prompt"]) - usage.prompt_tokens)
    assert got.session.tokens_out == 12


def test_a_continuation_that_does_not_fit_the_model_ends_with_length() -> None:
    body = MESSAGES | GREEDY | {"ignore_eos": True, "stream_options": {"include_usage": True}}
    got = run(CHAT, body, cut_at(6, 0), Policy(max_resumes=9), [Server("a"), Server("b"), Server("c")])
    ask = StreamSession(CHAT, json.dumps(body).encode(), Policy(), Random(7))
    raw = b"".join(map(ask.feed, serve(CHAT, ask.first_request(), Server("a"))[:6]))
    assert isinstance(ask.broken("reset", 0.0), Retry)
    end = ask.broken("the model's length", 1.0, full=True)
    assert isinstance(end, Finish)
    seen = view(raw + end.event)
    assert seen.finish == {0: ("length", None)} and seen.done == 1
    assert seen.usage["completion_tokens"] == ask.tokens_out > 0
    assert seen.text[0] and got.view.text[0].startswith(seen.text[0])

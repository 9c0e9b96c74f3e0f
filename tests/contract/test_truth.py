"""The prompts of a fingerprint, asked of both engines: answered with ids and numbers, and the same when asked again."""

from __future__ import annotations

import pytest

from seawall.decide.truth.fingerprint import KnownAnswer, TruthAnswer, compare, noise_of
from seawall.decide.truth.prompts import prompts
from seawall.engines.vllm.truth import answer_of, ask_of


def _asked(server, prompt, salt: str) -> TruthAnswer:
    path, body = ask_of(prompt, server.model, salt)
    answer = server.ask("POST", path, body)
    assert answer.status == 200, answer.body
    return answer_of(answer.json)


@pytest.mark.parametrize("prompt", [*prompts()[:4], prompts(280, 40)[-1]], ids=lambda p: p.name)
def test_a_prompt_is_answered_with_ids_and_logprobs_and_the_same_again(server, prompt) -> None:
    first = _asked(server, prompt, "one")

    assert len(first.prompt_ids) > 5
    assert len(first.ids) == len(first.top) == prompt.tokens
    assert all(token in step for token, step in zip(first.ids, first.top, strict=True))
    assert all(-60 < v <= 1e-4 for step in first.top for v in step.values())

    again = _asked(server, prompt, "two")
    move = compare(KnownAnswer(prompt, first, noise_of([first, again])), again)
    assert not move.moved, str(move)

"""How a prompt of a fingerprint is asked of vLLM, and how its answer is read.

Asked with a salt of its own, so that nothing comes from the prefix cache: a cache that was filled before the weights
went bad would answer for them. Never with the logprobs of the prompt: where vLLM 0.32 cuts a prompt in two because
others fill the step (chunked prefill), its engine core dies of them (vLLM issue 14239). This very file is mounted
beside the probe script of a Pod: no import but the standard library's and the comparison's.
"""

from __future__ import annotations

from typing import Any

try:
    from fingerprint import PinnedPrompt, TruthAnswer  # type: ignore[import-not-found]
except ImportError:  # outside a Pod
    from seawall.decide.truth.fingerprint import PinnedPrompt, TruthAnswer

TOP = 20
"""The most that vLLM gives unless told otherwise (`--max-logprobs`)."""
CHATS = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
NO_NUMBER = ("not JSON compliant", "Out of range float")
"""In the body of the error that vLLM gives when a logprob is NaN: a 400 in 0.32, as if the request were at fault."""


def is_no_number(status: int, text: str) -> bool:
    """Whether an error says that the model computes NaN or infinity."""
    return status in (400, 500) and any(words in text for words in NO_NUMBER)


def ask_of(prompt: PinnedPrompt, model: str, salt: str) -> tuple[str, dict[str, Any]]:
    """(path, body) of the request."""
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": prompt.tokens,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
        "cache_salt": salt,
    }
    if prompt.kind in ("chat", "rows"):
        best = {"logprob_token_ids": list(prompt.rows)} if prompt.rows else {"top_logprobs": TOP}
        said = [{"role": "user", "content": prompt.given}]
        return CHATS, {**body, "messages": said, "logprobs": True, **best}
    given = prompt.given if isinstance(prompt.given, str) else list(prompt.given)
    return COMPLETIONS, {**body, "prompt": given, "logprobs": TOP}


def answer_of(page: Any) -> TruthAnswer:
    """The answer in a response's JSON. ValueError when it is none; a value that is no number becomes NaN."""
    try:
        choice = page["choices"][0]
        chat = "message" in choice
        ids = tuple(int(t) for t in (page if chat else choice)["prompt_token_ids"])
        said = choice["logprobs"]
        top = _chat_top(said["content"]) if chat else _text_top(said)
        return TruthAnswer(ids, tuple(int(t) for t in choice["token_ids"]), top)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as e:
        raise ValueError(f"not an answer with logprobs ({type(e).__name__}: {e})") from None


def _chat_top(content: Any) -> tuple[dict[int, float], ...]:
    steps = []
    for entry in content:
        step = {_token(e["token"]): _number(e["logprob"]) for e in entry["top_logprobs"]}
        steps.append({**step, _token(entry["token"]): _number(entry["logprob"])})
    return tuple(steps)


def _text_top(said: Any) -> tuple[dict[int, float], ...]:
    steps = []
    for token, value, best in zip(said["tokens"], said["token_logprobs"], said["top_logprobs"], strict=True):
        step = {_token(t): _number(v) for t, v in best.items()}
        steps.append({**step, _token(token): _number(value)})
    return tuple(steps)


def _token(text: str) -> int:
    return int(text.removeprefix("token_id:"))


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)

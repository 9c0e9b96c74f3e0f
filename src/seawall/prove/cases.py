"""The requests of a proof, each with the answer that an otherwise idle engine gave to it.

Every case is greedy, so its ids are known beforehand and each answer is compared token by token. The mix has
both routes, streams and whole answers, text and ids, answers cut by length and answers that end by themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seawall.errors import EngineError
from seawall.load.client import ClientPatience, LoadClient, RequestOutcome

TOPICS = (
    "the sea wall", "a storm from the north", "copper and oranges", "the harbour at night", "a leaking gate",
    "an engineer and her tide tables", "letters that arrive late", "the lighthouse keeper", "salt", "old granite",
    "a ship that would not wait", "gulls",
)  # fmt: skip


CaseRequest = tuple[str, str, dict[str, Any]]
"""Name, path and payload of a request."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One request and its known answer."""

    name: str
    path: str
    payload: dict[str, Any]
    ids: tuple[int, ...]
    text: str
    finish_reason: str
    prompt_tokens: int = 0

    @property
    def streams(self) -> bool:
        return bool(self.payload.get("stream"))


def requests(model: str, tokens: Sequence[int], count: int) -> list[CaseRequest]:
    """`count` cases; answers have `tokens[i % len]` tokens at most."""
    made: list[CaseRequest] = []
    for i in range(count):
        topic = TOPICS[i % len(TOPICS)]
        limit = tokens[i % len(tokens)]
        common: dict[str, Any] = {"model": model, "temperature": 0, "max_tokens": limit, "stream": True}
        chat = {
            **common,
            "messages": [{"role": "user", "content": f"Tell a story about {topic}, number {i}."}],
        }
        plain = {**common, "prompt": f"A story about {topic}, number {i}:"}
        counted = {"stream_options": {"include_usage": True}}
        kinds: list[CaseRequest] = [
            ("chat", "/v1/chat/completions", {**chat, "ignore_eos": True, **counted}),
            (
                "chat-ids",
                "/v1/chat/completions",
                {**chat, "ignore_eos": True, "return_token_ids": True, **counted},
            ),
            ("text", "/v1/completions", {**plain, "ignore_eos": True, **counted}),
            ("text-ids", "/v1/completions", {**plain, "ignore_eos": True, "return_token_ids": True}),
            ("chat-to-its-end", "/v1/chat/completions", chat),
            ("whole", "/v1/chat/completions", {**chat, "stream": False, "max_tokens": max(1, limit // 4)}),
        ]
        name, path, payload = kinds[i % len(kinds)]
        made.append((f"{name}-{i}", path, payload))
    return made


UNJUDGED = ClientPatience(first_s=900, stall_s=900)
"""With an engine that only tells what is right: on a busy CPU a held-back answer is silent for minutes."""


async def ask_reference(
    url: str,
    wanted: Sequence[CaseRequest],
    parallel: int = 4,
    api_key: str | None = None,
) -> list[Case]:
    """Answers to each request from an engine that does nothing else. EngineError when one does not come whole."""
    client = LoadClient(url, api_key=api_key)
    limit = asyncio.Semaphore(parallel)

    async def one(name: str, path: str, payload: dict[str, Any]) -> Case:
        # Every answer is asked for with ids, as a stream, whatever the case asks for later.
        asked = {
            **payload,
            "stream": True,
            "return_token_ids": True,
            "stream_options": {"include_usage": True},
        }
        async with limit:
            o = await client.request(path, asked, patience=UNJUDGED)
        if not o.ok or o.finish_reason is None or not o.ids:
            raise EngineError(
                f"the reference engine failed on {name}: {o.error} {o.detail}",
                "The proof needs one quiet engine to learn the right answers from; look at its log.",
            )
        return Case(
            name=name,
            path=path,
            payload=payload,
            ids=tuple(o.ids),
            text="".join(o.text),
            finish_reason=o.finish_reason,
            prompt_tokens=o.prompt_tokens or 0,
        )

    try:
        return list(await asyncio.gather(*(one(*w) for w in wanted)))
    finally:
        client.close()


@dataclass(frozen=True, kw_only=True)
class AnswerCheck:
    """One answer against what must come."""

    wrong_tokens: int
    wrong_usage: bool
    note: str = ""
    doubled_tokens: int = 0
    """Those of the wrong ones that came once more."""


def check(case: Case, outcome: RequestOutcome, any_gateway: bool = False) -> AnswerCheck:
    """Compares a whole answer; tokens missing, extra or different each count. `any_gateway`: an answer without any ids
    is compared by its text, and a usage that nobody asked for is not looked at."""
    if case.payload.get("return_token_ids") and (outcome.ids or not any_gateway):
        pairs = list(zip(case.ids, outcome.ids, strict=False))
        wrong = sum(a != b for a, b in pairs) + abs(len(case.ids) - len(outcome.ids))
        at = next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))
        note = f"ids differ from token {at} on" if wrong else ""
    else:
        wrong, note = 0, ""
    text = "".join(outcome.text)
    if text != case.text:
        same = next((i for i, (a, b) in enumerate(zip(text, case.text, strict=False)) if a != b), None)
        same = min(len(text), len(case.text)) if same is None else same
        share = same / max(1, len(case.text))
        wrong = max(wrong, 1, round(len(case.ids) * (1 - share)))
        note = (
            note
            or f"text differs from character {same} on: {text[same : same + 40]!r}, not {case.text[same : same + 40]!r}"
        )
    if outcome.finish_reason != case.finish_reason:
        wrong, note = (
            max(wrong, 1),
            note or f"finish_reason {outcome.finish_reason}, not {case.finish_reason}",
        )
    asked = not case.streams or case.payload.get("stream_options")
    counted = outcome.completion_tokens if asked or not any_gateway else None
    wrong_usage = counted is not None and counted != len(case.ids)
    if wrong_usage and not note:
        note = f"usage says {counted} completion tokens, {len(case.ids)} came"
    doubled = doubled_tokens(case, outcome) if wrong else 0
    return AnswerCheck(wrong_tokens=wrong, wrong_usage=wrong_usage, note=note, doubled_tokens=doubled)


def doubled_tokens(case: Case, outcome: RequestOutcome) -> int:
    """Tokens of a part that came twice: without it, the answer is what must come. 0: that is not what is wrong."""
    if case.payload.get("return_token_ids") and outcome.ids:
        return _repeated(tuple(outcome.ids), case.ids)
    text, wanted = "".join(outcome.text), case.text
    return max(1, round(len(case.ids) * again / len(wanted))) if (again := _repeated(text, wanted)) else 0


def _repeated(came: Sequence[Any], wanted: Sequence[Any]) -> int:
    """The length of the part of `wanted` that `came` has twice, one behind the other; 0: there is none."""
    extra = len(came) - len(wanted)
    if extra <= 0:
        return 0
    pairs = zip(came, wanted, strict=False)
    same = next((i for i, (a, b) in enumerate(pairs) if a != b), len(wanted))
    again = any(came[at:] == wanted[at - extra :] for at in range(extra, same + 1))
    return extra if again else 0

"""A client that reads a stream, and a gateway's relay reduced to a loop: what the stories in here share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from seawall.decide.route.resume import Finish, GiveUp, Policy, Retry, StreamSession

from .model_engine import Refused, Server, serve

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"


@dataclass
class View:
    """What a client makes of the bytes."""

    ids: set[str] = field(default_factory=set)
    created: set[int] = field(default_factory=set)
    text: dict[int, str] = field(default_factory=dict)
    reasoning: dict[int, str] = field(default_factory=dict)
    calls: dict[tuple[int, int], dict[str, str]] = field(default_factory=dict)
    roles: int = 0
    finish: dict[int, tuple[str, Any]] = field(default_factory=dict)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)
    usage: Any = None
    last_usage: Any = None
    fingerprint: str | None = None
    error: Any = None
    done: int = 0

    def same_answer(self, other: View, logprob_error: float = 0.0) -> bool:
        """`logprob_error`: by how much they may differ. A real engine computes a prompt and a decoded token apart."""
        keys = ["text", "reasoning", "finish", "token_ids", "usage", "roles", "error", "done"]
        calls = [{k: v for k, v in c.items() if k != "id"} for c in self.calls.values()]
        others = [{k: v for k, v in c.items() if k != "id"} for c in other.calls.values()]
        same = calls == others and all(getattr(self, key) == getattr(other, key) for key in keys)
        return same and alike(self.logprobs, other.logprobs, logprob_error)


def alike(one: Any, other: Any, error: float) -> bool:
    """Equal, but for so much in numbers."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= error
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key], error) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(alike(a, b, error) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def view(raw: bytes) -> View:
    seen = View()
    for event in raw.split(b"\n\n")[:-1]:
        if event.startswith(b":"):
            continue
        payload = event.removeprefix(b"data: ")
        if payload == b"[DONE]":
            seen.done += 1
            continue
        assert not seen.done, "an event behind [DONE]"
        doc = json.loads(payload)
        if "error" in doc:
            seen.error = doc["error"]
            continue
        seen.ids.add(doc["id"])
        seen.created.add(doc["created"])
        seen.fingerprint = doc.get("system_fingerprint") or seen.fingerprint
        if doc.get("usage"):
            seen.last_usage = doc["usage"]
            if not doc["choices"]:
                seen.usage = doc["usage"]
        for choice in doc["choices"]:
            _choice(seen, choice)
    return seen


def _choice(seen: View, choice: dict[str, Any]) -> None:
    index = choice["index"]
    assert index not in seen.finish, "a chunk behind the finish"
    delta = choice.get("delta") or {}
    text = choice.get("text") or delta.get("content") or ""
    seen.text[index] = seen.text.get(index, "") + text
    if delta.get("reasoning"):
        seen.reasoning[index] = seen.reasoning.get(index, "") + delta["reasoning"]
    seen.roles += "role" in delta
    for call in delta.get("tool_calls") or ():
        known = seen.calls.setdefault((index, call["index"]), {"id": "", "name": "", "arguments": ""})
        known["id"] += call.get("id", "")
        known["name"] += call["function"].get("name", "")
        known["arguments"] += call["function"].get("arguments", "")
    logprobs = choice.get("logprobs")
    if logprobs:
        if "content" in logprobs:
            seen.logprobs += logprobs["content"]
        else:
            keys = ("text_offset", "tokens", "token_logprobs", "top_logprobs")
            seen.logprobs += list(zip(*(logprobs[key] for key in keys), strict=True))
    seen.token_ids += choice.get("token_ids") or []
    if choice.get("finish_reason") is not None:
        seen.finish[index] = (choice["finish_reason"], choice.get("stop_reason"))


@dataclass
class Run:
    raw: bytes
    session: StreamSession
    retries: list[Retry] = field(default_factory=list)
    end: Finish | GiveUp | None = None

    @property
    def view(self) -> View:
        return view(self.raw)


Cut = Callable[[int, list[bytes]], Iterable[bytes]]
"""(attempt, events of the replica) -> the byte strings that arrive before the replica is lost."""


def whole(_: int, events: list[bytes]) -> list[bytes]:
    return events


def run(
    route: str,
    body: dict[str, Any],
    cut: Cut = whole,
    policy: Policy | None = None,
    servers: list[Server] | None = None,
) -> Run:
    """Relay one request; attempt i goes to servers[i] (the last one again and again)."""
    session = StreamSession(route, json.dumps(body).encode(), policy or Policy(max_resumes=50), Random(7))
    result = Run(b"", session)
    path, sent = route, session.first_request()
    servers = servers or [Server("a"), Server("b")]
    for attempt in range(60):
        reason = "reset"
        try:
            events = serve(path, sent, servers[min(attempt, len(servers) - 1)])
        except Refused as refused:
            events, reason = [], str(refused)
        for data in cut(attempt, events):
            result.raw += session.feed(data)
            if session.failed or session.done:
                break
        if session.done:
            return result
        decision = session.broken(reason, float(attempt))
        if not isinstance(decision, Retry):
            result.raw += decision.event
            result.end = decision
            return result
        result.retries.append(decision)
        path, sent = decision.path, decision.body
    raise AssertionError("never ended")


def cut_at(*counts: int) -> Cut:
    """The first attempts end after so many events, the next one is whole."""

    def cut(attempt: int, events: list[bytes]) -> list[bytes]:
        return events[: counts[attempt]] if attempt < len(counts) else events

    return cut

"""What a fleet promises about broken streams, and the decisions a session returns. Plain values only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol, TypeGuard


class Decoder(Protocol):
    """The one thing we need of a tokenizer (`tokenizers.Tokenizer` has it)."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How a fleet resumes: from `spec.gateway.resume` and the engine's flags."""

    mode: Literal["exact", "best-effort", "off"] = "exact"
    """exact: a stream that cannot be continued exactly ends in an error event. best-effort: it goes on.
    off: only streams of which the client has seen nothing yet are tried again."""
    max_resumes: int = 3
    """Breaks in a row, with no token between them, that one stream survives; see `Breaks` for the rest."""
    window_s: float = 60.0
    reasoning: bool = False
    """The engine runs with --reasoning-parser: chat deltas are not plain text."""
    usage: bool = True
    """Ask for token counts even where the client did not (they are hidden again)."""
    max_model_len: int | None = None
    """Tokens of prompt and answer together, where known: the length limit of requests without max_tokens."""
    most_tokens: int | None = None
    """The engine's own bound on every answer, where one is set (max_new_tokens of `--override-generation-config`)."""
    decoder: Decoder | None = None
    """With it, every token boundary is known exactly; without it, only single-token chunks are certain."""


BURST = 2
"""Times `max_resumes`: breaks within `window_s`."""
IN_ALL = 4
"""Times `max_resumes`: breaks of one request, however long it runs."""


class Breaks:
    """How often one stream has broken, against how often it may: in a row without a token more, in a while, in all.

    A stream that gets on is unlucky, one that breaks where it broke before breaks by itself, however slowly."""

    __slots__ = ("_at", "_policy", "_tokens", "count", "in_vain")

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._at: list[float] = []
        self._tokens = 0
        self.count = 0
        self.in_vain = 0
        """Since the last token that was new to the client."""

    def allow(self, now: float, tokens: int) -> bool:
        """Counts one more break at `now`, seconds of any origin, after so many tokens of the answer: whether the stream
        may go on after it."""
        most = self._policy.max_resumes
        self.in_vain = 1 if tokens > self._tokens else self.in_vain + 1
        self._tokens = max(self._tokens, tokens)
        self.count += 1
        self._at = [at for at in self._at if now - at < self._policy.window_s]
        self._at.append(now)
        return self.in_vain <= most and len(self._at) <= BURST * most and self.count <= IN_ALL * most


@dataclass(frozen=True, kw_only=True)
class Retry:
    """Send `body` to `path` on another replica and feed its stream to the same session."""

    path: str
    body: bytes
    reason: str


@dataclass(frozen=True, kw_only=True)
class Finish:
    """Nothing is missing but the end: send `event` to the client, and the stream is complete."""

    event: bytes
    reason: str


@dataclass(frozen=True, kw_only=True)
class GiveUp:
    """The stream cannot be saved: send `event` (an error event in the route's own shape) and end."""

    event: bytes
    reason: str


Decision = Retry | Finish | GiveUp


MOST_TOKENS: Final = 1 << 31
"""Of one request: what an engine says beyond it, or below zero, is no count, and counts for nothing."""


def is_count(value: object) -> TypeGuard[int]:
    """Whether an engine's number of tokens may be one."""
    return type(value) is int and 0 <= value <= MOST_TOKENS


class Usage(NamedTuple):
    """Tokens of one request over all its attempts, as the client pays for them."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None
    estimated: bool = False
    """Nobody told: chunks counted as tokens, and four bytes of the request as one."""

"""What the simulated model says: the next token is a hash of all ids before it, in O(1) per token.

Greedy text depends on the ids alone: not on batching, on the replica, or on where prompt ends and answer begins, so
`prompt + ids generated so far` continues to the same end, as with a real model at temperature 0. Seeded sampling
restarts with the request, as on vLLM's V1 runner: a continued seeded stream differs. A grammar restarts too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seawall.engines.sim.tokens import TURN_END, Vocabulary, incomplete_tail, vocabulary

_MASK = (1 << 64) - 1
_EVERY_STOP = 192
"""One word in so many ends the answer."""
_EVERY_CHARACTER = 12
"""One word in so many is a character of several tokens."""


def _mix(h: int) -> int:
    """SplitMix64's finalizer (Steele, Lea, Flood 2014)."""
    h = ((h ^ (h >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    h = ((h ^ (h >> 27)) * 0x94D049BB133111EB) & _MASK
    return h ^ (h >> 31)


@dataclass(frozen=True)
class Sampling:
    """What of a request decides which token comes."""

    salt: int | None = None
    """None: greedy. Otherwise noise that restarts with the request."""
    penalised: bool = False
    """presence_penalty or frequency_penalty: looks at this request's own output only."""
    ignore_eos: bool = False
    min_tokens: int = 0
    forced: frozenset[int] = frozenset()
    banned: frozenset[int] = frozenset()
    stop_token_ids: frozenset[int] = frozenset()
    script: tuple[int, ...] = field(default=())
    """With structured output: the ids that the grammar leads to, from its start."""


class Continuation:
    """The model's state of one sequence: O(1) memory, O(1) per token."""

    def __init__(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        words: Vocabulary | None = None,
        adapter: str = "",
        weights: int = 0,
    ) -> None:
        """`weights`: 0 are the right ones, which make the same text everywhere."""
        self.vocabulary = words or vocabulary()
        self.sampling = sampling
        self.state = int.from_bytes(adapter.encode()[-8:].rjust(8, b"\0")) if adapter else 0
        self.state ^= weights
        self.position = 0
        self.own = 0
        self._tail = b""
        for token in prompt:
            self.state = ((self.state ^ (token + 1)) * 0x9E3779B97F4A7C15 + 0x7F4A7C15) & _MASK
        data = b"".join(self.vocabulary.bytes[t] for t in prompt[-4:])
        self._tail = incomplete_tail(data)

    def next(self) -> int:
        """The next token id; the state moves on by it."""
        token = self._choose()
        self.state = ((self.state ^ (token + 1)) * 0x9E3779B97F4A7C15 + 0x7F4A7C15) & _MASK
        self.position += 1
        if self.sampling.penalised:
            self.own = _mix(self.own ^ (token + 1))
        self._tail = incomplete_tail(self._tail + self.vocabulary.bytes[token])
        return token

    def logprob(self, token: int) -> float:
        """A stable stand-in for the token's logprob, between -3 and 0."""
        return -(_mix(self.state ^ token) % 3000) / 1000.0

    def _choose(self) -> int:
        s, v = self.sampling, self.vocabulary
        if s.script:
            return s.script[self.position] if self.position < len(s.script) else TURN_END
        h = self.state
        if s.salt is not None:
            h ^= _mix(s.salt + self.position)
        h = _mix(h ^ self.own)
        if s.forced:
            return sorted(s.forced)[h % len(s.forced)]
        if self._tail in v.follow:
            options = v.follow[self._tail]
            return options[h % len(options)]
        for _ in range(64):
            token = self._word(h)
            ends = token == TURN_END or token in s.stop_token_ids
            if token not in s.banned and not (ends and self._must_go_on(token)):
                return token
            h = _mix(h + 1)
        return v.words[0]

    def _word(self, h: int) -> int:
        v = self.vocabulary
        if h % _EVERY_STOP == 0:
            return TURN_END
        rest = h >> 20
        if h % _EVERY_CHARACTER == 1:
            return v.starts[rest % len(v.starts)]
        return v.words[rest % len(v.words)]

    def _must_go_on(self, token: int) -> bool:
        s = self.sampling
        return self.position < s.min_tokens or (token == TURN_END and s.ignore_eos)


def answer(prompt: Sequence[int], max_tokens: int, sampling: Sampling | None = None) -> list[int]:
    """The ids that the simulated engine answers with: the pure function that a verifier may call."""
    sampling = sampling or Sampling()
    continuation = Continuation(prompt, sampling)
    ids: list[int] = []
    while len(ids) < max_tokens:
        token = continuation.next()
        ids.append(token)
        if (token == TURN_END and not sampling.ignore_eos) or token in sampling.stop_token_ids:
            break
    return ids


def structured(
    response_format: Mapping[str, Any] | None, outputs: Mapping[str, Any] | None, pick: int
) -> str | None:
    """The text that a grammar leads to, or None when the request has no grammar.

    Deterministic in `pick`. A regex is answered with its literal characters only.
    """
    outputs = outputs or {}
    if choice := outputs.get("choice"):
        return str(choice[pick % len(choice)])
    if (schema := outputs.get("json")) is not None:
        schema = json.loads(schema) if isinstance(schema, str) else schema
        return json.dumps(_instance(schema, pick))
    if outputs.get("regex"):
        return "".join(c for c in str(outputs["regex"]) if c.isalnum() or c == " ")
    kind = (response_format or {}).get("type", "text")
    if kind == "json_object" or outputs.get("json_object"):
        return json.dumps({"wave": pick % 100, "held": True, "words": ["sea", "wall"]})
    if kind == "json_schema":
        return json.dumps(_instance((response_format or {}).get("json_schema", {}).get("schema", {}), pick))
    return None


def _instance(schema: Any, pick: int, depth: int = 0) -> Any:
    """A value that fits a JSON Schema of the usual kind (no $ref, no patterns)."""
    if not isinstance(schema, dict) or depth > 16:
        return None
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][pick % len(schema["enum"])]
    for union in ("anyOf", "oneOf", "allOf"):
        if schema.get(union):
            return _instance(schema[union][0], pick, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {
            k: _instance(v, pick + i, depth + 1)
            for i, (k, v) in enumerate(schema.get("properties", {}).items())
        }
    if kind == "array":
        return [_instance(schema.get("items", {}), pick, depth + 1)] * max(1, int(schema.get("minItems", 1)))
    numbers: dict[str, Any] = {
        "integer": int(schema.get("minimum", pick % 10)),
        "number": float(schema.get("minimum", pick % 10)),
        "boolean": pick % 2 == 0,
        "null": None,
    }
    return numbers.get(kind, ("sea", "wall", "wave", "harbour")[pick % 4])

"""Prompts for a load: of a given length, with shared prefixes, from a file of conversations, or turn by turn.

Lengths are in tokens of a text whose common words are about one token each; the report gives what the server counted.
"""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from seawall.errors import InputError

WORDS = re.findall(
    r"\w+",
    """the of and to in is that for on with as was by at from it an be are this which or had not but what all were
    when we there can more if out so up time now over into than first also two new any these may our after most
    people water long way down day part could sound take only little work know place years live me back give""",
)
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
MAX_TALKS = 20_000
MAX_ENTRY = 16 * 2**20
PIECE = 2**17


@dataclass(frozen=True, kw_only=True)
class PromptTurn:
    """One request's content: its messages, and how many tokens it may answer with."""

    messages: tuple[dict[str, str], ...]
    max_tokens: int

    def chat(self, model: str, extra: dict[str, Any]) -> dict[str, Any]:
        return {"model": model, "messages": list(self.messages), "max_tokens": self.max_tokens, **extra}

    def completion(self, model: str, extra: dict[str, Any]) -> dict[str, Any]:
        text = "\n".join(m["content"] for m in self.messages)
        return {"model": model, "prompt": text, "max_tokens": self.max_tokens, **extra}

    def embedding(self, model: str) -> dict[str, Any]:
        return {"model": model, "input": "\n".join(m["content"] for m in self.messages)}


def words(count: int, rng: random.Random) -> str:
    """About `count` tokens of words, different at each draw, so that no prefix cache helps by accident."""
    return " ".join(rng.choices(WORDS, k=max(1, count)))


@dataclass
class Synthetic:
    """Prompts of drawn lengths. `shared_prefix` tokens are the same within each of `groups` groups."""

    prompt_tokens: Sequence[int]
    output_tokens: Sequence[int]
    seed: int = 0
    shared_prefix: int = 0
    groups: int = 1

    def __iter__(self) -> Iterator[PromptTurn]:
        rng = random.Random(self.seed)
        prefixes = [words(self.shared_prefix, random.Random(f"{self.seed}/{g}")) for g in range(self.groups)]
        for i in itertools.count():
            length = int(self.prompt_tokens[i % len(self.prompt_tokens)])
            text = words(max(1, length - self.shared_prefix), rng)
            if self.shared_prefix:
                text = f"{prefixes[rng.randrange(self.groups)]} {text}"
            output = max(1, int(self.output_tokens[i % len(self.output_tokens)]))
            yield PromptTurn(messages=({"role": "user", "content": text},), max_tokens=output)


@dataclass
class Conversations:
    """Turns of conversations, as a user takes them: each one carries all that was said before."""

    talks: Sequence[Sequence[dict[str, str]]]
    max_tokens: int = 256
    multi_turn: bool = False
    seed: int = 0
    _order: list[int] = field(default_factory=list)

    def __iter__(self) -> Iterator[PromptTurn]:
        rng = random.Random(self.seed)
        while True:
            order = list(range(len(self.talks)))
            rng.shuffle(order)
            for index in order:
                talk = self.talks[index]
                ends = [i for i, m in enumerate(talk) if m["role"] == "user"]
                for end in ends if self.multi_turn else ends[:1]:
                    said = (
                        len(talk[end + 1]["content"].split()) * 4 // 3
                        if end + 1 < len(talk)
                        else self.max_tokens
                    )
                    yield PromptTurn(
                        messages=tuple(talk[: end + 1]), max_tokens=max(1, min(self.max_tokens, said))
                    )


def read_conversations(path: Path) -> list[list[dict[str, str]]]:
    """A ShareGPT-like JSON or JSONL file: `conversations: [{from, value}]` or `messages: [{role, content}]`.

    Read piece by piece, at most MAX_TALKS of it, so a file of any size takes bounded memory. InputError names the first
    entry that is neither; conversations without a user's turn are left out.
    """
    talks: list[list[dict[str, str]]] = []
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for i, row in enumerate(_entries(file)):
                talk = _talk(row, f"{path}: entry {i}")
                if any(m["role"] == "user" for m in talk):
                    talks.append(talk)
                if len(talks) == MAX_TALKS:
                    break
    except (OSError, ValueError, RecursionError) as e:
        raise InputError(
            f"{path}: {e}", "Give a ShareGPT-like JSON list, or one JSON object a line."
        ) from None
    if not talks:
        raise InputError(
            f"{path} holds no conversation with a user's turn.", "Look at its first lines: head -c 500."
        )
    return talks


def _entries(file: TextIO) -> Iterator[Any]:
    """The entries of a JSON list, or one JSON value after another. ValueError where it is neither."""
    decoder, buffer, number, ended = json.JSONDecoder(), "", 0, False
    while True:
        buffer = buffer.lstrip(" \t\r\n,[\ufeff" if number == 0 else " \t\r\n,")
        if buffer[:1] == "]" or (ended and not buffer):
            return
        try:
            row, end = decoder.raw_decode(buffer)
        except ValueError as e:
            if ended or len(buffer) > MAX_ENTRY:
                where = (
                    f"entry {number} is not JSON"
                    if ended
                    else f"entry {number} is longer than {MAX_ENTRY >> 20} MiB"
                )
                raise ValueError(f"{where}: {buffer[:60]!r}") from e
            piece = file.read(max(PIECE, len(buffer)))
            buffer, ended = buffer + piece, not piece
            continue
        yield row
        number += 1
        buffer = buffer[end:]


def _talk(row: Any, where: str) -> list[dict[str, str]]:
    turns = row.get("conversations") or row.get("messages") if isinstance(row, dict) else row
    if not isinstance(turns, list):
        raise InputError(
            f"{where} has neither `conversations` nor `messages`.", "See docs/how-to/bench.md for the format."
        )
    talk = []
    for turn in turns:
        if isinstance(turn, dict):
            role = ROLES.get(str(turn.get("from") or turn.get("role")), "user")
            content = str(turn.get("value") or turn.get("content") or "")
            if content:
                talk.append({"role": role, "content": content})
    return talk

"""The pinned prompts of a fingerprint: short, so that asking is cheap, and unlike each other, so that together they
meet long and short distances, and the chat template; and sweeps, which together meet every token: a damaged row of the
embedding shows only where its token is read, one of the head only where its token is asked for or likely.

The first is asked most often: it is a chat, which moves with everything. Changing one makes every fingerprint that
exists unusable.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from seawall.decide.truth.fingerprint import PinnedPrompt

CHAT = "What is the capital of France? Answer with one word."
COLOURS = "Name three colours of the rainbow, separated by commas."
"""A template shows in two chats, so that a second prompt confirms the first."""
TEXTS = {
    "chat-twin": CHAT,
    "facts": "The capital of Japan is Tokyo, the capital of Italy is Rome, and the capital of Spain is",
    "code": "def add(a, b):\n    return a + b\n\nclass Point:\n    def __init__(self, x, y):\n        self.x =",
    "numbers": "1, 2, 3, 5, 8, 13, 21, 34. In 2024 it cost $19.99, or 75% more than",
    "languages": "Guten Morgen, wie geht es Ihnen? Bonjour, je m'appelle Anne. Buenos días. 你好，世界。 Привет",
    "markup": '{"name": "Ada", "tags": ["a", "b"], "ok": true}\n<ul><li>one</li></ul>\n| a | b |\n|---|',
    "story": "Once upon a time there was a little girl who lived near the sea with her mother and her brother. Every",
    "science": "Water is made of hydrogen and oxygen. The mitochondria are the powerhouse of the cell, because they",
}
SWEEP = 64
"""Ids of one sweep: more would hide each other."""
ROWS = 128
"""Rows of the head in one ask: the most that vLLM takes (`logprob_token_ids`)."""


def prompts(vocabulary: int = 0, swept: int = 0, without: Iterable[int] = ()) -> tuple[PinnedPrompt, ...]:
    """All pinned prompts, most telling first; behind them sweeps of the first `swept` ids of a vocabulary of
    `vocabulary`, which are the common ones, `without` those that stand for something else than text."""
    out = [PinnedPrompt("chat", "chat", CHAT), PinnedPrompt("facts", "text", TEXTS["facts"])]
    out += [PinnedPrompt("chat-colours", "chat", COLOURS)]
    out += [PinnedPrompt(name, "text", text) for name, text in TEXTS.items() if name != "facts"]
    ids = range(min(swept, vocabulary))
    read = sorted({*ids} - {*without})
    sweeps = [PinnedPrompt(f"sweep-{p[0]}", "ids", p, 1) for p in parts(read, SWEEP) if len(p) > 1]
    rows = [PinnedPrompt(f"rows-{p[0]}", "rows", CHAT, 1, p) for p in parts(ids, ROWS)]
    return (*out, *sweeps, *rows)


def parts(ids: Sequence[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(ids[at : at + size]) for at in range(0, len(ids), size)]

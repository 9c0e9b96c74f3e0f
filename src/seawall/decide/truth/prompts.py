"""The pinned prompts of a fingerprint: short, so that asking is cheap, and unlike each other, so that together they
meet many tokens, long and short distances, and the chat template.

The first two are those that move with nearly everything. Changing one makes every fingerprint that exists unusable.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

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
SWEEP = 48
"""Ids of one sweep: more would hide each other."""


def prompts(vocabulary: int = 0, swept: int = 0, seed: int = 0) -> tuple[PinnedPrompt, ...]:
    """All pinned prompts, most telling first. `swept`: token ids of a vocabulary of `vocabulary` that sweeps meet
    beside the texts', the common (small) ones first: damage of a row of the embedding shows where its token is read."""
    out = [PinnedPrompt("chat", "chat", CHAT), PinnedPrompt("facts", "text", TEXTS["facts"])]
    out += [PinnedPrompt("chat-colours", "chat", COLOURS)]
    out += [PinnedPrompt(name, "text", text) for name, text in TEXTS.items() if name != "facts"]
    return (*out, *sweeps(vocabulary, swept, seed))


def sweeps(vocabulary: int, swept: int, seed: int = 0) -> Iterable[PinnedPrompt]:
    """Prompts of ids: half the smallest, half spread over the rest, in an order by chance."""
    count = min(swept, vocabulary)
    low = list(range(count // 2))
    step = max(1, (vocabulary - len(low)) // max(1, count - len(low)))
    ids = [*low, *list(range(len(low), vocabulary, step))[: count - len(low)]]
    Random(seed).shuffle(ids)
    parts = [ids[i : i + SWEEP] for i in range(0, len(ids), SWEEP)]
    return [PinnedPrompt(f"sweep-{n}", "ids", tuple(p), 1) for n, p in enumerate(parts) if len(p) > 1]

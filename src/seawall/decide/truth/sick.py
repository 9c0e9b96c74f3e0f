"""Whether what a stream has said looks sick: a reason to ask its replica now, never a verdict.

A model may repeat itself because it was asked to, and may change its language: neither is wrong. What is looked at is
the end of what the record of a stream holds anyway, of one stream at a time, a few times a second.
"""

from __future__ import annotations

from collections.abc import Sequence

TAIL = 48
"""Tokens that are looked at."""
FEW = 3
"""Different tokens among them that are too few: repetition, or an entropy of nothing."""
IMPOSSIBLE = -9999.0
"""What vLLM writes for minus infinity."""
BROKEN = 8
"""Replacement characters (U+FFFD) in a row: bytes that are no text."""


def sick_ids(ids: Sequence[int]) -> str:
    """Why the tokens at the end look sick; empty: they do not."""
    tail = ids[-TAIL:]
    if len(tail) < TAIL:
        return ""
    different = len(set(tail))
    if different <= FEW:
        return f"its last {TAIL} tokens are {different} different ones"
    return ""


def sick_text(text: str) -> str:
    """Why the end of a text looks sick; empty: it does not."""
    tail = text[-4 * TAIL :]
    if "�" * BROKEN in tail:
        return "its text is a run of bytes that are no UTF-8"
    if len(tail) == 4 * TAIL and len(set(tail)) <= FEW:
        return f"its last {len(tail)} characters are {len(set(tail))} different ones"
    return ""


def sick_logprobs(values: Sequence[float]) -> str:
    """Why logprobs look sick; empty: they do not."""
    if any(v != v or v > 1e-3 or v <= IMPOSSIBLE for v in values):
        return "a logprob is no number, more than certain, or that of an impossible token"
    return ""

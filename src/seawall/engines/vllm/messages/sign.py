"""One message of a log and what it means, as a value: the tables of this folder are made of these.

Forbidden here: messages themselves.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sign:
    """One message and what it means. `what` may use the pattern's named groups."""

    id: str
    pattern: str
    what: str
    do: str
    weight: int = 90
    certain: bool = True
    any_level: bool = False
    """Whether it also counts in lines logged as INFO or WARNING, where others are noise: a retry, an optional file."""
    alive: bool = False
    """Whether it also says what is wrong with a program that goes on running: it asks again and again, in vain."""
    request: bool = False
    """Whether it says why requests are refused, while the engine itself is well: nobody dies of it."""

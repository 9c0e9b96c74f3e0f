"""Numbers out of an untrusted config: the first of several spellings, of sane size, or an error that names the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seawall.errors import InputError


class Getter:
    """Reads the first of several spellings; refuses what is not a sane number."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data

    def integer(self, default: int, *names: str) -> int:
        for name in names:
            value = self.data.get(name)
            if isinstance(value, list) and value and all(isinstance(v, int) for v in value):
                value = max(value)
            if isinstance(value, bool) or value is None:
                continue
            if isinstance(value, (int, float)) and 0 <= value < 1e12:
                return int(value)
            raise InputError(f"config.json: {name} is {value!r:.60}, not a number of sane size.")
        return default

    def need(self, *names: str) -> int:
        value = self.integer(0, *names)
        if value <= 0:
            raise InputError(
                f"config.json: has no {names[0]} (nor {', '.join(names[1:])}).",
                "Pass the language model's own config.json; for a LoRA adapter pass its base model's.",
            )
        return value


def first(text: Mapping[str, Any], *names: str) -> int:
    """The first of several keys that holds a whole number above zero; 0 when none does."""
    for name in names:
        value = text.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**12:
            return value
    return 0

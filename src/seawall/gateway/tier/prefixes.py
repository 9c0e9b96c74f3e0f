"""What prompts have brought to replicas' caches, as gateways tell each other: a few bytes for each 512 of a prompt.

Forbidden here: anything of a prompt but its marks (decide/route/prefix.py), 32 bits of a checksum each.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterator
from typing import Final

from seawall.decide.route.prefix import ENDS, Brought

MESSAGE: Final = 48 * 1024
"""About so many bytes are told in a round; the rest waits for the next one."""
_HEAD: Final = struct.Struct("<HHI")
"""Blocks before, blocks, bytes of the prompt."""


def packed(take: Callable[[], Brought | None]) -> dict[str, str]:
    """Replica -> what was brought there, as text. `take` gives the next; None: there is no more."""
    parts: dict[str, bytearray] = {}
    size = 0
    while size < MESSAGE and (one := take()) is not None:
        part = parts.setdefault(one.replica, bytearray())
        part += _HEAD.pack(one.depth, len(one.checks), min(one.size, 2**32 - 1))
        part += struct.pack(f"<{len(one.checks)}I", *one.checks)
        size += _HEAD.size + 4 * len(one.checks)
    return {name: base64.b64encode(part).decode() for name, part in parts.items()}


def unpacked(told: str) -> Iterator[Brought]:
    """What another gateway has told, as JSON. What is no such text tells nothing."""
    try:
        parts = json.loads(told)
        found = [(str(name), base64.b64decode(text, validate=True)) for name, text in parts.items()]
    except (ValueError, TypeError, AttributeError):
        return
    for replica, data in found:
        yield from _read(replica, data)


def _read(replica: str, data: bytes) -> Iterator[Brought]:
    at = 0
    while at + _HEAD.size <= len(data):
        depth, count, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        if at + 4 * count > len(data) or not 0 < depth + count < len(ENDS):
            return
        yield Brought(replica, depth, struct.unpack_from(f"<{count}I", data, at), size)
        at += 4 * count

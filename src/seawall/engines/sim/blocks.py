"""KV-cache blocks: reference counts, the prefix cache with LRU eviction. Pure bookkeeping, no time.

A full block is named by the hash chain of every token up to its end (as vLLM V1 does), so equal prefixes share blocks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence


def block_names(ids: Sequence[int], block_size: int, salt: int = 0) -> list[int]:
    """The chain hash of each full block of `ids`."""
    names: list[int] = []
    name = salt
    for start in range(0, len(ids) - block_size + 1, block_size):
        name = hash((name, tuple(ids[start : start + block_size])))
        names.append(name)
    return names


class BlockPool:
    """`total` blocks of `block_size` tokens. Idle cached blocks count as free and are evicted oldest first."""

    def __init__(self, total: int, block_size: int, caching: bool = True) -> None:
        self.total = total
        self.block_size = block_size
        self.caching = caching
        self.anonymous = 0
        self.held: dict[int, int] = {}
        self.idle: OrderedDict[int, None] = OrderedDict()

    @property
    def in_use(self) -> int:
        return self.anonymous + len(self.held)

    @property
    def usage(self) -> float:
        """Share of blocks that running requests hold; 1.0 is full."""
        return self.in_use / self.total

    def take(self, count: int) -> bool:
        """Allocates `count` unnamed blocks, evicting idle ones; False (and nothing taken) if they are not there."""
        if self.in_use + count > self.total:
            return False
        self.anonymous += count
        while self.in_use + len(self.idle) > self.total:
            self.idle.popitem(last=False)
        return True

    def matches(self, names: Sequence[int]) -> int:
        """How many leading blocks are cached."""
        if not self.caching:
            return 0
        for i, name in enumerate(names):
            if name not in self.held and name not in self.idle:
                return i
        return len(names)

    def hold(self, names: Sequence[int]) -> bool:
        """Takes references on cached blocks; False (and nothing taken) if the pool would overflow."""
        fresh = sum(1 for n in names if n not in self.held)
        if self.in_use + fresh > self.total:
            return False
        for name in names:
            self.held[name] = self.held.get(name, 0) + 1
            self.idle.pop(name, None)
        return True

    def name(self, name: int) -> None:
        """One unnamed block is full now and has this name."""
        self.anonymous -= 1
        self.held[name] = self.held.get(name, 0) + 1
        self.idle.pop(name, None)

    def release(self, names: Sequence[int], anonymous: int) -> None:
        """Gives blocks back; named ones stay cached until evicted (the end of a chain goes first)."""
        self.anonymous -= anonymous
        for name in reversed(names):
            left = self.held[name] - 1
            if left:
                self.held[name] = left
                continue
            del self.held[name]
            if self.caching:
                self.idle[name] = None

    def forget(self) -> None:
        """Drops every idle cached block (`/reset_prefix_cache`)."""
        self.idle.clear()

"""Which replica probably has a prompt's beginning in its KV cache: a bounded index of block hashes.

Built from what this gateway routed (no events from the engine needed). A hash covers the prompt from its
first byte to the block's end, so one match says that everything before it matches too. Blocks are of text,
not of tokens: 512 bytes are about 128 tokens. A collision of hashes costs a cache miss, never a wrong answer.
Forbidden here: awaiting, clocks, rng.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Sequence

BYTES_PER_TOKEN = 4
"""JSON-encoded English; only the order of magnitude matters to fairness, balance and what a break costs."""
BLOCK_BYTES = 512
MAX_BLOCKS = 128
"""Of one prompt: the first 64 KiB decide."""
OWNERS = 3
"""Replicas remembered per block, newest first."""


def blocks_of(prompt: bytes | memoryview, salt: str = "") -> list[int]:
    """Chained CRC-32 of each whole leading block of `prompt`, behind `salt`: an engine keeps what is salted apart.
    Shorter than one block: empty."""
    hashes: list[int] = []
    crc = zlib.crc32(salt.encode())
    view = memoryview(prompt)
    for at in range(0, min(len(view), MAX_BLOCKS * BLOCK_BYTES) - BLOCK_BYTES + 1, BLOCK_BYTES):
        crc = zlib.crc32(view[at : at + BLOCK_BYTES], crc)
        hashes.append(crc)
    return hashes


class PrefixIndex:
    """Block hash -> replicas, least recently used out first; at most `limit` blocks (about 200 bytes each)."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._owners: OrderedDict[int, tuple[str, ...]] = OrderedDict()
        self._gone: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._owners)

    def learn(self, blocks: Sequence[int], replica: str) -> None:
        """A prompt of these blocks went to `replica`."""
        owners = self._owners
        self._gone.pop(replica, None)
        for block in blocks:
            known = owners.get(block)
            if known is None:
                owners[block] = (replica,)
                if len(owners) > self.limit:
                    owners.popitem(last=False)
                continue
            if known[0] != replica:
                owners[block] = (replica, *(o for o in known if o != replica))[:OWNERS]
            owners.move_to_end(block)

    def match(self, blocks: Sequence[int]) -> dict[str, int]:
        """Replica -> how many leading blocks it has, for those that have at least one."""
        found: dict[str, int] = {}
        for depth, block in enumerate(blocks, 1):
            known = self._owners.get(block)
            if known is None:
                break
            for replica in known:
                if replica not in self._gone:
                    found[replica] = depth
        return found

    def forget(self, replica: str) -> None:
        """A replica's cache is gone. Its entries age out; until it is learnt again none of them counts."""
        self._gone[replica] = None
        if len(self._gone) > 4096:
            self._purge()

    def _purge(self) -> None:
        for block, known in list(self._owners.items()):
            left = tuple(o for o in known if o not in self._gone)
            if left:
                self._owners[block] = left
            else:
                del self._owners[block]
        self._gone.clear()

"""Which replica probably has a prompt's beginning in its KV cache, and how many tokens of it: a bounded index of marks.

Built from what this gateway routed, and corrected by what engines count (`usage.prompt_tokens_details.cached_tokens`);
no events from the engine are needed. A mark covers the prompt from its first byte to a block's end, so one match says
that everything before it matches too. Blocks are of text, not of tokens, and grow with their distance from the
beginning: a prompt of 570 KB has about 200 marks, and none is off by more than a thirtieth. A collision costs a cache
miss, never a wrong answer.

A replica's cache is taken for what it is, least recently used out first: `clock` counts the tokens that it has
computed, and a visit is gone when more have been computed since than the cache has been seen to bear. Forbidden here:
awaiting, clocks, rng.
"""

from __future__ import annotations

import math
import zlib
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Final, NamedTuple

BYTES_PER_TOKEN: Final = 4
"""JSON-encoded English, until engines have counted; only the order of magnitude matters."""
BLOCK_BYTES: Final = 512
DENSE: Final = 32
"""So many blocks of BLOCK_BYTES at first, and so many more in each doubling of the length."""
OWNERS: Final = 16
"""Replicas remembered per block, newest first. Most blocks have one."""
NEAR: Final = 0.9
GRAIN: Final = 144
"""A prefix counts as found when so much of what was expected was cached, less GRAIN tokens: engines cache whole blocks
only, of 16 tokens mostly, of 128 on some devices."""
STEPS: Final = 8
"""So many visits of one prompt at one replica are weighed; the shallowest are left out."""
MOST_NEWS: Final = 2000
"""So many prompts wait to be told to other gateways; of more the oldest are not told."""
LEARN: Final = 0.2
"""Weight of the newest count in a running mean."""


def _ends(most: int) -> tuple[int, ...]:
    ends = [BLOCK_BYTES * n for n in range(1, DENSE + 1)]
    while ends[-1] < most:
        step = ends[-1] // DENSE
        ends += [ends[-1] + step * n for n in range(1, DENSE + 1)]
    return tuple(ends)


ENDS: Final = _ends(256 * 2**20)
"""Where a prompt's blocks end, in bytes."""


def blocks_of(prompt: bytes | memoryview, seed: int = 0) -> list[int]:
    """The mark of each whole leading block of `prompt`. Shorter than one block: empty. `seed` stands for what changes
    the cache's content besides: an adapter, a salt."""
    marks: list[int] = []
    crc, at = seed, 0
    view = memoryview(prompt)
    size = len(view)
    for n, end in enumerate(ENDS):
        if end > size:
            break
        crc = zlib.crc32(view[at:end], crc)
        marks.append(n << 32 | crc)
        at = end
    return marks


class Brought(NamedTuple):
    """What one prompt has newly brought to one replica's cache, for other gateways. The mark of block n is its number
    and 32 bits: these are told."""

    replica: str
    depth: int
    """Blocks before it, which were there."""
    checks: tuple[int, ...]
    size: int
    """Of the prompt, in bytes."""


class Visit:
    """One prompt that went to one replica, and what came of it."""

    __slots__ = (
        "answer",
        "at",
        "blocks",
        "cache",
        "expected",
        "found",
        "ratio",
        "replica",
        "size",
        "tokens",
        "turn",
    )

    def __init__(
        self, replica: str, blocks: int, size: int, turn: int, cache: ReplicaCache, ratio: float
    ) -> None:
        self.replica = replica
        self.cache = cache
        self.blocks = blocks
        """How many blocks it has."""
        self.size = size
        """Of the prompt, in bytes."""
        self.turn = turn
        """Which visit of all it is, counted from 1."""
        self.at = cache.clock
        """The cache's clock when it came."""
        self.ratio = ratio
        """Tokens per byte."""
        self.tokens = 0
        """Of the prompt, as the engine counted them; 0: it has not answered yet."""
        self.answer = 0
        """Tokens that were generated, which stay in the cache, too."""
        self.expected = 0
        """Tokens that were expected to be in the cache when it came."""
        self.found: tuple[tuple[int, Visit, float], ...] = ()
        """What was remembered when it came, from the shallowest on: blocks, who had brought them, how much had been
        computed since. Emptied by `PrefixIndex.told`."""


class ReplicaCache:
    """What is known of one replica's cache. All in tokens."""

    __slots__ = ("bears", "clock", "loses", "valid_from")

    def __init__(self, valid_from: int) -> None:
        self.valid_from = valid_from
        """Visits before this one are gone, whatever has been computed since: the engine began anew."""
        self.clock = 0.0
        """Tokens computed so far."""
        self.bears = 0.0
        """So many could be computed in between, and a prompt was still there."""
        self.loses = math.inf
        """After so many a prompt was gone."""


Remembered = dict[str, list[tuple[int, Visit]]]
"""Replica -> what is remembered of a prompt there, from the shallowest on: how many blocks, who brought them."""


class PrefixIndex:
    """Marks -> visits, least recently used out first; at most `limit` marks (about 200 bytes each)."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.ratio = 1 / BYTES_PER_TOKEN
        """Tokens per byte of prompt, as this fleet's engines count."""
        self.kept = 1.0
        """How much of an answer is in the cache when its conversation goes on: templates drop what was only thought."""
        self.counts = False
        """Engines of this fleet say what was cached; older ones are silent where nothing was."""
        self.news: deque[Brought] | None = None
        """What was learnt here and is to be told to others; None: there are none."""
        self._owners: OrderedDict[int, tuple[Visit, ...]] = OrderedDict()
        self._caches: dict[str, ReplicaCache] = {}
        self._turn = 0

    def __len__(self) -> int:
        return len(self._owners)

    def find(self, blocks: Sequence[int]) -> Remembered:
        """All that is remembered of a prompt of these blocks, also where the cache has probably lost it."""
        found: Remembered = {}
        at = 0
        while at < len(blocks):
            run = self._owners.get(blocks[at])
            if run is None:
                break
            at = self._end(blocks, at, run)
            self._step(found, run, at)
        return found

    def _end(self, blocks: Sequence[int], at: int, run: tuple[Visit, ...]) -> int:
        """The first block behind `at` that is not of this run. Neighbours were mostly brought by the same visits, as
        one and the same tuple; what lies between two of a run is of it, for who brought a block brought all before."""
        owners, step, end = self._owners, 1, len(blocks)
        while at + step < end:
            if owners.get(blocks[at + step]) is not run:
                end = at + step
                break
            at += step
            step *= 2
        while end - at > 1:
            middle = (at + end) // 2
            if owners.get(blocks[middle]) is run:
                at = middle
            else:
                end = middle
        return end

    @staticmethod
    def _step(found: Remembered, run: tuple[Visit, ...], depth: int) -> None:
        for visit in run:
            if visit.turn < visit.cache.valid_from:
                continue
            steps = found.get(visit.replica)
            if steps is None:
                found[visit.replica] = [(depth, visit)]
            elif steps[-1][1] is visit:
                steps[-1] = depth, visit
            else:
                steps.append((depth, visit))

    def match(self, blocks: Sequence[int], size: int = 0) -> dict[str, int]:
        """Replica -> tokens of a prompt of `size` bytes that it probably has cached; only those that have any."""
        found = self.find(blocks)
        expected = {replica: self.expected(steps, size) for replica, steps in found.items()}
        return {replica: tokens for replica, tokens in expected.items() if tokens}

    def expected(self, steps: list[tuple[int, Visit]], size: int) -> int:
        """Tokens that are probably cached where `steps` of a prompt of `size` bytes (0: unknown) are remembered."""
        for i in range(len(steps) - 1, -1, -1):
            depth, visit = steps[i]
            if visit.cache.clock - visit.at < visit.cache.loses:
                return self._tokens(depth, visit, size)
        return 0

    def _tokens(self, depth: int, visit: Visit, size: int) -> int:
        """Of `depth` blocks that `visit` brought, and of what probably matches beyond the last."""
        low = ENDS[depth - 1]
        if depth == visit.blocks and visit.tokens and size != visit.size:
            whole = visit.tokens + self.kept * visit.answer  # a conversation that goes on
            return int(min(whole, size * visit.ratio) if size > low else whole)
        high = ENDS[depth]
        if visit.size < high:
            high = max(visit.size, low)
        if low < size < high:
            high = size
        if size == visit.size and depth == visit.blocks:
            low = high  # the same prompt again
        return int((low + high) / 2 * visit.ratio)

    def learn(
        self, blocks: Sequence[int], replica: str, size: int = 0, steps: list[tuple[int, Visit]] | None = None
    ) -> Visit:
        """A prompt of these blocks and of `size` bytes goes to `replica`, where `steps` of it were found."""
        cache = self._caches.get(replica)
        if cache is None:
            cache = self._caches[replica] = ReplicaCache(self._turn + 1)
        n = len(blocks)
        self._turn += 1
        visit = Visit(replica, n, max(size, ENDS[n - 1]), self._turn, cache, self.ratio)
        if steps:
            visit.ratio = steps[-1][1].ratio
            visit.expected = self.expected(steps, size)
            visit.found = tuple(
                (depth, one, cache.clock - one.at) for depth, one in steps[-STEPS:] if one.tokens
            )
        cache.clock += max(0.0, visit.size * visit.ratio - visit.expected)
        owners = self._owners
        alone: tuple[Visit, ...] = (visit,)
        run = merged = alone
        for mark in reversed(blocks):  # of what grows old the end is forgotten first
            known = owners.get(mark)
            if known is None:
                owners[mark] = alone
                if len(owners) > self.limit:
                    owners.popitem(last=False)
                continue
            if known is not run:
                run, merged = known, _merged(visit, known, merged)
            owners[mark] = merged
            owners.move_to_end(mark)
        if self.news is not None:
            depth = steps[-1][0] if steps else 0
            if depth < n:
                self.news.append(
                    Brought(replica, depth, tuple(m & 0xFFFFFFFF for m in blocks[depth:]), visit.size)
                )
        return visit

    def share(self) -> None:
        """From now on what is learnt is kept to be told to other gateways."""
        if self.news is None:
            self.news = deque(maxlen=MOST_NEWS)

    def hear(self, brought: Brought) -> None:
        """Another gateway has sent a prompt to a replica that is known here."""
        cache = self._caches.get(brought.replica)
        if cache is None:
            cache = self._caches[brought.replica] = ReplicaCache(self._turn + 1)
        self._turn += 1
        n = brought.depth + len(brought.checks)
        visit = Visit(brought.replica, n, brought.size, self._turn, cache, self.ratio)
        before = ENDS[brought.depth - 1] if brought.depth else 0
        cache.clock += max(0, brought.size - before) * self.ratio
        owners = self._owners
        run: tuple[Visit, ...] = ()
        merged: tuple[Visit, ...] = (visit,)
        for at in range(n - 1, brought.depth - 1, -1):
            mark = at << 32 | brought.checks[at - brought.depth]
            known = owners.get(mark, ())
            if known is not run:
                run, merged = known, _merged(visit, known, merged)
            owners[mark] = merged
            owners.move_to_end(mark)
        while len(owners) > self.limit:
            owners.popitem(last=False)

    def told(self, visit: Visit, tokens: int, cached: int | None, answer: int) -> int | None:
        """The engine's count of a visit: tokens of the prompt, of them cached (None: it does not say), generated. How
        many were cached; None: nobody knows."""
        cache = self._caches.get(visit.replica)
        found, visit.found = visit.found, ()
        if cache is None or tokens <= 0:
            return cached
        if cached is not None:
            self.counts = True
        elif self.counts:
            cached = 0
        reckoned = max(0.0, visit.size * visit.ratio - visit.expected)
        visit.tokens, visit.answer, visit.ratio = tokens, answer, tokens / visit.size
        self.ratio += LEARN * (visit.ratio - self.ratio)
        cache.clock += max(0, tokens - (visit.expected if cached is None else cached)) + answer - reckoned
        if cached is not None and visit.turn >= cache.valid_from:
            self._weigh(cache, visit, found, cached)
        return cached

    def _weigh(
        self, cache: ReplicaCache, visit: Visit, found: tuple[tuple[int, Visit, float], ...], cached: int
    ) -> None:
        """What the count says of the cache: how long it bears a prompt, or that it has begun anew."""
        borne: Visit | None = None
        for depth, one, since in found:
            if one.turn < cache.valid_from:
                continue
            if cached >= NEAR * ENDS[depth - 1] * one.ratio - GRAIN:
                borne = one
                cache.bears = max(cache.bears, since)
                if since >= cache.loses:
                    cache.loses = since * 2
                if depth == one.blocks and visit.size > one.size and one.answer:
                    kept = min(1.0, max(0.0, (cached - one.tokens) / one.answer))
                    self.kept += LEARN * (kept - self.kept)
            elif since < cache.bears / 2 or not cache.bears:
                # Least recently used leaves first: what leaves out of its turn has not been pushed out.
                cache.valid_from = borne.turn if borne is not None else visit.turn
                return
            else:
                cache.bears, cache.loses = min(cache.bears, since), since
                return

    def forget(self, replica: str) -> None:
        """A replica's cache is gone. Its entries age out; until it is learnt again none of them counts."""
        cache = self._caches.pop(replica, None)
        if cache is not None:
            cache.valid_from = self._turn + 1


def _merged(visit: Visit, known: tuple[Visit, ...], behind: tuple[Visit, ...]) -> tuple[Visit, ...]:
    """Who remembers a block after one more visit, newest first. `behind`: who remembers the block behind it."""
    found = (visit, *[one for one in known if one.replica != visit.replica])[:OWNERS]
    return behind if found == behind else found

"""Replicas that have nothing but a prefix cache, as vLLM's: blocks of 16 tokens, least recently used out first. For
tests and benchmarks of routing by what is cached: what was expected is compared with what is there, and with an oracle
that looks into the caches. Tokens are bytes, so many to one; no time passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from seawall.decide.route.pick import Ask, Router, Target
from seawall.decide.route.prefix import PrefixIndex, Remembered, ReplicaCache, Visit, blocks_of
from seawall.domain.seen import Replica
from seawall.engines.sim.blocks import BlockPool

BLOCK = 16
"""Tokens of one block."""


class CachingReplica:
    """One replica that remembers prompts."""

    def __init__(self, tokens: int) -> None:
        self.pool = BlockPool(tokens // BLOCK, BLOCK)

    def has(self, prompt: bytes, per_token: int) -> int:
        """Tokens of `prompt` that are cached."""
        return self.pool.matches(self._names(prompt, per_token)) * BLOCK

    def serve(self, prompt: bytes, answer: bytes, per_token: int) -> int:
        """Computes it all -> tokens of the prompt that were cached."""
        names, whole = self._names(prompt, per_token), self._names(prompt + answer, per_token)
        if names and len(prompt) // per_token == len(names) * BLOCK:
            names.pop()  # the last token is always computed
        hits = self.pool.matches(names)
        self.pool.hold(whole[:hits])
        fresh = whole[hits:]
        if self.pool.take(len(fresh)):
            for name in fresh:
                self.pool.name(name)
        self.pool.release(whole, 0)
        return hits * BLOCK

    def forget(self) -> None:
        self.pool.forget()

    @staticmethod
    def _names(text: bytes, per_token: int) -> list[int]:
        step, name, names = BLOCK * per_token, per_token, []
        for at in range(0, len(text) - step + 1, step):
            name = hash((name, text[at : at + step]))
            names.append(name)
        return names


@dataclass
class Conversation:
    """One agent's: its prompt grows by what is said."""

    text: bytes
    per_token: int
    turns: int
    """That are left."""


@dataclass
class CacheTally:
    """What routing came to, in tokens."""

    prompt: int = 0
    cached: int = 0
    expected: int = 0
    errors: list[float] = field(default_factory=list)
    """Differences, as a share of the larger, of each prompt where anything was expected or found."""

    @property
    def median_error(self) -> float:
        return sorted(self.errors)[len(self.errors) // 2] if self.errors else 0.0


class Seeing(PrefixIndex):
    """An oracle: the index that looks into all caches."""

    has: Mapping[str, int] = {}
    """Replica -> tokens of the prompt in question that it has."""

    def find(self, blocks: Sequence[int]) -> Remembered:
        return {
            name: [(has, Visit(name, 1, 1, 0, ReplicaCache(0), 1.0))] for name, has in self.has.items() if has
        }

    def expected(self, steps: list[tuple[int, Visit]], size: int) -> int:
        return steps[-1][0]

    def learn(
        self, blocks: Sequence[int], replica: str, size: int = 0, steps: list[tuple[int, Visit]] | None = None
    ) -> Visit:
        visit = Visit(replica, 1, 1, 0, ReplicaCache(0), 1.0)
        visit.expected = steps[-1][0] if steps else 0
        return visit


class CacheTrial:
    """Prompts that go through a router to replicas; a part of them runs at any time."""

    def __init__(
        self, replicas: int, tokens: int, seed: int, *, oracle: bool = False, running: int = 4
    ) -> None:
        self.rng = Random(seed)
        self.running = running
        self.replicas = {f"r{i}": CachingReplica(tokens) for i in range(replicas)}
        self.router = Router(1000, Random(seed))
        self.router.update([Replica(name=n, fleet="f", url=f"http://{n}") for n in self.replicas])
        self._seeing = Seeing(1 << 16) if oracle else None
        if self._seeing is not None:
            self.router.prefix = self._seeing
        self.tally = CacheTally()
        self._out: list[tuple[Target, Ask]] = []
        self._now = 0.0

    def ask(self, prompt: bytes, answer: bytes, per_token: int) -> Target:
        """One request: routed, computed and told."""
        ask = Ask(len(prompt) // per_token + 256, blocks=blocks_of(prompt), size=len(prompt))
        self._now += 1.0
        if self._seeing is not None:
            self._seeing.has = {n: r.has(prompt, per_token) for n, r in self.replicas.items()}
        while len(self._out) > self.running:
            self.router.end(*self._out.pop(self.rng.randrange(len(self._out))))
        picked = self.router.pick(ask, self._now)
        assert picked is not None
        target, ask = picked.target, ask.but(cached=picked.cached)
        visit = self.router.start(target, ask, picked.found)
        self._out.append((target, ask))
        tokens = len(prompt) // per_token
        cached = self.replicas[target.name].serve(prompt, answer, per_token)
        tally = self.tally
        tally.prompt += tokens
        tally.cached += cached
        if visit is not None:
            tally.expected += visit.expected
            if visit.expected or cached:
                tally.errors.append(abs(visit.expected - cached) / max(visit.expected, cached))
            self.router.prefix.told(visit, tokens, cached, len(answer) // per_token)
        return target

    def agents(self, requests: int, conversations: int, turns: int = 12, start: int = 24_000) -> CacheTally:
        """Conversations that take turns at random, each behind one of three system prompts."""
        rng = self.rng
        systems = [(rng.randbytes(start // 2).hex().encode(), per_token) for per_token in (3, 4, 5)]

        def fresh() -> Conversation:
            system, per_token = rng.choice(systems)
            text = system + rng.randbytes(rng.randrange(500, 4000)).hex().encode()
            return Conversation(text, per_token, rng.randrange(2, 2 * turns))

        live = [fresh() for _ in range(conversations)]
        for _ in range(requests):
            i = rng.randrange(conversations)
            one = live[i]
            answer = rng.randbytes(rng.randrange(100, 900)).hex().encode()
            self.ask(one.text, answer, one.per_token)
            one.text += answer + rng.randbytes(rng.randrange(100, 2500)).hex().encode()
            one.turns -= 1
            if one.turns <= 0:
                live[i] = fresh()
        return self.tally

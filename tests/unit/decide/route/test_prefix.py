"""What is expected to be cached, against caches that behave as an engine's do."""

from __future__ import annotations

import subprocess
import sys
import time
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.decide.route.prefix import BLOCK_BYTES, ENDS, PrefixIndex, blocks_of
from seawall.testing.caches import CacheTrial


def text(size: int, seed: int = 1) -> bytes:
    return Random(seed).randbytes(size // 2).hex().encode()


def test_the_index_is_bounded_and_forgets() -> None:
    index = PrefixIndex(100)
    for i in range(50):
        index.learn(blocks_of(bytes([i]) * BLOCK_BYTES * 10), f"r{i % 3}")
    assert len(index) == 100
    last = blocks_of(bytes([49]) * BLOCK_BYTES * 10)
    assert list(index.match(last)) == ["r1"]
    index.forget("r1")
    assert index.match(last) == {}


@given(st.binary(max_size=3000), st.binary(max_size=3000))
def test_prompts_share_exactly_the_blocks_of_their_common_beginning(a: bytes, b: bytes) -> None:
    x, y = blocks_of(a), blocks_of(b)
    common = next((i for i, (p, q) in enumerate(zip(a, b, strict=False)) if p != q), min(len(a), len(b)))
    for i in range(min(common // BLOCK_BYTES, len(x), len(y))):
        assert x[i] == y[i]


@pytest.mark.parametrize("size", [570_000, 8 * 2**20])
def test_a_whole_prompt_counts_and_has_few_marks(size: int) -> None:
    prompt = text(size)
    marks = blocks_of(prompt)
    assert len(marks) < 400 and ENDS[len(marks) - 1] > size * 30 / 32
    assert all(b - a <= max(BLOCK_BYTES, a / 31) for a, b in pairwise(ENDS) if a < size)
    changed = bytearray(prompt)
    changed[-size // 10] ^= 1
    other = blocks_of(bytes(changed))
    assert other[: len(marks) // 2] == marks[: len(marks) // 2] and other[-1] != marks[-1]


def test_a_fleet_of_agents_costs_little_memory() -> None:
    index = PrefixIndex(65_536)
    before = time.process_time()
    for i in range(150):
        index.learn(blocks_of(text(570_000, i)[: 400_000 + i * 100]), f"r{i % 8}", 570_000)
    assert len(index) <= 65_536 and sys.getsizeof(index._owners) < 16 * 2**20
    assert time.process_time() - before < 30, "of CPU: it must not grow with the index"


def test_what_engines_count_is_what_was_expected() -> None:
    trial = CacheTrial(4, 200_000, seed=1)
    tally = trial.agents(300, 12)
    assert tally.median_error <= 0.01, tally.median_error  # 0.02 where an engine's counts are not taken over
    assert tally.cached > tally.prompt / 2


@pytest.mark.parametrize("seed", range(2))
def test_small_caches_that_evict_are_known(seed: int) -> None:
    trial = CacheTrial(3, 50_000, seed)
    tally = trial.agents(300, 16, start=12_000)
    assert tally.median_error <= 0.01, tally.median_error
    # A median says nothing of the few prompts that were pushed out: a fifth of all is wrong where nobody unlearns.
    assert abs(tally.expected - tally.cached) <= 0.1 * tally.cached


@pytest.mark.parametrize(("tokens", "conversations"), [(400_000, 12), (60_000, 12), (40_000, 16)])
def test_hits_are_those_of_an_oracle(tokens: int, conversations: int) -> None:
    ours = CacheTrial(4, tokens, seed=3).agents(300, conversations, start=12_000)
    # In a process of plain Python: it stands in for a class that is compiled here.
    play = f"CacheTrial(4, {tokens}, seed=3, oracle=True).agents(300, {conversations}, start=12_000)"
    code = f"from seawall.testing.caches import CacheTrial; t = {play}; print(t.cached / t.prompt)"
    oracle = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    share = (ours.cached / ours.prompt) / float(oracle)
    assert share >= 0.95, share


@pytest.mark.parametrize("how", ["reset", "restart without a word"])
def test_a_lost_cache_is_unlearned_within_one_request(how: str) -> None:
    trial = CacheTrial(1, 400_000, seed=1)
    prompts = [text(20_000, seed) for seed in range(6)]
    for _ in range(2):
        for prompt in prompts:
            trial.ask(prompt, b"", 4)
    index = trial.router.prefix
    assert index.match(blocks_of(prompts[5]), 20_000)["r0"] > 4_900
    trial.replicas["r0"].forget()
    trial.ask(prompts[0], b"", 4)
    assert all(not index.match(blocks_of(p), len(p)) for p in prompts[1:]), "one answer says it of all"
    assert index.match(blocks_of(prompts[0]), 20_000), "and this one is there again"


def test_an_engine_that_does_not_count_is_believed_to_have_all() -> None:
    index = PrefixIndex(1000)
    prompt = text(20_000)
    for _ in range(3):
        visit = index.learn(blocks_of(prompt), "r0", len(prompt))
        assert index.told(visit, 5000, None, 10) is None
    assert index.match(blocks_of(prompt), len(prompt))["r0"] > 4000


def test_silence_is_a_miss_where_engines_count() -> None:
    index = PrefixIndex(1000)
    one, two = text(20_000, 1), text(20_000, 2)
    for cached in (0, 4992):
        steps = index.find(blocks_of(one)).get("r0")
        index.told(index.learn(blocks_of(one), "r0", len(one), steps), 5000, cached, 0)
    index.told(index.learn(blocks_of(two), "r0", len(two)), 5000, None, 0)
    visit = index.learn(blocks_of(two), "r0", len(two), index.find(blocks_of(two))["r0"])
    assert visit.expected > 4000
    assert index.told(visit, 5000, None, 0) == 0
    assert not index.match(blocks_of(one), len(one))


class Counted(list[int]):
    """Marks, and how often one was looked at."""

    looks = 0

    def __getitem__(self, at: Any) -> Any:
        self.looks += 1
        return super().__getitem__(at)

    def __iter__(self) -> Any:
        return (self[at] for at in range(len(self)))


def test_the_marks_of_a_long_conversation_are_not_all_looked_at() -> None:
    index, text, rng = PrefixIndex(10_000), b"", Random(1)
    for _ in range(40):
        text += rng.randbytes(14_250)  # 570 KB at last
        blocks = blocks_of(text)
        visit = index.learn(blocks, "r", len(text), index.find(blocks).get("r"))
        index.told(visit, len(text) // 4, 0, 100)
    marks = Counted(blocks_of(text + rng.randbytes(2_000)))
    assert set(index.find(marks)) == {"r"}
    assert len(marks) > 150 and marks.looks <= 40, marks.looks


@given(st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.integers(0, 1), max_size=7)), max_size=30))
def test_what_is_found_by_leaps_is_what_is_found_step_by_step(visits: list[tuple[str, list[int]]]) -> None:
    index = PrefixIndex(60)

    def marks(path: list[int]) -> list[int]:
        return blocks_of(b"".join(bytes([turn]) * (512 * (1 + 2 * turn)) for turn in path))

    for replica, path in visits:
        blocks = marks(path)
        if not blocks:
            continue
        index.learn(blocks, replica, 512 * len(blocks), index.find(blocks).get(replica))
        for _, other in visits:
            asked = marks(other)
            found = {name: [depth for depth, _ in steps] for name, steps in index.find(asked).items()}
            assert found == step_by_step(index, asked)


def step_by_step(index: PrefixIndex, blocks: list[int]) -> dict[str, list[int]]:
    """Of each replica the blocks behind which another visit is remembered, by asking for each block alone."""
    found: dict[str, list[int]] = {}
    before: dict[str, Any] = {}
    for depth in range(1, len(blocks) + 1):
        at_depth = index.find(blocks[depth - 1 : depth])
        if not at_depth:
            break
        for name, steps in at_depth.items():
            if name in before and before[name] is steps[-1][1]:
                found[name][-1] = depth
            else:
                found.setdefault(name, []).append(depth)
            before[name] = steps[-1][1]
    return found

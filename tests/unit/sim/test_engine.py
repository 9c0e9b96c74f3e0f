"""The simulated batch against what can be reckoned by hand: step by step, joined, full, preempted, broken."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.domain.action import Timing
from seawall.sim.engine import NEVER, Engine, PrefixCache, Seq, Shape

FLAT = Timing(base_s=0.01, prefill_token_s=1e-4, decode_seq_s=0.0, weight_read_s=0.0, kv_token_s=0.0)


def engine(timing: Timing = FLAT, kv: int = 10**9, seqs: int = 256, budget: int = 8192) -> Engine:
    return Engine(Shape(timing=timing, kv_tokens=kv, max_num_seqs=seqs, max_num_batched_tokens=budget))


def run(e: Engine, arrivals: list[tuple[float, Seq]]) -> dict[int, tuple[float, float]]:
    """Drives one engine alone -> rid: (first token, finish)."""
    ends: dict[int, tuple[float, float]] = {}
    done: list[Seq] = []
    wake, i = NEVER, 0
    while i < len(arrivals) or wake < NEVER:
        if i < len(arrivals) and arrivals[i][0] <= wake:
            now, seq = arrivals[i]
            i += 1
            wake = min(wake, e.submit(seq, now)) if e.seg_m == 0 or not e.seg_solo else e.submit(seq, now)
            wake = e._end() if e.seg_m else wake
        else:
            now = wake
            wake = e.wake(now, done)
            for seq in done:
                ends[seq.rid] = (seq.first, now)
            done.clear()
    return ends


def test_one_request_is_one_prefill_step_and_a_step_per_further_token() -> None:
    ends = run(engine(), [(1.0, Seq(0, 1000, 11, 1.0))])
    first, finish = ends[0]
    assert first == pytest.approx(1.0 + 0.01 + 1000 * 1e-4)
    assert finish == pytest.approx(first + 10 * 0.01)


def test_a_long_prompt_is_computed_in_chunks_of_the_token_budget() -> None:
    ends = run(engine(budget=400), [(0.0, Seq(0, 1000, 1, 0.0))])
    assert ends[0][0] == pytest.approx(3 * 0.01 + 1000 * 1e-4)


@pytest.mark.parametrize("budget", [8192, 400])
def test_attention_makes_a_long_prompt_grow_with_its_square_in_chunks_too(budget: int) -> None:
    timing = replace(FLAT, base_s=0.0, prefill_pair_s=1e-7)
    first = [run(engine(timing, budget=budget), [(0.0, Seq(0, n, 1, 0.0))])[0][0] for n in (1000, 4000)]
    assert first == pytest.approx([1000 * 1e-4 + 0.5e6 * 1e-7, 4000 * 1e-4 + 8e6 * 1e-7])


def test_a_cached_prefix_is_not_computed_but_attended_to() -> None:
    e = engine(replace(FLAT, base_s=0.0, prefill_pair_s=1e-7))
    again = Seq(1, 1000, 1, 5.0)
    for seq in (warm := Seq(0, 1000, 1, 0.0), again):
        seq.group, seq.shared = 7, 900
    found = run(e, [(0.0, warm), (5.0, again)])
    assert found[1][0] - 5.0 == pytest.approx(100 * 1e-4 + 100 * (900 + 50) * 1e-7)


def test_a_newcomer_joins_at_the_next_step_and_slows_the_others_by_its_prefill() -> None:
    ends = run(engine(), [(0.0, Seq(0, 100, 101, 0.0)), (0.5, Seq(1, 1000, 2, 0.5))])
    alone = 0.01 + 100 * 1e-4 + 100 * 0.01
    assert ends[0][1] == pytest.approx(alone + 1000 * 1e-4)
    assert 0.5 + 0.11 <= ends[1][0] <= 0.5 + 0.01 + 0.11 + 1e-9


def test_no_more_than_max_num_seqs_run_and_the_rest_wait_in_order() -> None:
    ends = run(engine(seqs=1), [(0.0, Seq(i, 10, 10, 0.0)) for i in range(3)])
    assert ends[0][1] < ends[1][0] < ends[1][1] < ends[2][0]


def test_reading_the_cache_slows_the_steps_as_the_closed_form_says() -> None:
    timing = Timing(base_s=0.01, prefill_token_s=0, decode_seq_s=0, weight_read_s=0.002, kv_token_s=1e-6)
    first, finish = run(engine(timing), [(0.0, Seq(0, 100, 51, 0.0))])[0]
    by_hand = sum(0.012 + 1e-6 * (100 + i) for i in range(50))
    assert finish - first == pytest.approx(by_hand)


def test_many_steps_in_one_event_take_as_long_as_the_same_steps_one_by_one() -> None:
    timing = Timing(
        base_s=0.01, prefill_token_s=1e-5, decode_seq_s=1e-4, weight_read_s=0.003, kv_token_s=1e-7
    )
    e, done = engine(timing), []
    for i in range(5):
        e.submit(Seq(i, 100 * (i + 1), 40 + 7 * i, 0.0), 0.0)
    wake = e._end()
    while wake < NEVER:
        wake = e.wake(wake, done)

    # By hand: the first request starts alone, the four others join it in the second step.
    clock = 0.01 + 0.003
    clock += 0.01 + 1400 * 1e-5 + 1e-4 + 1e-7 * 100
    left = {0: 38} | {i: 39 + 7 * i for i in range(1, 5)}
    held = {0: 101.0} | {i: 100.0 * (i + 1) for i in range(1, 5)}
    while left:
        clock += 0.01 + max(len(left) * 1e-4, 0.003) + 1e-7 * sum(held[i] for i in left)
        held = {i: n + 1 for i, n in held.items()}
        left = {i: n - 1 for i, n in left.items() if n > 1}
    assert e.seg_t == pytest.approx(clock)
    assert len(done) == 5


def test_when_the_cache_is_full_the_newest_waits_again_and_nothing_is_forgotten() -> None:
    e = engine(kv=1200)
    ends = run(e, [(0.0, Seq(i, 300, 200, 0.0)) for i in range(4)])
    assert len(ends) == 4
    assert e.preempted > 0
    assert e.kv == pytest.approx(0)
    assert e.reserved == pytest.approx(0)


def test_a_halted_replica_hands_back_what_is_left_to_do() -> None:
    e = engine()
    e.submit(Seq(0, 100, 50, 0.0), 0.0)
    wake = e.wake(e._end(), [])
    seqs = e.halt(e.seg_t + 10.5 * 0.01)
    assert wake < NEVER
    assert (seqs[0].size, seqs[0].left) == (100 + 1 + 10, 39)
    assert e.load == (0, 0)


def test_a_client_that_gave_up_is_dropped_when_its_turn_comes() -> None:
    e = engine(seqs=1)
    late = Seq(1, 10, 10, 0.0)
    late.patience = 0.05
    ends = run(e, [(0.0, Seq(0, 10, 100, 0.0)), (0.0, late)])
    assert list(ends) == [0]
    assert e.dropped == [late]


def test_shared_prefixes_are_computed_once_and_the_least_used_leaves() -> None:
    cache = PrefixCache(1000)
    assert cache.hit(1, 600, 800) == 0
    assert cache.hit(1, 600, 800) == 600
    cache.hit(2, 600, 800)
    assert cache.hit(1, 600, 800) == 0


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    kv=st.sampled_from([600, 2000, 10**9]),
    seqs=st.sampled_from([1, 3, 50]),
    budget=st.sampled_from([64, 512, 8192]),
)
def test_whatever_comes_everything_ends_once_and_the_books_balance(
    seed: int, kv: int, seqs: int, budget: int
) -> None:
    rng = Random(seed)
    e = engine(kv=kv, seqs=seqs, budget=budget)
    now, arrivals = 0.0, []
    for rid in range(30):
        now += rng.expovariate(20)
        arrivals.append((now, Seq(rid, rng.randint(1, 200), rng.randint(1, 60), now)))
    ends = run(e, arrivals)
    assert sorted(ends) == list(range(30))
    assert all(t <= first <= end for (t, s), (first, end) in ((a, ends[a[1].rid]) for a in arrivals))
    assert e.kv == pytest.approx(0)
    assert e.reserved == pytest.approx(0)
    assert e.load == (0, 0)

"""Continuous batching: bounds hold, nothing is forgotten, preempted sequences say the same."""

from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.domain.action import Timing
from seawall.engines.sim.language import Continuation, Sampling, answer
from seawall.engines.sim.scheduler import Scheduler, Sequence, StepLimits

TICK = Timing(base_s=1.0, prefill_token_s=0, decode_seq_s=0, weight_read_s=0, kv_token_s=0)
LONG = Sampling(ignore_eos=True)


class Listener:
    def __init__(self) -> None:
        self.tokens: dict[int, list[int]] = {}
        self.ended: dict[int, str] = {}

    def sequence(self, key: int, prompt: list[int], max_tokens: int, **kw: int) -> Sequence:
        self.tokens[key] = []

        def deliver(sequence: Sequence, token: int | None, finish: str | None, stop: int | None) -> None:
            assert token is not None
            self.tokens[key].append(token)
            if finish:
                self.ended[key] = finish

        return Sequence(prompt, Continuation(prompt, LONG), max_tokens, deliver, **kw)


def run(scheduler: Scheduler, steps: int = 10_000) -> int:
    for count in range(steps):
        step = scheduler.plan_step(float(count))
        if step is None:
            return count
        assert len(scheduler.running) <= scheduler.limits.max_num_seqs
        assert step.prefill_tokens + step.decode_seqs <= scheduler.limits.max_num_batched_tokens
        assert scheduler.pool.in_use <= scheduler.limits.blocks
        scheduler.finish_step(step, float(count + 1))
    raise AssertionError("never finished")


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=12),
    st.integers(1, 4),
    st.integers(4, 64),
    st.integers(8, 20),
)
def test_everything_that_came_in_is_answered(
    sizes: list[tuple[int, int]], seqs: int, budget: int, blocks: int
) -> None:
    scheduler = Scheduler(
        StepLimits(
            max_num_seqs=seqs, max_num_batched_tokens=max(budget, seqs), blocks=blocks, max_model_len=128
        ),
        TICK,
    )
    listener = Listener()
    for key, (prompt, tokens) in enumerate(sizes):
        scheduler.add(listener.sequence(key, [key + 5] * prompt, tokens))
    run(scheduler)
    for key, (prompt, tokens) in enumerate(sizes):
        assert listener.tokens[key] == answer([key + 5] * prompt, tokens, LONG)
        assert listener.ended[key] == "length"
    assert scheduler.pool.in_use == 0


def test_too_few_blocks_preempt_and_the_text_stays() -> None:
    scheduler = Scheduler(StepLimits(max_num_seqs=4, blocks=8, max_model_len=128, prefix_caching=False), TICK)
    listener = Listener()
    for key in range(3):
        scheduler.add(listener.sequence(key, [9, key + 5], 60))
    run(scheduler)
    assert scheduler.counters.preemptions > 0
    for key in range(3):
        assert listener.tokens[key] == answer([9, key + 5], 60, LONG)


def test_a_shared_prefix_is_computed_once() -> None:
    scheduler = Scheduler(StepLimits(max_num_seqs=1), TICK)
    listener = Listener()
    prompt = list(range(10, 74))
    for key in range(3):
        scheduler.add(listener.sequence(key, [*prompt, key + 400], 2))
    run(scheduler)
    assert scheduler.counters.prefix_hits == 2 * 64


def test_priority_goes_first_and_an_aborted_one_frees_its_blocks() -> None:
    scheduler = Scheduler(StepLimits(max_num_seqs=1, by_priority=True), TICK)
    listener = Listener()
    slow = listener.sequence(0, [5], 50, priority=5)
    urgent = listener.sequence(1, [6], 50, priority=0)
    scheduler.add(slow)
    scheduler.add(urgent)
    step = scheduler.plan_step(0.0)
    assert step is not None
    assert [s for s, _ in step.chunks] == [urgent]
    scheduler.abort(urgent)
    scheduler.abort(slow)
    assert not scheduler.busy
    assert scheduler.pool.in_use == 0

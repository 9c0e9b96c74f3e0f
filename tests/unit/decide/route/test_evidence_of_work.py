"""Evidence against schedules of work as engines do it: prefills that are one silent step, decode at load, answers of
which nobody hears a byte (whole ones, and calls that a parser holds back), prompts that are still read.

Both watchers look at them: who kills (`seawall up`, probes; it sees CPU time, or not) and who only leaves (the gateway,
which sees none, and hears bytes). Nothing that a healthy engine does is ever dead to either; and where the same engine
stands still in the midst of it, it is dead within the bound that docs/reference/liveness.md states: one and a half
times what its work explains, and the time of an ask.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from seawall.decide.route.evidence import LEFT, READ_TOKEN_S, Pace, Patience, Sight, Verdict, bound_s

from .test_evidence import ASK_S, PATIENCE, Watch

SLOWEST_STEP_S = 4.0
"""Of decode, at load: all places taken, beside other work."""


@dataclass(frozen=True)
class Work:
    """One thing that an engine does for a while."""

    kind: str
    """prefill, decode (its bytes are heard), silent (nobody hears them), reading, idle."""
    amount: float
    """Of its most, 0 to 1: tokens of a prefill or a prompt, seconds of the others."""
    slow: float
    """Of what a pace that was seen may get worse by, 0 to 1."""


@dataclass(frozen=True)
class Watcher:
    patience: Patience
    ask_s: float
    sees_cpu: bool
    hears: bool


KILLER, BLIND_KILLER = Watcher(PATIENCE, ASK_S, True, False), Watcher(PATIENCE, ASK_S, False, False)
LEAVER = Watcher(LEFT, 2 * LEFT.quiet_s, False, True)
PACES = (
    Pace(prompt_token_s=2e-5, step_tokens=8192, seen=True),
    Pace(prompt_token_s=1 / 8192, step_tokens=8192, context=16_384, prompt_pair_s=1e-9, seen=True),
    Pace(prompt_token_s=0.0037, step_tokens=2048, seen=True),
)
works = st.builds(
    Work,
    st.sampled_from(["prefill", "decode", "silent", "reading", "idle"]),
    st.floats(0, 1),
    st.floats(0, 1),
)


class Engine:
    """A healthy one, second by second, as a watcher sees it."""

    def __init__(self, pace: Pace, watcher: Watcher) -> None:
        self.pace, self.watcher = pace, watcher
        self.marks = self.cpu = self.server = 0.0
        self.sight = Sight(marks=(0.0,))

    def seconds(self, work: Work, now: float) -> Iterator[tuple[Sight, bool]]:
        """(what is seen in each second of it, whether an ask is answered in it)."""
        patience = self.watcher.patience
        slow = 1 + work.slow * (patience.seen_slack - 1)
        if work.kind == "prefill":
            tokens = int(work.amount * self.pace.step_tokens)
            for _ in range(int(self.pace.prefill_s(tokens) * slow)):
                yield self._seen(prompt_tokens=tokens, computes=True), False
            self.marks += 1
            yield self._seen(computes=True), True
        elif work.kind == "reading":
            tokens = int(work.amount * 200_000)
            for _ in range(int(min(patience.reads_s, tokens * READ_TOKEN_S * slow))):
                yield self._seen(unread_tokens=tokens, reads=True), False
            self.marks += 1
            yield self._seen(reads=True), True
        elif work.kind == "idle":
            for _ in range(int(work.amount * 300)):
                yield self._seen(), True
        else:
            step_s = 0.02 + work.slow * SLOWEST_STEP_S
            for second in range(int(work.amount * 600)):
                moved = int(second / step_s) != int((second - 1) / step_s)
                self.marks += moved
                heard = now + second if moved and work.kind == "decode" and self.watcher.hears else None
                yield self._seen(computes=True, heard_s=heard), False  # every place is taken: an ask waits

    def _seen(
        self, *, prompt_tokens: int | None = None, unread_tokens: int = 0, computes: bool = False,
        reads: bool = False, heard_s: float | None = None,
    ) -> Sight:  # fmt: skip
        self.cpu += 0.9 * computes
        self.server += 0.9 * reads
        shown = self.watcher.sees_cpu
        return Sight(
            marks=(self.marks,), prompt_tokens=prompt_tokens, unread_tokens=unread_tokens,
            heard_s=heard_s or 0.0, cpu_s=self.cpu if shown else None, server_cpu_s=self.server if shown else None,
        )  # fmt: skip


@given(
    st.sampled_from(PACES),
    st.sampled_from([KILLER, BLIND_KILLER, LEAVER]),
    st.lists(works, min_size=1, max_size=6),
)
def test_no_work_of_a_healthy_engine_is_ever_its_death(pace: Pace, watcher: Watcher, day: list[Work]) -> None:
    engine = Engine(pace, watcher)
    watch = Watch(pace, engine.sight, patience=watcher.patience, ask_s=watcher.ask_s)
    for work in day:
        for sight, answers in engine.seconds(work, watch.now):
            watch.sight = sight
            assert watch.second(answers=answers) is not Verdict.DEAD, (work, watch.opinion)


@given(
    st.sampled_from(PACES),
    st.sampled_from([KILLER, BLIND_KILLER, LEAVER]),
    st.lists(works, max_size=3),
    works,
    st.floats(0, 1),
)
def test_where_it_stands_still_in_the_midst_of_any_it_is_dead_within_the_bound(
    pace: Pace, watcher: Watcher, day: list[Work], last: Work, when: float
) -> None:
    """Whatever it was at: no CPU any more, no step, no byte, no answer to an ask."""
    engine = Engine(pace, watcher)
    watch = Watch(pace, engine.sight, patience=watcher.patience, ask_s=watcher.ask_s)
    for work in day:
        for sight, answers in engine.seconds(work, watch.now):
            watch.sight = sight
            watch.second(answers=answers)
    seen = list(engine.seconds(last, watch.now))
    for sight, answers in seen[: max(1, int(when * len(seen)))]:
        watch.sight = sight
        watch.second(answers=answers)
    watch.sight = replace(watch.sight, heard_s=0.0)
    patience = watcher.patience
    bound = bound_s(pace, patience, watch.sight)
    if not watcher.sees_cpu:
        watch.until_dead(1.5 * bound + 2 * watcher.ask_s + patience.quiet_s)
    else:  # the share of a core is taken from the last sign on: what it computed before it stood still counts, too
        working = bound_s(pace, patience, watch.sight, working=True)
        watch.until_dead(1.5 * max(working, patience.reads_s) + 2 * watcher.ask_s + patience.quiet_s)

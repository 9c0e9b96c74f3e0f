"""Evidence of life as stories, and the two properties: nothing healthy is ever dead, nothing hung lives on."""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.decide.route import evidence
from seawall.decide.route.evidence import LEFT, Opinion, Pace, Patience, Pulse, Sight, Verdict, bound_s, look

PATIENCE = Patience()
SMALL = Pace(prompt_token_s=0.0005, step_tokens=2048, seen=True)
ASK_S = 15.0
"""How long a watcher waits for the token that it asked for."""


@dataclass
class Watch:
    """A watcher that looks once a second and asks when it is told to."""

    pace: Pace = SMALL
    sight: Sight = field(default_factory=lambda: Sight(marks=(0.0,), cpu_s=0.0))
    now: float = 0.0
    patience: Patience = PATIENCE
    ask_s: float = ASK_S

    def __post_init__(self) -> None:
        self.pulse = Pulse(sign_s=self.now)
        self.asked_at: float | None = None
        self.opinion = Opinion(Verdict.ALIVE, "")

    def second(self, *, answers: bool = False) -> Verdict:
        answered = None
        if self.asked_at is not None and (answers or self.now - self.asked_at >= self.ask_s):
            answered, self.asked_at = answers, None
        self.opinion, self.pulse = look(
            self.pulse, replace(self.sight, answered=answered), self.pace, self.patience, self.now
        )
        if self.opinion.ask and self.asked_at is None:
            self.asked_at = self.now
        self.now += 1
        return self.opinion.verdict

    def until_dead(self, most_s: float) -> float:
        began = self.now
        while self.now - began < most_s:
            if self.second() is Verdict.DEAD:
                return self.now - began
        raise AssertionError(f"still {self.opinion} after {most_s} s")


def test_a_process_that_is_gone_is_dead_at_once() -> None:
    watch = Watch(sight=Sight(gone="its process was killed by signal 9"))
    assert watch.second() is Verdict.DEAD
    assert watch.opinion.reason == "its process was killed by signal 9"


def test_a_prefill_of_81_seconds_in_one_step_is_alive() -> None:
    """Seen on real vLLM on a CPU: one prompt of 7,400 tokens, no counter moves, the ask waits behind it."""
    watch = Watch(Pace(prompt_token_s=0.002, step_tokens=8192, context=8192))
    watch.second()
    for _ in range(81):
        watch.sight = replace(watch.sight, cpu_s=watch.now * 0.9)
        assert watch.second() is Verdict.ALIVE
    assert "its work explains" in watch.opinion.reason


def test_the_same_is_alive_where_nobody_can_see_its_cpu() -> None:
    watch = Watch(Pace(prompt_token_s=0.011, step_tokens=8192, seen=True), Sight(marks=(0.0,)))
    watch.second()
    assert {watch.second() for _ in range(300)} == {Verdict.ALIVE}


def test_an_engine_that_owes_an_answer_and_computes_nothing_is_dead_within_half_a_minute() -> None:
    """A stopped or deadlocked engine, whatever its plan says that a step may take."""
    watch = Watch(Pace(prompt_token_s=1.0, step_tokens=8192))
    assert watch.until_dead(32) > PATIENCE.still_s
    assert "use no CPU" in watch.opinion.reason


def test_an_engine_that_spins_is_dead_when_its_work_no_longer_explains_it() -> None:
    watch = Watch(sight=Sight(marks=(0.0,), prompt_tokens=100))
    for _ in range(40):
        watch.second()
        watch.sight = replace(watch.sight, cpu_s=watch.now)
    assert watch.opinion.verdict is not Verdict.DEAD
    bound = bound_s(SMALL, PATIENCE, watch.sight, working=True)
    while watch.second() is not Verdict.DEAD:
        watch.sight = replace(watch.sight, cpu_s=watch.now)
        assert watch.now < 1.5 * bound + ASK_S + 5
    assert watch.now < 60, "a small model's hang is found within a minute"


def test_it_is_suspect_before_it_is_dead() -> None:
    watch = Watch(sight=Sight(marks=(0.0,)))
    seen = []
    while (verdict := watch.second()) is not Verdict.DEAD:
        seen.append(verdict)
    assert seen.count(Verdict.SUSPECT) >= 10
    assert seen == sorted(seen), "alive, then suspect"


def test_steps_that_bring_no_token_are_signs_of_life() -> None:
    """A chunked prefill moves the use of the KV cache and nothing else."""
    watch = Watch()
    for n in range(2000):
        watch.sight = Sight(marks=(0.0, n // 25 / 1000), cpu_s=0.0)
        assert watch.second() is Verdict.ALIVE


def test_an_idle_engine_is_asked_and_its_token_is_a_sign() -> None:
    watch = Watch()
    asks = 0
    for _ in range(300):
        assert watch.second(answers=True) is Verdict.ALIVE
        asks += watch.asked_at is not None
    assert 20 <= asks <= 30, "once per quiet_s, and no more"


def test_a_watcher_that_slept_has_seen_nothing() -> None:
    """Its own process was stopped for an hour; the first look after that is no evidence."""
    watch = Watch()
    watch.second()
    watch.now += 3600
    assert watch.second() is Verdict.ALIVE
    assert watch.opinion.ask


def test_bytes_of_any_stream_are_a_sign_at_the_time_they_came() -> None:
    watch = Watch()
    watch.second()
    watch.now = 50
    watch.sight = replace(watch.sight, heard_s=49.0)
    assert watch.second() is Verdict.ALIVE
    assert watch.pulse.sign_s == 49.0


def test_no_work_explains_that_nothing_is_answered_at_all() -> None:
    """Neither its pace, nor what it holds; but processes that compute do, and one answer in between."""
    slow = Pace(prompt_token_s=0.01, step_tokens=8192)
    assert Watch(slow, Sight(deaf=True)).until_dead(60) > 2 * PATIENCE.still_s
    assert Watch(slow, Sight(deaf=True, prompt_tokens=100_000)).until_dead(60)
    computes = Watch(slow, Sight(deaf=True, cpu_s=0.0))
    computes.pulse = Pulse(sign_s=0.0, cpu_s=0.0)
    assert Watch(slow, Sight(deaf=True, unread_tokens=200_000)).until_dead(300) > 90, "it may be reading that"
    hears = Watch(slow, Sight())
    for second in range(120):
        computes.sight = replace(computes.sight, cpu_s=float(second))
        hears.sight = replace(hears.sight, deaf=second % PATIENCE.looks != 0)
        assert Verdict.DEAD not in (computes.second(), hears.second())


def test_an_engine_that_has_nothing_to_do_while_a_prompt_is_read_is_alive() -> None:
    """A tokenizer in Python, a huge prompt, a busy machine: the engine idles, and the ask for a token waits behind the
    prompt that is turned into tokens. A server that goes on for ever is found all the same."""
    watch = Watch(SMALL, Sight(marks=(0.0,), cpu_s=0.0, server_cpu_s=0.0))
    watch.second()
    for _ in range(100):
        watch.sight = replace(watch.sight, server_cpu_s=watch.now * 0.3)
        assert watch.second() is Verdict.ALIVE
    while watch.second() is not Verdict.DEAD:
        watch.sight = replace(watch.sight, server_cpu_s=watch.now * 0.3)
        assert watch.now < 1.5 * PATIENCE.reads_s + ASK_S + 5


def test_looks_alone_do_not_make_a_server_seem_at_work() -> None:
    watch = Watch(SMALL, Sight(marks=(0.0,), cpu_s=0.0, server_cpu_s=0.0))
    watch.second()
    while watch.second() is not Verdict.DEAD:
        watch.sight = replace(watch.sight, server_cpu_s=watch.now * 0.02)
        assert watch.now < 32
    assert "use no CPU" in watch.opinion.reason


def test_the_gateway_waits_longer_for_who_was_given_a_huge_prompt_to_read() -> None:
    huge = Sight(marks=(0.0,), unread_tokens=142_000)
    assert bound_s(SMALL, LEFT, huge) - bound_s(SMALL, LEFT, Sight(marks=(0.0,))) > 25
    endless = Sight(marks=(0.0,), unread_tokens=10**9)
    assert bound_s(SMALL, LEFT, endless) - bound_s(SMALL, LEFT, Sight(marks=(0.0,))) <= LEFT.reads_s


def test_unreadable_statistics_do_not_shorten_what_its_work_explains() -> None:
    held = Sight(prompt_tokens=100_000)
    assert bound_s(SMALL, PATIENCE, held) > bound_s(SMALL, PATIENCE, replace(held, marks=(1.0,)))


@given(
    steps=st.lists(
        st.tuples(st.floats(0, 1.0), st.booleans(), st.integers(0, 2048)), min_size=1, max_size=40
    ),
    slow=st.floats(0.1, PATIENCE.seen_slack),
    sees_cpu=st.booleans(),
    blind=st.booleans(),
)
def test_no_schedule_of_a_healthy_engine_is_ever_dead(
    steps: list[tuple[float, bool, int]], slow: float, sees_cpu: bool, blind: bool
) -> None:
    """Steps of any length that its pace allows, then pauses; an ask is answered when the engine comes to it."""
    pace = Pace(prompt_token_s=0.02, step_tokens=2048, seen=True)
    watch = Watch(pace, Sight(marks=None if blind else (0.0,), cpu_s=0.0 if sees_cpu else None))
    cpu = 0.0
    for count, (pause, prefills, tokens) in enumerate(steps):
        busy = pace.prefill_s(tokens) * slow if prefills else 0.02
        end = watch.now + busy
        while watch.now < end:
            cpu += 0.5
            watch.sight = replace(watch.sight, cpu_s=cpu if sees_cpu else None)
            assert watch.second() is not Verdict.DEAD, watch.opinion
        if not blind:
            watch.sight = replace(watch.sight, marks=(float(count + 1),))
        assert watch.second(answers=True) is not Verdict.DEAD, watch.opinion
        watch.now += pause


@given(
    token_s=st.floats(1e-5, 0.05), step=st.integers(256, 16_384), seen=st.booleans(),
    cpu=st.sampled_from([None, 0.0, 0.05, 1.0]), held=st.none() | st.integers(0, 200_000), blind=st.booleans(),
)  # fmt: skip
def test_every_hang_is_dead_within_the_stated_bound(
    token_s: float, step: int, seen: bool, cpu: float | None, held: int | None, blind: bool
) -> None:
    pace = Pace(prompt_token_s=token_s, step_tokens=step, seen=seen)
    sight = Sight(marks=None if blind else (1.0,), cpu_s=0.0 if cpu is not None else None, prompt_tokens=held)
    bound = bound_s(pace, PATIENCE, sight, working=cpu == 1.0)
    pulse, now, asked = Pulse(sign_s=0.0), 0.0, None
    jump = max(1.0, bound / 200)
    while now <= 1.5 * bound + ASK_S + PATIENCE.quiet_s + 3 * jump:
        answered = None
        if asked is not None and now - asked >= ASK_S:
            answered, asked = False, None
        used = None if cpu is None else cpu * now
        opinion, pulse = look(pulse, replace(sight, answered=answered, cpu_s=used), pace, PATIENCE, now)
        if opinion.verdict is Verdict.DEAD:
            return
        if opinion.ask and asked is None:
            asked = now
        now += jump
    raise AssertionError(f"still {opinion} after {now} s, bound {bound}")


PAGE = Path(__file__).parents[4] / "docs" / "reference" / "liveness.md"
ENGINES = {
    "70B on 4 x H100": Pace(prompt_token_s=1 / 8192, step_tokens=8192, seen=True),
    "a small model on a GPU": Pace(prompt_token_s=2e-5, step_tokens=8192, seen=True),
    "SmolLM2 on one CPU core": Pace(prompt_token_s=0.0037, step_tokens=2048, seen=True),
}
SAID_S = {"half a minute": 35, "under a minute": 60, "under 2 min": 120, "under 5 min": 300}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_hung_engine_is_dead_as_soon_as_the_page_says(engine: str) -> None:
    """Looked at once a second, as `seawall up` does."""
    (row,) = [line for line in PAGE.read_text().splitlines() if line.startswith(f"| {engine}")]
    still, spins = (SAID_S[cell.strip()] for cell in row.split("|")[2:4])
    assert Watch(ENGINES[engine]).until_dead(still)
    spinning = Watch(ENGINES[engine])
    while spinning.second() is not Verdict.DEAD:
        spinning.sight = replace(spinning.sight, cpu_s=spinning.now)
        assert spinning.now < spins
    assert spinning.now > spins / 3, "the page is not vague either"


def test_the_gateway_leaves_a_small_model_that_hangs_within_half_a_minute() -> None:
    pulse, asked, now = Pulse(sign_s=0.0, marks=(1.0,)), None, 0.0
    while now <= SAID_S["half a minute"]:
        answered = None
        if asked is not None and now - asked >= 2 * LEFT.quiet_s:
            answered, asked = False, None
        opinion, pulse = look(
            pulse, Sight(marks=(1.0,), answered=answered), ENGINES["a small model on a GPU"], LEFT, now
        )
        if opinion.verdict is Verdict.DEAD:
            return
        if opinion.ask and asked is None:
            asked = now
        now += 1.0
    raise AssertionError(f"still {opinion}")


def test_it_can_be_mounted_beside_a_probe_alone() -> None:
    """The probe script in a Pod imports this very file: it needs nothing but the standard library."""
    tree = ast.parse(Path(evidence.__file__).read_text())
    modules = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    modules |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert {m.split(".")[0] for m in modules if m} <= set(sys.stdlib_module_names)

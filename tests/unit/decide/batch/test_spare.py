"""How many batch lines run: never more than there are places, fewer at once when others need them, more when not."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from seawall.decide.batch.spare import (
    HOLD_S,
    Spare,
    SparePolicy,
    SpareSeen,
    SpareState,
    decide,
    quantile,
)

POLICY = SparePolicy(ttft_s=2.0, tpot_s=0.06)
SEEN = st.builds(
    SpareSeen,
    places=st.integers(0, 500),
    running=st.integers(0, 600),
    queued=st.integers(0, 5),
    ttft_s=st.none() | st.floats(0, 10),
    tpot_s=st.none() | st.floats(0, 1),
    refused=st.integers(0, 5),
)


def alone(
    looks: int, places: int = 64, state: SpareState | None = None, now: float = 0.0
) -> tuple[Spare, SpareState]:
    """Looks at a fleet that nobody else uses, whose limit is always reached."""
    state = state or SpareState()
    spare = Spare(1, 0, "")
    for turn in range(looks):
        spare, state = decide(POLICY, SpareSeen(places, spare.limit), state, now + turn * 0.25)
    return spare, state


def test_an_idle_fleet_is_taken_within_seconds() -> None:
    spare, _ = alone(20)
    assert (spare.limit, spare.end) == (64, 0)


def test_a_limit_that_nobody_reaches_does_not_grow() -> None:
    state = SpareState(10.0)
    for turn in range(50):
        spare, state = decide(POLICY, SpareSeen(64, 2), state, turn * 0.25)
    assert spare.limit == 10


def test_a_waiting_request_halves_the_lines_in_one_look() -> None:
    _, state = alone(20)
    spare, state = decide(POLICY, SpareSeen(64, 64, queued=1), state, 5.0)
    assert (spare.limit, spare.end) == (32, 32)
    assert "wait" in spare.reason
    spare, _ = decide(POLICY, SpareSeen(64, 32), state, 5.25)
    assert spare.limit == 32  # it does not grow back at once
    spare, _ = decide(POLICY, SpareSeen(64, 32), state, 5.25 + HOLD_S)
    assert spare.limit > 32


def test_slow_tokens_are_reason_enough() -> None:
    for seen in (SpareSeen(64, 64, ttft_s=1.9), SpareSeen(64, 64, tpot_s=0.055)):
        spare, _ = decide(POLICY, seen, SpareState(64.0), 5.0)
        assert spare.limit == 32 and "of" in spare.reason


def test_old_slowness_is_not_answered_twice() -> None:
    """What is measured is of the seconds before: one decrease, and then it is waited for its effect."""
    slow = SpareSeen(64, 64, ttft_s=5.0)
    _, state = decide(POLICY, slow, SpareState(64.0), 0.0)
    spare, state = decide(POLICY, replace(slow, running=32), state, 0.25)
    assert (spare.limit, spare.end) == (32, 0)
    spare, _ = decide(POLICY, replace(slow, running=32), state, HOLD_S + 0.1)
    assert spare.limit == 16


def test_nothing_runs_where_nothing_serves() -> None:
    assert decide(POLICY, SpareSeen(0, 0), SpareState(50.0), 0.0)[0].limit == 0


@given(steps=st.lists(SEEN, max_size=40))
def test_limits_stay_within_places(steps: list[SpareSeen]) -> None:
    state, now = SpareState(), 0.0
    for seen in steps:
        now += 0.25
        spare, state = decide(POLICY, seen, state, now)
        assert 0 <= spare.limit <= max(seen.places, seen.running)
        assert 0 <= spare.end <= seen.running
        if seen.queued and seen.places:
            assert spare.limit <= seen.running / 2
        if not spare.end and not seen.queued and seen.places:
            assert spare.limit <= seen.places


@given(seen=SEEN, limit=st.floats(0, 500), now=st.floats(0, 100))
def test_pressure_never_gives_more(seen: SpareSeen, limit: float, now: float) -> None:
    calm = replace(seen, queued=0, ttft_s=None, tpot_s=None, refused=0)
    state = SpareState(limit)
    assert decide(POLICY, seen, state, now)[0].limit <= decide(POLICY, calm, state, now)[0].limit


def test_quantiles_come_from_buckets() -> None:
    bounds = (0.1, 0.2, 0.4)
    assert quantile([1, 1, 1, 1], bounds, 0.5) is None
    assert quantile([10, 0, 0, 0], bounds, 0.5) == 0.05
    assert quantile([0, 10, 0, 0], bounds, 0.95) == 0.1 + 0.1 * 0.95
    assert quantile([0, 0, 0, 10], bounds, 0.5) == 0.4 + 0.4 * 0.5

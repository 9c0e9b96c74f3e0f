"""A forecast learns which rule to believe and how much room it needs, forgets, and stays small."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.decide.scale import forecast

AHEAD_S = 600.0


def looked(rates: list[float], ahead_s: float = AHEAD_S) -> list[forecast.Expected]:
    """A look a minute."""
    state, found = forecast.ForecastState(), []
    for i, rate in enumerate(rates):
        expected, state = forecast.seen(state, rate, ahead_s, 60.0 * i)
        found.append(expected)
    return found


def test_what_comes_every_hour_is_expected_before_it_comes() -> None:
    hour = [2.0] * 20 + [9.0] * 10 + [2.0] * 30
    found = looked(hour * 5)
    before, quiet = found[4 * 60 + 14], found[4 * 60 + 40]
    assert before.rule == "as an hour ago"
    assert before.bound > 8.9
    assert quiet.bound < 4.0


def test_noise_gets_room_and_silence_little() -> None:
    rng = np.random.default_rng(1)
    noisy = looked(list(5.0 * rng.gamma(2, 0.5, 300)))[-1]
    steady = looked([5.0] * 300)[-1]
    assert steady.bound < 5.1
    assert noisy.bound > 1.4 * noisy.rate


def test_a_few_minutes_of_one_mood_do_not_make_it_sure() -> None:
    """Half an hour in which less came than was expected is no promise."""
    falling = looked([9.0 - 0.2 * i for i in range(35)])[-1]
    assert falling.bound >= 1.3 * falling.rate


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**16), burst=st.floats(0.2, 1.5))
def test_a_bound_holds_about_as_often_as_it_says(seed: int, burst: float) -> None:
    """On traffic that stays what it is; by 300 looks, so within what chance allows."""
    rng = np.random.default_rng(seed)
    rates = list(6.0 * rng.gamma(1 / burst**2, burst**2, 600))
    found = looked(rates)
    came = [(rates[i] + rates[i - 1]) / 2 for i in range(len(rates))]
    held = [came[i + 10] <= found[i].bound for i in range(280, 580)]
    assert np.mean(held) > 0.85


@settings(max_examples=30, deadline=None)
@given(rates=st.lists(st.floats(0, 1e4), min_size=1, max_size=60), gap_s=st.floats(0.25, 400))
def test_the_state_is_json_and_what_is_told_is_sane(rates: list[float], gap_s: float) -> None:
    state: forecast.ForecastState = {}
    other: forecast.ForecastState = {}
    for i, rate in enumerate(rates):
        expected, state = forecast.seen(state, rate, AHEAD_S, i * gap_s)
        again, other = forecast.seen(json.loads(json.dumps(other)), rate, AHEAD_S, i * gap_s)
        assert expected == again
        assert 0 <= expected.rate <= expected.bound + 1e-6 < 1e6


def test_what_is_remembered_is_bounded() -> None:
    state: forecast.ForecastState = {}
    for i in range(2 * forecast.KEPT):
        _, state = forecast.seen(state, 5.0, AHEAD_S, 60.0 * i)
    assert len(state["bins"]) == forecast.KEPT
    assert len(json.dumps(state)) < 200_000

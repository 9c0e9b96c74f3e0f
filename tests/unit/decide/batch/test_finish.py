"""Finish times and windows: what is promised can be kept, and what cannot is refused with the earliest that can."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from seawall.decide.batch.finish import Work, earliest_window, finishes, in_need, in_time

WORKS = st.lists(
    st.builds(Work, st.uuids().map(str), st.floats(0, 1e5), st.integers(0, 10**6), st.sampled_from("xyz")),
    max_size=6,
)


def test_the_earliest_deadline_is_done_first() -> None:
    for order in (finishes, in_time):
        done = order([Work("late", 9000, 100), Work("soon", 500, 50)], 10.0, 100.0)
        assert done == {"soon": 105.0, "late": 115.0}


def test_tenants_share_and_who_is_in_need_goes_first() -> None:
    """As the turns are given: side by side by weight, each tenant's earliest deadline first."""
    a, b = Work("a", 9000, 100, "x"), Work("b", 9500, 300, "y", weight=3.0)
    assert finishes([a, b], 10.0, 0.0) == {"a": 40.0, "b": 40.0}
    later = Work("c", 9900, 100, "x")
    assert finishes([a, b, later], 10.0, 0.0) == {"a": 40.0, "b": 40.0, "c": 50.0}
    needy = Work("d", 24.0, 200, "z")
    assert finishes([a, b, needy], 10.0, 0.0) == {"d": 20.0, "a": 60.0, "b": 60.0}
    soon = finishes([Work("d", 60.0, 200, "z"), Work("e", 9000, 1000, "y")], 10.0, 0.0)
    assert 20.0 < soon["d"] < 60.0, "it comes to be in need while it shares"


def test_nothing_is_promised_of_a_fleet_that_stands() -> None:
    assert finishes([Work("a", 1, 1)], 0.0, 0.0) == {"a": math.inf}
    assert earliest_window([], Work("a", 1, 10**9), 0.0, 0.0) is None


def test_a_window_that_is_too_short_names_the_one_that_is_not() -> None:
    least = earliest_window([Work("other", 50, 100)], Work("new", 600, 100_000), 10.0, 0.0)
    assert least is not None and 10_010 < least < 12_000
    assert earliest_window([Work("other", 50, 100)], Work("new", least, 100_000), 10.0, 0.0) is None


def test_a_new_batch_does_not_push_another_over_its_deadline() -> None:
    other = Work("other", 1000, 8000)  # 880 s at 10/s with what is kept in hand
    assert earliest_window([other], Work("new", 600, 3000), 10.0, 0.0) is not None
    assert earliest_window([other], Work("new", 5000, 3000), 10.0, 0.0) is None


def test_a_batch_is_in_need_before_it_is_too_late() -> None:
    assert not in_need(Work("a", 1000, 100), 1.0, 0.0)
    assert in_need(Work("a", 1000, 900), 1.0, 0.0)
    assert not in_need(Work("a", 1000, 0), 1.0, 999.0)
    assert in_need(Work("a", 1000, 1), 0.0, 999.0)


@given(works=WORKS, per_s=st.floats(0.01, 1000), now=st.floats(0, 1e5))
def test_all_are_done_when_all_lines_are(works: list[Work], per_s: float, now: float) -> None:
    done = finishes(works, per_s, now)
    if works:
        assert math.isclose(
            max(done.values()), now + sum(w.units for w in works) / per_s, rel_tol=1e-6, abs_tol=0.1
        )


@given(works=WORKS, lines=st.integers(1, 10**6), window=st.floats(600, 1e6), per_s=st.floats(0.01, 1000))
def test_the_window_that_is_named_can_be_met(
    works: list[Work], lines: int, window: float, per_s: float
) -> None:
    least = earliest_window(works, Work("~new", window, lines), per_s, 0.0)
    if least is not None:
        assert least >= lines / per_s
        assert earliest_window(works, Work("~new", least * 1.0001, lines), per_s, 0.0) is None

"""How fast lines are worked on is known early: from what their work takes, and how many run at once."""

from __future__ import annotations

import math

from seawall.decide.batch.pace import OPEN_UNITS, LinePace, units


def worked(
    pace: LinePace, until: float, lines: int, each_s: float, work: float = 10.0, began: float = 0.0
) -> float:
    """So many places that lines of one length take one after the other, looked at every quarter of a second."""
    now, places = began, [began + each_s * (1 + k / lines) for k in range(lines)]
    while now < until:
        now += 0.25
        for k, end in enumerate(places):
            if end <= now:
                pace.done(work, each_s)
                places[k] = end + each_s
        pace.look([(now - (end - each_s), work) for end in places], now, fell=False, more=True)
    return now


def test_nothing_is_known_before_a_line_is_done() -> None:
    pace = LinePace()
    pace.look([(1.0, 10.0)], 1.0, fell=False, more=True)
    assert pace.per_s == 0.0


def test_it_is_right_from_the_first_wave_on() -> None:
    pace = LinePace()
    worked(pace, 4.0, lines=20, each_s=2.0)
    assert math.isclose(pace.per_s, 100.0, rel_tol=0.02)


def test_it_follows_how_many_run_at_once_and_what_they_take_soon_after() -> None:
    pace = LinePace()
    now = worked(pace, 20.0, lines=20, each_s=2.0)
    now = worked(pace, now + 3.0, lines=10, each_s=2.0, began=now)
    assert math.isclose(pace.per_s, 50.0, rel_tol=0.02)
    worked(pace, now + 120.0, lines=10, each_s=4.0, began=now)
    assert math.isclose(pace.per_s, 25.0, rel_tol=0.05)


def test_a_limit_that_goes_up_and_down_counts_with_its_mean() -> None:
    pace = LinePace()
    now = worked(pace, 20.0, lines=20, each_s=2.0)
    for turn in range(40):
        now += 0.25
        running = [(0.5, 10.0)] * (10 if turn % 16 < 8 else 20)
        pace.look(running, now, fell=turn % 16 == 0, more=True)
    assert math.isclose(pace.per_s, 75.0, rel_tol=0.1)


def test_the_rest_of_a_batch_that_fills_no_places_says_nothing() -> None:
    pace = LinePace()
    now = worked(pace, 10.0, lines=20, each_s=2.0)
    pace.look([(0.1, 10.0)], now + 5.0, fell=False, more=False)
    assert math.isclose(pace.per_s, 100.0, rel_tol=0.02)


def test_lines_that_take_longer_than_thought_slow_it_before_they_are_done() -> None:
    pace = LinePace()
    now = worked(pace, 4.0, lines=20, each_s=2.0)
    pace.look([(40.0, 10.0)] * 20, now + 40.0, fell=False, more=True)
    assert pace.per_s < 40.0


def test_the_work_of_a_line_is_what_it_may_answer_and_a_little_for_what_it_asks() -> None:
    assert units(0, 0) < units(4000, 0) < units(0, 100) < units(0, None)
    assert units(0, None) > OPEN_UNITS

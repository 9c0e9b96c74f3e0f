"""A fleet's timetable and its budget of a day, as stories: office hours, a clock that jumps, money that runs out."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.decide.scale import DemandSeen, ScalePolicy, ScaleState, decide
from seawall.decide.scale.behavior import DirectionRules
from seawall.decide.scale.budget import DayBudget
from seawall.decide.scale.policy import DOWN_POLICIES, UP_POLICIES
from seawall.decide.scale.schedule import (
    Window,
    closes_at,
    cron_problem,
    day_of,
    highest_at,
    lowest_at,
    next_at,
)

BERLIN = "Europe/Berlin"
OFFICE = Window("0 8 * * mon-fri", "0 18 * * 1-5", BERLIN, lowest=4)
POLICY = ScalePolicy(
    lowest=1,
    highest=10,
    target=10.0,
    up=DirectionRules(0, "Max", UP_POLICIES),
    down=DirectionRules(300, "Max", DOWN_POLICIES),
)


def berlin(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(BERLIN)).timestamp()


def told(text: str, after: str) -> str:
    at = next_at(text, BERLIN, berlin(after))
    assert at is not None
    return f"{datetime.fromtimestamp(at, ZoneInfo(BERLIN)):%Y-%m-%d %H:%M}"


@pytest.mark.parametrize(
    ("cron", "after", "comes"),
    [
        ("0 8 * * 1-5", "2026-11-27 08:00", "2026-11-30 08:00"),  # Friday at eight: that moment has come
        ("*/20 9-10 * * *", "2026-11-30 09:40", "2026-11-30 10:00"),
        ("5/20 * * * *", "2026-11-30 09:46", "2026-11-30 10:05"),
        ("0 0 1,15 * *", "2026-11-02 00:00", "2026-11-15 00:00"),
        ("0 0 13 * fri", "2026-11-01 00:00", "2026-11-06 00:00"),  # either day field
        ("0 0 */1 * fri", "2026-11-01 00:00", "2026-11-06 00:00"),  # but a star restricts nothing
        ("0 0 29 feb *", "2026-11-01 00:00", "2028-02-29 00:00"),
        (
            "30 2 * * *",
            "2026-03-28 12:00",
            "2026-03-29 03:30",
        ),  # skipped by the clock: as late as it was skipped
        ("0 3 * * ?", "2026-10-24 12:00", "2026-10-25 03:00"),
    ],
)
def test_the_next_moment_of_an_expression(cron: str, after: str, comes: str) -> None:
    assert told(cron, after) == comes


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("08:00", "write five fields"),
        ("0 24 * * *", "the hour 24; write 0 to 23"),
        ("0 8 * * 7", "Sunday is 0"),
        ("0 8 0 * *", "the day 0; write 1 to 31"),
        ("0 8 * * sunday", "'sunday' where a weekday stands"),
        ("0 18-8 * * *", "end before they begin"),
        ("*/0 * * * *", "the minute 0; write 1"),
        ("0 8 30 2 *", "never comes"),
        ("@daily", "write five fields"),
        ("٣ 8 * * *", "where a minute stands"),
        ("0 8 * * " + "1," * 500 + "1", "write five fields"),
    ],
)
def test_what_is_no_expression_is_told_with_what_to_write(text: str, says: str) -> None:
    assert says in cron_problem(text, BERLIN)


@given(
    minutes=st.sets(st.integers(0, 59), min_size=1, max_size=3),
    hours=st.sets(st.integers(0, 23), min_size=1, max_size=3),
    weekdays=st.sets(st.integers(0, 6), min_size=1),
    after=st.integers(1_767_000_000, 1_799_000_000),
)
def test_the_next_moment_is_the_first_minute_that_matches(
    minutes: set[int], hours: set[int], weekdays: set[int], after: int
) -> None:
    text = " ".join(",".join(map(str, sorted(s))) for s in (minutes, hours)) + " * * "
    text += ",".join(map(str, sorted(weekdays)))
    found = next_at(text, "UTC", after)
    at = datetime.fromtimestamp(after // 60 * 60 + 60, ZoneInfo("UTC"))
    while not (at.minute in minutes and at.hour in hours and at.isoweekday() % 7 in weekdays):
        at += timedelta(minutes=1)
    assert found == at.timestamp()


def test_a_window_is_open_from_its_start_until_before_its_end() -> None:
    def lowest(at: str) -> int:
        return lowest_at([OFFICE], berlin(at))

    assert [lowest(f"2026-11-30 {t}") for t in ("07:59", "08:00", "17:59", "18:00")] == [0, 4, 4, 0]
    assert lowest("2026-11-28 12:00") == 0  # Saturday
    night = Window("0 22 * * *", "0 6 * * *", BERLIN, lowest=2)
    assert (
        lowest_at([night], berlin("2026-11-30 23:30")) == lowest_at([night], berlin("2026-12-01 05:59")) == 2
    )
    assert closes_at(night, berlin("2026-12-01 06:00")) is None


def test_of_open_windows_the_highest_minimum_and_the_lowest_maximum_count() -> None:
    noon = berlin("2026-11-30 12:00")
    other = Window("0 0 * * *", "59 23 * * *", BERLIN, lowest=6, highest=9)
    third = Window("0 0 * * *", "59 23 * * *", BERLIN, highest=8)
    assert lowest_at([OFFICE, other, third], noon) == 6
    assert highest_at([OFFICE, other, third], noon) == 8
    assert highest_at([OFFICE], noon) is None


def test_a_day_is_as_long_as_its_clocks_make_it() -> None:
    for day, hours in (("2026-03-29", 23), ("2026-10-25", 25), ("2026-11-30", 24)):
        begin, end = day_of(BERLIN, berlin(f"{day} 12:00"))
        assert (end - begin) / 3600 == hours


def live(policy: ScalePolicy, begin: str, hours: float, load: dict[str, float]) -> list[tuple[str, int, str]]:
    """Obeys the decisions -> what changed when, and why. `load`: requests from a time on."""
    state: ScaleState = {}
    now, replicas, out = 0.0, policy.lowest, list[tuple[str, int, str]]()
    steps = {berlin(at): n for at, n in load.items()}
    while now <= hours * 3600:
        at = berlin(begin) + now
        demand = next((n for t, n in sorted(steps.items(), reverse=True) if t <= at), 0.0)
        seen = DemandSeen(replicas=replicas, ready=replicas, running=demand, unix_s=at)
        decision, state = decide(policy, seen, state, now)
        state = json.loads(json.dumps(state))
        if decision.replicas != replicas:
            replicas = decision.replicas
            out.append(
                (f"{datetime.fromtimestamp(at, ZoneInfo(BERLIN)):%a %H:%M}", replicas, decision.reason)
            )
        now += max(decision.next_look_s, 1.0)
    return out


def test_office_hours_are_met_with_replicas_and_left_slowly() -> None:
    changes = live(replace(POLICY, windows=(OFFICE,)), "2026-11-29 06:00", 48, {})
    up = [c for c in changes if c[1] == 4]
    assert [c[0] for c in up] == ["Mon 08:00"]
    assert up[0][2] == "scheduled until 18:00 Europe/Berlin: 4 wanted"
    down = [c for c in changes if c[0] > "Mon 08:00"]
    assert [n for _, n, _ in down] == [3, 2, 1]
    assert down[0][0] == "Mon 18:04"  # by the window of any metric


def test_a_window_wakes_a_fleet_from_zero_without_a_request() -> None:
    changes = live(replace(POLICY, lowest=0, windows=(OFFICE,)), "2026-11-30 07:00", 2, {})
    assert changes[0][:2] == ("Mon 08:00", 1)
    assert changes[0][2].startswith("scheduled")
    assert changes[1][:2] == ("Mon 08:00", 4)


def test_a_maximum_holds_while_its_window_is_open_and_says_so() -> None:
    night = Window("0 22 * * *", "0 6 * * *", BERLIN, highest=2)
    changes = live(replace(POLICY, windows=(night,)), "2026-11-30 20:00", 11, {"2026-11-30 20:00": 80})
    assert changes[0][1] > 2
    cut = next(c for c in changes if c[0] == "Mon 22:00")
    assert cut[1] == 2
    assert "the schedule allows 2 now" in cut[2]
    assert next(c for c in changes if c[0] == "Tue 06:00")[1] > 2


def test_without_the_time_of_day_only_the_fleets_own_bounds_count() -> None:
    policy = replace(POLICY, windows=(OFFICE,), budget=DayBudget(1, 1))
    decision, state = decide(policy, DemandSeen(replicas=1, ready=1, running=50), {}, 0.0)
    assert decision.replicas == 5
    assert not state["spent"]


def test_a_burst_at_noon_leaves_the_minimum_for_the_evening() -> None:
    """48 GPU-hours, of which one replica needs 24: eight replicas from nine to six would cost 72."""
    policy = replace(POLICY, budget=DayBudget(48, 1, BERLIN))
    changes = live(policy, "2026-11-30 00:00", 23.9, {"2026-11-30 09:00": 80, "2026-11-30 18:00": 5})
    counts = [n for _, n, _ in changes]
    assert max(counts) == 8
    after = counts[counts.index(8) :]
    assert after == sorted(after, reverse=True)  # it sinks step by step
    assert all(a - b == 1 for a, b in pairwise(after))
    assert any("GPU-hours of today are spent" in why and "allowed now" in why for _, _, why in changes)
    assert min(counts) == 1


def test_the_budget_is_new_at_midnight_in_its_own_zone() -> None:
    policy = replace(POLICY, budget=DayBudget(30, 1, BERLIN))
    changes = live(policy, "2026-11-30 12:00", 14, {"2026-11-30 12:00": 80})
    grown = [(at, n) for (_, before, _), (at, n, _) in pairwise(changes) if n > before]
    assert grown[-1][0].startswith("Tue 00:0")


@given(
    hours=st.floats(24, 200),
    gpus=st.integers(1, 8),
    load=st.lists(st.floats(0, 300), min_size=24, max_size=24),
)
def test_no_day_costs_more_than_its_budget_or_its_minimum(hours: float, gpus: int, load: list[float]) -> None:
    policy = replace(POLICY, budget=DayBudget(hours, gpus), polling_s=300.0, sync_s=300.0, startup_s=60.0)
    state: ScaleState = {}
    begin, replicas, spent = 1_767_571_200.0, 1, 0.0
    for n in range(288):
        seen = DemandSeen(replicas=replicas, ready=replicas, running=load[n // 12], unix_s=begin + n * 300)
        decision, state = decide(policy, seen, state, n * 300.0)
        replicas = decision.replicas
        spent += replicas * gpus * 300 / 3600
    assert spent <= max(hours, 24 * gpus) + 10 * gpus * 300 / 3600  # one look late at most


def test_one_replica_stays_when_nothing_is_left() -> None:
    policy = replace(POLICY, lowest=0, budget=DayBudget(0.5, 8))
    state: ScaleState = {}
    replicas = 1
    for n in range(400):
        seen = DemandSeen(replicas=replicas, ready=replicas, running=50, unix_s=1_767_571_200.0 + n * 15)
        decision, state = decide(policy, seen, state, n * 15.0)
        replicas = decision.replicas
        assert replicas == 1


def test_a_minimum_that_costs_more_than_the_budget_is_refused() -> None:
    day = replace(POLICY, windows=(replace(OFFICE, zone="UTC"),), budget=DayBudget(53, 1))
    assert "53 is less than the 54" in day.overspent()
    assert not replace(day, budget=DayBudget(54, 1)).overspent()

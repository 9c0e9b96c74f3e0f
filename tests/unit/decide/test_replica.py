"""The life of a replica: the table, back-off, budgets and the pulse."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from seawall.decide.replica import (
    TABLE,
    Life,
    LifeEvent,
    LifePolicy,
    ReplicaPhase,
    born,
    can,
    due,
    step,
)

POLICY = LifePolicy(startup_s=100, backoff_first_s=1, backoff_max_s=8, stable_s=50)


def go(life: Life, now: float, *events: LifeEvent) -> Life:
    for event in events:
        life = step(life, event, now, POLICY, "because")
    return life


def test_a_good_life() -> None:
    life = go(born(0, "wanted"), 5, LifeEvent.LISTENS, LifeEvent.PROVED, LifeEvent.DRAIN, LifeEvent.EXITED)
    assert life.phase is ReplicaPhase.STOPPED
    assert life.reason == "because"


def test_crashes_wait_twice_as_long_each_time_up_to_a_bound() -> None:
    life, waits, now = born(0, ""), [], 0.0
    for _ in range(6):
        life = go(life, now, LifeEvent.EXITED)
        waits.append(life.retry_at_s - now)
        assert due(life, life.retry_at_s - 0.01, POLICY) is None
        now = life.retry_at_s
        assert due(life, now, POLICY) is LifeEvent.RETRY
        life = go(life, now, LifeEvent.RETRY)
    assert waits == [1, 2, 4, 8, 8, 8]


def test_a_stable_stretch_forgets_earlier_failures() -> None:
    life = go(
        born(0, ""),
        1,
        LifeEvent.EXITED,
        LifeEvent.RETRY,
        LifeEvent.EXITED,
        LifeEvent.RETRY,
        LifeEvent.LISTENS,
        LifeEvent.PROVED,
    )
    assert step(life, LifeEvent.STALLED, 10, POLICY, "").failures == 3
    assert step(life, LifeEvent.STALLED, 60, POLICY, "").failures == 1


def test_the_start_has_a_budget_that_each_retry_renews() -> None:
    life = born(0, "")
    assert due(life, 100, POLICY) is None
    assert due(go(life, 50, LifeEvent.LISTENS), 101, POLICY) is LifeEvent.OVERDUE
    again = go(life, 101, LifeEvent.OVERDUE, LifeEvent.RETRY)
    assert due(again, 200, POLICY) is None


def test_every_phase_but_the_last_can_end_and_every_phase_is_reached() -> None:
    for phase in ReplicaPhase:
        assert phase is ReplicaPhase.STOPPED or any(p is phase for p, _ in TABLE)
        assert phase is ReplicaPhase.STARTING or phase in TABLE.values()


@given(st.lists(st.sampled_from(list(LifeEvent)), max_size=40))
def test_whatever_happens_a_drain_always_leads_out(events: list[LifeEvent]) -> None:
    life = born(0, "")
    for n, event in enumerate(events):
        if can(life, event):
            life = step(life, event, float(n), POLICY, "")
    if life.phase not in (ReplicaPhase.DRAINING, ReplicaPhase.STOPPED):
        life = step(life, LifeEvent.DRAIN, 99, POLICY, "")
    if life.phase is ReplicaPhase.DRAINING:
        life = step(life, LifeEvent.EXITED, 99, POLICY, "")
    assert life.phase is ReplicaPhase.STOPPED

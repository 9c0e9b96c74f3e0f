"""Stories and properties of admission and fair queueing."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from seawall.decide.route.admit import Admission, Admitted, Bounds, Queued, Rejected, Ticket
from seawall.decide.route.pick import Ask


def ticket(tenant: str = "a", tokens: int = 100, urgent: bool = False, **more: Any) -> Ticket:
    return Ticket(Ask(tokens=tokens, urgent=urgent), tenant, **more)


def room(**more: int) -> Admission:
    return Admission(Bounds(**more))


def test_free_and_nobody_waiting_goes_straight_on() -> None:
    a = room(requests=2)
    assert isinstance(a.offer(ticket(), True, 0.0), Admitted)
    assert isinstance(a.offer(ticket(), False, 0.0), Queued)
    assert isinstance(a.offer(ticket(), True, 0.0), Queued), "nobody overtakes those who wait"
    refused = a.offer(ticket(), False, 0.0)
    assert isinstance(refused, Rejected) and "2 requests" in refused.reason


def test_the_bound_in_tokens_still_lets_one_giant_wait() -> None:
    a = room(requests=100, tokens=1000)
    assert isinstance(a.offer(ticket(tokens=50_000), False, 0.0), Queued)
    assert isinstance(a.offer(ticket(tokens=10), False, 0.0), Rejected)


def test_retry_after_follows_the_measured_rate() -> None:
    a = room(requests=20)
    for _ in range(20):
        a.offer(ticket(), False, 0.0)
    for i in range(100):
        a.finished(i * 0.1)
    a.tick(10.0)
    assert 9 < a.rate < 11 and a.retry_after() == 3
    assert Admission(Bounds()).retry_after() == 5, "nothing measured yet"


def test_without_a_bound_a_minute_of_work_may_wait() -> None:
    a = Admission(Bounds(least=4))
    assert a.limit() == 4
    for i in range(100):
        a.finished(i * 0.1)
    a.tick(10.0)
    assert 550 < a.limit() < 650


def test_deadlines_take_out_and_only_them() -> None:
    a = room(requests=10)
    soon, late = ticket(deadline=5.0), ticket(deadline=50.0)
    a.offer(soon, False, 0.0), a.offer(late, False, 0.0)
    assert a.expire(4.0) == [] and a.expire(5.5) == [soon]
    assert a.queued == 1 and not a.cancel(soon) and a.next() is late


def test_priorities_first_but_nobody_starves() -> None:
    a = room(requests=1000)
    for _ in range(100):
        a.offer(ticket("batch", priority=9), False, 0.0)
        a.offer(ticket("live", priority=0), False, 0.0)
    first = Counter(t.tenant for t in (a.next() for _ in range(80)) if t)
    assert first == {"live": 70, "batch": 10}


def test_resumed_streams_go_first_over_any_bound() -> None:
    a = room(requests=1)
    a.offer(ticket(), False, 0.0)
    broken = ticket(urgent=True)
    a.urgent(broken, 0.0)
    assert a.next() is broken
    a.put_back(broken, 1.0)
    assert a.next() is broken and a.queued == 1


def test_a_flood_of_one_tenant_does_not_delay_another() -> None:
    a = room(requests=10_000)
    for _ in range(5000):
        a.offer(ticket("flood", 500), False, 0.0)
    a.offer(ticket("small", 500), False, 0.0)
    served = [t.tenant for t in (a.next() for _ in range(12)) if t]
    assert "small" in served


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 8000)), min_size=60, max_size=200),
    st.tuples(st.sampled_from([1.0, 2.0]), st.sampled_from([1.0, 3.0]), st.just(1.0)),
)
def test_while_all_wait_tokens_follow_weights(
    work: list[tuple[str, int]], weights: tuple[float, ...]
) -> None:
    """DRR's bound: between two backlogged tenants, service per weight differs by at most a quantum and the
    largest request, per unit of weight."""
    a = room(requests=1000)
    share = dict(zip("abc", weights, strict=True))
    waiting: Counter[str] = Counter()
    for tenant, tokens in work:
        a.offer(ticket(tenant, tokens, weight=share[tenant]), False, 0.0)
        waiting[tenant] += 1
    got: dict[str, float] = dict.fromkeys(waiting, 0.0)
    biggest = max(t for _, t in work)
    while (t := a.next()) is not None:
        got[t.tenant] += t.tokens / share[t.tenant]
        waiting[t.tenant] -= 1
        if any(n == 0 for n in waiting.values()):
            break
        assert max(got.values()) - min(got.values()) <= 2 * (2048 + biggest) + 2048


OPS = st.lists(
    st.tuples(st.sampled_from(["offer", "next", "cancel", "expire", "urgent", "back"]), st.integers(0, 30)),
    max_size=120,
)


@given(OPS)
def test_nothing_is_ever_forgotten_or_served_twice(ops: list[tuple[str, int]]) -> None:
    a = room(requests=12)
    inside: list[Ticket] = []
    now = 0.0
    for op, n in ops:
        now += n / 20
        if op in ("offer", "urgent"):
            t = ticket(
                "abcd"[n % 4], 1 + n * 300, priority=n % 3, deadline=now + n / 4, urgent=op == "urgent"
            )
            if op == "urgent":
                a.urgent(t, now)
                inside.append(t)
            elif isinstance(a.offer(t, False, now), Queued):
                inside.append(t)
        elif op == "cancel" and inside:
            assert a.cancel(inside.pop(n % len(inside)))
        elif op == "expire":
            for t in a.expire(now):
                inside.remove(t)
                assert t.deadline <= now
        else:
            taken = a.next()
            assert (taken is None) == (not inside)
            if taken is not None and op == "back":
                a.put_back(taken, now)
            elif taken is not None:
                inside.remove(taken)
        assert a.queued == len(inside)
        assert a.queued_tokens == sum(t.tokens for t in inside)
    left = []
    while (last := a.next()) is not None:
        left.append(last)
    assert sorted(map(id, left)) == sorted(map(id, inside)) and a.queued == 0


def test_after_hours_of_standing_still_retry_after_is_still_a_minute() -> None:
    a = room(requests=1)
    a.offer(ticket(), False, 0.0)
    a.rate = 5e-324
    assert a.retry_after() == 5
    a.rate = 1e-6
    assert a.retry_after() == 60

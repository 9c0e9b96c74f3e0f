"""Whose line is next: need first, then shares between tenants, then the earliest deadline."""

from __future__ import annotations

from collections import Counter

from seawall.decide.batch.turns import TurnAsk, Turns


def served(asks: list[TurnAsk], turns: int) -> Counter[str]:
    order = Turns()
    found: Counter[str] = Counter()
    for _ in range(turns):
        chosen = order.next(asks)
        assert chosen is not None
        found[chosen.id] += 1
    return found


def test_one_tenants_earliest_deadline_goes_first() -> None:
    assert served([TurnAsk("b", "t", 20.0), TurnAsk("a", "t", 10.0)], 10) == {"a": 10}


def test_tenants_take_turns_by_their_shares() -> None:
    asks = [TurnAsk("a", "one", 10.0, 3.0), TurnAsk("b", "two", 99.0, 1.0)]
    found = served(asks, 400)
    assert 290 <= found["a"] <= 310


def test_a_batch_in_need_goes_before_shares() -> None:
    asks = [
        TurnAsk("a", "one", 10.0),
        TurnAsk("b", "two", 99.0, needy=True),
        TurnAsk("c", "two", 50.0, needy=True),
    ]
    assert served(asks, 10) == {"c": 10}


def test_who_was_away_has_saved_up_nothing() -> None:
    order = Turns()
    one, two = TurnAsk("a", "one", 10.0), TurnAsk("b", "two", 10.0)
    for _ in range(1000):
        order.next([one])
    found = Counter(chosen.id for _ in range(100) if (chosen := order.next([one, two])) is not None)
    assert 45 <= found["a"] <= 55


def test_nobody_is_nobodys_turn() -> None:
    assert Turns().next([]) is None

"""Leases of a shared budget: whatever is lost, doubled or late, together they spend no more than there is."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.decide.route.lease import AWAY_S, COLD, LEASE, BudgetLease, LeaseAsk, LeaseTold, Pot

CAP, PER_S, GATEWAYS = 600.0, 10.0, 3
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["spend", "spend", "spend", "ask", "answer", "double", "lose", "kill", "settle"]),
        st.integers(0, GATEWAYS - 1),
        st.floats(0, 2),
    ),
    max_size=200,
)


class Tier:
    """Gateways, a pot, and messages on their way in any order."""

    def __init__(self, per_s: float = PER_S) -> None:
        self.pot = Pot(CAP, per_s)
        self.per_s = per_s
        self.now = 0.0
        self.names = [f"g{i}" for i in range(GATEWAYS)]
        self.leases = [BudgetLease(CAP, per_s, GATEWAYS) for _ in self.names]
        self.dead: list[BudgetLease] = []
        self.asks: list[tuple[int, str, LeaseAsk]] = []
        self.answers: list[tuple[int, str, LeaseTold]] = []
        self.born = 0

    def step(self, what: str, i: int, amount: float) -> None:
        lease = self.leases[i]
        if what == "spend":
            if lease.room(self.now) >= 1:
                lease.take(1)
            self.now += amount / 100
        elif what == "ask":
            self.asks.append((i, self.names[i], lease.ask(self.now)))
        elif what in ("answer", "double") and self.asks:
            j = int(amount * 1000) % len(self.asks)
            who, name, ask = self.asks[j] if what == "double" else self.asks.pop(j)
            told = self.pot.turn(name, ask, self.now)
            self.answers.append((who, name, told))
            k = int(amount * 7919) % len(self.answers)
            who, name, told = self.answers.pop(k)
            if self.names[who] == name:
                self.leases[who].told(told, self.now)
        elif what == "lose" and self.answers:
            self.answers.pop(int(amount * 1000) % len(self.answers))
        elif what == "kill":
            self.born += 1
            self.dead.append(lease)
            self.leases[i], self.names[i] = BudgetLease(CAP, self.per_s, GATEWAYS), f"h{self.born}"
        elif what == "settle" and lease.spent > 1:
            lease.take(-0.5)


@given(STEPS, st.sampled_from([PER_S, 0.0]))
@settings(max_examples=300, deadline=None)
def test_whatever_happens_to_messages_no_more_is_granted_than_there_is(
    steps: list[tuple[str, int, float]], per_s: float
) -> None:
    tier = Tier(per_s)
    for step in steps:
        tier.step(*step)
        there = CAP + tier.per_s * tier.now
        granted = sum(m.granted - m.released for m in tier.pot.members.values())
        assert granted + max(0.0, tier.pot.level) <= there + 1e-6
        every = [*tier.leases, *tier.dead]
        overdrafts = sum(max(0.0, -lease.hand) + lease.alone for lease in every)
        spent = sum(lease.spent for lease in every)
        assert spent <= there + overdrafts + 1e-6, "never over the limit by more than the leases out"
        for lease in every:
            most = CAP if lease.known else CAP / GATEWAYS
            assert lease.hand >= -most - 1


def overload(tier: Tier, seconds: float, times: float, rng: Random, every_s: float = 0.1) -> list[float]:
    """Each gateway is asked for `times` the whole rate; every 100 ms it talks with the store."""
    spent = [lease.spent for lease in tier.leases]
    wanted = 0.0
    end = tier.now + seconds
    while tier.now < end:
        tier.now += every_s
        wanted += every_s * tier.per_s * times
        while wanted >= 1:
            wanted -= 1
            i = rng.randrange(len(tier.leases))
            if tier.leases[i].room(tier.now) >= 1:
                tier.leases[i].take(1)
        for name, lease in zip(tier.names, tier.leases, strict=True):
            lease.told(tier.pot.turn(name, lease.ask(tier.now), tier.now), tier.now)
    return [lease.spent - before for lease, before in zip(tier.leases, spent, strict=True)]


@pytest.mark.parametrize("seconds", [20.0, 60.0])
def test_ten_times_too_much_gets_the_limit(seconds: float) -> None:
    tier = Tier()
    got = sum(overload(tier, seconds, 10, Random(1)))
    assert got == pytest.approx(CAP + PER_S * seconds, rel=0.02)


def test_a_gateway_that_is_killed_takes_one_lease_with_it() -> None:
    tier = Tier()
    before = sum(overload(tier, 30.0, 10, Random(1)))
    lease = max(tier.leases[0].hand, 0.0)
    tier.leases.pop(0), tier.names.pop(0)
    got = sum(overload(tier, 30.0, 10, Random(2)))
    assert CAP + 60 * PER_S - lease - 0.02 * CAP <= before + got <= (CAP + 60 * PER_S) * 1.02


def test_one_busy_gateway_alone_may_spend_it_all_at_once() -> None:
    tier = Tier()
    lease = tier.leases[0]
    assert lease.room(0.0) >= 1, "nobody waits for the store"
    lease.take(1)
    lease.told(tier.pot.turn("g0", lease.ask(0.0), 0.0), 0.0)
    assert lease.room(0.0) == pytest.approx(CAP - 1)


def test_without_the_store_each_goes_on_with_its_share_and_pays_afterwards() -> None:
    tier = Tier()
    overload(tier, 60.0, 10, Random(1))
    start, spent = tier.now, sum(lease.spent for lease in tier.leases)
    while tier.now < start + 30:
        tier.now += 0.05
        for lease in tier.leases:
            if tier.now > start + AWAY_S:
                lease.without_store(tier.now)
            while lease.room(tier.now) >= 1:
                lease.take(1)
    alone = sum(lease.spent for lease in tier.leases) - spent
    assert alone == pytest.approx(30 * PER_S, rel=0.1), "the stated share, for each"
    got = sum(overload(tier, 30.0, 10, Random(2)))
    assert alone + got == pytest.approx(60 * PER_S, rel=0.1)


def test_a_store_that_was_emptied_gives_no_second_pot() -> None:
    tier = Tier(per_s=0.0)
    for _ in range(100):
        for name, lease in zip(tier.names, tier.leases, strict=True):
            if lease.room(tier.now) >= 5:
                lease.take(5)
            lease.told(tier.pot.turn(name, lease.ask(tier.now), tier.now), tier.now)
        tier.now += 0.1
        if tier.now > 2 and tier.pot.cap == CAP:
            tier.pot = Pot(CAP - 1e-9, 0.0)  # flushed
    assert sum(lease.spent for lease in tier.leases) <= CAP + GATEWAYS * 5, "one request of each"


def test_what_is_not_needed_goes_back() -> None:
    tier = Tier()
    lease = tier.leases[0]
    assert lease.room(0.0) >= 1
    lease.told(tier.pot.turn("g0", lease.ask(0.0), 0.0), 0.0)
    assert lease.hand == CAP / 100
    lease.told(tier.pot.turn("g0", lease.ask(10.0), 10.0), 10.0)
    assert lease.hand == 0 and tier.pot.level == CAP


def test_a_store_that_never_answers_leaves_a_share() -> None:
    lease = BudgetLease(CAP, PER_S, GATEWAYS)
    lease.room(0.0)
    lease.ask(0.0)
    got = 0
    now = AWAY_S
    while now < 61:
        now += 0.1
        lease.without_store(now)
        while lease.room(now) >= 1:
            lease.take(1)
            got += 1
    assert CAP / GATEWAYS * 0.8 <= got <= (CAP + 60 * PER_S) / GATEWAYS
    assert math.isinf(BudgetLease(10, 0).wait_s(1))


def breath(lease: BudgetLease, now: float) -> int:
    """Requests that pass at one moment."""
    passed = 0
    while lease.room(now) >= 1:
        lease.take(1)
        passed += 1
    return passed


def cold_part(lease: BudgetLease) -> float:
    """Of a gateway that does not know how the pot stands."""
    return COLD * CAP / lease.gateways + LEASE * CAP + 1


@pytest.mark.parametrize("still", [2.0, 60.0])
@pytest.mark.parametrize("away", [False, True])
def test_a_gateway_that_stood_still_does_not_spend_what_the_others_spent_meanwhile(
    still: float, away: bool
) -> None:
    tier = Tier()
    overload(tier, 60.0, 10, Random(1))
    woken = tier.leases.pop(0)
    tier.names.pop(0)
    if away:  # the store was away when it fell asleep
        for _ in range(20):
            tier.now += 0.1
            woken.without_store(tier.now)
            breath(woken, tier.now)
    overload(tier, still, 10, Random(2))
    assert breath(woken, tier.now) <= cold_part(woken)
    woken.without_store(
        tier.now
    )  # and its first round fails: it was not silent for so long, it was not there
    assert breath(woken, tier.now) <= AWAY_S * PER_S
    tier.leases.append(woken), tier.names.append("g0")
    got = sum(overload(tier, 60.0, 10, Random(3)))
    assert got <= 60 * PER_S * 1.02, "what it took is paid back"


def test_a_tenant_that_rested_is_not_taken_for_a_store_that_is_away() -> None:
    tier = Tier()
    overload(tier, 60.0, 10, Random(1))
    rested = tier.leases.pop(0)
    tier.names.pop(0)
    while not rested.silent(tier.now):
        overload(tier, 0.5, 10, Random(2))
        rested.told(tier.pot.turn("g0", rested.ask(tier.now), tier.now), tier.now)
    overload(tier, 8.0, 10, Random(2))
    assert 1 <= breath(rested, tier.now) <= cold_part(rested), "the others have spent it meanwhile"


def test_a_tenant_whose_pot_was_empty_and_who_rested_may_send_one_large_request() -> None:
    pot, lease = Pot(CAP, PER_S), BudgetLease(CAP, PER_S, 1)
    lease.room(0.0)
    lease.take(CAP)
    lease.told(pot.turn("g0", lease.ask(0.0), 0.0), 0.0)
    assert lease.room(0.1) < 1
    lease.told(pot.turn("g0", lease.ask(10.1), 10.1), 10.1)
    assert lease.silent(11.0)
    assert lease.room(30.0) >= 290


def test_a_quota_outlives_a_store_that_was_away_and_comes_back_empty() -> None:
    tier = Tier(per_s=0.0)
    for lease in tier.leases:
        lease.room(0.0)
        lease.take(10)
    for name, lease in [*zip(tier.names, tier.leases, strict=True)] * 2:
        lease.told(tier.pot.turn(name, lease.ask(0.0), 0.0), 0.0)
    for lease in tier.leases:
        for now in (2.0, 2.5, 3.0):
            lease.without_store(now)
            assert lease.room(now) >= 1
            lease.take(1)
    tier.pot, tier.now = Pot(CAP, 0.0), 4.0
    for _ in range(3):
        for name, lease in zip(tier.names, tier.leases, strict=True):
            lease.told(tier.pot.turn(name, lease.ask(tier.now), tier.now), tier.now)
        tier.now += 0.1
    left = CAP - sum(lease.spent for lease in tier.leases)
    held = sum(max(0.0, lease.hand) for lease in tier.leases)
    assert left * 0.9 <= tier.pot.level + held <= left + 1e-6

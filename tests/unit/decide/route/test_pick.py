"""Stories and properties of the picker."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.decide.route.pick import Ask, Picked, Router, side
from seawall.decide.route.prefix import blocks_of
from seawall.domain.seen import Replica


def replica(name: str, **more: object) -> Replica:
    return Replica(name=name, fleet="f", url=f"http://{name}:1", **more)  # type: ignore[arg-type]


def router(n: int, cap: int = 4, **more: object) -> Router:
    r = Router(cap, Random(1))
    r.update([replica(f"r{i}", **more) for i in range(n)])
    return r


def take(r: Router, ask: Ask, now: float = 0.0) -> Picked:
    picked = r.pick(ask, now)
    assert picked is not None
    r.start(picked.target, ask.but(cached=picked.cached), picked.found)
    return picked


@pytest.mark.parametrize("n", [2, 8, 50])
def test_load_is_spread_and_the_cap_holds(n: int) -> None:
    r = router(n, cap=4)
    for _ in range(4 * n):
        take(r, Ask(tokens=100))
    assert {t.in_flight for t in r.targets.values()} == {4}
    assert r.pick(Ask(tokens=100), 0.0) is None and not r.free()
    over = r.pick(Ask(tokens=100, urgent=True), 0.0)
    assert over is not None and over.reason == "resumed above the cap"


def test_above_the_cap_is_one_place_whatever_of_the_rest_others_use() -> None:
    r = router(1, cap=8)
    (target,) = r.targets.values()
    r.set_others(target, in_flight=0, held=5)
    urgent = Ask(tokens=100, urgent=True)
    for _ in range(4):
        take(r, urgent)
    assert r.pick(urgent, 0.0) is None


def test_of_a_replica_whose_places_are_agreed_on_one_is_taken_until_they_are() -> None:
    r = Router(8, Random(1))
    r.agrees = True
    r.update([replica("r")])
    take(r, Ask(tokens=100))
    assert r.pick(Ask(tokens=100), 0.0) is None
    r.set_others(r.targets["r"], in_flight=0, held=6)
    take(r, Ask(tokens=100))
    assert r.pick(Ask(tokens=100), 0.0) is None


def test_a_few_replicas_are_balanced_by_tokens_not_by_requests() -> None:
    r = router(2, cap=100)
    big = take(r, Ask(tokens=10_000)).target
    others = [take(r, Ask(tokens=100)).target for _ in range(20)]
    assert big not in others


def test_many_replicas_stay_near_balance_with_a_few_choices() -> None:
    r = router(200, cap=100)
    for _ in range(2000):
        take(r, Ask(tokens=10))
    loads = [t.in_flight for t in r.targets.values()]
    assert max(loads) <= 14 and min(loads) >= 5


def test_draining_evicted_and_gone_replicas_get_nothing_and_come_back_only_when_proven() -> None:
    r = router(3, cap=100)
    a, b, _ = (r.targets[f"r{i}"] for i in range(3))
    assert r.evict(a, "connection refused") and not r.evict(a, "again")
    r.update([replica("r0"), replica("r1", draining=True), replica("r2")])
    assert {take(r, Ask()).target.name for _ in range(10)} == {"r2"}
    r.probing(a)
    assert a.state == "probing" and r.alive() == 1
    assert r.restore(a) and r.alive() == 2
    assert b.state == "draining" and not r.restore(b)
    r.update([replica("r0")])
    assert {take(r, Ask()).target.name for _ in range(10)} == {"r0"}
    r.end(b, Ask()) if b.in_flight else None
    assert "r1" not in r.targets


def test_a_replica_that_returns_at_another_address_is_a_new_one() -> None:
    r = router(1)
    old = take(r, Ask(tokens=5)).target
    changes = r.update([Replica(name="r0", fleet="f", url="http://elsewhere:1")])
    assert changes.removed == (old,) and changes.added[0].in_flight == 0
    r.end(old, Ask(tokens=5))
    assert r.in_flight == 0 and take(r, Ask()).target is changes.added[0]


def test_session_sticks_until_its_replica_goes_and_most_others_stay() -> None:
    r = router(10, cap=1000)
    homes = {}
    for i in range(200):
        ask = Ask(session=f"s{i}")
        homes[i] = take(r, ask).target.name
        r.end(r.targets[homes[i]], ask)
    assert all(r.pick(Ask(session=f"s{i}"), 1.0).target.name == h for i, h in homes.items())  # type: ignore[union-attr]
    gone = homes[0]
    r.evict(r.targets[gone], "killed")
    after = {i: r.pick(Ask(session=f"s{i}"), 1.0).target.name for i in homes}  # type: ignore[union-attr]
    assert all(after[i] == h for i, h in homes.items() if h != gone)
    assert gone not in after.values()


def test_a_cached_prefix_attracts_until_the_replica_is_overloaded() -> None:
    r = router(4, cap=1000)
    blocks = blocks_of(b"system prompt " * 200)
    home = take(r, Ask(tokens=700, blocks=blocks)).target
    again = take(r, Ask(tokens=700, blocks=blocks))
    assert again.target is home and "prefix" in again.reason
    for _ in range(40):
        take(r, Ask(tokens=700, blocks=blocks))
    assert home.in_flight < 30


@pytest.mark.parametrize(("replicas", "least"), [(2, 8), (3, 5), (4, 3)])
def test_load_beats_a_shared_prompt(replicas: int, least: int) -> None:
    r = router(replicas, cap=1000)
    blocks = blocks_of(b"system prompt " * 600)
    for _ in range(20):
        take(r, Ask(tokens=2400, blocks=blocks))
    shares = sorted(t.in_flight for t in r.targets.values())
    assert shares[0] >= least, shares


def test_load_beats_a_session() -> None:
    r = router(2, cap=1000)
    for _ in range(20):
        take(r, Ask(tokens=100, session="one user"))
    assert min(t.in_flight for t in r.targets.values()) >= 6


def test_what_is_cached_is_no_work() -> None:
    r = router(2, cap=1000)
    agent, question = blocks_of(b"agent" * 50_000), Ask(tokens=3000)
    first = Ask(tokens=62_500, blocks=agent)
    home = take(r, first).target
    r.end(home, first)
    again = take(r, first)
    assert again.target is home and again.cached > 60_000
    assert home.tokens < 2500
    homes = [take(r, question).target for _ in range(3)]
    assert homes.count(home) == 1, "it has little left to compute"


def test_a_long_prompt_of_an_agent_stays_where_it_is_cached_though_others_are_there() -> None:
    r = router(2, cap=1000)
    homes = [take(r, Ask(tokens=140_000, blocks=blocks_of(b"%d" % i * 500_000))).target for i in range(6)]
    assert sorted(t.in_flight for t in r.targets.values()) == [3, 3]
    for i, home in enumerate(homes):
        assert take(r, Ask(tokens=142_000, blocks=blocks_of(b"%d" % i * 500_000))).target is home


def test_fresh_reports_count_and_stale_ones_fade() -> None:
    r = router(2, cap=100)
    a, b = r.targets["r0"], r.targets["r1"]
    r.report(a, waiting=50, kv_use=0.99, now=100.0)
    assert r.load(a, 101.0) > r.load(b, 101.0)
    assert 0 < r.load(a, 106.0) < r.load(a, 101.0)
    assert r.load(a, 111.0) == 0


def test_adapter_and_avoid_filter() -> None:
    r = Router(4, Random(1))
    r.update([replica("a", adapters=("sql",)), replica("b", adapters=("chat",))])
    assert take(r, Ask(adapter="sql")).target.name == "a"
    assert r.pick(Ask(adapter="sql", avoid=("a",)), 0.0) is None
    assert r.pick(Ask(avoid=("a",)), 0.0).target.name == "b"  # type: ignore[union-attr]


def test_a_group_without_live_replicas_falls_to_the_others() -> None:
    r = Router(1, Random(1))
    r.update([replica("s"), replica("c", group="canary")])
    assert take(r, Ask(group="canary")).target.name == "c"
    assert r.pick(Ask(group="canary"), 0.0) is None, "full, but alive: wait for it"
    r.evict(r.targets["c"], "killed")
    assert take(r, Ask(group="canary")).target.name == "s"


@given(st.text(max_size=20), st.integers(0, 100), st.integers(0, 100))
def test_raising_the_canary_weight_never_moves_a_key_back(key: str, a: int, b: int) -> None:
    low, high = sorted((a, b))
    if side(low, key) == "canary":
        assert side(high, key) == "canary"
    assert side(0, key) == "stable" and side(100, key) == "canary"


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["take", "end", "evict", "restore", "drain", "back", "gone"]), st.integers(0, 9)
    ),
    max_size=80,
)


@given(ACTIONS)
def test_whatever_happens_counters_reconcile_and_only_open_replicas_are_picked(
    actions: list[tuple[str, int]],
) -> None:
    r = Router(2, Random(7))
    names = {f"r{i}": replica(f"r{i}") for i in range(10)}
    r.update(names.values())
    running: list[Picked] = []
    ask = Ask(tokens=10)
    for act, i in actions:
        name = f"r{i}"
        t = r.targets.get(name)
        if act == "take":
            p = r.pick(ask, 0.0)
            if p:
                assert p.target.state == "ready" and p.target.in_flight < 2
                r.start(p.target, ask)
                running.append(p)
            else:
                assert all(t.state != "ready" or t.in_flight >= 2 for t in r.targets.values())
        elif act == "end" and running:
            r.end(running.pop(i % len(running)).target, ask)
        elif act == "evict" and t:
            r.evict(t, "x")
        elif act == "restore" and t:
            r.restore(t)
        elif act in ("drain", "back", "gone"):
            names.pop(name, None)
            if act != "gone":
                names[name] = replica(name, draining=act == "drain")
            r.update(names.values())
        assert r.in_flight == len(running)
        assert r.alive() == sum(t.state == "ready" for t in r.targets.values())
        opened = {t.name for t in r.targets.values() if t.open_at >= 0}
        assert opened == {t.name for t in r.targets.values() if t.state == "ready" and t.in_flight < 2}


def test_a_request_that_its_whole_side_has_failed_is_taken_by_the_other() -> None:
    r = Router(4, Random(1))
    r.update([replica("old"), replica("new", group="canary")])
    asked = Ask(tokens=10, group="canary", avoid=("new",), urgent=True)
    picked = r.pick(asked, 0.0)
    assert picked is not None and picked.target.name == "old"
    r.update([replica("old"), replica("new", group="canary"), replica("new2", group="canary")])
    picked = r.pick(asked, 0.0)
    assert picked is not None and picked.target.name == "new2", "as long as one of its side is left, that one"

"""Several models on one pool: stories of who gets the room, and what holds for every pool and every demand."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.decide.pool import FleetSeen, PoolPolicy, PoolState, Turn, decide

ONE = PoolPolicy(name="p", capacity=1, residence_s=60.0, quiet_s=10.0)


@dataclass
class World:
    """A shell that does what it is told, slowly: starts take `startup_s`, vacating takes `drain_s`."""

    policy: PoolPolicy
    fleets: dict[str, FleetSeen]
    startup_s: float = 20.0
    drain_s: float = 5.0
    now: float = 0.0
    state: PoolState = field(default_factory=dict)
    ready_at: dict[str, list[float]] = field(default_factory=dict)
    gone_at: dict[str, list[float]] = field(default_factory=dict)
    asleep: dict[str, int] = field(default_factory=dict)
    turns: dict[str, Turn] = field(default_factory=dict)
    served_at: dict[str, float] = field(default_factory=dict)
    displaced: int = 0
    log: list[tuple[float, Turn]] = field(default_factory=list)

    def ask(self, name: str, demand: float, wanted: int | None = None) -> None:
        self.fleets[name] = replace(
            self.fleets[name], demand=demand, wanted=(1 if demand else 0) if wanted is None else wanted
        )

    def occupied(self) -> int:
        return sum(f.cost * self.holds(n) for n, f in self.fleets.items())

    def holds(self, name: str) -> int:
        return len(self.ready_at.get(name, [])) + len(self.gone_at.get(name, []))

    def serves(self, name: str) -> bool:
        return any(t <= self.now for t in self.ready_at.get(name, []))

    def seen(self) -> list[FleetSeen]:
        return [
            replace(f, holds=self.holds(n), ready=self.serves(n), asleep=self.asleep.get(n, 0),
                    startup_s=self.startup_s)
            for n, f in self.fleets.items()
        ]  # fmt: skip

    def step(self, seconds: float = 1.0) -> None:
        self.now += seconds
        for name in self.fleets:
            self.gone_at[name] = [t for t in self.gone_at.get(name, []) if t > self.now]
        seen = self.seen()
        decision, state = decide(self.policy, seen, self.state, self.now)
        self.state = json.loads(json.dumps(state))
        for f, turn in zip(seen, decision.turns, strict=True):
            before = self.turns.get(f.name)
            if before is None or (before.move, before.reason) != (turn.move, turn.reason):
                self.log.append((self.now, turn))
            self.turns[f.name] = turn
            self._do(f, turn)
            if self.serves(f.name):
                self.served_at[f.name] = self.now

    def _do(self, f: FleetSeen, turn: Turn) -> None:
        live = self.ready_at.setdefault(f.name, [])
        leaving = self.gone_at.setdefault(f.name, [])
        while len(live) > turn.awake:
            live.pop()
            leaving.append(self.now + self.drain_s)
            self.displaced += f.wanted > turn.awake
            if f.can_sleep and self.asleep.get(f.name, 0) < turn.asleep:
                self.asleep[f.name] = self.asleep.get(f.name, 0) + 1
        while len(live) + len(leaving) < turn.awake:
            wakes = self.asleep.get(f.name, 0) > turn.asleep
            if wakes:
                self.asleep[f.name] -= 1
            live.append(self.now + (1.0 if wakes else self.startup_s))
        self.asleep[f.name] = min(self.asleep.get(f.name, 0), turn.asleep)

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.step()


def world(*fleets: FleetSeen, policy: PoolPolicy = ONE) -> World:
    return World(policy, {f.name: f for f in fleets})


def test_the_second_model_takes_the_place_of_the_idle_one() -> None:
    w = world(FleetSeen(name="a"), FleetSeen(name="b"))
    w.ask("a", 3)
    w.run(100)
    assert w.serves("a")
    w.ask("a", 0, wanted=1)  # its scaler has not given it up yet
    w.run(20)
    assert w.turns["a"].move == "keep", "idle, and nobody needs the room"
    w.ask("b", 1)
    w.step()
    assert w.turns["a"].move == "unload"
    assert w.turns["a"].reason == "b needs the room, and this one was used 21 s ago"
    assert (w.turns["b"].move, w.turns["b"].awake) == ("wait", 0), "room is given when it is free"
    assert w.turns["b"].reason == "room is being made: a must leave first"
    w.run(6)
    assert (w.turns["b"].awake, w.holds("a")) == (1, 0)
    w.run(25)
    assert w.serves("b")


def test_a_higher_priority_does_not_wait_for_a_residence_and_an_equal_does() -> None:
    for priority, moved in ((0, True), (5, False), (9, False)):
        w = world(FleetSeen(name="a"), FleetSeen(name="b", priority=priority))
        w.ask("a", 1)
        w.run(30)
        w.ask("b", 1)
        w.step()
        assert (w.turns["a"].awake == 0) == moved
        w.run(120)
        assert w.serves("b") == (priority <= 5), "a lower priority waits as long as there is work"
    assert "higher priority" not in w.turns["b"].reason
    assert w.turns["b"].reason == "the pool p of 1 is full: a"


def test_equals_that_all_have_work_take_turns_in_the_order_of_asking() -> None:
    w = world(*(FleetSeen(name=n) for n in "abc"))
    for at, name in enumerate("abc"):
        w.ask(name, 5)
        w.run(at + 1)
    served: list[str] = []
    for _ in range(600):
        w.step()
        for n in "abc":
            if w.serves(n) and (not served or served[-1] != n):
                served.append(n)
    assert "".join(served).startswith("abcabc")
    loads = [t for t in w.log if t[1].move == "load"]
    assert len(loads) <= 1 + 606 / (w.startup_s + ONE.residence_s)


def test_the_least_recently_used_of_the_idle_leaves_whatever_its_priority() -> None:
    w = world(*(FleetSeen(name=n, priority=p) for n, p in (("a", 0), ("b", 7), ("c", 5))),
              policy=replace(ONE, capacity=2))  # fmt: skip
    w.ask("a", 1)
    w.run(30)
    w.ask("a", 0, wanted=1)
    w.ask("b", 1)
    w.run(90)
    w.ask("b", 0, wanted=1)
    w.run(15)
    w.ask("c", 1)
    w.step()
    assert w.turns["a"].move == "unload"
    assert w.turns["b"].move == "keep"


def test_a_fleet_that_sleeps_wakes_and_is_unloaded_when_it_slept_too_long() -> None:
    policy = replace(ONE, asleep_s=300.0)
    w = world(FleetSeen(name="a", can_sleep=True), FleetSeen(name="b"), policy=policy)
    w.ask("a", 1)
    w.run(90)
    w.ask("a", 0, wanted=1)
    w.ask("b", 1)
    w.step()
    assert w.turns["a"].move == "sleep"
    w.run(30)
    assert (w.asleep["a"], w.serves("b")) == (1, True)
    w.ask("b", 0)
    w.ask("a", 1)
    w.step()
    assert w.turns["b"].move == "unload"
    w.run(5)
    assert w.turns["a"].move == "wake"
    w.run(3)
    assert w.serves("a"), "waking takes a second, not a start"
    w.ask("a", 0)
    w.run(2)
    assert w.asleep["a"] == 1
    w.run(310)
    assert w.asleep["a"] == 0
    assert any(t.move == "unload" and t.reason.startswith("asleep for 5") for _, t in w.log)


def test_one_that_never_starts_has_had_its_turn_after_its_budget() -> None:
    w = world(FleetSeen(name="bad"), FleetSeen(name="good"))
    w.startup_s = 1e9
    w.ask("bad", 1)
    w.step()
    w.ask("good", 1)
    bad = replace(w.seen()[0], startup_s=40.0)
    for t in range(1, 100):
        decision, w.state = decide(ONE, [bad, replace(w.seen()[1], startup_s=40.0)], w.state, w.now + t)
        if decision.of("bad").awake == 0:
            break
    assert 38 <= t <= 42


def test_what_can_never_fit_says_so_and_blocks_nobody() -> None:
    w = world(FleetSeen(name="big", cost=4), FleetSeen(name="a"))
    w.ask("big", 1)
    w.ask("a", 1)
    w.run(30)
    assert w.serves("a")
    assert w.turns["big"].reason == "one replica needs 4 and the pool p has 1"


def test_a_large_fleet_is_not_starved_by_small_ones_that_come_and_go() -> None:
    w = world(FleetSeen(name="big", cost=2), *(FleetSeen(name=n) for n in "abcd"),
              policy=replace(ONE, capacity=2))  # fmt: skip
    w.ask("a", 1)
    w.ask("b", 1)
    w.run(40)
    w.ask("big", 1)
    for t in range(400):
        for i, n in enumerate("abcd"):
            w.ask(n, 1 if (t // 17 + i) % 2 else 0)
        w.step()
        if w.serves("big"):
            break
    assert w.serves("big")
    assert t < 200


def test_who_had_work_a_moment_ago_keeps_room_and_takes_none() -> None:
    w = world(FleetSeen(name="a"), FleetSeen(name="b"))
    w.ask("a", 1)
    w.ask("b", 1)
    w.run(30)
    w.ask("b", 0, wanted=1)  # its client gave up waiting
    w.run(100)
    assert w.serves("a")
    assert not w.displaced


def test_nobody_is_loaded_who_has_no_work_and_a_floor_is_work() -> None:
    w = world(FleetSeen(name="a"))
    w.ask("a", 0, wanted=1)
    w.step()
    assert w.turns["a"].awake == 0
    w.fleets["a"] = replace(w.fleets["a"], lowest=1)
    w.step()
    assert w.turns["a"].awake == 1


fleets = st.lists(
    st.builds(
        FleetSeen,
        name=st.uuids().map(str),
        priority=st.integers(0, 3),
        cost=st.integers(1, 4),
        wanted=st.integers(0, 4),
        lowest=st.integers(0, 1),
        holds=st.integers(0, 3),
        ready=st.booleans(),
        demand=st.sampled_from([0.0, 1.0, 50.0]),
        asleep=st.integers(0, 2),
        can_sleep=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda f: f.name,
)


@given(fleets, st.integers(1, 12), st.integers(0, 500))
def test_at_any_look_the_room_given_is_room_that_is_free(seen: list[FleetSeen], room: int, at: int) -> None:
    policy = replace(ONE, capacity=room)
    held = sum(f.cost * f.holds for f in seen)
    decision, state = decide(policy, seen, {}, float(at))
    after = sum(f.cost * max(f.holds, t.awake) for f, t in zip(seen, decision.turns, strict=True))
    assert after <= max(room, held)
    assert sum(f.cost * t.awake for f, t in zip(seen, decision.turns, strict=True)) <= max(room, held)
    assert all(
        t.reason and 0 <= t.awake <= max(f.wanted, 0) for f, t in zip(seen, decision.turns, strict=True)
    )
    assert decision.next_look_s > 0
    again, _ = decide(policy, seen, json.loads(json.dumps(state)), float(at))
    assert again.turns == decision.turns, "the state is plain data, and nothing changes by looking twice"


@given(fleets, st.integers(1, 12))
def test_a_higher_priority_never_waits_for_a_lower(seen: list[FleetSeen], room: int) -> None:
    """Whoever has work and lacks its first replica: what lower priorities keep would not make room for it."""
    decision, _ = decide(replace(ONE, capacity=room), seen, {}, 0.0)
    awake = {t.name: t.awake for t in decision.turns}
    if any(f.holds > awake[f.name] for f in seen):
        return  # room is being made: who gets it is seen when it is there
    for f in seen:
        if not (f.wanted and (f.demand or f.lowest)) or awake[f.name] or f.cost > room or f.holds:
            continue
        first = sum(o.cost * awake[o.name] for o in seen if o.priority <= f.priority and o is not f)
        lower = sum(o.cost * awake[o.name] for o in seen if o.priority > f.priority)
        if room - first >= f.cost:
            assert room - first - lower >= f.cost, f"{f.name} waits for a lower priority"


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(2, 5), st.booleans())
def test_an_hour_of_any_demand(seed: int, room: int, count: int, levels: bool) -> None:
    """Capacity is never exceeded, swaps are bounded, and within one priority nobody starves."""
    rng = Random(seed)
    names = [f"f{i}" for i in range(count)]
    w = world(
        *(
            FleetSeen(name=n, priority=rng.randint(0, 2) if levels else 5, cost=rng.randint(1, room))
            for n in names
        ),
        policy=replace(ONE, capacity=room),
    )
    waits = dict.fromkeys(names, 0)
    for t in range(3600):
        if t % 7 == 0:
            name = rng.choice(names)
            w.ask(name, rng.choice([0.0, 0.0, 1.0, 9.0]))
        w.step()
        assert w.occupied() <= room
        for n in names:
            idle = not w.fleets[n].demand or w.serves(n)
            waits[n] = 0 if idle else waits[n] + 1
            turn = w.startup_s + w.drain_s + ONE.residence_s
            if not levels:
                assert waits[n] <= count * turn + turn, f"{n} starves"
    per_place = 3600 / ONE.residence_s + 1
    assert w.displaced <= room * per_place * (3 if levels else 1)

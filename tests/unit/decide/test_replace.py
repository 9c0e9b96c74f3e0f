"""Scaling and rolling restarts: who starts, who goes."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from seawall.decide.replace import Retire, SeenReplica, Start, moves
from seawall.decide.replica import ReplicaPhase

LIVE = [
    ReplicaPhase.STARTING,
    ReplicaPhase.PROVING,
    ReplicaPhase.READY,
    ReplicaPhase.FAILED,
    ReplicaPhase.DRAINING,
]


def ready(*indexes: int, generation: int = 0) -> list[SeenReplica]:
    return [SeenReplica(index=i, generation=generation, phase=ReplicaPhase.READY) for i in indexes]


def test_an_empty_fleet_starts_what_is_wanted() -> None:
    assert [m.index for m in moves([], 3, 0, 1) if isinstance(m, Start)] == [0, 1, 2]


def test_nothing_to_do_is_nothing_done() -> None:
    assert moves(ready(0, 1), 2, 0, 1) == []


def test_scaling_down_lets_those_go_that_do_not_serve() -> None:
    fleet = [*ready(0, 2), SeenReplica(index=1, generation=0, phase=ReplicaPhase.STARTING)]
    assert [m.index for m in moves(fleet, 2, 0, 1)] == [1]
    assert [m.index for m in moves(ready(0, 1, 2), 1, 0, 1)] == [2, 1]


def test_a_rollout_starts_one_more_first_and_drains_only_then() -> None:
    (start,) = moves(ready(0, 1), 2, 1, 1)
    assert isinstance(start, Start)
    assert start.index == 2
    starting = [*ready(0, 1), SeenReplica(index=2, generation=1, phase=ReplicaPhase.STARTING)]
    assert moves(starting, 2, 1, 1) == []
    (drain,) = moves([*ready(0, 1), *ready(2, generation=1)], 2, 1, 1)
    assert isinstance(drain, Retire)
    assert drain.index == 0


def test_a_draining_replica_holds_its_place_on_this_machine() -> None:
    draining = [
        SeenReplica(index=0, generation=0, phase=ReplicaPhase.DRAINING),
        *ready(1),
        *ready(2, generation=1),
    ]
    assert moves(draining, 2, 1, 1) == []


def test_a_rollout_whose_new_replica_keeps_failing_takes_nothing_away() -> None:
    assert moves([*ready(0, 1), SeenReplica(index=2, generation=1, phase=ReplicaPhase.FAILED)], 2, 1, 1) == []


def test_without_room_for_one_more_an_old_one_leaves_first_one_at_a_time() -> None:
    (drain,) = moves(ready(0, 1), 2, 1, 0)
    assert isinstance(drain, Retire)
    draining = [SeenReplica(index=0, generation=0, phase=ReplicaPhase.DRAINING), *ready(1)]
    assert moves(draining, 2, 1, 0) == [], "its place is not free yet"
    (start,) = moves(ready(1), 2, 1, 0)
    assert isinstance(start, Start)


def test_to_zero() -> None:
    assert {m.index for m in moves(ready(0, 1), 0, 0, 1)} == {0, 1}
    assert {m.index for m in moves(ready(0, 1), 0, 1, 1)} == {0, 1}


members = st.lists(
    st.builds(
        SeenReplica,
        index=st.integers(0, 9),
        generation=st.integers(0, 2),
        phase=st.sampled_from([*LIVE, ReplicaPhase.STOPPED]),
    ),
    max_size=8,
    unique_by=lambda m: m.index,
)


@given(members, st.integers(0, 5), st.integers(1, 3))
def test_never_too_many_never_below_what_serves(fleet: list[SeenReplica], wanted: int, surge: int) -> None:
    todo = moves(fleet, wanted, 2, surge)
    live = [m for m in fleet if m.phase is not ReplicaPhase.STOPPED]
    starts = [m for m in todo if isinstance(m, Start)]
    assert not starts or len(live) + len(starts) <= wanted + surge
    assert not {s.index for s in starts} & {m.index for m in live}
    serving = {m.index for m in live if m.phase is ReplicaPhase.READY}
    left = serving - {d.index for d in todo if isinstance(d, Retire)}
    assert len(left) >= min(wanted, len(serving))
    assert moves(fleet, wanted, 2, surge) == todo


@given(members, st.integers(0, 4), st.integers(1, 2), st.integers(0, 2**32))
def test_from_anywhere_it_arrives(fleet: list[SeenReplica], wanted: int, surge: int, seed: int) -> None:
    """Play the world: starts become ready, drains end, failures come back, in any order."""
    rng = random.Random(seed)
    after = {
        ReplicaPhase.STARTING: ReplicaPhase.PROVING,
        ReplicaPhase.PROVING: ReplicaPhase.READY,
        ReplicaPhase.FAILED: ReplicaPhase.STARTING,
    }
    after |= {ReplicaPhase.DRAINING: ReplicaPhase.STOPPED}
    world = {m.index: m for m in fleet}
    for _ in range(200):
        for move in moves(list(world.values()), wanted, 2, surge):
            if isinstance(move, Start):
                world[move.index] = SeenReplica(index=move.index, generation=2, phase=ReplicaPhase.STARTING)
            else:
                was = world[move.index]
                world[move.index] = SeenReplica(
                    index=was.index, generation=was.generation, phase=ReplicaPhase.DRAINING
                )
        moving = [m for m in world.values() if m.phase in after]
        if moving:
            m = rng.choice(moving)
            world[m.index] = SeenReplica(index=m.index, generation=m.generation, phase=after[m.phase])
    live = [m for m in world.values() if m.phase is not ReplicaPhase.STOPPED]
    assert [(m.generation, m.phase) for m in live] == [(2, ReplicaPhase.READY)] * wanted

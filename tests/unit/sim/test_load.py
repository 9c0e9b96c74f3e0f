"""The load of a simulation without a command line: what a fleet's traffic, a rate, shares and a trace become."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path

import numpy as np
import pytest
from tests.unit.sim.conftest import fleet_of

from seawall.domain.spec import Fleet, Metadata, Scaling, Traffic
from seawall.errors import InputError
from seawall.sim.load import LoadWish, load_of, shared_out

TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:15:{s:02d}.0000000,{100 + s},{10 + s}\n" for s in range(0, 40, 2)
)


def named(name: str, rate: float | None = None) -> Fleet:
    fleet = fleet_of(Scaling(), traffic=Traffic(rate=rate))
    return dataclasses.replace(fleet, metadata=Metadata(name=name))


def test_a_rate_is_drawn_and_the_seed_decides_how() -> None:
    wish = LoadWish(rate="20/s for 60s", prompt=100, output=10, spread=0.0)
    one, same = load_of(named("a"), wish), load_of(named("a"), wish)
    assert 1000 < len(one) < 1400
    assert np.array_equal(one.arrival, same.arrival)
    assert set(one.prompt.tolist()) == {100} and set(one.output.tolist()) == {10}
    other = load_of(named("a"), dataclasses.replace(wish, seed=2))
    assert not np.array_equal(one.arrival[:50], other.arrival[:50])


def test_without_a_rate_the_fleets_own_traffic_is_meant_and_without_that_nothing() -> None:
    assert 4000 < len(load_of(named("a", rate=8), LoadWish())) < 5600
    with pytest.raises(InputError, match="a: there is no load") as caught:
        load_of(named("a"), LoadWish())
    assert "--rate" in caught.value.cure and "spec.traffic.rate" in caught.value.cure


def test_fleets_share_one_rate_and_draw_apart() -> None:
    chat, code = shared_out([named("chat"), named("code")], LoadWish(rate="40/s for 60s"), "chat=3,code=1")
    assert 2.3 < len(chat) / len(code) < 3.9
    assert 2000 < len(chat) + len(code) < 2800
    assert not np.array_equal(chat.arrival[:20], code.arrival[:20])
    own = shared_out([named("chat", rate=2), named("code", rate=8)], LoadWish(), None)
    assert 3 < len(own[1]) / len(own[0]) < 5


@pytest.mark.parametrize("packed", [False, True])
def test_a_trace_is_replayed_packed_or_not_and_as_fast_as_wanted(packed: bool, tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(gzip.compress(TRACE.encode()) if packed else TRACE.encode())
    fast = load_of(named("a"), LoadWish(trace=str(path), speed=2.0))
    assert len(fast) == 20
    assert fast.arrival.tolist() == pytest.approx(list(range(20)))
    with pytest.raises(InputError, match="gone"):
        load_of(named("a"), LoadWish(trace=str(tmp_path / "gone.csv")))


def test_shares_of_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="--share divides a load, and there is none"):
        shared_out([named("a"), named("b")], LoadWish(), "a=1,b=1")

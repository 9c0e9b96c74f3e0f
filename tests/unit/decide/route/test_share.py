"""Places follow the weights of who waits, wherever it waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.decide.route.share import places_wanted, share_of

DEMANDS = st.lists(
    st.dictionaries(
        st.sampled_from("abcd"), st.tuples(st.just(1.0), st.integers(1, 50).map(float)), max_size=4
    ),
    min_size=1,
    max_size=4,
)


@given(DEMANDS)
def test_the_parts_of_all_gateways_are_the_whole(demands: list[dict[str, tuple[float, float]]]) -> None:
    parts = [share_of(d, demands) for d in demands]
    if any(demands):
        assert sum(p for p in parts if p is not None) == pytest.approx(1.0)
    else:
        assert set(parts) == {None}


def test_tenants_that_land_unevenly_get_what_their_weights_say() -> None:
    demands = [{"a": (1.0, 24.0)}, {"b": (1.0, 8.0), "c": (1.0, 8.0)}, {"d": (2.0, 2.0)}, {}]
    assert [share_of(d, demands) for d in demands] == [0.2, 0.4, 0.4, 0.0]
    split = [{"a": (1.0, 30.0), "b": (1.0, 5.0)}, {"a": (1.0, 10.0)}]
    assert [share_of(d, split) for d in split] == [0.875, 0.125]


def test_places_where_nobody_waits_and_where_somebody_does() -> None:
    assert places_wanted(256, 10, 20, 3, None) == 10 + 226 // 3
    assert places_wanted(8, 8, 0, 3, None) == 9, "one more: the store says whether there is one"
    assert [places_wanted(8, 8, 0, 3, part) for part in (0.25, 0.0, 1.0)] == [2, 0, 8]

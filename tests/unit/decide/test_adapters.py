"""Which adapters a replica loads and unloads, and how patient it is with one that fails."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from seawall.decide.adapters import BACK_OFF_S, Failure, LoadAdapter, UnloadAdapter, changes, failed


def test_what_is_missing_is_loaded_and_what_left_is_unloaded() -> None:
    c = changes({"a": "/a", "b": "/b"}, {"b": "/b", "c": "/c"}, {}, 0)
    assert (c.load, c.unload, c.routable) == (
        (LoadAdapter("a", "/a"),),
        (UnloadAdapter("c", "no longer in the spec"),),
        ("b",),
    )


def test_a_new_version_leaves_routing_first() -> None:
    c = changes({"a": "/a-2"}, {"a": "/a-1"}, {}, 0)
    assert c.unload == (UnloadAdapter("a", "another version takes its name"),)
    assert c.load == (LoadAdapter("a", "/a-2"),)
    assert c.routable == ()


def test_a_failure_waits_longer_each_time_and_a_new_path_does_not() -> None:
    f, now, waits = None, 0.0, []
    for _ in range(9):
        f = failed(f, "/a", "no such file", now)
        assert not changes({"a": "/a"}, {}, {"a": f}, now).load
        assert changes({"a": "/a"}, {}, {"a": f}, now).problem == "a: no such file"
        waits.append(f.again_s - now)
        now = f.again_s
        assert changes({"a": "/a"}, {}, {"a": f}, now).load
    assert waits[0] == BACK_OFF_S[0]
    assert waits == sorted(waits)
    assert waits[-1] == BACK_OFF_S[1]
    assert f is not None
    assert changes({"a": "/new"}, {}, {"a": f}, now - 1).load == (LoadAdapter("a", "/new"),)
    assert failed(f, "/new", "x", now).count == 1


paths = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["/1", "/2"]))


@given(paths, paths)
def test_doing_what_it_says_ends_where_the_spec_wants(wanted: dict[str, str], served: dict[str, str]) -> None:
    c = changes(wanted, served, {}, 0.0)
    after = {n: p for n, p in served.items() if n not in {u.name for u in c.unload}}
    assert all(x.name not in after for x in c.load), "a name is free before it is taken"
    after |= {x.name: x.path for x in c.load}
    assert after == wanted
    done = changes(wanted, after, {"a": Failure(1, 0.0, "old", "/0")}, 0.0)
    assert (done.load, done.unload, done.problem) == ((), (), "")
    assert set(done.routable) == set(wanted)

"""What gateways tell: read whatever their age, and added up so that every field has a say."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace

import pytest

from seawall.domain.told import (
    STREAMS_TOLD,
    FleetState,
    GatewayState,
    ReplicaState,
    SideState,
    StoreState,
    StreamState,
    TenantState,
    all_sides,
    encoded,
    ended,
    grown,
    merged,
    read,
    total,
)


def test_what_is_written_is_read_again_and_every_field_is_on_the_wire() -> None:
    whole = GatewayState(
        draining=True,
        fleets={"m": FleetState(queued=2, ttft_p50_s=0.25)},
        replicas={"r": ReplicaState(fleet="m", state="evicted", reason="connection refused", in_flight=3)},
    )
    document = json.loads(encoded(whole))
    assert document == dataclasses.asdict(whole)
    assert read(document) == whole


def test_an_older_gateway_lacks_fields_and_a_newer_one_has_more() -> None:
    old = read({"fleets": {"m": {"queued": 1}}, "replicas": {"r": {"in_flight": 2}}})
    assert old.fleets["m"] == FleetState(queued=1) and old.replicas["r"] == ReplicaState(in_flight=2)
    new = read({"fleets": {"m": {"queued": 1, "prophecy": [1]}}, "peers": {"a": 1}})
    assert new == GatewayState(fleets={"m": FleetState(queued=1)})
    assert read({"replicas": {"r": {"fleet": "m", "state": None, "in_flight": None}}}).of("m") == {
        "r": ReplicaState(fleet="m")
    }
    assert read({}) == GatewayState()


@pytest.mark.parametrize(
    "document",
    [None, [], "ok", 3, {"fleets": []}, {"fleets": {"m": {"queued": "many"}}}, {"replicas": {"r": 1}}],
)
def test_what_is_no_such_document_is_refused_with_the_place(document: object) -> None:
    with pytest.raises(ValueError, match=r"/debug/state cannot be read: .*(\$|got)"):
        read(document)


def test_counts_are_added_times_and_limits_are_not_and_the_least_trust_counts() -> None:
    one = read(
        {
            "draining": False,
            "fleets": {
                "m": {"queued": 1, "ttft_p50_s": None, "queue_limit": 9, "sides": {"canary": {"errors": 1}}}
            },
            "replicas": {"r": {"fleet": "m", "state": "ready", "in_flight": 2, "url": "http://a"}},
        }
    )
    two = read(
        {
            "draining": True,
            "fleets": {"m": {"queued": 2, "ttft_p50_s": 0.5, "queue_limit": 4, "sides": {"canary": {"errors": 2}}},
                       "n": {"queued": 7}},
            "replicas": {"r": {"fleet": "m", "state": "evicted", "reason": "refused", "in_flight": 1}},
        }
    )  # fmt: skip
    both = merged([one, two])
    assert both.draining and both.fleets["n"].queued == 7
    assert (both.fleets["m"].queued, both.fleets["m"].ttft_p50_s, both.fleets["m"].queue_limit) == (3, 0.5, 9)
    assert both.fleets["m"].sides["canary"].errors == 3
    assert both.replicas["r"] == ReplicaState(
        fleet="m", state="evicted", reason="refused", in_flight=3, url="http://a"
    )
    assert merged([two, one]).replicas["r"].state == "evicted", "in whatever order they answer"
    assert total(both).queued == 10


def test_no_field_is_forgotten_when_gateways_are_added() -> None:
    """Every number of two equal gateways is twice or once that of one, and none is lost."""

    def filled(of: type) -> dict[str, object]:
        out: dict[str, object] = {}
        for f in dataclasses.fields(of):
            kind = str(f.type)
            if kind.startswith(("int", "float")):
                out[f.name] = 5
            elif kind == "str":
                out[f.name] = f"some {f.name}"
            elif kind == "ShadowState":
                out[f.name] = {"same": 5, "differs": 5}
            elif kind == "dict[str, SideState]":
                out[f.name] = {"canary": filled(SideState)}
            elif kind == "dict[str, dict[str, SideState]]":
                out[f.name] = {"other": {"canary": filled(SideState)}}
            elif kind == "list[int]":
                out[f.name] = [5, 5]
            elif kind == "list[str]":
                out[f.name] = []
            elif kind == "dict[str, int]":
                out[f.name] = {"finished": 5}
            elif kind == "dict[str, TenantState]":
                out[f.name] = {"acme": filled(TenantState)}
            elif kind == "list[StreamState]":
                out[f.name] = []
            else:
                raise AssertionError(f"{of.__name__}.{f.name}: {kind} is new here: say how it is added")
        return out

    document = {
        "draining": True,
        "fleets": {"m": filled(FleetState)},
        "replicas": {"r": filled(ReplicaState)},
    }
    one = read(document)
    assert merged([one]) == one
    for name, value in dataclasses.asdict(merged([one, one]).fleets["m"]).items():
        values = [value] if not isinstance(value, dict) else list(value.values())
        assert all(v in (5, 10) for v in numbers(values)), name
    replica = dataclasses.asdict(merged([one, one]).replicas["r"])
    own = {"waiting": 5, "kv_use": 5.0, "cap": 5}
    assert {k: replica.pop(k) for k in own} == own, "a replica's own word, which both were told"
    assert all(v == 10 if isinstance(v, int) else v == f"some {k}" for k, v in replica.items()), replica


def test_streams_of_several_gateways_stand_beside_each_other_up_to_a_bound() -> None:
    each = [StreamState(id=str(i)) for i in range(STREAMS_TOLD)]
    both = merged([GatewayState(fleets={"m": FleetState(streams=each[:30])})] * 2)
    assert len(both.fleets["m"].streams) == STREAMS_TOLD


def numbers(value: object) -> list[object]:
    """All values inside lists and dicts."""
    if isinstance(value, dict):
        value = list(value.values())
    return [n for v in value for n in numbers(v)] if isinstance(value, list) else [value]


def test_of_a_store_the_worst_sight_counts_and_it_is_told_in_a_sentence() -> None:
    sees = StoreState(address="valkey://s:6379/0", up=True, gateways=3)
    assert sees.sentence == "valkey://s:6379/0 answers, 3 gateways share it"
    slow = replace(sees, round_s=0.25)
    assert slow.sentence.endswith("slow: 250 ms for a round")
    misses = StoreState(address="valkey://s:6379/0", alone=True, alone_s=2.0, gateways=2, error="refused")
    both = merged(
        [GatewayState(), GatewayState(store=sees), GatewayState(store=misses), GatewayState(store=slow)]
    )
    assert both.store == replace(misses, gateways=3)
    assert (
        both.store.sentence == "valkey://s:6379/0 is away (refused): each gateway goes by 1/3 of every limit"
    )
    assert merged([GatewayState(), GatewayState()]).store is None


def test_a_canarys_numbers_outlive_the_gateway_that_counted_them() -> None:
    def sides(canary: int) -> dict[str, SideState]:
        return {"stable": SideState(requests=10), "canary": SideState(requests=canary, errors=1)}

    def gateway(name: str, own: int, **others: int) -> GatewayState:
        elsewhere = {other: sides(n) for other, n in others.items()}
        return GatewayState(gateways=[name], fleets={"m": FleetState(sides=sides(own), elsewhere=elsewhere)})

    alive = [gateway("a", 5, b=6, gone=7), gateway("b", 8, a=4, gone=6)]
    both = merged(alive)
    assert both.gateways == ["a", "b"]
    assert list(both.fleets["m"].elsewhere) == ["gone"], "who tells himself is not counted by hearsay"
    total_sides = all_sides(both.fleets["m"])
    assert (total_sides["canary"].requests, total_sides["canary"].errors) == (5 + 8 + 7, 3)
    assert total_sides["stable"].requests == 30
    alone = all_sides(merged([alive[0]]).fleets["m"])
    assert alone["canary"].requests == 5 + 6 + 7, "b has died: what it last told counts"
    past = grown(alive[0], ended(alive[1]))
    assert all_sides(past.fleets["m"])["canary"].requests == 20

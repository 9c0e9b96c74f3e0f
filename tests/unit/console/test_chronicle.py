"""What happened is told once each, with the reason, whoever knows it; and the memory of it is bounded."""

from __future__ import annotations

from typing import Any

from seawall.console.chronicle import KEPT, Chronicle
from seawall.console.sight import (
    ConsoleFleet,
    ConsoleReplica,
    ConsoleSight,
    ToldWord,
    of_gateway,
    with_supervisor,
)
from seawall.domain.told import FleetState, GatewayState, ReplicaState


def seen(*replicas: ConsoleReplica, **fleet: Any) -> ConsoleSight:
    told = FleetState(**{k: fleet.pop(k) for k in list(fleet) if k.endswith("_total")})
    return ConsoleSight(fleets=(ConsoleFleet(name="m", told=told, **fleet),), replicas=replicas)


def replica(phase: str = "ready", name: str = "m-0", **more: Any) -> ConsoleReplica:
    return ConsoleReplica(name=name, fleet="m", phase=phase, **more)


def story(*sights: ConsoleSight, step: float = 10.0) -> list[tuple[str, str, str]]:
    chronicle = Chronicle()
    for i, sight in enumerate(sights):
        chronicle.note(sight, 1000.0 + i * step)
    return [(h.kind, h.subject, h.text) for h in chronicle.after(0, 100)]


def test_a_replica_dies_and_comes_back() -> None:
    told = story(
        seen(replica()),
        seen(replica("evicted", reason="connection reset in mid-stream", evictions=1), resumed_total=3),
        seen(replica("probing", reason="connection reset in mid-stream", evictions=1), resumed_total=3),
        seen(replica(evictions=1, returns=1), resumed_total=3),
    )
    assert told == [
        ("resume", "m", "3 broken streams continued on another replica"),
        ("eviction", "m-0", "evicted: connection reset in mid-stream"),
        ("return", "m-0", "back in service: gave a token"),
    ]


def test_what_was_over_between_two_looks_is_told_by_the_counters() -> None:
    told = story(seen(replica()), seen(replica(evictions=1, returns=1)))
    assert [kind for kind, _, _ in told] == ["eviction", "return"]


def test_decisions_come_with_their_reason() -> None:
    told = story(
        seen(wanted=2, scale="24 requests per replica"),
        seen(wanted=3, scale="36 requests per replica, target 12"),
        seen(wanted=3, scale="12 requests per replica", rollout="canary: 5% of the requests"),
        seen(wanted=3),
    )
    assert told == [
        ("scale", "m", "2 -> 3 replicas: 36 requests per replica, target 12"),
        ("rollout", "m", "canary: 5% of the requests"),
        ("rollout", "m", "the rollout is over"),
    ]


def test_what_comes_and_goes_is_told_and_the_beginning_is_not() -> None:
    told = story(
        seen(replica()), seen(replica(), replica("starting", "m-1", reason="weights 3 of 9")), seen(replica())
    )
    assert told == [("replica", "m-1", "new: starting: weights 3 of 9"), ("replica", "m-1", "gone")]


def test_counts_that_rise_every_second_are_told_every_few_seconds_and_none_is_left_out() -> None:
    sights = [seen(rejected_total=10 * i) for i in range(12)]
    told = story(*sights, step=1.0)
    assert len(told) <= 3
    assert sum(int(text.split()[0]) for _, _, text in told) >= 100


def test_a_gateway_that_started_anew_counts_from_zero() -> None:
    told = story(seen(failed_total=0), seen(failed_total=5), seen(failed_total=2))
    assert [text for _, _, text in told] == ["5 requests not answered whole", "2 requests not answered whole"]


def test_the_words_of_who_decides_are_told_once_though_they_come_again() -> None:
    words = [ToldWord(at=float(i), kind="note", fleet="", subject="m", text=f"w{i}") for i in range(6)]
    same = ToldWord(at=5.0, kind="note", fleet="", subject="m", text="beside it")
    told = story(
        ConsoleSight(words=tuple(words[:4]), decides=True),
        ConsoleSight(words=tuple(words[2:]), decides=True),
        ConsoleSight(words=(*words[2:], same), decides=True),
    )
    assert [text for _, _, text in told] == ["w0", "w1", "w2", "w3", "w4", "w5", "beside it"]


def test_who_decides_tells_phases_itself_and_the_gateway_only_what_it_knows_alone() -> None:
    def sight(phase: str, state: str, at: float) -> ConsoleSight:
        gateway = GatewayState(
            fleets={"m": FleetState()}, replicas={"m-0": ReplicaState(fleet="m", state=state, reason="reset")}
        )
        up = {
            "engine": "sim",
            "fleets": [{"name": "m", "wanted": 1, "ready": 1, "min": 1, "max": 2, "scale_reason": "enough"}],
            "replicas": [
                {"name": "m-0", "fleet": "m", "phase": phase, "for_s": 3.0, "reason": "exit code -9"}
            ],
            "events": [
                {"at": at, "subject": "m", "text": f"1 -> 2 replicas: busy at {at:g}"},
                {"at": at, "subject": "m", "text": "rolling restart: generation 2"},
                {"at": at, "subject": "m-0", "text": f"{phase}: exit code -9"},
            ],
        }
        return with_supervisor(of_gateway(gateway), up, at)

    first, second = sight("ready", "ready", 1.0), sight("ready", "evicted", 2.0)
    assert (first.replicas[0].phase, first.replicas[0].since) == ("ready", -2.0)
    assert (second.replicas[0].phase, second.replicas[0].reason) == ("evicted", "reset")
    kinds = [kind for kind, _, _ in story(first, second, sight("failed", "evicted", 3.0))]
    assert kinds == ["scale", "rollout", "replica"] * 2 + ["eviction", "scale", "rollout", "replica"]


def test_the_memory_is_bounded_and_older_pages_are_found_by_number() -> None:
    chronicle = Chronicle()
    for i in range(KEPT + 500):
        word = ToldWord(at=float(i), kind="note" if i % 2 else "scale", fleet="m", subject="m", text=str(i))
        chronicle.note(ConsoleSight(words=(word,), decides=True), float(i))
    newest = chronicle.page(0, 3, "", "")
    assert [h.text for h in newest] == [str(KEPT + 499 - i) for i in range(3)]
    older = chronicle.page(newest[-1].n, 2, "scale", "m")
    assert [h.text for h in older] == [str(KEPT + 496), str(KEPT + 494)]
    assert chronicle.page(0, KEPT * 2, "", "") == chronicle.page(0, KEPT, "", "")
    assert chronicle.page(0, 5, "", "other") == []
    assert len(chronicle.after(0, KEPT * 2)) == KEPT


def test_an_eviction_that_no_look_could_see_is_told_and_so_is_the_return() -> None:
    """A supervisor takes a dead replica away within milliseconds, and brings another back under its name."""
    chronicle = Chronicle()
    chronicle.note(ConsoleSight(replicas=(replica(),), decides=True), 1000.0)
    chronicle.evicted("m", "m-0", "connection reset", 1000.2)
    chronicle.evicted("m", "m-0", "port refuses", 1000.3)
    chronicle.note(ConsoleSight(replicas=(replica("failed"),), decides=True), 1001.0)
    chronicle.note(ConsoleSight(replicas=(replica("unrouted"),), decides=True), 1002.0)
    chronicle.note(ConsoleSight(replicas=(replica(reason="proved itself"),), decides=True), 1003.0)
    assert [(h.at, h.kind, h.text) for h in chronicle.after(0, 10)] == [
        (1000.2, "eviction", "evicted: connection reset"),
        (1003.0, "return", "back in service: proved itself"),
    ]

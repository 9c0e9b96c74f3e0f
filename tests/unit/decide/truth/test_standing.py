"""One replica's standing: a mismatch is confirmed, a second prompt takes it out, and time is spent as stated."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from seawall.decide.truth.fingerprint import Deviation, Distance, PinnedPrompt
from seawall.decide.truth.prompts import prompts
from seawall.decide.truth.sick import TAIL, sick_ids, sick_logprobs, sick_text
from seawall.decide.truth.standing import (
    MOST_S,
    SICK_S,
    TruthStanding,
    heard,
    hot_sweeps,
    looks_sick,
    may_leave,
    next_prompt,
    routine,
    told_all,
)

NAMES = ("chat", "facts", "chat-2", "numbers", "story")
KNOWN = tuple(PinnedPrompt(n, "chat" if n.startswith("chat") else "text", "x") for n in NAMES)


def said(name: str, how: str = "same") -> Deviation:
    kind = "chat" if name.startswith("chat") else "text"
    return Deviation(name, kind, how, Distance(1, 2), Distance(0.01, 0.02))


def ask(
    standing: TruthStanding, wrong: set[str], now: float, how: str = "drift"
) -> tuple[TruthStanding, str | None]:
    name = next_prompt(standing, KNOWN, now)
    if name is None:
        return standing, None
    return heard(standing, said(name, how if name in wrong else "same"), KNOWN, 0.05, 0.01, now), name


def until(
    standing: TruthStanding, wrong: set[str], now: float = 0.0, asks: int = 20, how: str = "drift"
) -> tuple[TruthStanding, list[str]]:
    asked = []
    for _ in range(asks):
        standing, name = ask(standing, wrong, now, how)
        if name is None:
            now = standing.due_s
            standing, name = ask(standing, wrong, now, how)
        asked.append(name or "")
        if standing.state in ("wrong", "odd"):
            break
    return standing, asked


def test_the_same_prompt_confirms_and_a_different_one_condemns() -> None:
    standing, asked = until(TruthStanding(), {"chat", "facts", "chat-2", "numbers"})
    assert standing.state == "wrong"
    assert asked[0] == asked[1] != asked[2]
    assert standing.kind == "revision"
    assert "4 of 4 prompts moved" in standing.reason


def test_one_odd_answer_is_forgotten() -> None:
    standing, name = ask(TruthStanding(), set(NAMES), 0.0)
    assert standing.state == "doubted"
    standing, again = ask(standing, set(), 0.0)
    assert (standing.state, again) == ("true", name)


def test_one_prompt_that_always_moves_is_odd_and_named_after_all_others_were_asked() -> None:
    standing, asked = until(TruthStanding(), {"facts"})
    assert standing.state == "odd"
    assert set(asked) == set(NAMES)
    assert standing.kind == "weights"


def test_only_the_chats_moved_is_the_template() -> None:
    standing, _ = until(TruthStanding(), {"chat", "chat-2"}, how="prompt")
    assert standing.state == "wrong"
    assert standing.kind == "template"


def test_chats_that_moved_while_their_ids_are_as_known_are_no_template() -> None:
    standing, _ = until(TruthStanding(), {"chat", "chat-2"})
    assert (standing.state, standing.kind) == ("wrong", "weights")


@given(st.floats(0.001, 20.0), st.floats(0.001, 0.01), st.integers(1, 200))
def test_routine_asks_take_no_more_than_their_share(took: float, share: float, asks: int) -> None:
    standing, now, spent = TruthStanding(), 0.0, 0.0
    for _ in range(asks):
        now = max(now, standing.due_s)
        name = next_prompt(standing, KNOWN, now)
        assert name is not None
        now += took
        spent += took
        standing = heard(standing, said(name), KNOWN, took, share, now)
    assert spent <= share * (standing.due_s) * 1.02 + took or took / share > MOST_S


@given(st.lists(st.sampled_from(NAMES), max_size=5, unique=True), st.integers(0, 9))
def test_never_wrong_by_one_prompt_alone_and_always_by_two(wrong: list[str], turn: int) -> None:
    standing, _ = until(TruthStanding(turn=turn), set(wrong), asks=40)
    if len(wrong) > 1:
        assert standing.state == "wrong"
    else:
        assert standing.state == ("odd" if wrong else "true")


def test_a_sick_stream_brings_an_ask_at_once_but_not_again_and_again() -> None:
    standing = heard(TruthStanding(), said("chat"), KNOWN, 1.0, 0.01, 0.0)
    assert next_prompt(standing, KNOWN, 1.0) is None
    standing = looks_sick(standing, 1.0)
    assert next_prompt(standing, KNOWN, 1.0) in ("chat", "facts")
    standing = heard(standing, said("chat"), KNOWN, 1.0, 0.01, 2.0)
    assert next_prompt(looks_sick(standing, 3.0), KNOWN, 3.0) is None
    assert next_prompt(looks_sick(standing, 1.0 + SICK_S), KNOWN, 1.0 + SICK_S) is not None


def test_before_traffic_all_are_asked_and_two_that_moved_keep_it_out() -> None:
    assert told_all(TruthStanding(), [said(n) for n in NAMES]).state == "true"
    assert (
        told_all(TruthStanding(), [said("chat", "prompt"), *(said(n) for n in NAMES[1:])]).kind == "template"
    )
    assert told_all(TruthStanding(), [said("chat", "drift"), said("facts", "drift")]).state == "wrong"


SWEPT = (*KNOWN, *prompts(256, 256)[-6:])
"""With four sweeps and two asks for rows."""


def test_of_four_asks_two_are_sweeps_and_those_in_use_come_often() -> None:
    sweeps = [p.name for p in SWEPT if p.kind == "ids"]
    asked = [routine(turn, SWEPT) for turn in range(32)]
    assert set(asked) >= {*NAMES, *sweeps}
    assert not any(name.startswith("rows") for name in asked), "vLLM mixes them up with others' logprobs"
    hot = hot_sweeps({130: 9, 131: 5, 3: 1}, SWEPT)
    assert hot == ("sweep-128", "sweep-0")
    asked = [routine(turn, SWEPT, hot) for turn in range(32)]
    assert asked[1::4] == ["sweep-128", "sweep-0"] * 4
    assert set(asked[3::4]) == set(sweeps)


def test_a_sweep_that_moves_each_time_makes_suspect_and_the_texts_alone_are_asked_then() -> None:
    standing, asked = TruthStanding(turn=1), []
    for _ in range(20):
        name = next_prompt(standing, SWEPT, 0.0, ("sweep-64",))
        if name is None:
            break
        asked.append(name)
        kind = next(p.kind for p in SWEPT if p.name == name)
        how = "drift" if name == "sweep-64" else "same"
        said_so = Deviation(name, kind, how, Distance(1, 2), Distance(0.01, 0.02))
        standing = heard(standing, said_so, SWEPT, 0.05, 0.01, 0.0)
    assert asked[:2] == ["sweep-64", "sweep-64"]
    assert set(asked[2:]) == set(NAMES)
    assert (standing.state, standing.kind) == ("odd", "weights")


def test_before_traffic_a_sweep_that_moved_twice_keeps_it_out_and_one_that_moved_once_does_not() -> None:
    moved = Deviation("sweep-0", "ids", "drift", Distance(1, 2), Distance(0.01, 0.02))
    calm = replace(moved, how="same")
    same = [said(n) for n in NAMES]
    assert told_all(TruthStanding(), [*same, moved], [moved]).state == "wrong"
    assert told_all(TruthStanding(), [*same, moved], [calm]).state == "odd"
    assert told_all(TruthStanding(), [*same, said("chat", "drift")], [said("chat", "drift")]).state == "odd"


def bad(how: str = "drift", state: str = "wrong") -> TruthStanding:
    return TruthStanding(state=state, evidence=(said("chat", how), said("facts", how)))


def test_as_many_must_be_right_as_are_wrong_or_it_makes_no_sense() -> None:
    right = TruthStanding()
    assert may_leave(bad(), [right])
    assert not may_leave(bad(), [])
    assert not may_leave(bad(), [right, bad()]), (
        "a rollout to other weights, or a fingerprint that is out of date"
    )
    assert may_leave(bad(), [right, right, bad()])
    assert may_leave(bad("senseless"), [bad("senseless")])
    assert not may_leave(bad(state="doubted"), [right])


def test_what_looks_sick_and_what_does_not() -> None:
    assert sick_ids([5] * TAIL)
    assert sick_ids([5, 6] * TAIL)
    assert not sick_ids([5] * (TAIL - 1))
    assert not sick_ids(list(range(TAIL)))
    assert not sick_ids([1, 2, 3, 4, 5, 6, 7] * TAIL)  # a list that goes on: asked for, mostly
    assert sick_text("!" * 400)
    assert sick_text("well, " + "�" * 9)
    assert not sick_text("The same in German: " + "das Meer und der Hafen " * 12)
    assert not sick_text("海と港" * 100 + "、それから船が来る。" * 20)
    assert sick_logprobs([-0.5, float("nan")])
    assert sick_logprobs([0.7])
    assert sick_logprobs([-0.5, -9999.0]), "what vLLM writes for minus infinity: the token was impossible"
    assert not sick_logprobs([-0.5, 0.0])

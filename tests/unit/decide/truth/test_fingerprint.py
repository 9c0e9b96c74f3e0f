"""A fingerprint: what is near, what is not, and what the prompts that moved say is wrong."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.decide.truth.fingerprint import (
    Deviation,
    Distance,
    Fingerprint,
    Identity,
    KnownAnswer,
    PinnedPrompt,
    TruthAnswer,
    compare,
    distance,
    kind_of,
    noise_of,
    read,
    written,
)
from seawall.decide.truth.learn import learn
from seawall.decide.truth.prompts import ROWS, SWEEP, prompts

NOISE = Distance(0.01, 0.03)


def answer(seed: int, steps: int = 4) -> TruthAnswer:
    rng = Random(seed)
    tops = []
    for _ in range(steps):
        ids = rng.sample(range(1000), 5)
        tops.append(dict(zip(ids, sorted((rng.uniform(-6, -0.1) for _ in ids), reverse=True), strict=True)))
    return TruthAnswer(tuple(range(12)), tuple(next(iter(t)) for t in tops), tuple(tops))


def shaken(one: TruthAnswer, by: float, seed: int = 0) -> TruthAnswer:
    """Every logprob moves by at most `by`; the greedy choice may change where two were near."""
    rng = Random(seed)
    tops = tuple({t: v + rng.uniform(-by, by) for t, v in step.items()} for step in one.top)
    return replace(one, top=tops, ids=tuple(max(t, key=t.__getitem__) for t in tops))


def known(seed: int = 1, kind: str = "text", name: str = "facts", noise: Distance = NOISE) -> KnownAnswer:
    return KnownAnswer(PinnedPrompt(name, kind, (1, 2) if kind == "ids" else "x"), answer(seed), noise)


@given(st.integers(0, 10_000), st.floats(0, 0.0099))
def test_rounding_never_moves_whatever_near_tie_it_tips(seed: int, by: float) -> None:
    k = known(seed)
    deviation = compare(k, shaken(k.answer, by, seed + 1))
    assert not deviation.moved, str(deviation)


def changed(one: TruthAnswer, step: int, by: float) -> TruthAnswer:
    """The greedy token of one step is by so much less likely."""
    tops = [dict(t) for t in one.top]
    tops[step][one.ids[step]] += by
    return replace(one, top=tuple(tops))


@given(st.integers(0, 10_000), st.floats(0.2, 3.0))
def test_all_logprobs_moved_by_more_than_rounding_is_seen(seed: int, by: float) -> None:
    k = known(seed)
    away = replace(k.answer, top=tuple({t: v - by for t, v in step.items()} for step in k.answer.top))
    assert compare(k, away).moved


@given(st.integers(0, 10_000), st.integers(0, 3), st.floats(0.2, 8.0))
def test_one_logprob_moved_is_seen(seed: int, at: int, by: float) -> None:
    k = known(seed)
    assert compare(k, changed(k.answer, at, -by)).moved


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_logprob_is_absurd(bad: float) -> None:
    k = known()
    deviation = compare(k, changed(k.answer, 0, bad))
    assert deviation.how == "absurd"
    assert kind_of([deviation]) == "numeric"


def test_what_no_softmax_makes_is_absurd() -> None:
    assert compare(known(), changed(known().answer, 0, -9999.0)).how == "absurd"


def test_a_token_that_is_not_among_their_best_counts_with_the_least_that_it_can_be_away() -> None:
    mine = TruthAnswer((1, 2), (7,), ({7: -0.1, 8: -3.0},))
    theirs = TruthAnswer((1, 2), (8,), ({8: -0.1, 9: -4.0},))
    assert distance(mine, theirs).worst == pytest.approx(3.9)


def test_steps_behind_another_choice_are_not_compared() -> None:
    mine = TruthAnswer((1, 2), (7, 5), ({7: -0.69, 8: -0.70}, {5: -0.1}))
    theirs = TruthAnswer((1, 2), (8, 6), ({8: -0.69, 7: -0.70}, {6: -0.1}))
    assert distance(mine, theirs).worst == pytest.approx(0.01)


def test_other_ids_for_the_same_question_are_another_prompt() -> None:
    k = known(kind="chat")
    other = replace(k.answer, prompt_ids=(*k.answer.prompt_ids, 99))
    assert compare(k, other).how == "prompt"


def move(kind: str, how: str, mean: float = 1.0) -> Deviation:
    return Deviation(f"{kind}-{how}-{mean}", kind, how, Distance(mean, 2 * mean), Distance(0.001, 0.01))


@pytest.mark.parametrize(
    ("moves", "kind"),
    [
        ([move("chat", "same"), move("text", "same"), move("ids", "same")], ""),
        ([move("chat", "prompt"), move("text", "same"), move("ids", "same")], "template"),
        ([move("chat", "prompt"), move("text", "prompt"), move("ids", "drift")], "revision"),
        ([move("chat", "drift", 0.4), move("text", "drift", 0.5), move("ids", "drift", 0.3)], "revision"),
        ([move("chat", "senseless"), move("text", "senseless"), move("ids", "drift")], "weights"),
        ([move("chat", "same"), move("text", "same"), move("ids", "drift")], "weights"),
        (
            [move("chat", "drift", 0.005), move("text", "drift", 0.004), move("ids", "drift", 0.002)],
            "numeric",
        ),
        ([move("chat", "absurd"), move("text", "absurd")], "numeric"),
    ],
)
def test_which_prompts_moved_names_the_kind(moves: list[Deviation], kind: str) -> None:
    assert kind_of(moves) == kind


def test_a_file_is_read_as_it_was_written() -> None:
    made = [
        Fingerprint(
            Identity(model="m", dtype="float32"), "verified weights", (known(1), known(2, "ids", "sweep-0"))
        )
    ]
    again = read(json.loads(json.dumps(written(made))))
    assert again[0].identity == made[0].identity
    assert written(again) == written(made)
    assert not compare(again[0].known[0], made[0].known[0].answer).moved


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(version=9), "version 9"),
        (lambda d: d["fingerprints"][0].pop("known"), "known"),
        (lambda d: d["fingerprints"][0]["known"][0].update(given=[[1, 1]]), "do not fit"),
        (lambda d: d["fingerprints"][0]["known"][0].update(ids=[1]), "best tokens"),
        (lambda d: d["fingerprints"][0].update(of={"colour": "red"}), "colour"),
        (lambda d: d["fingerprints"][0]["known"][0].update(kind="ids", given=[[0, 10**9]]), "no span"),
        (lambda d: d["fingerprints"][0]["known"].append(d["fingerprints"][0]["known"][0]), "one name"),
    ],
)
def test_a_file_that_is_none_says_what_is_wrong(change, says: str) -> None:
    data = json.loads(json.dumps(written([Fingerprint(Identity(), "x", (known(),))])))
    change(data)
    with pytest.raises(ValueError, match=says):
        read(data)


def test_an_identity_differs_only_in_what_both_say() -> None:
    assert Identity(model="m", dtype="float32").differs(Identity(model="m")) == ""
    assert Identity(model="m", dtype="float32").differs(Identity(model="m", dtype="bfloat16")) == "dtype"


def test_sweeps_meet_every_id_once_in_the_embedding_and_in_the_head() -> None:
    made = prompts(49152, 49152, without=[0, 1, 49151])
    read_ids = [i for p in made if p.kind == "ids" for i in p.given]
    asked_for = [i for p in made if p.kind == "rows" for i in p.rows]
    assert sorted(read_ids) == list(range(2, 49151))
    assert asked_for == list(range(49152))
    assert max(len(p.given) for p in made if p.kind == "ids") <= SWEEP
    assert max(len(p.rows) for p in made if p.kind == "rows") <= ROWS, "the most that vLLM takes"
    assert len(made) == len({p.name for p in made})


def swept(vocabulary: int) -> Fingerprint:
    """A fingerprint of a whole vocabulary, as an engine would make it."""
    known_ones = []
    for n, p in enumerate(prompts(vocabulary, vocabulary)):
        one = replace(answer(n, p.tokens), prompt_ids=p.given if p.kind == "ids" else tuple(range(40)))
        if p.kind == "rows":
            one = replace(one, top=({**{i: -(i % 60) - 0.4321 for i in p.rows}, **one.top[0]},))
        known_ones.append(KnownAnswer(p, one, NOISE))
    return Fingerprint(Identity(), "verified weights", tuple(known_ones))


def test_a_whole_vocabulary_is_read_as_it_was_written_and_stays_small() -> None:
    made = swept(12_800)
    text = json.dumps(written([made]))
    assert len(text) < 12 * 12_800
    again = read(json.loads(text))[0]
    assert [k.prompt for k in again.known] == [k.prompt for k in made.known]
    for mine, theirs in zip(again.known, made.known, strict=True):
        assert not compare(mine, theirs.answer).moved, mine.prompt.name


def test_one_row_of_the_head_that_moved_is_seen_where_no_best_token_moves() -> None:
    k = next(k for k in swept(1280).known if k.prompt.kind == "rows")
    row = k.prompt.rows[77]
    step = {**k.answer.top[0], row: k.answer.top[0][row] - 0.5}
    deviation = compare(replace(k, noise=Distance(1e-6, 1e-5)), replace(k.answer, top=(step,)))
    assert deviation.moved
    assert kind_of([move("chat", "same"), move("text", "same"), deviation]) == "weights"


def test_another_template_moves_rows_too_and_is_a_template_still() -> None:
    moves = [move("chat", "prompt"), move("rows", "prompt"), move("text", "same"), move("ids", "same")]
    assert kind_of(moves) == "template"


# -- learning from replicas

PROMPTS = [PinnedPrompt("chat", "chat", "x"), PinnedPrompt("facts", "text", "y")]


def replies(weights: int, noise: float = 0.005) -> dict[str, list[TruthAnswer]]:
    return {
        p.name: [shaken(answer(100 * weights + i), noise, seed) for seed in range(4)]
        for i, p in enumerate(PROMPTS)
    }


def test_two_that_agree_make_the_truth_and_say_so() -> None:
    learned = learn(PROMPTS, {"a": replies(1), "b": replies(1)}, Identity())
    assert learned.fingerprint is not None
    assert learned.fingerprint.source == "agreed by a, b"
    assert not compare(learned.fingerprint.known[0], replies(1)["chat"][2]).moved


def test_two_that_disagree_make_none() -> None:
    learned = learn(PROMPTS, {"a": replies(1), "b": replies(2)}, Identity())
    assert learned.fingerprint is None
    assert learned.disagree == ("chat", "facts")


def test_one_alone_says_nothing_unless_its_weights_are_verified() -> None:
    assert learn(PROMPTS, {"a": replies(1)}, Identity()).fingerprint is None
    assert learn(PROMPTS, {"a": replies(1)}, Identity(), "verified weights").fingerprint is not None


def test_of_three_the_two_that_agree_are_right_and_of_four_two_are_not() -> None:
    learned = learn(PROMPTS, {"a": replies(2), "b": replies(1), "c": replies(1)}, Identity())
    assert (learned.agreed, learned.others) == (("b", "c"), ("a",))
    four = {"a": replies(1), "b": replies(1), "c": replies(2), "d": replies(2)}
    assert learn(PROMPTS, four, Identity()).fingerprint is None


def test_what_is_measured_under_load_bounds_what_is_healthy() -> None:
    quiet = answer(1)
    assert noise_of([quiet, shaken(quiet, 0.01, 1), shaken(quiet, 0.02, 2)]).worst > 0.01


def test_a_prompt_that_rounding_left_alone_has_the_bound_of_the_others() -> None:
    """On real vLLM in bfloat16 a third of the prompts repeated themselves to the last digit in the company they had."""
    calm = replies(1)
    calm["chat"] = [calm["chat"][0]] * 4
    learned = learn(PROMPTS, {"a": calm}, Identity(), "verified weights")
    assert learned.fingerprint is not None
    chat = learned.fingerprint.of("chat")
    assert chat is not None
    assert not compare(chat, shaken(chat.answer, 0.006, 9)).moved

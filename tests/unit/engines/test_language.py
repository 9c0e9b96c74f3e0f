"""The simulated model's text: a pure function of the ids before it."""

from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.engines.sim.language import Continuation, Sampling, answer, structured
from seawall.engines.sim.tokens import TURN_END, incomplete_tail, vocabulary

PROMPT = vocabulary().encode("tell a story about the sea")
LONG = Sampling(ignore_eos=True)


def test_the_tokenizer_gives_back_every_text() -> None:
    for text in ("the sea wall", "Ünïcödé 🌊👩‍🚀 防波堤", "\n\t{}<|im_start|>user", "ع"):
        assert vocabulary().decode(vocabulary().encode(text), skip_special_tokens=False) == text


def test_answers_hold_characters_of_several_tokens() -> None:
    ids = answer(PROMPT, 400, LONG)
    broken = [i for i in range(1, len(ids)) if vocabulary().decode(ids[:i]).endswith("�")]
    assert broken, "a cut inside a character must happen"
    assert "�" not in vocabulary().decode(ids[: broken[0] - 1])


@settings(deadline=None)
@given(st.integers(0, 119))
def test_a_cut_answer_continues_to_the_same_end(cut: int) -> None:
    whole = answer(PROMPT, 120, LONG)
    assert answer(PROMPT + whole[:cut], 120 - cut, LONG) == whole[cut:]


def test_a_seeded_stream_restarts_with_the_request() -> None:
    seeded = Sampling(salt=7, ignore_eos=True)
    whole = answer(PROMPT, 60, seeded)
    assert answer(PROMPT, 60, seeded) == whole
    assert answer(PROMPT + whole[:20], 40, seeded) != whole[20:]


def test_penalties_look_at_the_own_output_only() -> None:
    penalised = Sampling(penalised=True, ignore_eos=True)
    whole = answer(PROMPT, 60, penalised)
    assert answer(PROMPT + whole[:20], 40, penalised) != whole[20:]


def test_an_answer_ends_by_itself_but_not_before_min_tokens() -> None:
    lengths = [len(answer([i], 5000)) for i in range(20)]
    assert max(lengths) < 5000
    ids = answer([1], 5000, Sampling(min_tokens=1000))
    assert len(ids) >= 1000
    assert ids[-1] == TURN_END


def test_bias_bans_and_forces() -> None:
    plain = answer(PROMPT, 50, LONG)
    banned = Sampling(ignore_eos=True, banned=frozenset(plain[:5]))
    assert not set(answer(PROMPT, 50, banned)) & set(plain[:5]) - set(vocabulary().starts)
    assert set(answer(PROMPT, 9, Sampling(forced=frozenset({400})))) == {400}


def test_a_grammar_restarts_when_continued() -> None:
    text = structured({"type": "json_object"}, None, 3)
    assert text is not None
    script = tuple(vocabulary().encode(text))
    ids = answer(PROMPT, 200, Sampling(script=(*script, TURN_END)))
    assert vocabulary().decode(ids) == text
    again = Continuation(PROMPT + ids[:5], Sampling(script=(*script, TURN_END)))
    assert again.next() == script[0]


def test_json_that_fits_its_schema() -> None:
    import json

    import jsonschema

    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "minimum": 3},
            "b": {"enum": ["x", "y"]},
            "c": {"type": "array", "items": {"type": "boolean"}, "minItems": 2},
            "d": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        },
        "required": ["a", "b", "c"],
    }
    for pick in range(8):
        text = structured({"type": "json_schema", "json_schema": {"schema": schema}}, None, pick)
        assert text is not None
        jsonschema.validate(json.loads(text), schema)


@settings(deadline=None)
@given(st.text(max_size=20))
def test_what_is_held_back_is_the_open_character(text: str) -> None:
    data = text.encode()
    for cut in range(len(data) + 1):
        held = incomplete_tail(data[:cut])
        data[: cut - len(held)].decode()

"""The file of right answers beside a spec: written whole, read with care, and only for what it is of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from seawall.config.load import load_fleets
from seawall.decide.truth.fingerprint import (
    Distance,
    Fingerprint,
    Identity,
    KnownAnswer,
    PinnedPrompt,
    TruthAnswer,
)
from seawall.errors import InputError
from seawall.weights.truth_file import identity_of, read_truths, truth_of, truth_path, write_truth

ANSWER = TruthAnswer((1, 2), (7,), ({7: -0.5, 8: -1.5},))
KNOWN = (KnownAnswer(PinnedPrompt("facts", "text", "x", 1), ANSWER, Distance(0.001, 0.002)),)
FLEET = load_fleets(Path(__file__).parents[3] / "examples/smollm2.yaml")[0]
MADE = Fingerprint(identity_of(FLEET, "abc"), "verified weights", KNOWN)


def test_what_was_written_is_found_for_its_fleet(tmp_path: Path) -> None:
    path = truth_path(tmp_path, "smollm2")
    assert truth_of(path, FLEET) is None
    write_truth(path, MADE)
    assert truth_of(path, FLEET) == MADE


def test_others_stay_and_its_own_is_replaced(tmp_path: Path) -> None:
    path = truth_path(tmp_path, "m")
    other = replace(MADE, identity=replace(MADE.identity, dtype="bfloat16"))
    for one in (other, MADE, replace(MADE, source="again")):
        write_truth(path, one)
    assert [f.source for f in read_truths(path)] == ["verified weights", "again"]
    assert [p.name for p in tmp_path.iterdir()] == ["m.truth.json"]


def test_one_of_something_else_says_of_what(tmp_path: Path) -> None:
    path = truth_path(tmp_path, "m")
    write_truth(path, replace(MADE, identity=Identity(model="hf://a/b")))
    with pytest.raises(InputError, match="another model"):
        truth_of(path, FLEET)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 1}', "[" * 5000, '{"version": 1, "fingerprints": [3]}']
)
def test_what_is_no_such_file_is_refused_with_a_cure(tmp_path: Path, text: str) -> None:
    path = tmp_path / "m.truth.json"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        read_truths(path)
    assert "seawall fingerprint" in str(refused.value)

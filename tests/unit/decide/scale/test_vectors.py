"""The runner of test vectors: counts, says what differs, and never takes an unknown case for a passed one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seawall.testing import vectors

OWN = Path(__file__).with_name("own.json")


def test_it_counts_what_passed(capsys: pytest.CaptureFixture[str]) -> None:
    assert vectors.main([str(OWN)]) == 0
    assert capsys.readouterr().out == "69 passed, 0 failed\n"


def test_a_wrong_answer_is_named_with_both_values(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cases = json.loads(OWN.read_text())
    cases["cases"][0]["expect"]["replicas"] = 4
    cases["cases"][2]["derived"]["metric_name"] = "other"
    (tmp_path / "v.json").write_text(json.dumps(cases))
    assert vectors.main([str(tmp_path / "v.json")]) == 1
    out = capsys.readouterr().out
    assert "replicas: expected 4, found 5" in out
    assert "metric_name (derived): expected 'other'" in out
    assert out.endswith("67 passed, 2 failed\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            '{"cases": [{"name": "x", "kind": "teleport", "given": {}, "expect": {"a": 1}}]}',
            "unknown function 'teleport'",
        ),
        ('{"cases": [{"name": "x", "given": {"z": 1}, "expect": {"a": 1}}]}', "unknown function ''"),
        (
            '{"cases": [{"name": "x", "kind": "limits", "given": {"direction": "up"}, "expect": {"limit": 1}}]}',
            "limits: the key 'scale_up_events' is missing",
        ),
        ("{}", "not a file of test vectors"),
        ("[1]", "not a file of test vectors"),
        ('{"cases": []}', "not a file of test vectors"),
        ('{"cases": {"a": 1}}', "not a file of test vectors"),
        ('{"cases": [7]}', "is not an object but int"),
        ('{"cases": [{"kind": "limits", "expect": {"limit": 1}}]}', "given is not an object"),
        ('{"cases": [{"kind": "limits", "given": {}, "expect": [1]}]}', "expect is not an object but list"),
        ('{"cases": [{"kind": "limits", "given": {}}]}', "expects nothing"),
        ("garbage", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
    ],
)
def test_what_cannot_be_run_is_a_failure_that_says_so(
    text: str, says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "v.json").write_text(text)
    assert vectors.main([str(tmp_path / "v.json")]) == 1
    out = capsys.readouterr().out
    assert says in out
    assert out.endswith("0 passed, 1 failed\n")


def test_a_key_with_not_must_differ() -> None:
    assert vectors.differences({"state_not": "True"}, {"state": "False"}) == []
    assert vectors.differences({"state_not": "True"}, {"state": "True"})
    assert (
        vectors.differences({"ready": {"status": "True"}}, {"ready": {"status": "True", "reason": "r"}}) == []
    )

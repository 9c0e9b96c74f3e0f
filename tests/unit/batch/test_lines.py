"""Input files: what is wrong is named with its line and its cause, and what is right is read a line at a time."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from tests.unit.batch.making import CHAT, a_line, write_lines

from seawall.batch.lines import LineRules, LineSource, check
from seawall.batch.words import ERRORS_TOLD

RULES = LineRules(endpoint=CHAT, models=frozenset({"m"}), most=1000, longest=4096)


def found(path: Path, *lines: Any, rules: LineRules = RULES) -> list[tuple[int, str, str | None]]:
    return [(e.line, e.code, e.param) for e in check(write_lines(path, list(lines)), rules).errors]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in.jsonl"


def test_right_lines_are_counted(path: Path) -> None:
    checked = check(write_lines(path, [a_line("a"), "", a_line("b"), "   "]), RULES)
    assert (checked.lines, checked.models, checked.errors) == (2, {"m": 2}, [])


@pytest.mark.parametrize(
    ("line", "code", "param"),
    [
        ("{", "invalid_json_line", None),
        ("[1]", "invalid_request", None),
        ('{"a":' * 5000, "line_too_long", None),
        ('{"a":' * 800, "invalid_json_line", None),
        ({"custom_id": "x"}, "invalid_request", "method"),
        (a_line("x", custom_id=3), "invalid_request", "custom_id"),
        (a_line("x", custom_id=""), "invalid_custom_id", "custom_id"),
        (a_line("x", method="GET"), "invalid_method", "method"),
        (a_line("x", url="/v1/embeddings"), "mismatched_url", "url"),
        (a_line("x", url="/v1/files"), "invalid_url", "url"),
        (a_line("x", body=[]), "invalid_request", "body"),
        (a_line("x", body={}), "invalid_request", "body.model"),
        (a_line("x", body={"model": 5}), "invalid_request", "body.model"),
        (a_line("x", body={"model": "other"}), "model_not_found", "body.model"),
        (a_line("x", body={"model": "m", "stream": True}), "stream_not_supported", "body.stream"),
        ("x" * 5000, "line_too_long", None),
    ],
)
def test_a_wrong_line_is_named_with_its_cause(path: Path, line: Any, code: str, param: str | None) -> None:
    assert found(path, a_line("a"), line, a_line("b")) == [(2, code, param)]


def test_letters_that_are_no_utf8_are_named(path: Path) -> None:
    path.write_bytes(json.dumps(a_line("a")).encode() + b'\n{"custom_id": "\xff"}\n')
    assert [(e.line, e.code) for e in check(path, RULES).errors] == [(2, "invalid_json_line")]


def test_a_repeated_id_names_both_lines(path: Path) -> None:
    write_lines(path, [a_line("a"), a_line("b"), "", a_line("a")])
    (error,) = check(path, RULES).errors
    assert (error.line, error.code) == (4, "duplicate_custom_id")
    assert "line 1" in error.message and "'a'" in error.message


def test_a_file_without_requests_is_refused(path: Path) -> None:
    assert found(path) == [(0, "empty_file", None)]
    assert found(path, "", " ") == [(0, "empty_file", None)]


def test_too_many_lines_are_refused_where_they_begin(path: Path) -> None:
    rules = LineRules(CHAT, frozenset({"m"}), most=3)
    assert found(path, *(a_line(str(i)) for i in range(9)), rules=rules) == [(4, "too_many_lines", None)]


def test_of_many_errors_the_first_are_told(path: Path) -> None:
    assert len(found(path, *["{"] * 300)) == ERRORS_TOLD


def test_a_byte_order_mark_is_no_error(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(a_line("a")).encode() + b"\r\n")
    assert check(path, RULES).errors == []


def test_lines_with_a_result_are_passed_over(path: Path) -> None:
    write_lines(path, [a_line(str(i)) for i in range(1, 50)])
    source = LineSource(path, 4096, lambda first, last: {n for n in range(first, last + 1) if n % 3})
    seen = []
    while some := source.next(7, 1 << 20):
        seen += [line.line for line in some]
    source.close()
    assert seen == list(range(3, 50, 3))


def test_a_long_file_is_never_whole_in_memory(path: Path) -> None:
    text = json.dumps(a_line("%d", body={"model": "m", "prompt": "x" * 900}))
    with path.open("w") as out:
        for i in range(20_000):
            out.write(text.replace("%d", str(i)) + "\n")
    rules = LineRules(CHAT, frozenset({"m"}), most=10**6)
    check(path, rules)  # imports and caches
    tracemalloc.start()
    assert check(path, rules).lines == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * 2**20 < path.stat().st_size

"""Tables on narrow terminals: what matters stays whole, what matters least goes, nothing is wider than it may be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from seawall.domain.columns import ALWAYS, Column, folded, labelled, lay_out, parts_wrapped, wrapped

COLUMNS = (
    Column("NAME", ALWAYS),
    Column("PHASE", ALWAYS),
    Column("AGE", 80),
    Column("PID", 10),
    Column("WHY", ALWAYS),
)
ROWS = [
    ["llama-70b-0", "ready", "2 min 4 s", "121212", "proved itself 61.2 s after its start"],
    ["llama-70b-1", "starting", "4 s", "121999", ""],
]


def test_wide_enough_means_everything_on_one_line() -> None:
    assert lay_out(COLUMNS, ROWS, None).lines() == lay_out(COLUMNS, ROWS, 200).lines() == [
        "NAME         PHASE     AGE        PID     WHY",
        "llama-70b-0  ready     2 min 4 s  121212  proved itself 61.2 s after its start",
        "llama-70b-1  starting  4 s        121999",
    ]  # fmt: skip


def test_a_reason_without_room_beside_the_others_goes_below_them() -> None:
    assert lay_out(COLUMNS, ROWS, 50).lines() == [
        "NAME         PHASE     AGE        PID",
        "llama-70b-0  ready     2 min 4 s  121212",
        "    proved itself 61.2 s after its start",
        "llama-70b-1  starting  4 s        121999",
    ]


def test_the_least_important_column_goes_first() -> None:
    assert lay_out(COLUMNS, ROWS, 36).lines()[0] == "NAME         PHASE     AGE"
    assert lay_out(COLUMNS, ROWS, 24).lines()[0] == "NAME         PHASE"


def test_a_column_that_says_nothing_takes_no_room() -> None:
    rows = [["a", "ready", "", "", ""]]
    assert lay_out(COLUMNS, rows, 80).lines() == ["NAME  PHASE  WHY", "a     ready"]


def test_a_long_name_loses_its_middle_only() -> None:
    name = "a-very-long-name-of-a-fleet-that-nobody-wants-to-type-0"
    line = lay_out(COLUMNS, [[name, "ready", "1 s", "1", ""]], 40).lines()[1]
    assert line.startswith("a-very-")
    assert "type-0  ready" in line
    assert len(line) <= 40


words = st.text("abcdefgh", min_size=0, max_size=12)
sentence = st.lists(words, max_size=12).map(" ".join)


@given(st.lists(st.tuples(words, words, words, words, sentence), max_size=5), st.integers(30, 120))
def test_no_line_is_too_wide_and_no_phase_or_reason_is_lost(rows: list[tuple[str, ...]], width: int) -> None:
    lines = lay_out(COLUMNS, [list(r) for r in rows], width).lines()
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    for row in rows:
        assert row[1] in text
        assert all(word in text for word in row[4].split())


def test_parts_are_broken_between_and_not_inside() -> None:
    parts = ["one: 1/1 ready (min 1, max 2)", "0 in flight, 0 queued", "TTFT p50/p95 20 ms/40 ms"]
    assert parts_wrapped(parts, 60, "", "  ") == [
        "one: 1/1 ready (min 1, max 2)   0 in flight, 0 queued",
        "  TTFT p50/p95 20 ms/40 ms",
    ]
    assert parts_wrapped(parts, None) == ["   ".join(parts)]


def test_a_path_longer_than_a_line_is_not_broken() -> None:
    path = "/a/" + "b" * 40
    assert wrapped(f"see {path} there", 30, "  ", "  ") == ["  see", f"  {path}", "  there"]


def test_a_folded_text_keeps_its_words_and_its_lines_apart() -> None:
    text = (
        "llm/llama-70b   1 of 2 ready   (1 ready, 1 failed)\n  failed   llama-70b-x on gpu-7: " + "why " * 30
    )
    for width in (60, 80, 100):
        out = folded(text, width)
        assert max(map(len, out.splitlines())) <= width
        assert out.split() == text.split()
    assert folded(text, None) == text


def test_what_is_typed_is_never_broken() -> None:
    command = "seawall prove examples/smollm2.yaml --scenario kill --without resume"
    for text in (
        f"Nothing was lost this time, and so on. Next: {command}",
        f"To see it fail, `{command}` is enough.",
    ):
        for width in (30, 60):
            assert command in "\n".join(wrapped(text, width, "  ", "  "))


def test_numbers_stand_below_each_other_and_labels_beside_their_text() -> None:
    columns = (Column("NAME", ALWAYS), Column("SIZE", 1, right=True), Column("", 0))
    assert lay_out(columns, [("a", "5", ""), ("b", "1,200", "")], 40).lines() == [
        "NAME   SIZE", "a         5", "b     1,200"
    ]  # fmt: skip
    rows = [("cost", "words " * 12), ("longest queue", "0")]
    assert labelled(rows, 41) == [
        "  cost           words words words words",
        "                 words words words words",
        "                 words words words words",
        "  longest queue  0",
    ]

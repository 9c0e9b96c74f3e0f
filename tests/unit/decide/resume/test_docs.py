"""The table in the reference page is the table that decides."""

from __future__ import annotations

from pathlib import Path

from seawall.decide.route.resume import TABLE

PAGE = Path(__file__).parents[4] / "docs" / "reference" / "resume.md"


def drawn() -> str:
    lines = ["| request | way | because |", "|---|---|---|"]
    lines += [f"| {row.name} | {row.way} | {row.why} |" for row in TABLE]
    return "\n".join(lines)


def test_the_page_shows_the_table() -> None:
    assert drawn() in PAGE.read_text("utf-8"), f"put this into {PAGE}:\n{drawn()}"

"""Columns of text that stay readable on a narrow terminal: what every table of the command line is laid out with.

A phase or a reason that is cut is worth nothing to the person who reads it at night. So nothing is cut: what matters
least is left out, whole columns at a time, and the explanation, when there is no room for it beside the others, goes
on lines of its own below. Only a name longer than its line loses its middle. Forbidden here: knowing what is shown,
and asking how wide a terminal is.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

ALWAYS = 100
"""The weight of a column that stays."""
_GAP = "  "
_LEAST_BESIDE = 24
"""A last column with less room than this is read more easily below its row."""
_INDENT = "    "
_PROGRAM = r"(?:seawall|kubectl|helm|curl|mkdir|pip|uv) "
_COMMAND = re.compile(
    rf"`[^`]+`|^\$ .*|^{_PROGRAM}.*[^.]$"
    rf"|(?:(?<=Next: )|(?<=example: )|(?<=More: )|(?<=See: )|(?<=Try: )|(?<=[Rr]un: )|(?<=Do it: )|(?<= one: )"
    rf"|(?<=Undo: )|(?<= it: )|(?<=which: )|(?<=then: )|(?<=up: )|(?<=Look: )){_PROGRAM}.+?(?=   |;|[.,] |$)"
)
"""What is typed: in backticks, or what comes after `Next:` and its like."""
_GLUE = "\x01"
"""Stands for a blank at which no line is broken; no text that is shown holds one."""


@dataclass(frozen=True)
class Column:
    """A column's head and how much it matters: the one with the smallest `weight` is left out first, one of
    `ALWAYS` never. Numbers stand at the `right`, so that their digits stand below each other."""

    head: str
    weight: int
    right: bool = False

    def cell(self, text: str, width: int) -> str:
        """The text in its place."""
        short = _short(text, width)
        return short.rjust(width) if self.right else short.ljust(width)


@dataclass(frozen=True)
class Laid:
    """A table for one width: the columns that stayed, as indices; their padded cells; the lines below each row."""

    kept: tuple[int, ...]
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    below: tuple[tuple[str, ...], ...]

    def lines(self) -> list[str]:
        """The table as text, a head line first."""
        out = [_GAP.join(self.heads).rstrip()]
        for cells, below in zip(self.rows, self.below, strict=True):
            out += [_GAP.join(cells).rstrip(), *below]
        return out


def lay_out(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> Laid:
    """The rows within `width` characters (None: as wide as they are). The last column is free text: it stays beside
    the others while it has room, and otherwise is wrapped below its row. The first is what a row is called."""
    free = len(columns) - 1
    wide = [max(len(columns[i].head), *(len(r[i]) for r in rows), 0) for i in range(len(columns))]
    kept = [i for i in range(free) if columns[i].weight >= ALWAYS or any(r[i] for r in rows)]
    if width is not None:
        _narrow(columns, kept, wide, width)
    span = _span(kept, wide)
    room = max(1, wide[free] if width is None else width - span - len(_GAP))
    beside = room >= min(wide[free], _LEAST_BESIDE)
    cells, below = [], []
    for row in rows:
        line = [columns[i].cell(row[i], wide[i]) for i in kept]
        if beside:
            first, *rest = wrapped(row[free], max(room, 10))
            line.append(first)
            below.append(tuple(" " * (span + len(_GAP)) + more for more in rest))
        else:
            below.append(tuple(wrapped(row[free], width, _INDENT, _INDENT) if row[free] else ()))
        cells.append(tuple(line))
    shown = (*kept, free) if beside else tuple(kept)
    return Laid(
        shown, tuple(columns[i].cell(columns[i].head, wide[i]) for i in shown), tuple(cells), tuple(below)
    )


def labelled(rows: Sequence[tuple[str, str]], width: int | None, indent: str = "  ") -> list[str]:
    """`label   text` lines, the texts below each other, each broken between words beside its label."""
    columns = (Column("", ALWAYS), Column("", ALWAYS))
    laid = lay_out(columns, rows, None if width is None else width - len(indent))
    return [indent + line for line in laid.lines()[1:]]


def _narrow(columns: Sequence[Column], kept: list[int], wide: list[int], width: int) -> None:
    """Leaves out columns until the rest fits; then the first is shortened to what is left for it."""
    while _span(kept, wide) > width:
        spare = [i for i in kept if columns[i].weight < ALWAYS]
        if not spare:
            wide[kept[0]] = max(8, wide[kept[0]] - (_span(kept, wide) - width))
            return
        kept.remove(min(spare, key=lambda i: columns[i].weight))


def _short(text: str, width: int) -> str:
    """A name without its middle: what tells two apart stands at their ends."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def wrapped(text: str, width: int | None, first: str = "", rest: str = "") -> list[str]:
    """A sentence on as many lines as it needs, broken between words only; a command in it is never broken, for what
    is pasted runs at each line's end: the terminal folds one that is longer than a line."""
    if width is None:
        return [first + text]
    lines = textwrap.wrap(
        _COMMAND.sub(_whole, text), max(width, len(rest) + 10), initial_indent=first, subsequent_indent=rest,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return [line.replace(_GLUE, " ") for line in lines] or [first.rstrip()]


def _whole(command: re.Match[str]) -> str:
    return command[0].replace(" ", _GLUE)


def folded(text: str, width: int | None) -> str:
    """A text of many lines, each broken between words where it is too long, its rest indented a little further."""
    if width is None:
        return text
    out: list[str] = []
    for line in text.splitlines():
        lead = line[: len(line) - len(line.lstrip())]
        out += (
            [line]
            if len(line) <= width
            else parts_wrapped(line.strip().split("   "), width, lead, lead + "    ")
        )
    return "\n".join(out)


def parts_wrapped(parts: Sequence[str], width: int | None, first: str = "", rest: str = "") -> list[str]:
    """Parts that belong together (`2 queued`, `TTFT p50 20 ms`), three blanks between, never broken inside one
    unless a part alone is too long for a line."""
    lines, now = [], first
    for i, part in enumerate(parts):
        joined = f"{now}   {part}" if i else f"{now}{part}"
        if i and width is not None and len(joined) > width:
            lines.append(now)
            joined = rest + part
        now = joined
    return [more for line in [*lines, now] for more in _within(line, width, rest)]


def _within(line: str, width: int | None, rest: str) -> list[str]:
    if width is None or len(line) <= width:
        return [line]
    lead = line[: len(line) - len(line.lstrip())]
    return wrapped(line.strip(), width, lead, rest)


def _span(kept: Sequence[int], wide: Sequence[int]) -> int:
    return sum(wide[i] for i in kept) + len(_GAP) * max(0, len(kept) - 1)

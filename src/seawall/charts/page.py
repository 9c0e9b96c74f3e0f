"""The frame of every report: one HTML file with one style sheet, which opens anywhere, fits a phone and follows the
system's dark mode. No script, nothing fetched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from seawall.charts.chart import Chart, ChartMark
from seawall.charts.draw import STYLE as CHART_STYLE
from seawall.charts.draw import svg

NARROW = 840
"""Pixels below which a chart keeps its size and is pushed aside in its frame: smaller, nobody reads its axes."""
STYLE = (
    CHART_STYLE + "body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;"
    "color:var(--ink);background:var(--paper)}h1{font-size:1.5em}h2{margin-top:2em;font-size:1.2em}"
    "table{border-collapse:collapse;margin:1em 0}td,th{padding:.25em .9em .25em 0;text-align:left;vertical-align:top;"
    "border-bottom:1px solid var(--line)}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}"
    ".wide{overflow-x:auto}.chart{width:100%;height:auto;margin:.4em 0}small,.note{color:var(--faint)}"
    f"@media(max-width:{NARROW}px){{.wide>.chart{{width:{NARROW}px}}}}.facts td{{white-space:pre-wrap}}"
    "a{color:var(--c1)}.kept{color:var(--good)}.broken{color:var(--bad);font-weight:600}"
)


def document(title: str, parts: Iterable[str]) -> str:
    """The whole page; `parts` are HTML."""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style><h1>{escape(title)}</h1>{''.join(parts)}</html>\n"
    )


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """Names and what there is to say of them."""
    lines = "".join(f'<tr><th scope="row">{escape(k)}</th><td>{escape(v)}</td></tr>' for k, v in rows)
    return f'<div class="wide"><table class="facts">{lines}</table></div>'


def drawn(chart: Chart, end: float, marks: Sequence[ChartMark] = ()) -> str:
    """A chart on the page, in a frame of its own."""
    return f'<div class="wide">{svg(chart, end, marks)}</div>'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of numbers, whose first column is words; cells are HTML."""
    first, *others = heads
    head = f'<th scope="col">{escape(first)}</th>' + "".join(
        f'<th scope="col" class="n">{escape(h)}</th>' for h in others
    )
    lines = (f"<tr><td>{row[0]}</td>{''.join(f'<td class=n>{c}</td>' for c in row[1:])}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(lines)}</table></div>'

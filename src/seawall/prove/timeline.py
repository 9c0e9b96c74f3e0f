"""The proof as one HTML file: a table of verdicts, and for each scenario every stream as a bar in its client's lane.

Inline SVG, no script, nothing fetched: it can be attached to a change request and still opens in ten years.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from seawall.charts.chart import moment, time_ticks
from seawall.charts.page import document, table
from seawall.prove.pressure import StreamRecord
from seawall.prove.run import Result
from seawall.prove.verdict import ScenarioVerdict, overall

WIDTH = 1000
LANE = 6
AXIS, LABEL = 34, 15
LETTER = 6.4
"""Pixels of a letter, about."""
STALL_S = 0.5


def page(result: Result, title: str) -> str:
    """The whole report."""
    total = overall(result.verdicts)
    verdict = "every promise kept" if total["kept"] else "a promise is broken"
    head = (
        f"<p class={'kept' if total['kept'] else 'broken'}>{verdict}: "
        f"{total['lost']} of {total['streams']} streams lost (at most {total['lost_share_at_most']:.3%} at 95%), "
        f"{total['wrong_tokens']} wrong tokens</p>"
    )
    shortened = ", ".join(f"{k} {v}" for k, v in result.shortened.items())
    parts = [
        head,
        _table(result),
        f'<p class="note">Changed for the proof: {html.escape(shortened)}.</p>',
        '<p class="note">Each bar is a stream in its client\'s lane. Green: whole and right; amber within it: silence '
        f"of more than {STALL_S} s; violet: wrong tokens; light grey: 429; grey: the client left; red: lost.</p>",
    ]
    parts += [_scenario(v, result.records.get(v.name, [])) for v in result.verdicts]
    return document(title, parts)


def _table(result: Result) -> str:
    names = ("scenario", "streams", "whole", "resumed", "retried", "rejected", "left", "lost", "wrong",
             "tokens again", "worst stall")  # fmt: skip
    rows = []
    for v in result.verdicts:
        ends = (v.rejected, v.left, v.lost, v.wrong_tokens)
        cells = (v.started, v.finished, v.resumed, v.retried, *ends, v.wasted_tokens)
        link = f'<a class={"kept" if v.kept else "broken"} href="#{_anchor(v)}">{html.escape(v.title)}</a>'
        rows.append([link, *(f"{c:,}" for c in cells), f"{v.worst_stall_s:.2f} s"])
    return f'<div id="top">{table(names, rows)}</div>'


def _anchor(verdict: ScenarioVerdict) -> str:
    return f"scenario-{html.escape(verdict.name)}"


def _scenario(verdict: ScenarioVerdict, records: Sequence[StreamRecord]) -> str:
    why = "".join(f"<p class=broken>{html.escape(b)}</p>" for b in verdict.broken)
    notes = "".join(f"<p class=note>{html.escape(n)}</p>" for n in verdict.notes)
    title = f'<h2 id="{_anchor(verdict)}">{html.escape(verdict.title)}</h2>'
    return f'{title}{why}{lanes(verdict, records)}{notes}<p><a href="#top">All scenarios</a></p>'


def lanes(verdict: ScenarioVerdict, records: Sequence[StreamRecord]) -> str:
    """Every stream as a bar in its client's lane, as SVG; nothing when there was none."""
    if not records:
        return ""
    start = min(r.outcome.intended_s for r in records)
    end = max((r.outcome.ended_s for r in records), default=start) or start + 1
    span = max(0.1, end - start)
    scale = WIDTH / span
    height = (max(r.lane for r in records) + 1) * LANE
    bars = []
    for r in records:
        o = r.outcome
        x, width = (o.intended_s - start) * scale, max(0.8, ((o.ended_s or end) - o.intended_s) * scale - 0.6)
        y = r.lane * LANE
        bars.append(_bar(x, y, width, _colour(r)))
        for a, b in zip(o.event_s, o.event_s[1:], strict=False):
            if b - a > STALL_S:
                bars.append(_bar((a - start) * scale, y, (b - a) * scale, "fw"))
    marks, rows = _marks(verdict, scale, height)
    lines, words = _axis(span, scale, height)
    whole = height + AXIS + rows * LABEL + 6
    name = html.escape(f"streams of {verdict.title} over time")
    return (
        f'<div class="wide"><svg class="chart" viewBox="0 0 {WIDTH} {whole}" role="img" aria-label="{name}">'
        f"{lines}{''.join(bars)}{''.join(marks)}{words}</svg></div>"
    )


def _bar(x: float, y: float, width: float, colour: str) -> str:
    return f'<rect class="{colour}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{LANE - 1}"/>'


def _axis(span: float, scale: float, height: int) -> tuple[str, str]:
    """The time below the lanes: (lines, which lie behind them; words, which no line strikes through)."""
    lines, words = [], []
    for t in time_ticks(span):
        at, word_at = t * scale, min(max(t * scale, 8), WIDTH - 14)
        lines.append(f'<line class="g" x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{height + 5}"/>')
        words.append(f'<text x="{word_at:.1f}" y="{height + 17}" text-anchor="middle">{moment(t)}</text>')
    name = "time since the scenario's start"
    words.append(f'<text x="{WIDTH / 2:.0f}" y="{height + 30}" text-anchor="middle">{name}</text>')
    return "".join(lines), "".join(words)


def _marks(verdict: ScenarioVerdict, scale: float, height: int) -> tuple[list[str], int]:
    """What was done, as upright lines with labels in as many rows as keep them apart -> (SVG, rows)."""
    free: list[float] = []
    marks = []
    for mark in sorted(verdict.marks, key=lambda m: m.at_s):
        at, text = mark.at_s * scale, f"{mark.at_s:.1f} s {mark.text}"
        begins = max(0.0, min(at + 3, WIDTH - LETTER * len(text)))
        row = next((i for i, until in enumerate(free) if begins >= until), len(free))
        free[row : row + 1] = [begins + LETTER * len(text) + 8]
        down = height + AXIS + (row + 1) * LABEL
        marks.append(
            f'<line class="m" x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{down}"/>'
            f'<text x="{begins:.1f}" y="{down}">{html.escape(text)}</text>'
        )
    return marks, len(free)


def _colour(record: StreamRecord) -> str:
    """A class of the style sheet."""
    o = record.outcome
    if o.ok:
        right = record.checked is None or not (record.checked.wrong_tokens or record.checked.wrong_usage)
        return "fg" if right else "f4"
    if o.error == "http-429":
        return "fl"
    return "ff" if o.error == "cancelled" else "fb"

"""The proof as one HTML file: a table of verdicts, and for each scenario every stream as a bar in its client's lane.

Inline SVG, no script, nothing fetched: it can be attached to a change request and still opens in ten years.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from seawall.prove.pressure import StreamRecord
from seawall.prove.run import Result
from seawall.prove.verdict import ScenarioVerdict, overall

WIDTH = 1000
LANE = 4
STALL_S = 0.5
STYLE = """body{font:14px/1.45 system-ui,sans-serif;max-width:1060px;margin:2em auto;padding:0 1em;color:#1c2733}
table{border-collapse:collapse;width:100%}td,th{padding:.25em .6em;text-align:right;border-bottom:1px solid #dde3ea}
td:first-child,th:first-child{text-align:left}.kept{color:#0a7a43}.broken{color:#b3261e;font-weight:600}
svg{width:100%;height:auto;background:#f7f9fb;border:1px solid #dde3ea}h2{margin-top:2em}.note{color:#5a6b7b}"""


def page(result: Result, title: str) -> str:
    """The whole report."""
    total = overall(result.verdicts)
    verdict = "every promise kept" if total["kept"] else "a promise is broken"
    head = (
        f"<h1>{html.escape(title)}</h1><p class={'kept' if total['kept'] else 'broken'}>{verdict}: "
        f"{total['lost']} of {total['streams']} streams lost (at most {total['lost_share_at_most']:.3%} at 95%), "
        f"{total['wrong_tokens']} wrong tokens</p>"
    )
    shortened = ", ".join(f"{k} {v}" for k, v in result.shortened.items())
    parts = [
        head,
        _table(result.verdicts),
        f"<p class=note>Changed for the proof: {html.escape(shortened)}.</p>",
        "<p class=note>Each bar is a stream in its client's lane. Green: whole and right; amber within it: silence of "
        f"more than {STALL_S} s; violet: wrong tokens; light grey: 429; grey: the client left; red: lost.</p>",
    ]
    parts += [_scenario(v, result.records.get(v.name, [])) for v in result.verdicts]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        f"<style>{STYLE}</style>{''.join(parts)}</html>\n"
    )


def _table(verdicts: Sequence[ScenarioVerdict]) -> str:
    names = (
        "streams",
        "whole",
        "resumed",
        "retried",
        "rejected",
        "left",
        "lost",
        "wrong",
        "tokens again",
        "worst stall",
    )
    rows = []
    for v in verdicts:
        ends = (v.rejected, v.left, v.lost, v.wrong_tokens)
        cells = (v.started, v.finished, v.resumed, v.retried, *ends, v.wasted_tokens)
        numbers = "".join(f"<td>{c:,}</td>" for c in cells)
        rows.append(
            f"<tr><td class={'kept' if v.kept else 'broken'}>{html.escape(v.title)}</td>{numbers}"
            f"<td>{v.worst_stall_s:.2f} s</td></tr>"
        )
    return f"<table><tr><th>scenario{''.join(f'<th>{n}' for n in names)}</tr>{''.join(rows)}</table>"


def _scenario(verdict: ScenarioVerdict, records: Sequence[StreamRecord]) -> str:
    why = "".join(f"<p class=broken>{html.escape(b)}</p>" for b in verdict.broken)
    notes = "".join(f"<p class=note>{html.escape(n)}</p>" for n in verdict.notes)
    return f"<h2>{html.escape(verdict.title)}</h2>{why}{_svg(verdict, records)}{notes}"


def _svg(verdict: ScenarioVerdict, records: Sequence[StreamRecord]) -> str:
    if not records:
        return ""
    start = min(r.outcome.intended_s for r in records)
    end = max((r.outcome.ended_s for r in records), default=start) or start + 1
    scale = WIDTH / max(0.1, end - start)
    height = (max(r.lane for r in records) + 1) * LANE
    bars = []
    for r in records:
        o = r.outcome
        x, width = (o.intended_s - start) * scale, max(0.8, ((o.ended_s or end) - o.intended_s) * scale - 0.6)
        y = r.lane * LANE
        bars.append(
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{LANE - 1}" fill="{_colour(r)}"/>'
        )
        for a, b in zip(o.event_s, o.event_s[1:], strict=False):
            if b - a > STALL_S:
                at, wide = (a - start) * scale, (b - a) * scale
                bars.append(
                    f'<rect x="{at:.1f}" y="{y}" width="{wide:.1f}" height="{LANE - 1}" fill="#f2b134"/>'
                )
    marks = []
    for i, mark in enumerate(verdict.marks):
        at = mark.at_s * scale
        row = height + 14 + (i % 4) * 14
        anchor = "end" if at > WIDTH * 0.7 else "start"
        marks.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{row - 10}" stroke="#1c2733" stroke-width="1"/>'
            f'<text x="{at:.1f}" y="{row}" font-size="12" text-anchor="{anchor}">'
            f"{mark.at_s:.1f} s {html.escape(mark.text)}</text>"
        )
    return f'<svg viewBox="0 0 {WIDTH} {height + 62}">{"".join(bars)}{"".join(marks)}</svg>'


def _colour(record: StreamRecord) -> str:
    o = record.outcome
    if o.ok:
        right = record.checked is None or not (record.checked.wrong_tokens or record.checked.wrong_usage)
        return "#7fb8a4" if right else "#7b2fbe"
    if o.error == "http-429":
        return "#c4ccd4"
    return "#9aa7b4" if o.error == "cancelled" else "#b3261e"

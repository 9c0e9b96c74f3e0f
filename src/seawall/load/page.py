"""The report of a bench run: one HTML file with inline SVG, no script, nothing fetched."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from seawall.load.client import RequestOutcome
from seawall.load.measure import Spread, Summary

STYLE = """body{font:14px/1.45 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#1c2733}
table{border-collapse:collapse}td,th{padding:.25em .8em;text-align:right;border-bottom:1px solid #dde3ea}
td:first-child,th:first-child{text-align:left}svg{width:100%;background:#f7f9fb;border:1px solid #dde3ea}
.note{color:#5a6b7b}"""
WIDTH, HEIGHT = 960, 220


def page(title: str, summary: Summary, outcomes: Sequence[RequestOutcome], facts: dict[str, Any]) -> str:
    """The whole report."""
    told = "".join(f"<tr><td>{html.escape(str(k))}<td>{html.escape(str(v))}</tr>" for k, v in facts.items())
    charts: list[tuple[str, list[tuple[float, float | None]]]] = [
        ("Time to first token, by when it was due (s)", [(o.intended_s, o.ttft_s) for o in outcomes if o.ok]),
        ("Time per output token (s)", [(o.intended_s, o.tpot_s) for o in outcomes if o.ok]),
        ("End-to-end latency (s)", [(o.intended_s, o.e2e_s) for o in outcomes if o.ok]),
    ]
    failed = [o.intended_s for o in outcomes if not o.ok]
    drawn = "".join(f"<h2>{name}</h2>{scatter(points, failed)}" for name, points in charts)
    errors = ", ".join(f"{k}: {v}" for k, v in summary.errors.items()) or "none"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}</style>"
        f"<h1>{html.escape(title)}</h1><p>{summary.finished:,} of {summary.requests:,} requests finished, "
        f"{summary.goodput_rps:.2f}/s good, {summary.output_tokens_per_s:,.0f} tokens/s; "
        f"errors: {html.escape(errors)}</p>"
        f"<table>{told}</table><h2>Latencies</h2>{latencies(summary)}{drawn}"
        "<p class=note>Latencies count from when a request was due. Red ticks: requests that failed.</p></html>\n"
    )


def latencies(summary: Summary) -> str:
    rows = []
    for name, spread in rows_of(summary):
        cells = "".join(
            f"<td>{v * 1000:,.1f}" for v in (*spread.percentiles.values(), spread.max, spread.mean)
        )
        rows.append(f"<tr><td>{name}{cells}</tr>")
    names = "".join(f"<th>{n}" for n in ("p50", "p90", "p95", "p99", "max", "mean"))
    return f"<table><tr><th>ms{names}</tr>{''.join(rows)}</table>"


def rows_of(summary: Summary) -> list[tuple[str, Spread]]:
    """The latency rows that were measured."""
    rows = (("TTFT", summary.ttft), ("TPOT", summary.tpot), ("ITL", summary.itl), ("E2E", summary.e2e))
    return [(name, spread) for name, spread in rows if spread is not None]


def scatter(points: Sequence[tuple[float, float | None]], failed: Sequence[float] = ()) -> str:
    """Dots over time, y from 0 to the largest; at most 4,000 dots are drawn."""
    known = [(x, y) for x, y in points if y is not None]
    if not known:
        return "<p class=note>nothing was measured</p>"
    known = known[:: max(1, len(known) // 4000)]
    start = min([x for x, _ in known] + list(failed))
    span = max(max([x for x, _ in known] + list(failed)) - start, 1e-9)
    top = max(y for _, y in known) or 1e-9
    dots = "".join(
        f'<circle cx="{50 + (x - start) / span * (WIDTH - 60):.1f}" cy="{HEIGHT - 20 - y / top * (HEIGHT - 35):.1f}" '
        'r="1.6" fill="#1f6f8b" fill-opacity=".5"/>'
        for x, y in known
    )
    places = (50 + (x - start) / span * (WIDTH - 60) for x in failed[:: max(1, len(failed) // 1000)])
    row = f'y="{HEIGHT - 18}" width="1.5" height="6" fill="#b3261e"/>'
    ticks = "".join(f'<rect x="{x:.1f}" {row}' for x in places)
    labels = "".join(
        f'<text x="4" y="{HEIGHT - 16 - share * (HEIGHT - 35):.0f}" font-size="11">{top * share:.3g}</text>'
        for share in (0, 0.5, 1)
    )
    end = f'<text x="{WIDTH - 50}" y="{HEIGHT - 4}" font-size="11">{span:.0f} s</text>'
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}">{dots}{ticks}{labels}{end}</svg>'

"""The report of a bench run: one HTML file with inline SVG, no script, nothing fetched."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from seawall.charts.chart import Chart, ChartLine, ChartMark, Dots, moment, share
from seawall.charts.page import document, drawn, facts, table
from seawall.domain.units import show_seconds
from seawall.load.client import RequestOutcome
from seawall.load.measure import Objective, Spread, Summary

BINS = 60
"""TimedValues of the throughput's curve, at most."""
STEPS = 200
"""TimedValues of a distribution's curve, at most."""
MARKED = (0.5, 0.9, 0.99)
NOTHING = '<p class="note">nothing was measured</p>'
TimedValues = Sequence[tuple[float, float | None]]


def page(
    title: str,
    summary: Summary,
    outcomes: Sequence[RequestOutcome],
    told: dict[str, Any],
    objective: Objective | None = None,
) -> str:
    """The whole report. `told`: facts of the run."""
    errors = ", ".join(f"{k}: {v}" for k, v in summary.errors.items()) or "none"
    aims = objective or Objective()
    good = [o for o in outcomes if o.ok]
    timed: list[tuple[str, TimedValues, float | None]] = [
        ("Time to first token", [(o.intended_s, o.ttft_s) for o in good], aims.ttft_s),
        ("Time per output token", [(o.intended_s, o.tpot_s) for o in good], aims.tpot_s),
        ("End-to-end latency", [(o.intended_s, o.e2e_s) for o in good], aims.e2e_s),
    ]
    failed = [o.intended_s for o in outcomes if not o.ok]
    return document(
        title,
        [
            f"<p>{summary.finished:,} of {summary.requests:,} requests finished, "
            f"{summary.goodput_rps:.2f}/s good, {summary.output_tokens_per_s:,.0f} tokens/s; "
            f"errors: {html.escape(errors)}</p>",
            facts([(str(k), str(v)) for k, v in told.items()]),
            "<h2>Latencies</h2>",
            latencies(summary),
            "<h2>Throughput</h2>",
            throughput(outcomes),
            "<h2>Over time, by when a request was due</h2>",
            *(over_time(name, points, aim, failed) for name, points, aim in timed),
            "<h2>Distributions</h2>",
            *(distribution(name, points, aim) for name, points, aim in timed),
            '<p class="note">Latencies count from when a request was due. Red ticks: requests that failed.</p>',
        ],
    )


def latencies(summary: Summary) -> str:
    """The percentiles as a table, in milliseconds."""
    rows = [
        [name, *(f"{v * 1000:,.1f}" for v in (*spread.percentiles.values(), spread.max, spread.mean))]
        for name, spread in rows_of(summary)
    ]
    return table(["ms", "p50", "p90", "p95", "p99", "max", "mean"], rows)


def rows_of(summary: Summary) -> list[tuple[str, Spread]]:
    """The latency rows that were measured."""
    rows = (("TTFT", summary.ttft), ("TPOT", summary.tpot), ("ITL", summary.itl), ("E2E", summary.e2e))
    return [(name, spread) for name, spread in rows if spread is not None]


def throughput(outcomes: Sequence[RequestOutcome]) -> str:
    """Requests due and finished, and tokens, per second."""
    if not outcomes:
        return NOTHING
    start = min(o.intended_s for o in outcomes)
    span = max(max(max(o.ended_s, o.intended_s) for o in outcomes) - start, 1e-3)
    count = min(BINS, max(1, round(span)))
    wide = span / count
    due, done, tokens = [0.0] * count, [0.0] * count, [0.0] * count

    def put(bins: list[float], at: float, amount: float = 1.0) -> None:
        bins[min(count - 1, max(0, int((at - start) / wide)))] += amount / wide

    for o in outcomes:
        put(due, o.intended_s)
        if o.ok:
            put(done, o.ended_s)
            put(tokens, o.ended_s, o.tokens)
    edges = [i * wide for i in range(count + 1)]
    charts = (
        Chart("Requests", "per second", edges, (_stairs("due", due), _stairs("finished", done))),
        Chart("Output tokens, by when their answer ended", "per second", edges, (_stairs("tokens", tokens),)),
    )
    return "".join(drawn(chart, span) for chart in charts)


def _stairs(name: str, bins: Sequence[float]) -> ChartLine:
    """One value for each bin, held to the next edge."""
    return ChartLine(name, [*bins, bins[-1]], step=True)


def over_time(name: str, points: TimedValues, aim_s: float | None, failed: Sequence[float]) -> str:
    """Dots over time, with what failed as ticks on the axis."""
    known = [(x, y) for x, y in points if y is not None]
    if not known:
        return NOTHING
    start = min([x for x, _ in known] + list(failed))
    span = max(max([x for x, _ in known] + list(failed)) - start, 1e-3)
    dots = (
        Dots("a request", [(x - start, y) for x, y in known]),
        Dots("failed", [(x - start, math.nan) for x in failed], bad=True),
    )
    aim = f"objective {show_seconds(aim_s)}" if aim_s is not None else ""
    chart = Chart(name, "", (), (), limit=aim_s, limit_name=aim, dots=dots, show=moment)
    return drawn(chart, span)


def distribution(name: str, points: TimedValues, aim_s: float | None) -> str:
    """The share of requests that took no longer, over how long; percentiles and the objective are marked."""
    values = sorted(y for _, y in points if y is not None)
    if not values:
        return ""
    last = len(values) - 1
    at = sorted({round(i * last / STEPS) for i in range(STEPS + 1)})
    line = ChartLine("requests that took at most so long", [(i + 1) / len(values) for i in at])
    chart = Chart(
        f"{name}: distribution", "share", [values[i] for i in at], (line,), show=share, whole=1.0,
        x_name=name.lower(), x_show=_length,
    )  # fmt: skip
    ranks = [(q, values[max(0, math.ceil(q * len(values)) - 1)]) for q in MARKED]
    marks = [ChartMark(v, f"p{q * 100:g} {show_seconds(v)}") for q, v in ranks]
    end = max(values[-1], 1e-6)
    if aim_s is not None and aim_s <= end:
        marks.append(ChartMark(aim_s, f"objective {show_seconds(aim_s)}"))
    return drawn(chart, end, marks)


def _length(seconds: float) -> str:
    """A length of time on an axis that is not time itself."""
    return show_seconds(seconds) if seconds else "0"

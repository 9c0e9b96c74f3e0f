"""A simulation as a report: one HTML file with every chart on one timeline, SVG alone, or Markdown.

Forbidden here: computing an answer that `Outcome.summary` does not give; scripts; anything fetched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from seawall.charts.chart import Chart, ChartLine, ChartMark, moment, number, share
from seawall.charts.draw import alone
from seawall.charts.page import document, drawn, facts
from seawall.domain.units import show_seconds
from seawall.sim.outcome import Outcome, over_time
from seawall.sim.trial import TrialStanding

MARKED = 400
LOGGED = 200
"""Moments that are drawn, and that are told in words."""


def charts_of(outcome: Outcome) -> list[Chart]:
    """Requests, queue, replicas, TTFT, share within objectives, cost: all over the same time."""
    by = over_time(outcome)
    series, slo = outcome.series, outcome.setup.fleet.spec.traffic.slo
    charts = [
        Chart(
            "Requests",
            "per second",
            by["t"],
            (ChartLine("arriving", by["rate"]), ChartLine("turned away or lost", by["turned_away"])),
        ),
        Chart(
            "Queue",
            "requests",
            series.t,
            (
                ChartLine("in the gateway", [float(v) for v in series.queued]),
                ChartLine("waiting in engines", [float(v) for v in series.waiting]),
            ),
        ),
        Chart(
            "Replicas",
            "replicas",
            series.t,
            (
                ChartLine("wanted", [float(v) for v in series.wanted], step=True),
                ChartLine("ready", [float(v) for v in series.ready], step=True),
            ),
            counts=True,
        ),
        Chart(
            "Time to first token, by arrival",
            "",
            by["t"],
            (ChartLine("p50", by["ttft_p50"]), ChartLine("p95", by["ttft_p95"])),
            limit=slo.ttft,
            limit_name=f"objective {show_seconds(slo.ttft)}",
            show=moment,
        ),
        Chart(
            "Within both objectives",
            "share of arrivals",
            by["t"],
            (ChartLine("good", by["good"]),),
            limit=slo.availability,
            limit_name=f"objective {share(slo.availability)}",
            show=share,
            whole=1.0,
        ),
    ]
    if outcome.setup.plan.usd_per_hour is not None:
        charts.append(
            Chart("Cost", "$ per hour", series.t, (ChartLine("nodes", series.usd_per_h, step=True),))
        )
    return charts


def rows_of(outcome: Outcome) -> list[tuple[str, str]]:
    """The answers in words, most important first."""
    s = outcome.summary()
    counts, slo = s["requests"], outcome.setup.fleet.spec.traffic.slo
    lost = f"{counts['lost']:,} lost"
    if counts["reasons"]:
        lost += " (" + "; ".join(f"{n:,}: {why}" for why, n in sorted(counts["reasons"].items())) + ")"
    turned = [
        f"{counts[k]:,} {name}"
        for k, name in (
            ("rejected", "rejected with 429"),
            ("expired", "waited past their deadline"),
            ("cancelled", "given up by the client"),
            ("refused", "longer than the context"),
            ("in_flight", "unfinished at the end"),
        )
        if counts[k]
    ]
    moved = [f"{counts[k]:,} {k}" for k in ("resumed", "retried", "hedged", "preempted") if counts[k]]
    rows = [
        ("requests", f"{counts['done']:,} of {counts['arrived']:,} answered, {lost}"),
        ("turned away", ", ".join(turned) or "none"),
        (
            "objectives",
            f"{s['slo_attainment']:.2%} within TTFT {show_seconds(slo.ttft)} and TPOT "
            f"{show_seconds(slo.tpot)} (wanted {slo.availability:.3%})",
        ),
        ("TTFT", _latency(s["ttft_s"])),
        ("TPOT", _latency(s["tpot_s"])),
        ("E2E", _latency(s["e2e_s"])),
        (
            "throughput",
            f"{s['throughput_per_s']:.3g} requests/s, {s['output_tokens_per_s']:,.0f} output tokens/s, "
            f"goodput {s['goodput_per_s']:.3g}/s",
        ),
        (
            "replicas",
            f"{s['replicas']['least']} to {s['replicas']['most']} wanted, "
            f"{s['replicas']['mean_ready']:.3g} ready on average, {s['utilisation']:.0%} busy",
        ),
        ("longest queue", f"{s['longest_queue']:,} in the gateway"),
        ("cost", cost_of(s)),
    ]
    if outcome.canary is not None:
        rows.insert(-3, ("canary", _canary(outcome.canary)))
    if moved:
        rows.insert(2, ("continued on another replica", ", ".join(moved)))
    return rows


def _canary(told: TrialStanding) -> str:
    """How a canary ended, how long it took, and why."""
    if told.ended_s is None:
        return f"{told.phase} at {told.weight}% when the run ended: {told.reason}"
    return f"{told.phase} {show_seconds(told.ended_s - told.began_s)} after its start: {told.reason}"


def cost_of(s: dict[str, Any]) -> str:
    text = f"{s['gpu_hours']:.4g} GPU-hours"
    if s["usd"] is not None:
        text += f", ${s['usd']:,.2f}"
    if s["usd_per_million_output_tokens"] is not None:
        text += f", ${s['usd_per_million_output_tokens']:.3g} per million output tokens"
    return text


def _latency(p: dict[str, float | None]) -> str:
    shown = [f"{k} {show_seconds(p[k] or 0.0)}" for k in ("p50", "p95", "p99") if p[k] is not None]
    return "   ".join(shown) or "no request finished"


def marks_of(outcome: Outcome) -> list[ChartMark]:
    """What happened, numbered as the list below the charts is."""
    return [
        ChartMark(t, str(i + 1), f"{i + 1}. {show_seconds(t)}: {text}")
        for i, (t, text) in enumerate(outcome.log[:MARKED])
    ]


def html(title: str, runs: Sequence[tuple[str, Outcome]]) -> str:
    """One or several runs (name, outcome) as one self-contained page."""
    end = max((o.end_s for _, o in runs), default=1.0)
    body = [_comparison(runs)] if len(runs) > 1 else []
    for name, outcome in runs:
        body.append(
            f"<h2>{escape(name)}</h2><p><small>{escape(outcome.requests.source)}; seed "
            f"{outcome.setup.seed}; timing: {escape(outcome.setup.shape.timing.source)}</small></p>"
        )
        body.append(facts(rows_of(outcome)))
        marks = marks_of(outcome)
        body += [drawn(chart, end, marks) for chart in charts_of(outcome)]
        body.append(_log(outcome))
    return document(title, body)


def _log(outcome: Outcome) -> str:
    """What happened in words, by the numbers that stand above the charts."""
    rows = "".join(
        f'<tr><td class="n">{i + 1}</td><td class="n">{show_seconds(t)}</td><td>{escape(text)}</td></tr>'
        for i, (t, text) in enumerate(outcome.log[:LOGGED])
    )
    more = len(outcome.log) - LOGGED
    rest = f"<p><small>and {more:,} more</small></p>" if more > 0 else ""
    return f'<h3>What happened</h3><div class="wide"><table>{rows}</table></div>{rest}'


def _comparison(runs: Sequence[tuple[str, Outcome]]) -> str:
    all_rows = [dict(rows_of(o)) for _, o in runs]
    head = "".join(f"<th>{escape(name)}</th>" for name, _ in runs)
    keys = list(dict.fromkeys(k for rows in all_rows for k in rows))
    lines = "".join(
        f"<tr><th>{escape(k)}</th>"
        + "".join(f"<td>{escape(rows.get(k, ''))}</td>" for rows in all_rows)
        + "</tr>"
        for k in keys
    )
    return f'<div class="wide"><table><tr><th></th>{head}</tr>{lines}</table></div>'


def picture(outcome: Outcome) -> str:
    """All charts below each other as one SVG document, for docs."""
    return alone(charts_of(outcome), outcome.end_s, marks_of(outcome))


def markdown(runs: Sequence[tuple[str, Outcome]]) -> str:
    """The comparison as a Markdown table."""
    all_rows = [dict(rows_of(o)) for _, o in runs]
    keys = list(dict.fromkeys(k for rows in all_rows for k in rows))
    lines = ["| | " + " | ".join(name for name, _ in runs) + " |", "|---" * (len(runs) + 1) + "|"]
    lines += [f"| {k} | " + " | ".join(rows.get(k, "") for rows in all_rows) + " |" for k in keys]
    return "\n".join(lines) + "\n"


def shown_number(value: float | None) -> str:
    """For tables: three digits, or a dash."""
    return "-" if value is None or not math.isfinite(value) else number(value)

"""Line charts as SVG, and the shapes they are made of: enough for a simulation's report, nothing more.

Why: a report must be one file that opens anywhere, years later, so it draws its own charts.
Forbidden here: scripts, fonts or images from elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from seawall.domain.units import show_seconds

WIDTH, HEIGHT = 960, 170
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 26, 22
Scale = Callable[[float], float]
COLORS = ("#0b6bcb", "#c8501e", "#2f8f4e", "#7a52b3")


@dataclass(frozen=True)
class ChartLine:
    """One series: NaN breaks it. `step`: holds its value until the next point."""

    name: str
    values: Sequence[float]
    step: bool = False


@dataclass(frozen=True)
class Chart:
    """Series over one time axis. `limit` is drawn as a dashed line (an objective)."""

    title: str
    unit: str
    t: Sequence[float]
    lines: Sequence[ChartLine]
    limit: float | None = None
    limit_name: str = ""

    def top(self) -> float:
        """The axis' end: a round number above every finite value."""
        values = [v for line in self.lines for v in line.values if math.isfinite(v)]
        if self.limit is not None and values and self.limit < 3 * max(values):
            values.append(self.limit)
        return rounded_up(max(values, default=1.0) or 1.0)


def rounded_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next((m * power for m in (1, 2, 2.5, 5, 10) if m * power >= value * 0.999), 10 * power)


def time_ticks(end: float) -> list[float]:
    """Five to ten round moments of 0..end seconds."""
    for step in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400):
        if end / step <= 10:
            return [i * step for i in range(int(end / step) + 1)]
    return [0.0, end]


def number(value: float) -> str:
    """Three significant digits with thousands' separators."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def svg(chart: Chart, end: float, marks: Sequence[tuple[float, str]] = ()) -> str:
    """The chart as an SVG element. `marks` are events: (seconds, text shown on hover)."""
    top = chart.top()
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(t: float) -> float:
        return LEFT + wide * min(max(t / end, 0.0), 1.0) if end > 0 else LEFT

    def y(v: float) -> float:
        return TOP + high * (1 - min(max(v / top, 0.0), 1.0))

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="{escape(chart.title)}" xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" '
        f'font-size="11"><rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
    ]
    for share in (0.0, 0.5, 1.0):
        at = y(top * share)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>'
            f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end" fill="#555">{number(top * share)}</text>'
        )
    for t in time_ticks(end):
        label = show_seconds(t) if t else "0"
        parts.append(f'<text x="{x(t):.1f}" y="{HEIGHT - 6}" text-anchor="middle" fill="#555">{label}</text>')
    for t, text in marks:
        parts.append(
            f'<line x1="{x(t):.1f}" x2="{x(t):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#bbb" '
            f'stroke-dasharray="2 3"><title>{escape(text)}</title></line>'
        )
    if chart.limit is not None and chart.limit <= top:
        at = y(chart.limit)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#b00020" '
            f'stroke-dasharray="6 4"><title>{escape(chart.limit_name)}</title></line>'
        )
    legend = LEFT + 8.0 * len(chart.title) + 40
    parts.append(
        f'<text x="{LEFT}" y="16" font-weight="bold" fill="#222">{escape(chart.title)} '
        f'<tspan font-weight="normal" fill="#777">{escape(chart.unit)}</tspan></text>'
    )
    for i, line in enumerate(chart.lines):
        color = COLORS[i % len(COLORS)]
        parts.append(
            f'<path d="{path(chart.t, line, x, y)}" fill="none" stroke="{color}" stroke-width="1.6"/>'
        )
        parts.append(
            f'<rect x="{legend:.0f}" y="8" width="12" height="8" fill="{color}"/>'
            f'<text x="{legend + 16:.0f}" y="16" fill="#444">{escape(line.name)}</text>'
        )
        legend += 30 + 6.6 * len(line.name)
    parts.append("</svg>")
    return "".join(parts)


def path(t: Sequence[float], line: ChartLine, x: Scale, y: Scale) -> str:
    """SVG path data; gaps where values are NaN."""
    out: list[str] = []
    pen_up = True
    before = 0.0
    for at, value in zip(t, line.values, strict=False):
        if not math.isfinite(value):
            pen_up = True
            continue
        if pen_up:
            out.append(f"M{x(at):.1f} {y(value):.1f}")
        elif line.step:
            out.append(f"L{x(at):.1f} {y(before):.1f}L{x(at):.1f} {y(value):.1f}")
        else:
            out.append(f"L{x(at):.1f} {y(value):.1f}")
        before, pen_up = value, False
    return "".join(out)

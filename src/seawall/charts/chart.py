"""What a chart shows: series, dots, bars in lanes, an objective, and what happened, over one axis. How it looks is in
`draw.py` (SVG) and `image.py` (PNG).

Why our own: a report must be one file that opens anywhere, years later, without a script. Forbidden here: drawing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from seawall.domain.units import show_seconds

ShowValue = Callable[[float], str]
ROUND = (1, 2, 2.5, 5, 10)
"""Steps of an axis, times a power of ten."""
ENDS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
"""Where an axis may end."""
TIME_STEPS = (
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    14400,
    43200,
    86400,
)


def number(value: float) -> str:
    """Three significant digits with thousands' separators."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def moment(seconds: float) -> str:
    """A time on an axis."""
    return show_seconds(seconds) if seconds else "0"


def share(value: float) -> str:
    """A part of one as a percentage."""
    return f"{value * 100:.4g}%"


@dataclass(frozen=True)
class ChartLine:
    """One series: NaN breaks it. `step`: holds its value until the next point."""

    name: str
    values: Sequence[float]
    step: bool = False


@dataclass(frozen=True)
class Dots:
    """Single points, (x, y); without y (NaN): a tick on the axis."""

    name: str
    points: Sequence[tuple[float, float]]
    bad: bool = False


@dataclass(frozen=True)
class ChartMark:
    """An upright line where something happened, with its label; `note`: what hovering tells."""

    at: float
    label: str
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """Series over one axis. `limit` is drawn as a dashed, labelled line (an objective)."""

    title: str
    unit: str
    t: Sequence[float]
    lines: Sequence[ChartLine]
    limit: float | None = None
    limit_name: str = ""
    dots: Sequence[Dots] = ()
    show: ShowValue = number
    """A value on the upright axis."""
    x_name: str = "time since the start"
    x_show: ShowValue = moment
    counts: bool = False
    """Whole numbers are shown: no step is smaller than one."""
    whole: float | None = None
    """The upright axis' end, where it is fixed (1 for shares)."""

    def top(self) -> float:
        """The upright axis' end: a round number above every finite value."""
        if self.whole is not None:
            return self.whole
        values = [v for line in self.lines for v in line.values if math.isfinite(v)]
        values += [y for dots in self.dots for _, y in dots.points if math.isfinite(y)]
        if self.limit is not None and values and self.limit < 3 * max(values):
            values.append(self.limit)
        return rounded_up(max(values, default=1.0) or 1.0)


def rounded_up(value: float, ends: Sequence[float] = ENDS) -> float:
    """The next of `ends` times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next((m * power for m in ends if m * power >= value * 0.999), 10 * power)


def ticks(top: float, most: int = 5) -> list[float]:
    """Round values from 0 to `top`, at most `most` steps."""
    step = rounded_up(top / most, ROUND)
    return [i * step for i in range(int(top / step + 1e-9) + 1)]


def y_ticks(chart: Chart) -> list[float]:
    """Where the upright axis is labelled: times by round minutes and hours, counts by whole numbers."""
    top = chart.top()
    if chart.show is moment and top > 10:
        step = next((s for s in TIME_STEPS if top / s <= 6), top / 6)
        return [i * step for i in range(int(top / step + 1e-9) + 1)]
    if chart.counts and top < 5:
        return [float(i) for i in range(int(top) + 1)]
    return ticks(top)


def time_ticks(end: float) -> list[float]:
    """Five to ten round moments of 0..end seconds."""
    for step in TIME_STEPS:
        if end / step <= 10:
            return [i * step for i in range(int(end / step + 1e-9) + 1)]
    return [0.0, end]


def x_ticks(chart: Chart, end: float) -> list[float]:
    """Where the lying axis is labelled."""
    return time_ticks(end) if chart.x_show is moment else ticks(end, 8)

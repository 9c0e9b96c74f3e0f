"""Charts as a PNG that fits a slide: 1920 x 1080, two columns, drawn by matplotlib (the extra `pictures`).

Forbidden here: deciding what a chart shows.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from typing import Any

from seawall.charts.chart import Chart, ChartMark, x_ticks, y_ticks
from seawall.charts.draw import PALETTE
from seawall.errors import InputError

INCHES, DPI = (16.0, 9.0), 120
TOLD = 8
"""Events that are told in words below the charts."""
WIDE, LABELS = 190, 12
"""Letters of a line of them; points that their labels are high."""
LETTER, SHARED = 0.008, 12
"""A label's letter as a share of a chart's width; letters that a shared label is long."""
SERIES = ("c1", "c2", "c3", "c4")
FACE = {name: pair[0] for name, pair in PALETTE.items()}


def needed() -> None:
    """InputError where the plotting library is missing: before the work that is to be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise InputError(
            "PNG is drawn by matplotlib, which is not installed.",
            "Install it: pip install 'seawall[pictures]', or write --svg or --html.",
        ) from None


def png(title: str, charts: Sequence[Chart], end: float, marks: Sequence[ChartMark] = ()) -> bytes:
    """All charts on one slide."""
    needed()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=INCHES, dpi=DPI, layout="constrained", facecolor=FACE["paper"])
    figure.suptitle(title, fontsize=18, color=FACE["ink"])
    rows = -(-len(charts) // 2)
    for i, chart in enumerate(charts):
        _draw(figure.add_subplot(rows, min(2, len(charts)), i + 1), chart, end, marks)
    if marks:
        figure.supxlabel("\n".join(told(marks)), fontsize=9, color=FACE["faint"])
    out = io.BytesIO()
    canvas: Any = FigureCanvasAgg(figure)
    canvas.print_png(out)
    return out.getvalue()


def told(marks: Sequence[ChartMark]) -> list[str]:
    """The first events in words, as lines that break between two events where they can."""
    words = [(mark.note or mark.label).replace(" ", "\xa0") for mark in marks[:TOLD]]
    return [line.replace("\xa0", " ") for line in textwrap.wrap("\xa0· ".join(words), WIDE)]


def labels(marks: Sequence[ChartMark], end: float) -> list[tuple[float, str]]:
    """(where, text) of the events' labels; those that would lie on each other share one."""
    found: list[tuple[float, str]] = []
    free = -math.inf
    for mark in sorted((m for m in marks if m.label), key=lambda m: m.at):
        if mark.at < free:
            at, text = found.pop()
            found.append((at, f"{text}, {mark.label}" if len(text) < SHARED else text))
        else:
            found.append((mark.at, mark.label))
        at, text = found[-1]
        free = at + end * LETTER * (2 + len(text))
    return found


def _draw(axes: Any, chart: Chart, end: float, marks: Sequence[ChartMark]) -> None:
    top = chart.top()
    axes.set_title(chart.title, loc="left", fontsize=13, color=FACE["ink"], pad=22 + (LABELS if marks else 0))
    for i, line in enumerate(chart.lines):
        style = "steps-post" if line.step else "default"
        colour = FACE[SERIES[i % 4]]
        axes.plot(chart.t, line.values, drawstyle=style, color=colour, label=line.name, linewidth=1.8)
    for i, dots in enumerate(chart.dots):
        colour = FACE["bad" if dots.bad else SERIES[(len(chart.lines) + i) % 4]]
        points = [(t, v if math.isfinite(v) else 0.0) for t, v in dots.points]
        if points:
            axes.scatter(*zip(*points, strict=True), s=6, alpha=0.5, color=colour, label=dots.name)
    for mark in marks:
        axes.axvline(mark.at, color=FACE["faint"], linewidth=0.7, linestyle=(0, (2, 3)))
    for where, text in labels(marks, end):  # above the plot: they cover nothing
        place = {"xycoords": ("data", "axes fraction"), "ha": "center", "va": "bottom", "fontsize": 9}
        axes.annotate(text, (where, 1.0), color=FACE["faint"], **place)
    if chart.limit is not None and chart.limit <= top:
        axes.axhline(chart.limit, color=FACE["bad"], linewidth=1.2, linestyle=(0, (6, 4)))
        axes.annotate(
            chart.limit_name, (1.0, chart.limit), xycoords=("axes fraction", "data"), ha="right",
            va="top" if chart.limit > 0.9 * top else "bottom",
            fontsize=10, color=FACE["bad"],
        )  # fmt: skip
    axes.set_xlim(0, end)
    axes.set_ylim(0, top * 1.02)
    at = x_ticks(chart, end)
    axes.set_xticks(at, [chart.x_show(t) for t in at])
    upright = y_ticks(chart)
    axes.set_yticks(upright, [chart.show(value) for value in upright])
    axes.set_xlabel(chart.x_name, fontsize=10, color=FACE["faint"])
    axes.set_ylabel(chart.unit, fontsize=10, color=FACE["faint"])
    axes.grid(axis="y", color=FACE["line"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=10, colors=FACE["faint"])
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if len(chart.lines) + len(chart.dots):
        # Above the plot and the events' labels: it covers nothing.
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            ncols=4,
            frameon=False,
            fontsize=10,
            borderaxespad=1.3 if marks else 0.2,
        )

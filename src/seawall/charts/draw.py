"""Charts as SVG, for a page (its style sheet gives the colours) or as a picture of their own.

A legend has a row of its own and covers nothing; labels that would overlap are left out, and hovering tells them all.
Forbidden here: scripts, fonts or images from elsewhere; deciding what a chart shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape

from seawall.charts.chart import Chart, ChartLine, ChartMark, x_ticks, y_ticks

WIDTH, HEIGHT = 960, 230
LEFT, RIGHT, BOTTOM = 66, 18, 40
TITLE, ROW, LABELS = 22, 18, 16
LETTER = 6.6
"""Pixels of a letter, about: nobody measures text here."""
DOTS = 4000
LANES, FEW = 3, 8
Scale = Callable[[float], float]
PALETTE = {
    "paper": ("#ffffff", "#10161c"), "ink": ("#17212b", "#e4eaf0"), "faint": ("#5a6875", "#9fadba"),
    "line": ("#d5dce3", "#2c3945"), "good": ("#1b7a3d", "#6fcf8b"), "bad": ("#b3261e", "#ff8a80"),
    "warn": ("#d08a00", "#e3b341"), "c1": ("#0b6bcb", "#62aefc"), "c2": ("#c8501e", "#f0915f"),
    "c3": ("#2f8f4e", "#71cf8e"), "c4": ("#7a52b3", "#b795ea"),
}  # fmt: skip
"""Name -> the colour by day and by night."""


def variables(night: int) -> str:
    """The palette as CSS."""
    return "".join(f"--{name}:{pair[night]};" for name, pair in PALETTE.items())


STYLE = (
    f":root{{color-scheme:light dark;{variables(0)}}}@media(prefers-color-scheme:dark){{:root{{{variables(1)}}}}}"
    ".chart{font:11px system-ui,sans-serif;background:var(--paper)}.chart text{fill:var(--faint);"
    "paint-order:stroke;stroke:var(--paper);stroke-width:3px;stroke-linejoin:round}"
    ".chart .t{fill:var(--ink);font-weight:600;font-size:13px}.chart .g{stroke:var(--line)}"
    ".chart .m{stroke:var(--faint);stroke-dasharray:2 3}.chart .l{fill:none;stroke-width:1.8}"
    ".chart .o{stroke:var(--bad);stroke-dasharray:6 4}.chart text.ot{fill:var(--bad)}"
    ".s1{stroke:var(--c1)}.s2{stroke:var(--c2)}.s3{stroke:var(--c3)}.s4{stroke:var(--c4)}"
    ".f1{fill:var(--c1)}.f2{fill:var(--c2)}.f3{fill:var(--c3)}.f4{fill:var(--c4)}"
    ".fb{fill:var(--bad)}.fg{fill:var(--good)}.fw{fill:var(--warn)}.ff{fill:var(--faint)}.fl{fill:var(--line)}"
)
"""What an SVG of this room needs; a page has it once."""


def height(chart: Chart) -> int:
    """Pixels that a chart is high: its legend may need rows."""
    return HEIGHT + ROW * (len(_legend(chart)) - 1)


def svg(chart: Chart, end: float, marks: Sequence[ChartMark] = (), start: float = 0.0) -> str:
    """The chart as an SVG element over start..end of its lying axis."""
    rows = _legend(chart)
    whole = height(chart)
    top, span = chart.top(), max(end - start, 1e-9)
    wide = WIDTH - LEFT - RIGHT

    def x(t: float) -> float:
        return LEFT + wide * min(max((t - start) / span, 0.0), 1.0)

    labels, lanes = _labels(marks, x)
    top_px = TITLE + ROW * len(rows) + LABELS * lanes
    high = whole - top_px - BOTTOM

    def y(v: float) -> float:
        return top_px + high * (1 - min(max(v / top, 0.0), 1.0))

    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {whole}" width="{WIDTH}" height="{whole}" role="img" '
        f'aria-label="{escape(chart.title)}" xmlns="http://www.w3.org/2000/svg">'
        f'<text class="t" x="{LEFT}" y="16">{escape(chart.title)}</text>',
        *_legend_rows(rows),
        *_upright(chart, y, top),
        *_lying(chart, x, y(0), start, end),
        *_marks(marks, x, top_px, y(0)),
        *(
            f'<text x="{at:.1f}" y="{top_px - 4 - LABELS * lane}">{escape(text)}</text>'
            for at, lane, text in labels
        ),
        *_dots(chart, x, y),
        *(
            f'<path class="l s{1 + i % 4}" d="{path(chart.t, line, x, y)}"/>'
            for i, line in enumerate(chart.lines)
        ),
        *_objective(chart, top, y),
    ]
    return "".join([*parts, "</svg>"])


def alone(charts: Sequence[Chart], end: float, marks: Sequence[ChartMark] = ()) -> str:
    """All charts below each other as one SVG document, by day and by night."""
    down, inner = 0, []
    for chart in charts:
        inner.append(f'<g transform="translate(0 {down})">{svg(chart, end, marks)}</g>')
        down += height(chart)
    size = f'width="{WIDTH}" height="{down}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {down}" {size}><style>{STYLE}</style>'
        f'<rect {size} style="fill:var(--paper)"/>{"".join(inner)}</svg>\n'
    )


def _names(chart: Chart) -> list[tuple[str, str]]:
    """(class of the swatch, name) of everything that a legend explains."""
    lines = [(f"f{1 + i % 4}", line.name) for i, line in enumerate(chart.lines)]
    dots = [
        ("fb" if d.bad else f"f{1 + (len(lines) + i) % 4}", d.name)
        for i, d in enumerate(chart.dots)
        if d.points
    ]
    return lines + dots


def _legend(chart: Chart) -> list[list[tuple[str, str]]]:
    """The legend in rows that fit."""
    rows: list[list[tuple[str, str]]] = [[]]
    used = 0.0
    for entry in _names(chart):
        needs = 34 + LETTER * len(entry[1])
        if rows[-1] and used + needs > WIDTH - LEFT - RIGHT:
            rows.append([])
            used = 0.0
        rows[-1].append(entry)
        used += needs
    return rows


def _legend_rows(rows: Sequence[Sequence[tuple[str, str]]]) -> Iterable[str]:
    for i, row in enumerate(rows):
        at, down = float(LEFT), TITLE + ROW * i
        for swatch, name in row:
            yield f'<rect class="{swatch}" x="{at:.0f}" y="{down + 4}" width="12" height="8"/>'
            yield f'<text x="{at + 17:.0f}" y="{down + 12}">{escape(name)}</text>'
            at += 34 + LETTER * len(name)


def _upright(chart: Chart, y: Scale, top: float) -> Iterable[str]:
    for value in y_ticks(chart):
        yield (
            f'<line class="g" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
            f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{escape(chart.show(value))}</text>'
        )
    if chart.unit:
        middle = (y(0) + y(top)) / 2
        yield (
            f'<text x="12" y="{middle:.0f}" text-anchor="middle" transform="rotate(-90 12 {middle:.0f})">'
            f"{escape(chart.unit)}</text>"
        )


def _lying(chart: Chart, x: Scale, floor: float, start: float, end: float) -> Iterable[str]:
    for t in x_ticks(chart, end - start):
        at = x(start + t)
        yield f'<line class="g" x1="{at:.1f}" x2="{at:.1f}" y1="{floor:.1f}" y2="{floor + 4:.1f}"/>'
        yield f'<text x="{at:.1f}" y="{floor + 16:.1f}" text-anchor="middle">{escape(chart.x_show(t))}</text>'
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    yield f'<text x="{middle:.0f}" y="{floor + 32:.1f}" text-anchor="middle">{escape(chart.x_name)}</text>'


def _labels(marks: Sequence[ChartMark], x: Scale) -> tuple[list[tuple[float, int, str]], int]:
    """Where labels stand, none in another: (left end, lane, text), and how many lanes they take. Few marks may take
    LANES of them, many one; what finds no place is left out."""
    most = LANES if len(marks) <= FEW else 1
    free: list[float] = []
    placed = []
    for mark in sorted(marks, key=lambda m: m.at):
        needs = LETTER * len(mark.label) + 6
        begins = min(x(mark.at) - needs / 2, WIDTH - needs)
        lane = next((i for i, until in enumerate(free) if begins >= until), len(free))
        if mark.label and lane < most:
            free[lane : lane + 1] = [begins + needs]
            placed.append((begins + 3, lane, mark.label))
    return placed, len(free)


def _marks(marks: Sequence[ChartMark], x: Scale, top: float, floor: float) -> Iterable[str]:
    for mark in marks:
        line = f'x1="{x(mark.at):.1f}" x2="{x(mark.at):.1f}" y1="{top:.1f}" y2="{floor:.1f}"'
        yield f'<line class="m" {line}><title>{escape(mark.note or mark.label)}</title></line>'


def _dots(chart: Chart, x: Scale, y: Scale) -> Iterable[str]:
    for i, dots in enumerate(chart.dots):
        kind = "fb" if dots.bad else f"f{1 + (len(chart.lines) + i) % 4}"
        shown = dots.points[:: max(1, -(-len(dots.points) // DOTS))]
        for t, v in shown:
            if math.isfinite(v):
                yield f'<circle class="{kind}" cx="{x(t):.1f}" cy="{y(v):.1f}" r="1.7" fill-opacity=".55"/>'
            else:
                yield f'<rect class="{kind}" x="{x(t) - 0.75:.1f}" y="{y(0) - 7:.1f}" width="1.5" height="7"/>'


def _objective(chart: Chart, top: float, y: Scale) -> Iterable[str]:
    if chart.limit is None or chart.limit > top:
        return
    at, name = y(chart.limit), chart.limit_name or chart.show(chart.limit)
    below = at < y(top) + 12
    yield f'<line class="o" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
    yield (
        f'<text class="ot" x="{WIDTH - RIGHT - 4}" y="{at + (13 if below else -4):.1f}" text-anchor="end">'
        f"{escape(name)}</text>"
    )


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

"""The same charts as a PNG: for docs and chats that show no SVG. Own strokes for letters, no library, no font file.

Forbidden here: deciding what a chart shows: `charts.py` does.
"""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seawall.domain.units import show_seconds
from seawall.sim.charts import (
    BOTTOM,
    COLORS,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Chart,
    number,
    time_ticks,
)

SCALE = 2
"""Pixels per unit of the SVG."""

# Strokes on a grid of 5 x 7 points: "xy,xy,..." is one line, a space lifts the pen.
_GLYPHS = {
    "A": "06,02,20,42,46 04,44",
    "B": "00,06,36,45,44,33,03 33,42,41,30,00",
    "C": "41,30,10,01,05,16,36,45",
    "D": "00,06,26,44,42,20,00",
    "E": "40,00,06,46 03,33",
    "F": "40,00,06 03,33",
    "G": "41,30,10,01,05,16,36,45,43,23",
    "H": "00,06 40,46 03,43",
    "I": "10,30 20,26 16,36",
    "J": "40,45,36,16,05",
    "K": "00,06 40,03,46",
    "L": "00,06,46",
    "M": "06,00,23,40,46",
    "N": "06,00,46,40",
    "O": "10,01,05,16,36,45,41,30,10",
    "P": "06,00,30,41,42,33,03",
    "Q": "10,01,05,16,36,45,41,30,10 34,46",
    "R": "06,00,30,41,42,33,03 23,46",
    "S": "41,30,10,01,02,13,33,44,45,36,16,05",
    "T": "00,40 20,26",
    "U": "00,05,16,36,45,40",
    "V": "00,26,40",
    "W": "00,16,23,36,40",
    "X": "00,46 40,06",
    "Y": "00,23,40 23,26",
    "Z": "00,40,06,46",
    "0": "10,01,05,16,36,45,41,30,10",
    "1": "11,20,26 16,36",
    "2": "01,10,30,41,42,06,46",
    "3": "00,40,23,33,44,45,36,16,05",
    "4": "36,30,04,44",
    "5": "40,00,03,33,44,45,36,06",
    "6": "40,20,02,05,16,36,45,44,33,03",
    "7": "00,40,16",
    "8": "10,01,02,13,33,42,41,30,10 13,04,05,16,36,45,44,33",
    "9": "06,26,44,41,30,10,01,02,13,43",
    ".": "25,26",
    ",": "35,27,18",
    "-": "13,33",
    "/": "06,40",
    ":": "21,22 24,25",
    "%": "06,40 00,11 35,46",
    "$": "41,30,10,01,02,13,33,44,45,36,16,05 20,26",
    "(": "30,12,14,36",
    ")": "10,32,34,16",
}


class Canvas:
    """RGB pixels; coordinates are the SVG's."""

    def __init__(self, width: int, height: int) -> None:
        self.pixels: NDArray[np.uint8] = np.full((height * SCALE, width * SCALE, 3), 255, np.uint8)

    def line(
        self, x0: float, y0: float, x1: float, y1: float, color: str, wide: int = 1, dash: int = 0
    ) -> None:
        steps = int(max(abs(x1 - x0), abs(y1 - y0)) * SCALE) + 1
        share = np.linspace(0.0, 1.0, steps + 1)
        if dash:
            share = share[(np.arange(steps + 1) // (dash * SCALE)) % 2 == 0]
        xs = np.rint((x0 + (x1 - x0) * share) * SCALE).astype(int)
        ys = np.rint((y0 + (y1 - y0) * share) * SCALE).astype(int)
        rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)], np.uint8)
        high, broad = self.pixels.shape[:2]
        for dx in range(wide):
            for dy in range(wide):
                px, py = xs + dx - wide // 2, ys + dy - wide // 2
                inside = (px >= 0) & (px < broad) & (py >= 0) & (py < high)
                self.pixels[py[inside], px[inside]] = rgb

    def text(self, x: float, y: float, text: str, color: str, align: str = "start") -> float:
        """Draws at the baseline; -> where it ends. Letters without a glyph are a space."""
        size, advance = 1.2, 7.2
        wide = advance * len(text)
        at = x - (wide if align == "end" else wide / 2 if align == "middle" else 0)
        for letter in text.upper():
            for stroke in _GLYPHS.get(letter, "").split():
                points = [(at + int(p[0]) * size, y - 6 * size + int(p[1]) * size) for p in stroke.split(",")]
                for (ax, ay), (bx, by) in itertools.pairwise(points):
                    self.line(ax, ay, bx, by, color)
            at += advance
        return at

    def png(self) -> bytes:
        high, broad = self.pixels.shape[:2]
        rows = np.concatenate([np.zeros((high, 1), np.uint8), self.pixels.reshape(high, -1)], axis=1)

        def chunk(kind: bytes, body: bytes) -> bytes:
            return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

        head = struct.pack(">IIBBBBB", broad, high, 8, 2, 0, 0, 0)
        data = zlib.compress(rows.tobytes(), 9)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def png(charts: Sequence[Chart], end: float) -> bytes:
    """All charts above each other as one PNG."""
    canvas = Canvas(WIDTH, HEIGHT * len(charts))
    for i, chart in enumerate(charts):
        _draw(canvas, chart, end, i * HEIGHT)
    return canvas.png()


def _draw(canvas: Canvas, chart: Chart, end: float, down: float) -> None:
    top = chart.top()
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(t: float) -> float:
        return LEFT + wide * min(max(t / end, 0.0), 1.0) if end > 0 else LEFT

    def y(v: float) -> float:
        return down + TOP + high * (1 - min(max(v / top, 0.0), 1.0))

    for share in (0.0, 0.5, 1.0):
        at = y(top * share)
        canvas.line(LEFT, at, WIDTH - RIGHT, at, "#dddddd")
        canvas.text(LEFT - 6, at + 4, number(top * share), "#555555", "end")
    for t in time_ticks(end):
        label = show_seconds(t) if t else "0"
        canvas.text(min(x(t), WIDTH - 40), down + HEIGHT - 6, label, "#555555", "middle")
    if chart.limit is not None and chart.limit <= top:
        canvas.line(LEFT, y(chart.limit), WIDTH - RIGHT, y(chart.limit), "#b00020", dash=5)
    at = canvas.text(LEFT, down + 16, f"{chart.title} {chart.unit}".strip(), "#222222") + 24
    for i, series in enumerate(chart.lines):
        color = COLORS[i % len(COLORS)]
        canvas.line(at, down + 12, at + 12, down + 12, color, wide=5)
        at = canvas.text(at + 18, down + 16, series.name, "#444444") + 16
        before: tuple[float, float] | None = None
        for t, value in zip(chart.t, series.values, strict=False):
            if not math.isfinite(value):
                before = None
                continue
            point = (x(t), y(value))
            if before is not None and series.step:
                canvas.line(*before, point[0], before[1], color, wide=2)
                canvas.line(point[0], before[1], *point, color, wide=2)
            elif before is not None:
                canvas.line(*before, *point, color, wide=2)
            before = point

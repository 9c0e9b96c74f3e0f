"""One fleet's numbers over the last hour, for charts: fixed memory, whatever happens. No I/O, no clock."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

from seawall.console.sight import ConsoleFleet
from seawall.domain.told import TPOT_BOUNDS_S, TTFT_BOUNDS_S, FleetState

STEP_S = 2.0
"""Between two points."""
POINTS = 1800
COLUMNS = (
    "ready", "wanted", "queued", "in_flight", "finished", "failed", "rejected", "resumed", "tokens",
    "ttft_p50", "ttft_p95", "tpot_p50", "tpot_p95", "kv",
)  # fmt: skip
"""Gauges, rates per second (`finished` to `tokens`), seconds, and the mean share of the KV cache."""
WINDOW = 5
"""Points over which a quantile is taken: one point of a quiet fleet holds a request or none."""


class Trend:
    """A ring of points, oldest first; NaN: not known."""

    def __init__(self) -> None:
        self.times = array("d")
        self._columns = {name: array("f") for name in COLUMNS}
        self._before: FleetState | None = None
        self._counts: list[tuple[list[int], list[int]]] = []

    def add(self, at: float, fleet: ConsoleFleet, kv_use: float | None) -> None:
        """One point, at least STEP_S after the one before; `at` in Unix seconds."""
        now, before = fleet.told, self._before
        self._before = now
        self._counts = [*self._counts[-WINDOW:], (now.ttft_counts, now.tpot_counts)]
        ttft, tpot = self._counts[0]
        bounds = ((TTFT_BOUNDS_S, ttft, now.ttft_counts), (TPOT_BOUNDS_S, tpot, now.tpot_counts))
        times = [quantile(q, b, since(old, new)) for b, old, new in bounds for q in (0.5, 0.95)]
        span = max(at - self.times[-1], 0.1) if self.times else STEP_S

        def rate(name: str) -> float:
            past = now if before is None else before
            return max(0, int(getattr(now, name)) - int(getattr(past, name))) / span

        row = (
            fleet.ready,
            math.nan if fleet.wanted is None else fleet.wanted,
            now.queued,
            now.in_flight,
            *map(
                rate,
                ("finished_total", "failed_total", "rejected_total", "resumed_total", "tokens_out_total"),
            ),
            *times,
            math.nan if kv_use is None else kv_use,
        )
        if len(self.times) >= POINTS:
            del self.times[: -POINTS + 1]
            for column in self._columns.values():
                del column[: -POINTS + 1]
        self.times.append(at)
        for column, value in zip(self._columns.values(), row, strict=True):
            column.append(value)

    def after(self, at: float) -> dict[str, list[float | None]]:
        """The points later than `at`, as lists by column; `t` holds their times."""
        first = next((i for i in range(len(self.times), 0, -1) if self.times[i - 1] <= at), 0)
        shown: dict[str, list[float | None]] = {"t": [round(t, 1) for t in self.times[first:]]}
        for name, column in self._columns.items():
            shown[name] = [None if math.isnan(v) else float(f"{v:.4g}") for v in column[first:]]
        return shown


def since(old: Sequence[int], new: Sequence[int]) -> list[int]:
    """Counts by bucket that were added; a gateway that has started anew has only new ones."""
    if len(old) != len(new) or any(o > n for o, n in zip(old, new, strict=True)):
        return list(new)
    return [n - o for o, n in zip(old, new, strict=True)]


def quantile(q: float, bounds: Sequence[float], counts: Sequence[int]) -> float:
    """An estimate from counts by bucket, as PromQL's histogram_quantile makes it. NaN: nothing counted."""
    whole = sum(counts)
    if not whole or len(counts) != len(bounds) + 1:
        return math.nan
    rank, running = q * whole, 0
    for i, count in enumerate(counts):
        if count and running + count >= rank:
            if i == len(bounds):
                return bounds[-1]
            low = bounds[i - 1] if i else 0.0
            return low + (bounds[i] - low) * (rank - running) / count
        running += count
    return bounds[-1]

"""A fleet's past, boiled down: every signal of a window as its median, 95th percentile and maximum.

Forbidden here: asking, and PromQL. `engines/vllm/history.py` knows the questions, `drivers/prometheus.py` asks them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Points = list[tuple[float, float]]
"""(unix seconds, value), finite values only."""


@dataclass(frozen=True, kw_only=True)
class SignalSummary:
    """One signal over the window."""

    p50: float
    p95: float
    max: float
    samples: int


@dataclass(frozen=True, kw_only=True)
class History:
    """The whole fleet's signals over a window; None where Prometheus had no finite sample.

    Counts are requests, rates are per second, latencies seconds, shares 0..1 unless said.
    """

    window_s: float
    step_s: float
    replicas: SignalSummary | None = None
    demand: SignalSummary | None = None
    """Requests running plus waiting."""
    running: SignalSummary | None = None
    waiting: SignalSummary | None = None
    waiting_for_capacity: SignalSummary | None = None
    kv_usage: SignalSummary | None = None
    """Mean over replicas of kv_cache_usage_perc (1 = full)."""
    kv_usage_worst: SignalSummary | None = None
    """KV cache use of the fullest replica."""
    preemptions: SignalSummary | None = None
    rejections: SignalSummary | None = None
    ttft_p95: SignalSummary | None = None
    tpot_p95: SignalSummary | None = None
    requests: SignalSummary | None = None
    """Finished requests per second."""
    prompt_tokens: SignalSummary | None = None
    generation_tokens: SignalSummary | None = None
    gpu_util: SignalSummary | None = None
    """Percent."""
    gpu_memory_mib: SignalSummary | None = None
    """Per GPU. Constant by design (vLLM takes its share at the start): shown, never judged by."""
    gpu_power_w: SignalSummary | None = None
    """Watts of all the fleet's GPUs together."""
    dram_active: SignalSummary | None = None

    @property
    def expected(self) -> int:
        """Samples of a window without gaps."""
        return max(1, int(self.window_s / self.step_s))

    @property
    def prompt_mean(self) -> float | None:
        """Tokens of a usual prompt."""
        return _ratio(self.prompt_tokens, self.requests)

    @property
    def output_mean(self) -> float | None:
        """Tokens of a usual answer."""
        return _ratio(self.generation_tokens, self.requests)


def summarise(series: Mapping[str, Iterable[tuple[float, float]]], window_s: float, step_s: float) -> History:
    """Signals -> History. NaN and infinity (a histogram without requests) are no samples."""
    known = set(History.__dataclass_fields__) - {"window_s", "step_s"}
    found = {name: _summary(points) for name, points in series.items() if name in known}
    return History(window_s=window_s, step_s=step_s, **found)


def _summary(points: Iterable[tuple[float, float]]) -> SignalSummary | None:
    values = sorted(v for _, v in points if math.isfinite(v))
    if not values:
        return None
    return SignalSummary(
        p50=_quantile(values, 0.5), p95=_quantile(values, 0.95), max=values[-1], samples=len(values)
    )


def _quantile(ordered: list[float], q: float) -> float:
    """The quantile by nearest rank."""
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


def _ratio(over: SignalSummary | None, under: SignalSummary | None) -> float | None:
    return over.p50 / under.p50 if over and under and under.p50 > 0 else None

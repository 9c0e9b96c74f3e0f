"""What a simulation says: latencies, losses, replicas over time, hours and dollars.

Forbidden here: running the simulation, printing. Times are seconds, NaN where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seawall.sim.setup import Counts, Setup
from seawall.sim.trial import TrialStanding
from seawall.workload.arrivals import Floats, Requests

DONE, REJECTED, EXPIRED, CANCELLED, REFUSED, LOST, OPEN = 1, 2, 3, 4, 5, 6, 0
STATUS = ("open", "done", "rejected", "expired", "cancelled", "refused", "lost")


@dataclass
class Series:
    """One sample per bucket."""

    t: list[float] = field(default_factory=list)
    queued: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    running: list[int] = field(default_factory=list)
    wanted: list[int] = field(default_factory=list)
    ready: list[int] = field(default_factory=list)
    usd_per_h: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class LoggedDecision:
    """One entry of the decision log, as the local mode writes it too."""

    t: float
    kind: str
    decision: int
    reason: str


@dataclass
class Outcome:
    """Everything a run gives; `summary` is what people and `--json` read."""

    setup: Setup
    requests: Requests
    counts: Counts
    first: Floats
    finish: Floats
    status: NDArray[np.int8]
    series: Series
    decisions: list[LoggedDecision]
    log: list[tuple[float, str]]
    end_s: float
    events: int
    node_hours: tuple[float, float]
    ready_hours: float
    busy_hours: float
    peak_queue: int
    canary: TrialStanding | None = None
    """The last canary's end, or where it stood when the run ended."""

    @property
    def ttft(self) -> Floats:
        """Per request, from arrival to first token; NaN without one."""
        return self.first - self.requests.arrival

    @property
    def tpot(self) -> Floats:
        """Per finished request, mean time per output token after the first."""
        spans = np.maximum(self.requests.output - 1, 1)
        return (self.finish - self.first) / spans

    @property
    def e2e(self) -> Floats:
        return self.finish - self.requests.arrival

    @property
    def gpu_hours(self) -> float:
        return sum(self.node_hours) * max(1, self.setup.plan.gpus_per_replica)

    @property
    def usd(self) -> float | None:
        """Dollars for the nodes' time; None without a price."""
        from seawall.sim.setup import SPOT_PRICE

        price = self.setup.plan.usd_per_hour
        return None if price is None else price * (self.node_hours[0] + SPOT_PRICE * self.node_hours[1])

    def good(self) -> NDArray[np.bool_]:
        """Requests that finished within both latency objectives."""
        slo = self.setup.fleet.spec.traffic.slo
        with np.errstate(invalid="ignore"):
            good: NDArray[np.bool_] = (
                (self.status == DONE) & (self.ttft <= slo.ttft) & (self.tpot <= slo.tpot)
            )
        return good

    def summary(self) -> dict[str, Any]:
        """The answers, JSON-able."""
        done = self.status == DONE
        tokens = int(self.requests.output[done].sum())
        served = int(done.sum())
        asked = max(1, len(self.requests) - self.counts.refused)
        good = int(self.good().sum())
        span = max(self.end_s, 1e-9)
        usd = self.usd
        counts = asdict(self.counts)
        return {
            "policy": self.setup.recipe,
            "source": self.requests.source,
            "duration_s": round(self.end_s, 3),
            "requests": counts,
            "lost_share": self.counts.lost / asked,
            "ttft_s": percentiles(self.ttft[done]),
            "tpot_s": percentiles(self.tpot[done & (self.requests.output > 1)]),
            "e2e_s": percentiles(self.e2e[done]),
            "slo_attainment": good / asked,
            "goodput_per_s": good / span,
            "throughput_per_s": served / span,
            "output_tokens_per_s": tokens / span,
            "replicas": {
                "most": max(self.series.wanted, default=0),
                "least": min(self.series.wanted, default=0),
                "mean_ready": round(self.ready_hours * 3600 / span, 3),
            },
            "gpu_hours": round(self.gpu_hours, 4),
            "usd": None if usd is None else round(usd, 4),
            "usd_per_million_output_tokens": None if usd is None or not tokens else usd / tokens * 1e6,
            "utilisation": self.busy_hours / self.ready_hours if self.ready_hours > 0 else 0.0,
            "longest_queue": self.peak_queue,
            "canary": None if self.canary is None else self.canary.as_dict(),
            "events": self.events,
        }


def together(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Several fleets' answers that may be summed: counts, throughput, hours and dollars."""
    summaries = [outcome.summary() for outcome in outcomes]
    counts = {f.name: 0 for f in fields(Counts) if f.name != "reasons"}
    reasons: dict[str, int] = {}
    for s in summaries:
        for name in counts:
            counts[name] += s["requests"][name]
        for why, n in s["requests"]["reasons"].items():
            reasons[why] = reasons.get(why, 0) + n
    asked = sum(max(1, len(o.requests) - o.counts.refused) for o in outcomes)
    good = sum(int(o.good().sum()) for o in outcomes)
    tokens = sum(int(o.requests.output[o.status == DONE].sum()) for o in outcomes)
    priced = [o.usd for o in outcomes]
    usd = None if None in priced else sum(p or 0.0 for p in priced)
    return {
        "requests": {**counts, "reasons": reasons},
        "slo_attainment": good / asked,
        "throughput_per_s": sum(s["throughput_per_s"] for s in summaries),
        "output_tokens_per_s": sum(s["output_tokens_per_s"] for s in summaries),
        "gpu_hours": round(sum(o.gpu_hours for o in outcomes), 4),
        "usd": None if usd is None else round(usd, 4),
        "usd_per_million_output_tokens": None if usd is None or not tokens else usd / tokens * 1e6,
    }


def percentiles(values: Floats) -> dict[str, float | None]:
    """p50, p90, p95, p99 and mean; None without values."""
    values = values[np.isfinite(values)]
    if not len(values):
        return dict.fromkeys(("p50", "p90", "p95", "p99", "mean"))
    points = np.percentile(values, (50, 90, 95, 99))
    found: dict[str, float | None] = {
        name: float(v) for name, v in zip(("p50", "p90", "p95", "p99"), points, strict=True)
    }
    found["mean"] = float(values.mean())
    return found


def over_time(outcome: Outcome, buckets: int = 120) -> dict[str, list[float]]:
    """By arrival time: rate, share good, TTFT p50 and p95, refusals; for charts. NaN where nothing arrived."""
    arrival = outcome.requests.arrival
    end = max(outcome.end_s, 1e-9)
    edges = np.linspace(0, end, buckets + 1)
    which = np.clip(np.searchsorted(edges, arrival, side="right") - 1, 0, buckets - 1)
    width = edges[1] - edges[0]
    count = np.bincount(which, minlength=buckets)
    good = np.bincount(which, weights=outcome.good(), minlength=buckets)
    turned = np.isin(outcome.status, (REJECTED, EXPIRED, CANCELLED, LOST))
    ttft = outcome.ttft
    order = np.argsort(which, kind="stable")
    bounds = np.concatenate([[0], np.cumsum(count)])
    p50, p95 = [], []
    for i in range(buckets):
        own = ttft[order[bounds[i] : bounds[i + 1]]]
        own = own[np.isfinite(own)]
        p50.append(float(np.percentile(own, 50)) if len(own) else float("nan"))
        p95.append(float(np.percentile(own, 95)) if len(own) else float("nan"))
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(count > 0, good / np.maximum(count, 1), np.nan)
    return {
        "t": ((edges[:-1] + edges[1:]) / 2).tolist(),
        "rate": (count / width).tolist(),
        "turned_away": (np.bincount(which, weights=turned, minlength=buckets) / width).tolist(),
        "good": share.tolist(),
        "ttft_p50": p50,
        "ttft_p95": p95,
    }

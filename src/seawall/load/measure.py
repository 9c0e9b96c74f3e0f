"""From outcomes to numbers: percentiles, goodput, errors by kind. Pure.

Latencies count from when a request should have been sent, so a generator that falls behind makes them worse, not
better (coordinated omission; Gil Tene). A percentile is an observed value (nearest rank), never interpolated.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from seawall.load.client import RequestOutcome

ENOUGH = 20
BUSY = 0.8
"""Share of one core from which on the client counts as busy."""
LATE_S = 0.1
PERCENTILES = (50.0, 90.0, 95.0, 99.0)


def percentile(ordered: Sequence[float], p: float) -> float:
    """The nearest-rank percentile of a sorted, non-empty sequence."""
    return ordered[max(0, math.ceil(p / 100 * len(ordered)) - 1)]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A distribution in seconds."""

    count: int
    mean: float
    max: float
    percentiles: dict[str, float]

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        ordered = sorted(values)
        if not ordered:
            return None
        return cls(
            count=len(ordered),
            mean=sum(ordered) / len(ordered),
            max=ordered[-1],
            percentiles={f"p{p:g}": percentile(ordered, p) for p in PERCENTILES},
        )


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A request is good when it finished whole within these (seconds); None: not asked."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None

    def met_by(self, o: RequestOutcome) -> bool:
        pairs = ((self.ttft_s, o.ttft_s), (self.tpot_s, o.tpot_s), (self.e2e_s, o.e2e_s))
        return o.ok and all(bound is None or value is None or value <= bound for bound, value in pairs)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One run's numbers. Rates are per second of the run's length."""

    requests: int
    finished: int
    good: int
    duration_s: float
    offered_rps: float
    finished_rps: float
    goodput_rps: float
    prompt_tokens: int
    output_tokens: int
    output_tokens_per_s: float
    ttft: Spread | None
    tpot: Spread | None
    itl: Spread | None
    e2e: Spread | None
    late: Spread | None
    """How late requests were sent, against their schedule: the client's own fault."""
    errors: dict[str, int] = field(default_factory=dict)
    retried_after_429: int = 0
    client_cpu_s: float | None = None
    kept_up: float | None = None
    """Requests that ended for each that arrived, from the first end to the last arrival, with what chance explains.
    Below 1 a backlog grows. None: too few to tell."""

    @property
    def slow_client(self) -> bool:
        """The client may have been the bottleneck: it kept a core busy, or sent late."""
        busy = (self.client_cpu_s or 0.0) / self.duration_s > BUSY
        return busy or (self.late is not None and self.late.percentiles["p95"] > LATE_S)

    @property
    def good_share(self) -> float:
        return self.good / self.requests if self.requests else 0.0

    def as_json(self) -> dict[str, Any]:
        import dataclasses

        return {**dataclasses.asdict(self), "good_share": self.good_share}


def summarise(
    outcomes: Sequence[RequestOutcome],
    duration_s: float,
    objective: Objective | None = None,
    *,
    client_cpu_s: float | None = None,
    retried: int = 0,
) -> Summary:
    """Numbers over all outcomes; latencies over the finished ones only, errors beside them."""
    ok = [o for o in outcomes if o.ok]
    objective = objective or Objective()
    good = sum(objective.met_by(o) for o in ok)
    gaps = (
        (b - a) / max(1, n)
        for o in ok
        for a, b, n in zip(o.event_s, o.event_s[1:], o.event_tokens[1:], strict=False)
    )
    duration_s = max(duration_s, 1e-9)
    tokens = sum(o.tokens for o in outcomes)
    due = [o.intended_s for o in outcomes]
    span_s = max(due) - min(due) if due else 0.0
    return Summary(
        requests=len(outcomes),
        finished=len(ok),
        good=good,
        duration_s=duration_s,
        offered_rps=(len(due) - 1) / span_s if span_s else len(due) / duration_s,
        finished_rps=len(ok) / duration_s,
        goodput_rps=good / duration_s,
        prompt_tokens=sum(o.prompt_tokens or 0 for o in outcomes),
        output_tokens=tokens,
        output_tokens_per_s=tokens / duration_s,
        ttft=Spread.of(o.ttft_s for o in ok if o.ttft_s is not None),
        tpot=Spread.of(o.tpot_s for o in ok if o.tpot_s is not None),
        itl=Spread.of(gaps),
        e2e=Spread.of(o.e2e_s for o in ok),
        late=Spread.of(max(0.0, o.sent_s - o.intended_s) for o in outcomes if o.sent_s),
        errors=dict(Counter(o.error for o in outcomes if o.error is not None)),
        retried_after_429=retried,
        client_cpu_s=client_cpu_s,
        kept_up=_kept_up(outcomes),
    )


def _kept_up(outcomes: Sequence[RequestOutcome]) -> float | None:
    """The number in flight varies by its root without any backlog (Poisson): two deviations are granted."""
    ends = sorted(o.ended_s for o in outcomes if o.ok)
    due = [o.intended_s for o in outcomes]
    if not ends:
        return None
    arrived = sum(d > ends[0] for d in due)
    if arrived < ENOUGH:
        return None
    chance = 2 * math.sqrt(len(due) - arrived)
    return min(1.0, (sum(ends[0] < e <= max(due) for e in ends) + chance) / arrived)


def at_most(failures: int, trials: int, confidence: float = 0.95) -> float:
    """The upper bound that the count supports: the rate p at which so few failures or fewer happen with probability
    1 - confidence (Clopper and Pearson 1934, one-sided; with 0 failures: 1 - (1 - confidence)^(1/n))."""
    if trials == 0:
        return 1.0
    if failures >= trials:
        return 1.0
    if failures == 0:
        return float(1 - (1 - confidence) ** (1 / trials))
    low, high = failures / trials, 1.0
    for _ in range(60):
        p = (low + high) / 2
        if _binomial_at_most(failures, trials, p) > 1 - confidence:
            low = p
        else:
            high = p
    return high


def _binomial_at_most(k: int, n: int, p: float) -> float:
    log_p, log_q = math.log(p), math.log1p(-p)
    terms = (
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * log_p + (n - i) * log_q
        for i in range(k + 1)
    )
    return sum(math.exp(t) for t in terms)

"""Is the canary worse than the baseline, as good, or not known yet? Sequential analysis. Pure.

A rollout looks at its canary every few seconds, so a test that is made for one look would find a difference sooner
or later even where there is none. The intervals here are confidence sequences: valid at all looks at once.

    Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas: "Time-uniform central limit theory and asymptotic confidence
    sequences" (Annals of Statistics 2024), eq. (2):
    mean +- s * sqrt(2 (n r^2 + 1) / (n^2 r^2) * log(sqrt(n r^2 + 1) / a))

Four measures, each with a margin that the fleet's spec allows: errors, requests slower than the SLO (both as shares),
time to first token and time per output token (as ratios of geometric means). Where requests are shadowed, a fifth:
greedy answers that differ from what the client got, as a share, against the share in which the baseline differs from
itself (batches round differently, so that is not zero). Worse: one measure is surely beyond its margin. As good: every
measure is surely within. A handful of requests proves neither.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

Measure = Literal["errors", "slow", "ttft", "tpot", "outputs"]
MIN_REQUESTS = 50
"""Requests on either side before anything is concluded: the intervals are asymptotic."""
_TIGHT_AT = 500.0
"""The intervals are tightest near so many requests (r^2 = 1 / _TIGHT_AT, up to a logarithm)."""


@dataclass(frozen=True)
class Sums:
    """Running sums of one number: enough for its mean and variance."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, n: int, total: float, squares: float) -> Sums:
        """The sums with another batch of `n` observations."""
        return Sums(self.n + n, self.total + total, self.squares + squares)

    @property
    def mean(self) -> float:
        return self.total / self.n if self.n else 0.0

    @property
    def variance(self) -> float:
        """The unbiased variance; 0 for fewer than two observations."""
        if self.n < 2:
            return 0.0
        return max(0.0, (self.squares - self.total * self.total / self.n) / (self.n - 1))


@dataclass(frozen=True)
class Side:
    """What one side of the split has done so far. Times enter as natural logarithms of seconds."""

    requests: int = 0
    errors: int = 0
    slow: int = 0
    """Requests whose TTFT or TPOT missed the SLO."""
    log_ttft: Sums = Sums()
    log_tpot: Sums = Sums()
    compared: int = 0
    """Greedy requests that this side answered a second time."""
    differed: int = 0
    """Answers among them that are not what the client got from the baseline."""


@dataclass(frozen=True)
class Margins:
    """Margins by which the canary may be worse."""

    error_rate: float = 0.01
    """Tolerated difference in the share of errors, and in the share of requests beyond the SLO."""
    latency_ratio: float = 1.25
    confidence: float = 0.95
    """Confidence of the verdict as a whole, over all measures and all looks."""
    outputs: float = 0.02
    """Tolerated difference in the share of greedy answers that differ."""


@dataclass(frozen=True)
class CanaryVerdict:
    """`sure` is the confidence with which `kind` holds (for unknown: how near the likeliest answer is)."""

    kind: Literal["worse", "as-good", "unknown"]
    sure: float
    reason: str
    measure: Measure | None = None


@dataclass(frozen=True)
class _Gap:
    """Canary minus baseline in one measure, and the margin it may not pass."""

    measure: Measure
    gap: float
    margin: float
    flat: float
    slope: float
    """The confidence sequence for the gap at error probability alpha: radius^2 = flat + slope * log(2 / alpha)."""

    def worse(self, alpha: float) -> bool:
        return self.surely(self.gap - self.margin) < alpha

    def within(self, alpha: float) -> bool:
        return self.surely(self.margin - self.gap) < alpha

    def surely(self, distance: float) -> float:
        """The smallest error probability at which the radius is below `distance`; 1 where none is that small."""
        if distance <= 0.0:
            return 1.0
        room = distance * distance - self.flat
        if self.slope <= 0.0:
            return 0.0 if room > 0.0 else 1.0
        return min(1.0, 2.0 * math.exp(-room / self.slope)) if room > 0.0 else 1.0


def _between(
    measure: Measure, gap: float, margin: float, spread: tuple[tuple[float, int], tuple[float, int]]
) -> _Gap:
    """`spread`: (variance, n) of either side. Both sides' intervals hold at once, each at half the error; their
    lengths add to at most the root of twice their squares' sum."""
    flat = slope = 0.0
    for variance, n in spread:
        wide = n / _TIGHT_AT + 1.0
        part = 2.0 * variance * 2.0 * wide * _TIGHT_AT / (n * n)
        flat += part * 0.5 * math.log(wide)
        slope += part
    return _Gap(measure, gap, margin, flat, slope)


def compare(baseline: Side, canary: Side, margins: Margins) -> CanaryVerdict:
    """The verdict on everything seen so far. Call it as often as you like: that is what the intervals are for."""
    least = min(baseline.requests, canary.requests)
    if least < MIN_REQUESTS:
        return CanaryVerdict(
            "unknown",
            0.0,
            f"{canary.requests} canary and {baseline.requests} baseline requests; {MIN_REQUESTS} each are needed",
        )
    gaps = _gaps(baseline, canary, margins)
    alpha = (1.0 - margins.confidence) / len(gaps)
    bad = [g for g in gaps if g.worse(alpha)]
    if bad:
        worst = max(bad, key=lambda g: (g.gap - g.margin) / max(g.margin, 1e-9))
        sure = _sure(len(gaps) * worst.surely(worst.gap - worst.margin))
        return CanaryVerdict(
            "worse", sure, f"{_told(worst, margins)} after {canary.requests} requests", worst.measure
        )
    sure = _sure(len(gaps) * max(g.surely(g.margin - g.gap) for g in gaps))
    if all(g.within(alpha) for g in gaps):
        return CanaryVerdict(
            "as-good",
            sure,
            f"errors and latency within the margins after {canary.requests} requests{_outputs(baseline, canary)}",
        )
    open_ = next(g for g in gaps if not g.within(alpha))
    return CanaryVerdict(
        "unknown",
        sure,
        f"not sure yet about {open_.measure}: {_told(open_, margins)}",
        open_.measure,
    )


def _outputs(baseline: Side, canary: Side) -> str:
    """The outputs' part of the reason; empty where nobody compares them."""
    least = min(baseline.compared, canary.compared)
    if least >= MIN_REQUESTS:
        return f", outputs within theirs after {canary.compared} comparisons"
    return f"; outputs not judged, {least} of {MIN_REQUESTS} comparisons" if canary.compared else ""


def merged(a: Side, b: Side) -> Side:
    """Both sides' observations in one, as when counters of several gateways are added."""
    return replace(
        a,
        compared=a.compared + b.compared,
        differed=a.differed + b.differed,
        requests=a.requests + b.requests,
        errors=a.errors + b.errors,
        slow=a.slow + b.slow,
        log_ttft=a.log_ttft.add(b.log_ttft.n, b.log_ttft.total, b.log_ttft.squares),
        log_tpot=a.log_tpot.add(b.log_tpot.n, b.log_tpot.total, b.log_tpot.squares),
    )


def _gaps(baseline: Side, canary: Side, margins: Margins) -> list[_Gap]:
    out = []
    shares: list[tuple[Measure, int, int]] = [
        ("errors", baseline.errors, canary.errors),
        ("slow", baseline.slow, canary.slow),
    ]
    for name, b, c in shares:
        gap = c / canary.requests - b / baseline.requests
        out.append(
            _between(
                name,
                gap,
                margins.error_rate,
                (_bernoulli(b, baseline.requests), _bernoulli(c, canary.requests)),
            )
        )
    times: list[tuple[Measure, Sums, Sums]] = [
        ("ttft", baseline.log_ttft, canary.log_ttft),
        ("tpot", baseline.log_tpot, canary.log_tpot),
    ]
    for name, before, after in times:
        if min(before.n, after.n) >= MIN_REQUESTS:
            spread = ((before.variance, before.n), (after.variance, after.n))
            out.append(_between(name, after.mean - before.mean, math.log(margins.latency_ratio), spread))
    if min(baseline.compared, canary.compared) >= MIN_REQUESTS:
        gap = canary.differed / canary.compared - baseline.differed / baseline.compared
        sides = (
            _bernoulli(baseline.differed, baseline.compared),
            _bernoulli(canary.differed, canary.compared),
        )
        out.append(_between("outputs", gap, margins.outputs, sides))
    return out


def _bernoulli(hits: int, n: int) -> tuple[float, int]:
    """(variance, n), with Laplace's estimate of the share: no errors so far is not proof of none ever."""
    p = (hits + 1) / (n + 2)
    return p * (1 - p), n


def _sure(error: float) -> float:
    """The confidence that leaves this error probability; never quite certain."""
    return 1.0 - max(1e-9, min(1.0, error))


def _told(g: _Gap, margins: Margins) -> str:
    if g.measure == "outputs":
        return (
            f"{g.gap * 100:+.2f} points of greedy answers that differ (allowed {margins.outputs * 100:+.2f})"
        )
    if g.measure in ("errors", "slow"):
        what = "errors" if g.measure == "errors" else "requests beyond the SLO"
        return f"{g.gap * 100:+.2f} points of {what} (allowed {margins.error_rate * 100:+.2f})"
    return (
        f"{g.measure.upper()} {math.exp(g.gap):.2f} x the baseline's (allowed {margins.latency_ratio:.2f} x)"
    )

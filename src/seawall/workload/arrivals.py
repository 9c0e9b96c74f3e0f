"""When requests come and how long they are: seeded, and the same for the simulator and the load generator.

Rates are written as people say them: `10/s for 5m, 50/s for 10m`, `5/s to 40/s for 10m` (a ramp),
`20/s +-15/s every 1h for 3h` (a diurnal swing). Between-arrival times are exponential (Poisson) or gamma with
a coefficient of variation (`burst`): 1 is Poisson, 3 is as bursty as public LLM traces look.
Lengths are lognormal around a mean, as those traces' are (Azure 2023, BurstGPT 2024), or fixed.

Forbidden here: clocks, files, the global rng. Times are seconds from the start, lengths tokens.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from seawall.domain.units import parse_seconds
from seawall.errors import InputError

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int32]

MAX_REQUESTS = 50_000_000

_RATE = r"(\d+(?:\.\d+)?)/(s|m|h)"
_PHASE = re.compile(
    rf"{_RATE}(?:\s+to\s+{_RATE}|\s*(?:\+-|±)\s*{_RATE}\s+every\s+(\S+))?\s+for\s+(\S+)", re.IGNORECASE
)
_WEIGHT = re.compile(r"\d{1,9}(\.\d{1,9})?")
_PER = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class RatePhase:
    """A stretch of time with a rate (requests per second): constant, a ramp to `to`, or a sine of `swing`."""

    rate: float
    seconds: float
    to: float | None = None
    swing: float = 0.0
    period_s: float = 3600.0

    def mean_until(self, t: Floats) -> Floats:
        """Expected requests from the phase's start until `t` seconds into it (vectorised)."""
        if self.to is not None:
            return self.rate * t + (self.to - self.rate) * t * t / (2 * self.seconds)
        if self.swing:
            turn = 2 * math.pi / self.period_s
            return self.rate * t + self.swing / turn * (1 - np.cos(turn * t))
        return self.rate * t

    def times(self, factor: float) -> RatePhase:
        """The same phase with a multiple of its rate."""
        to = None if self.to is None else self.to * factor
        return replace(self, rate=self.rate * factor, to=to, swing=self.swing * factor)


@dataclass(frozen=True)
class Requests:
    """A workload: parallel arrays, sorted by arrival. `prefix` groups requests that share their first
    `shared` tokens (-1: none): what a prefix cache can save."""

    arrival: Floats
    prompt: Ints
    output: Ints
    prefix: Ints = field(default_factory=lambda: np.zeros(0, np.int32))
    shared: Ints = field(default_factory=lambda: np.zeros(0, np.int32))
    source: str = "synthetic"
    lasts_s: float = 0.0
    """Seconds that the load was meant to last: longer than to the last arrival when it ends quietly."""

    def __len__(self) -> int:
        return len(self.arrival)

    @property
    def duration_s(self) -> float:
        return max(float(self.arrival[-1]) if len(self.arrival) else 0.0, self.lasts_s)


def parse_rate(text: str) -> list[RatePhase]:
    """`10/s for 5m, 50/s for 10m` -> phases. InputError names the part that cannot be read."""
    phases = []
    for part in text.split(","):
        m = _PHASE.fullmatch(part.strip())
        try:
            if m is None:
                raise ValueError
            seconds = parse_seconds(m[8])
            period = parse_seconds(m[7]) if m[7] else 3600.0
            if seconds <= 0 or period <= 0:
                raise ValueError
        except ValueError:
            cure = "Write e.g. '10/s for 5m, 50/s for 10m', '5/s to 40/s for 10m' or '20/s +-15/s every 1h for 3h'."
            if _PHASE.fullmatch(f"{part.strip()} for 10m"):
                cure = f"Say for how long: '{part.strip()} for 10m'."
            raise InputError(f"the rate {part.strip()!r:.80} cannot be read.", cure) from None
        rate = float(m[1]) / _PER[m[2].lower()]
        to = float(m[3]) / _PER[m[4].lower()] if m[3] else None
        swing = float(m[5]) / _PER[m[6].lower()] if m[5] else 0.0
        phases.append(RatePhase(rate, seconds, to, min(swing, rate), period))
    return phases


def expected(phases: list[RatePhase]) -> float:
    """How many requests these phases bring on average."""
    return float(sum(p.mean_until(np.array([p.seconds]))[0] for p in phases))


def arrival_times(phases: list[RatePhase], rng: np.random.Generator, burst: float = 1.0) -> Floats:
    """Sorted arrival times of a Poisson (`burst` 1) or gamma renewal process with these rates.

    A unit-rate renewal process is drawn and mapped through the inverse of the cumulative rate, so ramps and
    swings keep the burstiness. `burst` is the coefficient of variation of the gaps; 0: they are even.
    """
    total = expected(phases)
    if total > MAX_REQUESTS:
        raise InputError(
            f"this rate brings {total:,.0f} requests; at most {MAX_REQUESTS:,} fit.", "Shorten it."
        )
    shape = 1.0 / (burst * burst) if burst else 0.0
    marks = np.zeros(0) if burst else np.arange(0.0, total + 1.0)
    while not len(marks) or marks[-1] < total:
        size = int((total - (marks[-1] if len(marks) else 0)) * 1.1) + 64
        gaps = rng.exponential(1.0, size) if burst == 1.0 else rng.gamma(shape, 1 / shape, size)
        marks = np.concatenate([marks, np.cumsum(gaps) + (marks[-1] if len(marks) else 0.0)])
    marks = marks[marks < total]
    out, start, before = [], 0.0, 0.0
    for phase in phases:
        count = float(phase.mean_until(np.array([phase.seconds]))[0])
        own = marks[(marks >= before) & (marks < before + count)] - before
        if phase.to is None and not phase.swing:
            times = own / phase.rate if phase.rate else own
        else:
            grid = np.linspace(0.0, phase.seconds, 4097)
            times = np.interp(own, phase.mean_until(grid), grid)
        out.append(start + times)
        start, before = start + phase.seconds, before + count
    return np.concatenate(out) if out else np.zeros(0)


def lengths(mean: float, count: int, rng: np.random.Generator, cv: float = 1.0, most: int = 2**20) -> Ints:
    """Token counts: lognormal with this mean and coefficient of variation (0: all equal), within 1..most."""
    if cv <= 0:
        return np.full(count, max(1, min(most, round(mean))), np.int32)
    sigma2 = math.log(1 + cv * cv)
    drawn = rng.lognormal(math.log(max(mean, 1e-9)) - sigma2 / 2, math.sqrt(sigma2), count)
    return np.clip(np.rint(drawn), 1, most).astype(np.int32)


def parse_shares(text: str | None, rates: Mapping[str, float | None]) -> list[float]:
    """`chat=3,code=1` -> each fleet's share, summing to 1, in the order of `rates` (their specs' own rates). Without a
    text: as those rates, or alike when one is missing. InputError names what cannot be read."""
    if text is None:
        own = [rate or 0.0 for rate in rates.values()]
        weights = own if all(own) else [1.0] * len(own)
    else:
        found: dict[str, float] = {}
        for part in text.split(","):
            name, _, value = part.partition("=")
            if name.strip() not in rates or name.strip() in found or not _WEIGHT.fullmatch(value.strip()):
                raise InputError(
                    f"--share: {part.strip()!r} cannot be read.",
                    f"Write each fleet once with its weight: {','.join(f'{n}=1' for n in rates)}.",
                )
            found[name.strip()] = float(value)
        weights = [found.get(name, 0.0) for name in rates]
    total = sum(weights)
    if not total:
        raise InputError("--share gives every fleet nothing.", "Give one of them a weight above 0.")
    return [weight / total for weight in weights]


def split(requests: Requests, shares: Sequence[float], rng: np.random.Generator) -> list[Requests]:
    """Gives each request to one of the shares by chance; what shares a prefix stays together."""
    chosen = rng.choice(len(shares), len(requests), p=shares)
    if len(requests.prefix):
        groups = rng.choice(len(shares), int(requests.prefix.max(initial=0)) + 1, p=shares)
        chosen = np.where(requests.prefix >= 0, groups[np.maximum(requests.prefix, 0)], chosen)
    parts = []
    for i, share in enumerate(shares):
        own = chosen == i
        parts.append(
            replace(
                requests,
                arrival=requests.arrival[own],
                prompt=requests.prompt[own],
                output=requests.output[own],
                prefix=requests.prefix[own] if len(requests.prefix) else requests.prefix,
                shared=requests.shared[own] if len(requests.shared) else requests.shared,
                source=f"{share:.3g} of {requests.source}",
                lasts_s=requests.duration_s,
            )
        )
    return parts


def synthetic(
    phases: list[RatePhase],
    rng: np.random.Generator,
    prompt_tokens: float,
    output_tokens: float,
    burst: float = 1.0,
    spread: float = 1.0,
    most: int = 2**20,
) -> Requests:
    """A workload of these phases with lognormal lengths (`spread`: their coefficient of variation)."""
    times = arrival_times(phases, rng, burst)
    return Requests(
        arrival=times,
        prompt=lengths(prompt_tokens, len(times), rng, spread, most),
        output=lengths(output_tokens, len(times), rng, spread, most),
        lasts_s=sum(p.seconds for p in phases),
    )

"""The load of a simulation: drawn from a rate, or replayed from a trace; of several fleets each has its share.

Forbidden here: simulating.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import numpy as np

from seawall.domain.spec import Fleet
from seawall.errors import InputError
from seawall.workload.arrivals import Requests, parse_rate, parse_shares, split, synthetic
from seawall.workload.traces import read_trace


@dataclass(frozen=True, kw_only=True)
class LoadWish:
    """What was asked for; None: the fleet's own traffic, or the usual."""

    rate: str | None = None
    """`10/s for 5m, 50/s for 10m`."""
    trace: str | None = None
    """A file. It brings its own times and lengths."""
    speed: float | None = None
    """The trace, so many times as fast."""
    burst: float | None = None
    prompt: float | None = None
    output: float | None = None
    spread: float | None = None
    seed: int = 1


def load_of(fleet: Fleet, wish: LoadWish, share: float = 1.0, seed: Sequence[int] | None = None) -> Requests:
    """The requests of one fleet, or a share of them. InputError when there is no load or the trace is none."""
    if wish.trace:
        return _replayed(Path(wish.trace), wish.speed or 1.0)
    traffic = fleet.spec.traffic
    text = wish.rate or (f"{traffic.rate:g}/s for 10m" if traffic.rate else "")
    if not text:
        raise InputError(
            f"{fleet.name}: there is no load to simulate.",
            "Give --rate '10/s for 5m', --trace FILE, or spec.traffic.rate.",
        )
    found = synthetic(
        [phase.times(share) for phase in parse_rate(text)],
        np.random.default_rng(seed or wish.seed),
        wish.prompt or traffic.prompt_tokens,
        wish.output or traffic.output_tokens,
        wish.burst or 1.0,
        1.0 if wish.spread is None else wish.spread,
        most=max(1, (traffic.max_context or 131_072) // 2),
    )
    return replace(found, source=text if share == 1 else f"{share:.3g} of {text}")


def shared_out(fleets: Sequence[Fleet], wish: LoadWish, shares: str | None) -> list[Requests]:
    """Every fleet's part of the load (`shares`: `chat=3,code=1`); without rate and trace its own traffic."""
    parts = parse_shares(shares, {f.name: f.spec.traffic.rate for f in fleets})
    if wish.trace:
        return split(load_of(fleets[0], wish), parts, np.random.default_rng(wish.seed))
    if shares and not wish.rate:
        raise InputError("--share divides a load, and there is none.", "Give --rate or --trace.")
    return [
        load_of(fleet, wish, part if wish.rate else 1.0, [wish.seed, i])
        for i, (fleet, part) in enumerate(zip(fleets, parts, strict=True))
    ]


def _replayed(path: Path, speed: float) -> Requests:
    try:
        with _opened(path) as lines:
            found = read_trace(lines, path.name)
    except (OSError, EOFError, zlib.error) as e:
        raise InputError(f"{path}: {getattr(e, 'strerror', None) or e}.", "Check the file.") from e
    return replace(found, arrival=found.arrival / speed)


def _opened(path: Path) -> TextIO:
    """A text file, also when gzip has packed it."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if packed:
        return gzip.open(path, "rt", encoding="utf-8", errors="replace")
    return path.open(encoding="utf-8", errors="replace")

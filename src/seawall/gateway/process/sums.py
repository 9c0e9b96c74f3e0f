"""Pages of several processes as one: samples are added, and what ended processes had counted stays counted.

Text format 0.0.4. A counter that falls would be read as a restart of everything: `rate()` then invents requests, and an
alert with it. Forbidden here: asking anybody.
"""

from __future__ import annotations

from collections.abc import Sequence

from seawall.domain.labels import (
    BUILD_INFO,
    COUNTED_SINCE,
    PREFIX_ERROR,
    REPLICA_UP,
    STORE_GATEWAYS,
    STORE_ROUND_SECONDS,
    STORE_UP,
)

MAX_OF = (REPLICA_UP, BUILD_INFO, COUNTED_SINCE, PREFIX_ERROR, STORE_UP, STORE_GATEWAYS, STORE_ROUND_SECONDS)
"""Metrics of states, of which the largest counts."""
_OF_HISTOGRAM = ("_bucket", "_sum", "_count")


class _Family:
    """One metric: its head lines and its samples."""

    __slots__ = ("head", "samples")

    def __init__(self) -> None:
        self.head: list[str] = []
        self.samples: dict[str, float] = {}


def add_metrics(pages: Sequence[str]) -> str:
    """Adds up Prometheus pages sample by sample; of states the largest counts."""
    families: dict[str, _Family] = {}
    for page in pages:
        _add(families, page)
    return _text(families)


def counters_of(page: str) -> str:
    """The part of a page that never falls: counters and histograms."""
    families: dict[str, _Family] = {}
    _add(families, page)
    kept = {n: f for n, f in families.items() if f.head and f.head[-1].endswith((" counter", " histogram"))}
    return _text(kept)


def since_of(page: str) -> str:
    """Since when a page's counters count; empty: it does not say."""
    lines = [line for line in page.splitlines() if line.startswith(f"{COUNTED_SINCE} ")]
    return lines[0].rpartition(" ")[2] if lines else ""


def _add(families: dict[str, _Family], page: str) -> None:
    for line in page.splitlines():
        if not line:
            continue
        if line.startswith("#"):
            family = families.setdefault(line.split(" ", 3)[2], _Family())
            if line not in family.head:
                family.head.append(line)
            continue
        name, _, value = line.rpartition(" ")
        metric = name.partition("{")[0]
        if metric not in families:
            stem = next((metric.removesuffix(s) for s in _OF_HISTOGRAM if metric.endswith(s)), metric)
            metric = stem if stem in families else metric
        samples = families.setdefault(metric, _Family()).samples
        old, new = samples.get(name), float(value)
        samples[name] = new if old is None else max(old, new) if metric in MAX_OF else old + new


def _text(families: dict[str, _Family]) -> str:
    lines: list[str] = []
    for family in families.values():
        lines += family.head
        lines += [f"{k} {int(v) if v == int(v) else v}" for k, v in family.samples.items()]
    return "\n".join(lines) + "\n"

"""What each vLLM version accepts and reports: flags of `vllm serve`, metrics of `/metrics`. Plain data, no I/O.

Versions above `LATEST` are judged as `LATEST`: new flags of a newer vLLM are not known here. The tables, and
how they were made, are in `tables.py`.
"""

from __future__ import annotations

import difflib
import functools
import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from seawall.engines.vllm import tables as tables

Version = tuple[int, int]
LATEST: Version = (0, 33)
OLDEST: Version = (0, 8)
DEFAULT_VERSION = "0.32.0"

_RENAMED = {
    "gpu_cache_usage_perc": "kv_cache_usage_perc",
    "gpu_prefix_cache_hits": "prefix_cache_hits",
    "gpu_prefix_cache_queries": "prefix_cache_queries",
    "time_per_output_token_seconds": "inter_token_latency_seconds",
    "time_in_queue_requests": "request_queue_time_seconds",
    "num_requests_swapped": "num_preemptions_total",
}

# Families that only appear when a connector is configured; their members come and go with every release.
_CONNECTORS = ("kv_offload_", "simple_kv_offload_", "nixl_", "mooncake_", "hisparse_", "hf3fs_", "lmcache_")

MetricType = Literal["gauge", "counter", "histogram"]
_TYPES: dict[str, MetricType] = {"g": "gauge", "c": "counter", "h": "histogram"}
LABELS = frozenset({"model_name", "engine"})
"""Labels that every engine metric carries itself; scraping adds namespace, pod, job and the like."""


@dataclass(frozen=True)
class Flag:
    """One option of `vllm serve` in every version that we know of."""

    name: str
    aliases: tuple[str, ...]
    switch: bool
    """Takes no value; `--no-...` turns it off."""
    many: bool
    """Takes one or more values, up to the next option."""
    optional: bool
    """Whether the flag's value may be left out."""
    since: Version
    removed: Version | None = None
    """The first version that refuses it."""
    deprecated: Version | None = None
    instead: str = ""

    def known_to(self, version: Version) -> bool:
        return self.since <= version and (self.removed is None or version < self.removed)


@dataclass(frozen=True)
class Metric:
    """One metric family of an engine. `name` is the series name in PromQL, without histogram suffixes."""

    name: str
    type: MetricType
    since: Version
    removed: Version | None = None
    instead: str = ""

    def known_to(self, version: Version) -> bool:
        return self.since <= version and (self.removed is None or version < self.removed)


@dataclass(frozen=True)
class FlagProblem:
    """A flag that a version refuses (`removed`, `unknown`, `too new`) or will refuse (`deprecated`)."""

    flag: str
    kind: Literal["removed", "unknown", "too new", "deprecated"]
    message: str
    instead: str = ""
    """Another flag, or a sentence that begins with "nothing" when it is simply left out."""


def parse_version(text: str) -> Version | None:
    """`v0.32.0`, `0.32.0-cu128`, `0.32` -> (0, 32). None when there is no version in it."""
    m = re.match(r"v?(\d+)\.(\d+)", text)
    return (int(m[1]), int(m[2])) if m else None


def nearest(version: Version) -> Version:
    """The version whose list judges `version`: itself, or the oldest or latest that is known."""
    return min(max(version, OLDEST), LATEST)


@functools.cache
def flags() -> dict[str, Flag]:
    """Every spelling (names and aliases, no `--no-` forms) -> its flag."""
    table: dict[str, Flag] = {}
    since = OLDEST
    for word in tables.FLAGS.split():
        if word[0].isdigit():
            since = _version(word)
        else:
            _add(table, word, since)
    for line in tables.REMOVED.strip().splitlines():
        word, version, instead = line.split(None, 2)
        _add(table, word, OLDEST, removed=_version(version), instead=instead)
    return table


def _add(
    table: dict[str, Flag], word: str, since: Version, *, removed: Version | None = None, instead: str = ""
) -> None:
    name, *aliases = word.rstrip("!+?").split("|")
    old = _deprecations().get(name)
    entry = Flag(
        name=name,
        aliases=tuple(aliases),
        switch=word.endswith("!"),
        many=word.endswith("+"),
        optional=word.endswith("?"),
        since=since,
        removed=removed,
        deprecated=old[0] if old else None,
        instead=old[1] if old else instead,
    )
    for spelling in (name, *aliases):
        table[spelling] = entry


@functools.cache
def _deprecations() -> dict[str, tuple[Version, str]]:
    rows = (line.split(None, 2) for line in tables.DEPRECATED.strip().splitlines())
    return {name: (_version(version), instead) for name, version, instead in rows}


def find_flag(word: str) -> Flag | None:
    """The flag that vLLM's parser would take `word` for.

    As vLLM's own parser does it: underscores count as dashes, `--json.key` sets a key of a JSON flag, `-O3` is
    `--optimization-level 3`, an unambiguous beginning of a name is enough, `=value` is cut off.
    """
    word = word.split("=", 1)[0]
    if re.fullmatch(r"-O\w*", word):
        word = "--optimization-level"
    if word.startswith("--"):
        word = word.split(".", 1)[0].rstrip("+").replace("_", "-")
    table = flags()
    if word in table:
        return table[word]
    if word.startswith("--no-"):
        positive = table.get("--" + word[5:])
        if positive is not None and positive.switch:
            return positive
    if word.startswith("--") and len(word) > 4:
        near = {table[name].name for name in table if name.startswith(word) and table[name].removed is None}
        if len(near) == 1:
            return table[near.pop()]
    return None


def like_flag(word: str) -> list[str]:
    """Flags of today that look like `word`, or begin with the same part of their name: for people who "
    "misremember one."""
    word = word.split("=", 1)[0].replace("_", "-")
    today = [name for name, flag in flags().items() if flag.removed is None and name == flag.name]
    first = "-".join(word.split("-")[:3])
    kin = [name for name in today if name.startswith(f"{first}-")]
    return list(dict.fromkeys([*get_close_matches(word, today, n=2, cutoff=0.75), *kin]))[:4]


def check_flag(word: str, version: Version) -> FlagProblem | None:
    """What is wrong with the option `word` (a list item that begins with `-`) in that version; None: nothing."""
    shown = f"{version[0]}.{version[1]}"
    entry = find_flag(word)
    word = word.split("=", 1)[0]
    version = nearest(version)
    if entry is None:
        near = difflib.get_close_matches(
            word, [n for n, f in flags().items() if f.known_to(version)], 1, 0.75
        )
        hint = near[0] if near else ""
        return FlagProblem(word, "unknown", f"vLLM {shown} knows no option {word}", hint)
    if entry.removed is not None and version >= entry.removed:
        gone = f"{entry.removed[0]}.{entry.removed[1]}"
        return FlagProblem(word, "removed", f"{word} was removed in vLLM {gone}", entry.instead)
    if version < entry.since:
        new = f"{entry.since[0]}.{entry.since[1]}"
        return FlagProblem(word, "too new", f"{word} came with vLLM {new}, this is {shown}")
    if entry.deprecated is not None and version >= entry.deprecated:
        return FlagProblem(word, "deprecated", f"{word} is deprecated", entry.instead)
    return None


@functools.cache
def metrics() -> dict[str, Metric]:
    """Series name as PromQL writes it (counters with `_total`) -> metric; histograms by their base name."""
    table: dict[str, Metric] = {}
    for line in tables.METRICS.strip().splitlines():
        name, kind, since, *removed = line.split()
        series = "vllm:" + name + ("_total" if kind == "c" else "")
        instead = _RENAMED.get(name, "")
        table[series] = Metric(
            name=series,
            type=_TYPES[kind],
            since=_version(since),
            removed=_version(removed[0]) if removed else None,
            instead="vllm:" + instead if instead else "",
        )
    return table


def find_metric(series: str) -> Metric | None:
    """The metric behind a series name: `vllm:time_to_first_token_seconds_bucket` -> its histogram."""
    table = metrics()
    if series in table:
        return table[series]
    for suffix in ("_bucket", "_sum", "_count"):
        base = table.get(series.removesuffix(suffix)) if series.endswith(suffix) else None
        if base is not None and base.type == "histogram":
            return base
    if series.endswith("_created"):
        stem = series.removesuffix("_created")
        return table.get(stem) or table.get(stem + "_total")
    return None


def of_connector(series: str) -> bool:
    """True for metrics of KV connectors, which are not listed one by one."""
    return series.removeprefix("vllm:").startswith(_CONNECTORS)


def _version(text: str) -> Version:
    major, minor = text.split(".")
    return int(major), int(minor)

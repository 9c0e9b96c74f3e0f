"""Public traces of LLM traffic -> `Requests`: Azure LLM inference CSV, BurstGPT CSV, Mooncake JSONL.

Why: a policy that wins on Poisson arrivals may lose on what people really send. Formats:

    Azure     TIMESTAMP,ContextTokens,GeneratedTokens       (2023 code/conv, 2024 week; ISO times)
    BurstGPT  Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type   (seconds)
    Mooncake  {"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [...]} per line, one hash
              per 512 tokens of prompt: what two requests share, a prefix cache can save

Text in, arrays out: the caller opens the file. Broken lines are counted, and too many are an error.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from seawall.domain.units import counted
from seawall.errors import InputError
from seawall.workload.arrivals import MAX_REQUESTS, Requests

TraceRow = tuple[float, int, int, int, int]
"""Seconds, prompt tokens, output tokens, prefix group, tokens shared with that group."""

MOONCAKE_BLOCK = 512
MAX_TOKENS = 10_000_000
MAX_HASHES = 4_000_000
"""Blocks remembered of a Mooncake trace: what is first seen behind them is taken for unshared. Bounds memory."""


@dataclass
class Bad:
    """Count of lines that could not be read, and the first of them."""

    count: int = 0
    first: str = ""

    def add(self, line: str) -> None:
        self.first = self.first or line.strip()[:80]
        self.count += 1

    @property
    def cure(self) -> str:
        return f"Check the file; the first of them is {self.first!r}." if self.first else "Check the file."


def read_trace(lines: Iterable[str], name: str) -> Requests:
    """A trace in any of the three formats, told by its first line; sorted, starting at 0 s. `name` is for messages."""
    rest = iter(lines)
    first = next((line for line in rest if line.strip()), "")
    head = first.strip().lstrip("\ufeff").lower()
    bad = Bad()
    if head.startswith("{"):
        rows, kind = _mooncake(first, rest, bad), "Mooncake"
    elif "contexttokens" in head or "generatedtokens" in head:
        rows, kind = _csv(first, rest, bad, ("timestamp", "contexttokens", "generatedtokens")), "Azure"
    elif "request tokens" in head or "response tokens" in head:
        rows, kind = _csv(first, rest, bad, ("timestamp", "request tokens", "response tokens")), "BurstGPT"
    else:
        raise InputError(
            f"{name}: this is no trace that I know.",
            "Known: Azure LLM inference CSV, BurstGPT CSV, Mooncake JSONL (see docs/how-to/simulate.md).",
        )
    table = np.fromiter(_bounded(rows, name), dtype=np.dtype((np.float64, 5)))
    if not len(table):
        broken = f" ({counted(bad.count, 'line')} cannot be read)" if bad.count else ""
        raise InputError(f"{name}: the {kind} trace holds no request{broken}.", bad.cure)
    if bad.count > max(10, len(table) // 20):
        raise InputError(f"{name}: {bad.count} lines of this {kind} trace cannot be read.", bad.cure)
    table = table[np.argsort(table[:, 0], kind="stable")]
    return Requests(
        arrival=table[:, 0] - table[0, 0],
        prompt=table[:, 1].astype(np.int32),
        output=table[:, 2].astype(np.int32),
        prefix=table[:, 3].astype(np.int32),
        shared=table[:, 4].astype(np.int32),
        source=f"{kind} trace {name}" + (f", {counted(bad.count, 'line')} left out" if bad.count else ""),
    )


def _bounded(rows: Iterator[TraceRow], name: str) -> Iterator[TraceRow]:
    for i, row in enumerate(rows):
        if i >= MAX_REQUESTS:
            raise InputError(f"{name}: more than {MAX_REQUESTS:,} requests.", "Cut the trace.")
        yield row


def _seconds(text: str) -> float:
    try:
        return _finite(float(text))
    except ValueError:
        # Azure writes seven decimals; datetime reads six.
        whole, _, fraction = text.strip().replace("Z", "").replace("+00:00", "").partition(".")
        moment = datetime.fromisoformat(whole).replace(tzinfo=UTC)
        return moment.timestamp() + float(f"0.{fraction or 0}")


def _finite(seconds: float) -> float:
    if not -1e12 < seconds < 1e12:
        raise ValueError(seconds)
    return seconds


def _tokens(value: object) -> int:
    count = int(float(str(value)))
    if not 0 <= count <= MAX_TOKENS:
        raise ValueError(value)
    return count


def _csv(first: str, rest: Iterator[str], bad: Bad, columns: tuple[str, str, str]) -> Iterator[TraceRow]:
    names = [c.strip().lower().lstrip("\ufeff") for c in next(csv.reader([first]))]
    try:
        at, prompt, output = (names.index(c) for c in columns)
    except ValueError:
        missing = ", ".join(c for c in columns if c not in names)
        raise InputError(
            f"the trace has no column {missing}.", f"Its columns are {', '.join(names)[:200]}."
        ) from None
    reader = csv.reader(rest)
    while True:
        fields: list[str] = []
        try:
            fields = next(reader)
            if not fields:
                continue
            row = (_seconds(fields[at]), _tokens(fields[prompt]), _tokens(fields[output]), -1, 0)
        except StopIteration:
            return
        except (ValueError, IndexError, OverflowError, csv.Error):
            bad.add(",".join(fields))
            continue
        if row[1] and row[2]:
            # A response of no tokens is a failed request in BurstGPT: it asked for nothing that was served.
            yield row


def _mooncake(first: str, rest: Iterator[str], bad: Bad) -> Iterator[TraceRow]:
    """Groups by the first block's hash; what is shared is the longest prefix seen before in that group."""
    seen: dict[int, int] = {}
    chains: set[tuple[int, int]] = set()
    for line in _chain(first, rest):
        if not line.strip():
            continue
        try:
            raw = json.loads(line)
            prompt, output = _tokens(raw["input_length"]), _tokens(raw["output_length"])
            seconds = _finite(float(raw["timestamp"]) / 1000)
            hashes = [int(h) for h in raw.get("hash_ids", ())]
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            bad.add(line)
            continue
        depth = 0
        for i, h in enumerate(hashes):
            if (i, h) in chains and depth == i:
                depth = i + 1
            elif len(chains) < MAX_HASHES:
                chains.add((i, h))
        group = seen.setdefault(hashes[0], len(seen)) if hashes else -1
        yield seconds, max(1, prompt), max(1, output), group, min(depth * MOONCAKE_BLOCK, max(prompt - 1, 0))


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest

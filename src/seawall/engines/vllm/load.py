"""What one page of a vLLM server's metrics says of its load, its pace and its signs of life. Text in, a value out."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from seawall.engines.vllm import metrics as names

ENOUGH_TOKENS = 1000
"""Prompt tokens from which on the seen pace counts."""


@dataclass(frozen=True, kw_only=True)
class EngineLoad:
    """One look at a replica's /metrics, summed over its engines (`kv_usage`: the highest)."""

    running: float = 0.0
    waiting: float = 0.0
    kv_usage: float = 0.0
    """0 to 1."""
    marks: tuple[float, ...] = ()
    """What it writes after each step, summed over its engines: changes whenever it works."""
    prompt_token_s: float | None = None
    """Seconds per prompt token that it has computed so far; None: too few to say."""


def parse_load(text: str) -> EngineLoad:
    """Prometheus text of a vLLM server -> its load. Lines it does not know, or cannot read, are skipped."""
    found = dict.fromkeys((*names.MARKS, names.PREFILL_S, names.PREFILLED_TOKENS), 0.0)
    kv_usage = 0.0
    for line in text.splitlines():
        if not line.startswith(names.PREFIX):
            continue
        series, _, value = line.rpartition(" ")
        name = series.partition("{")[0]
        if name in found:
            with contextlib.suppress(ValueError):
                found[name] += float(value)
                if name == names.KV_USAGE:
                    kv_usage = max(kv_usage, float(value))
    computed = found[names.PREFILLED_TOKENS]
    return EngineLoad(
        running=found[names.RUNNING],
        waiting=found[names.WAITING],
        kv_usage=kv_usage,
        marks=tuple(found[name] for name in names.MARKS),
        prompt_token_s=found[names.PREFILL_S] / computed if computed >= ENOUGH_TOKENS else None,
    )

"""Why an engine or a gateway that exited did so, from the end of its log. Text in, one sentence out."""

from __future__ import annotations

import re
from pathlib import Path

_KV_FULL = r"larger than the maximum number of tokens that can be stored in KV cache|max seq len .* is larger"

_KNOWN: tuple[tuple[str, str], ...] = (
    (r"address already in use|port \d+ is taken", "its port was taken by another process"),
    (
        r"less than desired (CPU|GPU) memory utilization",
        "not enough free memory; stop something, or set kvCacheMemory",
    ),
    (r"No available memory for the cache blocks", "no memory is left for the KV cache; lower maxContext"),
    (
        _KV_FULL,
        "one request of maxContext does not fit into the KV cache; lower maxContext or raise kvCacheMemory",
    ),
    (r"out of memory|Cannot allocate memory|MemoryError", "it ran out of memory"),
    (r"No space left on device", "the disk is full"),
    (r"unrecognized arguments: (?P<what>.*)", "engine.extraArgs has a flag this vLLM does not know: {what}"),
    (
        r"VLLM_PORT .* appears to be a URI",
        "a Service named vllm sets VLLM_PORT; set enableServiceLinks: false",
    ),
    (r"cannot run (?P<what>\S+)", "{what} cannot be run"),
    (r"(?P<what>(?:\w+\.)*\w*(?:Error|Exception): .{3,200})", "{what}"),
)


def cause_of(exit_code: int, log: Path) -> str:
    """`killed by signal 9`, `exit code 1: its port was taken ...`."""
    how = f"killed by signal {exit_code - 128}" if exit_code > 128 else f"exited with code {exit_code}"
    said = explain(tail(log)) if exit_code not in (0, 128 + 9, 128 + 15) else None
    return f"{how}: {said}" if said else how


def explain(text: str) -> str | None:
    """The cause that the log's text gives away; None when it gives none."""
    for pattern, sentence in _KNOWN:
        found = list(re.finditer(pattern, text, re.IGNORECASE))
        if found:
            return sentence.format(**found[-1].groupdict()).strip()[:300]
    return None


def tail(log: Path, size: int = 16384) -> str:
    """The last bytes of a log as text; empty when it cannot be read."""
    try:
        with log.open("rb") as f:
            f.seek(0, 2)
            f.seek(max(0, f.tell() - size))
            return f.read().decode("utf-8", "replace")
    except OSError:
        return ""

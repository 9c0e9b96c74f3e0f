"""Why an engine or a gateway that exited did so, from the end of its log. Text in, one sentence out."""

from __future__ import annotations

import re
from pathlib import Path

from seawall.engines.vllm.signs import read, redacted

_HERE: tuple[tuple[str, str], ...] = (
    (r"address already in use|port \d+ is taken", "its port was taken by another process"),
    (
        r"less than desired GPU memory utilization",
        "something else holds the GPU's memory: stop it, or lower engine.gpuMemoryUtilization",
    ),
    (r"cannot run (?P<what>\S+)", "{what} cannot be run"),
)
"""Signs whose cure is another one on this machine than on a cluster. All others stand in `engines.vllm.signs`."""
_LAST_WORD = r"(?:\w+\.)*\w*(?:Error|Exception): .{3,200}"


def cause_of(exit_code: int, log: Path) -> str:
    """`killed by signal 9`, `exit code 1: its port was taken ...`."""
    how = f"killed by signal {exit_code - 128}" if exit_code > 128 else f"exited with code {exit_code}"
    said = explain(tail(log)) if exit_code not in (0, 128 + 9, 128 + 15) else None
    return f"{how}: {said}" if said else how


def explain(text: str) -> str | None:
    """The cause that the log's text gives away; None when it gives none."""
    for pattern, sentence in _HERE:
        found = list(re.finditer(pattern, text, re.IGNORECASE))
        if found:
            return sentence.format(**found[-1].groupdict()).strip()[:300]
    said = read(text)
    if said is not None and said.sign.id != "engine/died":
        return said.what[:300]
    words = re.findall(_LAST_WORD, text)
    return redacted(words[-1].strip()[:300]) if words else None


def tail(log: Path, size: int = 16384) -> str:
    """The last bytes of a log as text; empty when it cannot be read."""
    try:
        with log.open("rb") as f:
            f.seek(0, 2)
            f.seek(max(0, f.tell() - size))
            return f.read().decode("utf-8", "replace")
    except OSError:
        return ""

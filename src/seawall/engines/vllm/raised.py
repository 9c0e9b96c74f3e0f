"""The exception that a log ends with, in its own words, for deaths that no sign explains. Text in, text out.

A traceback is printed by every process that the error passes through: the first is the one that raised it, the later
ones say that another process died. Forbidden here: to say what an exception means (that is `signs.py`).
"""

from __future__ import annotations

import re

from seawall.engines.vllm.signs import redacted
from seawall.engines.vllm.versions import flags

_RAISED = re.compile(
    r"^(?:\([^)\n]{1,80}\)\s*)?(?:\S{0,20}\[rank\d+\]:\s*)?"
    r"(?:(?:ERROR|CRITICAL)\s[^\n\]]{0,140}\]\s*)?"
    r"(?P<name>(?:[A-Za-z_]\w*\.)*[A-Za-z]\w*(?:Error|Exception|Failure)(?:\(\w+\))?): ?(?P<text>[^\n]{0,400})$",
    re.MULTILINE,
)
_ECHO = re.compile(
    r"EngineDead|Engine core initialization failed|Engine process failed to start"
    r"|EngineCore (?:failed|encountered|died)|Worker failed with error|WorkerProc initialization failed"
    r"|ProcessRaisedException|CancelledError|ChildFailedError|RayActorError|ActorDiedError"
)
"""What other processes say of a death that was not theirs."""
_SAID = re.compile(
    r"^[^\n]{0,120}?(?:\b(?:ERROR|FATAL|CRITICAL)\b|\b[Ee]rror\b|\bfatal\b|\bpanic\b)[: \]][^\n]{1,240}$",
    re.M,
)


def raised(text: str) -> str:
    """`ValueError: ...` as the log has it, the first that is no echo; empty when there is none."""
    for m in _RAISED.finditer(text):
        line = f"{m['name'].rsplit('.', 1)[-1]}: {m['text'].strip()}".rstrip(": ")
        if not _ECHO.search(line):
            return redacted(" ".join(line.split())[:240])
    return ""


def last_error(text: str) -> str:
    """The last line that calls itself an error, of a program that is no Python or hides its tracebacks."""
    found = [m[0] for m in _SAID.finditer(text) if not _ECHO.search(m[0])]
    return redacted(" ".join(found[-1].split())[:240]) if found else ""


def option_in(exception: str) -> str:
    """The flag of `vllm serve` that a refusal names by its field (max_num_batched_tokens); empty: none, or no refusal.

    Configuration is refused with ValueError, AssertionError or NotImplementedError, in the field's name.
    """
    if not exception.startswith(("ValueError", "AssertionError", "NotImplementedError")):
        return ""
    for word in re.findall(r"(?<![\w/.])(?:--)?[a-z]+(?:[_-][a-z0-9]+)+\b", exception):
        name = f"--{str(word).removeprefix('--').replace('_', '-')}"
        if name in flags():
            return name
    return ""

"""What the last lines of a vLLM, loader or kubelet log give away. Text in, matches out.

The messages themselves stand in `messages/`, a table for each thing that they tell of: texts of vLLM 0.8 to 0.32,
PyTorch, NCCL, CUDA, huggingface_hub and the Linux kernel. Forbidden here: messages.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from seawall.engines.vllm.messages.abilities import ABILITIES
from seawall.engines.vllm.messages.arguments import ARGUMENTS
from seawall.engines.vllm.messages.around import AROUND
from seawall.engines.vllm.messages.devices import DEVICES
from seawall.engines.vllm.messages.faults import FAULTS
from seawall.engines.vllm.messages.files import FILES
from seawall.engines.vllm.messages.gateways import GATEWAYS
from seawall.engines.vllm.messages.last import LAST
from seawall.engines.vllm.messages.libraries import LIBRARIES
from seawall.engines.vllm.messages.memory import MEMORY
from seawall.engines.vllm.messages.processes import PROCESSES
from seawall.engines.vllm.messages.ranks import RANKS
from seawall.engines.vllm.messages.refusals import REFUSALS
from seawall.engines.vllm.messages.requests import REQUESTS
from seawall.engines.vllm.messages.sign import Sign
from seawall.engines.vllm.messages.starting import STARTING
from seawall.engines.vllm.messages.weights import WEIGHTS

SIGNS: tuple[Sign, ...] = (
    *ARGUMENTS,
    *DEVICES,
    *MEMORY,
    *RANKS,
    *WEIGHTS,
    *ABILITIES,
    *STARTING,
    *FILES,
    *PROCESSES,
    *LIBRARIES,
    *FAULTS,
    *REFUSALS,
    *AROUND,
    *GATEWAYS,
    *REQUESTS,
    *LAST,
)
"""Ordered: an earlier sign explains a later one (a CUDA error follows a driver that is too old)."""


@dataclass(frozen=True)
class Said:
    """A sign that was found, with the line that shows it."""

    sign: Sign
    what: str
    line: str
    do: str
    groups: dict[str, str] = field(default_factory=dict)
    """What the message names: `cuda`, `found`, ..."""


_QUIET = re.compile(r"(?:\([^)\n]{1,60}\) *)?(?:\[[^\]\n]{1,40}\] *)?(?:INFO|WARNING|DEBUG)\b")
"""How a line begins that vLLM logs below the level of an error."""


def read(text: str) -> Said | None:
    """The first sign in the table's order that the text shows; None when it shows none."""
    for sign in SIGNS:
        for m in re.finditer(sign.pattern, text, re.IGNORECASE | re.MULTILINE):
            start = text.rfind("\n", 0, m.start()) + 1
            if sign.request or (not sign.any_level and _QUIET.match(text, start)):
                continue
            return _said(sign, m, text)
    return None


def _said(sign: Sign, m: re.Match[str], text: str) -> Said:
    start, end = text.rfind("\n", 0, m.start()) + 1, text.find("\n", m.end())
    line = text[start : end if end >= 0 else len(text)].strip()
    groups = {k: (v or "").strip() for k, v in m.groupdict().items()}
    what = re.sub(r" \(Xid \)", "", sign.what.format(**groups)).strip()
    do = " ".join(sign.do.format(**groups).split())
    return Said(sign, redacted(what), redacted(" ".join(line.split())[:240]), redacted(do), groups)


def read_alive(text: str) -> Said | None:
    """The last sign of what a running program asks for in vain; None when its log shows none."""
    found = [
        (m.start(), sign, m)
        for sign in SIGNS
        if sign.alive or sign.request
        for m in re.finditer(sign.pattern, text, re.IGNORECASE | re.MULTILINE)
    ]
    if not found:
        return None
    _, sign, m = max(found, key=lambda f: f[0])
    return _said(sign, m, text)


def redacted(line: str) -> str:
    """Without tokens that a log may hold."""
    line = re.sub(r"(?i)\b(bearer|basic) [\w.~+/=-]{8,}", r"\1 ...", line)
    return re.sub(
        r"\b(hf_(?!(?:overrides|config\w*|token|text\w*|hub\w*|transfer|xet)\b)|sk-|ghp_|AKIA)[A-Za-z0-9_-]{6,}"
        r"|(?<=[?&])(token|X-Amz-Signature)=[^&\s]+",
        r"\1...",
        line,
    )

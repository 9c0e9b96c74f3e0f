"""Which vLLM first knew a family of models, by the family's name on the hub. Plain data, no I/O.

Only families are listed whose first version is known from vLLM's own release notes; where a patch release brought
it, the minor version stands, so that what is refused here is refused by every patch of it. A name that fits nothing
says nothing.
"""

from __future__ import annotations

import re

from seawall.engines.vllm.versions import Version

_SINCE: tuple[tuple[str, Version], ...] = (
    (r"deepseek-v4", (0, 20)),
    (r"gemma-4", (0, 19)),
    (r"qwen3\.[56]", (0, 16)),
    (r"mistral-large-3|ministral-3", (0, 12)),
    (r"minimax-m2", (0, 11)),
    (r"deepseek-v3\.2", (0, 11)),
    (r"qwen3-(vl|omni)", (0, 11)),
    (r"qwen3-next", (0, 10)),
    (r"gpt-oss", (0, 10)),
    (r"seed-oss", (0, 10)),
    (r"glm-4\.[56]", (0, 10)),
    (r"gemma-3n", (0, 9)),
    (r"qwen3-[\d.]+b", (0, 8)),
    (r"llama-4-", (0, 8)),
    (r"gemma-3-", (0, 8)),
    (r"qwen2\.5-vl", (0, 7)),
)
"""What a name holds -> the first version that serves it. An earlier line goes before a later one."""


def first_version(model: str) -> Version | None:
    """The first vLLM that knows the model's family; None when the name tells none."""
    name = model.rstrip("/").rsplit("/", 1)[-1].lower()
    return next((version for pattern, version in _SINCE if re.search(rf"(?<![a-z\d]){pattern}", name)), None)

"""What each cause means, how it shows and what mends it: the stories of `seawall diagnose --explain`. Text only.

A cause in a diagnosis has one sentence; here is why it happens and where to look when the sentence is not enough. A
test holds the table to the causes that the rules can give.
"""

from __future__ import annotations

import re

from seawall.diagnose.stories_clusters import TEXT as TEXT_OF_CLUSTERS
from seawall.diagnose.stories_engines import TEXT as TEXT_OF_ENGINES
from seawall.domain.columns import wrapped
from seawall.engines.vllm.signs import SIGNS

STORIES: dict[str, str] = {
    part.split("\n", 1)[0]: " ".join(part.split("\n", 1)[1].split())
    for part in re.split(r"\n(?=\S)", (TEXT_OF_CLUSTERS.strip() + "\n" + TEXT_OF_ENGINES.strip()))
}


def ids() -> list[str]:
    """Every cause that can be explained."""
    return sorted({*STORIES, *(s.id for s in SIGNS)})


def explain(cause: str, width: int = 100) -> str:
    """The story of one cause, as text."""
    sign = next((s for s in SIGNS if s.id == cause), None)
    parts = [STORIES.get(cause, "")]
    if sign is not None:
        parts += [
            f"Read from the log of the container that died: {_plain(sign.what)}.",
            f"To do: {_plain(sign.do)}.",
        ]
    lines = [cause]
    for part in filter(None, parts):
        lines += [
            "",
            *wrapped(part, width, "  ", "  "),
        ]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """A sign's sentence without the places that a message fills."""
    return " ".join(
        re.sub(r"[:=]?\s*(?<!\{)\{\w+\}(?!\})", " ...", text).replace("{{", "{").replace("}}", "}").split()
    )

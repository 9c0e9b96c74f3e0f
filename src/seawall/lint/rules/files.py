"""Findings about the text itself; the reader makes them (`run.py`), their stories are here."""

from __future__ import annotations

from collections.abc import Iterator

from seawall.lint.finding import Finding, Say, rule
from seawall.lint.world import World


@rule(
    "yaml/malformed",
    "error",
    "Not YAML",
    story="""kubectl applies nothing from there on, Argo CD and Flux stop at the file. Other documents
    are still checked here. A chart's template has to be rendered first: `helm template ... | seawall lint -`.""",
    cure="Mend the YAML at that line and column.",
)
def malformed(world: World, say: Say) -> Iterator[Finding]:
    yield from ()


@rule(
    "yaml/duplicate-key",
    "error",
    "A key that stands twice",
    story="""YAML forbids it, most readers take the last one without a word: what the file seems to say is
    not what the cluster gets.""",
    cure="Keep one of them.",
)
def duplicate_key(world: World, say: Say) -> Iterator[Finding]:
    yield from ()

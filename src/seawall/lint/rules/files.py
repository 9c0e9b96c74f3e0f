"""Findings about the text itself; the reader makes them (`run.py`), their stories are here."""

from __future__ import annotations

from collections.abc import Iterator

from seawall.lint.finding import Finding, Say, rule
from seawall.lint.world import Manifests


@rule(
    "yaml/malformed",
    "error",
    "Not YAML",
    story="""kubectl applies nothing from there on, Argo CD and Flux stop at the file. Other documents
    are still checked here. A chart's template has to be rendered first: `helm template ... | seawall lint -`.""",
    cure="Correct the YAML at that line and column.",
)
def malformed(world: Manifests, say: Say) -> Iterator[Finding]:
    yield from ()


@rule(
    "yaml/duplicate-key",
    "error",
    "A key that stands twice",
    story="""YAML forbids it, most readers take the last one without a word: what the file seems to say is
    not what the cluster gets.""",
    cure="Keep one of them.",
)
def duplicate_key(world: Manifests, say: Say) -> Iterator[Finding]:
    yield from ()


@rule(
    "fleet/invalid",
    "error",
    "A Fleet that is not one",
    story="""Every verb of seawall refuses it, the operator reports it in the Fleet's status and leaves what runs as it
    is. The check is the same that `seawall plan` makes before it plans.""",
    cure="Write what the message names.",
)
def invalid_fleet(world: Manifests, say: Say) -> Iterator[Finding]:
    yield from ()

"""The registry's `Model`: weights that were looked at once and are named from then on. Plain data.

A fleet refers to one by `model.source: model://name`. What the document pins (revision, lock digest, licence)
is what every fleet gets; the registry is YAML in a repository, so a review sees who changes which weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Len

from seawall.domain.spec import Adapter, Metadata, Quantization, Strict
from seawall.domain.units import Bytes

Sha256 = Annotated[str, Len(64, 64)]


@dataclass(frozen=True, kw_only=True)
class ModelFacts(Strict):
    source: str
    """`hf://org/name` or any other source of `seawall pull`."""
    revision: str | None = None
    lock_digest: Sha256 | None = None
    """Identity of the weights: sha256 over path, size and sha256 of every file (`seawall models add` fills it)."""
    size: Bytes | None = None
    """All files together."""
    licence: str | None = None
    quantization: Quantization | None = None
    adapters: list[Adapter] = field(default_factory=list)
    config: dict[str, Any] | None = None
    """config.json, so that fleets of this model are planned without a network."""


@dataclass(frozen=True, kw_only=True)
class ModelDocument(Strict):
    """One entry of the registry."""

    metadata: Metadata
    spec: ModelFacts
    api_version: Literal["seawall.dev/v1alpha1"] = "seawall.dev/v1alpha1"
    kind: Literal["Model"] = "Model"

    @property
    def name(self) -> str:
        return self.metadata.name

"""Which fleets cannot stand behind one gateway, because clients or it could not tell them apart. Pure.

Forbidden here: refusing. Whoever loads fleets together (gateway, local mode, renderer) does, with these words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from seawall.domain.spec import Fleet


@dataclass(frozen=True, kw_only=True)
class NameClash:
    """One name that two fleets claim; as the name of a model, each by what it serves, adapts or aliases."""

    kind: Literal["fleet", "model"]
    name: str
    fleets: tuple[str, str]

    def __str__(self) -> str:
        if self.kind == "fleet":
            return f"two fleets are named {self.name}"
        return f"the model name {self.name!r} belongs to {self.fleets[0]} and to {self.fleets[1]}"

    @property
    def cure(self) -> str:
        if self.kind == "fleet":
            return "A gateway tells fleets apart by name: rename one."
        return "Change servedNames, an adapter or an alias of one."


def model_names(fleet: Fleet) -> tuple[str, ...]:
    """Every name by which clients reach `fleet`."""
    model = fleet.spec.model
    return (*fleet.served_names, *(a.name for a in model.adapters), *fleet.spec.gateway.aliases)


def clashes(fleets: Iterable[Fleet]) -> Iterator[NameClash]:
    """Each name once, in the order of the fleets."""
    owners: dict[str, str] = {}
    names: set[str] = set()
    told: set[NameClash] = set()
    for fleet in fleets:
        found = [NameClash(kind="fleet", name=fleet.name, fleets=(fleet.name, fleet.name))]
        found = found if fleet.name in names else []
        names.add(fleet.name)
        for name in model_names(fleet):
            other = owners.setdefault(name, fleet.name)
            if other != fleet.name:
                found.append(NameClash(kind="model", name=name, fleets=(other, fleet.name)))
        for clash in found:
            if clash not in told:
                told.add(clash)
                yield clash

"""Fleets that are loaded together are refused when one gateway, or its clients, could not tell two of them apart."""

from __future__ import annotations

from collections.abc import Iterable

from seawall.decide.together import clashes
from seawall.domain.spec import Fleet
from seawall.errors import InputError


def check_together(fleets: Iterable[Fleet]) -> None:
    """InputError with the first clash and its cure."""
    for clash in clashes(fleets):
        raise InputError(f"{clash}.", clash.cure)

"""A Fleet, its plan, and the Fleet as its gateway reads it: the one way from a spec to all three.

What `render`, `apply`, the operator and `seawall up` make of a Fleet must be the same; each begins here. Forbidden
here: reading a file but the model's shape, and anything about where it will run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from seawall.config.load import dump_fleet
from seawall.decide.plan import plan
from seawall.decide.plan.bounds import bounded
from seawall.domain.action import Plan
from seawall.domain.spec import Fleet
from seawall.shapes.config import resolve


@dataclass(frozen=True, kw_only=True)
class PlannedFleet:
    """A fleet that was planned."""

    fleet: Fleet
    plan: Plan
    document: dict[str, Any]
    """What its gateway reads: the Fleet with the plan's bounds, as plain data."""


def planned_fleet(fleet: Fleet) -> PlannedFleet:
    """SeawallError when the model's shape cannot be had; a plan that does not fit is a plan."""
    made = plan(fleet, resolve(fleet))
    return PlannedFleet(fleet=fleet, plan=made, document=document_of(fleet, made))


def document_of(fleet: Fleet, made: Plan | None) -> dict[str, Any]:
    """The Fleet as its gateway reads it; without a plan, as it was written."""
    return dump_fleet(fleet if made is None else bounded(fleet, made))

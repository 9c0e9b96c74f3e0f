"""One simulation from a fleet, as it is asked for on a command line: planned, set up, run.

Forbidden here: what a simulation does (`world.py`) and what is printed of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from seawall.decide.plan import plan
from seawall.decide.scale import schedule
from seawall.domain.action import Timing
from seawall.domain.spec import Fleet
from seawall.errors import InputError
from seawall.shapes.config import resolve
from seawall.sim.outcome import Outcome
from seawall.sim.setup import Happening, Recipe, setup_of
from seawall.sim.sweep import Variant
from seawall.sim.world import Progress, simulate
from seawall.workload.arrivals import Requests


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What holds for every variant that is tried."""

    timing: Timing | None = None
    """Measured step times; None: the plan's roofline."""
    recipe: Recipe | None = None
    replicas: int | None = None
    happenings: tuple[Happening, ...] = ()
    node_delay_s: float | None = None
    spot_per_hour: float = 0.0
    patience_s: float = float("inf")
    seed: int = 1
    begins: str | None = None
    """Date and time at which it begins, in the fleet's time zone."""


def simulated(
    variant: Variant, requests: Requests, given: Conditions, progress: Progress | None = None
) -> Outcome:
    """Plans the variant and simulates it. What the variant says wins over the conditions."""
    made = plan(variant.fleet, resolve(variant.fleet), calibration=given.timing)
    setup = setup_of(
        variant.fleet,
        made,
        timing=given.timing,
        recipe=variant.recipe or given.recipe,
        initial=given.replicas if variant.replicas is None else variant.replicas,
        happenings=given.happenings,
        node_delay_s=given.node_delay_s,
        spot_per_hour=given.spot_per_hour,
        patience_s=given.patience_s,
        seed=given.seed,
        begins_s=_begins(variant.fleet, given.begins),
    )
    return simulate(setup, requests, progress)


def _begins(fleet: Fleet, begins: str | None) -> float:
    """Unix time; a Monday's beginning where nothing is said. InputError for what is no time."""
    try:
        return schedule.unix_of(begins or "2026-01-05", fleet.spec.scaling.timezone)
    except ValueError:
        raise InputError(f"--begins {begins!r:.60} is no time.", "Write '2026-11-30 08:00'.") from None

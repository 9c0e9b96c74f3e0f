"""Trying settings against each other: every combination simulated on the same requests, the best marked.

A setting is a path below `spec` as YAML writes it (`scaling.target`, `engine.maxNumSeqs`), or one of `spot`
(true, false), `policy` (keda, slo, guide, fixed) and `replicas`. Forbidden here: printing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from seawall.config.load import dump_fleet, parse_fleets
from seawall.domain.spec import Fleet
from seawall.drivers.bounded_yaml import BoundedLoader
from seawall.errors import InputError
from seawall.sim.outcome import Outcome
from seawall.sim.setup import RECIPES, Recipe

MOST = 200


@dataclass(frozen=True)
class Variant:
    """One combination."""

    label: str
    fleet: Fleet
    recipe: Recipe | None
    replicas: int | None


def parse_settings(words: Sequence[str]) -> list[tuple[str, list[Any]]]:
    """`scaling.target=8,16` -> ("scaling.target", [8, 16])."""
    import yaml

    found = []
    for word in words:
        path, sign, values = word.partition("=")
        if not sign or not path.strip() or not values.strip():
            raise InputError(
                f"the setting {word!r} cannot be read.", "Write path=value,value: scaling.target=8,16."
            )
        try:
            found.append((path.strip(), [yaml.load(v, BoundedLoader) for v in values.split(",")]))
        except yaml.YAMLError:
            raise InputError(f"the values of {word!r} cannot be read.") from None
    return found


def variants(fleet: Fleet, settings: Sequence[tuple[str, list[Any]]]) -> Iterator[Variant]:
    """Every combination, in the order written. InputError for a path or value that the spec refuses."""
    count = 1
    for _, values in settings:
        count *= len(values)
    if count > MOST:
        raise InputError(
            f"this sweep has {count} combinations; at most {MOST} are run.", "Sweep fewer settings."
        )
    for chosen in itertools.product(*(values for _, values in settings)):
        raw = dump_fleet(fleet)
        recipe: Recipe | None = None
        replicas: int | None = None
        for (path, _), value in zip(settings, chosen, strict=True):
            match path:
                case "policy":
                    recipe = next((r for r in RECIPES if r == str(value)), None)
                    if recipe is None:
                        raise InputError(f"policy={value} is none of {', '.join(RECIPES)}.")
                case "replicas":
                    replicas = _count(value)
                case "spot":
                    raw["spec"].setdefault("hardware", {})["spot"] = {} if value else None
                case _:
                    _set(raw["spec"], path, value)
        label = " ".join(f"{path}={_shown(v)}" for (path, _), v in zip(settings, chosen, strict=True))
        yield Variant(label, _parsed(raw), recipe, replicas)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 100_000:
        raise InputError(f"replicas={value} is no count.")
    return value


def _shown(value: Any) -> str:
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _set(spec: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.removeprefix("spec.").split(".")
    at = spec
    for part in parents:
        if at.get(part) is None:
            at[part] = {}
        at = at[part]
        if not isinstance(at, dict):
            raise InputError(f"{path}: {part} has no settings below it.")
    at[last] = value


def _parsed(raw: dict[str, Any]) -> Fleet:
    import yaml

    return parse_fleets(yaml.safe_dump(raw), "the sweep")[0]


def pareto(outcomes: Sequence[Outcome]) -> list[bool]:
    """True for those of which no other is cheaper and better; cost is dollars, or GPU-hours without a price."""
    points = []
    for outcome in outcomes:
        s = outcome.summary()
        points.append((s["gpu_hours"] if s["usd"] is None else s["usd"], s["slo_attainment"]))
    return front(points)


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Pareto front of (cost, quality): true where no other point is as cheap and better, or as good and cheaper."""
    return [
        not any(
            (c <= cost and q >= quality) and (c < cost or q > quality)
            for j, (c, q) in enumerate(points)
            if j != i
        )
        for i, (cost, quality) in enumerate(points)
    ]

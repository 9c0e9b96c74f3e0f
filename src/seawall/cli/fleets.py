"""Specs on the command line -> planned fleets behind one gateway: what render, apply, diff and doctor begin with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seawall.domain.spec import Fleet
    from seawall.render.inputs import Group


def group_of(
    paths: Sequence[str], lock: Path | None = None, gateway_name: str = "", namespace: str | None = None
) -> Group:
    """Loads, plans and groups. InputError for whatever in the files is not right."""
    from dataclasses import replace

    from seawall.config.load import load_fleets
    from seawall.config.planned import planned_fleet
    from seawall.config.together import check_together
    from seawall.errors import InputError
    from seawall.render.inputs import Group, Wanted

    members = []
    for path in paths:
        for fleet in load_fleets(path):
            if namespace:
                fleet = replace(fleet, metadata=replace(fleet.metadata, namespace=namespace))
            text = _lock_text(Path(path), fleet.name, lock)
            made = planned_fleet(fleet)
            truth = _truth_text(Path(path), fleet)
            file = "FLEET.yaml" if path == "-" else path
            members.append(
                Wanted(fleet=fleet, plan=made.plan, document=made.document, lock=text, truth=truth, file=file)
            )
    check_together(m.fleet for m in members)
    if lock and len(members) > 1:
        raise InputError("--lock pins one fleet, these are several.", "Keep NAME.lock beside the specs.")
    return Group(members=tuple(members), gateway_name=gateway_name)


def _truth_text(path: Path, fleet: Fleet) -> str | None:
    """The fleet's fingerprint, where one lies beside its spec. InputError where it is of something else."""
    from seawall.weights.truth_file import mounted, truth_of, truth_path

    found = truth_of(truth_path(path.parent, fleet.name), fleet)
    return None if found is None else mounted(found)


def _lock_text(path: Path, name: str, lock: Path | None) -> str | None:
    """The lockfile's text, checked; the one beside the spec is found by the fleet's name."""
    chosen = lock or path.with_name(f"{name}.lock")
    if lock is None and not chosen.exists():
        return None
    from seawall.weights.lockfile import read_lock

    return read_lock(chosen).text()

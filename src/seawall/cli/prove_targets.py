"""`seawall prove --target`: the same faults for anybody's gateway, as one table."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from seawall.cli import output
from seawall.cli.files import writable_folder
from seawall.cli.progress import Steps
from seawall.cli.terminal import width
from seawall.domain.units import counted
from seawall.errors import InputError

if TYPE_CHECKING:
    from seawall.prove.run import Proof
    from seawall.prove.scenarios import Scenario
    from seawall.prove.targets.grid import Cell, Grid

UNFOLDED = 10_000
"""Columns, where nobody looks: what a program reads is one table."""


def run_targets(fleet: Path, scenarios: Sequence[Scenario], o: dict[str, Any]) -> None:
    """The whole run: the table, the JSON, the pages; exit code 1 for a red cell, 130 for a run that was cut short."""
    from seawall.prove.run import Proof
    from seawall.prove.targets.grid import Grid
    from seawall.prove.targets.known import find_all

    for flag in ("context", "without"):
        if o[flag]:
            raise InputError(f"--target does not go with --{flag}.", "Leave one of them out.")
    writable_folder(o["report"], "--html")
    targets = find_all(o["targets"])
    proof = Proof(
        fleet=fleet, engine=o["engine"], scenarios=scenarios, streams=o["streams"], seed=o["seed"],
        keep_logs=o["keep_logs"], jobs=max(1, o["jobs"]), api_key=o["api_key"],
    )  # fmt: skip
    grid = Grid()
    whole = _run(proof, targets, grid, bool(o["form"]))
    _report(proof, grid, whole, o["report"], o["form"])


def _run(proof: Proof, targets: Sequence[Any], grid: Grid, quiet: bool) -> bool:
    """Plays it; Ctrl-C ends it early with what was seen so far, and False."""
    from seawall.prove.targets.run import prove_targets

    steps = Steps(len(proof.scenarios) * len(targets), "cell")

    def done(cell: Cell) -> None:
        steps.done()
        click.echo(cell_line(cell), err=quiet)
        if cell.verdict is not None and not cell.verdict.kept:
            for why in (*cell.verdict.broken, *cell.verdict.notes):
                click.echo(f"      {why}", err=quiet)

    async def stoppable() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await prove_targets(proof, targets, grid, steps.say, done)

    try:
        with steps:
            asyncio.run(stoppable())
    except (KeyboardInterrupt, asyncio.CancelledError):
        click.echo("\n  interrupted", err=True)
        return False
    return True


def cell_line(cell: Cell) -> str:
    """One cell, within 80 columns; all its numbers are in --json and on its page."""
    from seawall.prove.targets.pages import short

    head = f"  {cell.target:<12} {cell.scenario:<15} {short(cell):<17}"
    if cell.verdict is None:
        return f"{head.rstrip()}: {cell.not_applicable}"
    v = cell.verdict
    wasted = "" if cell.wasted is None else f"{cell.wasted:>6,} wasted"
    return f"{head}{v.finished:>5,} whole{v.worst_stall_s:>6.1f} s{wasted}"


def _report(proof: Proof, grid: Grid, whole: bool, report: Path | None, form: str) -> None:
    from seawall.prove.targets.pages import matrix, write_pages

    verdict = ("kept" if grid.kept else "broken") if whole else "interrupted"
    if report is not None:
        write_pages(grid, report)
    if form:
        facts = {name: f.as_json() for name, f in grid.facts.items()}
        cells = [c.as_json() for c in grid.cells]
        head = {"verdict": verdict, "engine": proof.engine, "streams": proof.streams}
        output.write({**head, "targets": facts, "cells": cells}, form)
    else:
        click.echo(
            "\n  whole: answers that came whole; s: the worst stall; wasted: tokens that engines computed in vain\n"
        )
        for line in matrix(grid, width() or UNFOLDED):
            click.echo(line)
        shown = f" Pages: {report / 'index.html'}" if report else ""
        red = sum(c.state in ("broken", "failed") for c in grid.cells)
        click.echo(f"{counted(len(grid.cells), 'cell')}, {red} red.{shown}")
    if not whole:
        sys.exit(130)
    if not grid.kept:
        first = next(c for c in grid.cells if c.state in ("broken", "failed"))
        again = f"seawall prove {proof.fleet} --target {first.target} --scenario {first.scenario or 'kill'} --html DIR"
        click.echo(f"Next: {again}", err=bool(form))
        sys.exit(1)

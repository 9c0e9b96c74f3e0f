"""What `seawall simulate` prints of its outcomes: one fleet, several, or a sweep; and the rows of its JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from seawall.cli import terminal
from seawall.cli.terminal import say
from seawall.domain.columns import ALWAYS, Column, labelled, lay_out

if TYPE_CHECKING:
    from seawall.domain.spec import Fleet
    from seawall.sim.outcome import Outcome


SWEPT = (
    Column("  setting", ALWAYS), Column("good", ALWAYS, right=True), Column("TTFT p95", 60, right=True),
    Column("TPOT p95", 50, right=True), Column("lost", ALWAYS, right=True), Column("429", 40, right=True),
    Column("most", 20, right=True), Column("GPU-hours", 30, right=True), Column("$", ALWAYS, right=True),
    Column("", 0),
)  # fmt: skip


def rows(runs: list[tuple[str, Outcome]], marks: list[bool] | None = None) -> list[dict[str, Any]]:
    """Each run's answers; `marks`: whether it lies on the Pareto front."""
    rows = []
    for i, (label, outcome) in enumerate(runs):
        row = {"name": label, **outcome.summary()}
        row["log"] = [{"t": round(t, 3), "text": text} for t, text in outcome.log[:1000]]
        if marks is not None:
            row["pareto"] = marks[i]
        rows.append(row)
    return rows


def show(fleet: Fleet, outcome: Outcome) -> None:
    from seawall.domain.units import counted, show_seconds
    from seawall.sim.report import rows_of

    setup = outcome.setup
    say(
        f"{fleet.name}   {outcome.requests.source}   policy {setup.recipe}   "
        f"{counted(len(outcome.requests), 'request')} in {show_seconds(outcome.end_s)}\n"
    )
    _labelled(rows_of(outcome))
    if outcome.log:
        say("\n  what happened")
        _labelled([(f"{show_seconds(t):>13}", text) for t, text in outcome.log[:12]], "    ")
        if len(outcome.log) > 12:
            say(f"    and {len(outcome.log) - 12} more: --html shows them all")
    said = f"{setup.shape.timing.source}; see docs/reference/simulator-model.md for what is modelled"
    click.echo()
    _labelled([("speed   ", said)])


def show_total(total: dict[str, Any], fleets: int) -> None:
    from seawall.sim.report import cost_of

    counts = total["requests"]
    say(f"all {fleets} fleets   each simulated alone: nodes and a gateway that they share are not seen\n")
    answered = (
        f"{counts['done']:,} of {counts['arrived']:,} answered, {counts['lost']:,} lost, "
        f"{counts['rejected'] + counts['expired'] + counts['cancelled'] + counts['refused']:,} turned away; "
        f"{total['slo_attainment']:.2%} within their fleet's objectives"
    )
    _labelled([("requests", answered), ("cost", cost_of(total))])


def show_next(fleet: Fleet, outcome: Outcome, options: dict[str, Any]) -> None:
    met = outcome.summary()["slo_attainment"] >= fleet.spec.traffic.slo.availability
    if not options["html"]:
        say(
            "\nNext: add --html report.html for charts"
            + ("" if met else ", or --sweep scaling.target=4,8,16")
        )


def show_sweep(fleet: Fleet, runs: list[tuple[str, Outcome]]) -> None:
    from seawall.sim.report import shown_number
    from seawall.sim.sweep import pareto

    table = []
    for (label, outcome), best in zip(runs, pareto([o for _, o in runs]), strict=True):
        s = outcome.summary()
        table.append(
            (
                f"{'*' if best else ' '} {label}",
                f"{s['slo_attainment']:.2%}",
                shown_number(s["ttft_s"]["p95"]) + " s",
                shown_number(None if s["tpot_s"]["p95"] is None else s["tpot_s"]["p95"] * 1000) + " ms",
                f"{s['requests']['lost']:,}",
                f"{s['requests']['rejected']:,}",
                str(s["replicas"]["most"]),
                shown_number(s["gpu_hours"]),
                shown_number(s["usd"]),
                "",
            )
        )
    click.echo("\n".join(lay_out(SWEPT, table, terminal.width()).lines()))
    say(f"\n* nothing else is both cheaper and better ({fleet.name}, {runs[0][1].requests.source})")
    say("Next: put the setting you like into the spec, and run `seawall render`")


def _labelled(found: list[tuple[str, str]], indent: str = "  ") -> None:
    click.echo("\n".join(labelled(found, terminal.width(), indent)))

"""`seawall prove`: does it keep its promises?"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from seawall.load.prove.verdict import Verdict


def _line(v: Verdict) -> str:
    rest = f"   {v.rejected:,} rejected" if v.rejected else ""
    rest += f"   {v.left:,} left" if v.left else ""
    return (
        f"  {v.title:<34}{v.started:>7,} streams{v.finished:>8,} whole{v.resumed:>5,} resumed"
        f"{v.lost:>5,} lost{v.wrong_tokens:>4,} wrong   worst stall {v.worst_stall_s:5.2f} s{rest}"
    )


@click.command()
@click.argument("fleet", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--engine", type=click.Choice(["sim", "vllm"]), default="sim", show_default=True)
@click.option("--scenario", "names", multiple=True, metavar="NAME", help="Only this one; repeat for more.")
@click.option("--streams", default=100, show_default=True, help="Streams open at any time.")
@click.option(
    "--without",
    multiple=True,
    metavar="MECHANISM",
    help="Switch one off, to see its scenario break; --list names them.",
)
@click.option("--list", "listing", is_flag=True, help="Print the scenarios and what each one proves.")
@click.option("--json", "as_json", is_flag=True, help="The verdicts as JSON on stdout.")
@click.option(
    "--html", "report", type=click.Path(dir_okay=False, path_type=Path), help="Write a timeline here."
)
@click.option(
    "--keep-logs", type=click.Path(file_okay=False, path_type=Path), help="Keep logs and specs here."
)
@click.option("--jobs", default=1, show_default=True, help="Scenarios at once (simulated engines only).")
@click.option("--seed", default=0, show_default=True)
def command(
    fleet: Path, engine: str, names: tuple[str, ...], streams: int, without: tuple[str, ...], listing: bool,
    as_json: bool, report: Path | None, keep_logs: Path | None, jobs: int, seed: int,
) -> None:  # fmt: skip
    """Prove a fleet's promises: streams checked token by token while one thing after another goes wrong.

    It runs the fleet on this machine (as `seawall up` does, in a place of its own), keeps streams open, and breaks
    things. Exit code 1 when a stream was lost, a token was wrong, or another promise did not hold.

    \b
    Examples:
      seawall prove examples/smollm2.yaml
      seawall prove examples/smollm2.yaml --scenario kill --html prove.html
      seawall prove examples/smollm2.yaml --scenario kill --without resume     (must fail)
    """
    import asyncio

    from seawall.errors import InputError
    from seawall.load.prove.mechanisms import MECHANISMS, off
    from seawall.load.prove.run import Proof, prove
    from seawall.load.prove.scenarios import SCENARIOS
    from seawall.load.prove.timeline import page
    from seawall.load.prove.verdict import overall

    if listing:
        for s in SCENARIOS.values():
            proves = f"proves {', '.join(s.mechanisms)}" if s.mechanisms else ""
            click.echo(f"  {s.name:<16}{s.title:<36}{proves}{'   sim only' if s.sim_only else ''}")
        click.echo()
        for name, mechanism in MECHANISMS.items():
            cover = f"   (and {', '.join(mechanism.covers)}, which would hide it)" if mechanism.covers else ""
            click.echo(f"  --without {name:<15}{mechanism.what}{cover}")
        return
    if streams < 1:
        raise InputError("--streams must be at least 1.")
    off(without)
    unknown = [n for n in names if n not in SCENARIOS]
    if unknown:
        raise InputError(f"there is no scenario {unknown[0]!r}.", f"One of: {', '.join(SCENARIOS)}.")
    chosen = [SCENARIOS[n] for n in names] or [
        s for s in SCENARIOS.values() if engine == "sim" or not s.sim_only
    ]
    simulated = [s.name for s in chosen if s.sim_only]
    if engine != "sim" and simulated:
        raise InputError(f"{simulated[0]} needs an engine that fails on command.", "Use --engine sim.")

    def say(text: str) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K  {text} ...", nl=False, err=True)

    def done(v: Verdict) -> None:
        if sys.stderr.isatty():
            click.echo("\r\x1b[K", nl=False, err=True)
        click.echo(_line(v), err=as_json)
        for why in (*v.broken, *(v.notes if not v.kept else ())):
            click.echo(f"      {why}", err=as_json)

    if engine == "sim":
        click.echo("  engine: simulated. The gateway and the supervisor are the real ones.", err=as_json)
    result = asyncio.run(
        prove(
            Proof(fleet=fleet, engine=engine, scenarios=chosen, streams=streams, without=without, seed=seed,
                  keep_logs=keep_logs, jobs=max(1, jobs)),
            say, done,
        )
    )  # fmt: skip
    total = overall(result.verdicts)
    if report is not None:
        report.write_text(page(result, f"seawall prove {fleet.name}"))
    if as_json:
        scenarios = [v.as_json() for v in result.verdicts]
        verdict = "kept" if total["kept"] else "broken"
        click.echo(json.dumps({"scenarios": scenarios, **total, "scenarios_run": len(scenarios),
                               "without": list(without), "engine": engine, "verdict": verdict}
                              | {"scenarios": scenarios}))  # fmt: skip
    else:
        shown = f" Report: {report}" if report else ""
        click.echo(
            f"{total['scenarios']} scenarios, {total['streams']:,} streams, {total['lost']:,} lost "
            f"(< {total['lost_share_at_most']:.3%} at 95%), {total['wrong_tokens']:,} wrong tokens.{shown}"
        )
    if not total["kept"]:
        broken = ", ".join(v.name for v in result.verdicts if not v.kept)
        click.echo(
            f"Broken: {broken}. Next: seawall prove {fleet} --scenario {broken.split(',')[0]} --html prove.html",
            err=as_json,
        )
        sys.exit(1)

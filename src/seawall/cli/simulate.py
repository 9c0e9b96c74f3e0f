"""`seawall simulate`: what a fleet would do under a load, in a second instead of an hour."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from seawall.cli import output
from seawall.cli.files import InputFile, writable
from seawall.cli.numbers import Finite
from seawall.cli.output import short_output_option
from seawall.cli.terminal import say

if TYPE_CHECKING:
    from seawall.domain.spec import Fleet
    from seawall.sim.load import LoadWish
    from seawall.sim.outcome import Outcome
    from seawall.sim.run import Conditions
    from seawall.sim.sweep import Variant
    from seawall.sim.world import Progress
    from seawall.workload.arrivals import Requests

HELP = """Simulate FLEET.yaml under a load: latencies, queue, replicas, losses and dollars.

The gateway's and the scaler's own code runs against simulated vLLM replicas with your cloud's delays; the same
seed gives the same answer. Replicas' speed comes from the plan's roofline, or from --calibration.

\b
    $ seawall simulate fleet.yaml --rate '10/s for 5m, 50/s for 10m'
    $ seawall simulate fleet.yaml --rate '30/s for 20m' --event '5m rollout' --event '10m node' --html report.html
    $ seawall simulate fleet.yaml --trace AzureLLMInferenceTrace_conv.csv --policy slo
    $ seawall simulate fleet.yaml --rate '50/s for 15m' --sweep scaling.target=8,16,32 policy=keda,guide
    $ seawall simulate two-models.yaml --rate '20/s for 10m' --share chat=3,code=1
"""
ONE_FLEET = ("sweep", "events", "calibration", "svg", "png")
"""Options that are about one fleet, its model or its picture."""
DRAWN = ("burst", "prompt", "output", "spread")
"""Options of a load that is drawn; a trace brings its own."""


@click.command(help=HELP)
@click.argument("spec", metavar="FLEET.yaml", type=click.Path(dir_okay=False))
@click.argument("more", nargs=-1, metavar="[SETTING=VALUE,...]...")
@click.option(
    "--fleet", "name", help="One of the file's fleets. Default: all, each with its share of the load."
)
@click.option(
    "--share", help="Of the load, per fleet: 'chat=3,code=1'. Default: as spec.traffic.rate, else alike."
)
@click.option(
    "--rate", help="Load: '10/s for 5m, 50/s for 10m', '5/s to 40/s for 10m', '20/s +-15/s every 1h for 3h'."
)
@click.option(
    "--trace",
    type=InputFile(".csv", exists=False),
    help="Replay an Azure, BurstGPT or Mooncake trace, also gzipped.",
)
@click.option("--speed", type=Finite(min=1e-6), help="Replay the trace so many times as fast. Default: 1.")
@click.option("--burst", type=Finite(0.1, 20), help="Variation of the gaps. Default: 1, Poisson.")
@click.option("--prompt", type=Finite(min=1), help="Mean prompt tokens. Default: spec.traffic.promptTokens.")
@click.option("--output", type=Finite(min=1), help="Mean output tokens. Default: spec.traffic.outputTokens.")
@click.option(
    "--spread",
    type=Finite(0, 10),
    help="Variation of lengths (lognormal); 0: all alike. Default: 1.",
)
@click.option(
    "--policy", type=click.Choice(["keda", "slo", "guide", "fixed"]), help="Who scales. Default: the spec's."
)
@click.option("--replicas", type=click.IntRange(0, 100_000), help="Ready at the start. Default: scaling.min.")
@click.option(
    "--event",
    "events",
    multiple=True,
    help="'10m kill 2', '5m rollout', '8m node', '9m spot', '1m canary', '1m canary slower 1.4 errors 2%'.",
)
@click.option(
    "--spot-per-hour",
    type=Finite(0, 0.999),
    default=0.0,
    help="Chance that a spot node is reclaimed.",
)
@click.option("--node-delay", help="Until a new GPU node runs pods. Default: the cloud's usual.")
@click.option(
    "--begins",
    help="Date and time at which the load begins, for spec.scaling.schedule and its budget. Default: a Monday, 00:00.",
)
@click.option("--patience", help="Clients without a token after so long go away. Default: never.")
@click.option(
    "--calibration",
    type=InputFile(".json"),
    help="Measured step times (`seawall bench --calibrate`).",
)
@click.option(
    "--replay",
    type=InputFile(".jsonl", exists=False),
    help="Decide again what a scaler's log says was decided; the load is the log's.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="The same seed brings the same arrivals.",
)
@click.option("--sweep", multiple=True, metavar="SETTING=VALUE,...", help="Try settings against each other.")
@click.option("--html", type=click.Path(dir_okay=False), help="Write a report with charts, one file.")
@click.option("--svg", type=click.Path(dir_okay=False), help="Write the charts alone.")
@click.option(
    "--png",
    type=click.Path(dir_okay=False),
    help="Write the charts as an image for a slide (needs seawall[pictures]).",
)
@short_output_option
def command(spec: str, more: tuple[str, ...], name: str | None, form: str, **options: Any) -> None:
    from seawall.charts import image
    from seawall.cli.simulate_table import rows, show, show_next, show_sweep
    from seawall.errors import InputError
    from seawall.sim.load import load_of
    from seawall.sim.sweep import Variant, pareto, parse_settings, variants

    for kind in ("html", "svg", "png"):
        writable(Path(options[kind]) if options[kind] else None, f"--{kind}")
    if options["png"]:
        image.needed()
    fleets = _fleets(spec, name)
    if options["replay"]:
        _replay(fleets, Path(options["replay"]), form)
        return
    if len(fleets) > 1:
        _several(fleets, bool(more), form, options)
        return
    if options["share"]:
        raise InputError("--share divides a load between fleets, and here is one.", "Leave it out.")
    fleet = fleets[0]
    requests = load_of(fleet, _load(options))
    given = _conditions(options)
    settings = parse_settings([*options["sweep"], *more])
    tried = list(variants(fleet, settings)) if settings else [Variant(fleet.name, fleet, None, None)]
    runs: list[tuple[str, Outcome]] = []
    for variant in tried:
        label = (
            f"{variant.label} ({len(runs) + 1}/{len(tried)})" if settings else f"simulating {variant.label}"
        )
        runs.append((variant.label, _run(variant, requests, given, label)))
    _write(f"{fleet.name}: {requests.source}", runs, options)
    if form:
        _echo_json(
            {"runs": rows(runs, pareto([o for _, o in runs]))} if settings else {"runs": rows(runs)}, form
        )
    elif settings:
        show_sweep(fleet, runs)
    else:
        show(fleet, runs[0][1])
        show_next(fleet, runs[0][1], options)


def _fleets(spec: str, name: str | None) -> list[Fleet]:
    """The file's fleets, or the named one."""
    from seawall.config.load import load_fleets
    from seawall.errors import InputError

    fleets = load_fleets(spec)
    found = [fleet for fleet in fleets if name in (None, fleet.name)]
    if not found:
        raise InputError(f"{spec} holds no fleet {name!r}.", f"It holds {', '.join(f.name for f in fleets)}.")
    pooled = [fleet.name for fleet in found if fleet.spec.pool is not None]
    if pooled:
        told = f"{', '.join(pooled)}: taking turns in a pool is not modelled"
        if len(found) > 1:
            raise InputError(f"{told}.", "Simulate one alone, as if the pool were its own: --fleet NAME.")
        say(f"seawall: {told}; simulated as if the pool were its own.", err=True)
    return found


def _replay(fleets: list[Fleet], path: Path, form: str) -> None:
    """Decides again what a log of the scaler holds of these fleets. CheckFailed where something else comes out."""
    from seawall.decide.scale import record
    from seawall.errors import CheckFailed, InputError

    names = {f"{f.metadata.namespace}/{f.name}" for f in fleets}
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            found = [r for r in record.replay(record.read(lines)) if r.record.decision in names]
    except OSError as e:
        raise InputError(f"{path}: {e.strerror or e}.", "Check the file.") from None
    if not found:
        raise InputError(
            f"{path} holds no decision of {', '.join(sorted(names))} with its beginning.",
            "Save the scaler's log: kubectl -n NAMESPACE logs deploy/GATEWAY-scaler > decisions.jsonl",
        )
    other = [r for r in found if not r.same]
    if form:
        rows = [
            {
                "fleet": r.record.decision, "at_s": r.record.at_s, "decided": r.record.replicas,
                "reason": r.record.reason, "again": r.replicas, "reason_again": r.reason,
            }
            for r in found
        ]  # fmt: skip
        _echo_json({"decisions": rows, "same": len(found) - len(other)}, form)
    else:
        before: dict[str, int] = {}
        for r in found:
            if before.get(r.record.decision) != r.record.replicas or not r.same:
                say(f"{r.record.at_s:12.1f} s  {r.record.decision}  {r.record.replicas}  {r.record.reason}")
            if not r.same:
                say(f"{'again':>14}  {r.record.decision}  {r.replicas}  {r.reason}")
            before[r.record.decision] = r.record.replicas
        say(f"{len(found)} decisions, {len(found) - len(other)} the same.")
    if other:
        raise CheckFailed(
            f"{len(other)} of {len(found)} decisions come out differently.",
            "The log is of another version of Seawall, or lines of it are missing.",
        )


def _several(fleets: list[Fleet], more: bool, form: str, options: dict[str, Any]) -> None:
    """Each fleet under its share of the load: one report of all."""
    from seawall.cli.simulate_table import rows, show, show_total
    from seawall.errors import InputError
    from seawall.sim.load import shared_out
    from seawall.sim.outcome import together
    from seawall.sim.sweep import Variant

    names = ", ".join(f.name for f in fleets)
    for option in ONE_FLEET:
        if options[option] or (more and option == "sweep"):
            flag = f"--{option.removesuffix('s')}"
            raise InputError(f"{flag} is about one fleet, and here are {names}.", "Add --fleet NAME.")
    loads = shared_out(fleets, _load(options), options["share"])
    given = _conditions(options)
    runs: list[tuple[str, Outcome]] = []
    for fleet, requests in zip(fleets, loads, strict=True):
        label = f"simulating {fleet.name} ({len(runs) + 1}/{len(fleets)})"
        runs.append((fleet.name, _run(Variant(fleet.name, fleet, None, None), requests, given, label)))
    _write(", ".join(name for name, _ in runs), runs, options)
    total = together([outcome for _, outcome in runs])
    if form:
        _echo_json({"fleets": rows(runs), "total": total}, form)
        return
    for fleet, (_, outcome) in zip(fleets, runs, strict=True):
        show(fleet, outcome)
        say()
    show_total(total, len(fleets))
    if not options["html"]:
        say("\nNext: add --html report.html for charts of all, or --fleet NAME to try settings on one")


def _load(options: dict[str, Any]) -> LoadWish:
    """The options of a load; InputError for two of which one would be ignored in silence."""
    from seawall.errors import InputError
    from seawall.sim.load import LoadWish

    if options["trace"] and options["rate"]:
        raise InputError("--trace and --rate are two loads.", "Give one of them.")
    for name in DRAWN if options["trace"] else ("speed",):
        if options[name] is not None:
            raise InputError(
                f"--{name} has no effect {'on' if options['trace'] else 'without'} a trace.", "Leave it out."
            )
    return LoadWish(**{k: options[k] for k in ("rate", "trace", "speed", "seed", *DRAWN)})


def _conditions(options: dict[str, Any]) -> Conditions:
    from seawall.config.plan_files import read_calibration
    from seawall.sim.run import Conditions
    from seawall.sim.setup import parse_happening

    return Conditions(
        timing=read_calibration(options["calibration"]) if options["calibration"] else None,
        recipe=options["policy"],
        replicas=options["replicas"],
        begins=options["begins"],
        happenings=tuple(parse_happening(text) for text in options["events"]),
        node_delay_s=_seconds(options, "node_delay", None),
        spot_per_hour=options["spot_per_hour"],
        patience_s=_seconds(options, "patience", float("inf")),
        seed=options["seed"],
    )


def _seconds(options: dict[str, Any], name: str, default: float | None) -> Any:
    from seawall.domain.units import parse_seconds
    from seawall.errors import InputError

    text = options[name]
    try:
        return default if text is None else parse_seconds(text)
    except ValueError as e:
        raise InputError(f"--{name.replace('_', '-')} {text!r} is no duration: {e}.") from None


def _run(variant: Variant, requests: Requests, given: Conditions, label: str) -> Outcome:
    from seawall.sim.run import simulated

    with _Bar(label, len(requests)) as bar:
        return simulated(variant, requests, given, bar.moved)


class _Bar:
    """Progress on stderr: a bar on a terminal, a line every five seconds elsewhere."""

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total = label, total
        self.bar: Any = None
        self.said = 0.0

    def __enter__(self) -> _Bar:
        import time

        self.said = time.monotonic()
        if sys.stderr.isatty() and self.total > 100_000:
            from rich.console import Console
            from rich.progress import Progress

            self.bar = Progress(console=Console(stderr=True))
            self.task = self.bar.add_task(self.label, total=self.total)
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    @property
    def moved(self) -> Progress:
        def move(index: int, total: int, now: float) -> None:
            import time

            if self.bar is not None:
                self.bar.update(self.task, completed=index)
            elif time.monotonic() - self.said > 5:
                self.said = time.monotonic()
                say(f"{self.label}: {index:,} of {total:,} requests", err=True)

        return move


def _write(title: str, runs: list[tuple[str, Outcome]], options: dict[str, Any]) -> None:
    from seawall.charts import image
    from seawall.errors import InputError
    from seawall.sim import report

    try:
        if options["html"]:
            Path(options["html"]).write_text(report.html(title, runs), encoding="utf-8")
        if options["svg"]:
            Path(options["svg"]).write_text(report.picture(runs[0][1]), encoding="utf-8")
        if options["png"]:
            first = runs[0][1]
            charts, marks = report.charts_of(first), report.marks_of(first)
            Path(options["png"]).write_bytes(image.png(title, charts, first.end_s, marks))
    except OSError as e:
        raise InputError(f"{e.filename or 'the report'}: {e.strerror}.", "Choose another path.") from e


def _echo_json(found: dict[str, Any], form: str) -> None:
    output.write(found, form)

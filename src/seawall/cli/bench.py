"""`seawall bench`: how fast is it, honestly?"""

from __future__ import annotations

import dataclasses
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from seawall.cli import output, terminal
from seawall.cli.files import InputFile, writable
from seawall.cli.numbers import Finite
from seawall.cli.output import output_option
from seawall.cli.terminal import say
from seawall.domain.columns import ALWAYS, Column, lay_out
from seawall.domain.units import counted

if TYPE_CHECKING:
    from seawall.load.bench import Bench
    from seawall.load.capacity import Capacity
    from seawall.load.drive import Driver, Live, Run
    from seawall.load.measure import Objective, Spread, Summary


COUNT = click.IntRange(1, 10_000_000)
SHARE = Finite(0.0, 100.0)


@click.command()
@click.argument("target", metavar="URL|FLEET.yaml")
@click.option("--model", help="Default: the server's first one.")
@click.option("--rate", help="Open loop: '5/s for 30s', '1/s to 20/s for 2m', '20/s +-15/s every 1m for 5m'.")
@click.option(
    "--burst",
    default=1.0,
    type=SHARE,
    show_default=True,
    help="Variation of the gaps: 1 Poisson, 3 bursty, 0 even.",
)
@click.option(
    "--trace",
    type=InputFile(".csv"),
    help="Open loop: times and lengths of an Azure, BurstGPT or Mooncake trace.",
)
@click.option("--concurrency", type=COUNT, help="Closed loop: so many at a time.")
@click.option("--requests", type=COUNT, help="Closed loop: so many in all.  [default: 100]")
@click.option(
    "--duration", help="Closed loop: for so long, e.g. 30s. With --find-capacity: of each try.  [10s]"
)
@click.option("--prompt-tokens", default=128, type=COUNT, show_default=True, help="Mean prompt length.")
@click.option("--output-tokens", default=64, type=COUNT, show_default=True, help="Mean of max_tokens.")
@click.option(
    "--spread",
    default=0.0,
    type=SHARE,
    show_default=True,
    help="Variation of both lengths (lognormal); 0: fixed.",
)
@click.option(
    "--shared-prefix",
    default=0,
    type=click.IntRange(0, 10_000_000),
    help="Tokens that prompts share, within each of --groups groups.",
)
@click.option("--groups", default=1, type=COUNT, help="Different shared prefixes.")
@click.option(
    "--conversations",
    type=InputFile(".json"),
    help="Prompts from a ShareGPT-like JSON or JSONL file.",
)
@click.option(
    "--multi-turn", is_flag=True, help="Each conversation turn by turn, with all that was said before."
)
@click.option(
    "--endpoint",
    type=click.Choice(["chat", "completions", "embeddings"]),
    default="chat",
    show_default=True,
    help="What is asked.",
)
@click.option("--no-stream", is_flag=True, help="Whole answers.")
@click.option("--ttft", default="2s", show_default=True, help="Objective: time to first token.")
@click.option("--tpot", default="60ms", show_default=True, help="Objective: time per output token.")
@click.option(
    "--honour-429", is_flag=True, help="Wait for Retry-After and send again, as a good client does."
)
@click.option(
    "--find-capacity",
    is_flag=True,
    help="Search the highest rate at which 95% of requests are good; with --calibrate it is written too.",
)
@click.option(
    "--calibrate",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Measure the engine's step times alone and write them for `plan` and `simulate`.",
)
@click.option("--api-key", envvar="SEAWALL_API_KEY", help="Sent as a bearer token.")
@click.option("--ignore-eos", is_flag=True, help="Ask vLLM for answers of exactly the asked length.")
@click.option(
    "--seed",
    type=int,
    help="Of prompts and arrivals. Default: another one each time, so that no cache knows the prompts.",
)
@output_option
@click.option(
    "--html", "report", type=click.Path(dir_okay=False, path_type=Path), help="Write a report here."
)
def command(target: str, report: Path | None, form: str, **o: Any) -> None:
    """Measure a server under load: latency percentiles, goodput, errors by kind.

    Open loop by default: requests are sent when they are due, whatever the server does, and latencies count from
    then, so a stall is seen in all its length. The client's own CPU and lateness are part of the report.

    \b
    $ seawall bench http://127.0.0.1:8000 --rate '5/s for 30s'
    $ seawall bench http://127.0.0.1:8000 --concurrency 16 --requests 200 --html bench.html
    $ seawall bench http://127.0.0.1:8000 --find-capacity --ttft 1s --tpot 50ms
    $ seawall bench http://127.0.0.1:8001 --calibrate calibration.json
    """
    import asyncio

    from seawall.load.drive import Live

    _exclude(o)
    writable(report, "--html")
    writable(o["calibrate"], "--calibrate")
    if o["seed"] is None:
        o["seed"] = random.SystemRandom().randrange(2**31)
    live = Live()
    try:
        asyncio.run(_bench(target, report, form, o, live))
    except KeyboardInterrupt:
        _interrupted(live, report, form, target, o)


def _exclude(o: dict[str, Any]) -> None:
    """InputError for flags of which one would be ignored in silence."""
    from seawall.errors import InputError

    given = {name for name, value in o.items() if value}
    for name, others, why in (
        ("rate", {"trace", "concurrency", "requests", "duration"}, "Open loop or closed loop: choose one."),
        ("trace", {"concurrency", "requests", "duration"}, "The trace says when and how many."),
        ("find_capacity", {"rate", "trace", "concurrency", "requests"}, "It chooses the load itself."),
        (
            "calibrate",
            {"rate", "trace", "concurrency", "requests", "no_stream"},
            "It chooses the load itself.",
        ),
    ):
        if name in given and (both := sorted(others & given)):
            a, b = (n.replace("_", "-") for n in (name, both[0]))
            raise InputError(f"--{a} and --{b} exclude each other.", why)
    if "requests" in given and "concurrency" not in given:
        raise InputError("--requests is for a closed loop.", "Add --concurrency; or --rate '5/s for 30s'.")
    if "multi_turn" in given and "conversations" not in given:
        raise InputError("--multi-turn needs --conversations FILE.", "Name a ShareGPT-like file.")
    if "calibrate" in given and o["endpoint"] == "embeddings":
        raise InputError("--calibrate measures generated tokens.", "Use --endpoint chat or completions.")


def _interrupted(live: Live, report: Path | None, form: str, target: str, o: dict[str, Any]) -> None:
    """Ctrl-C: what was seen until then, and exit code 130."""
    from seawall.load.drive import Run

    ended = [x for x in live.outcomes if x.ended_s]
    say(f"\n  interrupted: {counted(len(ended), 'request')} had ended, {live.open:,} open", err=True)
    if ended:
        first, last = min(x.intended_s for x in ended), max(x.ended_s for x in ended)
        summary = Run(ended, last - first, live.cpu_s(), live.retried).summary(_objective(o))
        facts = {"url": target, "interrupted": True, "seed": o["seed"]}
        _write_page(report, summary, ended, facts, _objective(o))
        if form:
            output.write({**facts, **summary.as_json()}, form)
        else:
            _print(summary, None, report)
    sys.exit(130)


def _write_page(
    report: Path | None, summary: Summary, outcomes: list[Any], facts: dict[str, Any], objective: Objective
) -> None:
    if report is not None:
        from seawall.load.page import page

        report.write_text(page(f"seawall bench {facts['url']}", summary, outcomes, facts, objective))


def _objective(o: dict[str, Any]) -> Objective:
    from seawall.load.measure import Objective

    return Objective(ttft_s=_seconds(o, "ttft"), tpot_s=_seconds(o, "tpot"))


def _seconds(o: dict[str, Any], name: str) -> float:
    from seawall.domain.units import parse_seconds
    from seawall.errors import InputError

    try:
        return parse_seconds(o[name])
    except ValueError as e:
        raise InputError(f"--{name} {o[name]}: no duration.", f"{e}.".capitalize()) from None


async def _bench(target: str, report: Path | None, form: str, o: dict[str, Any], live: Live) -> None:
    objective = _objective(o)
    bench = await _asked(target, o, live)
    facts: dict[str, Any] = {"url": bench.target.url, "model": bench.target.model, "seed": o["seed"]}
    facts["objective"] = f"TTFT {o['ttft']}, TPOT {o['tpot']}"
    document = await bench.calibration() if o["calibrate"] else None
    if document is not None:
        _write_calibration(o["calibrate"], document, "" if o["find_capacity"] else form)
    found = await bench.capacity(objective, _live, _say) if o["find_capacity"] else None
    if found is not None:
        facts["capacity"] = f"{found.rate:.2f} requests/s"
        facts["tried"] = ", ".join(
            f"{p.rate:.2f}/s {'holds' if p.held else 'does not'}" for p in found.probes
        )
        if document is not None:
            document |= {"capacity_rps": found.rate, "objective": facts["objective"]}
            o["calibrate"].write_text(json.dumps(document, indent=1) + "\n")
    elif document is not None:
        return
    run = found.run if found is not None else await bench.once(_live, _say)
    summary = run.summary(objective)
    _write_page(report, summary, run.outcomes, facts, objective)
    _report(run, summary, found, facts, report, form)


def _report(
    run: Run,
    summary: Summary,
    found: Capacity | None,
    facts: dict[str, Any],
    report: Path | None,
    form: str,
) -> None:
    """What was measured, on the screen. Exit code 1 when no request finished."""
    if form:
        searched = {
            "capacity_rps": found.rate if found else None,
            "probes": [p.as_json() for p in found.probes] if found else [],
        }
        output.write({**facts, **searched, **summary.as_json()}, form)
    else:
        _print(summary, found.rate if found else None, report)
    if summary.errors:
        first = next(x for x in run.outcomes if x.error)
        _say(f"the first {first.error}: {' '.join(first.detail.split())[:300] or 'no more was said'}")
    if not summary.finished:
        say("seawall: no request finished.", err=True)
        sys.exit(1)


def _say(text: str) -> None:
    say(f"  {text}", err=True)


async def _asked(target: str, o: dict[str, Any], live: Live) -> Bench:
    """What the options ask for: of a URL, or of the running `seawall up` of a Fleet file."""
    from seawall.load.bench import Bench, Prompts, Schedule, first_model
    from seawall.load.drive import LoadTarget

    url, model = target, o["model"]
    if target.endswith((".yaml", ".yml")):
        from seawall.config.load import load_fleets
        from seawall.local import control

        fleet = load_fleets(Path(target))[0]
        state = control.ask(control.state_dir(None), do="status")
        url, model = str(state["gateway"]["url"]), model or fleet.served_names[0]
    made = LoadTarget(
        url=url, model=model or await first_model(url, o["api_key"]), endpoint=o["endpoint"],
        stream=not o["no_stream"] and o["endpoint"] != "embeddings", api_key=o["api_key"],
        honour_429=o["honour_429"], ignore_eos=o["ignore_eos"],
    )  # fmt: skip
    prompts = Prompts(**{f.name: o[f.name] for f in dataclasses.fields(Prompts)})
    schedule = Schedule(
        rate=o["rate"], burst=o["burst"], trace=o["trace"], concurrency=o["concurrency"], requests=o["requests"],
        duration_s=_seconds(o, "duration") if o["duration"] else None,
    )  # fmt: skip
    return Bench(target=made, prompts=prompts, schedule=schedule, live=live)


async def _live(driver: Driver, run: Any) -> Run:
    """Runs it with a line of progress that is rewritten on a terminal, and elsewhere a line every ten seconds."""
    import asyncio
    import time

    from seawall.cli.progress import STEPS_EVERY_S, left
    from seawall.load.drive import watch

    on_terminal, wide, began = sys.stderr.isatty(), terminal.width(sys.stderr), time.monotonic()

    def show(live: Live) -> None:
        of = f" of {live.planned:,}" if live.planned else ""
        ended = live.finished + live.failed
        soon = left(time.monotonic() - began, ended, live.planned) if live.planned else ""
        parts = [f"  sent {live.sent:,}{of}", f"open {live.open:,}", f"finished {live.finished:,}"]
        line = "   ".join([*parts, f"failed {live.failed:,}{soon}"])
        if wide is not None and len(line) >= wide:
            line = "   ".join([parts[0], parts[2] + soon])[: wide - 1]
        click.echo(f"\r\x1b[K{line}" if on_terminal else line, nl=not on_terminal, err=True)

    task = asyncio.ensure_future(watch(driver.live, show, 0.5 if on_terminal else STEPS_EVERY_S))
    try:
        result: Run = await run()
        return result
    finally:
        task.cancel()
        if on_terminal:
            click.echo("\r\x1b[K", nl=False, err=True)


def _write_calibration(path: Path, document: dict[str, Any], form: str) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n")
    if form:
        output.write(document, form)
        return
    seen = document["measured"]
    say(
        f"  alone {seen['alone_tpot_s'] * 1000:.1f} ms/token   {seen['crowd']} together "
        f"{seen['crowd_tpot_s'] * 1000:.1f} ms/token   prefill {seen['prefill_s'] * 1000:.0f} ms for "
        f"{seen['prompt_tokens']:.0f} tokens",
        err=True,
    )
    say(f"Written: {path}. Next: seawall simulate FLEET.yaml --calibration {path}", err=True)


def _latencies(rows: Sequence[tuple[str, Spread]]) -> None:
    """The percentiles as a table; what a narrow terminal has no room for is left out: p90 first, then the largest."""
    weights = {"p50": ALWAYS, "p90": 1, "p95": 3, "p99": ALWAYS, "max": 2}
    columns = [
        Column("ms       ", ALWAYS),
        *(Column(f"{n:>8}", w, right=True) for n, w in weights.items()),
        Column("", 0),
    ]
    cells = [
        [name, *(f"{v * 1000:,.1f}" for v in (*spread.percentiles.values(), spread.max)), ""]
        for name, spread in rows
    ]
    width = terminal.width()
    for line in lay_out(columns, cells, None if width is None else width - 2).lines():
        click.echo(f"  {line}")


def _print(s: Summary, capacity: float | None, report: Path | None) -> None:
    from seawall.load.page import rows_of

    if capacity is not None:
        held = (
            f"{capacity:.2f} requests/s hold the objective"
            if capacity
            else "no rate that was tried holds the objective"
        )
        say(f"  capacity   {held}")
    errors = ", ".join(f"{k} x{v}" for k, v in s.errors.items()) or "none"
    say(
        f"  requests   {s.requests:,} sent at {s.offered_rps:.2f}/s   {s.finished:,} finished   errors: {errors}"
    )
    say(
        f"  goodput    {s.goodput_rps:.2f}/s good ({s.good_share:.1%})   {s.output_tokens_per_s:,.0f} tokens/s"
    )
    if rows := rows_of(s):
        _latencies(rows)
    late = f"late by {s.late.percentiles['p99'] * 1000:.1f} ms at p99" if s.late else ""
    cpu = (s.client_cpu_s or 0.0) / max(1, s.requests) * 1000
    say(
        f"  client     {cpu:.2f} ms CPU per request, {(s.client_cpu_s or 0) / s.duration_s:.0%} of a core   {late}"
    )
    if s.slow_client:
        say("             the client itself was the bottleneck: ask for less, or start more of them")
    if s.retried_after_429:
        say(f"  429        {s.retried_after_429:,} honoured and sent again")
    say(
        f"Report: {report}"
        if report
        else "Next: add --html bench.html for charts, --find-capacity for the limit."
    )

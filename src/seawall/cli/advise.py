"""`seawall advise`: up, out or in, from what Prometheus remembers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from seawall.cli import output
from seawall.cli.files import InputFile, writable
from seawall.cli.output import output_option
from seawall.cli.terminal import say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from seawall.domain.spec import Fleet
    from seawall.drivers.recorded import Recorded
    from seawall.sim.what_if import Advised


@click.command()
@click.argument("spec", metavar="FLEET.yaml", type=click.Path())
@click.option("--fleet", "name", help="Which fleet, when the file holds several.")
@click.option("--prometheus", "url", metavar="URL", help="Its address: http://localhost:9090")
@click.option("--service", metavar="NS/NAME:PORT", help="Through the API server, with your kubeconfig.")
@click.option("--context", help="With --service: context of the kubeconfig.")
@click.option("--since", default="24h", show_default=True, help="How far back to look.")
@click.option("--token-file", type=InputFile(""), help="Or SEAWALL_PROMETHEUS_TOKEN.")
@click.option(
    "--history", type=InputFile(".json", exists=False), help="Recorded answers instead of a server."
)
@click.option("--record", type=click.Path(dir_okay=False), help="Keep the answers in this file.")
@click.option(
    "--what-if",
    "what_ifs",
    multiple=True,
    metavar="SETTING",
    help="Simulate this too: replicas=4,gpu=H200,tp=2.",
)
@click.option(
    "--simulate/--no-simulate", default=True, show_default=True, help="Try the advice on the observed load."
)
@click.option("--offline", is_flag=True, help="Never ask the hub for a config.json.")
@output_option
def command(
    spec: str,
    name: str | None,
    what_ifs: tuple[str, ...],
    simulate: bool,
    offline: bool,
    form: str,
    **options: Any,
) -> None:
    """Say whether a fleet should go up, out or in, what that costs or saves, and the numbers that say so.

    \b
    $ seawall advise llama-70b.yaml --prometheus http://localhost:9090 --since 7d
    $ seawall advise llama-70b.yaml --service monitoring/prometheus-operated:9090
    """
    from seawall.shapes.config import resolve
    from seawall.sim.what_if import advised

    writable(Path(options["record"]) if options["record"] else None, "--record")
    fleet = _fleet(spec, name)
    seen = _seen(fleet, options)
    model = resolve(fleet, offline=offline)
    found = advised(fleet, model, seen, settings=what_ifs, neighbours=simulate)
    if form:
        from dataclasses import asdict

        data = {
            "fleet": fleet.name,
            "advice": [asdict(a) for a in found.advice],
            "history": asdict(found.history),
        }
        data["what_if"] = {"load": found.load.source if found.load else None, "settings": found.tried}
        output.write(data, form)
        return
    if what_ifs and found.load is None:
        say("nothing to simulate: no finished request was seen", err=True)
    _print(fleet, found, spec)


def _fleet(spec: str, name: str | None) -> Fleet:
    from seawall.config.load import load_fleets
    from seawall.errors import InputError

    fleets = [f for f in load_fleets(spec) if name in (None, f.name)]
    if len(fleets) != 1:
        raise InputError(f"{spec} holds {len(fleets)} fleets to choose from.", "Say which with --fleet NAME.")
    return fleets[0]


def _seen(fleet: Fleet, options: dict[str, Any]) -> Recorded:
    """The fleet's past: out of a file, or asked of Prometheus, and kept when that is wanted."""
    import asyncio

    from seawall.domain.units import parse_seconds
    from seawall.drivers.recorded import read
    from seawall.errors import InputError

    given = [n for n in ("url", "service", "history") if options[n]]
    if len(given) != 1:
        raise InputError("say where the history is, once.", "Give --prometheus URL, --service or --history.")
    if options["history"]:
        return read(options["history"])
    try:
        window = parse_seconds(options["since"])
    except ValueError as e:
        raise InputError(f"--since {options['since']!r:.40}: {e}.", "Write 24h or 7d.") from None
    if not 600 <= window <= 90 * 86400:
        raise InputError("--since must be 10 minutes to 90 days.", "Write 24h or 7d.")
    seen = asyncio.run(_asked(fleet, window, options))
    if options["record"]:
        seen.write(options["record"])
    return seen


async def _asked(fleet: Fleet, window_s: float, options: dict[str, Any]) -> Recorded:
    import contextlib
    import time

    from seawall.drivers.kube import connect
    from seawall.drivers.prometheus import Prometheus, step_for, token_of
    from seawall.drivers.recorded import Recorded
    from seawall.engines.vllm.history import queries

    asked = queries(fleet.metadata.namespace, fleet.served_names[0], fleet.name)
    step, end = step_for(window_s), time.time()
    async with contextlib.AsyncExitStack() as stack:
        kube = None
        if options["service"]:
            kube = await stack.enter_async_context(connect(options["context"]))
        token = token_of(options["token_file"])
        server = Prometheus(options["url"] or "", token=token, kube=kube, service=options["service"] or "")
        await stack.enter_async_context(server)
        series = await server.ranges(asked, end - window_s, end, step)
    return Recorded(series=series, window_s=window_s, step_s=step)


def _print(fleet: Fleet, found: Advised, spec: str) -> None:
    from seawall.domain.units import show_seconds

    samples = found.history.running.samples if found.history.running else 0
    span = f"{show_seconds(found.history.window_s)}, {samples} of {found.history.expected} samples"
    say(f"{fleet.name}   {found.advice[0].kind.upper()}   ({span})\n")
    for n, a in enumerate(found.advice[:5], 1):
        cost = "cost unknown" if a.usd_per_hour_change is None else f"{a.usd_per_hour_change:+.2f} USD/h"
        say(f"{n}. {a.kind:4}  {cost}\n   {a.reason}")
        if a.evidence:
            say("   " + "  ".join(f"{k}={v:.4g}" for k, v in a.evidence.items()))
        if n > 1 and a.next_command:
            say(f"   {a.next_command.replace('FLEET.yaml', spec)}")
    if found.load and found.tried:
        say(f"\nsimulated on {found.load.source}:")
        for line in _table(found.tried):
            say(line)
    if found.plan.prices_as_of:
        say(f"\nprices as of {found.plan.prices_as_of}, on demand")
    say(f"\nNext: {found.advice[0].next_command.replace('FLEET.yaml', spec) or 'look again in a week'}")


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Aligned lines; `-` where a number is not known."""

    def cell(value: Any, form: str, unit: str = "") -> str:
        return "-" if value is None else f"{value:{form}}{unit}"

    head = ("setting", "replicas", "GPUs", "TTFT p95", "TPOT p95", "in SLO", "429", "GPU-h", "USD/h")
    body = [
        (
            str(r["setting"]) or "neighbour", str(r["replicas"]), f"{r['gpus']} x {r['gpu']}",
            cell(r["ttft_p95_s"], ".2f", " s"),
            cell(None if r["tpot_p95_s"] is None else r["tpot_p95_s"] * 1000, ".0f", " ms"), f"{r['within_slo']:.1%}",
            str(r["rejected"]), f"{r['gpu_hours']:.2f}", cell(r["usd_per_hour"], ".2f"),
        )
        for r in rows
    ]  # fmt: skip
    widths = [max(len(line[i]) for line in (head, *body)) for i in range(len(head))]
    return [
        "  ".join(
            c.ljust(w) if i in (0, 2) else c.rjust(w)
            for i, (c, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (head, *body)
    ]

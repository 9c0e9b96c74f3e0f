"""`seawall advise`: up, out or in, from what Prometheus remembers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from seawall.decide.advise import Option
    from seawall.decide.history import History
    from seawall.domain.spec import Fleet

MOST_FILE = 64 * 2**20


@click.command()
@click.argument("spec", type=click.Path())
@click.option("--fleet", "name", help="Which fleet, when the file holds several.")
@click.option("--prometheus", "url", metavar="URL", help="Its address: http://localhost:9090")
@click.option("--service", metavar="NS/NAME:PORT", help="Through the API server, with your kubeconfig.")
@click.option("--context", help="With --service: context of the kubeconfig.")
@click.option("--since", default="24h", show_default=True, help="How far back to look.")
@click.option("--token-file", type=click.Path(dir_okay=False), help="Or SEAWALL_PROMETHEUS_TOKEN.")
@click.option("--history", type=click.Path(dir_okay=False), help="Recorded answers instead of a server.")
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
@click.option("--json", "as_json", is_flag=True)
def command(
    spec: str,
    name: str | None,
    what_ifs: tuple[str, ...],
    simulate: bool,
    offline: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Say whether a fleet should go up, out or in, what that costs or saves, and the numbers that say so.

    \b
    seawall advise llama-70b.yaml --prometheus http://localhost:9090 --since 7d
    seawall advise llama-70b.yaml --service monitoring/prometheus-operated:9090
    """
    from seawall.cli import what_if
    from seawall.decide.advise import advise
    from seawall.decide.history import summarise
    from seawall.decide.plan import plan
    from seawall.shapes.config import resolve

    fleet = _fleet(spec, name)
    series, window, step = _series(fleet, options)
    history = summarise(series, window, step)
    model = resolve(fleet, offline=offline)
    made = plan(fleet, model)
    others = _options(fleet, made, model)
    found = advise(fleet, history, made, others)
    tried: list[dict[str, Any]] = []
    load = None
    if simulate or what_ifs:
        load = what_if.observed(series, history, fleet, step)
    if load is not None:
        here = max(1, round(history.replicas.p50)) if history.replicas else fleet.spec.scaling.min
        rows = what_if.neighbours(made, here, found, others) if simulate else []
        rows += [what_if.parse_what_if(w, fleet, made, here, lambda f: plan(f, model)) for w in what_ifs]
        tried = what_if.simulated(fleet, rows, load)
    if as_json:
        import json
        from dataclasses import asdict

        data = {"fleet": fleet.name, "advice": [asdict(a) for a in found], "history": asdict(history)}
        data["what_if"] = {"load": load.source if load else None, "settings": tried}
        click.echo(json.dumps(data, indent=2, allow_nan=False))
        return
    if what_ifs and load is None:
        click.echo("nothing to simulate: no finished request was seen", err=True)
    shown = ["", f"simulated on {load.source}:", *what_if.table_of(tried)] if load and tried else []
    _print(fleet, history, found, spec, made.prices_as_of, shown)


def _fleet(spec: str, name: str | None) -> Fleet:
    from seawall.config.load import load_fleets
    from seawall.errors import InputError

    fleets = [f for f in load_fleets(spec) if name in (None, f.name)]
    if len(fleets) != 1:
        raise InputError(f"{spec} holds {len(fleets)} fleets to choose from.", "Say which with --fleet NAME.")
    return fleets[0]


def _series(fleet: Fleet, options: dict[str, Any]) -> tuple[Any, float, float]:
    import asyncio
    import json
    import time
    from pathlib import Path

    from seawall.domain.units import parse_seconds
    from seawall.drivers.prometheus import step_for
    from seawall.engines.vllm.history import queries
    from seawall.errors import InputError

    given = [n for n in ("url", "service", "history") if options[n]]
    if len(given) != 1:
        raise InputError("say where the history is, once.", "Give --prometheus URL, --service or --history.")
    if options["history"]:
        return _recorded(options["history"])
    try:
        window = parse_seconds(options["since"])
    except ValueError as e:
        raise InputError(f"--since {options['since']!r:.40}: {e}.", "Write 24h or 7d.") from None
    if not 600 <= window <= 90 * 86400:
        raise InputError("--since must be 10 minutes to 90 days.", "Write 24h or 7d.")
    step, end = step_for(window), time.time()
    asked = queries(fleet.metadata.namespace, fleet.served_names[0], fleet.name)
    series = asyncio.run(_ask(asked, end - window, end, step, options))
    if options["record"]:
        text = json.dumps({"window_s": window, "step_s": step, "series": series})
        try:
            Path(options["record"]).write_text(text, encoding="utf-8")
        except OSError as e:
            raise InputError(f"{options['record']}: {e.strerror}.", "Choose another path.") from e
    return series, window, step


async def _ask(
    asked: dict[str, str], start: float, end: float, step: float, options: dict[str, Any]
) -> dict[str, list[tuple[float, float]]]:
    import asyncio
    import contextlib

    from seawall.drivers.kube import connect
    from seawall.drivers.prometheus import Prometheus

    async with contextlib.AsyncExitStack() as stack:
        kube = None
        if options["service"]:
            kube = await stack.enter_async_context(connect(options["context"]))
        token = _token(options["token_file"])
        server = Prometheus(options["url"] or "", token=token, kube=kube, service=options["service"] or "")
        await stack.enter_async_context(server)
        answers = await asyncio.gather(*(server.range(q, start, end, step) for q in asked.values()))
    return dict(zip(asked, answers, strict=True))


def _token(path: str | None) -> str:
    import os
    from pathlib import Path

    from seawall.errors import InputError

    if path is None:
        return os.environ.get("SEAWALL_PROMETHEUS_TOKEN", "").strip()
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"{path}: cannot be read ({type(e).__name__}).", "Check the path.") from None
    if not text or len(text) > 8192 or not text.isascii() or not text.isprintable():
        raise InputError(f"{path} holds no token.", "It must be one line of ASCII.")
    return text


def _recorded(path: str) -> tuple[Any, float, float]:
    import json
    from pathlib import Path

    from seawall.errors import InputError

    try:
        with Path(path).open("rb") as f:
            content = f.read(MOST_FILE + 1)
        if len(content) > MOST_FILE:
            raise ValueError("too big")
        data = json.loads(content)
        window, step = float(data["window_s"]), float(data["step_s"])
        series = {k: [(float(t), float(v)) for t, v in points] for k, points in data["series"].items()}
        if not 0 < step <= window < 1e9:
            raise ValueError("window")
    except OSError as e:
        raise InputError(f"{path}: {e.strerror}.", "Check the path.") from e
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
        raise InputError(
            f"{path} is no recorded history ({type(e).__name__}).", "Make one with --record FILE."
        ) from None
    return series, window, step


def _options(fleet: Fleet, made: Any, model: Any) -> list[Option]:
    """Other ways to run a replica: fp8 KV cache, twice the GPUs, and every bigger GPU that clouds sell."""
    from dataclasses import replace

    from seawall.decide.advise import Option
    from seawall.decide.plan import plan
    from seawall.domain.catalog.gpus import GPUS, find_gpu

    here = find_gpu(made.gpu)
    if here is None:
        return []
    hardware = replace(
        fleet.spec.hardware,
        gpu=here.name,
        gpus_per_replica=made.gpus_per_replica,
        tensor_parallel=made.tensor_parallel,
    )

    def option(change: str, caution: str = "", kv: Any = None, **other: Any) -> Option:
        engine = replace(fleet.spec.engine, kv_cache_dtype=kv or fleet.spec.engine.kv_cache_dtype)
        traffic = replace(fleet.spec.traffic, max_context=made.max_model_len)
        spec = replace(fleet.spec, hardware=replace(hardware, **other), engine=engine, traffic=traffic)
        return Option(change=change, plan=plan(replace(fleet, spec=spec), model), caution=caution)

    found = []
    if fleet.spec.engine.kv_cache_dtype == "auto" and here.capability >= 8.9:
        found.append(
            option(
                "engine.kvCacheDtype: fp8", "It rounds keys and values: check answers on your data.", kv="fp8"
            )
        )
    tp = 2 * made.tensor_parallel
    if tp <= here.per_node and made.gpus_per_replica == made.tensor_parallel:
        found.append(
            option(
                f"hardware.gpusPerReplica and tensorParallel: {tp}", gpus_per_replica=tp, tensor_parallel=tp
            )
        )
    for gpu in GPUS:
        if gpu.auto and gpu.memory_gib > here.memory_gib and made.gpus_per_replica <= gpu.per_node:
            found.append(option(f"hardware.gpu: {gpu.name}", gpu=gpu.name))
    return found


def _print(
    fleet: Fleet, history: History, found: list[Any], spec: str, prices_as_of: str | None, shown: list[str]
) -> None:
    from seawall.domain.units import show_seconds

    samples = history.running.samples if history.running else 0
    span = f"{show_seconds(history.window_s)}, {samples} of {history.expected} samples"
    click.echo(f"{fleet.name}   {found[0].kind.upper()}   ({span})\n")
    for n, a in enumerate(found[:5], 1):
        cost = "cost unknown" if a.usd_per_hour_change is None else f"{a.usd_per_hour_change:+.2f} USD/h"
        click.echo(f"{n}. {a.kind:4}  {cost}\n   {a.reason}")
        if a.evidence:
            click.echo("   " + "  ".join(f"{k}={v:.4g}" for k, v in a.evidence.items()))
        if n > 1 and a.next_command:
            click.echo(f"   {a.next_command.replace('FLEET.yaml', spec)}")
    for line in shown:
        click.echo(line)
    if prices_as_of:
        click.echo(f"\nprices as of {prices_as_of}, on demand")
    click.echo(f"\nNext: {found[0].next_command.replace('FLEET.yaml', spec) or 'look again in a week'}")

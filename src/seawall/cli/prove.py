"""`seawall prove`: does it keep its promises?"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from seawall.cli import complete, output, terminal
from seawall.cli.files import InputFile, writable, writable_folder
from seawall.cli.numbers import SECONDS
from seawall.cli.output import output_option
from seawall.cli.progress import Steps
from seawall.cli.terminal import say
from seawall.domain.columns import parts_wrapped
from seawall.domain.units import counted

if TYPE_CHECKING:
    from seawall.prove.run import Proof, Result
    from seawall.prove.verdict import ScenarioVerdict

SHORTEST_CONTEXT = 2048
"""Tokens, where the Fleet does not say: models that people serve take more."""
PATH = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("fleet", metavar="FLEET.yaml", type=InputFile())
@click.option(
    "--engine",
    type=click.Choice(["sim", "vllm"]),
    default="sim",
    show_default=True,
    help="What the replicas run.",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NAME|URL|COMMAND",
    help="Prove another gateway in front of the same engines; repeat for more. --list names them.",
)
@click.option(
    "--scenario",
    "names",
    multiple=True,
    metavar="NAME",
    shell_complete=complete.scenarios,
    help="Only this one; repeat for more.",
)
@click.option(
    "--streams",
    type=click.IntRange(1, 10_000),
    help="Open at any time. [default: 100; 6 with --engine vllm here, which keep a CPU busy]",
)
@click.option(
    "--without",
    multiple=True,
    metavar="MECHANISM",
    help="Switch one off, to see its scenario break; --list names them.",
)
@click.option("--list", "listing", is_flag=True, help="Print the scenarios and what each one proves.")
@output_option
@click.option(
    "--html", "report", type=click.Path(path_type=Path), help="Write a timeline here; with --target a folder."
)
@click.option(
    "--keep-logs", type=click.Path(file_okay=False, path_type=Path), help="Keep logs and specs here."
)
@click.option(
    "--jobs",
    default=1,
    type=click.IntRange(1, 64),
    show_default=True,
    help="Scenarios at once (simulated engines only).",
)
@click.option("--seed", default=0, show_default=True, help="The same seed asks the same.")
@click.option("--context", help="Prove what a cluster runs, through this kubeconfig context.")
@click.option("--kubeconfig", envvar="KUBECONFIG", help="With --context: kubeconfig file.")
@click.option("-n", "--namespace", help="With --context: namespace.  [the Fleet's]")
@click.option("--url", help="With --context: where clients reach the gateway.")
@click.option(
    "--api-key", envvar="SEAWALL_API_KEY", help="With --context or --target: sent as a bearer token."
)
@click.option(
    "--wait",
    default=1200.0,
    type=SECONDS,
    show_default=True,
    help="With --context: seconds for a new replica.",
)
@click.option(
    "--answer",
    default="3s",
    show_default=True,
    help="With --context: how long an answer should take at least; longer than a killed Pod lives.",
)
@click.option("--yes", is_flag=True, help="With --context: disturb the fleet without asking.")
def command(fleet: Path, listing: bool, **o: Any) -> None:
    """Prove a fleet's promises: streams checked token by token while one thing after another goes wrong.

    It runs the fleet on this machine (as `seawall up` does, in a place of its own), keeps streams open, and breaks
    things. Exit code 1 when a stream was lost, a token was wrong, or another promise did not hold.

    With --context it disturbs a fleet that a cluster runs: evicts, kills, rolls and scales its Pods. With --target
    another gateway stands before simulated engines: one of those that we know, a URL, or a command with {port} and
    {urls}.

    \b
    $ seawall prove examples/smollm2.yaml
    $ seawall prove examples/smollm2.yaml --scenario kill --html prove.html
    $ seawall prove examples/smollm2.yaml --scenario kill --without resume     (must fail)
    $ seawall prove fleet.yaml --context staging --url https://llm.example.com
    $ seawall prove examples/smollm2.yaml --target nginx --target seawall --scenario kill
    """
    from seawall.prove.mechanisms import off
    from seawall.prove.run import REAL_STREAMS, STREAMS, Proof

    if listing:
        _list(o["form"])
        return
    real_here = o["engine"] == "vllm" and not o["context"]
    o["streams"] = o["streams"] or (REAL_STREAMS if real_here else STREAMS)
    writable_folder(o["keep_logs"], "--keep-logs")
    off(o["without"])  # a name that is none is told before anything else
    if o["targets"]:
        from seawall.cli.prove_targets import run_targets

        run_targets(fleet, _chosen(o["names"], o["engine"], None), o)
        return
    writable(o["report"], "--html")
    proof = Proof(
        fleet=fleet, engine=o["engine"], scenarios=_chosen(o["names"], o["engine"], o["context"]),
        streams=o["streams"], without=o["without"], seed=o["seed"], keep_logs=o["keep_logs"],
        jobs=max(1, o["jobs"]), api_key=o["api_key"],
    )  # fmt: skip
    result, whole = _run(proof, o)
    _report(proof, result, whole, o["report"], o["form"])


def _list(form: str) -> None:
    from seawall.cli import terminal
    from seawall.domain.columns import ALWAYS, Column, labelled, lay_out
    from seawall.prove.cluster_run import CLUSTER
    from seawall.prove.mechanisms import MECHANISMS
    from seawall.prove.scenarios import SCENARIOS
    from seawall.prove.targets.known import TARGETS

    if form:
        known = [(s, "here") for s in SCENARIOS.values()] + [(s, "cluster") for s in CLUSTER.values()]
        told = [{"name": s.name, "where": where, "title": s.title} for s, where in known]
        output.write({"scenarios": told, "without": list(MECHANISMS), "targets": list(TARGETS)}, form)
        return
    rows = [
        (s.name, ", ".join(s.mechanisms), "sim only" if s.sim_only else "", s.title)
        for s in SCENARIOS.values()
    ]
    columns = [Column("SCENARIO", ALWAYS), Column("PROVES", 2), Column("", 1), Column("WHAT HAPPENS", ALWAYS)]
    click.echo("\n".join(lay_out(columns, rows, terminal.width()).lines()))
    say("\nWith --context:")
    on_cluster = [(s.name, s.title) for s in CLUSTER.values()]
    click.echo("\n".join(lay_out([columns[0], columns[-1]], on_cluster, terminal.width()).lines()[1:]))
    switches = []
    for name, mechanism in MECHANISMS.items():
        cover = f" (and {', '.join(mechanism.covers)}, which would hide it)" if mechanism.covers else ""
        switches.append((f"--without {name}", f"{mechanism.what}{cover}"))
    click.echo("\n" + "\n".join(labelled(switches, terminal.width())))
    targets = [(f"--target {name}", adapter.source) for name, adapter in TARGETS.items()]
    click.echo("\n" + "\n".join(labelled(targets, terminal.width())))


def _chosen(names: tuple[str, ...], engine: str, context: str | None) -> list[Any]:
    """The scenarios asked for; InputError for one that is not known, or not possible there."""
    import difflib

    from seawall.errors import InputError
    from seawall.prove.cluster_run import CLUSTER
    from seawall.prove.scenarios import SCENARIOS

    known = CLUSTER if context else SCENARIOS
    unknown = [n for n in names if n not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, 1)
        hint = f"Did you mean {near[0]}?" if near else f"One of: {', '.join(known)}."
        raise InputError(f"there is no scenario {unknown[0]!r}.", hint)
    chosen = [known[n] for n in names] or [
        s for s in known.values() if context or engine == "sim" or not s.sim_only
    ]
    simulated = [s.name for s in chosen if s.sim_only]
    if engine != "sim" and simulated and not context:
        raise InputError(f"{simulated[0]} needs an engine that fails on command.", "Use --engine sim.")
    return chosen if context else _with_store(chosen, named=bool(names))


def _with_store(chosen: list[Any], named: bool) -> list[Any]:
    """Without the scenarios that need a store where this machine has no server; InputError if they were asked for."""
    from seawall.errors import InputError
    from seawall.prove.tier import store_program

    needing = [s.name for s in chosen if s.gateways > 1]
    if not needing:
        return chosen
    try:
        store_program()
    except InputError as e:
        if named:
            raise
        say(f"  left out: {', '.join(needing)}: {e.message} {e.cure}", err=True)
        return [s for s in chosen if s.gateways == 1]
    return chosen


def _run(proof: Proof, o: dict[str, Any]) -> tuple[Result, bool]:
    """Runs it; Ctrl-C ends it early with what was seen so far, and False."""
    import asyncio

    from seawall.prove.run import Result, prove

    form, result = o["form"], Result()
    steps = Steps(len(proof.scenarios), "scenario")

    def step(text: str) -> None:
        steps.say(text)

    def done(v: ScenarioVerdict) -> None:
        steps.done()
        say(_line(v, terminal.width(sys.stderr if form else None)), err=bool(form))
        for why in (*v.broken, *(v.notes if not v.kept else ())):
            say(f"      {why}", err=bool(form))

    if o["context"]:
        work = _on_cluster(proof, o, result, step, done)
    else:
        work = prove(proof, result, step, done)
        if proof.engine == "sim":
            say("  engine: simulated. The gateway and the supervisor are the real ones.", err=bool(form))

    async def stoppable() -> None:
        """SIGTERM ends it as Ctrl-C does: what was started is stopped, and what was seen is said."""
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await work

    try:
        with steps:
            asyncio.run(stoppable())
    except (KeyboardInterrupt, asyncio.CancelledError):
        say("\n  interrupted", err=True)
        return result, False
    return result, True


def _on_cluster(
    proof: Proof,
    o: dict[str, Any],
    result: Result,
    step: Callable[[str], None],
    done: Callable[[ScenarioVerdict], None],
) -> Coroutine[Any, Any, None]:
    """The proof against a context, after its owner has agreed."""
    from seawall.config.load import load_fleets
    from seawall.domain.units import parse_seconds
    from seawall.drivers.kube import connect
    from seawall.errors import InputError
    from seawall.prove.cluster import ClusterFleet, find
    from seawall.prove.cluster_run import ClusterQuestions, prove_cluster

    fleets = load_fleets(proof.fleet)
    if len(fleets) != 1:
        raise InputError(f"{proof.fleet}: {len(fleets)} Fleets.", "A proof takes one: split the file.")
    fleet = fleets[0]
    if not o["url"]:
        raise InputError(
            f"--context needs --url: the address at which clients reach the gateway of {fleet.name}.",
            "An Ingress or load balancer's; or `kubectl port-forward svc/...` (which dies with its gateway Pod).",
        )
    if proof.without:
        raise InputError(
            "--without does not work on a cluster.", "Change the Fleet itself, on a test cluster."
        )

    try:
        last_s = parse_seconds(o["answer"])
    except ValueError as e:
        raise InputError(f"--answer {o['answer']}: no duration.", f"{e}.".capitalize()) from None

    async def work() -> None:
        async with connect(o["context"], o["kubeconfig"]) as kube:
            target = await find(kube, fleet.name, o["namespace"] or fleet.metadata.namespace)
            verbs = ", ".join(s.name for s in proof.scenarios)
            say(
                f"  {counted(target.replicas, 'replica')} of {target.fleet} in {target.namespace} "
                f"(context {o['context']}) will be disturbed under {proof.streams} streams: {verbs}",
                err=True,
            )
            if not o["yes"]:
                if not sys.stdin.isatty():
                    raise InputError("nobody to ask whether to disturb this fleet.", "Add --yes.")
                if not click.confirm("  Go on?", err=True):
                    raise InputError("nothing was touched.")
            place = ClusterFleet(kube, target, o["url"])
            answers = ClusterQuestions(
                last_s=last_s, context=fleet.spec.traffic.max_context or SHORTEST_CONTEXT
            )
            await prove_cluster(proof, place, fleet.served_names[0], o["wait"], answers, result, step, done)

    return work()


def _line(v: ScenarioVerdict, width: int | None) -> str:
    """A scenario's verdict on one line, its numbers below those of the others; on a terminal that is too narrow for
    that, its name and below it the numbers."""
    rest = [f"{v.rejected:,} rejected"] if v.rejected else []
    rest += [f"{v.left:,} left"] if v.left else []
    rest += [f"{v.wasted_tokens:,} tokens again"] if v.wasted_tokens else []
    more = "".join(f"   {part}" for part in rest)
    line = (
        f"  {v.title:<34}{v.started:>7,} streams{v.finished:>8,} whole{v.resumed:>5,} resumed"
        f"{v.lost:>5,} lost{v.wrong_tokens:>4,} wrong   worst stall {v.worst_stall_s:5.2f} s{more}"
    )
    if width is None or len(line) <= width:
        return line
    parts = [counted(v.started, "stream"), f"{v.finished:,} whole", f"{v.resumed:,} resumed", f"{v.lost:,} lost",
             f"{v.wrong_tokens:,} wrong", f"worst stall {v.worst_stall_s:.2f} s", *rest]  # fmt: skip
    return "\n".join([f"  {v.title}", *parts_wrapped(parts, width, "    ", "    ")])


def _report(proof: Proof, result: Result, whole: bool, report: Path | None, form: str) -> None:
    """The last line, the JSON, the page; exit code 1 for a broken promise, 130 for a proof that was cut short."""
    from seawall.prove.timeline import page
    from seawall.prove.verdict import overall

    total = overall(result.verdicts)
    verdict = ("kept" if total["kept"] else "broken") if whole else "interrupted"
    if report is not None:
        report.write_text(page(result, f"seawall prove {proof.fleet.name}"))
    if form:
        rows = [v.as_json() for v in result.verdicts]
        facts = {"scenarios_run": len(rows), "without": list(proof.without), "engine": proof.engine}
        output.write({**total, **facts, "scenarios": rows, "verdict": verdict}, form)
    else:
        shown = f" Report: {report}" if report else ""
        played = counted(total["scenarios"], "scenario")
        if not whole:
            played = f"{total['scenarios']} of {counted(len(proof.scenarios), 'scenario')}"
        say(
            f"{played}, "
            f"{counted(total['streams'], 'stream')}, {total['lost']:,} lost "
            f"(< {total['lost_share_at_most']:.3%} at 95%), {total['wrong_tokens']:,} wrong tokens.{shown}"
        )
    if not whole:
        sys.exit(130)
    if not total["kept"]:
        broken = [v.name for v in result.verdicts if not v.kept]
        again = f"seawall prove {proof.fleet} --scenario {broken[0]} --html prove.html"
        say(f"Broken: {', '.join(broken)}. Next: {again}", err=bool(form))
        sys.exit(1)

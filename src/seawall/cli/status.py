"""`seawall status`: what runs here, or on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from seawall.cli import complete, output
from seawall.cli.cluster import cluster_options, known_namespace, means_cluster, with_cluster


@click.command()
@click.argument("fleet", required=False, shell_complete=complete.fleets)
@click.option("--state-dir", type=click.Path(file_okay=False, path_type=Path), help="Of that `seawall up`.")
@click.option(
    "--events",
    default=5,
    type=click.IntRange(0, 10_000),
    show_default=True,
    help="How many of the latest events (here).",
)
@click.option("-A", "--all-namespaces", is_flag=True, help="All fleets of the cluster.")
@click.option("-w", "--watch", is_flag=True, help="Look again every two seconds, until Ctrl-C.")
@cluster_options
def command(
    fleet: str | None,
    state_dir: Path | None,
    form: str,
    events: int,
    all_namespaces: bool,
    watch: bool,
    context: str | None,
    kubeconfig: str | None,
    namespace: str | None,
) -> None:
    """Show fleets: replicas with phase and reason, queue, TTFT, the scaler's last decision and why.

    Without options it shows what `seawall up` runs on this machine; with --context, --namespace or -A it
    shows a cluster.

    \b
    $ seawall status
    $ seawall status llama-70b --namespace llm -w
    """
    on_cluster = state_dir is None and means_cluster(context, namespace, all_namespaces)

    def show() -> str:
        if on_cluster:
            return _cluster(fleet, context, kubeconfig, namespace, all_namespaces, form)
        from seawall.cli import terminal
        from seawall.local import control, view

        answer = control.ask(control.state_dir(state_dir), do="status")
        if fleet:
            answer = view.only(answer, fleet)
        return output.dumps(answer, form) if form else view.status_text(answer, events, terminal.width())

    if not watch:
        click.echo(show())
        return
    from contextlib import suppress

    with suppress(KeyboardInterrupt):  # that is how a look is ended
        redraw(show)


def redraw(show: Callable[[], str], sleep: Callable[[float], None] | None = None) -> None:
    """A screen that is drawn again every few seconds, until Ctrl-C."""
    import sys
    import time

    from seawall.drivers.kube_refusal import passing
    from seawall.errors import ClusterError

    while True:
        try:
            text = show()
        except ClusterError as e:
            if not passing(e):
                raise
            text = f"{e.message} Looking again."
        if sys.stdout.isatty():
            click.clear()
        click.echo(text if sys.stdout.isatty() else f"{text}\n")
        (sleep or time.sleep)(2.0)


def _cluster(
    fleet: str | None,
    context: str | None,
    kubeconfig: str | None,
    namespace: str | None,
    everywhere: bool,
    form: str,
) -> str:
    from dataclasses import asdict

    from seawall.cli import terminal
    from seawall.domain.columns import folded
    from seawall.drivers.kube import Kube
    from seawall.errors import InputError
    from seawall.operator.show import status_text
    from seawall.operator.status import FleetView, look

    async def ask(kube: Kube) -> tuple[list[FleetView], str]:
        where = None if everywhere else namespace or kube.namespace
        views = await look(kube, where, fleet)
        if not views and where:
            await known_namespace(kube, where)
        return views, where or "the cluster"

    views, where = with_cluster(context, kubeconfig, ask)
    if fleet and not views:
        raise InputError(f"no fleet {fleet!r} in {where}.", "seawall status -A lists them all.")
    return (
        output.dumps({"fleets": [asdict(v) for v in views]}, form)
        if form
        else folded(status_text(views, where), terminal.width())
    )

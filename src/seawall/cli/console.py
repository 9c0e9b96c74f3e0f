"""`seawall console`: the page of what runs here, or on a cluster."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from seawall.cli import output
from seawall.cli.cluster import cluster_options, known_namespace, means_cluster, with_cluster
from seawall.cli.terminal import say


@click.command()
@click.option("--state-dir", type=click.Path(file_okay=False, path_type=Path), help="Of that `seawall up`.")
@click.option("--open", "opens", is_flag=True, help="Open it in this desktop's browser.")
@click.option("-A", "--all-namespaces", is_flag=True, help="All fleets of the cluster.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="On a cluster: the port here. 0: any free one.",
)
@cluster_options
def command(
    state_dir: Path | None, opens: bool, all_namespaces: bool, port: int, form: str, context: str | None,
    kubeconfig: str | None, namespace: str | None,
) -> None:  # fmt: skip
    """Look at fleets in a browser: replicas, numbers over time, decisions with their reasons.

    Here, the gateway of `seawall up` serves the page, and this prints its address. With --context, --namespace or -A
    a page of the cluster is served on this machine, with the rights of your kubeconfig, until Ctrl-C. Its playground
    needs the right to create pods/proxy.

    \b
    $ seawall console --open
    $ seawall console --context prod --namespace llm
    """
    if state_dir is None and means_cluster(context, namespace, all_namespaces):
        _cluster(context, kubeconfig, namespace, all_namespaces, port, opens, form)
        return
    if port:
        from seawall.errors import InputError

        raise InputError(
            "--port is of a cluster's page; here the gateway serves it.",
            "Choose it with: seawall up --admin-port",
        )
    from seawall.local import control

    status = control.ask(control.state_dir(state_dir), do="status")
    _tell(f"{status['gateway']['admin_url']}/console", opens, form)


def _tell(url: str, opens: bool, form: str) -> None:
    """The address alone goes to standard output."""
    click.echo(output.line({"url": url}, form) if form else url)
    if opens:
        import webbrowser

        if not webbrowser.open(url):
            say("No browser was found here: open the address above in one.", err=True)


def _cluster(
    context: str | None, kubeconfig: str | None, namespace: str | None, everywhere: bool, port: int, opens: bool,
    form: str,
) -> None:  # fmt: skip
    from seawall.drivers.kube import Kube
    from seawall.operator import sights

    async def serve(kube: Kube) -> None:
        where = None if everywhere else namespace or kube.namespace
        if where:
            await known_namespace(kube, where)

        def ready(url: str) -> None:
            _tell(url, opens, form)
            say("Its playground talks to the cluster's gateways as you. Ctrl-C ends it.", err=True)

        await sights.serve(kube, where, port, ready)

    with suppress(KeyboardInterrupt):  # that is how a look is ended
        with_cluster(context, kubeconfig, serve)

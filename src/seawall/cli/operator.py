"""`seawall operator`: keep Fleet objects of a cluster as they are meant to be."""

from __future__ import annotations

from pathlib import Path

import click

from seawall.cli.cluster import with_cluster
from seawall.cli.verbs import VerbGroup


@click.group(cls=VerbGroup)
def command() -> None:
    """Reconcile Fleet objects, drain replicas whose node is about to go. Optional: manifests work without it.

    \b
    $ seawall operator manifests --namespace llm | kubectl apply --server-side -f -
    $ kubectl apply -n llm -f llama-70b.yaml && kubectl get fleets -n llm
    """


@command.command()
@click.option(
    "-n",
    "--namespace",
    help="Where it runs, and whose Fleets it serves. [default; with --cluster-wide seawall-system]",
)
@click.option("--cluster-wide", is_flag=True, help="Serve the Fleets of all namespaces, with a ClusterRole.")
@click.option(
    "--nodes",
    is_flag=True,
    help="Watch nodes, so that replicas leave before theirs: a ClusterRole that reads nodes. [with --cluster-wide]",
)
@click.option("--image", help="Image of seawall, best by digest. [this version's]")
@click.option("--crd-only", is_flag=True, help="Only the CustomResourceDefinition.")
def manifests(
    namespace: str | None, cluster_wide: bool, nodes: bool, image: str | None, crd_only: bool
) -> None:
    """Print the operator's own objects: CRD, RBAC, Deployment.

    \b
    $ seawall operator manifests --namespace llm | kubectl apply --server-side -f -
    """
    import yaml

    from seawall.operator.crd import fleet_crd
    from seawall.operator.manifests import operator_manifests

    where = namespace or ("seawall-system" if cluster_wide else "default")
    objects = (
        [fleet_crd()]
        if crd_only
        else operator_manifests(where, image, everywhere=cluster_wide, nodes=nodes or cluster_wide)
    )
    click.echo(yaml.safe_dump_all(objects, sort_keys=False, explicit_start=True), nl=False)


@command.command()
@click.option("--context", help="Context of the kubeconfig. [in the cluster]")
@click.option("--kubeconfig", envvar="KUBECONFIG", help="[~/.kube/config, or in the cluster]")
@click.option("-n", "--namespace", help="Only this namespace. [the whole cluster]")
@click.option(
    "--lease-namespace", envvar="POD_NAMESPACE", default="default", help="Where the leader's Lease lies."
)
@click.option("--health", help="Where the kubelet asks whether it turns, as ADDRESS:PORT. [nowhere]")
def run(
    context: str | None,
    kubeconfig: str | None,
    namespace: str | None,
    lease_namespace: str,
    health: str | None,
) -> None:
    """Run until SIGTERM. Several may run: one leads, the others stand by.

    \b
    $ seawall operator run --context prod --namespace llm
    """
    import asyncio
    import logging
    import os
    import signal
    import socket
    from contextlib import nullcontext

    from seawall.drivers.clock import SteadyClock
    from seawall.drivers.kube import OPERATOR_MANAGER, Kube
    from seawall.operator.health import answering
    from seawall.operator.lease import Leader
    from seawall.operator.loop import operate
    from seawall.operator.manifests import NAME

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)

    async def work(kube: Kube) -> None:
        clock = SteadyClock()
        identity = f"{socket.gethostname()}-{os.getpid()}"
        leader = Leader(kube, lease_namespace, NAME, identity, clock)
        task = asyncio.ensure_future(leader.run(lambda: operate(kube, namespace, clock)))
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sig, task.cancel)
        async with answering(health) if health else nullcontext():
            try:
                await task
            except asyncio.CancelledError:
                await leader.release()

    with_cluster(context, kubeconfig, work, OPERATOR_MANAGER)


@command.command()
@click.option("--listen", default="127.0.0.1:9443", show_default=True, help="Where KEDA asks (gRPC).")
@click.option("--metrics", default="", help="Where Prometheus reads, as ADDRESS:PORT. [nowhere]")
@click.option("--tls", type=click.Path(path_type=Path), help="Folder of tls.crt, tls.key and ca.crt.")
@click.option("--context", help="Context of the kubeconfig. [in the cluster]")
@click.option("--kubeconfig", envvar="KUBECONFIG", help="[~/.kube/config, or in the cluster]")
def scaler(listen: str, metrics: str, tls: Path | None, context: str | None, kubeconfig: str | None) -> None:
    """Answer KEDA how many replicas there should be, for fleets with `scaling.by: seawall`. Until SIGTERM.

    Every decision is a line of the log; `seawall simulate --replay FILE` decides them again.

    \b
    $ seawall operator scaler --context prod --listen 0.0.0.0:9443
    """
    import logging

    from seawall.drivers.keda import Tls
    from seawall.drivers.kube import OPERATOR_MANAGER
    from seawall.operator.scaler_process import run_scaler

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    with_cluster(
        context,
        kubeconfig,
        lambda kube: run_scaler(kube, listen, metrics, Tls(tls) if tls else None),
        OPERATOR_MANAGER,
    )

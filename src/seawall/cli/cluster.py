"""What every cluster verb shares: --context, --namespace, --output, a connection, one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from seawall.drivers.kube import Kube

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def cluster_options(f: F) -> F:
    """--context, --kubeconfig, --namespace, --output of every verb that talks to a cluster."""
    for option in (
        click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True),
        click.option("-n", "--namespace", help="Namespace. Default: the Fleet's, else the context's."),
        click.option(
            "--kubeconfig", envvar="KUBECONFIG", help="Kubeconfig file. [~/.kube/config, or in the cluster]"
        ),
        click.option("--context", help="Context of the kubeconfig. [the current one]"),
    ):
        f = option(f)
    return f


def with_cluster(context: str | None, kubeconfig: str | None, work: Callable[[Kube], Awaitable[T]]) -> T:
    """Connects, runs `work`, closes."""
    from seawall.drivers.kube import connect

    async def run() -> T:
        async with connect(context, kubeconfig) as kube:
            return await work(kube)

    return asyncio.run(run())

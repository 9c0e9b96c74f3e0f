"""What every cluster verb shares: --context, --namespace, --output, a connection, one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from seawall.cli.output import output_option
from seawall.cli.terminal import say

if TYPE_CHECKING:
    from seawall.drivers.kube import Kube

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
_warned: set[str] = set()
"""What the API server warned of and was shown: a verb that connects twice says it once."""


def cluster_options(f: F) -> F:
    """--context, --kubeconfig, --namespace, -o of every verb that talks to a cluster."""
    for option in (
        output_option,
        click.option("-n", "--namespace", help="Namespace. Default: the Fleet's, else the context's."),
        click.option(
            "--kubeconfig", envvar="KUBECONFIG", help="Kubeconfig file. [~/.kube/config, or in the cluster]"
        ),
        click.option("--context", help="Context of the kubeconfig. [the current one]"),
    ):
        f = option(f)
    return f


def with_cluster(
    context: str | None,
    kubeconfig: str | None,
    work: Callable[[Kube], Awaitable[T]],
    manager: str | None = None,
) -> T:
    """Connects, runs `work`, closes. The API server's warnings go to stderr. `manager`: who writes; a person's verbs
    where it is not given."""
    from seawall.drivers.kube import FIELD_MANAGER, PATIENCE_S, connect

    async def run() -> T:
        async with connect(context, kubeconfig, manager or FIELD_MANAGER, PATIENCE_S) as kube:
            try:
                return await work(kube)
            finally:
                for text in kube.warnings:
                    if text not in _warned:
                        _warned.add(text)
                        say(f"warning: {text}", err=True)

    return asyncio.run(run())


def means_cluster(*given: object) -> bool:
    """Whether a verb that also looks at this machine is meant for a cluster: any cluster option was typed."""
    source = click.get_current_context().get_parameter_source("kubeconfig")
    return any(given) or source == click.core.ParameterSource.COMMANDLINE


async def known_namespace(kube: Kube, name: str) -> None:
    """InputError when there is no such namespace: an empty answer would read as if all were well there."""
    from seawall.drivers.kube import NAMESPACE, Refused
    from seawall.errors import InputError

    try:
        found = await kube.get(NAMESPACE, None, name)
    except Refused:
        return  # who may not read namespaces may still have one
    if found is None:
        raise InputError(
            f"there is no namespace {name!r} in {kube.context or 'this cluster'}.",
            "Name another with --namespace; seawall status -A shows all fleets.",
        )

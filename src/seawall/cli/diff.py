"""`seawall diff`: what apply would change, asked of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from seawall.cli.cluster import cluster_options, with_cluster

if TYPE_CHECKING:
    from seawall.drivers.kube import Kube
    from seawall.operator.apply import Change


@click.command()
@click.argument("specs", nargs=-1, required=True, type=click.Path())
@cluster_options
def command(
    specs: tuple[str, ...], context: str | None, kubeconfig: str | None, namespace: str | None, form: str
) -> None:
    """Show what `seawall apply` would change. Exit code 1 when there is something.

    The server itself computes the result (a dry run of server-side apply), so defaults and other people's
    fields are not shown as changes. Nothing is written.
    """
    from seawall.cli.apply import show
    from seawall.cli.fleets import group_of
    from seawall.errors import CheckFailed
    from seawall.operator.apply import changes
    from seawall.render.everything import render

    group = group_of(specs, namespace=namespace)
    objects = list(render(group).objects)

    async def look(kube: Kube) -> list[Change]:
        return await changes(kube, objects, group.gateway, group.namespace, force=True)

    found = with_cluster(context, kubeconfig, look)
    show(found, form)
    changed = [c for c in found if c.verb != "keep"]
    if changed:
        answer = CheckFailed(f"{len(changed)} objects differ.", f"seawall apply {' '.join(specs)}")
        answer.told = True
        raise answer

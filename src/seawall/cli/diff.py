"""`seawall diff`: what apply would change, asked of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from seawall.cli.cluster import cluster_options, with_cluster
from seawall.domain.units import counted

if TYPE_CHECKING:
    from seawall.drivers.kube import Kube
    from seawall.operator.apply import Change


@click.command()
@click.argument("specs", metavar="FLEET.yaml...", nargs=-1, required=True, type=click.Path())
@click.option("--force-conflicts", is_flag=True, help="As `apply --force-conflicts` would do it.")
@cluster_options
def command(
    specs: tuple[str, ...],
    force_conflicts: bool,
    context: str | None,
    kubeconfig: str | None,
    namespace: str | None,
    form: str,
) -> None:
    """Show what `seawall apply` would change. Exit code 1 when there is something.

    The server itself computes the result (a dry run of server-side apply), so defaults and other people's
    fields are not shown as changes, and what it would refuse is shown as refused. Nothing is written.

    \b
    $ seawall diff llama-70b.yaml --context prod
    """
    from seawall.cli.apply import show, tell_secrets
    from seawall.cli.fleets import group_of
    from seawall.errors import CheckFailed
    from seawall.operator.apply import changes
    from seawall.operator.intent import intent_of

    group = group_of(specs, namespace=namespace)

    async def look(kube: Kube) -> list[Change]:
        intent = await intent_of(kube, group, force_conflicts)
        await tell_secrets(kube, intent, group.namespace)
        return await changes(kube, intent.objects, intent.inventory, group.namespace, force_conflicts)

    found = with_cluster(context, kubeconfig, look)
    show(found, form)
    changed = [c for c in found if c.verb != "keep"]
    if changed:
        answer = CheckFailed(
            f"{counted(len(changed), 'object differs', 'objects differ')}.",
            f"seawall apply {' '.join(specs)}",
        )
        answer.told = True
        raise answer

"""`seawall delete`: what apply made goes, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from seawall.cli.cluster import cluster_options, with_cluster

if TYPE_CHECKING:
    from seawall.drivers.kube import Kube
    from seawall.operator.apply import Ref


@click.command()
@click.argument("specs", nargs=-1, required=True, type=click.Path())
@click.option("--all", "everything", is_flag=True, help="Also the volumes with the weights.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@cluster_options
def command(
    specs: tuple[str, ...],
    everything: bool,
    yes: bool,
    context: str | None,
    kubeconfig: str | None,
    namespace: str | None,
    output: str,
) -> None:
    """Delete what `seawall apply` made for these fleets. Weights stay unless --all; the namespace always stays.

    Deletes by the inventory that apply keeps in the cluster: an object that somebody else made is never touched.
    """
    import json
    import sys

    from seawall.cli.fleets import group_of
    from seawall.errors import InputError
    from seawall.operator.apply import delete

    group = group_of(specs, namespace=namespace)
    if not yes:
        if not sys.stdin.isatty():
            raise InputError("nobody is here to be asked.", "Add --yes.")
        if not click.confirm(f"Delete {', '.join(m.name for m in group.members)} from {group.namespace}?"):
            raise InputError("not deleted.", "Nothing was changed.")
    done: list[str] = []

    async def act(kube: Kube) -> list[Ref]:
        def tell(ref: Ref, verb: str) -> None:
            done.append(str(ref))
            if output == "text":
                click.echo(f"  {verb:12} {ref}")

        return await delete(kube, group.gateway, group.namespace, everything, tell)

    kept = with_cluster(context, kubeconfig, act)
    if output == "json":
        click.echo(json.dumps({"deleted": done, "kept": [str(r) for r in kept]}))
    elif kept:
        click.echo(
            f"kept {', '.join(map(str, kept))}" + ("" if everything else "; --all deletes volumes too")
        )

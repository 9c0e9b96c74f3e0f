"""`seawall delete`: what apply made goes, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from seawall.cli import output
from seawall.cli.cluster import cluster_options, with_cluster
from seawall.cli.terminal import say

if TYPE_CHECKING:
    from seawall.drivers.kube import Kube
    from seawall.operator.ledger import Ref


@click.command()
@click.argument("specs", metavar="FLEET.yaml...", nargs=-1, required=True, type=click.Path())
@click.option("--all", "everything", is_flag=True, help="Also the volumes with the weights.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Until all is gone, for a minute.")
@cluster_options
def command(
    specs: tuple[str, ...],
    everything: bool,
    yes: bool,
    wait: bool,
    context: str | None,
    kubeconfig: str | None,
    namespace: str | None,
    form: str,
) -> None:
    """Delete what `seawall apply` made for these fleets. Weights stay unless --all; the namespace always stays.

    Deletes by the inventory that apply keeps in the cluster: an object that somebody else made is never touched.

    \b
    $ seawall delete llama-70b.yaml
    $ seawall delete llama-70b.yaml --all --yes
    """
    import sys

    from seawall.cli.fleets import group_of
    from seawall.errors import InputError
    from seawall.operator.apply import delete, wait_until_gone
    from seawall.operator.fleet_object import refuse_kept

    group = group_of(specs, namespace=namespace)
    if not yes:
        if not sys.stdin.isatty():
            raise InputError("nobody is here to be asked.", "Add --yes.")
        if not click.confirm(f"Delete {', '.join(m.name for m in group.members)} from {group.namespace}?"):
            raise InputError("not deleted.", "Nothing was changed.")
    done: list[Ref] = []

    async def act(kube: Kube) -> tuple[list[Ref], list[str]]:
        def tell(ref: Ref, verb: str) -> None:
            if verb in ("deleted", "already gone"):
                done.append(ref)
            if not form:
                say(f"  {verb:12} {ref}")

        await refuse_kept(kube, group)
        kept = await delete(kube, group.gateway, group.namespace, everything, tell)
        return kept, await wait_until_gone(kube, done, 60.0) if wait else []

    kept, held = with_cluster(context, kubeconfig, act)
    if form:
        told = {"deleted": list(map(str, done)), "kept": list(map(str, kept)), "leaving": held}
        output.write(told, form)
    elif not done and not kept:
        say(f"nothing of {group.gateway} was applied in {group.namespace}")
    elif kept:
        say(f"kept {', '.join(map(str, kept))}" + ("" if everything else "; --all deletes volumes too"))
    if not form:
        for line in held:
            say(f"still leaving: {line}")

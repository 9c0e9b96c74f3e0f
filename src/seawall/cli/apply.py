"""`seawall apply`: rendered objects -> the cluster, and wait until a token comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from seawall.cli import output
from seawall.cli.cluster import cluster_options, with_cluster

if TYPE_CHECKING:
    from seawall.drivers.kube import Kube
    from seawall.operator.apply import Change, Ref
    from seawall.render.inputs import Group, Object


@click.command()
@click.argument("specs", nargs=-1, required=True, type=click.Path())
@click.option("--yes", is_flag=True, help="Apply without showing the diff and asking.")
@click.option("--dry-run", is_flag=True, help="Show what would change, asked of the server; change nothing.")
@click.option("--force-conflicts", is_flag=True, help="Take over fields that somebody else manages.")
@click.option("--skip-missing", is_flag=True, help="Leave out objects whose kind the cluster does not serve.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until every replica serves.")
@cluster_options
def command(
    specs: tuple[str, ...],
    yes: bool,
    dry_run: bool,
    force_conflicts: bool,
    skip_missing: bool,
    wait: bool,
    context: str | None,
    kubeconfig: str | None,
    namespace: str | None,
    form: str,
) -> None:
    """Apply fleets to a cluster: diff first, server-side apply, prune, wait for the first token.

    \b
    seawall apply llama-70b.yaml                 shows the diff, asks, applies, waits
    seawall apply llama-70b.yaml --yes           in a pipeline
    """
    from functools import partial

    from seawall.cli.fleets import group_of
    from seawall.errors import InputError, Stopped
    from seawall.operator.apply import Ref, changes, unserved
    from seawall.render.everything import render

    group = group_of(specs, namespace=namespace)
    objects = list(render(group).objects)
    owner, where = group.gateway, group.namespace

    async def look(kube: Kube) -> list[Change]:
        return await changes(kube, objects, owner, where, force_conflicts)

    if not dry_run:
        missing = with_cluster(context, kubeconfig, lambda kube: unserved(kube, objects))
        objects = [o for o in objects if Ref.of(o) not in missing]
        _tell_missing(missing, skip_missing)

    if dry_run or not yes:
        if form and not dry_run:
            raise InputError(f"-o {form} asks nobody.", "Add --yes (or --dry-run to only look).")
        found = with_cluster(context, kubeconfig, look)
        show(found, form)
        if dry_run:
            return
        _ask(found)

    try:
        with_cluster(context, kubeconfig, partial(_act, group, objects, force_conflicts, wait, form))
    except KeyboardInterrupt:
        raise Stopped(
            "stopped. What was applied stays and goes on by itself.",
            f"seawall status -n {where}, or apply again: it goes on where it was.",
        ) from None
    if form:
        output.write({"applied": len(objects), "namespace": where, "served": wait}, form)
    else:
        click.echo(f"\nNext: seawall status -n {where}")


async def _act(
    group: Group, objects: list[Object], force_conflicts: bool, wait: bool, form: str, kube: Kube
) -> None:
    from seawall.operator.apply import apply

    def tell(ref: Ref, verb: str) -> None:
        click.echo(f"  {verb:12} {ref}", err=bool(form))

    await apply(kube, objects, group.gateway, group.namespace, force_conflicts, tell)
    if wait:
        await _wait(kube, group, form)


def _ask(found: list[Change]) -> None:
    """Returns when there is nothing to ask, or the answer was yes."""
    import sys

    from seawall.errors import InputError

    if not any(c.verb != "keep" for c in found):
        click.echo("nothing to change")
    elif not sys.stdin.isatty():
        raise InputError("nobody is here to be asked.", "Add --yes (or --dry-run to only look).")
    elif not click.confirm("Apply this?"):
        raise InputError("not applied.", "Nothing was changed.")


async def _wait(kube: Kube, group: Group, form: str) -> None:
    """Every fleet until its replicas serve, then the gateway in front of them."""
    import time

    from seawall.operator.wait import wait_for_gateway, wait_until_served

    def tell(line: str) -> None:
        click.echo(line, err=bool(form))

    for member in group.members:
        limit_s = member.plan.startup.total_s * 2 + 120
        await wait_until_served(kube, member.name, group.namespace, limit_s, tell, time.monotonic)
    await wait_for_gateway(kube, group.gateway, group.namespace, 300.0, tell, time.monotonic)


def _tell_missing(missing: list[Ref], skip: bool) -> None:
    """Nothing is begun that cannot be finished: kinds that are not served are told before anything is written."""
    from seawall.errors import InputError

    if not missing:
        return
    kinds = ", ".join(sorted({f"{r.kind} ({r.api_version})" for r in missing}))
    if not skip:
        raise InputError(
            f"the cluster does not serve {kinds}; nothing was changed.",
            "`seawall render cluster-prereqs` shows what to install; --skip-missing applies the rest without them.",
        )
    for ref in missing:
        lost = _LOST.get(ref.kind, "")
        click.echo(f"warning: left out {ref}{f': {lost}' if lost else ''}", err=True)


_LOST = {
    "ScaledObject": "nothing scales this fleet",
    "PodMonitor": "Prometheus does not scrape it, and a scaler that asks Prometheus sees nothing",
    "ServiceMonitor": "Prometheus does not scrape it",
    "PrometheusRule": "there are no alerts",
    "HTTPRoute": "no route leads to the gateway from outside",
}


def show(found: list[Change], form: str) -> None:
    """Prints changes as a diff, or as data."""
    if form:
        click.echo(
            output.dumps(
                {"changes": [{"object": str(c.ref), "verb": c.verb, "diff": c.diff} for c in found]}, form
            )
        )
        return
    for c in found:
        if c.verb != "keep":
            click.echo(f"{c.verb:7} {c.ref}")
            if c.diff and c.verb in ("change", "replace"):
                click.echo(c.diff)
    kept = sum(c.verb == "keep" for c in found)
    verbs = [
        f"{sum(c.verb == v for c in found)} to {v}"
        for v in ("create", "change", "replace", "prune", "missing")
        if any(c.verb == v for c in found)
    ]
    click.echo(f"{', '.join(verbs) or 'no change'}, {kept} as they are")

"""`seawall apply`: rendered objects -> the cluster, and wait until a token comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from seawall.cli import output
from seawall.cli.cluster import cluster_options, with_cluster
from seawall.cli.terminal import say

if TYPE_CHECKING:
    from seawall.drivers.kube import Kube
    from seawall.operator.apply import Change
    from seawall.operator.intent import Intent
    from seawall.operator.ledger import Ref
    from seawall.render.inputs import Group


@click.command()
@click.argument("specs", metavar="FLEET.yaml...", nargs=-1, required=True, type=click.Path())
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

    Your rights are asked for and every object is tried in a dry run before the first one is changed. A fleet that
    an operator keeps is changed through its Fleet object.

    \b
    $ seawall apply llama-70b.yaml                 shows the diff, asks, applies, waits
    $ seawall apply llama-70b.yaml --yes           in a pipeline
    """
    from functools import partial

    from seawall.cli.fleets import group_of
    from seawall.errors import InputError, Stopped
    from seawall.operator.apply import insist

    if form and not (dry_run or yes):
        raise InputError(f"-o {form} asks nobody.", "Add --yes (or --dry-run to only look).")
    group = group_of(specs, namespace=namespace)
    look = partial(_look, group, force_conflicts, skip_missing or dry_run, dry_run)
    intent, found = with_cluster(context, kubeconfig, look)
    if dry_run or not yes:
        show(found, form)
    if dry_run:
        return
    insist(found)
    if not yes:
        _ask(found)
    try:
        with_cluster(context, kubeconfig, partial(_act, group, intent, force_conflicts, wait, form))
    except KeyboardInterrupt:
        raise Stopped(
            "stopped. What was applied stays and goes on by itself.",
            f"seawall status -n {group.namespace}, or apply again: it goes on where it was.",
        ) from None
    if form:
        told = {"applied": len(intent.objects), "namespace": group.namespace, "served": wait}
        output.write(told, form)
    else:
        say(f"\nNext: seawall status -n {group.namespace}")


async def _look(
    group: Group, force: bool, skip_missing: bool, dry_run: bool, kube: Kube
) -> tuple[Intent, list[Change]]:
    """What is to be applied and what it would change; nothing is written. Raises what would stop it half-way."""
    from seawall.operator.apply import changes, unserved
    from seawall.operator.intent import intent_of
    from seawall.operator.ledger import Ref
    from seawall.operator.preflight import need_rights

    intent = await intent_of(kube, group, force)
    missing = await unserved(kube, intent.objects)
    if not dry_run:
        _tell_missing(missing, skip_missing)
        intent = intent.without(missing)
        await need_rights(kube, [Ref.of(o, group.namespace) for o in intent.objects])
    found = await changes(kube, intent.objects, intent.inventory, group.namespace, force)
    if not dry_run:
        await need_rights(kube, (), [c.ref for c in found if c.verb == "prune"])
    await tell_secrets(kube, intent, group.namespace)
    return intent, found


async def tell_secrets(kube: Kube, intent: Intent, namespace: str) -> None:
    """Warns of Secrets that somebody has to make, with the command that does."""
    from seawall.operator.preflight import missing_secrets

    for what, command in await missing_secrets(kube, intent.objects, namespace):
        say(f"warning: {what} is not there, and Pods wait for it: {command}", err=True)


async def _act(group: Group, intent: Intent, force: bool, wait: bool, form: str, kube: Kube) -> None:
    from seawall.operator.converge import Manner, converge

    def tell(ref: Ref, verb: str) -> None:
        say(f"  {verb:12} {ref}", err=bool(form))

    how = Manner(force=force, stop_at_first=True, tell=tell)
    await converge(kube, intent.objects, intent.ledger(kube), group.namespace, how)
    if wait:
        await _wait(kube, group, intent, form)


def _ask(found: list[Change]) -> None:
    """Returns when there is nothing to ask, or the answer was yes."""
    import sys

    from seawall.errors import InputError

    if not any(c.verb != "keep" for c in found):
        say("nothing to change")
    elif not sys.stdin.isatty():
        raise InputError("nobody is here to be asked.", "Add --yes (or --dry-run to only look).")
    elif not click.confirm("Apply this?"):
        raise InputError("not applied.", "Nothing was changed.")


async def _wait(kube: Kube, group: Group, intent: Intent, form: str) -> None:
    """Every fleet until its replicas serve, the gateways in front of them, and until these use all replicas."""
    from seawall.operator.wait import FleetWait

    def tell(line: str) -> None:
        say(line, err=bool(form))

    wait = FleetWait(kube, group.namespace, tell)
    for member in group.members:
        limit_s = member.plan.startup.total_s * 2 + 120
        if intent.kept:
            await wait.for_operator(member.name, 60.0)
        await wait.until_served(member.name, limit_s)
    for gateway in intent.gateways(group):
        await wait.for_gateway(gateway, 300.0)
    for member in group.members:
        await wait.until_used(member.name, 120.0)


def _tell_missing(missing: list[Ref], skip: bool) -> None:
    """Nothing is begun that cannot be finished: kinds that are not served are told before anything is written."""
    from seawall.domain.catalog.providers import cure_of
    from seawall.errors import InputError

    if not missing:
        return
    kinds = ", ".join(sorted({f"{r.kind} ({r.api_version})" for r in missing}))
    cures = sorted({f"{cure_of(r.api_version).rstrip('.')}." for r in missing})
    if not skip:
        raise InputError(
            f"the cluster does not serve {kinds}; nothing was changed.",
            " ".join([*cures, "--skip-missing applies the rest without them."]),
        )
    for ref in missing:
        lost = _LOST.get(ref.kind, "")
        say(f"warning: left out {ref}{f': {lost}' if lost else ''}", err=True)


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
        rows = [
            {"object": str(c.ref), "verb": c.verb, "diff": c.diff}
            | ({"refusal": c.refusal.message, "cure": c.refusal.cure} if c.refusal else {})
            for c in found
        ]
        output.write({"changes": rows}, form)
        return
    for c in found:
        if c.refusal is not None:
            say(f"{c.verb:7} {c.refusal.message}")
        elif c.verb != "keep":
            say(f"{c.verb:7} {c.ref}")
        if c.diff and c.verb in ("change", "replace", "refused"):
            click.echo(c.diff)
    for cure in dict.fromkeys(c.refusal.cure for c in found if c.refusal and c.refusal.cure):
        say(f"refused: {cure}")
    kept = sum(c.verb == "keep" for c in found)
    verbs = [
        f"{sum(c.verb == v for c in found)} {'' if v == 'refused' else 'to '}{v}"
        for v in ("create", "change", "replace", "prune", "missing", "refused")
        if any(c.verb == v for c in found)
    ]
    say(f"{', '.join(verbs) or 'no change'}, {kept} as they are")

"""`seawall doctor`: is this cluster able to serve this fleet?"""

from __future__ import annotations

import click

from seawall.cli import output, terminal
from seawall.cli.cluster import cluster_options, with_cluster
from seawall.cli.terminal import say

_MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


@click.command()
@click.argument("spec", metavar="FLEET.yaml", type=click.Path())
@cluster_options
def command(spec: str, context: str | None, kubeconfig: str | None, namespace: str | None, form: str) -> None:
    """Say whether a cluster can serve a fleet, and mend what cannot.

    Checks versions, rights, GPUs and their labels, taints, CRDs, KEDA and Prometheus, storage, quota, pod
    security and who owns our fields. Exit code 1 when a check fails.

    \b
    $ seawall doctor llama-70b.yaml --context prod
    """
    from dataclasses import asdict, replace
    from functools import partial

    from seawall.cli.fleets import group_of
    from seawall.diagnose.doctor import CheckResult, examine
    from seawall.diagnose.examine_cluster import examine_cluster
    from seawall.domain.columns import labelled
    from seawall.errors import CheckFailed
    from seawall.operator.preflight import secrets_check
    from seawall.render.everything import render
    from seawall.render.replica.volumes import claim_name

    group = group_of((spec,))
    objects = render(group).objects
    kinds = frozenset((o["apiVersion"], o["kind"]) for o in objects)
    weights = {claim_name(wanted) for wanted in group.members}
    claims = [o for o in objects if o["kind"] == "PersistentVolumeClaim"]
    shared = [o for o in claims if o["metadata"]["name"] not in weights]
    checks: list[CheckResult] = []
    for wanted in group.members:
        fleet = wanted.fleet
        if namespace:
            fleet = replace(fleet, metadata=replace(fleet.metadata, namespace=namespace))
        facts = with_cluster(context, kubeconfig, partial(examine_cluster, fleet=fleet, kinds=kinds))
        checks += examine(facts, fleet, wanted.plan, kinds, () if checks else shared)
    look = partial(secrets_check, objects=objects, namespace=namespace or group.namespace)
    checks += with_cluster(context, kubeconfig, look)
    failed = [c for c in checks if c.verdict == "fail"]
    if form:
        output.write({"healthy": not failed, "checks": [asdict(c) for c in checks]}, form)
    else:
        for c in checks:
            told = [(c.name, c.why)] + ([("", c.cure)] if c.cure else [])
            width = max(len(c.name) for c in checks)
            told = [(name.ljust(width), text) for name, text in told]
            lines = labelled(told, terminal.width(), "      ")
            click.echo("\n".join([_MARKS[c.verdict] + lines[0][4:], *lines[1:]]))
    if failed:
        answer = CheckFailed(
            f"{len(failed)} of {len(checks)} checks failed.",
            "Begin at the top; later ones may depend on earlier ones.",
        )
        answer.told = True
        raise answer
    if not form:
        say(f"\nNext: seawall apply {spec}")

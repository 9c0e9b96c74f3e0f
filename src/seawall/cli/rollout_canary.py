"""`seawall rollout start|follow|status|pause|resume|abort|undo`: canaries on a cluster, judged automatically."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from seawall.cli import output
from seawall.cli.cluster import cluster_options, with_cluster
from seawall.cli.terminal import say

if TYPE_CHECKING:
    from seawall.drivers.kube import Kube


def add_to(group: click.Group) -> None:
    """Adds the cluster's verbs to `seawall rollout`."""
    for verb in (start, follow, status, *map(_wish, ("pause", "resume", "abort", "undo"))):
        group.add_command(verb)


@click.command()
@click.argument("spec", metavar="FLEET.yaml", type=click.Path())
@click.option("--fleet", help="Which, if the file holds several.")
@click.option("--detach", is_flag=True, help="Only begin; `rollout follow` or the operator drives it.")
@cluster_options
def start(
    spec: str,
    fleet: str | None,
    detach: bool,
    context: str | None,
    kubeconfig: str | None,
    namespace: str | None,
    form: str,
) -> None:
    """Begin a canary: the candidate gets the first step's share, and more only while it is as good.

    Every look compares errors, requests beyond the SLO, TTFT and TPOT of both sides by confidence sequences. A
    worse candidate is rolled back, one that is as good is promoted, too little traffic ends with a question to
    you. Exit code 1 when it was rolled back.

    \b
    $ seawall rollout start examples/canary.yaml --context prod
    """
    from seawall.cli.fleets import group_of
    from seawall.operator import canary
    from seawall.operator.fleet_object import fleet_object

    group = group_of((spec,), namespace=namespace)
    name = fleet or next((m.name for m in group.members if m.canary), group.first.name)

    async def work(kube: Kube) -> None:
        owner = await fleet_object(kube, group.namespace, name)
        await canary.start(kube, group, name, kube.server_time(), owner)
        if detach:
            await canary.tick(kube, group.namespace, name, kube.server_time(), owner)
            _tell(name, group.namespace, "start", "begun", form)
        else:
            await _drive(kube, group.namespace, name, form)

    with_cluster(context, kubeconfig, work)


@click.command()
@click.argument("fleet")
@cluster_options
def follow(fleet: str, context: str | None, kubeconfig: str | None, namespace: str | None, form: str) -> None:
    """Drive a canary that was begun, to its end. Ctrl-C leaves it where it is.

    \b
    $ seawall rollout follow llama-70b --namespace llm
    """

    async def work(kube: Kube) -> None:
        await _drive(kube, namespace or kube.namespace, fleet, form)

    try:
        with_cluster(context, kubeconfig, work)
    except KeyboardInterrupt:
        from seawall.errors import Stopped

        raise Stopped(f"{fleet}: left where it is.", f"seawall rollout follow {fleet} goes on.") from None


async def _drive(kube: Kube, namespace: str, name: str, form: str) -> None:
    import asyncio

    from seawall.decide.rollout import ENDED
    from seawall.errors import CheckFailed
    from seawall.operator import canary
    from seawall.operator.fleet_object import fleet_object

    while True:
        owner = await fleet_object(kube, namespace, name)
        told = await canary.tick(kube, namespace, name, kube.server_time(), owner)
        if told is not None:
            if form:
                line = {"phase": told.phase, "weight": told.decision.weight, "reason": told.decision.reason}
                click.echo(output.line(line, form))
            elif told.moved:
                say(f"{told.phase:13} {told.decision.weight:3}%  {told.decision.reason}")
            if told.phase == "rolled-back":
                raise CheckFailed(
                    f"{name}: rolled back.", f"seawall rollout status {name} -n {namespace} says why."
                )
            if told.phase in ENDED:
                say(f"{name}: promoted. Put the candidate's lines into the spec itself.", err=bool(form))
                return
        await asyncio.sleep(told.decision.next_look_s if told else 2.0)


@click.command()
@click.argument("fleet")
@cluster_options
def status(fleet: str, context: str | None, kubeconfig: str | None, namespace: str | None, form: str) -> None:
    """Show a canary: phase, share, and every decision with its reason.

    \b
    $ seawall rollout status llama-70b --namespace llm
    """
    from datetime import datetime

    from seawall.operator import canary

    async def work(kube: Kube) -> dict[str, Any]:
        return await canary.told(kube, namespace or kube.namespace, fleet)

    answer = with_cluster(context, kubeconfig, work)
    if form:
        output.write(answer, form)
        return
    last = answer["last"]
    sure = f" ({last['sure'] * 100:.1f}% sure)" if last.get("sure") else ""
    say(
        f"{fleet}   {answer['phase']}   {last.get('weight', 0)}% of requests   {last.get('reason', '')}{sure}"
    )
    for line in answer["history"]:
        at = datetime.fromtimestamp(line["at"]).astimezone().strftime("%H:%M:%S")
        say(f"  {at}  {line['phase']:13} {line['weight']:3}%  {line['reason']}")


def _wish(what: str) -> click.Command:
    texts = {
        "pause": "Hold a canary at its share until `resume`. A worse one is still rolled back.",
        "resume": "Go on with a paused canary.",
        "abort": "Take the candidate away.",
        "undo": "Take back a promotion: the fleet becomes what it was before.",
    }

    @click.command(what, help=f"{texts[what]}\n\n\b\n$ seawall rollout {what} llama-70b --namespace llm")
    @click.argument("fleet")
    @cluster_options
    def command(
        fleet: str, context: str | None, kubeconfig: str | None, namespace: str | None, form: str
    ) -> None:
        from seawall.operator import canary

        async def work(kube: Kube) -> str:
            where = namespace or kube.namespace
            await canary.wish(kube, where, fleet, what)
            return where

        _tell(fleet, with_cluster(context, kubeconfig, work), what, f"asked to {what}", form)

    return command


def _tell(fleet: str, namespace: str, asked: str, words: str, form: str) -> None:
    """What was asked for: data for programs, and for people what comes next."""
    if form:
        output.write({"fleet": fleet, "namespace": namespace, "asked": asked}, form)
    else:
        say(f"{fleet}: {words}\n\nNext: seawall rollout follow {fleet} -n {namespace}")

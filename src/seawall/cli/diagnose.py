"""`seawall diagnose`: from what is seen to why, ranked, with the next command."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from seawall.cli import complete, output
from seawall.cli.cluster import cluster_options, known_namespace, means_cluster, with_cluster
from seawall.cli.files import InputFile, OutputFile
from seawall.errors import CheckFailed, InputError

if TYPE_CHECKING:
    from seawall.diagnose.facts import Facts


@click.command()
@click.argument("target", default="", shell_complete=complete.fleets)
@click.option("--facts", "facts_file", type=InputFile(".json"), help="Recorded facts, as JSON; - for stdin.")
@click.option("--state-dir", type=click.Path(file_okay=False), help="Of a `seawall up` on this machine.")
@click.option("--record", type=OutputFile(), help="Write the facts of a cluster here, to read later.")
@click.option(
    "--explain",
    metavar="CAUSE",
    shell_complete=complete.causes,
    help="Tell what a cause means, and where to look; `all` lists them.",
)
@cluster_options
def command(
    target: str,
    facts_file: Path | None,
    state_dir: str | None,
    record: Path | None,
    explain: str | None,
    form: str,
    context: str | None,
    kubeconfig: str | None,
    namespace: str | None,
) -> None:
    """Say why a fleet or a Pod does not serve, surest cause first.

    TARGET narrows the answer to one fleet or Pod. With --context or --namespace it looks at a cluster, with --facts
    at recorded facts, else at the `seawall up` of this machine. Exit code 1 when a cause was found.

    \b
    $ seawall diagnose llama-70b --namespace llm
    $ seawall diagnose --namespace llm --record facts.json
    $ seawall diagnose --facts facts.json
    $ seawall diagnose --state-dir ~/.cache/seawall/up
    $ seawall diagnose --explain probe/startup-too-short
    """
    if explain:
        told = _explained(explain)
        if form:
            causes_ = told.splitlines() if explain == "all" else [explain]
            output.write(
                {"causes": [{"id": c} | ({} if explain == "all" else {"text": told}) for c in causes_]}, form
            )
            return
        click.echo(told)
        return
    from seawall.cli import terminal
    from seawall.diagnose import run
    from seawall.diagnose.facts import parse_facts
    from seawall.diagnose.machine import facts_of_state
    from seawall.local.control import state_dir as state_folder

    on_cluster = means_cluster(context, namespace, record)
    if [bool(facts_file), bool(state_dir), on_cluster].count(True) > 1:
        raise InputError(
            "more than one place to look at is given.", "Name one: a cluster, --facts or --state-dir."
        )
    if on_cluster:
        facts = _of_cluster(target, context, kubeconfig, namespace, record)
    elif state_dir:
        facts = facts_of_state(Path(state_dir))
    elif facts_file:
        facts = parse_facts(_read(facts_file), str(facts_file))
    else:
        facts = facts_of_state(state_folder(None))
    on_machine = not on_cluster and not facts_file
    if on_machine:
        _known_here(target, facts)
    causes = run.diagnose(facts, target)
    if on_machine:
        from seawall.diagnose.here import here

        causes = here(causes)
    if form:
        output.write({"causes": run.as_json(causes), "unread": facts.unread}, form)
    else:
        text = run.as_text(causes, facts, min(110, terminal.width() or 110))
        click.echo(
            text.replace(" Pods, ", " processes, ").replace(" Pod, ", " process, ") if on_machine else text
        )
        if on_machine and not causes:
            click.echo("Next: seawall status")
    if causes:
        sys.exit(CheckFailed.exit_code)


def _known_here(target: str | None, facts: Facts) -> None:
    """InputError for a name that no fleet and no process of this machine has."""
    from seawall.diagnose.facts import name_of

    fleets = [str(f) for f in facts.gateway.get("fleets") or {}]
    names = [*fleets, *(name_of(p) for p in facts.pods)]
    if target and not any(name.startswith(target) for name in names):
        raise InputError(f"nothing here is named {target!r:.80}.", f"There are: {', '.join(names)}.")


def _explained(cause: str) -> str:
    import difflib

    from seawall.cli import terminal
    from seawall.diagnose import stories

    if cause == "all":
        return "\n".join(stories.ids())
    if cause not in stories.ids():
        near = difflib.get_close_matches(cause, stories.ids(), 1, 0.5)
        hint = f"Did you mean {near[0]}?" if near else "`seawall diagnose --explain all` lists them."
        raise InputError(f"there is no cause {cause!r:.80}.", hint)
    return stories.explain(cause, min(100, terminal.width() or 100))


def _of_cluster(
    target: str, context: str | None, kubeconfig: str | None, namespace: str | None, record: Path | None
) -> Facts:
    from seawall.diagnose.collect import collect
    from seawall.diagnose.facts import parse_facts
    from seawall.drivers.kube import Kube

    async def ask(kube: Kube) -> str:
        where = namespace or kube.namespace
        found = await collect(kube, where, target)
        if not found["pods"] and not found["deployments"]:
            await known_namespace(kube, where)
        names = sorted(
            {str(o["metadata"].get("name")) for key in ("pods", "deployments") for o in found[key] or []}
        )
        if target and not any(target in name for name in names) and found["deployments"] is not None:
            raise InputError(
                f"nothing in {where} is named {target}.",
                f"There are {', '.join(names[:10])}." if names else f"Nothing runs in {where} at all.",
            )
        return json.dumps(found)

    text = with_cluster(context, kubeconfig, ask)
    if record:
        record.write_text(text, "utf-8")
    return parse_facts(text, "the cluster's facts")


def _read(name: Path) -> str:
    limit = 64 * 2**20
    try:
        with name.open("rb") as f:
            data = f.read(limit + 1)
    except OSError as e:
        raise InputError(f"{name}: {e.strerror or e}.", "Name a file of recorded facts.") from None
    if len(data) > limit:
        raise InputError(f"{name}: larger than {limit >> 20} MiB.", "Record one namespace.")
    return data.decode("utf-8", "replace")

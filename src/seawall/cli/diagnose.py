"""`seawall diagnose`: from what is seen to why, ranked, with the next command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from seawall.errors import CheckFailed, InputError


@click.command()
@click.argument("target", default="")
@click.option(
    "--facts", "facts_file", type=click.Path(dir_okay=False), help="Recorded facts, as JSON; - for stdin."
)
@click.option("--state-dir", type=click.Path(file_okay=False), help="Of a `seawall up` on this machine.")
@click.option("--json", "as_json", is_flag=True, help="Causes as JSON.")
def command(target: str, facts_file: str | None, state_dir: str | None, as_json: bool) -> None:
    """Say why a fleet or a Pod does not serve, surest cause first.

    TARGET narrows the answer to one fleet or Pod. Looks at recorded facts of a cluster, or at the `seawall up` of
    this machine. Exit code 1 when a cause was found.

    \b
      seawall diagnose --facts facts.json
      seawall diagnose --state-dir ~/.cache/seawall/up
    """
    from seawall.diagnose import run
    from seawall.diagnose.facts import parse_facts
    from seawall.diagnose.machine import facts_of_state
    from seawall.local.control import state_dir as state_folder

    if facts_file and state_dir:
        raise InputError("both --facts and --state-dir are given.", "Name one.")
    if state_dir:
        facts = facts_of_state(Path(state_dir))
    elif facts_file:
        facts = parse_facts(_read(facts_file), facts_file)
    else:
        facts = facts_of_state(state_folder(None))
    causes = run.diagnose(facts, target)
    if as_json:
        click.echo(json.dumps({"causes": run.as_json(causes)}, indent=2))
    else:
        click.echo(run.as_text(causes, facts))
    if causes:
        sys.exit(CheckFailed.exit_code)


def _read(name: str) -> str:
    limit = 64 * 2**20
    try:
        if name == "-":
            data = sys.stdin.buffer.read(limit + 1)
        else:
            with Path(name).open("rb") as f:
                data = f.read(limit + 1)
    except OSError as e:
        raise InputError(f"{name}: {e.strerror or e}.", "Name a file of recorded facts.") from None
    if len(data) > limit:
        raise InputError(f"{name}: larger than {limit >> 20} MiB.", "Record one namespace.")
    return data.decode("utf-8", "replace")

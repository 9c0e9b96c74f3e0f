"""`seawall status`: what `seawall up` is running."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.option("--state-dir", type=click.Path(file_okay=False, path_type=Path), help="Of that `seawall up`.")
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
@click.option("--events", default=5, show_default=True, help="How many of the latest events.")
def command(state_dir: Path | None, as_json: bool, events: int) -> None:
    """Show what `seawall up` is running: replicas, queue, latest events and their reasons.

    \b
    $ seawall status
    """
    from seawall.local import control, session, view

    answer = control.ask(session.state_dir(state_dir), do="status")
    click.echo(json.dumps(answer, indent=2) if as_json else view.status_text(answer, events))

"""`seawall plan`: what a fleet needs and what it will hold, before anything is deployed."""

from __future__ import annotations

import click


@click.command()
@click.argument("spec", required=False, type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON (docs/reference/plan-json.md).")
def command(spec: str | None, as_json: bool) -> None:
    """Say what a fleet needs and what it will hold. No GPU and no network is needed."""
    import dataclasses
    import json

    from seawall.config.load import load_fleets
    from seawall.config.model_config import resolve
    from seawall.decide.plan import plan

    for fleet in load_fleets(spec or ""):
        made = plan(fleet, resolve(fleet))
        click.echo(json.dumps(dataclasses.asdict(made), indent=2))

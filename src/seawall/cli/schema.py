"""`seawall schema`: the JSON Schema of a Fleet."""

from __future__ import annotations

import json

import click


@click.command()
def command() -> None:
    """Print the JSON Schema of a Fleet, for editors.

    Put `# yaml-language-server: $schema=fleet.schema.json` on a spec's first line to have it checked as you type.

    \b
    $ seawall schema > fleet.schema.json
    """
    from seawall.config.load import json_schema

    click.echo(json.dumps(json_schema(), indent=2))

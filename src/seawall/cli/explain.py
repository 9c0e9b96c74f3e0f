"""`seawall explain`: what a field of a Fleet means, as `kubectl explain` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from seawall.cli import complete, output
from seawall.cli.output import output_option

if TYPE_CHECKING:
    from seawall.config.explain import FieldHelp


@click.command()
@click.argument("path", default="spec", shell_complete=complete.fields)
@click.option("--all", "every_field", is_flag=True, help="Every field, one line each.")
@output_option
def command(path: str, every_field: bool, form: str) -> None:
    """Say what a field of a Fleet means, what it takes, and what holds when it is left out.

    \b
    $ seawall explain
    $ seawall explain spec.scaling.target
    $ seawall explain hardware
    """
    from dataclasses import asdict

    from seawall.cli import terminal
    from seawall.config.explain import every, explained
    from seawall.domain.columns import wrapped

    if every_field:
        found = every()
    else:
        found = [explained(path)]
        found += [
            explained(f"{path.strip('.')}.{key}" if found[0].path != "Fleet" else key)
            for key in found[0].inner
        ]
    if form:
        output.write({"fields": [asdict(f) for f in found]}, form)
        return
    wide = terminal.width()
    if every_field:
        click.echo("\n".join(more for f in found for more in wrapped(_line(f, f.path), wide, "", "    ")))
        return
    head, *inner = found
    click.echo(f"{head.path}   {head.kind}{_left_out(head)}\n")
    for line in wrapped(head.meaning or "(no more to say)", wide, "  ", "  "):
        click.echo(line)
    if head.example:
        click.echo(f"\n  {head.example}")
    if inner:
        click.echo("\nfields:")
        for f in inner:
            name = f.path.rpartition(".")[2]
            text = f"{name}   {f.kind}{_left_out(f)}{f': {f.meaning}' if f.meaning else ''}"
            for line in wrapped(text, wide, "  ", "      "):
                click.echo(line)
        click.echo(f"\nNext: seawall explain {inner[0].path}")


def _left_out(f: FieldHelp) -> str:
    if not f.default and f.path != "Fleet":
        return ", required"
    return "" if f.default in ("", "nothing", "its own defaults") else f", default {f.default}"


def _line(f: FieldHelp, name: str) -> str:
    return f"{name}   {f.kind}{_left_out(f)}{f': {f.meaning}' if f.meaning else ''}"

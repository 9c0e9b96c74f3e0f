"""`seawall cache`: what Seawall keeps on this machine, and room again."""

from __future__ import annotations

import click

from seawall.cli import output
from seawall.cli.output import output_option
from seawall.cli.terminal import say
from seawall.cli.verbs import VerbGroup


@click.group(cls=VerbGroup)
def command() -> None:
    """Show and free what is kept here: engines, weights, model shapes.

    \b
    $ seawall cache ls
    $ seawall cache prune --unused 30d
    """


@command.command("ls")
@output_option
def ls(form: str) -> None:
    """List what is kept, with its size and when it was last used.

    \b
    $ seawall cache ls
    """
    import time

    from seawall.cli import terminal
    from seawall.domain.columns import ALWAYS, Column, lay_out
    from seawall.domain.units import show_bytes, show_seconds
    from seawall.drivers import cache, kept

    root = cache.root()
    things = kept.things(root)
    total = sum(t.size for t in things)
    if form:
        rows = [
            {"name": t.name, "kind": t.kind, "size": t.size, "used": t.used, "path": str(t.path)}
            for t in things
        ]
        output.write({"root": str(root), "bytes": total, "things": rows}, form)
        return
    if not things:
        say(f"nothing is kept in {root}")
        return
    now = time.time()
    rows_ = []
    for t in things:
        idle = round(max(0, now - t.used))
        ago = f"{show_seconds(idle)} ago" if idle else "now"
        rows_.append([t.name, t.kind, show_bytes(t.size), ago, ""])
    columns = (
        Column("NAME", ALWAYS),
        Column("KIND", 50),
        Column("SIZE", 90),
        Column("USED", 70),
        Column("", 0),
    )
    click.echo("\n".join(lay_out(columns, rows_, terminal.width()).lines()))
    say(f"\n{show_bytes(total)} in {root}\nNext: seawall cache prune --unused 30d")


@command.command()
@click.option(
    "--unused", default="30d", show_default=True, metavar="DURATION", help="What nobody used for so long."
)
@click.option("--all", "everything", is_flag=True, help="Everything that is not in use now.")
@click.option("--yes", is_flag=True, help="Do it; without it, only say what would go.")
@output_option
def prune(unused: str, everything: bool, yes: bool, form: str) -> None:
    """Remove what nobody has used for a while. Without --yes it only says what would go.

    What a running `seawall up` uses stays, as does its state; what is removed is brought again when it is needed.

    \b
    $ seawall cache prune --unused 30d
    $ seawall cache prune --unused 30d --yes
    """
    import time

    from seawall.domain.units import parse_seconds, show_bytes
    from seawall.drivers import cache, kept
    from seawall.errors import InputError

    try:
        old = 0.0 if everything else parse_seconds(unused)
    except ValueError as e:
        raise InputError(
            f"--unused {unused!r:.40}: {e}.", "For example: seawall cache prune --unused 30d"
        ) from None
    root = cache.root()
    goes = [t for t in kept.things(root) if time.time() - t.used >= old and not kept.in_use(t)]
    removed = [t for t in goes if kept.remove(t)] if yes else []
    size = sum(t.size for t in (removed if yes else goes))
    if form:
        output.write(
            {"removed": yes, "bytes": size, "things": [t.name for t in (removed if yes else goes)]}, form
        )
        return
    for t in removed if yes else goes:
        say(f"{'removed' if yes else 'would remove'}  {t.name}   {show_bytes(t.size)}")
    again = "--all" if everything else f"--unused {unused}"
    if not goes:
        say(f"nothing in {root} may go ({again})")
    elif yes:
        say(f"{show_bytes(size)} are free again")
    else:
        say(f"{show_bytes(size)} would be free. Do it: seawall cache prune {again} --yes")

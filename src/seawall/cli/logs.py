"""`seawall logs`: a replica's or the gateway's log."""

from __future__ import annotations

import time
from pathlib import Path

import click

from seawall.cli import complete, output, terminal
from seawall.cli.output import output_option


@click.command()
@click.argument("name", required=False, shell_complete=complete.logs)
@click.option("--state-dir", type=click.Path(file_okay=False, path_type=Path), help="Of that `seawall up`.")
@click.option(
    "-n",
    "--lines",
    default=50,
    type=click.IntRange(1, 1_000_000),
    show_default=True,
    help="So many of the last lines.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on printing what comes.")
@output_option
def command(name: str | None, state_dir: Path | None, lines: int, follow: bool, form: str) -> None:
    """Show a replica's or the gateway's log; without NAME, which there are.

    They stay after `seawall up` has ended. Each holds at most 16 MiB, and as much again in NAME.log.1.

    \b
    $ seawall logs
    $ seawall logs smollm2-0 -f
    """
    from seawall.errors import InputError
    from seawall.local import control
    from seawall.local.causes import tail

    folder = control.state_dir(state_dir) / "logs"
    known = {p.stem: p for p in sorted(folder.glob("*.log"))}
    if name is None:
        if not known:
            raise InputError(f"there are no logs in {folder}.", "Start one: seawall up")
        _list(folder, known, form)
        return
    if form:
        raise InputError(f"-o {form}: a log is text.", f"Leave it out: seawall logs {name}")
    if name not in known:
        raise InputError(
            f"there is no log of {name!r:.80}.",
            f"There are: {', '.join(known)}." if known else "Start one: seawall up",
        )
    path = known[name]
    text = tail(path, max(65536, lines * 400))
    click.echo("\n".join(text.splitlines()[-lines:]))
    position = path.stat().st_size
    while follow:
        time.sleep(0.3)
        size = path.stat().st_size if path.exists() else 0
        if size < position:
            position = 0
        if size > position:
            with path.open("rb") as f:
                f.seek(position)
                data = f.read(1 << 20)
            position += len(data)
            click.echo(data.decode("utf-8", "replace"), nl=False)


def _list(folder: Path, known: dict[str, Path], form: str) -> None:
    """Which logs there are, as a table or as data."""
    from seawall.domain.columns import ALWAYS, Column, lay_out
    from seawall.domain.units import counted, show_bytes

    sizes = {name: path.stat().st_size for name, path in known.items()}
    if form:
        rows = [{"name": name, "bytes": sizes[name], "path": str(path)} for name, path in known.items()]
        output.write({"logs": rows}, form)
        return
    columns = (Column("NAME", ALWAYS), Column("SIZE", ALWAYS, right=True), Column("FILE", ALWAYS))
    rows_ = [(name, show_bytes(sizes[name]), path.name) for name, path in known.items()]
    click.echo("\n".join(lay_out(columns, rows_, terminal.width()).lines()))
    terminal.say(f"\n{counted(len(known), 'log')} in {folder}\nNext: seawall logs {next(iter(known))} -f")

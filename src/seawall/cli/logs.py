"""`seawall logs`: a replica's or the gateway's log."""

from __future__ import annotations

import time
from pathlib import Path

import click


@click.command()
@click.argument("name", required=False)
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
def command(name: str | None, state_dir: Path | None, lines: int, follow: bool) -> None:
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
        for each, path in known.items():
            click.echo(f"{each:<20} {path.stat().st_size:>10} B  {path}")
        return
    if name not in known:
        raise InputError(f"there is no log of {name!r}.", f"Known: {', '.join(known) or 'none'}.")
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

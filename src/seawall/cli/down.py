"""`seawall down`: end the `seawall up` of this machine, from another shell."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from seawall.cli import output
from seawall.cli.numbers import SECONDS
from seawall.cli.output import output_option
from seawall.cli.terminal import say


@click.command()
@click.option("--state-dir", type=click.Path(file_okay=False, path_type=Path), help="Of that `seawall up`.")
@click.option("--now", is_flag=True, help="Kill what is running instead of letting it finish.")
@click.option(
    "--timeout", default=300.0, type=SECONDS, show_default=True, help="Seconds to wait for its end."
)
@output_option
def command(state_dir: Path | None, now: bool, timeout: float, form: str) -> None:
    """End `seawall up` as Ctrl-C in its terminal does: running streams finish, then every process is gone.

    \b
    $ seawall down
    $ seawall down --now
    """
    from seawall.errors import CheckFailed, Stopped
    from seawall.local import control

    folder = control.state_dir(state_dir)
    before = control.ask(folder, do="status")
    asks = 2 if now and not before["stopping"] else 1
    for _ in range(asks):
        control.ask(folder, do="stop")
    said: Any = (lambda line: None) if form else click.echo
    said(
        f"stopping {before['gateway']['url']} (pid {before['pid']}): "
        + ("killing" if now else "running streams finish")
    )
    try:
        gone = _gone(folder, timeout)
    except KeyboardInterrupt:
        raise Stopped("no longer watching; it stops by itself.", "Look at it: seawall status") from None
    if not gone:
        raise CheckFailed(
            f"it has not ended after {timeout:.0f} s.", "End what still runs: seawall down --now"
        )
    if form:
        output.write({"stopped": True, "pid": before["pid"], "url": before["gateway"]["url"]}, form)
    else:
        say("stopped; nothing is left running")


def _gone(folder: Path, timeout: float) -> bool:
    """Waits until the supervisor has let go of its lock: it is the last of its family to end."""
    end = time.monotonic() + timeout
    while _locked(folder):
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def _locked(folder: Path) -> bool:
    import fcntl

    try:
        with (folder / "lock").open("a") as f:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False

"""The gateway that a verb means where nobody names one: that of this machine's `seawall up`.

Nothing heavy is imported before somebody asks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

USUAL = "http://127.0.0.1:8000"
"""Where `seawall up` and `seawall gateway` listen unless they are told otherwise."""
CALLED = f"[the running `seawall up`, else {USUAL}]"
"""What helps say of an --url."""


def status(state_dir: Path | None = None) -> dict[str, Any] | None:
    """What the `seawall up` of this machine says; None where none runs. InputError where a folder is named without
    one."""
    from seawall.errors import SeawallError
    from seawall.local import control

    try:
        return control.ask(control.state_dir(state_dir), do="status")
    except SeawallError:
        if state_dir:
            raise
        return None


def address(state_dir: Path | None = None) -> str | None:
    """Where it serves."""
    found = status(state_dir)
    return str(found["gateway"]["url"]) if found else None


def named_or_running(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
    """The value of an --url: as named, or that of the running `seawall up`."""
    return value or address() or USUAL

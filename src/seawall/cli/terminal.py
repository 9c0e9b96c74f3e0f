"""What the command line needs to know of the terminal it prints to, and text that is folded to fit it."""

from __future__ import annotations

import os
import sys
from typing import TextIO

NARROWEST = 20


def width(stream: TextIO | None = None) -> int | None:
    """The columns of the terminal that a stream (standard output) writes to; None when it is none: what a program
    reads is never folded."""
    stream = stream or sys.stdout
    if stream is None or not stream.isatty():
        return None
    try:
        given = int(os.environ.get("COLUMNS", "0"))
    except ValueError:
        given = 0
    try:
        return max(NARROWEST, given or os.get_terminal_size(stream.fileno()).columns or 80)
    except (OSError, ValueError):
        return 80


def say(text: str = "", err: bool = False) -> None:
    """Prints a text of many lines as wide as the terminal is: broken between words, never inside a command."""
    import click

    from seawall.domain.columns import folded

    click.echo(folded(text, width(sys.stderr if err else None)), err=err)

"""What the command line needs to know of the terminal it prints to. Nothing is printed here."""

from __future__ import annotations

import os
import sys

NARROWEST = 20


def width() -> int | None:
    """The columns of standard output's terminal; None when it is none: what a program reads is never folded."""
    if not sys.stdout.isatty():
        return None
    try:
        given = int(os.environ.get("COLUMNS", "0"))
    except ValueError:
        given = 0
    try:
        return max(NARROWEST, given or os.get_terminal_size(sys.stdout.fileno()).columns or 80)
    except (OSError, ValueError):
        return 80

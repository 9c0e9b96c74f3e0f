"""Which processes of a test still live. A process may go at any moment, also between two looks at it."""

from __future__ import annotations

import time
from collections.abc import Iterable

import psutil


def alive(process: psutil.Process) -> bool:
    """True while it runs: one that has ended and only waits to be reaped does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def survivors(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that still live after waiting for them to go."""
    end, left = time.monotonic() + seconds, list(processes)
    while (left := [p for p in left if alive(p)]) and time.monotonic() < end:
        time.sleep(0.05)
    return left

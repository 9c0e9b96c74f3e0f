"""One JSON line for each thing that was done to files and batches: when, whose, what, to which.

Forbidden here: what a line asks or answers. That it ran is in the gateway's own audit, under the id BATCH.LINE. The
file is opened for each line, so that whoever rotates it need tell nobody. A line that cannot be written is counted and
logged; nothing fails for it.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from seawall.errors import InputError

log = logging.getLogger("seawall.batch")
Action = Literal[
    "file.created",
    "file.deleted",
    "file.expired",
    "batch.created",
    "batch.cancelling",
    "batch.over",
    "batch.forgotten",
]


class ActionLog:
    """Where lines go: a file that is appended to, or standard output (`-`). Blocking; any thread may call."""

    def __init__(self, where: str) -> None:
        self.lost = 0
        """Lines that could not be written."""
        self._path = None if where == "-" else Path(where)
        if self._path is not None:
            try:
                with self._path.open("ab"):
                    pass
            except OSError as e:
                raise InputError(
                    f"--audit {self._path}: {e.strerror}.", "Name a file that can be written."
                ) from None

    def note(self, now: float, action: Action, tenant: str, what: str, **more: object) -> None:
        """Writes one line. `what`: the file's or the batch's id."""
        time = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
        said = {"time": time, "action": action, "tenant": tenant, "id": what, **more}
        line = msgspec.json.encode(said) + b"\n"
        try:
            if self._path is None:
                sys.stdout.buffer.write(line)
                sys.stdout.buffer.flush()
                return
            with self._path.open("ab", buffering=0) as out:
                out.write(line)
        except OSError as e:
            self.lost += 1
            log.error("an audit line is lost (%d so far): %s", self.lost, e.strerror)

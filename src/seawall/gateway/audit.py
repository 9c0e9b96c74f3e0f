"""One JSON line per request: who, which model, how many tokens, how long, how it ended. Never a prompt or key.

Lines are gathered and written by a thread, at most one write at a time, so that a slow disk or a full pipe
never stalls a stream. What does not fit into MAX_WAITING bytes is dropped and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from seawall.errors import InputError

if TYPE_CHECKING:
    from seawall.gateway.relay import Exchange

MAX_WAITING = 8 * 2**20


class Line(msgspec.Struct, gc=False, omit_defaults=True):
    """docs/reference/gateway.md describes each field."""

    time: float
    id: str
    fleet: str
    model: str
    route: str
    outcome: str
    status: int
    ms: float
    tenant: str = ""
    key: str = ""
    replica: str = ""
    first_ms: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    stream: bool = False
    resumed: int = 0
    retried: int = 0
    usd: float = 0.0
    code: str = ""


_encode = msgspec.json.Encoder().encode


class Audit:
    """Where lines go: a file that is appended to (re-opened on SIGHUP, for rotation), or standard output."""

    def __init__(self, where: str) -> None:
        self.dropped = 0
        self._path = None if where == "-" else Path(where)
        self._fd = -1
        self._lines: list[bytes] = []
        self._waiting = 0
        self._writing: asyncio.Future[None] | None = None
        self.reopen()

    def reopen(self) -> None:
        if self._path is None:
            self._fd = sys.stdout.fileno()
            return
        try:
            new = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        except OSError as e:
            raise InputError(
                f"--audit {self._path}: {e.strerror}.", "Name a file that can be written."
            ) from None
        old, self._fd = self._fd, new
        if old >= 0:
            os.close(old)

    def note(self, e: Exchange) -> None:
        """A request is over."""
        request = e.request
        first = e.first_token_at
        line = _encode(
            Line(
                round(time.time(), 3),
                request.id.decode(),
                e.fleet.name,
                request.model,
                request.path.decode(),
                e.outcome,
                e.status,
                round(e.seconds * 1000, 1),
                request.tenant.name,
                request.key.id if request.key is not None else "",
                e.replica,
                round((first - e.started) * 1000, 1) if first else 0.0,
                e.tokens_in,
                e.tokens_out,
                e.session is not None,
                e.resumed,
                e.retried,
                e.cost_usd,
                e.code,
            )
        )
        if self._waiting > MAX_WAITING:
            self.dropped += 1
            return
        self._waiting += len(line) + 1
        self._lines.append(line)

    def flush(self, loop: asyncio.AbstractEventLoop) -> None:
        """From the sweep: starts a write if there is something to write and none is under way."""
        if not self._lines or (self._writing is not None and not self._writing.done()):
            return
        lines, self._lines, self._waiting = self._lines, [], 0
        lines.append(b"")
        self._writing = loop.run_in_executor(None, self._write, b"\n".join(lines))

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            self.dropped += 1

    async def close(self) -> None:
        """Writes what is left; gives up on a reader that does not read for a second."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                if self._writing is not None:
                    await self._writing
                self.flush(asyncio.get_running_loop())
                if self._writing is not None:
                    await self._writing

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

import msgspec

from seawall.errors import InputError
from seawall.gateway.tell.ended import Ended

MAX_WAITING = 8 * 2**20


_encode = msgspec.json.Encoder().encode


class Audit:
    """Where lines go: a file that is appended to (re-opened on SIGHUP, for rotation), or standard output."""

    def __init__(self, where: str) -> None:
        self.dropped = 0
        self._path = None if where == "-" else Path(where)
        self._fd = -1
        self._lines: list[bytes] = []
        self._strings: dict[str, bytes] = {}
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

    def note(self, e: Ended) -> None:
        """A request is over. docs/reference/gateway.md describes each field."""
        # By hand for the fields that cannot need escaping, which are most: this is on every request's way.
        line = (
            b'{"time":%.3f,"id":"%b","fleet":%b,"model":%b,"route":"%b","outcome":"%b","status":%d,"ms":%.1f%b}'
            % (
                time.time(),
                e.id,
                self._quoted(e.fleet),
                self._quoted(e.model),
                e.path,
                e.outcome.encode(),
                e.status,
                e.seconds * 1000,
                self._rest(e),
            )
        )
        if self._waiting > MAX_WAITING:
            self.dropped += 1
            return
        self._waiting += len(line) + 1
        self._lines.append(line)

    def _quoted(self, text: str) -> bytes:
        known = self._strings.get(text)
        if known is None:
            if len(self._strings) > 4096:
                self._strings.clear()
            known = self._strings[text] = _encode(text)
        return known

    def _rest(self, e: Ended) -> bytes:
        """The fields that are left out when they say nothing."""
        out = b',"replica":%b' % self._quoted(e.replica) if e.replica else b""
        if e.tenant.name:
            out += b',"tenant":%b' % self._quoted(e.tenant.name)
        if e.key is not None:
            out += b',"key":%b' % self._quoted(e.key.id)
        if e.streamed:
            out += b',"stream":true'
            if e.first_s:
                out += b',"first_ms":%.1f' % (e.first_s * 1000)
        if e.tokens_in or e.tokens_out:
            out += b',"tokens_in":%d,"tokens_out":%d' % (e.tokens_in, e.tokens_out)
        if e.cost_usd:
            out += b',"usd":%.6f' % e.cost_usd
        if e.resumed or e.retried:
            out += b',"resumed":%d,"retried":%d' % (e.resumed, e.retried)
        if e.code:
            out += b',"code":%b' % self._quoted(e.code)
        return out

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
                written = os.write(self._fd, view)
                view = view[written:]
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

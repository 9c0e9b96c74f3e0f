"""One JSON line per request: who, which model, how many tokens, how long, how it ended. Never a prompt or key.

Lines are gathered and written by a thread, at most one write at a time, so that a slow disk or a full pipe
never stalls a stream. What does not fit into MAX_WAITING bytes, or onto a full disk, is lost, counted and logged;
what is written is whole lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import math
import os
import stat
import sys
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from seawall.errors import InputError
from seawall.gateway.tell.ended import Ended

log = logging.getLogger("seawall.gateway.tell.audit")
MAX_WAITING = 8 * 2**20
TELL_S = 60.0

_encode = msgspec.json.Encoder().encode


class AuditWritten(NamedTuple):
    """What became of a write: lines lost, why, and what a line that has begun still lacks."""

    lost: int
    why: str
    torn: bytes


class Audit:
    """Where lines go: a file that is appended to (re-opened on SIGHUP, for rotation), or standard output."""

    def __init__(self, where: str, must: bool = True) -> None:
        """`must`: it is an error when there is no writing there; otherwise lines are lost until there is."""
        self.lost = 0
        """Lines that could not be written."""
        self._path = None if where == "-" else Path(where)
        self._fd = -1
        self._lines: list[bytes] = []
        self._strings: dict[str, bytes] = {}
        self._waiting = 0
        self._writing: asyncio.Future[AuditWritten] | None = None
        self._stale = False
        """The file is to be opened again once the write that is under way is over."""
        self._torn = b""
        """What is missing of a line that a pipe took a part of: nothing may come before it."""
        self._told_at = -math.inf
        self._told = 0
        try:
            self._open()
        except InputError as e:
            if must:
                raise
            self._stale = True
            log.error("lines are lost until it can be written: %s", e)

    def reopen(self) -> None:
        """From now on lines go to a file of that name as it is now: it has been rotated."""
        if self._writing is not None and not self._writing.done():
            self._stale = True  # a descriptor that is written to must not be closed
        else:
            self._open()

    def _open(self) -> None:
        self._stale = False
        if self._path is None:
            self._fd = sys.stdout.fileno()
            return
        try:
            # Not blocking: a pipe that nobody reads would be waited for, and everybody with it.
            new = os.open(
                self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o640
            )
            os.set_blocking(new, True)  # lines are written beside the loop
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
            self._lose(1, "its reader is too slow")
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
        if self._writing is not None:
            if not self._writing.done():
                return
            self._settle(self._writing.result())
            self._writing = None
        if self._stale:
            try:
                self._open()
            except InputError as e:
                if self._fd >= 0:
                    log.error("the old audit file stays: %s", e)
                else:
                    self._stale = True  # there is no old one: again at the next sweep
        if self._lines:
            lines, self._lines, self._waiting = self._lines, [], 0
            self._writing = loop.run_in_executor(None, self._write, lines)

    def _settle(self, outcome: AuditWritten) -> None:
        self._torn = outcome.torn
        if outcome.lost:
            self._lose(outcome.lost, outcome.why)

    def _lose(self, lines: int, why: str) -> None:
        """Counted at once, logged once a minute at most."""
        self.lost += lines
        now = time.monotonic()
        if now - self._told_at >= TELL_S:
            new = self.lost - self._told
            log.error("%d audit lines are lost: %s", new, why)
            self._told_at, self._told = now, self.lost

    def _write(self, lines: list[bytes]) -> AuditWritten:
        """Runs in a thread. A file gets whole lines only: what of a line there was no room for is taken back."""
        try:
            if not stat.S_ISREG(os.fstat(self._fd).st_mode):
                return self._pour(lines)
            fcntl.flock(self._fd, fcntl.LOCK_EX)  # other workers append to it, too
            try:
                return self._append(lines)
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)
        except OSError as e:
            return AuditWritten(len(lines), e.strerror or "it cannot be written", self._torn)

    def _append(self, lines: list[bytes]) -> AuditWritten:
        appends = fcntl.fcntl(self._fd, fcntl.F_GETFL) & os.O_APPEND
        begin = os.lseek(self._fd, 0, os.SEEK_END if appends else os.SEEK_CUR)
        written, why = _put(self._fd, b"\n".join([*lines, b""]))
        whole, size = _whole(lines, written)
        if size < written:
            os.ftruncate(self._fd, begin + size)
            os.lseek(self._fd, begin + size, os.SEEK_SET)
        return AuditWritten(len(lines) - whole, why, b"")

    def _pour(self, lines: list[bytes]) -> AuditWritten:
        """Into a pipe, which takes nothing back."""
        left = self._torn
        if left:
            written, why = _put(self._fd, left)
            if written < len(left):
                rest = left[written:]
                return AuditWritten(len(lines), why, rest)
        written, why = _put(self._fd, b"\n".join([*lines, b""]))
        whole, size = _whole(lines, written)
        torn = b""
        if written > size:
            rest = lines[whole] + b"\n"
            begun = written - size
            torn = rest[begun:]
            whole += 1  # it will be whole, before any other
        return AuditWritten(len(lines) - whole, why, torn)

    async def close(self) -> None:
        """Writes what is left; gives up on a reader that does not read for a second."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                if self._writing is not None:
                    await self._writing
                self.flush(asyncio.get_running_loop())
                if self._writing is not None:
                    self._settle(await self._writing)


def _put(fd: int, data: bytes) -> tuple[int, str]:
    """Writes as much as is taken -> (bytes, why it is not all)."""
    done = 0
    try:
        while done < len(data):
            done += os.write(fd, memoryview(data)[done:])
    except OSError as e:
        return done, e.strerror or "it cannot be written"
    return done, ""


def _whole(lines: list[bytes], written: int) -> tuple[int, int]:
    """How many lines, each with its LF, lie within so many bytes, and their size."""
    size = 0
    for count, line in enumerate(lines):
        if size + len(line) + 1 > written:
            return count, size
        size += len(line) + 1
    return len(lines), size

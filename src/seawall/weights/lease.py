"""One puller per directory at a time, on volumes where flock does not work (NFS, SMB, FUSE).

A lease is a file made with O_EXCL whose mtime its owner keeps moving. Others watch it with their own clock:
one that has not moved for STALE_S is taken over by an atomic rename, which one of them wins. The lease saves
double work; it is not what makes the result right: files are verified and renamed whole whoever writes them.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from seawall.errors import SourceError

BEAT_S = 2.0
STALE_S = 20.0


class Lease:
    """`with Lease(directory, on_wait): ...`; `on_wait(seconds)` is called while another holds it."""

    def __init__(
        self, directory: Path, on_wait: Callable[[float], None] | None = None, stale_s: float = STALE_S
    ):
        self._file = directory / "lease"
        self._id = uuid.uuid4().hex
        self._on_wait = on_wait
        self._stale_s = stale_s
        self._stop = threading.Event()
        self._beat = threading.Thread(target=self._keep, daemon=True)
        self.lost = False

    def __enter__(self) -> Lease:
        start = seen_at = time.monotonic()
        seen: tuple[int, int] | None = None
        while not self._take():
            now = time.monotonic()
            try:
                stat = self._file.stat()
                held = json.loads(self._file.read_bytes() or b"{}")
            except (OSError, ValueError):
                held, stat = {}, None
            if stat and seen != (stat.st_ino, stat.st_mtime_ns):
                seen, seen_at = (stat.st_ino, stat.st_mtime_ns), now
            if self._dead_here(held) or now - seen_at > self._stale_s:
                self._push_aside()
                continue
            if self._on_wait:
                self._on_wait(now - start)
            time.sleep(0.2)
        self._beat.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._stop.set()
        self._beat.join()
        if not self.lost and self._mine():
            self._file.unlink(missing_ok=True)

    def check(self) -> None:
        """Raises SourceError when another puller has taken over, because this process was stopped for too long."""
        if self.lost:
            raise SourceError(
                "another pull took over this directory.", "Let it finish; then pull again to verify."
            )

    def _take(self) -> bool:
        try:
            fd = os.open(self._file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(fd, "w") as f:
            json.dump({"id": self._id, "host": socket.gethostname(), "pid": os.getpid(), "boot": _boot()}, f)
        return True

    def _dead_here(self, held: dict[str, object]) -> bool:
        """The holder was a process of this very host and boot, and is gone."""
        if held.get("host") != socket.gethostname() or held.get("boot") != _boot() or not held.get("pid"):
            return False
        try:
            os.kill(int(str(held["pid"])), 0)
        except ProcessLookupError:
            return True
        except (OSError, ValueError):
            return False
        return False

    def _push_aside(self) -> None:
        aside = self._file.with_name(f"lease.{self._id}")
        try:
            self._file.rename(aside)
            aside.unlink()
        except FileNotFoundError:
            return

    def _mine(self) -> bool:
        try:
            return bool(json.loads(self._file.read_bytes()).get("id") == self._id)
        except (OSError, ValueError):
            return False

    def _keep(self) -> None:
        while not self._stop.wait(BEAT_S):
            if not self._mine():
                self.lost = True
                return
            try:
                os.utime(self._file)
            except OSError:
                self.lost = True
                return


def _boot() -> str:
    """Tells containers apart that share a host name: their PID namespace."""
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return ""

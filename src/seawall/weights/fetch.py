"""Parallel ranged download of a listing into a directory; protocol-free. Retries, verifies, renames.

Work is a queue of segments over all files, so one huge shard and a thousand small files are equally quick.
A segment that breaks goes on from the byte it reached; only attempts without any progress count against it.
"""

from __future__ import annotations

import errno
import os
import queue
import random
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from seawall.domain.units import show_bytes
from seawall.errors import InputError, SourceError
from seawall.weights.lease import Lease
from seawall.weights.listing import Busy, NoRanges, RemoteFile
from seawall.weights.lockfile import LockedFile
from seawall.weights.partial import Partial
from seawall.weights.safetensors import check_header

MAX_WAIT_S = 60.0


class PullWatcher(Protocol):
    """The receiver of a pull's progress. Its methods are called from any thread."""

    def bytes_done(self, count: int) -> None: ...
    def note(self, text: str) -> None: ...


@dataclass
class FetchPolicy:
    workers: int = 8
    attempts: int = 8
    """Attempts without progress before a file is given up."""
    backoff_s: float = 0.5
    sleep: Callable[[float], None] = time.sleep
    rng: random.Random = field(default_factory=random.Random)


class Fetch:
    """Downloads `files` into `directory` (partials in `directory/.seawall`). Use once."""

    def __init__(
        self,
        directory: Path,
        lease: Lease,
        watcher: PullWatcher,
        policy: FetchPolicy,
        on_landed: Callable[[RemoteFile, str], None],
        before_landing: Callable[[], None] = lambda: None,
    ) -> None:
        self._dir, self._lease, self._watch, self._policy = directory, lease, watcher, policy
        self._on_landed, self._before_landing = on_landed, before_landing
        self._queue: queue.SimpleQueue[tuple[Partial, int] | None] = queue.SimpleQueue()
        self._failure: Exception | None = None
        self._stop = threading.Event()
        self._left = 0
        self._lock = threading.Lock()
        self.landed: list[LockedFile] = []

    def run(self, files: list[RemoteFile]) -> list[LockedFile]:
        """All files whole, verified and under their real names. Raises the first failure that retrying
        could not mend; what was downloaded by then is kept for the next run."""
        partials = [
            Partial(f, self._dir / ".seawall") for f in sorted(files, key=lambda f: (-f.size, f.path))
        ]
        try:
            self._room_for(partials)
            self._left = len(partials)
            for p in partials:
                here = p.bytes_here
                if here:
                    self._watch.bytes_done(here)
                for index in p.missing() or [p.segments - 1]:
                    self._queue.put((p, index))
            threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self._policy.workers)]
            for t in threads:
                t.start()
            if not partials:
                self._finish()
            try:
                for t in threads:
                    while t.is_alive():
                        t.join(0.2)
            except BaseException:
                self._finish()
                for t in threads:
                    t.join(5)
                raise
            if self._failure:
                raise self._failure
            return self.landed
        finally:
            for p in partials:
                p.close()

    def _room_for(self, partials: list[Partial]) -> None:
        need = sum(p.file.size - p.data.stat().st_blocks * 512 for p in partials)
        free = shutil.disk_usage(self._dir).free
        if need > free:
            raise InputError(
                f"{self._dir}: {show_bytes(need)} are still to come, {show_bytes(free)} are free: "
                f"{need - free} bytes are missing.",
                "Free that much, or pull to a larger volume (--to). What is here already is kept.",
            )

    def _finish(self) -> None:
        self._stop.set()
        for _ in range(self._policy.workers):
            self._queue.put(None)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None and not self._stop.is_set():
            partial, index = item
            try:
                self._segment(partial, index)
                whole = partial.finish(index)
                partial.hash_ahead()
                if whole:
                    self._complete(partial)
            except Exception as e:
                with self._lock:
                    self._failure = self._failure or (
                        told_of_disk(e, self._dir) if isinstance(e, OSError) else e
                    )
                self._finish()
                return

    def _segment(self, partial: Partial, index: int) -> None:
        start, end = partial.span(index)
        at, failures, file = start, 0, partial.file
        while at < end:
            self._lease.check()
            before = at
            try:
                with file.read(at, end) as chunks:
                    for chunk in chunks:
                        chunk = chunk[: end - at]
                        partial.write(chunk, at)
                        at += len(chunk)
                        self._watch.bytes_done(len(chunk))
                        if self._stop.is_set():
                            raise SourceError("stopped.", "Pull again to go on.")
                        if at >= end:
                            break
                why, after = "the source stopped early", None
            except Busy as e:
                why, after = str(e), e.after_s
            except NoRanges:
                self._whole(partial)
                return
            failures = 0 if at > before else failures + 1
            if at < end:
                if failures >= self._policy.attempts:
                    raise SourceError(
                        f"{file.path}: {failures} attempts brought nothing; the last: {why}.",
                        "What is here is kept; pull again later.",
                    )
                self._pause(file.path, failures, why, after)

    def _whole(self, partial: Partial) -> None:
        """Reads a file from a source without ranges: segment 0 reads everything, the others have nothing to do."""
        with partial.whole_lock:
            if partial.whole_done:
                return
            for attempt in range(self._policy.attempts):
                at = 0
                try:
                    with partial.file.read(0, -1) as chunks:
                        for chunk in chunks:
                            if at + len(chunk) > partial.file.size:
                                raise SourceError(
                                    f"{partial.file.path}: longer than the {partial.file.size} bytes it claimed.",
                                    "Do not trust this source, or pull anew if it has just changed.",
                                )
                            partial.write(chunk, at)
                            at += len(chunk)
                            if self._stop.is_set():
                                raise SourceError("stopped.", "Pull again to go on.")
                    if at == partial.file.size:
                        partial.whole_done = True
                        self._watch.bytes_done(at)
                        return
                    why, after = f"ended after {at} of {partial.file.size} bytes", None
                except Busy as e:
                    why, after = str(e), e.after_s
                self._pause(partial.file.path, attempt, why, after)
            raise SourceError(f"{partial.file.path}: {why}.", "The source cannot resume; pull again later.")

    def _pause(self, path: str, failures: int, why: str, after_s: float | None) -> None:
        wait = (
            after_s
            if after_s is not None
            else self._policy.backoff_s * 2.0**failures * self._policy.rng.uniform(0.5, 1)
        )
        wait = min(wait, MAX_WAIT_S)
        if wait > 2:
            self._watch.note(f"{path}: {why}; again in {wait:.0f} s")
        end = time.monotonic() + wait
        while not self._stop.is_set() and (left := end - time.monotonic()) > 0:
            self._policy.sleep(min(left, 0.5))

    def _complete(self, partial: Partial) -> None:
        file = partial.file
        sha256, git = partial.digests()
        if (file.sha256 and sha256 != file.sha256) or (
            file.git_sha1 and not file.sha256 and git != file.git_sha1
        ):
            if partial.retried:
                raise SourceError(
                    f"{file.path}: its hash was wrong twice (sha256 {sha256[:12]}…).",
                    "The source has another file than the lockfile, or it is damaged. Nothing was put in place.",
                )
            partial.retried = True
            self._watch.note(f"{file.path}: wrong hash; once more from the start")
            self._watch.bytes_done(-file.size)
            partial.forget()
            for index in partial.missing():
                self._queue.put((partial, index))
            return
        if file.path.endswith(".safetensors"):
            check_header(partial.data, file.path)
        self._lease.check()
        with self._lock:
            self._before_landing()
        partial.land(self._dir / file.path)
        with self._lock:
            self._on_landed(file, sha256)
            self.landed.append(LockedFile(file.path, file.size, sha256))
            self._left -= 1
            last = self._left == 0
        if last:
            self._finish()


def told_of_disk(e: OSError, directory: Path) -> Exception:
    """A file system's error in words that name the cure; the error itself when it is of another kind."""
    if e.errno in (errno.ENOSPC, errno.EDQUOT):
        return InputError(
            f"{directory}: the disk is full ({_free(directory)} free) in the middle of the download.",
            "Free some space and pull again: it goes on where it stopped. Nothing half-made is visible.",
        )
    if e.errno == errno.EFBIG:
        return InputError(
            f"{directory}: a file is larger than this file system or a limit (ulimit -f) allows.",
            "Pull to another place (--to).",
        )
    if e.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return InputError(
            f"{directory}: cannot be written ({os.strerror(e.errno)}).", "Pull to another place (--to)."
        )
    return e


def _free(directory: Path) -> str:
    try:
        return show_bytes(shutil.disk_usage(directory).free)
    except OSError:
        return "nothing"

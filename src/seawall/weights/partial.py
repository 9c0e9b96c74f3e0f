"""One file on its way in: segments written at their offsets, a map of those that are done, and the hash
chasing behind. Survives a kill -9 at any byte: what the map says is done was written before it said so,
and nothing has the file's real name before its hash is right.
"""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

from seawall.weights.listing import RemoteFile

SEGMENT = 16 * 2**20
_READ = 4 * 2**20


class Partial:
    """`<digest>.data` and `<digest>.map` (one byte per segment, 1 = written) in the directory's `.seawall`."""

    def __init__(self, file: RemoteFile, directory: Path) -> None:
        key = hashlib.sha256(
            f"{file.path}\0{file.size}\0{file.sha256}\0{file.identity}".encode()
        ).hexdigest()[:32]
        self.file = file
        self.segments = max(1, -(-file.size // SEGMENT))
        self.data = directory / f"{key}.data"
        self._map = directory / f"{key}.map"
        self._lock = threading.Lock()
        self._hashing = threading.Lock()
        self.whole_lock, self.whole_done = threading.Lock(), False
        """A source without ranges is read whole, by the one worker that holds the lock."""
        self.retried = False
        self._data_fd = os.open(self.data, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        self._map_fd = os.open(self._map, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        self.reset_hash()
        done = bytearray(os.pread(self._map_fd, self.segments, 0).ljust(self.segments, b"\0"))
        if os.fstat(self._data_fd).st_size > file.size:
            done = bytearray(self.segments)
            os.ftruncate(self._data_fd, file.size)
        self._done = done

    def reset_hash(self) -> None:
        self._hash, self._hashed = hashlib.sha256(), 0
        self._git = hashlib.sha1(f"blob {self.file.size}\0".encode(), usedforsecurity=False)

    def span(self, index: int) -> tuple[int, int]:
        """Byte range [start, end) of a segment."""
        return index * SEGMENT, min(self.file.size, (index + 1) * SEGMENT)

    def missing(self) -> list[int]:
        return [i for i in range(self.segments) if not self._done[i]]

    @property
    def bytes_here(self) -> int:
        return sum(e - s for i in range(self.segments) if self._done[i] for s, e in [self.span(i)])

    def write(self, chunk: bytes, offset: int) -> None:
        view = memoryview(chunk)
        while view:
            n = os.pwrite(self._data_fd, view, offset)
            view, offset = view[n:], offset + n

    def finish(self, index: int) -> bool:
        """Marks a segment as written; True when it was the last one missing."""
        os.pwrite(self._map_fd, b"\x01", index)
        with self._lock:
            self._done[index] = 1
            return all(self._done)

    def hash_ahead(self) -> None:
        """Hashes the part that is complete from the file's start on, unless another thread is doing so."""
        while self._hashed < self.segments and self._done[self._hashed]:
            if not self._hashing.acquire(blocking=False):
                return
            try:
                while self._hashed < self.segments and self._done[self._hashed]:
                    self._hash_segment(self._hashed)
                    self._hashed += 1
            finally:
                self._hashing.release()

    def _hash_segment(self, index: int) -> None:
        at, end = self.span(index)
        while at < end:
            chunk = os.pread(self._data_fd, min(_READ, end - at), at)
            if not chunk:
                raise OSError(f"{self.data} is shorter than its map says")
            self._hash.update(chunk)
            if self.file.git_sha1:
                self._git.update(chunk)
            at += len(chunk)

    def digests(self) -> tuple[str, str]:
        """(sha256, git blob sha1) of the whole file; all segments must be done."""
        with self._hashing:
            while self._hashed < self.segments:
                self._hash_segment(self._hashed)
                self._hashed += 1
        return self._hash.hexdigest(), self._git.hexdigest()

    def forget(self) -> None:
        """Starts the file over."""
        with self._lock:
            os.pwrite(self._map_fd, bytes(self.segments), 0)
            self._done = bytearray(self.segments)
            self.reset_hash()

    def land(self, target: Path) -> None:
        """Gives the file its real name, durably; the map goes."""
        os.fchmod(self._data_fd, 0o644)
        os.fsync(self._data_fd)
        target.parent.mkdir(parents=True, exist_ok=True)
        self.data.rename(target)
        self._map.unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self._data_fd)
        os.close(self._map_fd)

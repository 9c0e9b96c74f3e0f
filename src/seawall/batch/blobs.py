"""Contents of files, on a volume: written beside, synced, and then there at once under their name, or not at all. Where
there is a bucket that several workers share, a file is there first, and what lies on the volume are copies.

Nothing is ever whole in memory. Ids come from us and are letters, digits, `-` and `_`; another one has no content here.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from seawall.batch.buckets import FileBucket
from seawall.errors import InputError

COPY_S = 3600.0
"""How long a copy of a bucket's file is kept for the next who wants it."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


class FilePart:
    """One file that is being written."""

    def __init__(self, target: Path, bucket: FileBucket | None = None) -> None:
        self._target, self._bucket = target, bucket
        self._path = target.with_name(f"{target.name}.{os.urandom(4).hex()}.part")
        self._file = self._path.open("wb")
        self.size = 0
        """Bytes so far."""

    def write(self, data: bytes) -> int:
        self.size += len(data)
        return self._file.write(data)

    def keep(self) -> None:
        """From now on the file is in its place, and durable."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if self._bucket is not None:
            self._bucket.put(self._target.name, self._path)
        self._path.replace(self._target)
        folder = os.open(self._target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # a new name is durable when its folder is
        finally:
            os.close(folder)

    def drop(self) -> None:
        """Nothing is left of it, unless it was kept."""
        with suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)


class Blobs:
    """See the module."""

    def __init__(self, folder: Path, bucket: FileBucket | None = None) -> None:
        self.folder = folder
        self._bucket = bucket
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise InputError(f"the folder for batch files {folder} cannot be made: {e.strerror}.") from None
        for left in folder.glob("*.part"):
            left.unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        """Where the content of that name lies on the volume, or would."""
        if not _ID.fullmatch(name):
            raise KeyError(name)
        return self.folder / name

    def begin(self, name: str) -> FilePart:
        """A file to write to, which is there when it is kept."""
        return FilePart(self.path(name), self._bucket)

    def here(self, name: str) -> Path:
        """Where its content lies now, fetched from the bucket if it must be. FileNotFoundError: it is nowhere."""
        path = self.path(name)
        if path.exists():
            os.utime(path)
        elif self._bucket is not None:
            part = path.with_name(f"{name}.{os.urandom(4).hex()}.part")
            try:
                if self._bucket.get(name, part):
                    part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "there is no such file", str(path))
        return path

    def trim(self, now: float) -> None:
        """Removes copies of what is in the bucket that nobody has asked for lately. Who reads one reads on."""
        if self._bucket is None:
            return
        for path in self.folder.iterdir():
            with suppress(OSError):
                if path.stat().st_mtime < now - COPY_S:
                    path.unlink()

    @contextmanager
    def new(self, name: str) -> Iterator[FilePart]:
        """A file to write to. When the block ends well it is durable and in its place; else nothing is left."""
        part = self.begin(name)
        try:
            yield part
            part.keep()
        finally:
            part.drop()

    def forget(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)
        if self._bucket is not None:
            self._bucket.forget(name)

    def free(self) -> int:
        """Bytes that can still be written."""
        at = os.statvfs(self.folder)
        return at.f_bavail * at.f_frsize

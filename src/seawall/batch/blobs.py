"""Contents of files, on a volume: written beside, synced, and then there at once under their name, or not at all.

Nothing is ever whole in memory. Ids come from us and are letters, digits, `-` and `_`; another one has no content here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from seawall.errors import InputError

_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


class FilePart:
    """One file that is being written."""

    def __init__(self, target: Path) -> None:
        self._target = target
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

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise InputError(f"the folder for batch files {folder} cannot be made: {e.strerror}.") from None
        for left in folder.glob("*.part"):
            left.unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        """Where the content of that name lies, or would."""
        if not _ID.fullmatch(name):
            raise KeyError(name)
        return self.folder / name

    def begin(self, name: str) -> FilePart:
        """A file to write to, which is there when it is kept."""
        return FilePart(self.path(name))

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

    def free(self) -> int:
        """Bytes that can still be written."""
        at = os.statvfs(self.folder)
        return at.f_bavail * at.f_frsize

"""Contents of files, on a volume: written beside, synced, and then there at once under their name, or not at all.

Nothing is ever whole in memory. Ids come from us and are letters, digits, `-` and `_`; another one has no content here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from seawall.errors import InputError

_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


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

    @contextmanager
    def new(self, name: str) -> Iterator[BinaryIO]:
        """A file to write to. When the block ends well it is durable and in its place; else nothing is left."""
        target = self.path(name)
        part = target.with_name(f"{name}.part")
        try:
            with part.open("wb") as out:
                yield out
                out.flush()
                os.fsync(out.fileno())
            part.replace(target)
            self._sync()
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def forget(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)

    def _sync(self) -> None:
        """A new name is durable when its folder is."""
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def free(self) -> int:
        """Bytes that can still be written."""
        at = os.statvfs(self.folder)
        return at.f_bavail * at.f_frsize

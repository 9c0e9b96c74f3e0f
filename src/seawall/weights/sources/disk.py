"""file:///folder or file:///file: weights that already lie on a disk or a mounted volume."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from seawall.errors import InputError
from seawall.weights.listing import MAX_FILES, Listing, Read, RemoteFile
from seawall.weights.sources import ListingRequest


def open_listing(request: ListingRequest) -> Listing:
    root = Path(unquote(request.rest))
    if not root.is_absolute():
        root = Path.cwd() / root
    return list_folder(root, f"file://{root}", "local")


def list_folder(root: Path, source: str, revision: str) -> Listing:
    """Every regular file below `root` (or `root` itself); hidden ones and our own `.seawall` are left out."""
    if root.is_file():
        return Listing(source, revision, (_file(root, root.name),))
    if not root.is_dir():
        raise InputError(f"{root}: no such file or folder.", "Check the path.")
    files = []
    for folder, dirs, names in os.walk(root):
        dirs[:] = sorted(d for d in dirs if not d.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if not name.startswith(".") and name != "seawall.lock" and path.is_file():
                files.append(_file(path, path.relative_to(root).as_posix()))
        if len(files) > MAX_FILES:
            raise InputError(f"{root}: more than {MAX_FILES} files.", "Name the folder of one model.")
    return Listing(source, revision, tuple(files))


def _file(path: Path, name: str) -> RemoteFile:
    stat = path.stat()
    return RemoteFile(name, stat.st_size, _reader(path), identity=f"{stat.st_ino}:{stat.st_mtime_ns}")


def _reader(path: Path) -> Read:
    @contextmanager
    def read(start: int, end: int) -> Iterator[Iterator[bytes]]:
        with path.open("rb", buffering=0) as f:
            f.seek(start)
            yield iter(lambda: f.read(2**20), b"")

    return read

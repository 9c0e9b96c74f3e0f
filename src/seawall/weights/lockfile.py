"""`seawall.lock`: the revision, and the sha256 and size of every file. What is not in it is refused.

JSON, sorted, so that the same weights give the same bytes and a review shows what changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seawall.errors import InputError, in_words
from seawall.weights.listing import MAX_FILES, safe_path

VERSION = 1
MAX_BYTES = 16 * 2**20
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class LockedFile:
    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Lock:
    """One revision of one source, pinned."""

    source: str
    revision: str
    files: tuple[LockedFile, ...]

    @property
    def total_bytes(self) -> int:
        return sum(f.size for f in self.files)

    def text(self) -> str:
        """The lockfile's text, ending in a newline."""
        files = [
            {"path": f.path, "size": f.size, "sha256": f.sha256}
            for f in sorted(self.files, key=lambda f: f.path)
        ]
        body = {"version": VERSION, "source": self.source, "revision": self.revision, "files": files}
        return json.dumps(body, indent=1) + "\n"

    @property
    def digest(self) -> str:
        """sha256 of the files' paths, sizes and hashes: the identity of the content, wherever it came from."""
        lines = sorted(f"{f.sha256} {f.size} {f.path}" for f in self.files)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_lock(path: Path) -> Lock:
    """Raises InputError with the cure when the file is missing, half-written or not a lockfile."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(
                f"{path}: larger than {MAX_BYTES >> 20} MiB; not a lockfile.", "Name seawall.lock."
            )
        data = json.loads(path.read_bytes())
        return parse_lock(data)
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such lockfile.", "`seawall pull SOURCE --lock FILE` writes it."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise InputError(
            f"{path}: not a lockfile that can be trusted ({in_words(e)}).",
            "Restore it from version control, or pull anew.",
        ) from None


def parse_lock(data: Any) -> Lock:
    """Plain data -> Lock. ValueError, KeyError or TypeError when it is not one."""
    if data["version"] != VERSION:
        raise ValueError(f"version {data['version']!r}, not {VERSION}")
    files = []
    for f in data["files"]:
        if not _SHA256.fullmatch(f["sha256"]) or not isinstance(f["size"], int) or f["size"] < 0:
            raise ValueError(f"{f['path']!r} has no sound hash and size")
        files.append(LockedFile(safe_path(f["path"]), f["size"], f["sha256"]))
    if not files or len(files) > MAX_FILES or len({f.path for f in files}) != len(files):
        raise ValueError("its list of files is empty, too long or has a file twice")
    return Lock(str(data["source"]), str(data["revision"]), tuple(files))


def write_lock(lock: Lock, path: Path) -> None:
    """Writes atomically: readers see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(lock.text(), "utf-8")
    partial.replace(path)

"""Where Seawall keeps what it makes once: the engine's environment, weights, the state of `seawall up`.

A thing in the cache is complete when its marker file says so; the marker is written last, so a half-made
thing is made again and never used. Nothing here knows what is cached, and nothing is downloaded here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from seawall.errors import InputError

MARKER = ".complete.json"


def root(env: Mapping[str, str] = os.environ) -> Path:
    """`$SEAWALL_CACHE`, else `$XDG_CACHE_HOME/seawall`, else `~/.cache/seawall`."""
    if given := env.get("SEAWALL_CACHE"):
        return Path(given).expanduser().absolute()
    base = env.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "seawall"


@contextlib.contextmanager
def locked(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[int]:
    """Holds an exclusive lock on `path` (a file made for it). Two makers of one thing take turns; the kernel
    frees the lock when its holder dies. `on_wait` is called once if somebody else holds it. Yields the lock's file: a
    program that is started with it (`pass_fds`) holds the lock, too, should it outlive us."""
    make_dir(path.parent)
    with path.open("a") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_wait:
                on_wait()
            fcntl.flock(f, fcntl.LOCK_EX)
        yield f.fileno()


def make_dir(path: Path) -> Path:
    """mkdir -p, with a message that names the cure."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise InputError(
            f"{path} cannot be made: {e.strerror or e}.",
            "Set SEAWALL_CACHE to a folder of yours with space."
            if path.is_relative_to(root())
            else "Name a folder of yours.",
        ) from None
    return path


def make_private(path: Path) -> Path:
    """A folder for this user alone: what is said in logs and asked for in sockets is nobody else's. One that was there
    before is closed to others where it is ours, and refused where they may write into it: that may be anybody's."""
    new = not path.exists()
    make_dir(path)
    try:
        seen = path.stat()
        if new or (seen.st_uid == os.geteuid() and seen.st_mode & 0o077 and not seen.st_mode & 0o002):
            path.chmod(0o700)
    except OSError as e:
        raise InputError(
            f"{path} cannot be closed to others: {e.strerror or e}.", "Use a folder of yours."
        ) from None
    if not new and seen.st_mode & 0o002:
        raise InputError(
            f"{path} may be written by everybody on this machine.",
            f"Use a folder of yours, or: chmod 700 {path}",
        )
    return path


def complete(folder: Path) -> dict[str, Any] | None:
    """The facts in a folder's marker; None when the folder is missing, half made or damaged."""
    try:
        facts = json.loads((folder / MARKER).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None


def seal(folder: Path, facts: dict[str, Any]) -> None:
    """Writes the marker, last of all and atomically."""
    write_atomic(folder / MARKER, json.dumps(facts, indent=1, sort_keys=True) + "\n")


@contextlib.contextmanager
def staged(final: Path) -> Iterator[Path]:
    """A scratch folder beside `final` that takes its place when the block ends well, and vanishes otherwise."""
    scratch = final.with_name(f".{final.name}.{os.getpid()}.{time.monotonic_ns()}")
    make_dir(scratch)
    try:
        yield scratch
        if final.exists():
            shutil.rmtree(final)
        scratch.rename(final)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_atomic(path: Path, text: str) -> None:
    """Readers see the old file or the new one, never a half."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    try:
        scratch.write_text(text, "utf-8")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def write_in_place(path: Path, text: str) -> None:
    """Writes over a file on a full disk: needs no new room where the file is as long already (blanks fill the rest).

    One write; a reader that sees half of it must keep what it had. OSError when it does not fit."""
    with path.open("r+b", buffering=0) as f:
        data = text.encode().ljust(os.fstat(f.fileno()).st_size)
        if f.write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()

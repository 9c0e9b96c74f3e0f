"""What lies in the cache: engines, weights, model shapes; how large, when last used, and whether it is in use now.

Use is told by times: a file that was read or written (mounts with `relatime` note a read once a day), so "last used" is
right to a day. Forbidden here: the state of `seawall up`, which is no cache.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

KINDS = {"engines": "engine", "weights": "weights", "models": "model shape", "vllm": "vLLM's own"}


@dataclass(frozen=True)
class Kept:
    """One thing in the cache. `used`: Unix time of its last use."""

    name: str
    kind: str
    path: Path
    size: int
    used: float


def things(root: Path) -> list[Kept]:
    """Everything below the cache that may go, largest first. Locks and half-made things belong to their whole."""
    found = []
    for folder, kind in KINDS.items():
        for path in sorted((root / folder).iterdir()) if (root / folder).is_dir() else ():
            if path.is_dir() and not path.is_symlink():
                size, used = _measure(path)
                found.append(Kept(f"{folder}/{path.name}", kind, path, size, used))
    return sorted(found, key=lambda t: -t.size)


def _measure(path: Path) -> tuple[int, float]:
    size, used = 0, 0.0
    seen: set[tuple[int, int]] = set()
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                stat = os.lstat(f"{folder}{os.sep}{name}")
                if (stat.st_dev, stat.st_ino) not in seen:
                    seen.add((stat.st_dev, stat.st_ino))
                    size += stat.st_blocks * 512
                used = max(used, stat.st_mtime, stat.st_atime)
    return size, used or path.stat().st_mtime


def in_use(thing: Kept) -> bool:
    """A process of ours runs from it or has a file of it open or mapped."""
    import psutil

    prefix = f"{thing.path}{os.sep}"
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if any(prefix in word for word in process.cmdline()):
                return True
            if any(m.path.startswith(prefix) for m in process.memory_maps(grouped=True)):
                return True
    return False


def remove(thing: Kept) -> bool:
    """Takes it out of sight first, so that nobody sees a half of it, then deletes it. False when it may not be."""
    aside = thing.path.with_name(f".gone-{thing.path.name}-{os.getpid()}")
    try:
        thing.path.rename(aside)
    except OSError:
        return False
    shutil.rmtree(aside, ignore_errors=True)
    return True

"""What is pinned of the engine's packages, and for which Python and architecture: one file, made by
`scripts/lock_engine.py`, whose markers tell the pairs apart. Nothing is installed or looked for here.

torch's CPU build is pinned by hash only for pairs whose wheel was at hand when the lock was made; for the others its
version alone is asked for, and the set-up says so.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import itertools
import platform
import re
from collections.abc import Sequence

Version = tuple[int, int]
LockedPair = tuple[Version, str]
"""A Python and a machine, as `platform.machine()` names it."""

VERSION = "0.32.0"
TORCH = "2.13.0+cpu"
LOCK = "engine-requirements.txt"
LEFT_OUT = ("torchvision", "torchaudio", "torchcodec", "triton")
PYTHONS: tuple[Version, ...] = ((3, 11), (3, 12), (3, 13), (3, 14))
LOCKED_FOR: tuple[LockedPair, ...] = tuple((python, m) for m in ("x86_64", "aarch64") for python in PYTHONS)
GLIBC = (2, 31)
"""The C library that all locked wheels can live with."""

_PIN = re.compile(r"^[a-z0-9]", re.M)
_CLAUSE = re.compile(r'python_version == "3\.(\d+)" and platform_machine == "(\w+)"')


def marker_of(pairs: Sequence[LockedPair]) -> str:
    """The environment marker that is true for these pairs, and for no other of the lock."""
    clauses = [f'(python_version == "{_dotted(p)}" and platform_machine == "{m}")' for p, m in pairs]
    return " or ".join(clauses)


def lock_text() -> str:
    """The pinned requirements with hashes, of all pairs; `make lock-engine` writes them."""
    return importlib.resources.files("seawall.local").joinpath(LOCK).read_text("utf-8")


def is_locked(python: Version, machine: str | None = None, system: str | None = None) -> bool:
    """The lock's hashes are those of this platform's wheels for this Python."""
    return (system or platform.system()) == "Linux" and (python, machine or platform.machine()) in LOCKED_FOR


@functools.cache
def pins(python: Version, machine: str) -> tuple[str, ...]:
    """The requirements, hashes included, that count for a pair. Empty for a pair that the lock is not for."""
    if (python, machine) not in LOCKED_FOR:
        return ()
    text = lock_text()
    starts = [m.start() for m in _PIN.finditer(text)] + [len(text)]
    blocks = (text[a:b].rstrip() for a, b in itertools.pairwise(starts))
    return tuple(block for block in blocks if _counts(block, python, machine))


def _counts(block: str, python: Version, machine: str) -> bool:
    marker = block.partition("\n")[0].partition(" ; ")[2]
    return not marker or (str(python[1]), machine) in _CLAUSE.findall(marker)


def torch_is_pinned(python: Version, machine: str) -> bool:
    """The hash of torch's CPU wheel is known for this pair."""
    return any(pin.startswith("torch==") for pin in pins(python, machine))


def digest(python: Version, machine: str) -> str:
    """What names an environment: it changes when something that counts for this pair does."""
    text = "\n".join(pins(python, machine)) or f"{VERSION} {TORCH}"
    return hashlib.sha256(f"{text}{python}{machine}".encode()).hexdigest()[:8]


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))

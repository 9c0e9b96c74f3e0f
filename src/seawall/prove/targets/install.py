"""Programs of other people, from their own registries into the cache folder, each in a version that is pinned.

Forbidden here: keeping a copy in the repository, and another version than the adapter's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from seawall.drivers import cache, pip
from seawall.errors import InputError

INSTALL_S = 600.0
SBIN = ":/usr/local/sbin:/usr/sbin:/sbin"


def from_pypi(name: str, package: str, program: str) -> Path:
    """A program of a pinned package (`smg==1.13.0`), in an environment of its own. InputError when it cannot be had."""
    folder = cache.root() / "targets" / package.replace("==", "-").replace("[", "-").replace("]", "")
    with cache.locked(folder.with_name(f"{folder.name}.lock")):
        if cache.complete(folder) is None:
            shutil.rmtree(folder, ignore_errors=True)
            uv = _uv()
            _run(name, [uv, "venv", "-q", "--python", sys.executable, str(folder)])
            argv = [uv, "pip", "install", "-q", "--python", str(folder / "bin/python"), package]
            _run(name, [*argv, *pip.settings().uv_args()])
            cache.seal(folder, {"package": package})
    found = folder / "bin" / program
    if not found.exists():
        raise InputError(f"--target {name}: {package} has no program {program}.", "Take another --target.")
    return found


def from_debian(name: str, package: str) -> Path:
    """A program of the distribution; where we are root a missing one is installed. InputError when it cannot be had."""
    path = os.environ.get("PATH", "") + SBIN
    found = shutil.which(package, path=path)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        _run(name, ["apt-get", "install", "-y", "-q", package])
        found = shutil.which(package, path=path)
    if found is None:
        raise InputError(
            f"--target {name}: there is no {package} here.", f"Install it: apt-get install {package}"
        )
    return Path(found)


def said_by(argv: list[str]) -> str:
    """The first line that a program says, wherever it says it; empty when it says nothing."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines else ""


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if not found:
        raise InputError("there is no uv to install a target with.", "Install it: pip install uv")
    return found


def _run(name: str, argv: list[str]) -> None:
    """One step of an installation. InputError with its last words."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        raise InputError(
            f"--target {name}: {Path(argv[0]).name} did not end.", "Is its registry reached?"
        ) from None
    if done.returncode:
        words = (done.stderr or done.stdout).strip().replace("\n", " | ")[-300:]
        raise InputError(
            f"--target {name} could not be installed: {words}",
            "Is its registry reached? Or take another --target.",
        )

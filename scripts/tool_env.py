"""An environment of its own for a tool of ours, pinned by hash: never mixed with the project's own packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def locked(where: Path, lock: str, python: str = sys.executable) -> Path:
    """-> its `bin`, with exactly the packages of requirements/`lock`; made unless it is there."""
    import uv

    file, stamp = ROOT / "requirements" / lock, where / "made-of"
    if not (stamp.exists() and stamp.read_text() == file.read_text()):
        shutil.rmtree(where, ignore_errors=True)
        env = os.environ | {"VIRTUAL_ENV": str(where)}
        make = ["venv", "--no-python-downloads", "--python", python, str(where)]
        for args in (make, ["pip", "sync", "--require-hashes", str(file)]):
            subprocess.run([uv.find_uv_bin(), "--quiet", *args], env=env, check=True)
        stamp.write_text(file.read_text())
    return where / "bin"

"""Secrets out of files: what Kubernetes mounts from a Secret, and what `NAME_FILE` names.

An environment is shown to whoever may look at a process and inherited by all that it starts; a file is read by whom its
mode lets. No message here ever holds a secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from seawall.domain.buckets import BY_SCHEME
from seawall.errors import InputError

MOST = 1 << 20
_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,127}")


def secret(name: str, env: Mapping[str, str] | None = None) -> str | None:
    """The variable's value, else what stands in the file that NAME_FILE names; None where there is neither. A Secret
    may lack the key: a file that is not there is nothing."""
    env = os.environ if env is None else env
    if env.get(name):
        return env[name]
    path = env.get(f"{name}_FILE")
    return _read(Path(path), f"{name}_FILE") if path and Path(path).exists() else None


def path_in(name: str, env: Mapping[str, str] | None = None) -> Path | None:
    """The file that a variable names, if it is there: a Secret may lack the key."""
    path = (os.environ if env is None else env).get(name)
    return Path(path) if path and Path(path).exists() else None


def variables(folder: Path) -> dict[str, str]:
    """The folder's files as variables, each named as its file: AWS_ACCESS_KEY_ID. Those that a cloud's clients read
    themselves are named to them. Others are left out, and so is what Kubernetes keeps beside them (`..data`)."""
    if not folder.is_dir():
        raise InputError(
            f"--secrets {folder}: is no folder.", "Name one whose files are AWS_ACCESS_KEY_ID, ..."
        )
    found = {p.name: _read(p, "--secrets") for p in sorted(folder.iterdir()) if _NAME.fullmatch(p.name)}
    named = {c.variable: str(folder / c.key) for c in BY_SCHEME.values() if (folder / c.key).is_file()}
    return named | {name: value for name, value in found.items() if value}


def _read(path: Path, said_by: str) -> str | None:
    try:
        if path.stat().st_size > MOST:
            raise InputError(f"{said_by} {path}: is too large for a secret.", "Name another file.")
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as e:
        why = e.strerror if isinstance(e, OSError) else "it is no text"
        raise InputError(f"{said_by} {path}: cannot be read ({why}).", "Check its owner and mode.") from None
    if "\0" in text:
        raise InputError(f"{said_by} {path}: holds a zero byte.", "Name another file.")
    return text or None

"""`-` for standard input where a verb hands a file on (to a gateway, a prover, a reader of traces) instead of reading
it itself, and the check that an output file can be written, made before the minutes of work whose result it is."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from seawall.errors import InputError

MOST = 256 * 2**20


STANDS_FOR: dict[str, str] = {}
"""Paths of copies -> what they were copied from, as a person calls it."""


def as_typed(text: str) -> str:
    """A message in which a copy of standard input is called so, and not by the path of the copy."""
    for path, name in STANDS_FOR.items():
        text = text.replace(path, name)
    return text


class InputFile(click.Path):
    """A file to read. `-` is copied from standard input into one that lives as long as the command."""

    name = "file"

    def __init__(self, suffix: str = ".yaml", exists: bool = True) -> None:
        super().__init__(exists=exists, dir_okay=False, path_type=Path)
        self._suffix = suffix

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        given = Path(str(value))
        pipe = given.exists() and not given.is_file() and not given.is_dir()  # `<(...)` can be read only once
        if str(value) != "-" and not pipe:
            if given.is_dir():
                flag = max(param.opts, key=len) if isinstance(param, click.Option) else ""
                raise InputError(f"{flag} {given}: is a folder.".strip(), "Name a file in it.")
            return super().convert(value, param, ctx)
        folder = Path(tempfile.mkdtemp(prefix="seawall-"))
        if ctx is not None:
            ctx.find_root().call_on_close(lambda: shutil.rmtree(folder, ignore_errors=True))
        path = folder / f"stdin{self._suffix}"
        STANDS_FOR[str(path)] = _called(given)
        with path.open("wb") as f, given.open("rb") if pipe else nullcontext(sys.stdin.buffer) as source:
            done = 0
            while part := source.read(2**20):
                done += len(part)
                if done > MOST:
                    raise InputError(
                        f"{_called(given)} is longer than {MOST >> 20} MiB.", "Name a file instead."
                    )
                f.write(part)
        if not done:
            raise InputError(f"{_called(given)} is empty.", "Look at the command before the pipe.")
        return path


class InputFileOrName(InputFile):
    """A file to read, or a name of something else that may stand there, too: a folder, the id of a model."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if str(value) == "-" or Path(str(value)).is_fifo():
            return str(super().convert(value, param, ctx))
        return str(value)


class ChangedFile(click.Path):
    """A file that a verb reads and writes again where it lies."""

    name = "file"

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        flag = max(param.opts, key=len) if param else "The file"
        if str(value) == "-":
            raise InputError(
                f"{flag} -: is changed where it lies, which standard input cannot be.",
                "Name a file, such as keys.json.",
            )
        if Path(str(value)).is_dir():
            raise InputError(f"{flag} {value}: is a folder.", "Name a file in it.")
        return super().convert(value, param, ctx)


class InputFolder(click.Path):
    """A folder to read; `exists`: it must be there."""

    name = "directory"

    def __init__(self, exists: bool = False) -> None:
        super().__init__(path_type=Path)
        self._must = exists

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        flag, path = max(param.opts, key=len) if param else "The folder", Path(str(value))
        if path.exists() and not path.is_dir():
            raise InputError(f"{flag} {path}: is a file, not a folder.", "Name the folder that holds it.")
        if self._must and not path.is_dir():
            raise InputError(f"{flag} {path}: no such folder.", "Check the path.")
        return super().convert(value, param, ctx)


class OutputFile(click.Path):
    """A file that a verb will write. That it can be is checked where the flag is read, before any work; `-` is for
    verbs that take it as standard output."""

    name = "file"

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(str(value))
        if str(value) != "-":
            writable(path, max(param.opts, key=len) if param else str(path))
        return path


def _called(given: Path) -> str:
    return "standard input" if str(given) == "-" else str(given)


def writable(path: Path | None, flag: str) -> None:
    """InputError when a file could not be written there. Nothing is changed: no folder made, no file emptied."""
    if path is None:
        return
    parent = path.parent
    if path.is_dir():
        raise InputError(f"{flag} {path}: is a folder.", "Name a file in it.")
    if not parent.is_dir():
        raise InputError(f"{flag} {path}: there is no such folder.", f"Make it: mkdir -p {parent}")
    target = path if path.exists() else parent
    if not os.access(target, os.W_OK):
        raise InputError(f"{flag} {path}: may not be written.", "Name a place of yours.")
    _room(parent, flag, path)


def writable_folder(path: Path | None, flag: str) -> None:
    """InputError when a folder could not be made, or written into."""
    if path is None:
        return
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        what = "is no folder" if there.exists() and not there.is_dir() else "may not be written"
        raise InputError(f"{flag} {path}: {there} {what}.", "Name a folder of yours.")
    _room(there, flag, path)


def _room(folder: Path, flag: str, path: Path) -> None:
    """What no permission tells: a read-only or full file system, a quota."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".seawall-") as f:
            f.write(b"0" * 4096)
            f.flush()
    except OSError as e:
        raise InputError(f"{flag} {path}: cannot be written ({e.strerror}).", "Name another place.") from None

"""What a gateway has read of specs and keys, kept for who serves after it.

A file that is broken while a gateway serves changes nothing. It must not either when that gateway dies: its successor
goes on with what was read last, and says so. The copy lies beside the keeper's socket, or the workers' board, and holds
what those files held (keys as hashes), for this user alone. Forbidden here: serving.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from seawall.config.load import parse_fleets
from seawall.config.planned import document_of
from seawall.domain.spec import Fleet
from seawall.errors import InputError
from seawall.gateway.process.settings import Settings, key_files, read_specs
from seawall.gateway.tell import keyring
from seawall.gateway.tell.keyring import Keys

log = logging.getLogger("seawall.gateway")


class ReadCopy(msgspec.Struct, frozen=True, kw_only=True):
    """The copy on disk."""

    specs: list[str]
    """Paths of the files that were read, as they were named."""
    fleets: str
    keys: dict[str, Keys]


class WhatWasRead(msgspec.Struct, frozen=True, kw_only=True):
    """Specs and keys that hang together."""

    fleets: list[Fleet]
    keys: dict[Path, Keys]
    """Of each file."""
    wrong: InputError | None = None
    """Why the files themselves cannot be read: this is the copy."""


def read_all(s: Settings) -> WhatWasRead:
    """Specs and keys as they are on disk, all or nothing. Raises InputError."""
    fleets = read_specs(s.specs)
    return WhatWasRead(fleets=fleets, keys={path: keyring.read(path) for path in key_files(fleets, s.keys)})


def read_or_last(s: Settings) -> WhatWasRead:
    """The same for a process that begins: where they cannot be read, what the last one in its seat had read. Raises
    InputError when there is neither."""
    try:
        return read_all(s)
    except InputError as wrong:
        try:
            last = _last(s)
        except (OSError, InputError, msgspec.MsgspecError):
            raise wrong from None
        return msgspec.structs.replace(last, wrong=wrong)


def keep(s: Settings, read: WhatWasRead) -> None:
    """Writes the copy, where whoever comes next would look for it."""
    path = _path(s)
    if path is None:
        return
    kept = ReadCopy(
        specs=_names(s.specs),
        fleets="\n---\n".join(json.dumps(document_of(f, None)) for f in read.fleets),
        keys={str(file): keys for file, keys in read.keys.items()},
    )
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(scratch, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(msgspec.json.encode(kept))
        scratch.replace(path)
    except OSError as e:
        log.error("what was read cannot be kept for a successor (%s): it will read the files", e.strerror)


def _last(s: Settings) -> WhatWasRead:
    path = _path(s)
    if path is None:
        raise FileNotFoundError
    kept = msgspec.json.decode(path.read_bytes(), type=ReadCopy)
    if kept.specs != _names(s.specs):
        raise InputError("it was read from other files.", "")
    fleets = parse_fleets(kept.fleets, path.name)
    return WhatWasRead(
        fleets=fleets, keys={file: kept.keys.get(str(file), Keys()) for file in key_files(fleets, s.keys)}
    )


def _names(specs: Sequence[Path]) -> list[str]:
    return [str(p.absolute()) for p in specs]


def _path(s: Settings) -> Path | None:
    home = s.keeper or s.board
    return None if home is None else home.parent / f"{s.seat.replace(' ', '-')}.read.json"

"""API keys: a JSON file of hashes. The key itself is shown once, when it is made, and kept nowhere.

A key is `sk-sw-<id>-<secret>`: the id (public, in logs) finds the entry, the secret's SHA-256 is compared in
constant time. Secrets are 256 random bits, so a plain hash is enough: there is nothing to guess.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
import stat
import time
from pathlib import Path

import msgspec

from seawall.errors import InputError

PREFIX = "sk-sw-"
ID_CHARS = 10
MAX_BYTES = 16 * 2**20


class Key(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One entry of the file. Limits here are the key's own, beside its tenant's."""

    id: str
    tenant: str
    sha256: str
    created: int = 0
    """Unix seconds."""
    expires: int | None = None
    note: str = ""
    models: tuple[str, ...] = ()
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    token_quota: int | None = None


class Keys(msgspec.Struct, frozen=True):
    keys: tuple[Key, ...] = ()
    version: int = 1


_decoder = msgspec.json.Decoder(Keys)


def digest(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()


def parse(data: bytes, name: str = "the keys file") -> Keys:
    """A keys file's content. InputError says what is wrong, never what is in it."""
    try:
        keys = _decoder.decode(data or b"{}")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        raise InputError(f"{name}: is no keys file: {e}.", "Make it with `seawall keys add`.") from None
    if len({k.id for k in keys.keys}) != len(keys.keys):
        raise InputError(f"{name} has one id twice.", "Revoke it with `seawall keys revoke`.")
    return keys


def read(path: Path, new: bool = False) -> Keys:
    """The keys of a file. `new`: it may not exist yet, and then there are none; otherwise InputError says so, since a
    gateway that asks for keys of which there are none lets nobody in."""
    try:
        return parse(_content(path), str(path))
    except FileNotFoundError:
        if new:
            return Keys()
        raise InputError(
            f"{path}: there is no such keys file.",
            f"Make it with its first key: seawall keys add TENANT --file {path}",
        ) from None
    except OSError as e:
        raise InputError(f"{path}: {e.strerror}.", "Check the path and its permissions.") from None


def _content(path: Path) -> bytes:
    """What stands in it. It is opened once, so that what is judged is what is read, and nobody is waited for who might
    write into a pipe of that name."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        seen = os.fstat(file.fileno())
        if not stat.S_ISREG(seen.st_mode):
            raise InputError(f"{path}: is no file.", "Name the keys file.")
        _close(path, file.fileno(), seen)
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InputError(f"{path}: larger than {MAX_BYTES >> 20} MiB.", "Is this the keys file?")
    return data


def _close(path: Path, file: int, seen: os.stat_result) -> None:
    """Sees to it that a keys file is nobody else's: who may write it lets himself in. One of ours that others may read
    is closed; a mounted Secret cannot be, and its Pod has no others."""
    if seen.st_mode & 0o002:
        raise InputError(
            f"{path}: everybody on this machine may change it.", f"Look at it, then: chmod 600 {path}"
        )
    if seen.st_mode & 0o004:
        if seen.st_uid == os.geteuid():
            os.fchmod(file, 0o600)
        elif not os.fstatvfs(file).f_flag & os.ST_RDONLY:
            raise InputError(
                f"{path}: everybody on this machine may read it.", f"Its owner can: chmod o= {path}"
            )


def make(tenant: str, **limits: object) -> tuple[str, Key]:
    """A new key and its entry -> (what the client must send, what is kept)."""
    ident = secrets.token_hex(ID_CHARS // 2)
    secret = secrets.token_urlsafe(32)
    fields = {"id": ident, "tenant": tenant, "sha256": digest(secret.encode()), "created": int(time.time())}
    return f"{PREFIX}{ident}-{secret}", msgspec.convert({**fields, **limits}, Key)


def change(path: Path, add: Key | None = None, revoke: str | None = None) -> Key | None:
    """Adds or revokes a key, atomically and safe against others who do the same. Returns the key concerned."""
    lock = path.with_name(path.name + ".lock")
    if add is None:
        read(path)  # a mistyped path leaves no lock file behind
    try:
        with os.fdopen(os.open(lock, os.O_WRONLY | os.O_CREAT, 0o600), "w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            entries = {k.id: k for k in read(path, new=add is not None).keys}
            found = entries.pop(revoke, None) if revoke is not None else add
            if found is None:
                return None
            if add is not None:
                entries[add.id] = add
            new = path.with_name(f".{path.name}.{os.getpid()}")
            new.touch(0o600)
            new.write_bytes(msgspec.json.format(msgspec.json.encode(Keys(tuple(entries.values()))), indent=1))
            new.replace(path)
            return found
    except FileNotFoundError:
        raise InputError(
            f"{path}: there is no folder {path.parent}.", f"Make it: mkdir -p {path.parent}"
        ) from None
    except OSError as e:
        raise InputError(f"{path}: {e.strerror}.", "Check the path and its permissions.") from None


class KeyRing:
    """The keys in force, each with the fleets that it opens. `find` is on the path of every request."""

    def __init__(self) -> None:
        self._keys: dict[bytes, list[tuple[Key, frozenset[str] | None]]] = {}
        self.divided = False
        """There are keys that do not open every fleet."""

    def __len__(self) -> int:
        return sum(map(len, self._keys.values()))

    def replace(self, keys: Keys) -> None:
        """Takes these keys instead of all that there were: they open every fleet."""
        self.clear()
        self.add(keys, None)

    def clear(self) -> None:
        self._keys = {}
        self.divided = False

    def add(self, keys: Keys, fleets: frozenset[str] | None) -> None:
        """Takes these keys, too: they open the fleets of these names; None: all."""
        self.divided = self.divided or fleets is not None
        for key in keys.keys:
            self._keys.setdefault(key.id.encode(), []).append((key, fleets))

    def find(self, presented: bytes, now: float, fleet: str | None = None) -> Key | None:
        """The key that `presented` proves, for `fleet` or for any at all; `now` is Unix seconds. None: unknown, wrong,
        expired, or another fleet's."""
        if not presented.startswith(b"sk-sw-") or len(presented) > 256:
            return None
        ident, _, secret = presented[len(PREFIX) :].partition(b"-")
        given = hashlib.sha256(secret).hexdigest()
        for key, fleets in self._keys.get(ident, _NOBODY):
            right = hmac.compare_digest(given, key.sha256)
            if right and (fleet is None or fleets is None or fleet in fleets):
                return None if key.expires is not None and now >= key.expires else key
        return None


_NOBODY: list[tuple[Key, frozenset[str] | None]] = [(Key(id="", tenant="", sha256="0" * 64), frozenset())]
"""Compared with where an id is unknown, so that this takes as long."""

"""A lockfile without the weights: `seawall pull --lock-only`, for who renders manifests on a laptop.

A source that says the sha256 of its large files is taken at its word (a later pull checks every byte against the
lock); what it does not say is read and hashed, which is done for small files and for what lies on this machine, and
refused where it would be a download in disguise. Nothing is kept but the lock.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from seawall.domain.units import show_bytes
from seawall.errors import InputError, SourceError
from seawall.weights.fetch import Fetch, FetchPolicy, told_of_disk
from seawall.weights.lease import Lease
from seawall.weights.listing import RemoteFile, checked, one_form
from seawall.weights.lockfile import Lock, LockedFile, read_lock, write_lock
from seawall.weights.pull import Order, Quiet, obeyed
from seawall.weights.sources import ListingRequest, open_source

MOST_READ = 256 * 2**20
"""Bytes that are read from a network for hashes that its source does not say."""
_HERE = ("file", "pypi")


def pin(order: Order, env: dict[str, str], most_read: int = MOST_READ) -> tuple[Lock, bool]:
    """The lock of what the source has now, written to `order.lock_file`, and whether it was there already.

    An existing lock is compared with the source. InputError or SourceError say what is in the way.
    """
    known = read_lock(order.lock_file) if order.lock_file.exists() else None
    if known and order.revision and order.revision != known.revision:
        raise InputError(
            f"{order.lock_file} pins revision {known.revision}, you asked for {order.revision}.",
            "Remove the lockfile to move to another revision.",
        )
    request = ListingRequest(order.uri, order.revision, known, env)
    listing = checked(open_source(request), order.allow_pickle)
    if known:
        obeyed(listing, known)
        return known, True
    listing, _ = one_form(listing, order.form)
    unknown = [f for f in listing.files if f.sha256 is None]
    said = [LockedFile(f.path, f.size, f.sha256) for f in listing.files if f.sha256 is not None]
    if request.scheme in _HERE:
        found = [LockedFile(f.path, f.size, _hash(f)) for f in unknown]
    else:
        found = _read(unknown, order, most_read)
    lock = Lock(listing.source, listing.revision, tuple(sorted([*said, *found], key=lambda f: f.path)))
    try:
        write_lock(lock, order.lock_file)
    except OSError as e:
        raise told_of_disk(e, order.lock_file.parent) from None
    return lock, False


def _read(files: list[RemoteFile], order: Order, most: int) -> list[LockedFile]:
    """Downloads, hashes and forgets."""
    size = sum(f.size for f in files)
    if size > most:
        raise InputError(
            f"{order.uri} does not say the sha256 of {show_bytes(size)} of its files: a lock needs them read.",
            f"Download them once: seawall pull {order.uri} --lock {order.lock_file}",
        )
    if not files:
        return []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / ".seawall").mkdir()
        with Lease(folder / ".seawall") as lease:
            return Fetch(folder, lease, Quiet(), order.policy or FetchPolicy(), lambda f, h: None).run(files)


def _hash(file: RemoteFile) -> str:
    h, at = hashlib.sha256(), 0
    with file.read(0, file.size) as chunks:
        for chunk in chunks:
            part = chunk[: file.size - at]
            h.update(part)
            at += len(part)
            if at >= file.size:
                break
    if at != file.size:
        raise SourceError(
            f"{file.path} became shorter while it was read.", "Let nobody write there, and try again."
        )
    return h.hexdigest()

"""Where the list of replicas comes from: a file that is replaced, or a fixed list of URLs.

A source calls `found(Replicas)` with every new document. A document that cannot be read changes nothing: the
last good one stays in force (and the metric `seawall_discovery_errors_total` counts).
"""

from __future__ import annotations

import asyncio
import logging
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from seawall.domain.seen import Replica, Replicas
from seawall.errors import InputError

log = logging.getLogger("seawall.gateway.replicas.discovery")
POLL_S = 0.02
MAX_BYTES = 16 * 2**20
Found = Callable[[Replicas], None]
_decoder = msgspec.json.Decoder(Replicas)


def read_document(data: bytes) -> Replicas:
    """Strictly typed; unknown keys are left alone. InputError says what is wrong."""
    try:
        seen = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        raise InputError(
            f"the discovery document cannot be read: {e}.", "See docs/reference/gateway.md."
        ) from None
    names = [r.name for r in seen.replicas]
    if len(set(names)) != len(names):
        raise InputError("the discovery document names a replica twice.", "Replica names must differ.")
    for r in seen.replicas:
        if not r.url.startswith(("http://", "https://")):
            raise InputError(f"replica {r.name} has the URL {r.url!r}.", "Write http://HOST:PORT.")
    return seen


def static(urls: Sequence[str], fleets: Sequence[str]) -> Replicas:
    """`URL` or `FLEET=URL`, several with commas. Without a fleet a URL serves all fleets there are."""
    replicas = []
    for i, item in enumerate(urls):
        fleet, sep, url = item.partition("=")
        if not sep or "://" in fleet:
            fleet, url = "", item
        for name in [fleet] if fleet else fleets:
            replicas.append(Replica(name=f"{name}-{i}", fleet=name, url=url.rstrip("/")))
    return read_document(msgspec.json.encode(Replicas(replicas=tuple(replicas))))


class WatchedFile:
    """Calls `changed(bytes)` when a file's content may have changed. Polls its identity: atomic replaces,
    Kubernetes' symlink swaps and half-written files all look alike to it. A pipe of that name would be waited for:
    it is no file."""

    def __init__(self, path: Path, changed: Callable[[bytes], None]) -> None:
        self.path = path
        self._changed = changed
        self._mark: tuple[int, ...] | None = None

    def look(self) -> None:
        """Reads the file if it is not the one read last."""
        try:
            st = self.path.stat()
            mark = (st.st_ino, st.st_mtime_ns, st.st_size, st.st_dev)
            if mark == self._mark or st.st_size > MAX_BYTES or not stat.S_ISREG(st.st_mode):
                return
            data = self.path.read_bytes()
        except OSError:
            return
        self._mark = mark
        self._changed(data)


class FileDiscovery:
    """Follows a discovery document on disk; changes are seen within 50 ms."""

    def __init__(self, path: Path, found: Found) -> None:
        self.errors = 0
        self.seen_once = asyncio.Event()
        self._found = found
        self._file = WatchedFile(path, self._read)

    def _read(self, data: bytes) -> None:
        try:
            seen = read_document(data)
        except InputError as e:
            self.errors += 1
            log.warning("%s keeps the last good list: %s", self._file.path, e.message)
            return
        self._found(seen)
        self.seen_once.set()

    async def run(self) -> None:
        while True:
            self._file.look()
            await asyncio.sleep(POLL_S)

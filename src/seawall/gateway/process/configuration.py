"""The files that a gateway process is configured by: specs, keys, fingerprints, certificates.

They are followed while it serves, and read in a thread: what anybody may have written there holds nobody up. One that
cannot be read changes nothing: it is said and counted, and the old one stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from seawall.decide.route.room import DEFAULT, bound_of
from seawall.decide.truth.fingerprint import Fingerprint, Identity
from seawall.domain.spec import Fleet
from seawall.errors import InputError
from seawall.gateway.intake.app import App
from seawall.gateway.memory import allowed
from seawall.gateway.process.certificates import Certificates
from seawall.gateway.process.last_read import WhatWasRead, keep, read_all
from seawall.gateway.process.settings import Settings, key_files
from seawall.gateway.replicas.discovery import WatchedFile
from seawall.gateway.replicas.truth import TruthWatch
from seawall.gateway.tell.keyring import KeyRing
from seawall.weights.truth_file import identity_of, truth_of, truth_path

log = logging.getLogger("seawall.gateway")
WATCH_S = 0.5


class _Known(NamedTuple):
    """What is known of a fleet's right answers."""

    found: Fingerprint | None
    share: float
    """Of the fleet's time that may be spent on asking."""
    identity: Identity


class Configuration:
    """See the module. `renewed`: tells whoever begins successors that there is a new certificate."""

    def __init__(
        self,
        settings: Settings,
        app: App,
        truth: TruthWatch,
        certificates: Certificates,
        renewed: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._app = app
        self._truth = truth
        self._certificates = certificates
        self._renewed = renewed
        self._key_files: list[Path] = []
        self._truths: list[Path] = []
        """Where a fingerprint may lie beside a spec."""
        self._asked = asyncio.Event()
        self.errors = 0
        """Files that could not be read."""

    def begin(self, read: WhatWasRead, wrong: Sequence[InputError] = ()) -> None:
        """Takes what was read before anything could serve. `wrong`: what could not be read anew."""
        for why in (*wrong, *([read.wrong] if read.wrong is not None else [])):
            self.errors += 1
            log.error("what was read before this process began stays: %s", why)
        self._take(read, self._read_truths(read.fleets))
        if read.wrong is None:
            keep(self._settings, read)

    def _take(self, read: WhatWasRead, known: dict[str, _Known]) -> None:
        fleets = read.fleets
        files = key_files(fleets, self._settings.keys)
        self._key_files = list(files)
        self._truths = [path for f in fleets for path in self._truth_paths(f)]
        app = self._app
        ring = app.keys or KeyRing()
        ring.clear()
        for path, owners in files.items():
            ring.add(read.keys[path], owners)
        app.configure(fleets, ring if files else None)
        self._truth.configure(known, app.now())
        app.memory.bound = bound_of(self._memory(fleets))
        self._certificates.speak(app.http2)
        for f in fleets:
            if f.spec.gateway.tenants and not (self._settings.keys or f.spec.gateway.keys_file):
                log.error(
                    "%s lists tenants, but there is no keys file: every request is refused (--keys)", f.name
                )

    def _truth_paths(self, fleet: Fleet) -> list[Path]:
        """Where its fingerprint may lie: beside any spec."""
        return [truth_path(folder, fleet.name) for folder in sorted({p.parent for p in self._settings.specs})]

    def _read_truths(self, fleets: Sequence[Fleet]) -> dict[str, _Known]:
        """The fingerprint beside each spec, and what may be spent on asking. One that cannot be read is said, and the
        fleet is served without: right answers are learned from replicas that agree."""
        known: dict[str, _Known] = {}
        for f in fleets:
            found: Fingerprint | None = None
            for path in self._truth_paths(f):
                if found is None:
                    try:
                        found = truth_of(path, f)
                    except InputError as e:
                        self.errors += 1
                        log.error("%s: its answers are not compared with a fingerprint: %s", f.name, e)
            share = f.spec.gateway.truth_budget / self._settings.workers
            known[f.name] = _Known(found, share, identity_of(f))
        return known

    def _memory(self, fleets: Iterable[Fleet]) -> int:
        """Bytes that this process may use: by the spec, and never more than its control group leaves it."""
        group = allowed()
        given = max((f.spec.gateway.memory or 0 for f in fleets), default=0)
        most = given or group or DEFAULT
        return min(most, group or most) // self._settings.workers

    def ask_again(self) -> None:
        """Everything is read soon, whether it has changed or not."""
        self._asked.set()

    async def reload(self) -> None:
        """Reads specs and keys again; what cannot be read changes nothing."""
        app = self._app
        try:
            read = await asyncio.to_thread(read_all, self._settings)
            self._take(read, await asyncio.to_thread(self._read_truths, read.fleets))
            if app.audit is not None:
                app.audit.reopen()
        except InputError as e:
            self.errors += 1
            log.error("the old configuration stays: %s", e)
            return
        log.warning("configuration read: %d fleets, %d keys", len(read.fleets), len(app.keys or ()))
        await asyncio.to_thread(keep, self._settings, read)

    def _renew(self) -> None:
        """New certificates serve new connections; broken ones change nothing."""
        try:
            self._certificates.renew()
        except InputError as e:
            self.errors += 1
            log.error("the old certificate stays: %s", e)
            return
        self._renewed()
        log.warning("certificate read")

    async def follow(self) -> None:
        """Looks at every file, for ever, and reads what has changed."""
        s = self._settings
        changed: set[Path] = set()
        watched: dict[Path, WatchedFile] = {}

        def follow(path: Path) -> WatchedFile:
            return WatchedFile(path, lambda _: changed.add(path))

        while True:
            paths = {*s.specs, *self._key_files, *self._truths, *self._certificates.files}
            for path in paths - watched.keys():
                watched[path] = follow(path)
                watched[path].look()
                changed.discard(path)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_S):
                    await self._asked.wait()
            asked = self._asked.is_set()
            self._asked.clear()
            for file in watched.values():
                file.look()
            if changed.intersection(self._certificates.files):
                self._renew()
            again = asked or bool(changed & {*s.specs, *self._key_files, *self._truths})
            changed.clear()  # what changes while it is read is read again
            if again:
                await self.reload()

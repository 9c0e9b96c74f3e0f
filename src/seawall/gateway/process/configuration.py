"""The files that a gateway process is configured by: specs, keys, fingerprints, certificates.

They are followed while it serves. One that cannot be read changes nothing: it is said
and counted, and the old one stays.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterable, Sequence
from pathlib import Path

from seawall.decide.route.room import DEFAULT, bound_of
from seawall.decide.truth.fingerprint import Fingerprint, Identity
from seawall.domain.spec import Fleet
from seawall.errors import InputError
from seawall.gateway.intake.app import App
from seawall.gateway.memory import allowed
from seawall.gateway.process.last_read import WhatWasRead, keep, read_all
from seawall.gateway.process.settings import Settings, key_files
from seawall.gateway.process.sockets import server_context
from seawall.gateway.replicas.discovery import WatchedFile
from seawall.gateway.replicas.truth import TruthWatch
from seawall.gateway.tell.keyring import KeyRing
from seawall.weights.truth_file import identity_of, truth_of, truth_path

log = logging.getLogger("seawall.gateway")
WATCH_S = 0.5


class Configuration:
    """See the module. `tls`: the clients' context, which new certificates go into."""

    def __init__(self, settings: Settings, app: App, truth: TruthWatch, tls: ssl.SSLContext | None) -> None:
        self._settings = settings
        self._app = app
        self._truth = truth
        self._tls = tls
        self._key_files: list[Path] = []
        self._truths: list[Path] = []
        """Where a fingerprint may lie beside a spec."""
        self.errors = 0
        """Files that could not be read."""

    def begin(self, read: WhatWasRead) -> None:
        """Takes what was read before anything could serve."""
        if read.wrong is not None:
            self.errors += 1
            log.error("what was read before this process began stays: %s", read.wrong)
        self._take(read)

    def _take(self, read: WhatWasRead) -> int:
        """-> how many fleets."""
        fleets = read.fleets
        files = key_files(fleets, self._settings.keys)
        self._key_files = list(files)
        app = self._app
        ring = app.keys or KeyRing()
        ring.clear()
        for path, owners in files.items():
            ring.add(read.keys[path], owners)
        known = self._read_truths(fleets)
        app.configure(fleets, ring if files else None)
        self._truth.configure(known, app.now())
        app.memory.bound = bound_of(self._memory(fleets))
        if self._tls is not None:  # new clients learn within the handshake what is spoken here
            self._tls.set_alpn_protocols(["h2", "http/1.1"] if app.http2 else ["http/1.1"])
        for f in fleets:
            if f.spec.gateway.tenants and not (self._settings.keys or f.spec.gateway.keys_file):
                log.error(
                    "%s lists tenants, but there is no keys file: every request is refused (--keys)", f.name
                )
        if read.wrong is None:
            keep(self._settings, read)
        return len(fleets)

    def _read_truths(self, fleets: Sequence[Fleet]) -> dict[str, tuple[Fingerprint | None, float, Identity]]:
        """The fingerprint beside each spec, and what may be spent on asking. One that cannot be read is said, and the
        fleet is served without: right answers are learned from replicas that agree."""
        folders = {p.parent for p in self._settings.specs}
        self._truths = [truth_path(folder, f.name) for folder in sorted(folders) for f in fleets]
        known: dict[str, tuple[Fingerprint | None, float, Identity]] = {}
        for f in fleets:
            found: Fingerprint | None = None
            for path in self._truths:
                if path.name == truth_path(path.parent, f.name).name and found is None:
                    try:
                        found = truth_of(path, f)
                    except InputError as e:
                        self.errors += 1
                        log.error("%s: its answers are not compared with a fingerprint: %s", f.name, e)
            share = f.spec.gateway.truth_budget / self._settings.workers
            known[f.name] = (found, share, identity_of(f))
        return known

    def _memory(self, fleets: Iterable[Fleet]) -> int:
        """Bytes that this process may use: by the spec, and never more than its control group leaves it."""
        group = allowed()
        given = max((f.spec.gateway.memory or 0 for f in fleets), default=0)
        most = given or group or DEFAULT
        return min(most, group or most) // self._settings.workers

    def reload(self) -> None:
        """Reads specs and keys again; what cannot be read changes nothing."""
        app = self._app
        try:
            count = self._take(read_all(self._settings))
            if app.audit is not None:
                app.audit.reopen()
        except InputError as e:
            self.errors += 1
            log.error("the old configuration stays: %s", e)
            return
        log.warning("configuration read: %d fleets, %d keys", count, len(app.keys or ()))

    def _renew(self, tls: ssl.SSLContext) -> None:
        """New certificates serve new connections; broken ones change nothing."""
        s = self._settings
        try:
            server_context(s.tls_cert, s.tls_key)
        except InputError as e:
            self.errors += 1
            log.error("the old certificate stays: %s", e)
            return
        assert s.tls_cert is not None
        tls.load_cert_chain(s.tls_cert, s.tls_key)
        log.warning("certificate read")

    async def follow(self) -> None:
        """Looks at every file, for ever, and reads what has changed."""
        s, tls = self._settings, self._tls
        changed: set[Path] = set()
        watched: dict[Path, WatchedFile] = {}

        def follow(path: Path) -> WatchedFile:
            return WatchedFile(path, lambda _: changed.add(path))

        while True:
            paths = {*s.specs, *self._key_files, *self._truths, *(p for p in (s.tls_cert, s.tls_key) if p)}
            for path in paths - watched.keys():
                watched[path] = follow(path)
                watched[path].look()
                changed.discard(path)
            await asyncio.sleep(WATCH_S)
            for file in watched.values():
                file.look()
            if tls is not None and s.tls_cert and changed & {s.tls_cert, s.tls_key}:
                self._renew(tls)
            if changed & {*s.specs, *self._key_files, *self._truths}:
                self.reload()
            changed.clear()

"""The certificates of a gateway process: the one it shows to clients, and those it checks replicas' by.

They are read from files that somebody else renews, two files at a time and seldom at once. What cannot be used changes
nothing: the context that was made last stays, whole. A process that takes a dead one's place has this object from the
parent of both, so that it serves with what was read last while the files are broken; no key is copied to any disk.
Forbidden here: sockets.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from seawall.errors import InputError

HTTP1: Final[tuple[str, ...]] = ("http/1.1",)


class Certificates:
    """See the module. `clients` and `engines`: contexts for new connections; None: they are not TLS."""

    def __init__(self, cert: Path | None, key: Path | None, engine_ca: Path | None) -> None:
        """InputError where the files do not make a certificate."""
        self.files = tuple(path for path in (cert, key) if path is not None)
        """What clients are shown is made of these."""
        self._cert, self._key, self._engine_ca = cert, key, engine_ca
        self._spoken = HTTP1
        self.clients: ssl.SSLContext | None = None
        self.engines: ssl.SSLContext | None = None
        self.renew_engines()
        self.renew()

    def renew(self) -> None:
        """Reads the clients' certificate again: new connections are shown it. InputError: the old one stays."""
        if self._cert is None:
            return
        made = _server_context(self._cert, self._key)
        made.set_alpn_protocols(list(self._spoken))
        self.clients = made

    def renew_engines(self) -> None:
        """Reads again what replicas are checked by. InputError: the old one stays."""
        if self._engine_ca is not None:
            self.engines = _client_context(self._engine_ca)

    def renew_all(self) -> list[InputError]:
        """Reads everything again -> why what stays is old."""
        wrong = []
        for renew in (self.renew, self.renew_engines):
            try:
                renew()
            except InputError as e:
                wrong.append(e)
        return wrong

    def speak(self, http2: bool) -> None:
        """New clients learn within the handshake what is spoken here."""
        self._spoken = ("h2", *HTTP1) if http2 else HTTP1
        if self.clients is not None:
            self.clients.set_alpn_protocols(list(self._spoken))


def _server_context(cert: Path, key: Path | None) -> ssl.SSLContext:
    """TLS for clients: 1.2 or newer."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as e:
        raise InputError(f"--tls-cert {cert}: {_why(e)}.", "Name a PEM certificate and its key.") from None
    return context


def _client_context(ca: Path) -> ssl.SSLContext:
    """TLS towards replicas whose certificates `ca` signed."""
    try:
        return ssl.create_default_context(cafile=str(ca))
    except (OSError, ssl.SSLError) as e:
        raise InputError(f"--engine-ca {ca}: {_why(e)}.", "Name a PEM file of CA certificates.") from None


def _why(error: OSError) -> str:
    """OpenSSL's reason in words; it has none for a text in which no PEM block begins."""
    if isinstance(error, ssl.SSLError):
        return error.reason.replace("_", " ").lower() if error.reason else "holds nothing in PEM's form"
    return error.strerror or "cannot be read"

"""https://host/file or https://host/folder/: one file, or a folder that publishes its own seawall.lock.

Plain http:// is taken only from this machine (tests, a sidecar): anywhere else a lockfile must pin the hashes.
"""

from __future__ import annotations

import time
from urllib.parse import unquote, urljoin, urlsplit

import httpx2

from seawall.errors import InputError, SourceError
from seawall.weights.listing import Busy, Listing, RemoteFile
from seawall.weights.lockfile import Lock, parse_lock
from seawall.weights.sources import ListingRequest, http


def open_listing(request: ListingRequest) -> Listing:
    parts = urlsplit(request.uri)
    if parts.username or parts.password:
        raise InputError(
            "a source may not carry a password.", "Use a token file or a signed URL in the environment."
        )
    if (
        request.scheme == "http"
        and parts.hostname not in ("127.0.0.1", "localhost", "::1")
        and not request.lock
    ):
        raise InputError(
            f"{http.host(request.uri)} is not encrypted.", "Use https://, or a lockfile that pins the hashes."
        )
    client = http.client(request.env, request.uri)
    if request.lock and parts.path.endswith("/"):
        return _folder(request, client, request.lock)
    if parts.path.endswith("/"):
        published = http.get_json(
            client, urljoin(request.uri, "seawall.lock"), f"{http.host(request.uri)}…/seawall.lock"
        )
        try:
            return _folder(request, client, parse_lock(published))
        except (KeyError, TypeError, ValueError) as e:
            raise SourceError(f"the folder's seawall.lock is not sound ({e}).", "Publish it again.") from None
    name = unquote(parts.path.rsplit("/", 1)[-1])
    size, version = _head(client, request.uri, name)
    read = http.ranged(client, request.uri, name, version=version)
    identity = version.etag or version.date or str(size)
    sha = next((f.sha256 for f in request.lock.files if f.path == name), None) if request.lock else None
    return Listing(request.uri, identity, (RemoteFile(name, size, read, sha256=sha, identity=identity),))


def _folder(request: ListingRequest, client: httpx2.Client, lock: Lock) -> Listing:
    files = tuple(
        RemoteFile(
            f.path,
            f.size,
            http.ranged(client, urljoin(request.uri, f.path), f.path),
            f.sha256,
            identity=f.sha256,
        )
        for f in lock.files
    )
    return Listing(request.uri, lock.revision, files)


def _head(client: httpx2.Client, url: str, name: str) -> tuple[int, http.FileVersion]:
    for attempt in range(5):
        try:
            response = client.head(url)
            http.refuse(response, name)
            break
        except (Busy, httpx2.TransportError) as e:
            if attempt == 4:
                raise SourceError(
                    f"{name}: {http.host(url)} does not answer ({http.why(e)}).", "Check the network."
                ) from None
            after = e.after_s if isinstance(e, Busy) else None
            time.sleep(min(30.0, after if after is not None else 0.3 * 2.0**attempt))
        except (httpx2.HTTPError, httpx2.InvalidURL) as e:
            raise http.lost(e, name) from None
    length = response.headers.get("content-length", "")
    if not length.isdigit():
        raise SourceError(
            f"{name}: the server does not say how long it is.", "Serve it with a Content-Length."
        )
    return int(length), http.version_of(response)

"""Ranged reads over HTTP for every source that speaks it. Turns statuses into Busy, NoRanges or a cured error."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2

from seawall.drivers.near import near
from seawall.errors import InputError, SourceError, of_kind
from seawall.weights.listing import Busy, NoRanges, Read

_CHUNK = 2**20


def client(env: dict[str, str], url: str, headers: dict[str, str] | None = None) -> httpx2.Client:
    """A client for what lies at `url`, that follows redirects (dropping Authorization across hosts) and trusts the
    system's CAs."""
    limits = httpx2.Limits(max_connections=64, max_keepalive_connections=64)
    base = {"user-agent": "seawall", "accept-encoding": "identity", **(headers or {})}
    stall = float(env.get("SEAWALL_STALL_TIMEOUT", "20"))
    return httpx2.Client(
        trust_env=True,  # most sources lie beyond the network, and a mirror within it may send us there
        mounts={f"all://{urlsplit(url).netloc.rpartition('@')[2]}": None} if near(url) else None,
        follow_redirects=True,
        timeout=httpx2.Timeout(stall, connect=10.0),
        limits=limits,
        headers=base,
        max_redirects=8,
    )


def get_json(http: httpx2.Client, url: str, what: str, attempts: int = 5, **kw: Any) -> Any:
    """A small JSON answer, with retries. Raises SourceError/InputError with the cure."""
    response = get_small(http, url, what, attempts, **kw)
    try:
        return response.json()
    except ValueError:
        raise SourceError(
            f"{what}: the answer is not JSON.", "Is a proxy or login page in between?"
        ) from None


def get_small(
    http: httpx2.Client, url: str, what: str, attempts: int = 5, limit: int = 32 * 2**20, **kw: Any
) -> httpx2.Response:
    """A whole answer of at most `limit` bytes, with retries on 429, 5xx and broken connections."""
    for attempt in range(attempts):
        try:
            with http.stream("GET", url, **kw) as response:
                refuse(response, what)
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > limit:
                        raise SourceError(
                            f"{what}: the answer is larger than {limit >> 20} MiB.", "Is the address right?"
                        )
                return httpx2.Response(
                    response.status_code, headers=_plain(response.headers), content=bytes(body)
                )
        except Busy as e:
            last: Exception = e
            wait = e.after_s
        except httpx2.TransportError as e:
            last, wait = e, None
        except (httpx2.HTTPError, httpx2.InvalidURL) as e:
            raise lost(e, what) from None
        if attempt + 1 < attempts:
            time.sleep(min(30.0, wait if wait is not None else 0.3 * 2.0**attempt))
    asked = f"It asks to come back in {wait:.0f} s: pull again then (what is here is kept)." if wait else ""
    raise SourceError(
        f"{what}: {why(last)}, {attempts} times.",
        asked or "Check the network and the mirror; then pull again.",
    )


def ranged(
    http: httpx2.Client,
    url: str,
    what: str,
    headers: dict[str, str] | None = None,
    version: FileVersion | None = None,
) -> Read:
    """A reader of byte ranges of `url`. (0, -1) reads the whole without a Range header. With `version` all pieces are
    of that one, or SourceError says that it has changed: where no hash is known, two halves would make a whole."""

    @contextmanager
    def read(start: int, end: int) -> Iterator[Iterator[bytes]]:
        wanted = dict(headers or {})
        if end >= 0:
            wanted["range"] = f"bytes={start}-{end - 1}"
        try:
            with http.stream("GET", url, headers=wanted) as response:
                refuse(response, what)
                if version is not None and version_of(response).differs(version):
                    raise SourceError(
                        f"{what}: has changed at its source while it was pulled.",
                        "Pull again, for what is there now.",
                    )
                if end >= 0:
                    _same_range(response, start, what)
                yield response.iter_raw(_CHUNK)
        except httpx2.TransportError as e:
            raise Busy(why(e)) from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as e:
            raise lost(e, what) from None

    return read


@dataclass(frozen=True)
class FileVersion:
    """What a server says of the version of a file: its ETag and its date, either may be empty."""

    etag: str = ""
    date: str = ""

    def differs(self, other: FileVersion) -> bool:
        """Both say something, and nothing that both say is equal. (Servers behind one balancer may have ETags of their
        own for one file; its date is then the same.)"""
        pairs = [(a, b) for a, b in ((self.etag, other.etag), (self.date, other.date)) if a and b]
        return bool(pairs) and all(a != b for a, b in pairs)


def version_of(response: httpx2.Response) -> FileVersion:
    """The version of the file that this answer belongs to."""
    etag = response.headers.get("etag", "").removeprefix("W/")
    return FileVersion(etag, response.headers.get("last-modified", ""))


def lost(e: Exception, what: str) -> SourceError:
    """The error for an answer that will not change however often it is asked for."""
    if isinstance(e, httpx2.TooManyRedirects):
        return SourceError(f"{what}: its source redirects in a circle.", "Check the address, or the mirror.")
    if isinstance(e, httpx2.InvalidURL):
        return SourceError(f"{what}: was sent to an address that is none.", "Do not trust this source.")
    return SourceError(f"{what}: the answer cannot be read ({of_kind(e)}).", "Is a proxy in between?")


def refuse(response: httpx2.Response, what: str) -> None:
    """Returns when the status is a success; raises what the status means otherwise."""
    code = response.status_code
    if code in (200, 206):
        return
    if code in (408, 425, 429) or code >= 500:
        raise Busy(f"HTTP {code}", _retry_after(response.headers.get("retry-after")))
    if code in (401, 403):
        raise SourceError(
            f"{what}: HTTP {code}: not allowed.",
            "Set a token that may read it (for hf:// HF_TOKEN or HF_TOKEN_PATH), and accept the model's licence.",
        )
    if code == 404:
        raise InputError(
            f"{what}: not found (HTTP 404).", "Check the name and the revision; private ones need a token."
        )
    if code == 416:
        raise SourceError(
            f"{what}: shorter than it was said to be.", "It has changed; pull anew without the lock to see."
        )
    raise SourceError(f"{what}: HTTP {code}.", "Check the address.")


def _same_range(response: httpx2.Response, start: int, what: str) -> None:
    if response.status_code == 200:
        raise NoRanges
    stated = response.headers.get("content-range", "")
    if not stated.startswith(f"bytes {start}-"):
        raise Busy(f"asked for byte {start}, got {stated[:60]!r}")


def _retry_after(value: str | None) -> float | None:
    if not value:
        return None
    if value.strip().isdigit():
        return float(value[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _plain(headers: httpx2.Headers) -> list[tuple[str, str]]:
    return [
        (k, v)
        for k, v in headers.items()
        if k not in ("content-encoding", "content-length", "transfer-encoding")
    ]


def why(e: Exception) -> str:
    if isinstance(e, httpx2.TimeoutException):
        return "the source stalled"
    return str(e) if isinstance(e, Busy) else f"the connection broke ({of_kind(e)})"


def host(url: str) -> str:
    """Scheme and host only, for messages: queries of signed URLs are secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}"

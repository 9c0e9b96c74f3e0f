"""What a web browser carries here for a page that was given no right to it: any page that somebody looks at can send
requests to an address that only he can reach, and a gateway without keys knows its clients by nothing else.

A page of another origin may send some requests without asking (CORS calls them simple), and a page whose own name was
made to lead to this machine (DNS rebinding) reads the answers, too. Every browser tells whose page it is with all that
may change something, and no page can alter that; other clients tell nothing of the kind. Forbidden here: looking at
bodies, or names up.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from seawall.decide.route.refusal import Refusal
from seawall.gateway.edge.host import owned

ORIGIN: Final = b"origin"
SITE: Final = b"sec-fetch-site"
TOLD_BY_BROWSERS: Final = frozenset({ORIGIN, SITE})
_SAFE: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})
"""They change nothing here, and their answers are kept from other pages by the browser."""
_SIMPLE: Final = frozenset({b"", b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data"})
"""Kinds of bodies that a page may send anywhere (Fetch, "CORS-safelisted request-header"). With any other the browser
has asked first, and somebody has allowed it: we do, or a proxy in front of us."""
_OF_PAGES: Final = (b"http", b"https")
_PORTS: Final = {b"http": b":80", b"https": b":443"}
FOREIGN_PAGE: Final = Refusal(
    403,
    "foreign_origin",
    "A web page of another origin sent this, and there are no keys here. List its origin in gateway.allowedOrigins.",
)
FOREIGN_NAME: Final = Refusal(
    403,
    "foreign_host",
    "A web page that calls this machine by a name from the DNS sent this, and there are no keys here. List its origin "
    "in gateway.allowedOrigins.",
)


def from_elsewhere(headers: Mapping[bytes, bytes]) -> bool:
    """A browser says that the request comes from something of another origin: a page, or an extension."""
    site, origin = headers.get(SITE, b""), headers.get(ORIGIN, b"")
    if site in (b"same-origin", b"none"):
        return False
    if not origin:
        return site != b""
    scheme, _, authority = origin.partition(b"://")
    host = headers.get(b"host", b"").lower()
    return not authority or authority not in (host, host.removesuffix(_PORTS.get(scheme, b"")))


def strayed(
    method: bytes, headers: Mapping[bytes, bytes], allowed: Collection[str], local: bool
) -> Refusal | None:
    """Why a request without a key is not taken from the browser that sent it. `allowed`: origins of pages that may send
    any, `*` for all. `local`: only this machine can reach us, so that nobody's name in the DNS leads here by right, but
    through a proxy. Pages that one serves over TLS are vouched for by their browser."""
    origin = headers.get(ORIGIN, b"")
    if method in _SAFE or not (origin or SITE in headers):
        return None
    if "*" in allowed or origin.decode("latin-1") in allowed:
        return None
    if from_elsewhere(headers):
        page = origin in (b"", b"null") or origin.partition(b"://")[0] in _OF_PAGES
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        return FOREIGN_PAGE if kind in _SIMPLE or (page and local) else None
    if local and SITE not in headers and owned(headers.get(b"host", b"").decode("latin-1")):
        return FOREIGN_NAME
    return None

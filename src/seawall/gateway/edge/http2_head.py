"""What the head of an HTTP/2 request says: as strict as the other edge, measured as the same head would be there.

What is wrong with it is a fault of one stream (RFC 9113, 8.1.1): the library would end the connection, on which others
may be served. Forbidden here: frames, limits.
"""

from __future__ import annotations

import re
from typing import Final

from seawall.gateway.edge.caller import ONCE
from seawall.gateway.edge.request import Request

Fields = list[tuple[bytes, bytes]]
LENGTH: Final = b"content-length"
COOKIE: Final = b"cookie"
MOST_DIGITS: Final = 19
PSEUDO: Final = frozenset({b":method", b":scheme", b":authority", b":path"})
OF_A_CONNECTION: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
"""Headers that have no meaning here, and one behind an HTTP/1.1 proxy (8.2.2)."""
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE: Final = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_TARGET: Final = re.compile(rb"/[!-~]*|\*")
_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_AUTHORITY: Final = re.compile(rb"[!-?A-~]*")
"""Anything visible but `@`: no user is named in a request."""


class MalformedHead(Exception):
    """Why it is no request."""


def read_head(fields: Fields, request: Request, wanted: frozenset[bytes]) -> int:
    """Fills a request -> the size of its head, as HTTP/1.1 writes it. Raises MalformedHead; what came before it is
    filled."""
    pseudo: dict[bytes, bytes] = {}
    headers = request.headers
    size = len("  HTTP/1.1\r\n\r\n")
    ordinary = False
    host: bytes | None = None
    for name, value in fields:
        size += len(name) + len(value) + 4
        if not _VALUE.fullmatch(value):
            raise MalformedHead("a header's value has bytes that it may not have")
        if name[:1] == b":":
            if ordinary or name in pseudo or name not in PSEUDO:
                raise MalformedHead("a pseudo-header is unknown, stands twice, or behind a header")
            pseudo[name] = value
            continue
        ordinary = True
        if not _NAME.fullmatch(name):
            raise MalformedHead("a header's name has bytes that it may not have, or capitals")
        if name in OF_A_CONNECTION or (name == b"te" and value.lower() != b"trailers"):
            raise MalformedHead(f"the header {name.decode()} belongs to HTTP/1.1 connections")
        if name == b"host":
            if host is not None and host != value:
                raise MalformedHead("it names two hosts")
            host = value
        if name == LENGTH:
            value = _length(value)
        if name in wanted:
            if name in headers and name in ONCE:
                request.repeated = name
            if name == COOKIE and name in headers:  # it may come in crumbs (8.2.3)
                value = headers[name] + b"; " + value
            headers[name] = value
    _begin(request, pseudo, host)
    return size


def _begin(request: Request, pseudo: dict[bytes, bytes], host: bytes | None) -> None:
    """What HTTP/1.1 has in its first line, and in its Host."""
    method, target, authority = pseudo.get(b":method"), pseudo.get(b":path"), pseudo.get(b":authority")
    if target is not None and _TARGET.fullmatch(target):
        request.url = target
    if method is None or not _METHOD.fullmatch(method):
        raise MalformedHead("it has no method")
    request.method = method
    if authority is not None:
        if not _AUTHORITY.fullmatch(authority) or (host is not None and host != authority):
            raise MalformedHead("its authority is none, or not its host")
        request.headers[b"host"] = authority
    if method == b"CONNECT":
        if b":path" in pseudo or b":scheme" in pseudo or not authority:
            raise MalformedHead("CONNECT has an authority, and no path")
        return
    if pseudo.get(b":scheme") not in (b"http", b"https"):
        raise MalformedHead("its scheme is neither http nor https")
    if not request.url or (request.url == b"*" and method != b"OPTIONS"):
        raise MalformedHead("it has no path")


def _length(value: bytes) -> bytes:
    if not value.isdigit():
        raise MalformedHead("its content-length is no number")
    digits = value.lstrip(b"0") or b"0"
    if len(digits) > MOST_DIGITS:
        raise MalformedHead("its content-length is no length")
    return digits


def check_trailers(fields: Fields) -> None:
    """Raises MalformedHead. What they say is not used."""
    for name, value in fields:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value) or name in OF_A_CONNECTION:
            raise MalformedHead("its trailers are none")


def fields_of(lines: bytes) -> Fields:
    """Header lines as fields."""
    found: Fields = []
    for line in lines.split(b"\r\n"):
        name, colon, value = line.partition(b": ")
        if colon:
            found.append((name, value))
    return found

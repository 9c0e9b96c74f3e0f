"""The bytes of HTTP/1.1 answers: status lines, heads, OpenAI-shaped errors. No sockets, no decisions."""

from __future__ import annotations

import email.utils
from typing import Final

import msgspec

from seawall.decide.route.refusal import Refusal

REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    410: "Gone",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    499: "Client Closed Request",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    507: "Insufficient Storage",
}
STATUS = {code: f"HTTP/1.1 {code} {text}\r\n".encode() for code, text in REASONS.items()}
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
ANTHROPIC = {
    **TYPES,
    413: "request_too_large",
    500: "api_error",
    502: "api_error",
}
"""The names that Anthropic's clients know, as vLLM uses them on `/v1/messages`."""
LAST_CHUNK: Final = b"0\r\n\r\n"
JSON = b"application/json"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class DateHeader:
    """The `Date` header, made once per second by the sweep."""

    __slots__ = ("date",)

    def __init__(self) -> None:
        self.date = b""
        self.tick()

    def tick(self) -> None:
        self.date = b"date: " + email.utils.formatdate(usegmt=True).encode() + b"\r\n"


def status_line(status: int) -> bytes:
    return STATUS.get(status) or f"HTTP/1.1 {status} Unknown\r\n".encode()


def head(
    status: int,
    content_type: bytes,
    length: int | None,
    *,
    date: bytes,
    extra: bytes = b"",
    close: bool = False,
) -> bytes:
    """An answer's head. `length` None: chunked; negative: the end of the connection is the end."""
    framing = (
        b"transfer-encoding: chunked\r\n"
        if length is None
        else b"content-length: %d\r\n" % length
        if length >= 0
        else b""
    )
    return b"".join(
        (
            status_line(status),
            b"content-type: ",
            content_type,
            b"\r\n",
            framing,
            date,
            extra,
            b"connection: close\r\n\r\n" if close else b"\r\n",
        )
    )


def error_body(refusal: Refusal, messages: bool = False) -> bytes:
    """OpenAI's error shape. `messages`: with what Anthropic's adds to it, for clients of that API."""
    known = ANTHROPIC if messages else TYPES
    kind = known.get(refusal.status, "invalid_request_error" if refusal.status < 500 else "server_error")
    error = {"message": refusal.message, "type": kind, "param": refusal.param, "code": refusal.code}
    return msgspec.json.encode({"type": "error", "error": error} if messages else {"error": error})


def error_event(refusal: Refusal) -> bytes:
    """The same inside a stream that has begun. No `[DONE]` follows: the stream did not succeed."""
    return b"data: " + error_body(refusal) + b"\n\n"


SIZES: Final = tuple(b"%x\r\n" % n for n in range(4096))
"""Size lines of chunks: what an engine writes per token is always this small."""


def chunk(data: bytes, tail: bytes = b"") -> bytes:
    """One chunk of a chunked body: `data` and `tail`."""
    size = len(data) + len(tail)
    return b"%b%b%b\r\n" % (SIZES[size] if size < 4096 else b"%x\r\n" % size, data, tail)


def framed(size: int) -> int:
    """Bytes of a chunk whose data has so many."""
    return size + (len(SIZES[size]) if size < 4096 else len(b"%x\r\n" % size)) + 2


def _size_line(read: int) -> bytes:
    """How a read of `read` bytes begins if it is one whole chunk: its length leaves only one size possible."""
    for digits in (1, 2, 3):
        size = read - digits - 4
        if 0 < size < 4096 and len(SIZES[size]) == digits + 2:
            return SIZES[size]
    return b""


WHOLE: Final = tuple(map(_size_line, range(4096)))
"""By the length of a read: the size line that makes it exactly one chunk; empty where no chunk is so long."""

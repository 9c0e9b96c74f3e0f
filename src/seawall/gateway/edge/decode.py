"""Request bodies that come compressed, decoded as they come: never more is made of them than may be held, whatever they
claim. Forbidden here: decoding what is refused anyway, and windows larger than a client of HTTP may use (RFC 9659).
"""

from __future__ import annotations

import zlib
from contextlib import suppress
from importlib import import_module
from typing import Any, Final


def _zstd() -> Any:
    """The standard library's module (Python 3.14), or its backport; None: neither is here."""
    for name in ("compression.zstd", "backports.zstd"):
        with suppress(ImportError):
            return import_module(name)
    return None


zstd: Final = _zstd()
GZIP: Final = 31
"""zlib's word for a gzip member with the largest window, 32 KiB."""
ZSTD_WINDOW: Final = 23
"""Its logarithm: 8 MiB."""
KNOWN: Final = (b"gzip", b"zstd") if zstd is not None else (b"gzip",)
NAMES: Final = {b"gzip": b"gzip", b"x-gzip": b"gzip", b"zstd": b"zstd"}


class TooMuch(Exception):
    """It holds more than may be held."""


class Broken(Exception):
    """It is not what it claims to be."""


class BodyDecoder:
    """One compressed body. `feed` gives what its next bytes stand for."""

    __slots__ = ("_left", "_made")

    def __init__(self, encoding: bytes, most: int) -> None:
        """`most`: bytes of the decoded body."""
        self._left = most
        self._made: Any = (
            zlib.decompressobj(GZIP)
            if encoding == b"gzip"
            else zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW})
        )

    def feed(self, data: bytes) -> bytes:
        """Raises TooMuch, Broken."""
        made = self._made
        if made.eof:
            raise Broken
        try:
            out: bytes = made.decompress(data, self._left + 1)
        except Exception:  # zlib.error, zstd.ZstdError, EOFError: a body is broken in many ways
            raise Broken from None
        if len(out) > self._left:
            raise TooMuch
        if made.eof and made.unused_data:
            raise Broken  # a second member: nobody's clients send one, and a million empty ones cost time
        self._left -= len(out)
        return out

    @property
    def whole(self) -> bool:
        return bool(self._made.eof)


def decoder_for(encoding: bytes, most: int) -> BodyDecoder | None:
    """For a `Content-Encoding`; None: it is not understood here."""
    name = NAMES.get(encoding)
    return BodyDecoder(name, most) if name in KNOWN and name is not None else None

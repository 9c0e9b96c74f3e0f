"""How large a picture is, and how long a sound lasts, from the first bytes of its file. Nothing is decoded.

Forbidden here: believing a file. Every number is bounded, and what cannot be read is None.
"""

from __future__ import annotations

from struct import error, unpack_from

HEAD = 192 * 1024
"""Bytes of a file that are looked at: a JPEG's size may stand behind its colour profile and its thumbnail."""
MOST_PIXELS = 1 << 16
"""Of one side."""
MOST_S = 6 * 3600.0
_NO_SIZE = frozenset({0xC4, 0xC8, 0xCC})
"""JPEG markers between 0xC0 and 0xCF that carry no size."""
_MOST_SEGMENTS = 2_000
"""Steps through one file's head: an honest one has a few, its colour profile 255 at most."""
_MP3_KBIT = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MP3_LOW_KBIT = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
"""Bit rates of MPEG-1 and of MPEG-2 and 2.5, layer III (ISO 11172-3, ISO 13818-3)."""
_MP3_HERTZ = {0: 44_100, 1: 48_000, 2: 32_000}
"""Of MPEG-1; MPEG-2 has half of it, 2.5 a quarter."""
_OGG_RATE = 48_000
"""In which Opus counts, whatever it was recorded with (RFC 7845)."""
_MOST_CHUNKS = 100
SMALL_KBIT = 32
"""A second of speech in a modern codec (Opus, AAC), where the file does not say."""


def image_size(head: bytes) -> tuple[int, int] | None:
    """Width and height in pixels of a PNG, JPEG, WebP or GIF. None: it is none of these, or cut off."""
    try:
        if head.startswith(b"\x89PNG\r\n\x1a\n"):
            return _bounded(*unpack_from(">II", head, 4 + head.index(b"IHDR", 8, 64)))
        if head.startswith((b"GIF87a", b"GIF89a")):
            return _bounded(*unpack_from("<HH", head, 6))
        if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
            return _webp(head)
        if head.startswith(b"\xff\xd8"):
            return _jpeg(head)
    except (IndexError, ValueError, error):  # cut off
        return None
    return None


def _bounded(width: int, height: int) -> tuple[int, int] | None:
    if width < 1 or height < 1:
        return None
    return min(width, MOST_PIXELS), min(height, MOST_PIXELS)


def _webp(head: bytes) -> tuple[int, int] | None:
    kind = head[12:16]
    if kind == b"VP8X":
        return _bounded(1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little"))
    if kind == b"VP8L":
        bits = unpack_from("<I", head, 21)[0]
        return _bounded(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    if kind == b"VP8 ":
        width, height = unpack_from("<HH", head, 26)
        return _bounded(width & 0x3FFF, height & 0x3FFF)
    return None


def _jpeg(head: bytes) -> tuple[int, int] | None:
    at = 2
    for _ in range(_MOST_SEGMENTS):
        if at + 9 >= len(head) or head[at] != 0xFF:
            return None
        marker = head[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in _NO_SIZE:
            height, width = unpack_from(">HH", head, at + 5)
            return _bounded(width, height)
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        at += 2 + max(2, unpack_from(">H", head, at + 2)[0])
    return None


def audio_seconds(head: bytes, size: int) -> float | None:
    """How long a WAV, FLAC, MP3, AAC, Ogg, WebM or MP4 sound of `size` bytes lasts. None: it is none of these."""
    try:
        seconds = _seconds(head, size)
    except (IndexError, ValueError, error):  # cut off
        seconds = None
    return None if seconds is None else min(max(seconds, 0.0), MOST_S)


def _seconds(head: bytes, size: int) -> float | None:
    at = 0
    if head.startswith(b"ID3") and len(head) >= 10:  # of MP3 mostly, and before any other kind
        a, b, c, d = head[6:10]
        at = 10 + ((a & 127) << 21 | (b & 127) << 14 | (c & 127) << 7 | d & 127)
        if at + 4 > len(head):
            return max(0, size - at) * 8 / 128_000
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        return _wav(head, size)
    if head.startswith(b"fLaC", at):
        word = int.from_bytes(head[at + 18 : at + 26], "big")
        rate, samples = word >> 44, word & 0xF_FFFF_FFFF
        return samples / rate if rate and samples else size * 8 / 700_000
    speech = size * 8 / (SMALL_KBIT * 1000)
    if head.startswith(b"OggS"):
        return _ogg(head, size) or speech
    if head[4:8] == b"ftyp":
        return _mp4(head) or speech
    if head.startswith(b"\x1aE\xdf\xa3"):
        return speech
    return _mp3(head, at, size)


def _wav(head: bytes, size: int) -> float | None:
    at = 12
    for _ in range(_MOST_CHUNKS):  # others may stand before the form
        if head[at : at + 4] == b"fmt ":
            rate: int = unpack_from("<I", head, at + 16)[0]
            return size / rate if rate >= 1000 else None
        length: int = unpack_from("<I", head, at + 4)[0]
        at += 8 + length + length % 2
    return None


def _ogg(head: bytes, size: int) -> float:
    """By the last page that is there: what has been played at its end, and where in the file that is. 0: unknown."""
    rate, at, played, seen = 0, 0, 0, 0
    while head.startswith(b"OggS", at) and at + 27 < len(head):
        first = at + 27 + head[at + 26]
        end = first + sum(head[at + 27 : first])
        if not rate:
            rate = _OGG_RATE if head.startswith(b"OpusHead", first) else 0
            if head.startswith(b"\x01vorbis", first):
                rate = unpack_from("<I", head, first + 12)[0]
        granule: int = unpack_from("<q", head, at + 6)[0]
        if granule > played and end <= len(head):
            played, seen = granule, end
        at = end
    return played / rate * max(size, seen) / seen if rate and seen else 0.0


def _mp4(head: bytes) -> float:
    """By its movie header, where that stands at the beginning. 0: unknown."""
    at = head.find(b"mvhd")
    if at < 0:
        return 0.0
    scale, length = unpack_from(">IQ", head, at + 24) if head[at + 4] else unpack_from(">II", head, at + 16)
    return float(length / scale) if scale else 0.0


def _mp3(head: bytes, at: int, size: int) -> float | None:
    if len(head) < at + 4 or head[at] != 0xFF or head[at + 1] & 0xE0 != 0xE0:
        return None
    if head[at + 1] & 0xF6 == 0xF0:  # ADTS
        return max(0, size - at) * 8 / (2 * SMALL_KBIT * 1000)
    rate = head[at + 2] >> 4
    if not 1 <= rate <= 14:
        return None
    version = head[at + 1] >> 3 & 3
    one = version == 3  # MPEG-1; 2 is MPEG-2, 0 MPEG-2.5
    hertz = _MP3_HERTZ.get(head[at + 2] >> 2 & 3, 0) >> (0 if one else 1 if version == 2 else 2)
    # Where the bit rate varies an encoder leaves the number of frames in the first, behind what decoders read of it.
    for mark, where in ((b"Xing", 8), (b"Info", 8), (b"VBRI", 14)):
        tag = head.find(mark, at, at + 64)
        if tag >= 0 and hertz and (mark == b"VBRI" or head[tag + 7] & 1):
            frames: int = unpack_from(">I", head, tag + where)[0]
            if frames:
                return frames * (1152 if one else 576) / hertz
    table = _MP3_KBIT if one else _MP3_LOW_KBIT
    return max(0, size - at) * 8 / (table[rate - 1] * 1000)

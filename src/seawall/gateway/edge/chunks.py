"""Where a chunked body ends in what has been read. llhttp checks such bodies and does not tell; who does not know where
a request begins cannot measure its head. Forbidden here: judging, and keeping more of a body than half a line.
"""

from __future__ import annotations

from typing import Final

BEYOND: Final = 1 << 60
"""The body goes on behind what has been read."""
LONGEST: Final = 16 * 1024
"""A line of a chunk's size or of a trailer beyond this is refused before it matters here."""


_HEX: Final = frozenset(b"0123456789abcdefABCDEF")


class ChunkWalk:
    """One chunked body, read in any pieces."""

    __slots__ = ("_line", "_skip", "_trailers", "said")

    def __init__(self) -> None:
        self.said = 0
        """Bytes of the chunks that have begun, by what their lines say."""
        self._line = b""
        """What has come of a line that is not whole."""
        self._skip = 0
        """Bytes of the present chunk that are to come, with the end of its line."""
        self._trailers = False

    def end_in(self, data: bytes, at: int) -> int:
        """Reads on from `at` -> where the body ends in `data`, or BEYOND."""
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
                continue
            stop = data.find(b"\n", at) + 1
            if stop == 0:
                self._line = (self._line + data[at:])[:LONGEST]
                break
            line = (self._line + data[at:stop]).strip()
            self._line, at = b"", stop
            if self._trailers:
                if not line:
                    return at
                continue
            size = _size(line)
            self._trailers = size == 0
            self.said += size
            self._skip = size + 2 if size else 0
        return BEYOND


def _size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    return int(digits, 16) if len(digits) <= 15 and _HEX.issuperset(digits) and digits else BEYOND

"""Frames of HTTP/2 as they come in: one whole frame at a time, and how many of them may ask for nothing.

The library would take all that a read brought in one go, and tens of thousands of frames fit into a read. So they are
cut here, a few are passed on in each turn of the loop, and those that are work for nobody but us (pings, settings,
resets, empty data) draw on an account that fills up with time, and with every frame that we send of an answer.
Forbidden here: what a frame means to a stream.
"""

from __future__ import annotations

from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD: Final = 9
MAX_FRAME: Final = 16_384
"""SETTINGS_MAX_FRAME_SIZE, as every connection begins."""
DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
MOST_IDLE: Final = 1000
"""Frames that ask for nothing, at once."""
IDLE_PER_S: Final = 100
EARNED: Final = 2
"""Per frame of an answer: who takes it may say so for the stream and for the connection."""
SMALL: Final = 32
"""Bytes of a body below which a frame of it asks for nothing."""
RESET_COST: Final = 2
SETTINGS_COST: Final = 10
MOST_PIECES: Final = 16
"""Frames of one head."""


class TooManyFrames(Exception):
    """They ask for nothing."""


class TooLargeFrame(Exception):
    """It is larger than a frame may be."""


class NotHttp2(Exception):
    """The connection does not begin as one of HTTP/2 does, or a frame stands where none may."""


class FrameReader:
    """See the module. `next` gives a whole frame, and the fields say what it is."""

    __slots__ = ("_data", "_preface", "flags", "kind", "size", "stream")

    def __init__(self) -> None:
        self._data = bytearray()
        self._preface = True
        self.kind = -1
        self.flags = 0
        self.stream = 0
        self.size = 0
        """Bytes of its payload."""

    def feed(self, data: bytes) -> None:
        self._data += data

    @property
    def held(self) -> int:
        return len(self._data)

    @property
    def begun(self) -> int:
        """The kind of the frame that has not come whole; -1: not even that is known."""
        return self._data[3] if len(self._data) >= HEAD and not self._preface else -1

    @property
    def has_whole(self) -> bool:
        """`next` has something to say."""
        data = self._data
        if self._preface:
            return len(data) >= len(PREFACE) or not PREFACE.startswith(bytes(data))
        if len(data) < HEAD:
            return False
        size = data[0] << 16 | data[1] << 8 | data[2]
        return size > MAX_FRAME or len(data) >= HEAD + size

    def next(self) -> bytes:
        """The next whole frame, or what begins the connection; empty: it has not come. Raises TooLargeFrame,
        NotHttp2."""
        data = self._data
        if self._preface:
            if not PREFACE.startswith(bytes(data[: len(PREFACE)])):
                raise NotHttp2
            if len(data) < len(PREFACE):
                return b""
            del data[: len(PREFACE)]
            self._preface = False
            self.kind = -1
            return PREFACE
        if len(data) < HEAD:
            return b""
        size = data[0] << 16 | data[1] << 8 | data[2]
        if size > MAX_FRAME:
            raise TooLargeFrame
        end = HEAD + size
        if len(data) < end:
            return b""
        self.size = size
        self.kind = data[3]
        self.flags = data[4]
        self.stream = (data[5] & 0x7F) << 24 | data[6] << 16 | data[7] << 8 | data[8]
        frame = bytes(data[:end])
        del data[:end]
        return frame

    def payload(self, frame: bytes) -> int:
        """Bytes of a DATA frame without its padding."""
        if not self.flags & PADDED:
            return self.size
        return self.size - 1 - frame[HEAD] if self.size else 0


class FrameAccount:
    """What one connection may send that asks for nothing."""

    __slots__ = ("_left", "_since")

    def __init__(self, now: float) -> None:
        self._left = float(MOST_IDLE)
        self._since = now

    def spend(self, cost: int, now: float) -> None:
        """Raises TooManyFrames."""
        if self._left < cost:
            self._left = min(float(MOST_IDLE), self._left + (now - self._since) * IDLE_PER_S)
            self._since = now
            if self._left < cost:
                raise TooManyFrames
        self._left -= cost

    def earn(self) -> None:
        """A frame of an answer went out."""
        if self._left < MOST_IDLE:
            self._left += EARNED


def cost_of(kind: int, flags: int, size: int, payload: int) -> int:
    """Of one frame, on its connection's account. `payload`: its size without padding."""
    if kind == DATA:
        return 1 if payload < SMALL and not flags & END_STREAM else 0
    if kind in (HEADERS, CONTINUATION):
        return 0  # bounded by the size of a head, and by the number of streams
    if kind == RST_STREAM:
        return RESET_COST
    if kind == SETTINGS:
        return SETTINGS_COST + size // 60
    return 1

"""Server-sent events, cut out of a byte stream: sans-IO, strict, bounded.

The gateway has to see whole events (to judge whether a stream ended well, to hide what it added to a
request), while the network delivers any split of them. Any split of the same bytes gives the same events.
Forbidden here: knowing what an event means; that is `resume`'s.

Grammar: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream. An event
ends with an empty line; lines end with LF, CRLF or CR. Events are returned with their own bytes, so that
passing them on is exact.
"""

from __future__ import annotations

import re

MAX_EVENT_BYTES = 32 * 2**20
"""A prompt of a million tokens is echoed in one event of about 7 MB; more than this is hostile."""

_EMPTY_LINE = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")


class EventTooLarge(ValueError):
    """One event is larger than the bound: the peer is broken or hostile."""


class EventSplitter:
    """Bytes in, whole events out. Holds at most `limit` bytes of an unfinished event."""

    __slots__ = ("_held", "_returns", "_scanned", "limit")

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self.limit = limit
        self._held = bytearray()
        self._scanned = 0
        self._returns = False
        """A CR has come: lines may end with it."""

    @property
    def held(self) -> int:
        """Bytes of an event that has not ended yet."""
        return len(self._held)

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes, each with its terminator. Raises EventTooLarge."""
        held = self._held
        if (
            not held
            and data.endswith(b"\n\n")
            and (data.find(b"\n") == len(data) - 2 or data.find(b"\n\n") == len(data) - 2)
            and data.find(b"\r") < 0
        ):
            return [data]  # it is one event, as an engine writes them
        held += data
        self._returns = self._returns or b"\r" in data
        if not self._returns:
            events = self._split_lf(held)
        else:
            events = self._split_any(held)
        if len(held) > self.limit:
            size = len(held)
            self.clear()
            raise EventTooLarge(f"an event of more than {self.limit} bytes ({size} so far)")
        return events

    def clear(self) -> None:
        """Forget the unfinished event: its stream is broken."""
        self._held = bytearray()
        self._scanned = 0
        self._returns = False

    def _split_lf(self, held: bytearray) -> list[bytes]:
        events: list[bytes] = []
        begin = 0
        end = held.find(b"\n\n", self._scanned)
        while end >= 0:
            events.append(bytes(held[begin : end + 2]))
            begin = end + 2
            end = held.find(b"\n\n", begin)
        if begin:
            del held[:begin]
        self._scanned = max(0, len(held) - 1)
        return events

    def _split_any(self, held: bytearray) -> list[bytes]:
        """The general grammar. A CR at the very end may be half of a CRLF: it waits for the next byte."""
        events: list[bytes] = []
        begin = 0
        usable = len(held) - 1 if held.endswith(b"\r") else len(held)
        for match in _EMPTY_LINE.finditer(held, max(0, self._scanned - 3), usable):
            events.append(bytes(held[begin : match.end()]))
            begin = match.end()
        if begin:
            del held[:begin]
        self._scanned = max(0, len(held) - 1)
        return events


def data_of(event: bytes) -> bytes | None:
    """The `data` of one event (its lines joined with LF), or None for a comment or an event without data."""
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2:
        return event[6:-2]
    lines: list[bytes] = []
    for line in event.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
        if line.startswith(b"data:"):
            lines.append(line[6:] if line.startswith(b"data: ") else line[5:])
    return b"\n".join(lines) if lines else None


def name_of(event: bytes) -> bytes:
    """The `event:` field of one event, or b'' (which means `message`)."""
    if event.startswith(b"event:"):
        return event[6:].partition(b"\n")[0].strip()
    return b""

"""The seam where `decide/route/resume` plugs in: one object per request that sees every body byte.

A session says what to send upstream, turns upstream bytes into client bytes, and on a break says how to go
on. `PlainSession` passes bytes through and cannot resume: it serves every route that has no resume, and all
of them when the fleet says `resume: off`. Sans-IO: no clock, no socket.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import msgspec

from seawall.gateway.wire import Refusal, error_event


class Usage(msgspec.Struct, gc=False):
    """Tokens as the engine counted them (or, lacking that, as data events were counted)."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class _WithUsage(msgspec.Struct, gc=False):
    usage: Usage | None = None


@dataclass(frozen=True)
class Again:
    """Go on with this request on another replica."""

    path: str
    body: bytes


@dataclass(frozen=True)
class Over:
    """It cannot be continued: the last bytes for the client (an error event; never `[DONE]`)."""

    event: bytes


class Session(Protocol):
    """What the relay needs of a session."""

    failed: str | None
    """Set by `feed` when the engine said inside the stream that it died; the relay then calls `broken`."""

    @property
    def done(self) -> bool: ...

    @property
    def usage(self) -> Usage | None: ...

    def first_request(self) -> bytes: ...

    def feed(self, data: bytes) -> bytes: ...

    def broken(self, reason: str, now: float) -> Again | Over: ...


_usage = msgspec.json.Decoder(_WithUsage)


def usage_in(answer: bytes) -> Usage | None:
    """`usage` of a whole JSON answer; None when it has none or is not JSON."""
    try:
        return _usage.decode(answer).usage
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


class PlainSession:
    """Bytes through, unchanged. Counts data events, reads the last usage, notices an engine's death."""

    __slots__ = ("_body", "_events", "_tail", "_usage", "failed")

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._tail = b""
        self._events = 0
        self._usage: Usage | None = None
        self.failed: str | None = None

    @property
    def done(self) -> bool:
        """A clean end is the only sign that a plain session has."""
        return self.failed is None

    @property
    def usage(self) -> Usage | None:
        return self._usage or (Usage(0, self._events) if self._events else None)

    def first_request(self) -> bytes:
        return self._body

    def feed(self, data: bytes) -> bytes:
        self._events += data.count(b"data: {")
        window = self._tail + data
        self._tail = window[-24:]
        if b'data: {"error"' in window:
            self.failed = "the engine sent an error event"
            return data[: max(0, data.find(b'data: {"error"'))]
        if b'"finish_reason":"abort"' in window:
            self.failed = "the engine aborted the request"
            return b""
        if b'"usage":{' in window:
            at = data.rfind(b"data: {", 0, data.rfind(b'"usage":{') + 1)
            if at >= 0:
                self._usage = usage_in(data[at + 6 : data.find(b"\n", at) % (len(data) + 1)]) or self._usage
        return data

    def broken(self, reason: str, now: float) -> Again | Over:
        return Over(
            error_event(
                Refusal(502, "upstream_lost", f"The replica failed in mid-stream ({reason}). Send it again.")
            )
        )

"""Where an answer goes: to a client over HTTP/1.1, or into anything else that has these methods (a record, a file).

Who fills it sees no HTTP, and who is a sink sees no replicas. Exactly one of three things happens to it: `whole`; or
`start`, any number of `write`, and `end`; or `fail` at any time before. Then `done`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from seawall.decide.route.refusal import Refusal

EVENT_STREAM: Final = b"text/event-stream; charset=utf-8"


class Sink(Protocol):
    """See the module."""

    @property
    def full(self) -> bool:
        """It takes what it is given, and would rather not have more now: `Source.resume` follows."""

    @property
    def chunks(self) -> Callable[[bytes], None] | None:
        """What takes whole HTTP chunks of the running answer; None: nothing does, use `write`."""

    def start(self, status: int, content_type: bytes, data: bytes) -> None:
        """Begins an answer of unknown length with its first bytes, if any."""

    def write(self, data: bytes) -> None: ...

    def comment(self) -> None:
        """A sign of life between two events of a stream, which is no content; nothing where it has no place."""

    def end(self, data: bytes) -> None:
        """The last bytes, if any, and a proper end."""

    def whole(self, status: int, content_type: bytes, body: bytes) -> None: ...

    def fail(self, refusal: Refusal, event: bytes) -> None:
        """It is not answered whole. Nothing was started: the refusal is the answer. Else `event`, if any, and an end
        that nobody takes for a proper one."""

    def done(self) -> None:
        """The source has let go of it."""


class Source(Protocol):
    """Who fills a sink."""

    @property
    def replica(self) -> str:
        """Where the answer comes from; empty: from nowhere yet."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def client_gone(self) -> None:
        """Nobody takes the answer any more. `done` follows."""

"""A sink that takes a stream and gives a client one whole answer (decide/route/whole.py): it is watched and resumed as
any stream, and its client sees nothing of that. Whoever writes to it may get `whole.Unfit`: nothing has reached the
client yet, and `plain` takes the answer that the engine gives to the request as it is."""

from __future__ import annotations

from collections.abc import Callable

from seawall.decide.route.refusal import Refusal
from seawall.decide.route.whole import Whole
from seawall.gateway.edge.sink import EVENT_STREAM, Sink

JSON = b"application/json"


class WholeSink:
    """See the module. What is no stream goes straight on."""

    __slots__ = ("_sink", "_streams", "_whole", "body")

    def __init__(self, sink: Sink, whole: Whole, body: bytes) -> None:
        """`body`: asks for the same answer, not as a stream."""
        self._sink = sink
        self.body = body
        self._whole = whole
        self._streams = False

    @property
    def held(self) -> int:
        """Bytes of the answer so far, about."""
        return self._whole.held

    @property
    def plain(self) -> Sink:
        """The client itself."""
        return self._sink

    @property
    def full(self) -> bool:
        return self._sink.full

    @property
    def chunks(self) -> Callable[[bytes], None] | None:
        return None if self._streams else self._sink.chunks

    def start(self, status: int, content_type: bytes, data: bytes) -> None:
        self._streams = content_type is EVENT_STREAM
        if not self._streams:
            self._sink.start(status, content_type, data)
        elif data:
            self._whole.feed(data)

    def write(self, data: bytes) -> None:
        if self._streams:
            self._whole.feed(data)
        else:
            self._sink.write(data)

    def comment(self) -> None:
        """A whole answer has no place for it."""

    def end(self, data: bytes) -> None:
        if self._streams:
            self._whole.feed(data)
            self._sink.whole(200, JSON, self._whole.answer())
        else:
            self._sink.end(data)

    def whole(self, status: int, content_type: bytes, body: bytes) -> None:
        self._sink.whole(status, content_type, body)

    def fail(self, refusal: Refusal, event: bytes) -> None:
        self._sink.fail(refusal, b"" if self._streams else event)

    def done(self) -> None:
        self._sink.done()

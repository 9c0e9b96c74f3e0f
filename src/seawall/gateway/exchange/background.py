"""A sink that makes of an engine's answer the record of a response that runs in the background: it is there before an
engine says anything, its failure is an event and a status, and its end is always a proper one."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from seawall.decide.route import response as responses
from seawall.decide.route import sse
from seawall.decide.route.record import AnswerRecord, RecordState
from seawall.decide.route.refusal import Refusal
from seawall.gateway.edge.sink import EVENT_STREAM
from seawall.gateway.exchange.keeping import Keeping


class InBackground:
    """See the module. `open` once it is admitted."""

    __slots__ = ("_cut", "_keeping", "_parts")

    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping
        self._cut: sse.EventSplitter | None = None
        self._parts: list[bytes] = []

    @property
    def record(self) -> AnswerRecord:
        """What it fills."""
        return self._keeping.record

    def open(self) -> None:
        """The response is accepted: it can be found, and read."""
        opening = msgspec.json.decode(self._keeping.record.opening)
        self._keeping.start(200, EVENT_STREAM, responses.event_of("response.created", 0, opening))
        self._keeping.write(responses.event_of("response.queued", 1, opening))

    # -- Sink

    @property
    def full(self) -> bool:
        return self._keeping.full

    @property
    def chunks(self) -> Callable[[bytes], None] | None:
        return None

    def start(self, status: int, content_type: bytes, data: bytes) -> None:
        if content_type is EVENT_STREAM:
            self._cut = sse.EventSplitter()
        if data:
            self.write(data)

    def write(self, data: bytes) -> None:
        if self._cut is None:
            self._parts.append(data)
            return
        for event in self._cut.feed(data):
            ours = responses.renumbered(event, self._keeping.count)
            if ours:
                self._keeping.write(ours)

    def comment(self) -> None:
        self._keeping.comment()

    def end(self, data: bytes) -> None:
        if data:
            self.write(data)
        if self._cut is None:
            self.whole(200, b"application/json", b"".join(self._parts))
        else:
            self._keeping.end(b"")

    def whole(self, status: int, content_type: bytes, body: bytes) -> None:
        if status != 200:
            self.fail(responses.refused(status, body), b"")
            return
        try:
            self._keeping.end(responses.ending(body, self._keeping.count))
        except ValueError:
            self.fail(responses.refused(502, body), b"")

    def fail(self, refusal: Refusal, event: bytes) -> None:
        record = self._keeping.record
        words = b""
        if record.status:  # it is open
            response = responses.failed(record.opening, refusal)
            words = responses.event_of("response.failed", self._keeping.count, response)
        self._keeping.fail(refusal, words)

    def done(self) -> None:
        record = self._keeping.record
        if record.state is RecordState.RUNNING:
            response = responses.cancelled(record.opening)
            self._keeping.cancelled(responses.event_of("response.cancelled", self._keeping.count, response))
        self._keeping.done()

"""A client that reads a record: from its own position, at its own pace, while it grows and afterwards.

It is the source of its client's answer, as an exchange is for others. Its client may leave; the record stays.
"""

from __future__ import annotations

from typing import Final

from seawall.decide.route.record import AnswerRecord, RecordState
from seawall.decide.route.refusal import Refusal
from seawall.gateway.edge.sink import EVENT_STREAM, Sink

BATCH: Final = 32 * 1024
"""So many bytes are written before it is looked whether the client takes them."""
GONE: Final = Refusal(499, "cancelled", "The request was cancelled.")


class Reader:
    """See the module. A `Source` and a `record.Follower`."""

    __slots__ = ("_at_work", "_begun", "_numbers", "_over", "_record", "_sink", "position")

    def __init__(self, record: AnswerRecord, sink: Sink, position: int = 0, numbers: bool = False) -> None:
        """`numbers`: events carry their position as `id:`."""
        self._record = record
        self._sink = sink
        self._numbers = numbers
        self._begun = self._over = self._at_work = False
        self.position = position

    def begin(self) -> None:
        self._record.follow(self)
        self.more()

    # -- Follower

    def more(self) -> None:
        if self._at_work or self._over:
            return
        self._at_work = True
        if self._begin():
            self._pass_on()
        self._at_work = False
        if not self._over and self._record.state is not RecordState.RUNNING:
            self._end()

    def waiting(self) -> None:
        if self._begun and self.position == self._record.count:
            self._sink.comment()

    # -- Source

    @property
    def replica(self) -> str:
        return self._record.replica

    def pause(self) -> None:
        """Its client reads slowly: `more` sees it."""

    def resume(self) -> None:
        self.more()

    def client_gone(self) -> None:
        self._over = True
        self._record.leave(self)

    # -- the answer

    def _begin(self) -> bool:
        """False: there is nothing to write yet, or not piece by piece."""
        record = self._record
        if record.status == 0 or record.whole:
            return False
        if not self._begun:
            self._begun = True
            kind = EVENT_STREAM if record.content_type == EVENT_STREAM else record.content_type
            self._sink.start(record.status, kind, b"")
        return True

    def _pass_on(self) -> None:
        record, sink = self._record, self._sink
        while not sink.full and self.position < record.count:
            pieces = record.read(self.position, BATCH)
            data = b"".join(pieces)
            if self._numbers and record.content_type == EVENT_STREAM:
                data = b"".join([b"id: %d\n%b" % (self.position + i, p) for i, p in enumerate(pieces)])
            self.position += len(pieces)
            sink.write(data)
            record.took()

    def _end(self) -> None:
        record, sink = self._record, self._sink
        if not record.whole and self._begun and self.position < record.count:
            return  # its client is slow
        self._over = True
        if record.whole:
            sink.whole(record.status, record.content_type, b"".join(record.read(0, 1 << 62)))
        elif record.state is RecordState.WHOLE:
            sink.end(b"")
        else:
            words = record.last_words if self.position <= record.count else b""
            if words and self._numbers:
                words = b"id: %d\n%b" % (record.count, words)
            if words and record.background:
                sink.end(words)  # a status among others: the stream itself is whole
            else:
                sink.fail(record.refusal or GONE, words)
        sink.done()
        record.leave(self)

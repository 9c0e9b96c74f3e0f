"""A sink that keeps an answer in a record, for clients that come and go: the exchange fills it, readers read it.

The exchange goes on when the last client has left. Memory is bounded by the record's store: when there is no room, what
all readers have is let go and the exchange is paused for the slowest of them; when nobody reads, the answer ends there.
Forbidden here: what an answer says, and who may read it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from seawall.decide.route import sse
from seawall.decide.route.record import AnswerRecord, RecordState, RecordStore
from seawall.decide.route.refusal import Refusal
from seawall.decide.route.resume import StreamSession
from seawall.decide.route.resume.tape import FRESH
from seawall.gateway.edge.sink import EVENT_STREAM, Source

FULL: Final = Refusal(
    507,
    "record_full",
    "The answer is longer than the gateway keeps for a client that has left (gateway.keepMemory). "
    "Ask for fewer tokens, or stay connected.",
)


class KeptSource(Source, Protocol):
    """The exchange, as its record knows it."""

    def give_up(self, refusal: Refusal) -> None:
        """It is not answered any further, for this reason."""


class Keeping:
    """See the module. A `Sink` and a `record.Filler`."""

    __slots__ = ("_at_work", "_behind", "_cut", "_records", "_spare", "full", "record", "source")

    def __init__(self, record: AnswerRecord, records: RecordStore, behind: int = 0) -> None:
        """`behind`: so many pieces of it are in the record, for another process has been at work on it."""
        self.record = record
        self.full = False
        self.source: KeptSource | None = None
        """Who fills it; set before it begins."""
        self._records = records
        self._cut: sse.EventSplitter | None = None
        self._spare: deque[bytes] = deque()
        """Pieces that there was no room for."""
        self._at_work = False
        self._behind = behind
        records.fill(record, self)

    @property
    def count(self) -> int:
        """Pieces so far, with those that wait for room."""
        return self.record.made + len(self._spare) - self._behind

    # -- Sink

    @property
    def chunks(self) -> Callable[[bytes], None] | None:
        return None

    def start(self, status: int, content_type: bytes, data: bytes) -> None:
        if content_type is EVENT_STREAM:
            self._cut = sse.EventSplitter()
        self._note_replica()
        self.record.begin(status, content_type)
        if data:
            self.write(data)

    def write(self, data: bytes) -> None:
        if self._cut is None:
            self._add(data)
            return
        for event in self._cut.feed(data):
            if event.startswith(b":") and sse.data_of(event) is None:
                self.record.tell_waiting()
            else:
                self._add(event)

    def comment(self) -> None:
        self.record.tell_waiting()

    def end(self, data: bytes) -> None:
        if data:
            self.write(data)
        self._ended(RecordState.WHOLE)

    def whole(self, status: int, content_type: bytes, body: bytes) -> None:
        record = self.record
        self._note_replica()
        if status != 200:
            self._records.unlink(record)  # who asks again is answered again
        if not record.append(body):
            if not record.followed:
                record.end(RecordState.OVERFLOWED, FULL)
                return
            self._records.unlink(record)  # they get it, and nobody later
            record.append(body, anyway=True)
        record.begin(status, content_type, whole=True)
        record.end(RecordState.WHOLE)

    def fail(self, refusal: Refusal, event: bytes) -> None:
        over = refusal is FULL
        if not over:
            self._records.unlink(self.record)
        self._ended(RecordState.OVERFLOWED if over else RecordState.FAILED, refusal, event)

    def cancelled(self, event: bytes) -> None:
        """It was, and says so in its last event."""
        self._ended(RecordState.CANCELLED, None, event)

    def done(self) -> None:
        self._ended(RecordState.CANCELLED)
        self.source = None

    # -- record.Filler

    def taped(self, session: StreamSession | None) -> None:
        """From now on what the session of its stream is told is told to the record, too."""
        tape = self.record.tape
        if tape is not None and session is not None:
            tape.add(FRESH, b"%d" % session.seed)
            session.tape = tape

    def moved(self) -> None:
        if self._spare:
            self._make_room()

    def cancel(self) -> None:
        if self.source is not None:
            self.source.client_gone()

    def _note_replica(self) -> None:
        if self.source is not None:
            self.record.replica = self.source.replica

    # -- room

    def _add(self, piece: bytes) -> None:
        if self._behind:
            self._behind -= 1
            return
        if self._spare or not self.record.append(piece):
            self._spare.append(piece)
            self._make_room()

    def _make_room(self) -> None:
        if self._at_work:
            return  # a follower reads on as it is told of a piece
        self._at_work = True
        record, spare = self.record, self._spare
        while spare:
            record.let_go()
            read = record.followed and record.first == record.count
            if not record.append(spare[0], anyway=read):
                break
            spare.popleft()
        self._at_work = False
        if not spare:
            if self.full:
                self.full = False
                if self.source is not None:
                    self.source.resume()
        elif not record.followed:
            spare.clear()
            if self.source is not None:
                self.source.give_up(FULL)
        elif not self.full:
            self.full = True
            if self.source is not None:
                self.source.pause()

    def _ended(self, state: RecordState, refusal: Refusal | None = None, event: bytes = b"") -> None:
        """What readers have not made room for is theirs all the same: nothing more follows."""
        self._note_replica()
        while self._spare:
            self.record.append(self._spare.popleft(), anyway=True)
        self.record.end(state, refusal, event)

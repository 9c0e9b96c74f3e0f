"""One client's stream over as many replicas as it takes: bytes in, bytes out, decisions as values.

    session = StreamSession("/v1/chat/completions", body, policy, rng)
    send(replica, session.route, session.first_request())
    for data in replica:                    client.write(session.feed(data))
                                            if session.failed: stop reading this replica
    on EOF, reset, stall, session.failed:   session.broken(reason, now) -> Retry | Finish | GiveUp
    when session.done:                      the stream has ended; session.finish_ok says how

`[DONE]` is believed only after every choice had a finish_reason other than abort, and no error event: a
dying vLLM sends an error event and `[DONE]`, or a bare `[DONE]`. Forbidden here: I/O, clocks, global rng.
Per chunk, while nothing is wrong, `feed` compares a prefix and a suffix and appends a few bytes: no JSON.
"""

from __future__ import annotations

from random import Random
from typing import Final

from seawall.decide.route import sse
from seawall.decide.route.members import Members
from seawall.decide.route.resume import events, request
from seawall.decide.route.resume.onward import Onward
from seawall.decide.route.resume.policy import Breaks, Decision, Finish, GiveUp, Policy, Retry, Usage
from seawall.decide.route.resume.recording import UNFORMED, WITH_IDS, Passing, Recording
from seawall.decide.route.resume.replay import Replay
from seawall.decide.route.resume.stream import Stream
from seawall.decide.route.resume.tape import BROKE, FED, LINE, RELAYED, Tape, broke, read_broke
from seawall.decide.route.resume.typed import Typed
from seawall.decide.route.resume.ways import BodyFields, way_of
from seawall.decide.truth.sick import sick_ids, sick_text

_CHAT_IDS: Final = b'"},"logprobs":null,"finish_reason":null,"token_ids":['
_TEXT_IDS: Final = (
    b'","logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,"token_ids":['
)
_END: Final = b"]}]}\n\n"
"""How an ordinary chunk of one choice ends behind its token ids."""
_LF: Final = 0x0A
_QUOTE: Final = 0x22
_ZERO: Final = 0x30
_NINE: Final = 0x39
"""Bytes as numbers: `bytes in bytes` first tries its left side as a number, and makes an exception to drop it."""
_HIDDEN_END: Final = b"null}]}\n\n"
_LARGE_EVENT: Final = 256 * 1024
_MOST_VALUES: Final = 400_000
"""Commas in an event: what is made of them holds up the loop for 20 ms."""
_STRANGE: Final = "an event in an unknown form"


class StreamSession:
    """Relays one streamed request and knows how to go on when its replica is lost. See the module."""

    __slots__ = (
        "_breaks",
        "_ended",
        "_first",
        "_head",
        "_head_len",
        "_hides_usage",
        "_log",
        "_mark",
        "_mark_len",
        "_opening",
        "_ordinary",
        "_partial",
        "_plain_end",
        "_recording",
        "_records_ids",
        "_shows_ids",
        "_splitter",
        "_stream",
        "line",
        "policy",
        "resumes",
        "row",
        "seed",
        "tail",
        "tape",
    )

    def __init__(
        self, route: str, body: bytes, policy: Policy, rng: Random, members: Members | None = None
    ) -> None:
        """`body`: the client's JSON, with `stream: true`. Raises msgspec.DecodeError if it is not an object. `members`:
        of a large body, which has been read."""
        ask = BodyFields(route, body, policy, members)
        self.policy = policy
        self.row = way_of(ask)
        """The line of the table that decides how this stream is resumed."""
        self.resumes = 0
        """Attempts that took over from a lost replica after the client had seen something."""
        self._ended = False
        self._breaks = Breaks(policy)
        self._splitter = sse.EventSplitter()
        self._records_ids = request.records_ids(ask, self.row)
        self._hides_usage = request.hides_usage(ask, self.row)
        self.tape: Tape | None = None
        """Takes what this session is told from now on."""
        self.line = b""
        """The last ordinary chunk, in the shortest form that this session can be told it in."""
        self.seed = rng.getrandbits(48)
        self._first = request.first_body(ask, self.row, self.seed)
        self._begin(ask)

    # -- requests ---------------------------------------------------------------------------------

    def first_request(self) -> bytes:
        """The body to send to the first replica, and again wherever nothing has reached the client yet."""
        return self._first

    @property
    def route(self) -> str:
        return self._stream.ask.route

    def reseed(self, seed: int) -> None:
        """Takes the place of another session of the same request, which had this seed. Before anything is fed."""
        self.seed = seed
        self._first = request.first_body(self._stream.ask, self.row, seed)
        self._begin(self._stream.ask)

    def _begin(self, ask: BodyFields) -> None:
        """A first attempt: nothing has reached the client."""
        self._stream = Stream(ask, self.policy)
        self._adopt(self._new_recording())
        self._partial = False
        self._opening = b""
        self._head = b""
        self._head_len = 0
        self._shows_ids = ask.wants_ids
        chat = ask.kind == "chat"
        self._mark = _CHAT_IDS if chat else _TEXT_IDS
        self._mark_len = len(self._mark)
        self._plain_end = self._mark[:-1] + _HIDDEN_END
        self.tail = b""
        """What follows, for the client, the part of a chunk that `ordinary` tells."""

    def _new_recording(self) -> Recording:
        stream, first = self._stream, self._first
        if self._records_ids:
            return Onward(stream, first)
        records = self.row.way == "replay" and self.policy.mode != "off"
        match stream.ask.kind:
            case "chat" | "completions":
                return Replay(stream, first, records=records, hides_usage=self._hides_usage, hides_ids=False)
            case "messages" | "responses":
                return Typed(stream, first, records=records)
            case "other":
                return Passing(stream)

    def _adopt(self, recording: Recording) -> None:
        """From here on `recording` has the stream; no chunk is ordinary before one was seen."""
        self._recording = recording
        self._log = recording.log
        self._ordinary: int = UNFORMED

    # -- the stream -------------------------------------------------------------------------------

    def ordinary(self, data: bytes) -> int:
        """Length of the prefix of `data` to forward, with `tail` behind it, where `data` is one ordinary text chunk,
        recognised without decoding it. 0: it is not ordinary, use `feed`.

        It begins with the head that all chunks of choice 0 share and ends with `"token_ids":[...]}]}`; between them
        lies the inside of a JSON string, without a newline or a quote that ends it."""
        kind = self._ordinary
        if not kind or self._partial or not data.startswith(self._head):
            return 0
        begin = self._head_len
        if kind == WITH_IDS:
            log = self._log
            if log is None or not data.endswith(_END):
                return 0
            last = ids = len(data) - len(_END)
            while _ZERO <= data[ids - 1] <= _NINE:
                ids -= 1
            end = ids - self._mark_len
            if ids == last or end < begin or data[end:ids] != self._mark:
                return 0
            text = data[begin:end]
            if _LF in text or (_QUOTE in text and not events.inside(text)):
                return 0
            self.line = line = b"%b\n%b\n" % (text, data[ids:last])
            log.add_line(line)
            return len(data) if self._shows_ids else ids - 1
        if data.endswith(self._plain_end):
            end = len(data) - len(self._plain_end)
            if end < begin:  # they lie over each other; compiled, such a slice is an error
                return 0
            text = data[begin:end]
            if _LF not in text and (_QUOTE not in text or events.inside(text)):
                self.line = text
                self._recording.add_raw(text)
                return len(data)
        return 0

    def relive(self, kind: int, data: bytes) -> bytes:
        """One entry of another session's tape (`tape`) -> bytes for the client, which may have them."""
        if kind == FED:
            return self.feed(data)
        if kind in (LINE, RELAYED):
            return self._again(data)
        if kind == BROKE:
            reason, now, full, counts = read_broke(data)
            decision = self.broken(reason, now, full=full, counts=counts)
            return decision.event if isinstance(decision, Finish) else b""
        return b""

    def _again(self, line: bytes) -> bytes:
        """The ordinary chunk that is told by `line`."""
        self.told_again(line)
        return self.written_as(line)

    def told_again(self, line: bytes) -> int:
        """Takes an ordinary chunk from another session's tape -> how many bytes it is for the client (`written_as`)."""
        log = self._log
        if log is None:
            self._recording.add_raw(line)
            return self._head_len + len(line) + len(self._plain_end)
        log.add_line(line)
        text = line.find(b"\n")
        if self._shows_ids:
            return self._head_len + len(line) - 2 + self._mark_len + len(_END)
        return self._head_len + text + len(self._plain_end)

    def written_as(self, line: bytes) -> bytes:
        """An ordinary chunk as the client gets it."""
        if self._log is None:
            return self._head + line + self._plain_end
        text, _, token = line[:-1].partition(b"\n")
        if self._shows_ids:
            return self._head + text + self._mark + token + _END
        return self._head + text + self._plain_end

    def feed(self, data: bytes) -> bytes:
        """Bytes from the replica -> bytes for the client. Look at `done` and `failed` afterwards."""
        tape = self.tape
        known = self.ordinary(data)
        if known:
            if tape is not None:
                tape.add(LINE, self.line)
            return data[:known] + self.tail
        if tape is not None:
            tape.add(FED, data)
        if self._ended or self._stream.failed:
            return b""
        try:
            whole = self._splitter.feed(data)
        except sse.EventTooLarge as error:
            self._stream.failed = str(error)
            return b""
        self._partial = self._splitter.held > 0
        if len(whole) == 1:
            return self._event(whole[0])
        return b"".join([self._event(event) for event in whole])

    def _event(self, event: bytes) -> bytes:
        stream = self._stream
        if self._ended or stream.failed:
            return b""
        hidden, prompt = events.cut_prompt_ids(event)
        if len(hidden) > _LARGE_EVENT and hidden.count(b",") > _MOST_VALUES:
            stream.failed = "an event of too many values"
            return b""
        payload = sse.data_of(hidden)
        if payload is None:
            return event
        if payload == b"[DONE]":
            return self._on_done(event)
        recording = self._recording
        try:
            out, opens = recording.take(event, hidden, prompt or b"", payload)
        except events.UNKNOWN_FORM:
            stream.failed = _STRANGE
            return b""
        if recording.successor is not None:
            self._adopt(recording.successor)
        if not self._ordinary and stream.attempt == 0:
            self._learn(event)
        return self._send(out, opens)

    def _send(self, out: bytes, opens: bool) -> bytes:
        """What opens a stream (the role) waits for the first token, with which the engine writes it.

        So a stream that breaks before its first token has not begun for the client.
        """
        stream = self._stream
        if stream.sent or not out:
            return out
        if opens:
            self._opening += out
            return b""
        stream.sent = True
        opening, self._opening = self._opening, b""
        return opening + out

    def _learn(self, event: bytes) -> None:
        """After a first ordinary chunk: the head that all further ones begin with."""
        form = self._recording.ordinary_form
        if form == UNFORMED:
            return
        self._head = events.text_begin(event, self._stream.ask.kind)
        self._head_len = len(self._head)
        self.tail = _HIDDEN_END if form == WITH_IDS and not self._shows_ids else b""
        if self._head:
            self._ordinary = form

    # -- ends -------------------------------------------------------------------------------------

    @property
    def failed(self) -> str | None:
        """Why the present replica's stream is over without being complete; None while all is well."""
        return self._stream.failed or None

    @property
    def blames_replica(self) -> bool:
        """`failed` is evidence against the replica, not a difference between two good ones or our own doubt."""
        return bool(self._stream.failed) and not self._stream.doubt

    @property
    def done(self) -> bool:
        """The stream may end here: `[DONE]` (or the route's own last event) was right, or it was given up."""
        return self._ended or self._stream.answered

    @property
    def finish_ok(self) -> bool:
        """The client has the whole answer."""
        return self.done and (self._stream.complete or self._stream.answered)

    def _on_done(self, event: bytes) -> bytes:
        stream = self._stream
        if stream.complete or stream.answered:
            self._ended = True
            opening, self._opening = self._opening, b""
            return opening + self._recording.release() + event
        stream.failed = "[DONE] without a finish_reason"
        return b""

    def broken(self, reason: str, now: float, *, full: bool = False, counts: bool = True) -> Decision:
        """The replica's stream ended (EOF, reset, stall, `failed`) before `done`. `now`: seconds, any origin.
        `full`: a continuation was refused because prompt and answer fill the model's length. `counts`: False where no
        replica failed it, so that it may go on however often that happens."""
        if self.tape is not None:
            self.tape.add(BROKE, broke(reason, now, full, counts))
        stream = self._stream
        reason = stream.failed or reason
        stream.failed = ""
        stream.doubt = False
        self._splitter.clear()
        self._partial = False
        self._ordinary = 0
        if self._ended or stream.answered:
            self._ended = True
            return Finish(event=b"", reason="it had ended")
        if not stream.sent:
            if counts and not self._breaks.allow(now, 0):
                return self._give_up(f"{reason}; no replica could begin it")
            self._begin(stream.ask)
            return Retry(path=stream.ask.route, body=self._first, reason=f"{reason}; nothing had been sent")
        if stream.complete:
            ended = self._finish(reason)
            if ended is not None:
                return ended
        ending = self._recording.full(reason) if full else None
        if ending is not None:
            self._ended = True
            return ending
        if stream.fatal or self.policy.mode == "off" or self.row.way == "refuse":
            why = "resume: off" if self.policy.mode == "off" else self.row.why
            return self._give_up(reason if stream.fatal else f"{reason}; it cannot be resumed ({why})")
        breaks = self._breaks
        if counts and not breaks.allow(now, self.tokens_out):
            often = f"it has broken {breaks.count} times, {breaks.in_vain} in a row without a token more"
            return self._give_up(f"{reason}; {often}")
        try:
            return self._resume(reason)
        except events.UNKNOWN_FORM:
            return self._give_up(f"{reason}; what the engine had sent cannot be read")

    def _finish(self, reason: str) -> Finish | None:
        """All choices had ended: only the end itself is missing. None: another attempt must fetch the usage."""
        ending = self._recording.ending()
        if ending is None:
            return None
        self._ended = True
        return Finish(event=ending, reason=f"{reason}; only the end was missing")

    def _resume(self, reason: str) -> Decision:
        decision = self._recording.resume(reason)
        if self._recording.successor is not None:
            self._adopt(self._recording.successor)
        self.resumes += 1
        self._stream.attempt += 1
        if isinstance(decision, Finish):
            self._ended = True
        return decision

    def _give_up(self, reason: str) -> GiveUp:
        self._ended = True
        self._stream.finished.clear()
        self._stream.answered = False
        message = f"The replica that served this stream was lost: {reason}. Send the request again."
        return GiveUp(event=self.error_event(message), reason=reason)

    def error_event(self, message: str, code: str = "upstream_lost", status: int = 502) -> bytes:
        """The event that ends a stream which is lost, in the shape the route's own clients read."""
        return events.error_event(self._stream.ask.kind, message, code, status, self._recording.events_sent)

    # -- accounts ---------------------------------------------------------------------------------

    @property
    def started(self) -> bool:
        """The client has received a part of the answer."""
        return self._stream.sent

    @property
    def tokens_out(self) -> int:
        """Tokens generated for the client so far; of a replayed stream without ids, an estimate until its end."""
        return self._recording.tokens_out

    @property
    def continues(self) -> bool:
        """After a break it goes on from the tokens that it has; else all is generated again."""
        return self._log is not None

    @property
    def usage(self) -> Usage | None:
        """What the whole request cost; None when nothing has come yet."""
        return self._recording.usage

    def said(self) -> dict[str, str] | None:
        """All text so far, by choice and lane (content, reasoning, arguments of tool calls), to compare two
        answers of one request. None: nothing is recorded (`resume: off`), or it cannot be read."""
        try:
            return self._recording.said()
        except events.UNKNOWN_FORM:
            return None

    def recent_ids(self, count: int) -> list[int]:
        """The last token ids, where they are recorded."""
        return self._log.recent(count) if self._log is not None else []

    def looks_sick(self, count: int) -> str:
        """Why the last `count` tokens look as no sane model's do; empty: they do not. A reason to ask, no verdict."""
        why = self._stream.sick
        if why or self._log is None:
            return why
        try:
            return sick_ids(self._log.recent(count)) or sick_text(self._log.recent_text(count))
        except events.UNKNOWN_FORM:
            return ""

    @property
    def nbytes(self) -> int:
        """Memory of the record, in bytes (without Python's own)."""
        return self._recording.nbytes + self._splitter.held

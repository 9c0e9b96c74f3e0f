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
from seawall.decide.route.resume import events, request
from seawall.decide.route.resume.events import Doc
from seawall.decide.route.resume.onward import Onward, foreign
from seawall.decide.route.resume.policy import Breaks, Decision, Finish, GiveUp, Policy, Retry, Usage
from seawall.decide.route.resume.replay import Replay
from seawall.decide.route.resume.stream import Stream
from seawall.decide.route.resume.typed import Typed
from seawall.decide.route.resume.ways import Ask, way_of

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
_STRANGE: Final = "an event in an unknown form"
_WITH_IDS: Final = 1
_PLAIN: Final = 2
"""What an ordinary chunk looks like: with token ids to hide and to record, or without."""


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
        "_onward",
        "_opening",
        "_ordinary",
        "_partial",
        "_plain_end",
        "_records_ids",
        "_replay",
        "_shows_ids",
        "_splitter",
        "_stream",
        "policy",
        "resumes",
        "row",
        "tail",
    )

    def __init__(self, route: str, body: bytes, policy: Policy, rng: Random) -> None:
        """`body`: the client's JSON, with `stream: true`. Raises msgspec.DecodeError if it is not an object."""
        ask = Ask(route, body, policy)
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
        self._first = request.first_body(ask, self.row, rng)
        self._begin(ask)

    # -- requests ---------------------------------------------------------------------------------

    def first_request(self) -> bytes:
        """The body to send to the first replica, and again wherever nothing has reached the client yet."""
        return self._first

    @property
    def route(self) -> str:
        return self._stream.ask.route

    def _begin(self, ask: Ask) -> None:
        """A first attempt: nothing has reached the client."""
        self._stream = Stream(ask, self.policy)
        self._onward = Onward(self._stream) if self._records_ids else None
        self._log = self._onward.log if self._onward is not None else None
        self._replay: Replay | Typed | None = None
        if self._onward is None:
            records = self.row.way == "replay" and self.policy.mode != "off"
            if ask.kind in ("messages", "responses"):
                self._replay = Typed(self._stream, self._first, records=records)
            else:
                self._replay = self._make_replay(records, self._hides_usage, hides_ids=False)
        self._ordinary: int = 0
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

    def _make_replay(self, records: bool, hides_usage: bool, *, hides_ids: bool) -> Replay:
        return Replay(
            self._stream, self._first, records=records, hides_usage=hides_usage, hides_ids=hides_ids
        )

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
        if kind == _WITH_IDS:
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
            log.add_one(text, data[ids:last])
            return len(data) if self._shows_ids else ids - 1
        replay = self._replay
        if isinstance(replay, Replay) and data.endswith(self._plain_end):
            end = len(data) - len(self._plain_end)
            text = data[begin:end]
            if end >= begin and _LF not in text and (_QUOTE not in text or events.inside(text)):
                replay.add_raw(text)
                return len(data)
        return 0

    def feed(self, data: bytes) -> bytes:
        """Bytes from the replica -> bytes for the client. Look at `done` and `failed` afterwards."""
        known = self.ordinary(data)
        if known:
            return data[:known] + self.tail
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
        payload = sse.data_of(hidden)
        if payload is None:
            return event
        if payload == b"[DONE]":
            return self._on_done(event)
        if stream.ask.kind not in ("chat", "completions"):
            return self._typed(event, payload)
        try:
            doc = events.read(payload)
        except events.UNKNOWN_FORM:
            stream.failed = "an event that is not JSON"
            return b""
        if events.is_error(doc):
            return self._on_error(doc, event)
        try:
            out = self._chunk(doc, event, hidden, prompt)
        except events.UNKNOWN_FORM:
            stream.failed = _STRANGE
            return b""
        first = out and not stream.sent and stream.ask.kind == "chat"
        return self._send(out, bool(first) and events.opens(doc))

    def _chunk(self, doc: Doc, event: bytes, hidden: bytes, prompt: bytes | None) -> bytes:
        stream = self._stream
        choices = doc.get("choices") or []
        if not all(isinstance(choice, dict) for choice in choices):
            stream.failed = _STRANGE
            return b""
        if any(choice.get("finish_reason") in ("abort", "error") for choice in choices):
            stream.failed = "the engine aborted it"
            return b""
        stream.head_of(doc)
        self._note_usage(doc)
        if self._onward is not None and foreign(doc):
            self._give_way()
        if self._onward is not None:
            if prompt and stream.attempt == 0 and self._onward.prompt_raw is None:
                self._onward.prompt_raw = prompt
            out = self._onward.take(doc, event, hidden)
        elif isinstance(self._replay, Replay):
            out = self._replay.take(doc, event, hidden)
        if stream.attempt == 0 and not self._ordinary and choices:
            self._learn(event)
        return out

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
        self._head = events.text_begin(event, self._stream.ask.kind)
        self._head_len = len(self._head)
        self.tail = b"" if self._onward is None or self._shows_ids else _HIDDEN_END
        if self._head:
            self._ordinary = _WITH_IDS if self._onward is not None else _PLAIN

    def _note_usage(self, doc: Doc) -> None:
        if self._stream.attempt and self._onward is not None:
            return
        usage = events.usage_of(doc) if doc.get("usage") else None
        if usage is not None and not doc.get("choices"):
            self._stream.usage = usage

    def _give_way(self) -> None:
        """The answer is more than plain text, which the request did not tell: only a replay can rebuild it."""
        onward, self._onward = self._onward, None
        self._log = None
        self._ordinary = 0
        assert onward is not None
        onward.log.fold()
        self._replay = replay = self._make_replay(True, False, hides_ids=not self._stream.ask.wants_ids)
        replay.adopt(onward.log.sent)

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
            held = self._replay.release() if self._replay is not None else b""
            opening, self._opening = self._opening, b""
            return opening + held + event
        stream.failed = "[DONE] without a finish_reason"
        return b""

    def _on_error(self, doc: Doc, event: bytes) -> bytes:
        """The client's own fault (4xx) is the answer; anything else is a break."""
        if events.error_code(doc) < 500:
            self._stream.answered = True
            return self._send(event, False)
        self._stream.failed = "the engine sent an error event"
        return b""

    def _typed(self, event: bytes, payload: bytes) -> bytes:
        """Routes whose streams are typed events."""
        stream, typed = self._stream, self._replay
        if not isinstance(typed, Typed):
            stream.answered = stream.sent = True
            return event
        try:
            out, opens = typed.take(event, payload, sse.name_of(event))
        except events.UNKNOWN_FORM:
            stream.failed = _STRANGE
            return b""
        return self._send(out, opens)

    def broken(self, reason: str, now: float, *, full: bool = False) -> Decision:
        """The replica's stream ended (EOF, reset, stall, `failed`) before `done`. `now`: seconds, any origin.
        `full`: a continuation was refused because prompt and answer fill the model's length."""
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
            if not self._breaks.allow(now):
                return self._give_up(f"{reason}; no replica could begin it")
            self._begin(stream.ask)
            return Retry(path=stream.ask.route, body=self._first, reason=f"{reason}; nothing had been sent")
        if stream.complete:
            ended = self._finish(reason)
            if ended is not None:
                return ended
        if full and self._onward is not None:
            self._ended = True
            return self._onward.finish_here(reason)
        if stream.fatal or self.policy.mode == "off" or self.row.way == "refuse":
            why = "resume: off" if self.policy.mode == "off" else self.row.why
            return self._give_up(reason if stream.fatal else f"{reason}; it cannot be resumed ({why})")
        if not self._breaks.allow(now):
            return self._give_up(f"{reason}; it had been resumed {self.resumes} times already")
        try:
            return self._resume(reason)
        except events.UNKNOWN_FORM:
            return self._give_up(f"{reason}; what the engine had sent cannot be read")

    def _finish(self, reason: str) -> Finish | None:
        """All choices had ended: only the end itself is missing. None: a replay must fetch the usage."""
        stream = self._stream
        if self._onward is not None and self._onward.prompt_raw is not None:
            ending = stream.ending(self._onward.prompt_tokens, self._onward.tokens)
        elif isinstance(self._replay, Typed):
            ending = self._replay.last_event()
        elif self._replay is not None and (not stream.ask.wants_usage or stream.usage_sent):
            ending = self._replay.release() + events.DONE
        else:
            return None
        self._ended = True
        return Finish(event=ending, reason=f"{reason}; only the end was missing")

    def _resume(self, reason: str) -> Decision:
        stream = self._stream
        if self._onward is not None and self._onward.prompt_raw is None:
            self._give_way()  # the engine did not tell ids
        decision: Decision
        if self._onward is not None:
            decision = self._onward.resume(reason)
        else:
            assert self._replay is not None
            decision = self._replay.resume(reason)
        self.resumes += 1
        stream.attempt += 1
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
        sent = self._replay.sent if isinstance(self._replay, Typed) else 0
        return events.error_event(self._stream.ask.kind, message, code, status, sent)

    # -- accounts ---------------------------------------------------------------------------------

    @property
    def started(self) -> bool:
        """The client has received a part of the answer."""
        return self._stream.sent

    @property
    def tokens_out(self) -> int:
        """Tokens generated for the client so far; of a replayed stream without ids, an estimate until its end."""
        if self._onward is not None:
            return self._onward.tokens
        usage = self._stream.usage
        if usage is not None:
            return usage.completion_tokens
        return self._replay.tokens if self._replay is not None else 0

    @property
    def usage(self) -> Usage | None:
        """What the whole request cost; None when nothing has come yet."""
        known = self._stream.usage
        if self._onward is None or self._onward.prompt_raw is None:
            tokens = self.tokens_out
            if known is not None or not tokens:
                return known
            prompt = len(self._stream.ask.body) // 4
            return Usage(prompt_tokens=prompt, completion_tokens=tokens, estimated=True)
        return Usage(
            prompt_tokens=self._onward.prompt_tokens,
            completion_tokens=self._onward.tokens,
            cached_tokens=known.cached_tokens if known is not None else None,
        )

    def said(self) -> dict[str, str] | None:
        """All text so far, by choice and lane (content, reasoning, arguments of tool calls), to compare two
        answers of one request. None: nothing is recorded (`resume: off`), or it cannot be read."""
        try:
            if self._onward is not None:
                lane = "content" if self._stream.ask.kind == "chat" else "text"
                return {f"0 {lane}": self._onward.log.all_text()}
            return self._replay.said() if self._replay is not None else None
        except events.UNKNOWN_FORM:
            return None

    @property
    def nbytes(self) -> int:
        """Memory of the record, in bytes (without Python's own)."""
        if self._onward is not None:
            return self._onward.log.nbytes + len(self._onward.prompt_raw or b"")
        return self._replay.nbytes if self._replay is not None else 0

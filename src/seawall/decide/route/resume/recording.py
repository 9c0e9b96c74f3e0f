"""What a session records of its stream, and how it goes on from there: the one interface of all ways of resuming.

`Onward` continues from token ids, `Replay` and `Typed` ask the same request again, `Passing` records nothing. The
session never asks which of them it has. Forbidden here: I/O, and knowing when a stream is broken.
"""

from __future__ import annotations

from typing import Final

from seawall.decide.route.resume import events
from seawall.decide.route.resume.events import Doc
from seawall.decide.route.resume.policy import Finish, Retry, Usage
from seawall.decide.route.resume.stream import Stream
from seawall.decide.route.resume.tokens import TokenLog
from seawall.decide.truth.sick import sick_logprobs

UNFORMED: Final = 0
WITH_IDS: Final = 1
PLAIN: Final = 2
"""What an ordinary chunk looks like: unknown, with token ids to hide and to record, without."""


class Recording:
    """One stream's record. This base passes everything on and can go on only where nothing has been sent."""

    __slots__ = ("log", "ordinary_form", "stream", "successor", "tokens")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.log: TokenLog | None = None
        """The record of token ids, where there is one: the session's fast path writes into it."""
        self.ordinary_form: int = UNFORMED
        self.tokens = 0
        """Tokens so far; of a replayed stream an estimate until the usage is known."""
        self.successor: Recording | None = None
        """The recording that takes over, once this one has seen what it cannot record."""

    def take(self, event: bytes, hidden: bytes, prompt: bytes, payload: bytes) -> tuple[bytes, bool]:
        """(what the client gets for one event, whether that only opens the stream).

        `hidden`: `event` without the prompt's ids, which are `prompt`; `payload`: the event's data. Raises what
        reading an engine's JSON raises.
        """
        self.stream.answered = self.stream.sent = True
        return event, False

    def add_raw(self, text: bytes) -> None:
        """One plain text chunk of choice 0, as the inside of a JSON string."""

    def resume(self, reason: str) -> Retry | Finish:
        """The request that goes on, or the end if nothing is missing but that."""
        return Retry(path=self.stream.ask.route, body=self.stream.ask.body, reason=reason)

    def release(self) -> bytes:
        """What was held back for an event that did not come."""
        return b""

    def ending(self) -> bytes | None:
        """All that is missing behind the last choice's end; None: only another attempt can tell."""
        return None

    def full(self, reason: str) -> Finish | None:
        """The end of an answer that fills the model's length; None where that cannot be told."""
        return None

    @property
    def events_sent(self) -> int:
        """Events that the client got, where they are numbered."""
        return 0

    @property
    def tokens_out(self) -> int:
        usage = self.stream.usage
        return usage.completion_tokens if usage is not None else self.tokens

    @property
    def usage(self) -> Usage | None:
        known, tokens = self.stream.usage, self.tokens_out
        if known is not None or not tokens:
            return known
        return Usage(prompt_tokens=len(self.stream.ask.body) // 4, completion_tokens=tokens, estimated=True)

    def said(self) -> dict[str, str] | None:
        """All text so far, by choice and lane; None when nothing is recorded."""
        return None

    @property
    def nbytes(self) -> int:
        return 0


class Passing(Recording):
    """A stream of a route that we know nothing of: it is passed on as it comes."""


class Chunks(Recording):
    """What chat and completions have in common: events that are chunks with choices."""

    __slots__ = ()

    def take(self, event: bytes, hidden: bytes, prompt: bytes, payload: bytes) -> tuple[bytes, bool]:
        stream = self.stream
        try:
            doc = events.read(payload)
        except events.UNKNOWN_FORM:
            stream.failed = "an event that is not JSON"
            return b"", False
        if events.is_error(doc):
            return self._error(doc, event), False
        choices = doc.get("choices") or []
        if not all(isinstance(choice, dict) for choice in choices):
            raise TypeError("a choice that is no object")
        if any(choice.get("finish_reason") in ("abort", "error") for choice in choices):
            stream.failed = "the engine aborted it"
            return b"", False
        stream.head_of(doc)
        for choice in choices:
            if choice.get("logprobs"):
                stream.sick = sick_logprobs(events.logprobs_of(choice["logprobs"])) or stream.sick
        self.note_usage(doc)
        out = self.chunk(doc, event, hidden, prompt)
        opens = bool(out) and not stream.sent and stream.ask.kind == "chat" and events.opens(doc)
        return out, opens

    def _error(self, doc: Doc, event: bytes) -> bytes:
        """The client's own fault (4xx) is the answer; anything else is a break."""
        if events.error_code(doc) < 500:
            self.stream.answered = True
            return event
        self.stream.failed = "the engine sent an error event"
        return b""

    def note_usage(self, doc: Doc) -> None:
        usage = events.usage_of(doc) if doc.get("usage") else None
        if usage is not None and not doc.get("choices"):
            self.stream.usage = usage

    def chunk(self, doc: Doc, event: bytes, hidden: bytes, prompt: bytes) -> bytes:
        """What the client gets for one chunk of the engine."""
        raise NotImplementedError

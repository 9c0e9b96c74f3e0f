"""Replaying the routes whose streams are typed events: `/v1/messages` (Anthropic) and `/v1/responses` (OpenAI).

What the client has is kept as a list of beats: an event, or the text of consecutive deltas of one lane (block,
output item). Another run repeats the beats in the same order, cut into other deltas; it is compared and
swallowed. What an engine draws at random (ids, signatures) or reads off a clock stays that of the first run,
everywhere it occurs later; `sequence_number` goes on counting what the client got. Forbidden here: I/O.
"""

from __future__ import annotations

from io import StringIO
from typing import Any

import msgspec

from seawall.decide.route import sse
from seawall.decide.route.resume import events
from seawall.decide.route.resume.events import Doc
from seawall.decide.route.resume.policy import Retry
from seawall.decide.route.resume.recording import Recording
from seawall.decide.route.resume.stream import Stream

OPENING = frozenset(
    {
        "message_start",
        "content_block_start",
        "ping",
        "response.created",
        "response.queued",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    }
)
"""Events that say nothing yet: they wait for the first token, so that until then nothing has begun."""
_DRAWN = frozenset({"id", "item_id", "call_id", "response_id", "signature", "created_at", "completed_at"})
_UNEQUAL = frozenset({"usage", "sequence_number", "logprobs", "metrics"})
"""May differ between two runs of the same request: cached tokens, how the text was cut, rounding."""
_PARTS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
TypedLane = tuple[Any, ...]


class _Text:
    """The text of consecutive deltas of one lane, and how many logprobs came with it."""

    __slots__ = ("lane", "logprobs", "text")

    def __init__(self, lane: TypedLane) -> None:
        self.lane = lane
        self.text = StringIO()
        self.logprobs = 0


class _Event:
    """Any other event: what must come again, and the values that will come in another form."""

    __slots__ = ("drawn", "print")

    def __init__(self, doc: Doc) -> None:
        self.drawn: list[Any] = []
        self.print = hash(msgspec.json.encode(_bare(doc, self.drawn)))


def _bare(value: Any, drawn: list[Any]) -> Any:
    """`value` without what another run does not repeat; drawn values are collected in order."""
    if isinstance(value, dict):
        bare = {}
        for key, inner in value.items():
            if key in _DRAWN and isinstance(inner, str | int):
                drawn.append(inner)
            elif key not in _UNEQUAL:
                bare[key] = _bare(inner, drawn)
        return bare
    if isinstance(value, list):
        return [_bare(inner, drawn) for inner in value]
    return value


def _as_known(value: Any, known: dict[Any, Any]) -> Any:
    if isinstance(value, dict):
        return {
            key: known.get(inner, inner)
            if key in _DRAWN and isinstance(inner, str | int)
            else _as_known(inner, known)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_as_known(inner, known) for inner in value]
    return value


class Typed(Recording):
    """One stream of typed events, recorded and replayed."""

    __slots__ = (
        "_at",
        "_beats",
        "_doubted",
        "_due",
        "_held",
        "_known",
        "_plain",
        "_sent",
        "_told",
        "_within",
        "body",
        "records",
    )

    def __init__(self, stream: Stream, body: bytes, *, records: bool) -> None:
        super().__init__(stream)
        self.body = body
        self.records = records
        self._beats: list[_Text | _Event] = []
        self._sent = 0
        self._due = self._at = 0
        """Beats that the present attempt must repeat, and how many it has."""
        self._within = (0, 0)
        """Of the beat being repeated: characters and logprobs that have come."""
        self._known: dict[Any, Any] = {}
        self._held: list[tuple[bytes, Doc]] = []
        """Ends of blocks and items, which vLLM also writes when it aborts: the next event tells."""
        self._told = 0
        """Deltas with text in the present attempt."""
        self._plain = True
        """All of them are a response's plain text."""
        self._doubted = 0
        """Tokens of a run that seemed to end without its last one."""

    @property
    def nbytes(self) -> int:
        return sum(b.text.tell() if isinstance(b, _Text) else 64 for b in self._beats)

    @property
    def events_sent(self) -> int:
        return self._sent

    def said(self) -> dict[str, str] | None:
        if not self.records:
            return None
        said: dict[str, str] = {}
        for beat in self._beats:
            if isinstance(beat, _Text):
                lane = " ".join(map(str, beat.lane))
                said[lane] = said.get(lane, "") + beat.text.getvalue()
        return said

    def resume(self, reason: str) -> Retry:
        """The same request; from now on what the client has is swallowed."""
        self._due, self._at, self._within = len(self._beats), 0, (0, 0)
        self._known, self._held = {}, []
        self._told, self._plain = 0, True
        return Retry(path=self.stream.ask.route, body=self.body, reason=f"{reason}; replayed")

    def ending(self) -> bytes | None:
        """What is missing behind a message's end; nothing is known of a response's."""
        return _write({"type": "message_stop"}) if self.stream.ask.kind == "messages" else b""

    def take(self, event: bytes, hidden: bytes, prompt: bytes, payload: bytes) -> tuple[bytes, bool]:
        stream, name = self.stream, sse.name_of(event)
        if name.endswith(b"delta") and name != b"message_delta" and not self.records:
            self.tokens += 1
            self._sent += 1
            return event, False
        doc = events.read(payload)
        kind = str(doc.get("type"))
        if kind == "error" or doc.get("error"):
            stream.failed = "the engine sent an error event"
            return b"", False
        self._judge(kind, doc)
        if stream.failed:
            return b"", False
        if kind == "content_block_stop" or kind.endswith(".done"):
            self._held.append((event, doc))
            return b"", False
        held, self._held = self._held, []
        out = b"".join([self._pass(*one) for one in held]) + self._pass(event, doc)
        return (b"" if stream.failed else out), kind in OPENING

    def _pass(self, event: bytes, doc: Doc) -> bytes:
        """One event that is right: noted, and without what the client has."""
        if self.stream.failed:
            return b""
        lane, key, holder = _lane(str(doc.get("type")), doc)
        self.tokens += bool(key)
        if key and holder[key]:
            self._told += 1
            self._plain = self._plain and lane[-1] == "response.output_text.delta"
        if self.stream.attempt:
            out = self._again(doc, lane, key, holder)
        else:
            out = event
            if self.records:
                self._record(doc, lane, key, holder)
        self._sent += bool(out)
        return out

    def _judge(self, kind: str, doc: Doc) -> None:
        """An abort looks like an end: a message's without stop_reason, a response's with the status cancelled."""
        stream = self.stream
        if usage := events.other_usage(doc):
            stream.usage = usage
        if kind == "message_delta":
            if (doc.get("delta") or {}).get("stop_reason") is None:
                stream.failed = "the engine aborted it"
            else:
                stream.finished.add(0)
        elif kind == "message_stop":
            if stream.complete:
                stream.answered = True
            else:
                stream.failed = "message_stop without a stop_reason"
        elif kind in ("response.completed", "response.incomplete"):
            if (doc.get("response") or {}).get("status") in ("cancelled", "failed"):
                stream.failed = "the engine aborted it"
            elif kind == "response.completed" and usage and self._lacks_end(usage.completion_tokens):
                stream.failed = "it ended without a last token, as if aborted"
                stream.doubt = True
            else:
                stream.answered = True
        elif kind == "response.failed":
            stream.failed = "the engine failed"

    def _lacks_end(self, tokens: int) -> bool:
        """vLLM also calls a response `completed` that it aborted. One that ended by itself has a last token without
        text; if every token came as text, it was cut short. Should another run end there too, that is its end."""
        ask = self.stream.ask
        if not self.records or not self._plain or not 0 < tokens <= self._told:
            return False
        if ask.any("stop", "include_stop_str_in_output") or self._doubted == tokens:
            return False
        self._doubted = tokens
        return True

    def _record(self, doc: Doc, lane: TypedLane, key: str, holder: Doc) -> None:
        if not key:
            self._beats.append(_Event(doc))
            return
        beat = self._beats[-1] if self._beats else None
        if not isinstance(beat, _Text) or beat.lane != lane:
            beat = _Text(lane)
            self._beats.append(beat)
        beat.text.write(holder[key])
        beat.logprobs += len(doc.get("logprobs") or ())

    def _again(self, doc: Doc, lane: TypedLane, key: str, holder: Doc) -> bytes:
        """One event of a later attempt, without what the client has."""
        if self._at < self._due:
            if not key:
                return self._repeat_event(doc)
            holder[key] = self._new_text(lane, holder[key], doc)
            if not holder[key]:
                return b""
        doc = _as_known(doc, self._known)
        if key:
            _, _, holder = _lane(str(doc["type"]), doc)
        self._record(doc, lane, key, holder)
        if "sequence_number" in doc:
            doc["sequence_number"] = self._sent
        return _write(doc)

    def _repeat_event(self, doc: Doc) -> bytes:
        beat, new = self._beats[self._at], _Event(doc)
        if not isinstance(beat, _Event) or beat.print != new.print:
            return self._differs("other events")
        self._known.update(zip(new.drawn, beat.drawn, strict=True))
        self._at += 1
        return b""

    def _new_text(self, lane: TypedLane, text: str, doc: Doc) -> str:
        """`text` without what the client has of it."""
        beat = self._beats[self._at]
        if not isinstance(beat, _Text) or beat.lane != lane:
            self._differs("other events")
            return ""
        chars, logprobs = self._within
        due = beat.text.getvalue()[chars:]
        common = min(len(due), len(text))
        if text[:common] != due[:common] and self.stream.mismatch("text"):
            return ""
        entries = doc.get("logprobs")
        if entries:
            skip = min(beat.logprobs - logprobs, len(entries))
            doc["logprobs"] = entries[skip:]
            logprobs += skip
        self._within = (chars + common, logprobs)
        rest = text[common:]
        if common == len(due):
            self._at += 1
            self._within = (0, 0)
            if rest and self._at < self._due:
                self._differs("text")
                return ""
        return rest

    def _differs(self, what: str) -> bytes:
        """Events in another order cannot be mended, not even by best effort."""
        stream = self.stream
        if not stream.mismatch(what):
            stream.failed = f"the resumed stream differs from the one the client has ({what})"
            stream.fatal = stream.doubt = True
        return b""


def _lane(kind: str, doc: Doc) -> tuple[TypedLane, str, Doc]:
    """Of a delta: where its text belongs, and (key, object) that hold it; key '': no delta."""
    delta = doc.get("delta")
    if kind == "content_block_delta" and isinstance(delta, dict):
        key = _PARTS.get(delta.get("type", ""), "")
        if key and isinstance(delta.get(key), str):
            return (doc.get("index"), delta["type"]), key, delta
    elif kind.endswith(".delta") and isinstance(delta, str):
        return (doc.get("output_index"), doc.get("content_index"), kind), "delta", doc
    return (), "", doc


def _write(doc: Doc) -> bytes:
    return b"event: " + str(doc["type"]).encode() + b"\ndata: " + events.encode(doc) + b"\n\n"

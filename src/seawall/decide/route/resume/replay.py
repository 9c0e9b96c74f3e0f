"""The *replay* way: the same request again; what the client already has is checked and swallowed.

Text is compared lane by lane (content, reasoning, each tool call's arguments), because another run cuts the
same text into other chunks. Ids that an engine draws at random (tool call ids) stay those of the first run.
Also the way of fleets with `resume: off`, with recording switched off. Forbidden here: I/O.
"""

from __future__ import annotations

from io import StringIO
from typing import Any

import msgspec

from seawall.decide.route.resume import events
from seawall.decide.route.resume.events import Doc
from seawall.decide.route.resume.policy import Retry
from seawall.decide.route.resume.recording import PLAIN, Chunks
from seawall.decide.route.resume.stream import Stream

ReplayLane = str | tuple[str, int]


class Choice:
    """What the client has of one choice, and how much of it the present attempt has not yet repeated."""

    __slots__ = ("due", "due_ids", "due_logprobs", "ids", "known", "lanes", "logprobs")

    def __init__(self) -> None:
        self.lanes: dict[ReplayLane, StringIO] = {}
        self.known: set[ReplayLane] = set()
        """Parts that are sent once: the role, the head of each tool call."""
        self.ids = 0
        self.logprobs = 0
        self.due: dict[ReplayLane, str] = {}
        self.due_ids = 0
        self.due_logprobs = 0

    def begin_again(self) -> None:
        self.due = {lane: text for lane, buffer in self.lanes.items() if (text := buffer.getvalue())}
        self.due_ids = self.ids
        self.due_logprobs = self.logprobs

    @property
    def caught_up(self) -> bool:
        return not (self.due or self.due_ids or self.due_logprobs)

    def note(self, lane: ReplayLane, text: str) -> None:
        buffer = self.lanes.get(lane)
        if buffer is None:
            buffer = self.lanes[lane] = StringIO()
        buffer.write(text)


class Replay(Chunks):
    """All choices of one stream, replayed."""

    __slots__ = (
        "_choices",
        "_held",
        "_raw",
        "body",
        "hides_ids",
        "hides_usage",
        "records",
    )

    def __init__(
        self, stream: Stream, body: bytes, *, records: bool, hides_usage: bool, hides_ids: bool
    ) -> None:
        super().__init__(stream)
        self.body = body
        self.records = records
        self.ordinary_form = PLAIN
        self.hides_usage = hides_usage
        self.hides_ids = hides_ids
        self._choices: dict[int, Choice] = {}
        self._raw = bytearray()
        self._held = b""
        """The finish chunk, which waits for the usage chunk that the client did not ask for."""

    def adopt(self, text: str) -> None:
        """Take over from the other way: the client has the role and this plain text."""
        choice = self._choices.setdefault(0, Choice())
        choice.known.add("role")
        choice.note("content" if self.stream.ask.kind == "chat" else "text", text)

    def add_raw(self, text: bytes) -> None:
        self.tokens += 1
        if self.records:
            self._raw += text

    @property
    def nbytes(self) -> int:
        lanes = (lane.tell() for choice in self._choices.values() for lane in choice.lanes.values())
        return len(self._raw) + sum(lanes)

    def said(self) -> dict[str, str] | None:
        if not self.records:
            return None
        self._flush()
        lanes = (
            (i, lane, text) for i, choice in self._choices.items() for lane, text in choice.lanes.items()
        )
        return {f"{i} {lane}": said for i, lane, text in lanes if (said := text.getvalue())}

    def chunk(self, doc: Doc, event: bytes, hidden: bytes, prompt: bytes) -> bytes:
        stream = self.stream
        if not doc.get("choices"):
            return self._usage_chunk(doc, event)
        out = events.hide_token_ids(hidden) if self.hides_ids else event
        if stream.attempt == 0:
            if self.records:
                self._flush()
            for choice in doc["choices"]:
                self._record(choice)
                self.tokens += "role" not in (choice.get("delta") or ())
            if self.hides_ids and _idle(doc["choices"]):
                return b""
        else:
            out = self._trimmed(doc)
        if self.hides_usage and stream.complete and out:
            self._held = out
            return b""
        return out

    def _trimmed(self, doc: Doc) -> bytes:
        stream = self.stream
        kept = []
        for choice in doc["choices"]:
            if choice.get("index", 0) in stream.finished:
                continue
            worth = self._trim(choice)
            if stream.failed:
                return b""
            self._record(choice)
            if worth:
                kept.append(choice)
        self.tokens += len(kept)
        if not kept:
            return b""
        doc["choices"] = kept
        return events.write(self._as_known(doc))

    def _as_known(self, doc: Doc) -> Doc:
        head = self.stream.head or {}
        for key in ("id", "created", "model"):
            if key in doc and key in head:
                doc[key] = head[key]
        if not self.stream.ask.wants_ids:
            if "prompt_token_ids" in doc:
                doc["prompt_token_ids"] = None
            for choice in doc.get("choices") or ():
                if self.hides_ids and choice.get("token_ids") is not None:
                    choice["token_ids"] = None
        return doc

    def _usage_chunk(self, doc: Doc, event: bytes) -> bytes:
        stream = self.stream
        if stream.attempt and not self.hides_usage:
            event = events.write(self._as_known(doc))
        if not doc.get("usage"):
            return event
        if not self.hides_usage:
            stream.usage_sent = True
            return event
        held, self._held = self._held, b""
        return events.with_tail(held, events.fingerprint_of(event)) if held else b""

    def release(self) -> bytes:
        """The held finish chunk, when no usage chunk came."""
        held, self._held = self._held, b""
        return held

    def ending(self) -> bytes | None:
        if self.stream.ask.wants_usage and not self.stream.usage_sent:
            return None
        return self.release() + events.DONE

    def _record(self, choice: Doc) -> None:
        index = choice.get("index", 0)
        if choice.get("finish_reason") is not None:
            self.stream.finished.add(index)
        if not self.records:
            return
        known = self._choices.setdefault(index, Choice())
        delta = choice.get("delta")
        if delta is None:
            if choice.get("text"):
                known.note("text", choice["text"])
        else:
            for key, value in delta.items():
                if key == "role":
                    known.known.add("role")
                elif key == "tool_calls":
                    for call in value or ():
                        lane = ("tool", call.get("index", 0))
                        known.known.add(lane)
                        known.note(lane, (call.get("function") or {}).get("arguments") or "")
                elif isinstance(value, str):
                    known.note(key, value)
        known.ids += len(choice.get("token_ids") or ())
        known.logprobs += _entries(choice.get("logprobs"))

    def _trim(self, choice: Doc) -> bool:
        """Take out of `choice` what the client has. True: something is left to send."""
        known = self._choices.setdefault(choice.get("index", 0), Choice())
        delta = choice.get("delta")
        if delta is None:
            left = bool(self._new(known, choice, "text"))
        else:
            left = self._trim_delta(known, delta)
        ids = choice.get("token_ids")
        if ids:
            skip = min(known.due_ids, len(ids))
            known.due_ids -= skip
            choice["token_ids"] = ids[skip:]
            left = left or (bool(ids[skip:]) and not self.hides_ids)
        count = _entries(choice.get("logprobs"))
        if count:
            skip = min(known.due_logprobs, count)
            known.due_logprobs -= skip
            choice["logprobs"] = _without(choice["logprobs"], skip) if skip < count else None
            left = left or skip < count
        if choice.get("finish_reason") is None:
            return left
        if known.due:
            self.stream.mismatch("it ended earlier")
        return True

    def _trim_delta(self, known: Choice, delta: Doc) -> bool:
        left = False
        for key in list(delta):
            value = delta[key]
            if key == "role":
                if "role" in known.known:
                    del delta[key]
                else:
                    left = True
            elif key == "tool_calls":
                calls = [call for call in value or () if self._trim_call(known, call)]
                if calls:
                    delta[key], left = calls, True
                else:
                    del delta[key]
            elif isinstance(value, str):
                if self._new(known, delta, key):
                    left = True
                elif "role" not in delta:
                    del delta[key]
            elif value is not None:
                left = True
        return left

    def _trim_call(self, known: Choice, call: Doc) -> bool:
        lane = ("tool", call.get("index", 0))
        function = call.get("function") or {}
        new = self._new(known, function, "arguments", lane)
        if lane not in known.known:
            return True
        for part in ("id", "type"):
            call.pop(part, None)
        function.pop("name", None)
        return bool(new)

    def _new(self, known: Choice, holder: Doc, key: str, lane: ReplayLane | None = None) -> str:
        """Cut from `holder[key]` what the client has; the rest."""
        lane = key if lane is None else lane
        text = holder.get(key) or ""
        due = known.due.get(lane, "")
        if due and text:
            common = min(len(due), len(text))
            if text[:common] != due[:common] and self.stream.mismatch(str(key)):
                return ""
            text = text[common:]
            if common == len(due):
                del known.due[lane]
            else:
                known.due[lane] = due[common:]
            holder[key] = text
        return text

    def _flush(self) -> None:
        if self._raw:
            text = msgspec.json.decode(b'"' + bytes(self._raw) + b'"')
            lane = "content" if self.stream.ask.kind == "chat" else "text"
            self._choices.setdefault(0, Choice()).note(lane, text)
            self._raw = bytearray()

    def resume(self, reason: str) -> Retry:
        """The same request; from now on what the client has is swallowed."""
        self._flush()
        for choice in self._choices.values():
            choice.begin_again()
        return Retry(
            path=self.stream.ask.route, body=self.body, reason=f"{reason}; replayed with the same seed"
        )


def _idle(choices: list[Doc]) -> bool:
    """Chunks that the engine writes only because of return_token_ids."""
    return all(c.get("delta") == {} and c.get("finish_reason") is None for c in choices)


def _entries(logprobs: Any) -> int:
    if not isinstance(logprobs, dict):
        return 0
    entries = logprobs.get("content") if "content" in logprobs else logprobs.get("tokens")
    return len(entries) if isinstance(entries, list) else 0


def _without(logprobs: Doc, skip: int) -> Doc:
    return {key: (value[skip:] if isinstance(value, list) else value) for key, value in logprobs.items()}

"""The *continue* way: records token ids while all is well, builds the request that goes on, and writes the
engine's completion chunks in the shape the client began with. Forbidden here: I/O, and knowing about breaks."""

from __future__ import annotations

from array import array
from typing import Any, Final

import msgspec

from seawall.decide.route.resume import events
from seawall.decide.route.resume.events import Doc
from seawall.decide.route.resume.policy import Finish, Retry, Usage
from seawall.decide.route.resume.recording import WITH_IDS, Chunks
from seawall.decide.route.resume.replay import Replay
from seawall.decide.route.resume.stream import Stream
from seawall.decide.route.resume.tokens import START, TokenLog
from seawall.decide.route.resume.ways import CARRIED

COMPLETIONS = "/v1/completions"
_PLAIN: Final = frozenset({"role", "content"})


def foreign(doc: Doc) -> bool:
    """A delta that is more than plain text (reasoning, tool calls): token ids alone cannot rebuild it."""
    choices: list[Doc] = doc.get("choices") or []
    for choice in choices:
        delta: Doc = choice.get("delta") or {}
        for key in delta:
            if key not in _PLAIN and delta[key]:
                return True
    return False


class Onward(Chunks):
    """One choice, continued from its token ids."""

    __slots__ = (
        "_body",
        "_due",
        "_fresh",
        "_ids",
        "_mark",
        "_now",
        "_offset_base",
        "_offsets",
        "_prompt_tokens",
        "_skip",
        "_told",
        "prompt_raw",
    )

    def __init__(self, stream: Stream, body: bytes) -> None:
        """`body`: the first request, for a replay where the ids do not suffice."""
        super().__init__(stream)
        ask = stream.ask
        hold = max((len(s) for s in ask.stop), default=1) - 1
        lag = 0 if ask.get("include_stop_str_in_output") else hold
        self._body = body
        self.log = self._ids = TokenLog(hold, lag, stream.policy.decoder)
        self.ordinary_form = WITH_IDS
        self.prompt_raw: bytes | None = None
        self._prompt_tokens = 0
        self._now = 0
        """Tokens so far, counted along in a continuation (whose usage tells them in every chunk)."""
        self._mark = START
        self._due = ""
        """Sent text that the present attempt generates again."""
        self._skip = 0
        """Tokens whose ids and logprobs the client already has and the present attempt repeats."""
        self._told = 0
        self._fresh = False
        self._offsets = array("I")
        """With logprobs: text_offset of each token, and the offset behind the last."""
        self._offset_base = 0

    @property
    def prompt_tokens(self) -> int:
        if not self._prompt_tokens and self.prompt_raw:
            self._prompt_tokens = self.prompt_raw.count(b",") + 1
        return self._prompt_tokens

    @property
    def tokens_out(self) -> int:
        return self._ids.tokens

    @property
    def usage(self) -> Usage | None:
        if self.prompt_raw is None:
            return super().usage
        known = self.stream.usage
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self._ids.tokens,
            cached_tokens=known.cached_tokens if known is not None else None,
        )

    def said(self) -> dict[str, str] | None:
        lane = "content" if self.stream.ask.kind == "chat" else "text"
        return {f"0 {lane}": self._ids.all_text()}

    @property
    def nbytes(self) -> int:
        return self._ids.nbytes + len(self.prompt_raw or b"")

    @property
    def limit(self) -> int | None:
        """Tokens that may be generated in all; None: up to the model's length, which we do not know."""
        bounds = [self.stream.ask.max_tokens, self.stream.policy.most_tokens]
        length = self.stream.policy.max_model_len
        if length is not None and self.prompt_raw:
            bounds.append(max(0, length - self.prompt_tokens))
        known = [bound for bound in bounds if bound is not None]
        return min(known) if known else None

    def note_usage(self, doc: Doc) -> None:
        if not self.stream.attempt:
            super().note_usage(doc)

    def chunk(self, doc: Doc, event: bytes, hidden: bytes, prompt: bytes) -> bytes:
        if foreign(doc):
            return self._give_way().chunk(doc, event, hidden, prompt)
        if prompt and self.stream.attempt == 0 and self.prompt_raw is None:
            self.prompt_raw = prompt
        return self._take_first(doc, event, hidden) if self.stream.attempt == 0 else self._take_next(doc)

    def _give_way(self) -> Replay:
        """The answer is more than plain text, or the engine tells no ids: only a replay can rebuild it."""
        self._ids.fold()
        wants_ids = self.stream.ask.wants_ids
        replay = Replay(self.stream, self._body, records=True, hides_usage=False, hides_ids=not wants_ids)
        replay.adopt(self._ids.sent)
        self.successor = replay
        return replay

    def _take_first(self, doc: Doc, event: bytes, hidden: bytes) -> bytes:
        stream = self.stream
        out = event if stream.ask.wants_ids else events.hide_token_ids(hidden)
        if doc.get("choices"):
            choice = doc["choices"][0]
            ids = choice.get("token_ids") or []
            self._ids.add(events.text_of(choice), ids)
            self._note_offsets(choice.get("logprobs"))
            if choice.get("finish_reason") is not None:
                stream.finished.add(choice.get("index", 0))
            elif choice.get("delta") == {} and not stream.ask.wants_ids:
                return b""  # the engine writes it only because of return_token_ids
        elif doc.get("usage"):
            stream.usage_sent = True
        return out

    def _take_next(self, doc: Doc) -> bytes:
        stream = self.stream
        ask = stream.ask
        if not doc.get("choices"):
            return self._usage_chunk(doc)
        choice = doc["choices"][0]
        text, ids = events.text_of(choice), choice.get("token_ids") or []
        finish = choice.get("finish_reason")
        if text and self._fresh:
            self._fresh = False
            if not self._mark.sure and self._repeats_prompt(text, len(ids)):
                behind = self._behind_repeat(text)
                if behind is None:
                    self._distrust()
                    return b""
                text = behind
        self._ids.add(text, ids)
        self._now += len(ids)
        new = self._new_text(text, finish is not None)
        if stream.failed:
            return b""
        logprobs = self._new_logprobs(choice.get("logprobs"))
        skipped = min(self._skip, len(ids))
        self._skip -= skipped
        if finish is not None:
            stream.finished.add(0)
        elif not new and not (ask.wants_ids and ids[skipped:]) and not logprobs:
            return b""
        shown = ids[skipped:] if ask.wants_ids else None
        reason = choice.get("stop_reason")
        out = events.chunk_doc(ask.kind, stream.head or {}, None)
        out["choices"] = [events.choice_doc(ask.kind, new, shown, finish, reason, logprobs)]
        if doc.get("usage"):
            out["usage"] = events.usage_doc(self.prompt_tokens, self._now, self._usage_keys(doc["usage"]))
        if doc.get("system_fingerprint"):
            out["system_fingerprint"] = doc["system_fingerprint"]
        return events.write(out)

    def _repeats_prompt(self, text: str, tokens: int) -> bool:
        """vLLM's detokenizer, begun inside a character, sends prompt and answer so far before the new text."""
        sent = self._ids.sent[: self._mark.chars]
        return len(text) > self._ids.lag + 32 * (tokens + 1) or (len(sent) >= 8 and sent in text)

    def _behind_repeat(self, text: str) -> str | None:
        """What follows the repeated prompt and answer: the answer is known, and must occur once to be sure."""
        sent = self._ids.sent[: self._mark.chars]
        at = text.find(sent)
        if self._ids.hold or len(sent) < 8 or at < 0 or text.find(sent, at + 1) >= 0:
            return None  # with stop strings the engine would look for them in the prompt, too
        return text[at + len(sent) :]

    def _usage_keys(self, usage: Doc) -> Doc:
        more = {key: value for key, value in usage.items() if not key.endswith("_tokens")}
        if self.stream.ask.kind == "chat":
            more.setdefault("completion_tokens_details", None)
            self._as_chat(more)
        return more

    def _as_chat(self, usage: Doc) -> None:
        """Chat tells one more detail of the prompt's tokens than completions do, where it tells any."""
        details = usage.get("prompt_tokens_details")
        if self.stream.ask.kind == "chat" and isinstance(details, dict):
            details.setdefault("created_cache_tokens", 0)

    def _usage_chunk(self, doc: Doc) -> bytes:
        stream = self.stream
        if not doc.get("usage"):
            return b""
        out = events.chunk_doc(stream.ask.kind, stream.head or {}, None)
        self._as_chat(doc["usage"])
        out["usage"] = events.usage_doc(self.prompt_tokens, self._now, doc["usage"])
        if doc.get("system_fingerprint"):
            out["system_fingerprint"] = doc["system_fingerprint"]
        stream.usage_sent = True
        return events.write(out)

    def _new_text(self, text: str, ended: bool) -> str:
        """`text` without what the client has. A difference fails the attempt, by policy."""
        due = self._due
        if not due:
            return text
        common = min(len(due), len(text))
        if text[:common] != due[:common] and self._differs("text"):
            return ""
        self._due = due[common:]
        if ended and self._due and self._differs("it ended earlier"):
            return ""
        return text[common:]

    def _differs(self, what: str) -> bool:
        if not self._mark.sure:
            self._distrust()
            return True
        return self.stream.mismatch(what)

    def _distrust(self) -> None:
        self._ids.distrust(self._mark)
        self.stream.failed = "the boundary lay inside a character"
        self.stream.doubt = True

    def _note_offsets(self, logprobs: Any) -> None:
        if isinstance(logprobs, dict) and logprobs.get("text_offset"):
            offsets = self._offsets
            if offsets:
                offsets.pop()
            offsets.extend(at + self._offset_base for at in logprobs["text_offset"])
            offsets.append(offsets[-1] + len(logprobs["tokens"][-1]))

    def _new_logprobs(self, logprobs: Any) -> Any:
        """Logprobs of the tokens the client has not heard of, at their place in the whole answer."""
        if not isinstance(logprobs, dict) or not logprobs.get("text_offset"):
            return None
        self._note_offsets(logprobs)
        skip = min(self._skip, len(logprobs["text_offset"]))
        out = {key: (value[skip:] if isinstance(value, list) else value) for key, value in logprobs.items()}
        out["text_offset"] = [at + self._offset_base for at in out["text_offset"]]
        return out if out["text_offset"] else None

    def resume(self, reason: str) -> Retry | Finish:
        """The request that goes on, or the end if no token is missing."""
        if self.prompt_raw is None:
            return self._give_way().resume(reason)
        stream, log = self.stream, self._ids
        log.fold()
        self._told = max(self._told, len(log.ids))
        mark = log.boundary(stream.ask.greedy)
        limit = self.limit
        if limit is not None and mark.tokens >= limit and mark.chars <= len(log.sent):
            return self._finish_here(reason)
        self._mark, self._now = mark, mark.tokens
        self._due = log.rewind(mark)
        self._skip = self._told - mark.tokens
        self._fresh = True
        if self._offsets:
            del self._offsets[mark.tokens + 1 :]
            self._offset_base = self._offsets[-1]
        body = self._next_body(mark.tokens, limit)
        again = f", {len(self._due)} characters compared" if self._due else ""
        return Retry(
            path=COMPLETIONS,
            body=body,
            reason=f"{reason}; continued from {mark.tokens} tokens{again}",
        )

    def ending(self) -> bytes | None:
        if self.prompt_raw is None:
            return None
        return self.stream.ending(self.prompt_tokens, self._ids.tokens)

    def full(self, reason: str) -> Finish | None:
        return self._finish_here(reason)

    def _finish_here(self, reason: str) -> Finish:
        """The answer is as long as it may be: only its end is missing."""
        stream = self.stream
        ask = stream.ask
        out = events.chunk_doc(ask.kind, stream.head or {}, None)
        out["choices"] = [events.choice_doc(ask.kind, "", [] if ask.wants_ids else None, "length")]
        stream.finished.add(0)
        ending = stream.ending(self.prompt_tokens, self._ids.tokens)
        return Finish(event=events.write(out) + ending, reason=f"{reason}; the last token had been sent")

    def _next_body(self, tokens: int, limit: int | None) -> bytes:
        ask = self.stream.ask
        ids = ",".join(map(str, self._ids.ids)).encode()
        prompt = b"[" + (self.prompt_raw or b"") + (b"," + ids if ids else b"") + b"]"
        dropped = "logprobs" if ask.kind == "chat" else ""
        doc: dict[str, Any] = {f: raw for f, raw in ask.fields.items() if f in CARRIED and f != dropped}
        doc["prompt"] = msgspec.Raw(prompt)
        doc["max_tokens"] = None if limit is None else limit - tokens
        least = ask.whole("min_tokens")
        if least:
            doc["min_tokens"] = max(0, least - tokens)
        doc["stream"] = True
        doc["return_token_ids"] = True
        return events.encode(doc)

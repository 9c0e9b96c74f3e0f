"""Whole answers put together from streams, so that they are as safe as streams: watched, resumed, cut with the client.

`as_stream` makes a streaming request out of one that asks for a whole answer, or says that it cannot be; `Whole` takes
the stream's events, as a client of that stream would get them, and makes the answer that the engine would have given:
the same JSON but for ids and times (tests/contract/test_whole.py compares the two on both engines, vLLM 0.32).

What a stream brings may be no answer (an event in an unknown form) or too much of one to hold (`MOST`): then `Unfit` is
raised, and the request is asked of the engine as it is.

Left to the engine as they are: what it cannot stream (`prompt_logprobs`, and what sets it; beams), and what its
parsers read in another way when they stream (tool calls).
Forbidden here: I/O, clocks, and knowing how a stream was resumed.
"""

from __future__ import annotations

from typing import Any

import msgspec

from seawall.decide.route import sse
from seawall.decide.route.members import Members
from seawall.decide.route.resume.events import UNKNOWN_FORM

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
MESSAGES = "/v1/messages"
RESPONSES = "/v1/responses"
_NEVER = {
    CHAT: ("prompt_logprobs", "echo", "use_beam_search", "kv_transfer_params"),
    COMPLETIONS: ("prompt_logprobs", "use_beam_search", "kv_transfer_params"),
    MESSAGES: ("thinking", "kv_transfer_params"),
    RESPONSES: ("background", "kv_transfer_params", "enable_response_messages"),
}
"""Route -> fields that, set to anything, keep an answer from being put together."""

MOST = 32 * 2**20
"""Bytes of one answer that are held: half a million tokens of text, 15,000 with 20 logprobs each. What is longer is
passed on as the engine writes it, and is not watched token by token."""
ENTRY = 64
"""Bytes that a piece of text takes beyond its characters."""
_NO_ANSWER = (*UNKNOWN_FORM, IndexError, sse.EventTooLarge)

Json = dict[str, Any]
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.encode
_IDLE = (b"null", b"false", b"0", b"[]", b"{}", b'""')


def as_stream(route: str, body: bytes) -> bytes | None:
    """The same request with a streamed answer; None: the engine must give this one whole. `body` is a JSON object."""
    fields = _fields.decode(body) if route in _NEVER else {}
    added = stream_fields(route, fields)
    return None if added is None else _encode({**fields, **added})


def streamed_form(route: str, body: bytes, members: Members | None) -> tuple[bytes | None, Members | None]:
    """`as_stream` of any body: of a large one the members are known, and those of the new form are told."""
    if members is None:
        return as_stream(route, body), None
    added = stream_fields(route, members.fields)
    if added is None:
        return None, None
    streamed = members.with_fields({name: _encode(value) for name, value in added.items()})
    return streamed.body, streamed


def stream_fields(route: str, fields: dict[str, msgspec.Raw]) -> Json | None:
    """What makes the streaming request; None: there is none."""
    never = _NEVER.get(route)
    if never is None:
        return None
    if any(_set(fields, name) for name in (*never, "stream_options")):
        return None
    if _set(fields, "tools") and not _calls_nothing(route, fields):
        return None
    if route == COMPLETIONS and _set(fields, "echo") and bytes(fields.get("logprobs", b"null")) != b"null":
        return None
    added: Json = {"stream": True}
    if route in (CHAT, COMPLETIONS):
        added["stream_options"] = {"include_usage": True}
        if _set(fields, "logprobs") or bytes(fields.get("logprobs", b"")) == b"0":
            added["return_token_ids"] = True  # else a token without text, and its logprob, is left out
    return added


def _calls_nothing(route: str, fields: dict[str, msgspec.Raw]) -> bool:
    raw = bytes(fields.get("tool_choice", b""))
    if route == MESSAGES:
        return raw.translate(None, b" \t\r\n") == b'{"type":"none"}'
    return raw == b'"none"'


def _set(fields: dict[str, msgspec.Raw], name: str) -> bool:
    raw = fields.get(name)
    return raw is not None and (len(memoryview(raw)) > 5 or bytes(raw) not in _IDLE)


class Unfit(Exception):
    """What a stream brought cannot be made a whole answer; the message says why."""


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning: str | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    delta: _Delta | None = None
    text: str | None = None
    logprobs: dict[str, list[msgspec.Raw]] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    prompt_token_ids: list[int] | None = None
    token_ids: list[int] | None = None


class _Chunk(msgspec.Struct, gc=False):
    id: str = ""
    created: int = 0
    model: str = ""
    choices: list[_Choice] = []
    usage: dict[str, Any] | None = None
    system_fingerprint: str | None = None
    prompt_token_ids: list[int] | None = None
    prompt_text: str | None = None


_chunk = msgspec.json.Decoder(_Chunk)
_NO_DETAILS = {"prompt_tokens_details": None, "completion_tokens_details": None}
_NOTHING_ELSE = {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}


class _Sum:
    """One choice, as far as it has come."""

    __slots__ = ("finish_reason", "ids", "logprobs", "prompt_ids", "reasoning", "stop_reason", "text")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.ids: list[int] = []
        self.prompt_ids: list[int] | None = None
        self.logprobs: dict[str, list[msgspec.Raw]] | None = None
        self.finish_reason: str | None = None
        self.stop_reason: int | str | None = None

    def add(self, choice: _Choice) -> int:
        """Takes a piece of it -> about the bytes of text and ids that it adds."""
        text = choice.text if choice.delta is None else choice.delta.content
        more = 0
        if text:
            self.text.append(text)
            more += ENTRY + len(text)
        if choice.delta is not None and choice.delta.reasoning:
            self.reasoning.append(choice.delta.reasoning)
            more += ENTRY + len(choice.delta.reasoning)
        if choice.token_ids:
            self.ids += choice.token_ids
            more += 8 * len(choice.token_ids)
        if choice.prompt_token_ids is not None:
            self.prompt_ids = choice.prompt_token_ids
        if choice.logprobs is not None:
            if self.logprobs is None:
                self.logprobs = choice.logprobs
            else:
                for name, rows in choice.logprobs.items():
                    self.logprobs[name] += rows
        if choice.finish_reason is not None:
            self.finish_reason, self.stop_reason = choice.finish_reason, choice.stop_reason
        return more


class Whole:
    """The answer to one request that was asked as a stream. `feed` what the client of that stream would get; `answer`
    once it has ended well. Both raise Unfit."""

    __slots__ = (
        "_choices",
        "_head",
        "_held",
        "_kind",
        "_last",
        "_most",
        "_splitter",
        "_usage",
        "_wants_ids",
    )

    def __init__(self, route: str, body: bytes, most: int = MOST) -> None:
        """`body`: the client's own, which asks for a whole answer."""
        self._most = most
        self._held = 0
        self._kind = route
        self._wants_ids = _set(_fields.decode(body), "return_token_ids")
        self._splitter = sse.EventSplitter()
        self._head = _Chunk()
        self._choices: dict[int, _Sum] = {}
        self._usage: Json | None = None
        self._last: Json = {}

    @property
    def held(self) -> int:
        """Bytes of what has come, about."""
        return self._held + self._splitter.held

    def feed(self, data: bytes) -> None:
        """Takes bytes of the stream, cut anywhere."""
        try:
            for event in self._splitter.feed(data):
                text = sse.data_of(event)
                if text is not None and text != b"[DONE]":
                    self._event(text)
        except _NO_ANSWER as e:
            raise Unfit(f"an event of the stream is none of vLLM's: {type(e).__name__}") from None
        if self._held > self._most:
            raise Unfit(f"the answer is longer than {self._most} bytes")

    def answer(self) -> bytes:
        """The whole answer, as JSON."""
        try:
            if self._kind in (CHAT, COMPLETIONS):
                if not self._choices:
                    raise Unfit("the stream brought no choice")
                return _encode(self._as_chat() if self._kind == CHAT else self._as_completion())
            if not self._last:
                raise Unfit("the stream brought no answer")
            return _encode(self._last)
        except _NO_ANSWER as e:
            raise Unfit(f"the stream's events make no answer: {type(e).__name__}") from None

    def _event(self, text: bytes) -> None:
        if self._kind in (CHAT, COMPLETIONS):
            self._chunk(_chunk.decode(text), len(text))
        elif self._kind == MESSAGES:
            self._held += len(text)
            self._message(msgspec.json.decode(text))
        elif b'"response":' in text:  # the last one of these says all
            self._last = msgspec.json.decode(text).get("response", self._last)

    # -- chunks of chats and completions

    def _chunk(self, chunk: _Chunk, size: int) -> None:
        if not self._head.id:
            self._head = chunk
        if chunk.usage is not None:
            self._usage = chunk.usage
        if chunk.system_fingerprint is not None:
            self._head.system_fingerprint = chunk.system_fingerprint
        for choice in chunk.choices:
            kept = self._choices.get(choice.index)
            if kept is None:
                kept = self._choices[choice.index] = _Sum()
            self._held += kept.add(choice)
            if choice.logprobs is not None:
                self._held += size  # its entries stay as they are written

    def _as_chat(self) -> Json:
        head = self._head
        return {
            **self._opening("chat.completion"),
            "choices": [self._chat_choice(i, c) for i, c in sorted(self._choices.items())],
            **self._ending(),
            "prompt_logprobs": None,
            "prompt_token_ids": head.prompt_token_ids if self._wants_ids else None,
            "prompt_text": head.prompt_text,
            **_NOTHING_ELSE,
        }

    def _chat_choice(self, index: int, choice: _Sum) -> Json:
        reasoning = "".join(choice.reasoning) or None
        content = "".join(choice.text)
        message = {"role": "assistant", "content": None if reasoning and not content else content, "refusal": None,
                   "annotations": None, "audio": None, "function_call": None, "reasoning": reasoning}  # fmt: skip
        return {
            "index": index,
            "message": message,
            "logprobs": choice.logprobs,
            "finish_reason": choice.finish_reason,
            "stop_reason": choice.stop_reason,
            "token_ids": choice.ids if self._wants_ids else None,
            "routed_experts": None,
        }

    def _as_completion(self) -> Json:
        choices = [
            {
                "index": index,
                "text": "".join(choice.text),
                "logprobs": choice.logprobs,
                "finish_reason": choice.finish_reason,
                "stop_reason": choice.stop_reason,
                "token_ids": choice.ids if self._wants_ids else None,
                "prompt_logprobs": None,
                "prompt_token_ids": choice.prompt_ids if self._wants_ids else None,
                "routed_experts": None,
            }
            for index, choice in sorted(self._choices.items())
        ]
        return {**self._opening("text_completion"), "choices": choices, **self._ending(), **_NOTHING_ELSE}

    def _opening(self, kind: str) -> Json:
        return {"id": self._head.id, "object": kind, "created": self._head.created, "model": self._head.model}

    def _ending(self) -> Json:
        usage = (
            None
            if self._usage is None
            else {**self._usage, **{k: v for k, v in _NO_DETAILS.items() if k not in self._usage}}
        )
        return {"service_tier": None, "system_fingerprint": self._head.system_fingerprint, "usage": usage}

    # -- events of messages

    def _message(self, event: Json) -> None:
        match event.get("type"):
            case "message_start":
                self._last = {k: v for k, v in event["message"].items() if v is not None}
            case "content_block_start":
                self._last["content"].append(event["content_block"])
            case "content_block_delta":
                block, delta = self._last["content"][event["index"]], event["delta"]
                block["text"] = block.get("text", "") + delta.get("text", "")
            case "message_delta":
                self._last.pop("usage", None)  # it stands last
                self._last.update({k: v for k, v in event["delta"].items() if v is not None})
                self._last["usage"] = event["usage"]
            case _:
                pass

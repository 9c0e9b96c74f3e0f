"""The shapes of `/v1/messages` (Anthropic) and `/v1/responses` (OpenAI), event by event, as vLLM 0.32 writes them.

Both are chats in other clothes: their bodies become a chat's, their answers are told as typed events.
tests/contract compares them with the real ones. Reasoning and tools are not simulated here.
"""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from seawall.engines.sim.answers import Answer, SequenceText, totals
from seawall.engines.sim.asks import GenerationRequest, Json, invalid
from seawall.engines.sim.tokens import Vocabulary

_STOPS = {"length": "max_tokens", "stop": "end_turn"}


def _event(doc: Json) -> str:
    return f"event: {doc['type']}\ndata: {msgspec.json.encode(doc).decode()}\n\n"


def _required(data: Json, *names: str) -> None:
    for name in names:
        if data.get(name) is None:
            raise invalid("missing", name, "Field required", data)


def chat_of_messages(data: Json) -> Json:
    """The body of /v1/messages as a chat's. Raises Refused."""
    _required(data, "messages", "max_tokens")
    if isinstance(data["max_tokens"], int) and data["max_tokens"] < 1:
        text = "Value error, max_tokens must be positive"
        raise invalid("value_error", "max_tokens", text, data["max_tokens"])
    kept: Json = {k: data[k] for k in ("model", "temperature", "top_p", "stream", "ignore_eos") if k in data}
    system = [{"role": "system", "content": data["system"]}] if data.get("system") else []
    return {
        **kept,
        "messages": [*system, *data["messages"]],
        "max_tokens": data["max_tokens"],
        "stop": data.get("stop_sequences"),
    }


def chat_of_response(data: Json) -> Json:
    """The body of /v1/responses as a chat's. Raises Refused."""
    _required(data, "input")
    given = data["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else list(given)
    if data.get("instructions"):
        items.insert(0, {"role": "system", "content": data["instructions"]})
    names = ("model", "temperature", "top_p", "stream", "seed", "stop", "ignore_eos", "structured_outputs")
    chat = {k: data[k] for k in names if k in data}
    if "message.output_text.logprobs" in (data.get("include") or ()):
        chat |= {"logprobs": True, "top_logprobs": data.get("top_logprobs") or 0}
    return {**chat, "messages": items, "max_tokens": data.get("max_output_tokens")}


class Messages(Answer):
    """Anthropic's events."""

    def __init__(self, ask: GenerationRequest, request_id: str, words: Vocabulary) -> None:
        super().__init__(ask, request_id, words)
        self._block = False

    def _message(self, content: list[Json], stop: str | None, usage: Json) -> Json:
        head = {"id": self.id, "type": "message", "role": "assistant", "content": content}
        return {**head, "model": self.ask.model, "stop_reason": stop, "stop_sequence": None, "usage": usage}

    def _counted(self, prompt: int, generated: int) -> Json:
        """Anthropic's `input_tokens` are those that were not cached."""
        if self.cached is None:
            return {"input_tokens": prompt, "output_tokens": generated}
        fresh = {"input_tokens": prompt - self.cached, "output_tokens": generated}
        return {**fresh, "cache_read_input_tokens": self.cached}

    def opening(self, choice: SequenceText) -> str:
        usage = {"input_tokens": len(choice.prompt), "output_tokens": 0}
        return _event({"type": "message_start", "message": self._message([], None, usage)})

    def chunk(self, choice: SequenceText) -> str:
        text, _, _ = choice.delta()
        if not text:
            return ""
        start = ""
        if not self._block:
            self._block = True
            block = {"type": "text", "text": ""}
            start = _event({"type": "content_block_start", "content_block": block, "index": 0})
        delta = {"type": "text_delta", "text": text}
        return start + _event({"type": "content_block_delta", "delta": delta, "index": 0})

    def end(self, choices: list[SequenceText]) -> str:
        stop = _event({"type": "content_block_stop", "index": 0}) if self._block else ""
        reason, sequence = _stopped(choices[0])
        prompt, generated = totals(choices, 1)
        end = {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": sequence},
            "usage": self._counted(prompt, generated),
        }
        return stop + _event(end) + _event({"type": "message_stop"})

    def bare_end(self) -> str:
        return _event({"type": "message_stop"})

    def error(self, body: Json) -> str:
        error = {"type": "internal_error", "message": body["error"]["message"]}
        return _event({"type": "error", "error": error})

    def whole(self, choices: list[SequenceText]) -> Json:
        text, _, _ = choices[0].delta()
        reason, sequence = _stopped(choices[0])
        prompt, generated = totals(choices, 1)
        usage = self._counted(prompt, generated)
        doc = self._message([{"type": "text", "text": text}], reason, usage) | {"stop_sequence": sequence}
        return {k: v for k, v in doc.items() if v is not None}


def _stopped(choice: SequenceText) -> tuple[str | None, str | None]:
    if choice.finish_reason == "stop" and isinstance(choice.stop_reason, str):
        return "stop_sequence", choice.stop_reason
    return _STOPS.get(choice.finish_reason or ""), None


class Responses(Answer):
    """OpenAI's events."""

    def __init__(self, ask: GenerationRequest, request_id: str, words: Vocabulary, data: Json) -> None:
        super().__init__(ask, request_id, words)
        self.id = str(data.get("request_id") or f"resp_{secrets.token_hex(8)}")
        self._data = data
        self._item = f"msg_{secrets.token_hex(8)}"
        self._number = 0
        self._open = False
        self._said = ""
        self._logs: list[Json] = []

    def _numbered(self, *docs: Json) -> str:
        out = ""
        for doc in docs:
            kind = doc.pop("type")
            out += _event({**doc, "sequence_number": self._number, "type": kind})
            self._number += 1
        return out

    def _response(self, status: str, output: list[Json], usage: Json | None) -> Json:
        data = self._data
        reason = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            "id": self.id, "created_at": self.created, "incomplete_details": reason,
            "instructions": data.get("instructions"), "metadata": data.get("metadata"), "model": self.ask.model,
            "object": "response", "output": output, "parallel_tool_calls": True,
            "temperature": float(data.get("temperature", 1.0)), "tool_choice": "none", "tools": [],
            "top_p": float(data.get("top_p", 1.0)), "background": False,
            "max_output_tokens": data.get("max_output_tokens"), "max_tool_calls": None,
            "previous_response_id": None, "prompt": None, "reasoning": None, "service_tier": "auto",
            "status": status, "text": None, "top_logprobs": data.get("top_logprobs"), "truncation": "disabled",
            "usage": usage, "user": data.get("user"), "presence_penalty": 0.0, "frequency_penalty": 0.0,
            "kv_transfer_params": None, "ec_transfer_params": None, "input_messages": None,
            "output_messages": None,
        }  # fmt: skip

    def greeting(self) -> str:
        response = self._response("in_progress", [], None)
        return self._numbered(
            {"type": "response.created", "response": response},
            {"type": "response.in_progress", "response": response},
        )

    def opening(self, choice: SequenceText) -> str:
        return ""

    def _place(self) -> Json:
        return {"content_index": 0, "item_id": self._item, "output_index": 0}

    def chunk(self, choice: SequenceText) -> str:
        text, ids, values = choice.delta()
        entries: list[Json] = []
        if self.ask.logprobs is not None:
            entries = msgspec.json.decode(self._logprobs(choice, ids, values, False))["content"]
            self._logs += entries
        if not text:
            return ""
        start = ""
        if not self._open:
            self._open = True
            part: Json = {"annotations": [], "text": "", "type": "output_text", "logprobs": []}
            item = self._message([], "in_progress")
            start = self._numbered(
                {"type": "response.output_item.added", "item": item, "output_index": 0},
                {"type": "response.content_part.added", **self._place(), "part": part},
            )
        self._said += text
        shown = [{k: v for k, v in entry.items() if k != "bytes"} for entry in entries]
        delta = {"type": "response.output_text.delta", **self._place(), "delta": text, "logprobs": shown}
        return start + self._numbered(delta)

    def _message(self, content: list[Json], status: str) -> Json:
        head = {"id": self._item, "content": content, "role": "assistant"}
        return {**head, "status": status, "type": "message", "phase": None}

    def _part(self) -> Json:
        return {"annotations": [], "text": self._said, "type": "output_text", "logprobs": self._logs or None}

    def _done(self, choices: list[SequenceText]) -> Json:
        prompt, generated = totals(choices, 1)
        usage = {
            "input_tokens": prompt,
            "input_tokens_details": {
                "cached_tokens": self.cached or 0,
                "cache_write_tokens": 0,
                "input_tokens_per_turn": [],
                "cached_tokens_per_turn": [],
            },
            "output_tokens": generated,
            "output_tokens_details": {
                "reasoning_tokens": 0,
                "tool_output_tokens": 0,
                "output_tokens_per_turn": [],
                "tool_output_tokens_per_turn": [],
            },
            "total_tokens": prompt + generated,
        }
        status = "incomplete" if choices[0].finish_reason == "length" else "completed"
        return self._response(
            status, [self._message([self._part()], "completed")] if self._said else [], usage
        )

    def end(self, choices: list[SequenceText]) -> str:
        closed = ""
        if self._open:
            text = {"type": "response.output_text.done", **self._place(), "logprobs": [], "text": self._said}
            item = self._message([self._part()], "completed")
            closed = self._numbered(
                text,
                {"type": "response.content_part.done", **self._place(), "part": self._part()},
                {"type": "response.output_item.done", "item": item, "output_index": 0},
            )
        return closed + self._numbered({"type": "response.completed", "response": self._done(choices)})

    def bare_end(self) -> str:
        return ""

    def error(self, body: Json) -> str:
        return ""

    def whole(self, choices: list[SequenceText]) -> Any:
        self._said = choices[0].delta()[0]
        return self._done(choices)

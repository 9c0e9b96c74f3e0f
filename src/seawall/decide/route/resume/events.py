"""The shapes of vLLM's stream events: reading, hiding what the gateway added, writing in the client's shape.

Hiding works on bytes: a key such as `,"token_ids":[` cannot occur inside a JSON string (its quotes would be
escaped), so cutting there leaves every other byte as the engine wrote it. Forbidden here: state.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from seawall.decide.route.resume.policy import Usage, is_count
from seawall.decide.route.resume.ways import Kind

Doc = dict[str, Any]

DONE: Final = b"data: [DONE]\n\n"
_CHAT_OPEN: Final = b'"delta":{"content":"'
_TEXT_OPEN: Final = b'"choices":[{"index":0,"text":"'
_INDEX: Final = b'"index":0,'
_PROMPT_KEY: Final = b'"prompt_token_ids":['
_IDS_KEY: Final = b'"token_ids":['
_FINGERPRINT: Final = re.compile(rb',"system_fingerprint":"[^"]*"')

_NO_JSON = (ValueError, RecursionError, msgspec.DecodeError)
UNKNOWN_FORM = (KeyError, TypeError, AttributeError, OverflowError, *_NO_JSON)
"""What reading an engine's event raises when it is no chunk of vLLM's."""

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
encode: Final = msgspec.json.encode


def read(payload: bytes) -> Doc:
    """The event's JSON object. Raises msgspec.DecodeError."""
    return _decode(payload)


def write(doc: Doc) -> bytes:
    return b"data: " + encode(doc) + b"\n\n"


def cut_prompt_ids(event: bytes) -> tuple[bytes, bytes | None]:
    """(event with `"prompt_token_ids":null`, the ids as they were written: b'1,2,3'), unparsed: it can be 1 MB."""
    at = event.find(_PROMPT_KEY)
    if at < 0:
        return event, None
    begin = at + len(_PROMPT_KEY)
    end = event.find(b"]", begin)
    if end < 0:
        return event, None
    return event[: begin - 1] + b"null" + event[end + 1 :], event[begin:end]


def hide_token_ids(event: bytes) -> bytes:
    """The event with `null` for every list of `token_ids`."""
    at = event.find(_IDS_KEY)
    while at >= 0:
        begin = at + len(_IDS_KEY) - 1
        end = event.find(b"]", begin)
        if end < 0:
            break
        event = event[:begin] + b"null" + event[end + 1 :]
        at = event.find(_IDS_KEY, begin)
    return event


def fingerprint_of(event: bytes) -> bytes:
    """`,"system_fingerprint":"..."` as written, or b''. vLLM moves it to the usage chunk when there is one."""
    found = _FINGERPRINT.search(event)
    return found.group() if found else b""


def text_begin(event: bytes, kind: Kind) -> bytes:
    """`event` up to the text of its only choice, or b'' when it is no chunk of choice 0 in vLLM's form."""
    opening = _CHAT_OPEN if kind == "chat" else _TEXT_OPEN
    at = event.find(opening)
    if at < 0 or event.find(_INDEX, 0, at + 30) < 0 or not event.startswith(b"data: {"):
        return b""
    return event[: at + len(opening)]


def inside(text: bytes) -> bool:
    """No quote in `text` ends the string: the end of a member's value is followed by a comma or a brace.

    May be False for escaped quotes too; such chunks are read as JSON.
    """
    return b'",' not in text and b'"}' not in text


def with_tail(event: bytes, tail: bytes) -> bytes:
    """`event` with `tail` put before the closing brace of its JSON object."""
    end = event.rfind(b"}")
    return event[:end] + tail + event[end:] if tail and end >= 0 else event


def is_error(doc: Doc) -> bool:
    return "error" in doc and bool(doc["error"]) and not doc.get("choices")


def opens(doc: Doc) -> bool:
    """A chunk before the first token: nothing but the role."""
    choices: list[Doc] = doc.get("choices") or []
    for choice in choices:
        delta = choice.get("delta") or {}
        if choice.get("finish_reason") is not None or "role" not in delta:
            return False
        for key in delta:
            if key != "role" and delta[key]:
                return False
    return bool(choices)


def error_code(doc: Doc) -> int:
    """HTTP-like code of an error event; 500 where none is given."""
    error = doc.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) else 500


def text_of(doc_choice: Doc) -> str:
    """The plain text of one choice, of either route."""
    delta = doc_choice.get("delta")
    value = delta.get("content") if isinstance(delta, dict) else doc_choice.get("text")
    return value if isinstance(value, str) else ""


def usage_of(doc: Doc) -> Usage | None:
    usage = doc.get("usage")
    if not isinstance(usage, dict) or not is_count(usage.get("prompt_tokens")):
        return None
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    completion = usage.get("completion_tokens")
    if completion is not None and not is_count(completion):
        return None
    return Usage(
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=completion or 0,
        cached_tokens=cached if is_count(cached) else None,
    )


def other_usage(doc: Doc) -> Usage | None:
    """The usage in an event of `/v1/messages` or `/v1/responses`, wherever the event keeps it."""
    for holder in (doc, doc.get("message"), doc.get("response")):
        usage = holder.get("usage") if isinstance(holder, dict) else None
        if isinstance(usage, dict):
            prompt, completion = usage.get("input_tokens"), usage.get("output_tokens")
            if is_count(prompt) and is_count(completion):
                details = usage.get("input_tokens_details")
                cached = details.get("cached_tokens") if isinstance(details, dict) else None
                cached = cached if is_count(cached) else None
                read, made = (usage.get(f"cache_{k}_input_tokens") for k in ("read", "creation"))
                if is_count(read):  # Anthropic's `input_tokens` leaves out what was cached, or will be
                    prompt, cached = prompt + read + (made if is_count(made) else 0), read
                return Usage(prompt, completion, cached)
    return None


def usage_doc(prompt: int, completion: int, like: Doc | None = None) -> Doc:
    """vLLM's usage object, with the further keys of `like`."""
    doc: Doc = {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
    }
    for key, value in (like or {}).items():
        if key not in doc:
            doc[key] = value
    details = doc.get("prompt_tokens_details")
    if isinstance(details, dict) and isinstance(details.get("cached_tokens"), int):
        details["cached_tokens"] = min(details["cached_tokens"], prompt)
    return doc


def chunk_doc(kind: Kind, head: Doc, choice: Doc | None) -> Doc:
    """A stream chunk with the identity (`id`, `created`, `model`) that the client already knows."""
    return {
        "id": head.get("id"),
        "object": "chat.completion.chunk" if kind == "chat" else "text_completion",
        "created": head.get("created"),
        "model": head.get("model"),
        "choices": [] if choice is None else [choice],
    }


def logprobs_of(logprobs: Any) -> list[float]:
    """The logprobs of a choice's own tokens; one that JSON could not hold is NaN. Of an echoed prompt the first token
    has none. A form that is not known tells none: it is for those to judge who must understand it."""
    try:
        if isinstance(logprobs.get("content"), list):
            values = [entry.get("logprob") for entry in logprobs["content"]]
        else:
            values = [v for v in logprobs.get("token_logprobs") or [] if v is not None]
        return [float("nan") if v is None else float(v) for v in values]
    except UNKNOWN_FORM:
        return []


def choice_doc(
    kind: Kind,
    text: str,
    ids: list[int] | None,
    finish: str | None,
    stop_reason: Any = None,
    logprobs: Any = None,
) -> Doc:
    """One choice in vLLM's order of keys."""
    if kind != "chat":
        return {
            "index": 0,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": finish,
            "stop_reason": stop_reason,
            "prompt_token_ids": None,
            "token_ids": ids,
        }
    doc: Doc = {"index": 0, "delta": {"content": text}, "logprobs": logprobs, "finish_reason": finish}
    if finish is not None:
        doc["stop_reason"] = stop_reason
    doc["token_ids"] = ids
    return doc


def error_event(kind: Kind, message: str, code: str, status: int, sent: int) -> bytes:
    """The error event of a stream that is lost, in the shape the route's own clients read. `sent`: events before it."""
    if kind == "messages":
        about = "overloaded_error" if status == 503 else "timeout_error" if status == 504 else "api_error"
        body = encode({"type": "error", "error": {"type": about, "message": message}})
        return b"event: error\ndata: " + body + b"\n\n"
    if kind == "responses":
        doc = {"type": "error", "code": code, "message": message, "param": None, "sequence_number": sent}
        return b"event: error\ndata: " + encode(doc) + b"\n\n"
    return write({"error": {"message": message, "type": code, "param": None, "code": status}})

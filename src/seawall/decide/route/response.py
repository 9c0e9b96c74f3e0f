"""The objects of OpenAI's `/v1/responses`, as far as the gateway writes them itself: a response that runs in the
background, before and while an engine answers it, and what becomes of the engine's events then.

Status: queued -> in_progress -> completed, incomplete, failed or cancelled. The events of a response in the background
are numbered anew, for two of ours stand before the engine's own. Forbidden here: I/O, clocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final

import msgspec

from seawall.decide.route import sse
from seawall.decide.route.record import AnswerRecord, RecordState
from seawall.decide.route.refusal import Refusal

Json = dict[str, Any]
_ECHOED: Final = (
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "previous_response_id",
    "prompt",
    "reasoning",
    "temperature",
    "text",
    "top_logprobs",
    "top_p",
    "user",
)
"""Fields of a request that its response repeats."""
ASKED: Final = (*_ECHOED, "parallel_tool_calls", "service_tier", "tool_choice", "tools", "truncation")
"""All fields of a request that `opening` looks at."""
OPENED: Final = 2
"""Events before the engine's own: `response.created`, `response.queued`."""
MARK_CHARS: Final = 16
UNPLACED: Final = "-" * MARK_CHARS
"""In the place of a mark, until it is known where the request goes. No id that anybody else makes has it."""
_ENDS: Final = {"incomplete": "response.incomplete", "failed": "response.failed"}
_encode = msgspec.json.encode
_fields = msgspec.json.Decoder(dict[str, Any])


def mark_of(replica: str, tenant: str) -> str:
    """What the id of a response that `replica` keeps for `tenant` ends with. So every gateway that knows the replicas
    finds it, without a table, and for no other tenant."""
    return blake2b(f"{replica}\0{tenant}".encode(), digest_size=MARK_CHARS // 2).hexdigest()


def keeper_of(id: str, replicas: Iterable[str], tenant: str) -> str | None:
    """The replica that keeps this response for this tenant."""
    mark = id[-MARK_CHARS:]
    return next((name for name in replicas if mark_of(name, tenant) == mark), None)


def opening(id: str, created: int, model: str, asked: Mapping[str, Any], background: bool) -> Json:
    """A response of which no engine has said anything. `created`: Unix seconds."""
    given = {name: asked.get(name) for name in _ECHOED}
    return {
        "id": id,
        "created_at": created,
        "object": "response",
        "model": model,
        "status": "queued",
        "background": background,
        "error": None,
        "incomplete_details": None,
        "output": [],
        "parallel_tool_calls": asked.get("parallel_tool_calls", True),
        "service_tier": asked.get("service_tier") or "auto",
        "store": True,
        "tool_choice": asked.get("tool_choice") or "auto",
        "tools": asked.get("tools") or [],
        "truncation": asked.get("truncation") or "disabled",
        "usage": None,
        **given,
    }


def event_of(kind: str, number: int, response: Json) -> bytes:
    """One event of a response's stream."""
    return _event({"type": kind, "sequence_number": number, "response": response})


def renumbered(event: bytes, number: int) -> bytes:
    """An engine's event as one of a response in the background; empty: it has no place there."""
    doc = _document(event)
    if doc is None or doc.get("type") == "response.created":
        return b""
    doc["sequence_number"] = number
    if isinstance(doc.get("response"), dict):
        doc["response"]["background"] = True
    return _event(doc)


def ending(answer: bytes, number: int) -> bytes:
    """The last event of a response that the engine gave whole. ValueError when it is none."""
    response = _fields.decode(answer)
    response["background"] = True
    return event_of(_ENDS.get(str(response.get("status")), "response.completed"), number, response)


def failed(opened: bytes, refusal: Refusal) -> Json:
    """How a response has failed."""
    error = {"code": "server_error", "message": f"{refusal.message} ({refusal.code})"}
    return {**_fields.decode(opened), "status": "failed", "error": error}


def cancelled(opened: bytes) -> Json:
    return {**_fields.decode(opened), "status": "cancelled"}


def refused(status: int, answer: bytes) -> Refusal:
    """An engine's refusal, whole, as one of ours."""
    try:
        error = _fields.decode(answer).get("error")
        message = error.get("message") if isinstance(error, dict) else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        message = None
    return Refusal(status, "upstream_refused", str(message or f"The engine answered {status}."))


def response_of(record: AnswerRecord) -> bytes:
    """The response of a record as it is now."""
    if record.state is RecordState.RUNNING:
        begun = record.count > (OPENED if record.background else 0)
        status = "in_progress" if begun or not record.background else "queued"
        return _encode({**_fields.decode(record.opening), "status": status})
    last = record.read(max(record.first, record.count - 1), 1)
    if record.whole:
        return last[0]
    for event in (record.last_words, *last):
        doc = _document(event) if event else None
        if doc is not None and isinstance(doc.get("response"), dict):
            return _encode(doc["response"])
    if record.state is RecordState.CANCELLED:
        return _encode(cancelled(record.opening))
    unknown = Refusal(502, "upstream_lost", "The stream ended early.")
    return _encode(failed(record.opening, record.refusal or unknown))


def _document(event: bytes) -> Json | None:
    data = sse.data_of(event)
    try:
        return None if data is None else _fields.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _event(doc: Json) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (str(doc.get("type")).encode(), _encode(doc))

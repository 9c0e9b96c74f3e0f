"""A client of typed events, and an engine that writes them: other ids in each run, the same words in other pieces."""

from __future__ import annotations

import json
from random import Random
from typing import Any

DRAWN = ("id", "item_id", "call_id", "signature", "created_at")


def parse(raw: bytes) -> list[dict[str, Any]]:
    """The events, each of which names itself twice."""
    found = []
    for event in raw.decode().split("\n\n")[:-1]:
        name, _, data = event.partition("\ndata: ")
        found.append(json.loads(data))
        assert name == f"event: {found[-1]['type']}"
    return found


def story(raw: bytes) -> list[Any]:
    """What a client understands: ids by the order in which they appear, consecutive deltas joined.

    An id that changes in the middle of a stream shows as another one; so does a number that is not the next.
    """
    seen: dict[Any, int] = {}
    told: list[Any] = []
    for number, doc in enumerate(parse(raw)):
        assert doc.pop("sequence_number", number) == number
        doc = _known(doc, seen)
        key = json.dumps({k: v for k, v in doc.items() if k not in ("delta", "logprobs")})
        delta = doc.get("delta")
        part = "delta" if isinstance(delta, str) else delta.get("type", "") if isinstance(delta, dict) else ""
        words = delta if isinstance(delta, str) else _words(delta)
        if words is None:
            told.append(doc)
        elif told and isinstance(told[-1], list) and told[-1][:2] == [key, part]:
            told[-1][2] += words
            told[-1][3] += doc.get("logprobs") or []
        else:
            told.append([key, part, words, list(doc.get("logprobs") or [])])
    return told


def _words(delta: Any) -> str | None:
    keys = ("text", "thinking", "partial_json")
    return next((delta[k] for k in keys if k in delta), None) if isinstance(delta, dict) else None


def _known(value: Any, seen: dict[Any, int]) -> Any:
    if isinstance(value, dict):
        return {
            k: seen.setdefault(v, len(seen)) if k in DRAWN and isinstance(v, str | int) else _known(v, seen)
            for k, v in value.items()
        }
    return [_known(v, seen) for v in value] if isinstance(value, list) else value


def write(doc: dict[str, Any]) -> bytes:
    return f"event: {doc['type']}\ndata: {json.dumps(doc, separators=(',', ':'))}\n\n".encode()


def _pieces(text: str, width: int) -> list[str]:
    return [text[i : i + width] for i in range(0, len(text), width)]


def message(seed: int, width: int, words: str = "The sea, 猫.", stop: str | None = "tool_use") -> list[bytes]:
    """A message that thinks, speaks and calls a tool."""
    rng = Random(seed)

    def draw() -> str:
        return f"{rng.getrandbits(64):x}"

    usage = {"input_tokens": 9, "output_tokens": 0}
    head = {"id": draw(), "type": "message", "role": "assistant", "content": [], "usage": usage}
    docs: list[dict[str, Any]] = [{"type": "message_start", "message": head}]
    blocks: list[tuple[dict[str, Any], str, str, str]] = [
        ({"type": "thinking", "thinking": ""}, "thinking_delta", "thinking", "hmm, hmm"),
        ({"type": "text", "text": ""}, "text_delta", "text", words),
        (
            {"type": "tool_use", "id": draw(), "name": "f", "input": {}},
            "input_json_delta",
            "partial_json",
            '{"a": 1}',
        ),
    ]
    for i, (block, kind, key, text) in enumerate(blocks):
        docs.append({"type": "content_block_start", "content_block": block, "index": i})
        for piece in _pieces(text, width):
            delta = {"type": kind, key: piece}
            docs.append({"type": "content_block_delta", "delta": delta, "index": i})
        if i == 0:
            signed = {"type": "signature_delta", "signature": draw()}
            docs.append({"type": "content_block_delta", "delta": signed, "index": i})
        docs.append({"type": "content_block_stop", "index": i})
    end = {"stop_reason": stop, "stop_sequence": None}
    docs.append({"type": "message_delta", "delta": end, "usage": usage | {"output_tokens": 21}})
    docs.append({"type": "message_stop"})
    return [write(doc) for doc in docs]


def response(seed: int, width: int, words: str = "The sea, 猫.", status: str = "completed") -> list[bytes]:
    """A response of a message with logprobs and a function call."""
    rng = Random(seed)
    begun = {"id": f"resp_{rng.getrandbits(64):x}", "created_at": 1700000000 + seed, "status": "in_progress"}
    docs: list[dict[str, Any]] = [
        {"type": f"response.{what}", "response": begun | {"output": []}}
        for what in ("created", "in_progress")
    ]
    output = []
    for i, kind in enumerate(("message", "function_call")):
        item: dict[str, Any] = {"id": f"{kind}_{rng.getrandbits(64):x}", "type": kind}
        if kind == "function_call":
            item["call_id"] = f"call_{rng.getrandbits(64):x}"
        docs.append({"type": "response.output_item.added", "item": item, "output_index": i})
        text = words if kind == "message" else '{"a": 1}'
        for piece in _pieces(text, width):
            delta = {
                "type": f"response.{kind}.delta",
                "delta": piece,
                "item_id": item["id"],
                "output_index": i,
            }
            logprobs = [{"token": c, "logprob": -1.5} for c in piece] if kind == "message" else None
            docs.append(delta | ({"logprobs": logprobs} if logprobs else {}))
        done = item | {"text": text}
        docs.append({"type": f"response.{kind}.done", "text": text, "item_id": item["id"], "output_index": i})
        docs.append({"type": "response.output_item.done", "item": done, "output_index": i})
        output.append(done)
    usage = {"input_tokens": 9, "output_tokens": 21, "total_tokens": 30}
    ended = begun | {"output": output, "status": status, "usage": usage}
    docs.append({"type": "response.completed", "response": ended})
    return [write({**doc, "sequence_number": n}) for n, doc in enumerate(docs)]


def plain(seed: int, words: list[str], tokens: int) -> list[bytes]:
    """A response of plain text as vLLM 0.32 writes it, one delta per token, `completed` however it ended; the token
    that ends an answer has no text, so that `tokens` is one more than the deltas unless it was aborted."""
    rng = Random(seed)
    begun = {"id": f"resp_{rng.getrandbits(64):x}", "created_at": 1700000000 + seed, "status": "in_progress"}
    item = {"id": f"msg_{rng.getrandbits(64):x}", "type": "message"}
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    done = item | {"content": [{"type": "output_text", "text": "".join(words)}]}
    ended = begun | {
        "output": [done],
        "status": "completed",
        "usage": {"input_tokens": 9, "output_tokens": tokens},
    }
    docs: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_item.added", "item": item, "output_index": 0},
        *({"type": "response.output_text.delta", "delta": word, **place} for word in words),
        {"type": "response.output_text.done", "text": "".join(words), **place},
        {"type": "response.output_item.done", "item": done, "output_index": 0},
        {"type": "response.completed", "response": ended},
    ]
    return [write({**doc, "sequence_number": n}) for n, doc in enumerate(docs)]

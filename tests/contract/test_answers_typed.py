"""`/v1/messages` and `/v1/responses`: event for event and field for field, in both engines."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract.conftest import Server

pytestmark = pytest.mark.timeout(1000)
MESSAGES, RESPONSES = "/v1/messages", "/v1/responses"
SAY = [{"role": "user", "content": "Tell me about the sea."}]
RESPONSE = {
    "id", "created_at", "incomplete_details", "instructions", "metadata", "model", "object", "output",
    "parallel_tool_calls", "temperature", "tool_choice", "tools", "top_p", "background", "max_output_tokens",
    "max_tool_calls", "previous_response_id", "prompt", "reasoning", "service_tier", "status", "text",
    "top_logprobs", "truncation", "usage", "user", "presence_penalty", "frequency_penalty",
    "kv_transfer_params", "ec_transfer_params", "input_messages", "output_messages",
}  # fmt: skip
USAGE = {"input_tokens", "input_tokens_details", "output_tokens", "output_tokens_details", "total_tokens"}
PLACE = {"type", "sequence_number", "output_index", "content_index", "item_id"}


def message(server: Server, **fields: Any) -> list[Any]:
    return server.typed(MESSAGES, messages=SAY, **{"max_tokens": 8, **fields})


def response(server: Server, **fields: Any) -> list[Any]:
    return server.typed(RESPONSES, input="Tell me about the sea.", **{"max_output_tokens": 8, **fields})


def test_a_streamed_message(server: Server) -> None:
    start, block, *deltas, stop, end, last = message(server)
    assert list(start) == ["type", "message"]
    assert list(start["message"]) == [
        "id", "type", "role", "content", "model", "stop_reason", "stop_sequence", "usage",
    ]  # fmt: skip
    assert start["message"]["id"].startswith("chatcmpl-")
    assert start["message"]["usage"].keys() == {"input_tokens", "output_tokens"}
    assert block == {"type": "content_block_start", "content_block": {"type": "text", "text": ""}, "index": 0}
    assert {(d["type"], d["index"], d["delta"]["type"]) for d in deltas} == {
        ("content_block_delta", 0, "text_delta")
    }
    assert stop == {"type": "content_block_stop", "index": 0}
    assert end["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    assert end["usage"] == {"input_tokens": start["message"]["usage"]["input_tokens"], "output_tokens": 8}
    assert last == {"type": "message_stop"}
    again = message(server)
    assert [e for e in again if "message" not in e] == [block, *deltas, stop, end, last]
    assert again[0]["message"]["id"] != start["message"]["id"]


def test_a_message_says_what_the_chat_says(server: Server) -> None:
    said = "".join(e["delta"].get("text", "") for e in message(server) if "delta" in e)
    assert said == server.chat().json["choices"][0]["message"]["content"]
    assert said == server.post(
        MESSAGES, {"model": server.model, "messages": SAY, "max_tokens": 8, "temperature": 0}
    ).json["content"][0]["text"]  # fmt: skip


def test_a_stop_sequence_of_a_message(server: Server) -> None:
    text = server.chat(max_tokens=30).json["choices"][0]["message"]["content"]
    stop = text[len(text) // 2 :][:3]
    events = message(server, max_tokens=30, stop_sequences=[stop])
    assert events[-2]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": stop}
    assert "".join(e["delta"].get("text", "") for e in events if "delta" in e) == text[: text.index(stop)]


def test_a_streamed_response(server: Server) -> None:
    events = response(server)
    created, running, item, part, *deltas, text, part_done, item_done, completed = events
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    assert [created["type"], running["type"]] == ["response.created", "response.in_progress"]
    assert created["response"] == running["response"]
    assert created["response"].keys() == RESPONSE
    assert created["response"]["status"] == "in_progress"
    assert item.keys() == {"type", "sequence_number", "output_index", "item"}
    assert item["item"].keys() == {"id", "content", "role", "status", "type", "phase"}
    assert part.keys() == PLACE | {"part"}
    assert part["part"] == {"annotations": [], "text": "", "type": "output_text", "logprobs": []}
    for delta in deltas:
        assert delta.keys() == PLACE | {"delta", "logprobs"}
        assert (delta["type"], delta["item_id"]) == ("response.output_text.delta", item["item"]["id"])
    said = "".join(d["delta"] for d in deltas)
    assert said == server.chat().json["choices"][0]["message"]["content"]
    assert text.keys() == PLACE | {"logprobs", "text"} and text["text"] == said
    assert part_done["part"] == {"annotations": [], "text": said, "type": "output_text", "logprobs": None}
    assert item_done["item"] == item["item"] | {"content": [part_done["part"]], "status": "completed"}
    whole = completed["response"]
    assert completed["type"] == "response.completed" and whole.keys() == RESPONSE
    assert whole["usage"].keys() == USAGE and whole["usage"]["output_tokens"] == 8
    assert whole["output"] == [item_done["item"]]
    assert (whole["id"], whole["created_at"]) == (
        created["response"]["id"],
        created["response"]["created_at"],
    )
    assert (whole["status"], whole["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


def test_seeds_and_logprobs_of_a_response(server: Server) -> None:
    fields = {"temperature": 1.0, "seed": 3, "include": ["message.output_text.logprobs"], "top_logprobs": 1}
    runs = [[e for e in response(server, **fields) if e["type"].endswith("text.delta")] for _ in range(2)]
    # A busy machine may put two tokens into one delta: the text and its tokens are what a seed repeats.
    texts = ["".join(d["delta"] for d in run) for run in runs]
    tokens = [[entry for d in run for entry in d["logprobs"]] for run in runs]
    assert (texts[0], tokens[0]) == (texts[1], tokens[1])
    assert 1 <= len(tokens[0]) <= 8, "tokens without text are not told"
    assert tokens[0][0].keys() == {"token", "logprob", "top_logprobs"}


def test_their_refusals(server: Server) -> None:
    missing = server.post(MESSAGES, {"model": server.model, "messages": SAY})
    assert (missing.status, missing.json["error"]["param"]) == (400, "body.max_tokens")
    unknown = server.post(MESSAGES, {"model": "nope", "messages": SAY, "max_tokens": 1})
    assert (unknown.status, unknown.json["type"]) == (404, "error")
    assert unknown.json["error"].keys() == {"type", "message"}
    assert server.post(RESPONSES, {"model": "nope", "input": "x"}).json["error"]["code"] == 404
    assert server.post(RESPONSES, {"model": server.model}).json["error"]["param"] == "body.input"

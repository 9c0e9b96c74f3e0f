"""Shapes of whole answers and of streams: field for field, in both engines."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.contract.conftest import Server

pytestmark = pytest.mark.timeout(1000)
COMPLETION = {"id", "object", "created", "model", "choices", "service_tier", "system_fingerprint", "usage",
              "kv_transfer_params", "ec_transfer_params", "metrics"}  # fmt: skip
CHOICE = {"index", "text", "logprobs", "finish_reason", "stop_reason", "token_ids", "prompt_logprobs",
          "prompt_token_ids", "routed_experts"}  # fmt: skip
CHAT_CHOICE = {"index", "message", "logprobs", "finish_reason", "stop_reason", "token_ids", "routed_experts"}
MESSAGE = {"role", "content", "refusal", "annotations", "audio", "function_call", "reasoning"}
USAGE = {
    "prompt_tokens",
    "total_tokens",
    "completion_tokens",
    "prompt_tokens_details",
    "completion_tokens_details",
}


def text_of(events: list[Any]) -> str:
    parts = [c for e in events if e != "[DONE]" for c in e["choices"]]
    return "".join(c["text"] if "text" in c else c["delta"].get("content") or "" for c in parts)


def ids_of(events: list[Any]) -> list[int]:
    return [i for e in events if e != "[DONE]" for c in e["choices"] for i in c.get("token_ids") or []]


def test_health_version_models(server: Server) -> None:
    assert server.ask("GET", "/health").body == b""
    assert server.ask("GET", "/ping").status == 200
    assert server.ask("GET", "/version").json == {"version": "0.32.0"}
    (model,) = server.ask("GET", "/v1/models").json["data"]
    assert model["id"] == server.model
    assert model["max_model_len"] == 2048
    assert set(model) == {
        "id",
        "object",
        "created",
        "owned_by",
        "root",
        "parent",
        "max_model_len",
        "permission",
    }


def test_routes_that_are_not_there(server: Server) -> None:
    assert (server.ask("GET", "/nope").status, server.ask("GET", "/nope").json) == (
        404,
        {"detail": "Not Found"},
    )
    put = server.ask("PUT", "/v1/completions")
    assert (put.status, put.json, put.headers["allow"]) == (405, {"detail": "Method Not Allowed"}, "POST")
    assert server.post("/v1/embeddings", {"model": server.model, "input": "x"}).status == 404


def test_a_whole_completion(server: Server) -> None:
    answer = server.complete().json
    assert set(answer) == COMPLETION
    assert set(answer["choices"][0]) == CHOICE
    assert set(answer["usage"]) == USAGE
    assert answer["object"] == "text_completion"
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 8
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + 8


def test_a_whole_chat(server: Server) -> None:
    answer = server.chat(return_token_ids=True, logprobs=True, top_logprobs=1).json
    assert set(answer) == (COMPLETION | {"prompt_logprobs", "prompt_token_ids", "prompt_text"})
    (choice,) = answer["choices"]
    assert set(choice) == CHAT_CHOICE
    assert set(choice["message"]) == MESSAGE
    assert len(choice["token_ids"]) == 8
    assert len(choice["logprobs"]["content"]) == 8
    assert set(choice["logprobs"]["content"][0]) == {"token", "logprob", "bytes", "top_logprobs"}
    assert len(answer["prompt_token_ids"]) == answer["usage"]["prompt_tokens"]


def test_a_streamed_completion(server: Server) -> None:
    whole = server.complete(max_tokens=20)
    answer = server.complete(max_tokens=20, stream=True)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    *chunks, done = answer.events
    assert done == "[DONE]"
    assert text_of(chunks) == whole.json["choices"][0]["text"]
    for chunk in chunks[:-1]:
        assert set(chunk) == {"id", "object", "created", "model", "choices"}
        assert set(chunk["choices"][0]) == {
            "index", "text", "logprobs", "finish_reason", "stop_reason", "prompt_token_ids", "token_ids",
        }  # fmt: skip
        assert chunk["choices"][0]["finish_reason"] is None
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert "system_fingerprint" in chunks[-1]


def test_a_streamed_chat_opens_with_the_role(server: Server) -> None:
    *chunks, done = server.chat(stream=True, return_token_ids=True).events
    assert done == "[DONE]"
    opening = chunks[0]
    assert set(opening) == {"id", "object", "created", "model", "choices", "prompt_token_ids", "prompt_text"}
    assert opening["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert set(chunks[1]["choices"][0]) == {"index", "delta", "logprobs", "finish_reason", "token_ids"}
    assert set(chunks[-1]["choices"][0]) == {
        "index", "delta", "logprobs", "finish_reason", "stop_reason", "token_ids",
    }  # fmt: skip
    assert len(ids_of(chunks)) == 8
    assert len(opening["prompt_token_ids"]) > 5


def test_usage_in_a_stream(server: Server) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    *chunks, last, _ = server.complete(stream=True, stream_options=options, return_token_ids=True).events
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 8
    counted = [c["usage"]["completion_tokens"] for c in chunks]
    assert counted == sorted(counted)
    assert counted[-1] == 8
    assert set(chunks[0]["usage"]) == {"prompt_tokens", "total_tokens", "completion_tokens"}
    prompt = chunks[0]["choices"][0]["prompt_token_ids"]
    assert len(prompt) == last["usage"]["prompt_tokens"]
    assert all(c["choices"][0]["prompt_token_ids"] is None for c in chunks[1:])


def test_ids_and_text_are_the_same_answer(server: Server) -> None:
    events = server.complete(stream=True, return_token_ids=True, max_tokens=24, ignore_eos=True).events
    told = server.post("/detokenize", {"tokens": ids_of(events)}).json["prompt"]
    assert told.replace("�", "").startswith(text_of(events).replace("�", "")[:40])


@pytest.mark.parametrize("cut", [1, 7, 15])
def test_prompt_and_ids_continue_to_the_same_end(server: Server, cut: int) -> None:
    whole = server.complete(return_token_ids=True, max_tokens=20, ignore_eos=True).json["choices"][0]
    ids = whole["prompt_token_ids"] + whole["token_ids"][:cut]
    rest = server.complete(ids, return_token_ids=True, max_tokens=20 - cut, ignore_eos=True).json["choices"][
        0
    ]
    assert rest["token_ids"] == whole["token_ids"][cut:]
    assert whole["text"].endswith(rest["text"])


def test_a_chat_is_continued_by_a_completion(server: Server) -> None:
    whole = server.chat(return_token_ids=True, max_tokens=16).json
    ids = whole["prompt_token_ids"] + whole["choices"][0]["token_ids"][:5]
    rest = server.complete(ids, return_token_ids=True, max_tokens=11).json["choices"][0]
    assert rest["token_ids"] == whole["choices"][0]["token_ids"][5:]


def test_stop_strings(server: Server) -> None:
    whole = server.complete(max_tokens=30, ignore_eos=True).json["choices"][0]["text"]
    stop = whole[len(whole) // 2 :][:3]
    cut = server.complete(max_tokens=30, ignore_eos=True, stop=[stop]).json["choices"][0]
    assert (cut["finish_reason"], cut["stop_reason"]) == ("stop", stop)
    assert cut["text"] == whole[: whole.index(stop)]
    kept = server.complete(max_tokens=30, ignore_eos=True, stop=[stop], include_stop_str_in_output=True)
    assert kept.json["choices"][0]["text"] == whole[: whole.index(stop) + len(stop)]
    streamed = server.complete(max_tokens=30, ignore_eos=True, stop=[stop], stream=True).events
    assert text_of(streamed) == cut["text"]


def test_min_tokens_and_ignore_eos_fix_the_length(server: Server) -> None:
    answer = server.complete(max_tokens=40, min_tokens=40, ignore_eos=True).json
    assert answer["usage"]["completion_tokens"] == 40


def test_echo_and_logprobs_of_a_completion(server: Server) -> None:
    answer = server.complete(echo=True, logprobs=0, max_tokens=3).json["choices"][0]
    assert answer["text"].startswith("Once upon a time")
    entries = answer["logprobs"]
    assert set(entries) == {"text_offset", "token_logprobs", "tokens", "top_logprobs"}
    assert entries["token_logprobs"][0] is None
    assert all(v is not None for v in entries["token_logprobs"][1:])
    assert entries["text_offset"][0] == 0


def test_several_prompts_and_several_answers(server: Server) -> None:
    two = server.complete(["Once", "Twice upon"], max_tokens=2).json
    assert [c["index"] for c in two["choices"]] == [0, 1]
    assert two["usage"]["completion_tokens"] == 4
    sampled = server.complete(n=2, temperature=1, seed=5, max_tokens=4).json
    assert [c["index"] for c in sampled["choices"]] == [0, 1]
    assert sampled["choices"][0]["text"] != sampled["choices"][1]["text"]


def test_a_seed_repeats_from_the_start_of_a_request_only(server: Server) -> None:
    fields: dict[str, Any] = {"temperature": 1, "seed": 11, "return_token_ids": True, "ignore_eos": True}
    first = server.complete(max_tokens=24, **fields).json["choices"][0]
    assert server.complete(max_tokens=24, **fields).json["choices"][0]["token_ids"] == first["token_ids"]
    ids = first["prompt_token_ids"] + first["token_ids"][:8]
    rest = server.complete(ids, max_tokens=16, **fields).json["choices"][0]["token_ids"]
    assert rest != first["token_ids"][8:]


def test_structured_outputs_fit(server: Server) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"],
              "additionalProperties": False}  # fmt: skip
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    told = server.chat("Answer in JSON.", response_format=wanted, max_tokens=40).json["choices"][0]
    if told["finish_reason"] == "stop":
        assert set(json.loads(told["message"]["content"])) == {"a"}
    assert told["message"]["content"].lstrip().startswith("{")
    choice = server.chat(structured_outputs={"choice": ["yes", "no"]}, max_tokens=10).json["choices"][0]
    assert choice["message"]["content"] in ("yes", "no")
    assert choice["finish_reason"] == "stop"


def test_tokenize_and_back(server: Server) -> None:
    text = "The harbour 🌊 at night"
    answer = server.post(
        "/tokenize", {"model": server.model, "prompt": text, "add_special_tokens": False}
    ).json
    assert set(answer) == {"count", "max_model_len", "tokens", "token_strs"}
    assert answer["count"] == len(answer["tokens"])
    assert server.post("/detokenize", {"tokens": answer["tokens"]}).json == {"prompt": text}
    chat = {"model": server.model, "messages": [{"role": "user", "content": "hi"}]}
    counted = server.post("/tokenize", chat).json["count"]
    assert server.chat("hi").json["usage"]["prompt_tokens"] == counted


def test_the_request_id_is_the_clients(server: Server) -> None:
    body = {"model": server.model, "prompt": "x", "max_tokens": 1}
    assert server.post("/v1/completions", body, x_request_id="abc-1").json["id"] == "cmpl-abc-1"


def test_load_rides_on_whole_answers(server: Server) -> None:
    body = {"model": server.model, "prompt": "x", "max_tokens": 1}
    as_text = server.post("/v1/completions", body, endpoint_load_metrics_format="TEXT").headers
    assert as_text["endpoint-load-metrics"].startswith("TEXT named_metrics.num_requests_waiting=")
    as_json = server.post("/v1/completions", body, endpoint_load_metrics_format="JSON").headers
    named = json.loads(as_json["endpoint-load-metrics"].removeprefix("JSON "))["named_metrics"]
    assert set(named) == {"num_requests_waiting", "kv_cache_usage_perc"}
    assert "endpoint-load-metrics" not in server.post("/v1/completions", body).headers

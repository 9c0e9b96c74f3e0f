"""What is refused, with which status, type and param; and what overload answers."""

from __future__ import annotations

import time
from typing import Any

import pytest
from tests.contract.conftest import Answer, Server

pytestmark = pytest.mark.timeout(1000)


def told(answer: Answer) -> tuple[int, str, str | None]:
    error = answer.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == answer.status
    return answer.status, error["type"], error["param"]


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({"model": "nope"}, (404, "NotFoundError", "model")),
        ({"max_tokens": 0}, (400, "BadRequestError", "max_tokens")),
        ({"max_tokens": -1}, (400, "BadRequestError", "max_tokens")),
        ({"max_tokens": 999_999}, (400, "BadRequestError", "max_tokens")),
        ({"temperature": -1}, (400, "BadRequestError", "temperature")),
        ({"temperature": "x"}, (400, "Bad Request", "body.temperature")),
        ({"top_p": 3}, (400, "BadRequestError", "top_p")),
        ({"n": 0}, (400, "BadRequestError", None)),
        ({"n": 2}, (400, "BadRequestError", None)),
        ({"seed": "x"}, (400, "Bad Request", "body.seed")),
        ({"logprobs": 50}, (400, "BadRequestError", "logprobs")),
        ({"min_tokens": 9}, (400, "BadRequestError", None)),
        ({"stream_options": {"include_usage": True}}, (400, "BadRequestError", "stream_options")),
        ({"prompt": ""}, (400, "BadRequestError", "prompt")),
        ({"prompt": []}, (400, "BadRequestError", None)),
        ({"prompt": ["a"] * 1025}, (400, "BadRequestError", "prompt")),
        ({"prompt": [99_999_999]}, (400, "BadRequestError", None)),
        ({"prompt": "a " * 4000}, (400, "BadRequestError", "input_tokens")),
        ({"stop": ["a"] * 9}, (400, "Bad Request", "body.stop")),
    ],
)
def test_a_bad_completion(
    server: Server, fields: dict[str, Any], answer: tuple[int, str, str | None]
) -> None:
    assert told(server.complete(**{"max_tokens": 3, **fields})) == answer


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({"messages": []}, (400, "BadRequestError", None)),
        ({"messages": "x"}, (400, "Bad Request", "body.messages")),
        ({"top_logprobs": 2}, (400, "BadRequestError", "top_logprobs")),
        ({"max_tokens": 0}, (400, "BadRequestError", "max_tokens")),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, (400, "BadRequestError", None)),
    ],
)
def test_a_bad_chat(server: Server, fields: dict[str, Any], answer: tuple[int, str, str | None]) -> None:
    assert told(server.chat(**fields)) == answer


def test_what_is_not_json(server: Server) -> None:
    assert server.ask("POST", "/v1/completions", '{"model":').status == 400
    assert told(server.ask("POST", "/v1/completions", "[]"))[:2] == (400, "Bad Request")
    plain = server.ask("POST", "/v1/completions", '{"prompt": "x"}', {"content-type": "text/plain"})
    assert told(plain) == (400, "Bad Request", None)


def test_fields_that_nobody_knows_are_ignored(server: Server) -> None:
    assert server.complete(unknown_field=1, best_of=3, priority=3).status == 200
    assert server.chat(messages=[{"role": "alien", "content": "x"}]).status == 200
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert server.chat(messages=[{"role": "user", "content": parts}]).status == 200


def eventually(server: Server, name: str, value: float, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if server.gauge(name) == value:
            return True
        time.sleep(0.1)
    return False


def test_a_full_queue_answers_503_at_once_and_a_client_that_leaves_frees_its_place(server: Server) -> None:
    try:
        for _ in range(24):
            assert server.begin().status == 200
        assert eventually(server, "num_requests_running", 16)
        assert eventually(server, "num_requests_waiting", 8)
        before = time.monotonic()
        refused = server.complete()
        assert told(refused) == (503, "Service Unavailable", None)
        assert "retry-after" not in refused.headers
        assert time.monotonic() - before < 5
    finally:
        server.hang_up()
    assert eventually(server, "num_requests_running", 0)
    assert eventually(server, "num_requests_waiting", 0)
    assert server.complete().status == 200

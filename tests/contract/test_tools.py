"""Tool calls are what vLLM answers, engine and gateway alike: a named function, `required`, no call, and refusals.

Against the simulated engine; SEAWALL_CONTRACT_TOOLS=PORT:PID is a vLLM that was started by hand with the contract's
flags and TOOL_FLAGS.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tests.contract.conftest import Answer, Server, attached, start_sim, stop, wait_up
from tests.contract.test_whole import plain

from seawall.decide.route.whole import as_stream

pytestmark = pytest.mark.timeout(1000)
TOOL_FLAGS = ("--enable-auto-tool-choice", "--tool-call-parser", "pythonic")
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
SCHEMA = {
    "type": "object",
    "properties": {"loud": {"type": "boolean"}, "to": {"enum": ["Ann", "Bo"]}},
    "required": ["loud", "to"],
    "additionalProperties": False,
}
GREET = {"type": "function", "function": {"name": "greet", "parameters": SCHEMA}}
WAVE = {"type": "function", "function": {"name": "wave", "parameters": SCHEMA}}
NAMED = {"type": "function", "function": {"name": "greet"}}
CHOICES: list[Any] = [NAMED, "required", "auto", "none"]
FLEET = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: smollm2}
spec:
  model: {source: file:///none}
"""


@pytest.fixture(scope="module")
def tooled() -> Iterator[Server]:
    running = os.environ.get("SEAWALL_CONTRACT_TOOLS")
    made = attached(running) if running else start_sim(*TOOL_FLAGS)
    try:
        wait_up(made, 300)
        yield made
    finally:
        if made.kind != "attached":
            stop(made)


@pytest.fixture(scope="module")
def gateway(tooled: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway before it."""
    spec = tmp_path_factory.mktemp("g") / "f.yaml"
    spec.write_text(FLEET)
    argv = [sys.executable, "-m", "seawall", "gateway", str(spec), "--listen", "127.0.0.1:0", "--discovery"]
    with subprocess.Popen(
        [*argv, f"static:http://127.0.0.1:{tooled.port}"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().split("serves ")[1].split()[0].rpartition(":")[2])
        made = Server("gateway", "smollm2", port, process)
        try:
            yield made
        finally:
            made.hang_up()
            process.terminate()
            process.wait(30)


def ask(server: Server, choice: Any, **fields: Any) -> Answer:
    return server.chat("Greet Ann.", tools=[GREET, WAVE], tool_choice=choice, max_tokens=300, **fields)


def without_ids(answer: Any) -> Any:
    """Of calls, too: each is another one."""
    for choice in answer["choices"]:
        for call in choice["message"].get("tool_calls", []):
            assert call.pop("id").startswith("chatcmpl-tool-")
    return plain(answer)


def deltas(events: list[Any]) -> list[dict[str, Any]]:
    """Of a stream, what each chunk brings of calls."""
    chunks = [c for e in events[:-1] for c in e["choices"]]
    return [call for c in chunks for call in c["delta"].get("tool_calls", [])]


def test_a_named_functions_text_is_its_arguments(tooled: Server) -> None:
    answer = ask(tooled, NAMED)
    assert answer.status == 200, answer.body
    (choice,) = answer.json["choices"]
    message = choice["message"]
    assert list(message) == ["role", "content", "refusal", "annotations", "audio", "function_call", "tool_calls",
                             "reasoning"]  # fmt: skip
    (call,) = message["tool_calls"]
    assert (message["content"], choice["finish_reason"]) == ("", "stop")
    assert list(call) == ["id", "type", "function"] and call["type"] == "function"
    assert list(call["function"]) == ["name", "arguments"] and call["function"]["name"] == "greet"
    assert set(json.loads(call["function"]["arguments"])) == {"loud", "to"}


def test_a_streamed_named_function_comes_piece_by_piece(tooled: Server) -> None:
    (whole,) = ask(tooled, NAMED).json["choices"]
    events = ask(tooled, NAMED, stream=True).events
    first, *rest = deltas(events)
    assert list(first) == ["id", "type", "index", "function"] and first["id"].startswith("chatcmpl-tool-")
    assert first["function"]["name"] == "greet" and rest
    assert all(list(call) == ["index", "function"] for call in rest)
    text = "".join(call["function"]["arguments"] for call in (first, *rest))
    assert text == whole["message"]["tool_calls"][0]["function"]["arguments"]
    (reason,) = {c["finish_reason"] for e in events[:-1] for c in e["choices"]} - {None}
    assert reason == "stop"


def test_required_is_a_list_of_calls(tooled: Server) -> None:
    answer = ask(tooled, "required")
    assert answer.status == 200, answer.body
    (choice,) = answer.json["choices"]
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] == ""
    for call in choice["message"]["tool_calls"]:
        assert call["function"]["name"] in ("greet", "wave")
        assert set(json.loads(call["function"]["arguments"])) == {"loud", "to"}
    events = ask(tooled, "required", stream=True).events
    assert {call["function"].get("name") for call in deltas(events)} - {None} <= {"greet", "wave"}
    (reason,) = {c["finish_reason"] for e in events[:-1] for c in e["choices"]} - {None}
    assert reason == "tool_calls"


def test_a_list_that_is_cut_is_no_call(tooled: Server) -> None:
    body = {"tools": [GREET], "tool_choice": "required", "max_tokens": 3}
    (choice,) = tooled.chat("Greet Ann.", **body).json["choices"]
    assert "tool_calls" not in choice["message"] and choice["message"]["content"] == ""
    assert choice["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"tools": []}, "`tools` must not be an empty array"),
        ({"tool_choice": "auto"}, "`tools` must be set"),
        ({"tools": [GREET], "tool_choice": "maybe"}, "Invalid value for `tool_choice`: maybe!"),
        ({"tools": [GREET], "tool_choice": {"type": "function"}}, "Invalid value for `function`: `None`"),
        ({"tools": [GREET], "tool_choice": {"type": "function", "function": {}}}, "Expected field `name`"),
        ({"tools": [GREET], "tool_choice": {"type": "function", "function": {"name": ""}}}, "Invalid `name`"),
        ({"tools": [WAVE], "tool_choice": NAMED}, "does not match any of the specified `tools`"),
    ],
)
def test_what_vllm_refuses_is_refused(tooled: Server, fields: Any, says: str) -> None:
    answer = tooled.chat("Greet Ann.", **fields)
    assert answer.status == 400 and says in answer.json["error"]["message"], answer.body


@pytest.mark.parametrize(
    "fields", [{}, {"logprobs": True, "top_logprobs": 1}, {"n": 2, "temperature": 1, "seed": 3}]
)
@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_through_the_gateway_it_is_the_engines_answer(
    tooled: Server, gateway: Server, choice: Any, fields: Any
) -> None:
    """Put together (`none`) or left whole (all others): the client cannot tell."""
    theirs, ours = ask(tooled, choice, **fields), ask(gateway, choice, **fields)
    assert (ours.status, theirs.status) == (200, 200), ours.body
    assert without_ids(ours.json) == without_ids(theirs.json)
    body = {"model": "m", "messages": [], "tools": [GREET], "tool_choice": choice, "max_tokens": 300}
    assert (as_stream(CHAT, json.dumps(body).encode()) is not None) == (choice == "none")


TYPED_CHOICES: list[tuple[str, Any]] = [
    (MESSAGES, {"type": "tool", "name": "greet"}),
    (MESSAGES, {"type": "any"}),
    (MESSAGES, {"type": "auto"}),
    (RESPONSES, {"type": "function", "name": "greet"}),
    (RESPONSES, "required"),
    (RESPONSES, "auto"),
]


def typed(route: str, choice: Any, model: str) -> dict[str, Any]:
    """A request of one of the other two routes, in that route's own words."""
    body = {"model": model, "temperature": 0, "tool_choice": choice}
    if route == MESSAGES:
        tools = [{"name": t["function"]["name"], "input_schema": SCHEMA} for t in (GREET, WAVE)]
        return {
            **body,
            "max_tokens": 300,
            "tools": tools,
            "messages": [{"role": "user", "content": "Greet Ann."}],
        }
    tools = [{"type": "function", **t["function"]} for t in (GREET, WAVE)]
    return {**body, "max_output_tokens": 300, "tools": tools, "input": "Greet Ann."}


def unnamed(answer: Any) -> Any:
    """Without what is another one each time, wherever it stands: ids, times."""
    if isinstance(answer, dict):
        own = ("id", "call_id", "created_at", "completed_at")
        return {k: unnamed(v) for k, v in answer.items() if k not in own}
    return [unnamed(v) for v in answer] if isinstance(answer, list) else answer


def kinds(route: str, answer: Any) -> list[str]:
    return [part["type"] for part in answer["content" if route == MESSAGES else "output"]]


@pytest.mark.parametrize(("route", "choice"), TYPED_CHOICES, ids=str)
def test_messages_and_responses_through_the_gateway_are_the_engines_answer(
    tooled: Server, gateway: Server, route: str, choice: Any
) -> None:
    body = typed(route, choice, "smollm2")
    theirs, ours = tooled.post(route, body), gateway.post(route, body)
    assert (ours.status, theirs.status) == (200, 200), ours.body
    assert unnamed(ours.json) == unnamed(theirs.json)
    if tooled.kind == "attached" and choice not in (
        "auto",
        {"type": "auto"},
    ):  # the simulated one calls by chat alone
        assert {"tool_use", "function_call"} & set(kinds(route, ours.json)), ours.body


@pytest.mark.parametrize(
    ("route", "choice", "assembled"),
    [
        (MESSAGES, {"type": "none"}, True),
        (MESSAGES, {"type": "auto"}, False),
        (MESSAGES, {"type": "any"}, False),
        (MESSAGES, {"type": "tool", "name": "none"}, False),
        (MESSAGES, None, False),
        (RESPONSES, "none", True),
        (RESPONSES, "auto", False),
        (RESPONSES, "required", False),
        (RESPONSES, {"type": "function", "name": "none"}, False),
        (RESPONSES, None, False),
    ],
)
def test_only_what_calls_nothing_is_put_together(route: str, choice: Any, assembled: bool) -> None:
    body = {"model": "m", "max_tokens": 300, "tools": [{"name": "greet"}]}
    if choice is not None:
        body["tool_choice"] = choice
    assert (as_stream(route, json.dumps(body).encode()) is not None) == assembled

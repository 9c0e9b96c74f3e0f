"""Tool calls of the simulated engine, as vLLM 0.32 gives them: a named function, `required`, and no call at all.

With a `--tool-call-parser` it does as those that leave both to a schema (`pythonic`, `xlam`, `phi4_mini_json`): a named
function's arguments are the text, `required` is a JSON list of calls. (Those that know the model's own form, `hermes`
and its like, force and read that.) Without one there is nobody to force or to read it: vLLM answers with text then, and
so does this. Left to themselves (`auto`) these weights never call. Streams of `required` tell the calls when their list
is whole, which vLLM's pattern does sooner. Forbidden here: I/O.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

import msgspec

from seawall.engines.sim.answers import Answer, SequenceText
from seawall.engines.sim.asks import ApiRefusal, GenerationRequest, Json, parameter
from seawall.engines.sim.tokens import Vocabulary

LIST = ""
"""Stands for the name of a forced function where it is a list of calls (`required`)."""
_USAGE = 'Correct usage: `{"type": "function", "function": {"name": "my_function"}}`'


def read_tools(data: Json, parser: bool, auto: bool) -> tuple[Json, str | None]:
    """A chat's body with the text that its `tool_choice` forces, and what that is: the name of a function, LIST, or
    None: text. `parser`, `auto`: whether the engine has `--tool-call-parser` and `--enable-auto-tool-choice`. Raises
    ApiRefusal."""
    tools = data.get("tools")
    if tools == []:
        message = (
            "`tools` must not be an empty array. Either provide at least one tool or omit the field entirely."
        )
        raise parameter(message, "tools")
    choice = data.get("tool_choice", "auto" if tools else None)
    if choice is None or choice == "none":
        return data, None
    if tools is None:
        raise parameter("When using `tool_choice`, `tools` must be set.", "tool_choice")
    known = {str(t["function"]["name"]): t["function"].get("parameters") or {} for t in tools if _is_tool(t)}
    if choice == "auto":
        if not (parser and auto):
            raise ApiRefusal(
                '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
            )
        return data, None
    if choice == "required":
        first, schema = next(iter(known.items()), ("", {}))
        call = {"properties": {"name": {"const": first}, "parameters": _object(schema)}}
        return _forced(data, {"type": "array", "items": call}, parser), LIST if parser else None
    if not isinstance(choice, dict):
        raise parameter(
            f"Invalid value for `tool_choice`: {choice}! "
            'Only named tools, "none", "auto" or "required" are supported.',
            "tool_choice",
        )
    name = _name_in(choice)
    if name not in known:
        message = "The tool specified in `tool_choice` does not match any of the specified `tools`"
        raise parameter(message, "tool_choice")
    return _forced(data, _object(known[name]), parser), name if parser else None


def _is_tool(tool: Any) -> bool:
    return isinstance(tool, dict) and isinstance(tool.get("function"), dict) and "name" in tool["function"]


def _object(schema: Any) -> Any:
    return {"type": "object", **schema} if isinstance(schema, dict) else {"type": "object"}


def _name_in(choice: Json) -> str:
    function = choice.get("function")
    if not isinstance(function, dict):
        message = f"Invalid value for `function`: `{function}` in `tool_choice`! {_USAGE}"
        raise parameter(message, "tool_choice.function")
    if "name" not in function:
        message = f"Expected field `name` in `function` in `tool_choice`! {_USAGE}"
        raise parameter(message, "tool_choice.function.name")
    name = function["name"]
    if not isinstance(name, str) or not name:
        message = f"Invalid `name` in `function`: `{name}` in `tool_choice`! {_USAGE}"
        raise parameter(message, "tool_choice.function.name")
    return name


def _forced(data: Json, schema: Json, parser: bool) -> Json:
    return {**data, "response_format": None, "structured_outputs": {"json": schema}} if parser else data


class ToolAnswer(Answer):
    """A chat whose text is a tool call: of the function `call`, or a list of them (LIST)."""

    def __init__(self, ask: GenerationRequest, request_id: str, words: Vocabulary, call: str) -> None:
        super().__init__(ask, request_id, words)
        self.name = call

    def message(self, text: str) -> Json:
        """The message of a whole answer."""
        calls = _calls(text) if self.name == LIST else [(self.name, text)] if text.strip() else []
        found = super().message("")
        if not calls:
            return found
        reasoning = found.pop("reasoning")
        listed = [_call(_call_id(), name, arguments) for name, arguments in calls]
        return {**found, "tool_calls": listed, "reasoning": reasoning}

    def delta(self, choice: SequenceText, text: str, opening: bool) -> str:
        """The delta of a chunk, as JSON."""
        if self.name != LIST:
            function = {"name": self.name, "arguments": text} if opening else {"arguments": text}
            head = {"id": _call_id(), "type": "function"} if opening else {}
            return _encoded({"tool_calls": [{**head, "index": 0, "function": function}]})
        calls = _calls(choice.text) if choice.finish_reason is not None else []
        listed = [
            {"id": _call_id(), "type": "function", "index": n, "function": {"name": name, "arguments": text}}
            for n, (name, text) in enumerate(calls)
        ]
        return _encoded({"tool_calls": listed} if listed else {})

    def reason(self, choice: SequenceText) -> str | None:
        """Why it has ended: a list of calls that is whole ends for them, a named function does not."""
        if self.name == LIST and choice.finish_reason == "stop":
            return "tool_calls"
        return choice.finish_reason


def _call_id() -> str:
    return f"chatcmpl-tool-{secrets.token_hex(8)}"


def _call(id: str, name: str, arguments: str) -> Json:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _calls(text: str) -> list[tuple[str, str]]:
    """The calls of a list that is whole; a list that is cut has none."""
    try:
        listed = json.loads(text)
        return [(str(c["name"]), json.dumps(c["parameters"], ensure_ascii=False)) for c in listed]
    except (ValueError, TypeError, KeyError):
        return []


def _encoded(value: Json) -> str:
    return msgspec.json.encode(value).decode()

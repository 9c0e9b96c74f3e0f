"""Which way a broken stream is resumed: ONE table, read by the session and drawn in docs/reference/resume.md.

*continue*: the generated token ids are sent as a prompt to another replica, which goes on where the first
stopped. Costs one prefill. Exact for greedy decoding; an equally valid sample for sampling without a seed.
*replay*: the same request again with the same seed; what the client has is checked and swallowed. Costs the
whole generation again, works for everything that is deterministic.
*refuse*: only before the client has seen anything.

Facts behind the rows (vLLM 0.32): a grammar restarts with the prompt, so structured output cannot be
continued; presence and frequency penalties count generated tokens only, repetition_penalty and bad_words
count the prompt too; a seeded generator restarts. Forbidden here: I/O, and a second place that decides it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from seawall.decide.route.members import Members
from seawall.decide.route.resume.policy import Policy

Kind = Literal["chat", "completions", "messages", "responses", "other"]
Way = Literal["continue", "replay", "refuse"]

ROUTES: Final[dict[str, Kind]] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/messages": "messages",
    "/v1/responses": "responses",
}

_CARRIED = (
    "model temperature top_p top_k min_p repetition_penalty logit_bias stop stop_token_ids priority "
    "user include_stop_str_in_output ignore_eos min_tokens skip_special_tokens "
    "spaces_between_special_tokens bad_words allowed_token_ids cache_salt stream_options "
    "stream_interval return_tokens_as_token_ids logprobs session_id "
)
CARRIED = frozenset(_CARRIED.split())
"""Fields that mean the same in the continuing request to /v1/completions."""

_SPENT = (
    "messages prompt chat_template chat_template_kwargs documents add_generation_prompt "
    "add_special_tokens continue_final_message truncate_prompt_tokens truncation_side tools tool_choice "
    "parallel_tool_calls reasoning_effort metadata store service_tier max_tokens max_completion_tokens "
    "n best_of stream seed return_token_ids top_logprobs presence_penalty frequency_penalty "
    "response_format include_reasoning length_penalty use_beam_search echo suffix request_id "
    "safety_identifier prompt_cache_key mm_processor_kwargs media_io_kwargs structured_outputs "
)
SPENT = frozenset(_SPENT.split())
"""Fields that the prompt's token ids already contain, or that a row below has made sure are idle."""

KNOWN: Final = CARRIED | SPENT


class BodyFields:
    """A request body, read once: raw JSON per top-level field, decoded only where a question is asked."""

    __slots__ = ("body", "choices", "fields", "greedy", "kind", "members", "policy", "route")

    def __init__(self, route: str, body: bytes, policy: Policy, members: Members | None = None) -> None:
        """Raises msgspec.DecodeError when `body` is not a JSON object. `members`: of a large one, which is not read
        again; then also Unreadable."""
        self.route = route
        self.kind: Kind = ROUTES.get(route, "other")
        self.body = body
        self.policy = policy
        self.members = members
        self.fields: dict[str, msgspec.Raw] = _fields.decode(body) if members is None else members.fields
        self.greedy: bool = self.get("temperature") == 0
        """Deterministic without a seed. An absent temperature is the model's own: taken for sampling."""
        self.choices: int = max(1, self.whole("n") or 1) * self._prompts()
        """Streams within the stream: n, times the number of prompts."""

    def _prompts(self) -> int:
        if self.kind != "completions":
            return 1
        start = bytes(memoryview(self.fields.get("prompt", b""))[:64]).translate(None, b" \t\r\n")
        if not start.startswith(b"[") or start[1:2].isdigit():
            return 1  # one text, or the ids of one: not decoded, they can be many
        try:
            return max(1, len(_raws.decode(self.fields["prompt"])))
        except msgspec.ValidationError:
            return 1

    def moved(self, members: Members) -> None:
        """A large body has been written anew: the old one can go. The fields stay those that the client sent."""
        fresh = members.fields
        for name, raw in self.fields.items():
            size = len(memoryview(raw))
            same = size == len(memoryview(fresh[name])) and (size > 4096 or bytes(raw) == bytes(fresh[name]))
            self.fields[name] = fresh[name] if same else msgspec.Raw(bytes(raw))
        self.body, self.members = members.body, members

    def get(self, name: str, default: Any = None) -> Any:
        """The field's value; `default` when it is absent or null."""
        raw = self.fields.get(name)
        if raw is None:
            return default
        if self.members is not None:
            self.members.small(name)
        try:
            value = msgspec.json.decode(raw)
        except msgspec.ValidationError:  # a number out of range, which Python, and so the engine, reads
            value = json.loads(bytes(raw), parse_int=float)
        return default if value is None else value

    def any(self, *names: str) -> bool:
        """One of the fields is there and neither null, false, zero nor empty."""
        return any(self._large(name) or self.get(name) for name in names if name in self.fields)

    def _large(self, name: str) -> bool:
        """It is so long that it is neither null nor empty."""
        return self.members is not None and len(memoryview(self.fields[name])) > 4096

    def whole(self, name: str) -> int | None:
        """The field as an integer; the engine also takes `"5"` and `5.0` for 5."""
        value = self.get(name)
        try:
            return None if value is None else int(value)
        except (TypeError, ValueError, OverflowError):
            return None

    @property
    def seeded(self) -> bool:
        return self.get("seed") is not None

    @property
    def stop(self) -> tuple[str, ...]:
        stop = self.get("stop", [])
        if isinstance(stop, str):
            stop = [stop]
        return tuple(s for s in stop if isinstance(s, str) and s) if isinstance(stop, list) else ()

    @property
    def max_tokens(self) -> int | None:
        """The client's bound on generated tokens; None: up to the model's length."""
        if self.kind == "chat":
            asked = self.whole("max_completion_tokens")
            return self.whole("max_tokens") if asked is None else asked
        if "max_tokens" in self.fields:
            return self.whole("max_tokens")
        return 16  # OpenAI's and vLLM's default of /v1/completions

    @property
    def wants_usage(self) -> bool:
        options = self.get("stream_options", {})
        return isinstance(options, dict) and bool(options.get("include_usage"))

    @property
    def wants_ids(self) -> bool:
        return bool(self.get("return_token_ids"))


_STRUCTURED: Final = ("structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar")
"""Structured output's name, and those before vLLM 0.12."""
_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raws: Final = msgspec.json.Decoder(list[msgspec.Raw])


def _multimodal(ask: BodyFields) -> bool:
    if ask.kind != "chat":
        return False
    if ask.members is not None:
        return ask.members.shows_parts
    raw = ask.fields.get("messages")
    if raw is None or (blob := bytes(raw)).find(b'"type"') < 0:
        return False
    try:
        messages = msgspec.json.decode(blob, type=list[dict[str, Any]])
    except msgspec.ValidationError:
        return True
    parts = [p for m in messages if isinstance(m.get("content"), list) for p in m["content"]]
    return any(not isinstance(p, dict) or p.get("type") not in ("text", "refusal") for p in parts)


def _structured(ask: BodyFields) -> bool:
    form = ask.get("response_format")
    if isinstance(form, dict) and form.get("type") not in (None, "text"):
        return True
    return ask.any(*_STRUCTURED)


def _tools(ask: BodyFields) -> bool:
    return ask.any("functions") or (ask.any("tools") and ask.get("tool_choice") != "none")


def _tells_tokens(ask: BodyFields) -> bool:
    logprobs = ask.get("logprobs")
    return ask.wants_ids or (logprobs is not None and logprobs is not False)


def _held_by_one_replica(ask: BodyFields) -> bool:
    if ask.kind != "responses":
        return False
    tools = ask.get("tools", [])
    if not isinstance(tools, list):
        return False  # the engine will refuse it
    own = (
        isinstance(tool, dict) and tool.get("type") in ("function", "custom", "namespace") for tool in tools
    )
    return ask.any("previous_response_id", "background") or not all(own)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: the first whose `when` holds decides."""

    name: str
    when: Callable[[BodyFields], bool]
    way: Way
    why: str
    fields: str = ""
    """It can only hold for a body that has one of these; none named: for any."""


TABLE: Final[tuple[Row, ...]] = (
    Row(
        "`/v1/responses` with `previous_response_id`, `background` or tools that the engine runs",
        _held_by_one_replica,
        "refuse",
        "one replica keeps what they refer to, and a tool would run twice",
        "previous_response_id background tools",
    ),
    Row(
        "`/v1/messages` that samples (`temperature` is not 0)",
        lambda a: a.kind == "messages" and not a.greedy,
        "refuse",
        "the route takes no seed, and its events tell no token ids",
    ),
    Row(
        "`/v1/messages`, `/v1/responses`",
        lambda a: a.kind in ("messages", "responses"),
        "replay",
        "their events tell no token ids; ids that are drawn at random stay those of the first run",
    ),
    Row(
        "other routes",
        lambda a: a.kind not in ("chat", "completions"),
        "refuse",
        "nothing is known of their streams",
    ),
    Row(
        "multimodal input",
        _multimodal,
        "replay",
        "the prompt's ids hold placeholders for what is not text",
    ),
    Row(
        "`n` > 1, or several prompts",
        lambda a: a.choices > 1,
        "replay",
        "several streams in one; each choice is checked on its own",
    ),
    Row(
        "tools",
        _tools,
        "replay",
        "the engine's tool parser needs the answer from its first token",
        "tools functions",
    ),
    Row(
        "structured output",
        _structured,
        "replay",
        "the grammar would start anew behind a longer prompt",
        " ".join(("response_format", *_STRUCTURED)),
    ),
    Row(
        "reasoning parser on the fleet",
        lambda a: a.kind == "chat" and (a.policy.reasoning or a.get("include_reasoning") is False),
        "replay",
        "the parser needs the answer from its first token",
    ),
    Row(
        "`presence_penalty`, `frequency_penalty`",
        lambda a: a.any("presence_penalty", "frequency_penalty"),
        "replay",
        "they count generated tokens only; continued tokens would be a prompt",
        "presence_penalty frequency_penalty",
    ),
    Row(
        "chat `logprobs`",
        lambda a: a.kind == "chat" and a.any("logprobs"),
        "replay",
        "completions report them in another format, without bytes",
        "logprobs",
    ),
    Row(
        "`echo`, `suffix`, `prompt_embeds`, `prompt_logprobs`, beam search",
        lambda a: (
            a.any("echo", "suffix", "prompt_embeds", "use_beam_search")
            or a.get("prompt_logprobs") is not None
        ),
        "replay",
        "the prompt is part of the answer, or has no token ids",
        "echo suffix prompt_embeds use_beam_search prompt_logprobs",
    ),
    Row(
        "sampling with the client's `seed`",
        lambda a: a.seeded and not a.greedy,
        "replay",
        "the seeded generator starts anew; only the same request draws the same tokens",
        "seed",
    ),
    Row(
        "sampling with `stop`, `logprobs` or `return_token_ids`",
        lambda a: not a.greedy and (bool(a.stop) or _tells_tokens(a)),
        "replay",
        "tokens behind the last sent text must come out the same, and sampling would draw others",
        "stop logprobs return_token_ids",
    ),
    Row(
        "a field this table does not know",
        lambda a: (
            not KNOWN.issuperset(a.fields)
            and any(a._large(f) or a.get(f) is not None for f in a.fields.keys() - KNOWN)
        ),
        "replay",
        "what it does to a continued request is unknown",
    ),
    Row(
        "everything else",
        lambda a: True,
        "continue",
        "token ids say all there is to say: one prefill, and the stream goes on",
    ),
)


_ALWAYS: Final = tuple(row for row in TABLE if not row.fields)
_QUIET: Final = KNOWN.difference(*(row.fields.split() for row in TABLE))
"""Most requests have only fields of these."""


def way_of(ask: BodyFields) -> Row:
    """The row that decides how this request is resumed."""
    for row in _ALWAYS if _QUIET.issuperset(ask.fields) else TABLE:
        if row.when(ask):
            return row
    raise AssertionError("the last row always holds")


def needs_seed(ask: BodyFields, way: Way) -> bool:
    """A random seed is added only where a replay would otherwise draw other tokens: seeds cost throughput."""
    return way == "replay" and not ask.greedy and not ask.seeded

"""What the gateway reads of a request body: a few fields, in one pass, the rest untouched.

Everything else stays raw bytes: unknown fields survive because they are never decoded. Sizes and depth are
bounded before (max_body) and by msgspec (its recursion limit). Nothing read here may be logged.
"""

from __future__ import annotations

import zlib
from typing import Any

import msgspec

from seawall.decide.route.cost import Made, made_of, may_have_media, token_ids
from seawall.decide.route.members import LOOSE, TOO_DEEP, TOO_MANY_KEYS, has_too_many_keys
from seawall.decide.route.prefix import blocks_of
from seawall.decide.route.refusal import Refusal
from seawall.gateway.intake.body import BODY, FIELDS, LONG_FIELDS, Body

LONG = 256
"""Tokens. Longer whole answers are asked of the engine as streams, so that they are watched and resumed; shorter ones
keep the engine's own way, which costs less of the gateway's CPU, and are asked again when they break."""


def _long_bytes(body: bytes) -> int:
    found = LONG_FIELDS.decode(body)
    return sum(len(memoryview(raw)) for raw in (found.prompt, found.messages, found.input, found.tools))


def peek(body: bytes) -> Body | Refusal:
    """Reads the fields above, or says what is wrong in OpenAI's terms."""
    try:
        if not body.isascii():
            body.decode()  # msgspec does not look into what it skips
        if len(body) > LOOSE and has_too_many_keys(body, _long_bytes(body)):
            return TOO_MANY_KEYS
        try:
            return BODY.decode(body)
        except msgspec.ValidationError:
            return body_of(FIELDS.decode(body))
    except msgspec.ValidationError as e:
        return Refusal(400, "invalid_body", f"The request body is not right: {e}.")
    except msgspec.DecodeError:
        return Refusal(400, "invalid_json", "The request body is not JSON. Send a JSON object.")
    except RecursionError:
        return TOO_DEEP
    except UnicodeDecodeError:
        return Refusal(400, "invalid_json", "The request body is not UTF-8.")


_RAW = (
    *("prompt", "messages", "input", "tools", "system", "instructions"),
    *("cache_salt", "prompt_cache_key", "previous_response_id", "user"),
)
_WHOLE = ("max_tokens", "max_completion_tokens", "max_output_tokens", "n")
_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE = frozenset({"0", "false", "f", "no", "n", "off"})
"""What pydantic, and so the engine, takes for a boolean, in any case."""


def body_of(fields: dict[str, msgspec.Raw]) -> Body | Refusal:
    """The same of a body whose fields have other types. The engine reads `"5"` and `5.0` as 5 and `"true"` as true, so
    these count here, too. What it will refuse itself counts for nothing, but for `model` and `stream`: we need them.
    """
    model, stream = (msgspec.json.decode(fields.get(name, b"null")) for name in ("model", "stream"))
    if not isinstance(model, str | None):
        return Refusal(400, "invalid_body", "`model` is a string.", param="model")
    if not isinstance(stream, bool | None):
        word = str(int(stream) if stream in (0, 1) else stream).lower()
        if word not in _TRUE | _FALSE:
            return Refusal(400, "invalid_body", "`stream` is true or false.", param="stream")
        stream = word in _TRUE
    found: dict[str, Any] = {name: fields[name] for name in _RAW if name in fields}
    found |= {name: _whole(fields[name]) for name in _WHOLE if name in fields}
    return Body(model=model, stream=stream, **found)


def _whole(raw: msgspec.Raw) -> int | None:
    try:
        return int(msgspec.json.decode(raw, type=float, strict=False))
    except (msgspec.ValidationError, ValueError, OverflowError):  # also infinity and NaN
        return None


def prompt_of(body: Body) -> bytes:
    """All that an engine puts into the prompt, as the client wrote it, in the order of most templates: tools, the
    system's words, what was said. Empty when there is none."""
    said = body.messages or body.prompt or body.input
    if not (body.tools or body.system or body.instructions):
        return bytes(said)
    parts = [bytes(raw) for raw in (body.tools, body.system, body.instructions, said) if raw]
    return b"".join(parts)


def made(body: Body, prompt: bytes, size: int, messages: bool = True) -> Made:
    """What a prompt is made of; `size` of the whole body counts where it stands in fields that nobody reads here.
    `messages`: it may be one of /v1/messages."""
    said = body.messages or body.prompt or body.input
    if not said:
        return Made(text=size)
    ids = token_ids(memoryview(said)) if said is not body.messages else 0
    if ids:
        return Made(ids=ids)
    if may_have_media(prompt, messages):
        try:
            return made_of(msgspec.json.decode(said), len(prompt))
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            pass  # the engine will say what is wrong with it
    return Made(text=len(prompt))


def output_of(body: Body, typical_output: float) -> int:
    """Tokens that will probably be generated."""
    bound = body.max_completion_tokens or body.max_tokens or body.max_output_tokens
    most = int(
        4 * typical_output
    )  # whole numbers: compiled, `min` would make a float of a bound, and none is so large
    output = int(typical_output) if bound is None or bound <= 0 else min(bound, most)
    if body.n is not None and body.n > 1:
        output *= min(body.n, 128)
    return output


SESSION = 512
"""Bytes of a session's name that count."""
AGENTS = (
    b"x-claude-code-session-id",
    b"session-id",
    b"session_id",
    b"thread-id",
    b"conversation_id",
    b"x-opencode-session",
    b"x-session-affinity",
    b"x-qwen-code-session-id",
    b"x-litellm-session-id",
    b"helicone-session-id",
    b"x-session-id",
)
"""Headers by which agents name their sessions: Claude Code, Codex (five of its versions' names), OpenCode, Qwen Code,
and two proxies."""
_AGENTS = frozenset(AGENTS)


def session_of(body: Body, headers: dict[bytes, bytes]) -> str | None:
    """The session that a request names without our own header, in the documented order."""
    if body.prompt_cache_key or body.previous_response_id or body.user:
        for raw in (body.prompt_cache_key, body.previous_response_id, body.user):
            name = bytes(memoryview(raw)[: SESSION + 1])
            name = name[1:].rstrip(b'"') if name[:1] == b'"' else b""
            if name:
                return name.decode("latin-1")
    for given in headers:  # most requests have none of them
        if given in _AGENTS:
            values = [value for header in AGENTS if (value := headers.get(header))]
            return values[0][:SESSION].decode("latin-1") if values else None
    return None


def may_be_long(body: Body, typical_output: float) -> bool:
    """Whether a whole answer may be longer than LONG tokens, by its own bound or by what the fleet usually answers."""
    bound = body.max_completion_tokens or body.max_tokens or body.max_output_tokens
    return (typical_output if bound is None else bound) > LONG


def blocks(body: Body, salt: str = "", adapter: str | None = None, prompt: bytes | None = None) -> list[int]:
    """Marks of the prompt (`prompt_of(body)`, where it is at hand); other adapters and salts have caches of their
    own."""
    seed = zlib.crc32(salt.encode())
    if adapter is not None or body.cache_salt:
        seed = zlib.crc32(bytes(body.cache_salt), zlib.crc32((adapter or "").encode(), seed))
    return blocks_of(prompt_of(body) if prompt is None else prompt, seed)


def with_member(body: bytes, name: str, value: bytes) -> bytes:
    """The same body with `name`, whose JSON is `value`; all other values keep their bytes."""
    fields: dict[str, Any] = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    fields[name] = msgspec.Raw(value)
    return msgspec.json.encode(fields)


def with_model(body: bytes, model: str) -> bytes:
    """The same body with another `model`; all other values keep their bytes."""
    fields: dict[str, Any] = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    fields["model"] = model
    return msgspec.json.encode(fields)

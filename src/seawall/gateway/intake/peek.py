"""What the gateway reads of a request body: a few fields, in one pass, the rest untouched.

Everything else stays raw bytes: unknown fields survive because they are never decoded. Sizes and depth are
bounded before (max_body) and by msgspec (its recursion limit). Nothing read here may be logged.
"""

from __future__ import annotations

from typing import Any

import msgspec

from seawall.decide.route.prefix import BYTES_PER_TOKEN, blocks_of
from seawall.decide.route.refusal import Refusal

LONG = 256
"""Tokens. Longer whole answers are asked of the engine as streams, so that they are watched and resumed; shorter ones
keep the engine's own way, which costs less of the gateway's CPU, and are asked again when they break."""


TOO_DEEP = Refusal(400, "json_too_deep", "The request body is nested too deeply. Flatten it.")


class Body(msgspec.Struct, gc=False):
    """The fields that routing, admission and accounting need. `Raw` is a view into the body."""

    model: str | None = None
    stream: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    n: int | None = None
    prompt: msgspec.Raw = msgspec.Raw()
    messages: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    temperature: float | None = None


_decoder = msgspec.json.Decoder(Body)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def peek(body: bytes) -> Body | Refusal:
    """Reads the fields above, or says what is wrong in OpenAI's terms."""
    try:
        if not body.isascii():
            body.decode()  # msgspec does not look into what it skips
        try:
            return _decoder.decode(body)
        except msgspec.ValidationError:
            return _lenient(body)
    except msgspec.ValidationError as e:
        return Refusal(400, "invalid_body", f"The request body is not right: {e}.")
    except msgspec.DecodeError:
        return Refusal(400, "invalid_json", "The request body is not JSON. Send a JSON object.")
    except RecursionError:
        return TOO_DEEP
    except UnicodeDecodeError:
        return Refusal(400, "invalid_json", "The request body is not UTF-8.")


_RAW = ("prompt", "messages", "input")
_WHOLE = ("max_tokens", "max_completion_tokens", "max_output_tokens", "n")
_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE = frozenset({"0", "false", "f", "no", "n", "off"})
"""What pydantic, and so the engine, takes for a boolean, in any case."""


def _lenient(body: bytes) -> Body | Refusal:
    """The same of a body whose fields have other types. The engine reads `"5"` and `5.0` as 5 and `"true"` as true, so
    these count here, too. What it will refuse itself counts for nothing, but for `model` and `stream`: we need them."""
    fields = _fields.decode(body)
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


def prompt_of(body: Body) -> memoryview:
    """The bytes of the prompt as the client wrote them; empty when there is none."""
    raw = body.messages or body.prompt or body.input
    return memoryview(raw)


def tokens_of(body: Body, size: int, typical_output: float) -> int:
    """Estimated cost of a request in tokens: prompt plus the output that is likely."""
    bound = body.max_completion_tokens or body.max_tokens or body.max_output_tokens
    output = int(typical_output if bound is None or bound <= 0 else min(bound, 4 * typical_output))
    if body.n is not None and body.n > 1:
        output *= min(body.n, 128)
    return size // BYTES_PER_TOKEN + output + 1


def may_be_long(body: Body, typical_output: float) -> bool:
    """Whether a whole answer may be longer than LONG tokens, by its own bound or by what the fleet usually answers."""
    bound = body.max_completion_tokens or body.max_tokens or body.max_output_tokens
    return (typical_output if bound is None else bound) > LONG


def blocks(body: Body, salt: str = "") -> list[int]:
    return blocks_of(prompt_of(body), salt)


def with_model(body: bytes, model: str) -> bytes:
    """The same body with another `model`; all other values keep their bytes."""
    fields: dict[str, Any] = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    fields["model"] = model
    return msgspec.json.encode(fields)

"""The fields of a request body that the gateway decodes, and what decodes them.

Apart from `peek`, which is compiled: the compiler does not take classes whose kind is msgspec's.
"""

from __future__ import annotations

import msgspec


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
    tools: msgspec.Raw = msgspec.Raw()
    system: msgspec.Raw = msgspec.Raw()
    instructions: msgspec.Raw = msgspec.Raw()
    cache_salt: msgspec.Raw = msgspec.Raw()
    prompt_cache_key: msgspec.Raw = msgspec.Raw()
    previous_response_id: msgspec.Raw = msgspec.Raw()
    user: msgspec.Raw = msgspec.Raw()
    temperature: float | None = None


class LongFields(msgspec.Struct, gc=False):
    """The fields that are long in honest requests."""

    prompt: msgspec.Raw = msgspec.Raw()
    messages: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    tools: msgspec.Raw = msgspec.Raw()


BODY = msgspec.json.Decoder(Body)
FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
"""Every field, as it stands."""
LONG_FIELDS = msgspec.json.Decoder(LongFields)

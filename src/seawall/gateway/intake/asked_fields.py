"""What a request to `/v1/responses` says in which field, and the same request with others: also of one whose body is
large, of which nothing long is decoded here, for the loop waits meanwhile (intake/large.py).

Forbidden here: deciding what a field means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from seawall.decide.route.members import MAX_FIELD, NO_JSON, TOO_DEEP
from seawall.decide.route.refusal import Refusal
from seawall.gateway.edge.request import Request

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_values = msgspec.json.Decoder(dict[str, Any])
FALSE: Final = b"false"


def field(request: Request, name: str) -> bytes:
    """A field as it stands; empty: there is none. The body is a JSON object."""
    members = request.members
    if members is not None:
        begin, end = members.spans.get(name, (0, 0))
        return members.body[begin:end]
    quoted = msgspec.json.encode(name)
    return bytes(_fields.decode(request.body).get(name, b"")) if quoted in request.body else b""


def values(request: Request, names: tuple[str, ...]) -> Mapping[str, Any] | Refusal:
    """What these fields say. Of a large body they may be MAX_FIELD long in all."""
    members = request.members
    try:
        if members is None:
            return _values.decode(request.body)
        spans = {name: members.spans[name] for name in names if name in members.spans}
        sizes = {name: end - begin for name, (begin, end) in spans.items()}
        if sum(sizes.values()) > MAX_FIELD:
            return _too_large(max(sizes, key=sizes.__getitem__))
        return {name: msgspec.json.decode(members.body[begin:end]) for name, (begin, end) in spans.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return NO_JSON
    except RecursionError:
        return TOO_DEEP


def _too_large(name: str) -> Refusal:
    message = f"The field `{name}` is too large for a response that is kept. Make it smaller."
    return Refusal(400, "field_too_large", message, param=name)


def send_with(request: Request, wanted: Mapping[str, bytes], without: str = "") -> None:
    """The engine gets the body with these JSON values, and `without` a field that is true of it no more."""
    members = request.members
    if members is not None:
        if without in members.spans:
            wanted = {**wanted, without: FALSE}
        request.members = members.with_fields(wanted)
        request.body = request.members.body
        return
    fields = dict(_fields.decode(request.body))
    fields.pop(without, None)
    request.sent = msgspec.json.encode({**fields, **{name: msgspec.Raw(raw) for name, raw in wanted.items()}})

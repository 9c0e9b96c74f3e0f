"""Forms with files (multipart/form-data), as the routes for audio and images take them: which model they name, and
which fields they have. The files are passed on as they came.

A form that could be read in two ways is refused: two models, a part without a name, a boundary that is odd.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from seawall.decide.route.refusal import Refusal

MOST_PARTS: Final = 64
LONGEST_HEAD: Final = 4096
"""Bytes of a part's headers."""
LONGEST_VALUE: Final = 512
"""Bytes of a model's name."""
_TYPE: Final = re.compile(
    rb"multipart/form-data\s*;\s*boundary=(\"?)([A-Za-z0-9'()+_,./:=?-]{1,70})\1\s*", re.IGNORECASE
)
_NAME: Final = re.compile(
    rb"^content-disposition:[ \t]*form-data(?:;[^\r\n]*)?;[ \t]*name=\"([^\"\r\n\\]{1,128})\"", re.I | re.M
)
_FILE: Final = re.compile(rb"^content-disposition:[^\r\n]*;[ \t]*filename\*?=", re.I | re.M)


class Form(NamedTuple):
    """What is needed of a form."""

    names: frozenset[str]
    """Of its fields, files among them."""
    model: str | None
    at: tuple[int, int]
    """Where the model's name stands."""


def is_form(content_type: bytes) -> bool:
    return content_type[:19].lower() == b"multipart/form-data"


def read_form(content_type: bytes, body: bytes) -> Form | Refusal:
    """Reads the heads of its parts, and what stands in the field `model`."""
    found = _TYPE.fullmatch(content_type)
    if found is None:
        return _wrong("the Content-Type names no plain boundary")
    line = b"\r\n--" + found[2]
    if not body.startswith(line[2:]):
        return _wrong("it does not begin with its boundary")
    names: set[str] = set()
    model: str | None = None
    place = (0, 0)
    at = len(line) - 2
    for _ in range(MOST_PARTS):
        if body.startswith(b"--", at):
            return Form(frozenset(names), model, place)
        start = at + 2
        end = body.find(b"\r\n\r\n", at, at + LONGEST_HEAD)
        if not body.startswith(b"\r\n", at) or end < start:
            return _wrong("a part has no headers, or too many")
        head = body[start:end]
        named = _NAME.findall(head)
        if len(named) != 1 or b"\r" in head.replace(b"\r\n", b"") or b"\n" in head.replace(b"\r\n", b""):
            return _wrong("a part has no name, or two")
        value = end + 4
        at = body.find(line, value)
        if at < 0:
            return _wrong("it is cut")
        name = named[0].decode("latin-1")
        if name == "model":
            if model is not None or _FILE.search(head) or at - value > LONGEST_VALUE:
                return _wrong("`model` stands twice, or is a file")
            model, place = body[value:at].decode("utf-8", "replace"), (value, at)
        names.add(name)
        at += len(line)
    return _wrong(f"it has more than {MOST_PARTS} parts")


def with_model_name(body: bytes, form: Form, model: str) -> bytes:
    """The same form with another `model`."""
    start, end = form.at
    return body[:start] + model.encode() + body[end:] if form.model is not None else body


def _wrong(what: str) -> Refusal:
    return Refusal(400, "invalid_form", f"This is not a form that can be read: {what}.")

"""The members of a large JSON object, found in short steps: where each top-level value begins and ends.

A decoder that is given 8 MB works for 20 to 60 ms in one call, and for seconds where it makes an object of
everything; meanwhile nothing else of the process runs. Here no step is longer than a window, so a thread that reads a
body gives the others their turns. What is inside a value is not judged, only that its strings and brackets end: the
engine refuses what is no JSON. Rewriting makes one new body and says where everything is in it. Forbidden here: I/O,
clocks, threads.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping

import msgspec

from seawall.decide.route.refusal import Refusal

LARGE = 256 * 1024
"""Bytes. Bodies over it are read in steps."""
MAX_KEYS = 1000
"""Top-level keys of a body. vLLM knows about 90."""
LOOSE = 8 * 1024
"""Bytes beside the fields that are long in honest requests: fewer cannot hold keys enough to matter."""
WINDOW = 64 * 1024
TOO_MANY_KEYS = Refusal(
    400,
    "too_many_keys",
    f"The request body has more than {MAX_KEYS} fields. Leave out what is none of the API's.",
)
MAX_DEPTH = 500
"""Arrays and objects within each other. No decoder of an engine's goes deeper than 1,000, and some end there badly."""
MAX_NESTS = 100_000
"""Arrays and objects in a large body: what anybody makes of them takes 100 to 500 ns each."""
MAX_FIELD = 1 << 20
"""Bytes of a field that has to be understood here, not only passed on."""
TOO_MANY_VALUES = Refusal(
    400,
    "too_many_values",
    f"The request body has more than {MAX_NESTS} arrays and objects. Send fewer at once.",
)
TOO_DEEP = Refusal(400, "json_too_deep", "The request body is nested too deeply. Flatten it.")
NO_JSON = Refusal(400, "invalid_json", "The request body is not JSON. Send a JSON object.")
NO_UTF8 = Refusal(400, "invalid_json", "The request body is not UTF-8.")

_SPACE = re.compile(rb"[ \t\r\n]{0,4096}+")
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]{1,4096}+")
_MARK = re.compile(rb'(?:[^"\[\]{}]{0,1024}+"[^"\\]{0,1024}+"){0,64}+[^"\[\]{}]{0,1024}+(["\[\]{}])?')
"""Up to the next bracket, or to the quote of a string that is long, has escapes or leaves the window."""
_PART = re.compile(rb'"type"[ \t\r\n]{0,64}+:[ \t\r\n]{0,64}+(?!"(?:text|refusal)")')


class Unreadable(ValueError):
    """The body is no object that could be passed on. `refusal` says why."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Members:
    """A body and where its members' values are: name -> (begin, end). Of two of one name the last counts."""

    __slots__ = ("body", "end", "shows_parts", "spans")

    def __init__(self, body: bytes, spans: dict[str, tuple[int, int]], end: int) -> None:
        self.body = body
        self.spans = spans
        self.end = end
        """Of the closing brace."""
        self.shows_parts = True
        """A message may hold something else than text; see `look_for_parts`."""

    @property
    def fields(self) -> dict[str, msgspec.Raw]:
        """The values, as views into the body."""
        view = memoryview(self.body)
        return {name: msgspec.Raw(view[a:b]) for name, (a, b) in self.spans.items()}

    def with_fields(self, wanted: Mapping[str, bytes]) -> Members:
        """The same body with these JSON values: in the place of those of that name, or behind all others."""
        view = memoryview(self.body)
        there = sorted((self.spans[name], name) for name in wanted if name in self.spans)
        parts: list[bytes | memoryview] = []
        moved: list[tuple[int, int]] = []
        at = shift = 0
        for (begin, end), name in there:
            parts += (view[at:begin], wanted[name])
            shift += len(wanted[name]) - (end - begin)
            moved.append((end, shift))
            at = end
        parts.append(view[at : self.end])
        spans = {name: _moved(span, moved) for name, span in self.spans.items()}
        end = self.end + shift
        for name, value in wanted.items():
            if name in self.spans:
                begin = spans[name][0]
                spans[name] = (begin, begin + len(value))
                continue
            lead = (b"," if spans else b"") + msgspec.json.encode(name) + b":"
            parts += (lead, value)
            spans[name] = (end + len(lead), end + len(lead) + len(value))
            end += len(lead) + len(value)
        parts.append(b"}")
        new = Members(b"".join(parts), spans, end)
        new.shows_parts = self.shows_parts
        return new

    def look_for_parts(self) -> None:
        """Finds out whether a part of the messages may be something else than text. An unescaped `"type"` is a key, or
        a text that says just that: in doubt it is so, for what is then done is right for text, too."""
        begin, end = self.spans.get("messages", (0, 0))
        view = memoryview(self.body)
        self.shows_parts = False
        while begin < end and not self.shows_parts:
            self.shows_parts = _PART.search(view[begin : min(end, begin + WINDOW + 256)]) is not None
            begin += WINDOW

    def small(self, name: str) -> None:
        """Raises Unreadable when the field is too large to be understood here."""
        begin, end = self.spans.get(name, (0, 0))
        if end - begin > MAX_FIELD:
            message = f"The field `{name}` is larger than {MAX_FIELD >> 10} KiB. Make it smaller."
            raise Unreadable(Refusal(400, "field_too_large", message, param=name))


def _moved(span: tuple[int, int], moved: list[tuple[int, int]]) -> tuple[int, int]:
    """Where a span is after the values that ended before it have changed their lengths."""
    shift = 0
    for end, by in moved:
        if end <= span[0]:
            shift = by
    return span[0] + shift, span[1] + shift


def read_members(body: bytes) -> Members:
    """Cuts a body into its members. Raises Unreadable."""
    _check_utf8(body)
    spans: dict[str, tuple[int, int]] = {}
    keys = nests = 0
    at = _skip(body, 0)
    if body[at : at + 1] != b"{":
        raise Unreadable(NO_JSON)
    at = _skip(body, at + 1)
    while body[at : at + 1] != b"}":
        if keys:
            if body[at : at + 1] != b",":
                raise Unreadable(NO_JSON)
            at = _skip(body, at + 1)
        name, at = _key(body, at)
        keys += 1
        if keys > MAX_KEYS:
            raise Unreadable(TOO_MANY_KEYS)
        end, more = _value_end(body, at)
        nests += more
        if nests > MAX_NESTS:
            raise Unreadable(TOO_MANY_VALUES)
        spans[name] = (at, end)
        at = _skip(body, end)
    if _skip(body, at + 1) != len(body):
        raise Unreadable(NO_JSON)
    return Members(body, spans, at)


def has_too_many_keys(body: bytes, long: int) -> bool:
    """`long`: bytes of the fields that are long in honest requests. What cannot be read is told elsewhere."""
    if len(body) - long <= LOOSE:
        return False
    try:
        read_members(body)
    except Unreadable as e:
        return e.refusal is TOO_MANY_KEYS
    return False


def _check_utf8(body: bytes) -> None:
    if body.isascii():
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    view = memoryview(body)
    try:
        for at in range(0, len(body), WINDOW):
            decoder.decode(view[at : at + WINDOW])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise Unreadable(NO_UTF8) from None


def _skip(body: bytes, at: int) -> int:
    """Behind the white space at `at`."""
    while True:
        found = _SPACE.match(body, at)
        assert found is not None
        if found.end() - at < 4096:
            return found.end()
        at = found.end()


def _key(body: bytes, at: int) -> tuple[str, int]:
    """The name that begins at `at`, and where its value begins."""
    if body[at : at + 1] != b'"':
        raise Unreadable(NO_JSON)
    end = _string_end(body, at)
    if end - at > WINDOW:
        raise Unreadable(NO_JSON)
    try:
        name = msgspec.json.decode(body[at:end], type=str)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Unreadable(NO_JSON) from None
    at = _skip(body, end)
    if body[at : at + 1] != b":":
        raise Unreadable(NO_JSON)
    return name, _skip(body, at + 1)


def _value_end(body: bytes, at: int) -> tuple[int, int]:
    """Behind the value that begins at `at`, and how many arrays and objects it is made of."""
    first = body[at : at + 1]
    if first == b'"':
        return _string_end(body, at), 0
    if first in (b"{", b"["):
        return _nest_end(body, at)
    found = _SCALAR.match(body, at)
    if found is None:
        raise Unreadable(NO_JSON)
    return found.end(), 0


def _string_end(body: bytes, at: int) -> int:
    """Behind the quote that ends the string at `at`."""
    end = at
    while True:
        end = body.find(b'"', end + 1)
        if end < 0:
            raise Unreadable(NO_JSON)
        slashes = end
        while slashes > at and body[slashes - 1] == 0x5C:
            slashes -= 1
        if (end - slashes) % 2 == 0:
            return end + 1


def _nest_end(body: bytes, at: int) -> tuple[int, int]:
    """Behind the bracket that ends what begins at `at`, and how many begin there and within."""
    depth = nests = 0
    size = len(body)
    while at < size:
        window = min(size, at + WINDOW)
        restart = window
        for found in _MARK.finditer(body, at, window):
            if not found.lastindex:
                continue
            mark = body[found.end() - 1]
            if mark == 0x22:
                restart = _string_end(body, found.end() - 1)
                break
            if mark in (0x5B, 0x7B):
                depth += 1
                if depth > MAX_DEPTH:
                    raise Unreadable(TOO_DEEP)
                nests += 1
                if nests > MAX_NESTS:
                    raise Unreadable(TOO_MANY_VALUES)
            else:
                depth -= 1
                if depth == 0:
                    return found.end(), nests
        at = restart
    raise Unreadable(NO_JSON)

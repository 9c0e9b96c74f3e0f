"""The lines of an input file: what is wrong with them, and what is to be sent.

A file is read from its beginning to its end, a line at a time, and of what must be unique a 64-bit hash is kept: a
million lines take 8 MB. Forbidden here: sending, and the store.
"""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import msgspec

from seawall.batch.words import ENDPOINTS, ERRORS_TOLD, LineError
from seawall.decide.batch.pace import units

LONGEST: Final = 32 * 2**20
"""Bytes of one line, unless the gateway takes less."""
_LONG_SHOWN: Final = 80
_CUSTOM: Final = 512
"""Letters of a `custom_id`."""
_UNASKED: Final = {"/v1/embeddings": 0, "/v1/completions": 16}
"""Endpoint -> tokens of an answer whose length nobody bounded; of the others nobody knows."""
_MOST_ANSWER: Final = 1 << 20


class _InputLine(msgspec.Struct):
    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class _InputBody(msgspec.Struct):
    model: str
    stream: bool | None = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None


class AskedLine(NamedTuple):
    """One line that is to be sent."""

    line: int
    """The number of the line in the file, from 1."""
    custom_id: str
    model: str
    body: bytes
    units: float = 0.0
    """Units of its work (`decide.batch.pace.units`)."""


@dataclass
class Checked:
    """What a look through an input file found."""

    lines: int = 0
    """That hold a request."""
    models: dict[str, int] = field(default_factory=dict)
    """Model -> how many lines ask it."""
    units: float = 0.0
    """The work of all of them."""
    size: int = 0
    """Bytes of their requests."""
    errors: list[LineError] = field(default_factory=list)


@dataclass(frozen=True)
class LineRules:
    """What the lines of a batch must fulfil."""

    endpoint: str
    models: frozenset[str]
    """That its owner may use here."""
    most: int
    """Lines."""
    longest: int = LONGEST


_line = msgspec.json.Decoder(_InputLine)
_body = msgspec.json.Decoder(_InputBody)


def raw_lines(source: BinaryIO, longest: int, first: int = 1) -> Iterator[tuple[int, bytes]]:
    """(number, text) of all lines that are not blank. Of one that is too long, `longest` + 1 bytes are given."""
    number = first - 1
    while text := source.readline(longest + 1):
        number += 1
        if len(text) > longest and not text.endswith(b"\n"):
            while rest := source.readline(1 << 20):
                if rest.endswith(b"\n"):
                    break
        else:
            text = text.strip()
        if number == 1:
            text = text.removeprefix(b"\xef\xbb\xbf")
        if text:
            yield number, text


def parse(number: int, text: bytes) -> AskedLine:
    """The request that a line holds; ValueError with the cause where it holds none."""
    line = _line.decode(text)
    body = _body.decode(line.body)
    return AskedLine(number, line.custom_id, body.model, bytes(line.body), _units(line, body))


def _units(line: _InputLine, body: _InputBody) -> float:
    bounds = (body.max_completion_tokens, body.max_output_tokens, body.max_tokens)
    asked = next((n for n in bounds if isinstance(n, int) and n >= 0), None)
    if asked is None:
        asked = _UNASKED.get(line.url)
    return units(len(line.body), None if asked is None else min(asked, _MOST_ANSWER))


def check(path: Path, rules: LineRules, stopped: Callable[[], bool] = lambda: False) -> Checked:
    """A look through a whole file. Errors are in the order of lines; at most ERRORS_TOLD are told."""
    found, seen = Checked(), array("q")
    with path.open("rb") as source:
        for number, text in raw_lines(source, rules.longest):
            if stopped():
                break
            error = _wrong(number, text, rules, found, seen)
            found.lines += 1
            if error is not None:
                found.errors.append(error)
            if found.lines > rules.most:
                message = f"This file has more than {rules.most} lines. Split it into several batches."
                found.errors.append(LineError(code="too_many_lines", message=message, line=number))
            if len(found.errors) >= ERRORS_TOLD or found.lines > rules.most:
                break
    twice = _repeated(seen)
    if twice and len(found.errors) < ERRORS_TOLD:
        found.errors += _name_repeated(path, rules, twice)
        found.errors.sort(key=lambda e: e.line)
        del found.errors[ERRORS_TOLD:]
    if not found.lines:
        found.errors.append(LineError(code="empty_file", message="This file has no line with a request."))
    return found


def _wrong(number: int, text: bytes, rules: LineRules, found: Checked, seen: array[int]) -> LineError | None:
    """What is wrong with one line; what is right is noted."""
    if len(text) > rules.longest:
        message = f"This line is longer than {rules.longest} bytes (gateway.maxBody)."
        return LineError(code="line_too_long", message=message, line=number)
    try:
        line = _line.decode(text)
    except msgspec.ValidationError as e:
        return LineError(code="invalid_request", message=_about(e), param=_param(e), line=number)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        message = f"This line is no JSON object: {str(e)[:200]}."
        return LineError(code="invalid_json_line", message=message, line=number)
    cause = _mismatch(line, rules)
    if cause is not None:
        return LineError(code=cause[0], message=cause[2], param=cause[1], line=number)
    try:
        body = _body.decode(line.body)
    except msgspec.ValidationError as e:
        name = _param(e)
        param = f"body.{name}" if name else "body"
        return LineError(code="invalid_request", message=_about(e, "body"), param=param, line=number)
    if body.stream:
        message = "A batch has no stream: leave out `stream`."
        return LineError(code="stream_not_supported", message=message, param="body.stream", line=number)
    if body.model not in rules.models:
        shown = body.model[:_LONG_SHOWN]
        message = f"The model `{shown}` does not exist, or you may not use it; GET /v1/models lists yours."
        return LineError(code="model_not_found", message=message, param="body.model", line=number)
    found.models[body.model] = found.models.get(body.model, 0) + 1
    found.units += _units(line, body)
    found.size += len(line.body)
    seen.append(hash(line.custom_id))
    return None


def _mismatch(line: _InputLine, rules: LineRules) -> tuple[str, str, str] | None:
    """(code, param, message) where a line is none of this batch."""
    if not line.custom_id or len(line.custom_id) > _CUSTOM:
        return "invalid_custom_id", "custom_id", f"`custom_id` must have 1 to {_CUSTOM} letters."
    if line.method != "POST":
        return "invalid_method", "method", f"`method` is {line.method[:_LONG_SHOWN]!r}; use POST."
    if line.url != rules.endpoint:
        shown = line.url[:_LONG_SHOWN]
        if line.url in ENDPOINTS:
            return "mismatched_url", "url", f"`url` is {shown}, the batch's endpoint is {rules.endpoint}."
        return "invalid_url", "url", f"`url` is {shown!r}; a batch can ask {', '.join(ENDPOINTS)}."
    return None


def _about(e: msgspec.ValidationError, within: str = "") -> str:
    text = str(e).replace("Object missing required field", "The field is missing:")
    return f"{within + ': ' if within else ''}{text[:200]}."


def _param(e: msgspec.ValidationError) -> str | None:
    """The field that an error of msgspec is about."""
    missing = re.search(r"missing required field `([^`]*)`", str(e))
    if missing:
        return missing[1]
    at = re.search(r"at `\$\.([^`]*)`$", str(e))
    return at[1] if at else None


def _repeated(hashes: array[int]) -> frozenset[int]:
    """Hashes that occur more than once. Sorted in place of a set, which would take ten times the memory."""
    import numpy as np

    found = np.frombuffer(hashes, dtype=np.int64).copy() if hashes else np.zeros(0, dtype=np.int64)
    found.sort()
    return frozenset(int(h) for h in found[1:][found[1:] == found[:-1]])


def _name_repeated(path: Path, rules: LineRules, twice: frozenset[int]) -> list[LineError]:
    """The lines whose `custom_id` stands on an earlier one: of those that share a hash, who are really the same."""
    first: dict[str, int] = {}
    errors: list[LineError] = []
    with path.open("rb") as source:
        for number, text in raw_lines(source, rules.longest):
            try:
                name = _line.decode(text).custom_id
            except (ValueError, RecursionError):
                continue
            if hash(name) not in twice:
                continue
            if name in first:
                message = f"custom_id {name[:_LONG_SHOWN]!r} stands on line {first[name]} already."
                errors.append(
                    LineError(code="duplicate_custom_id", message=message, param="custom_id", line=number)
                )
                if len(errors) >= ERRORS_TOLD:
                    break
            else:
                first[name] = number
    return errors


class LineSource:
    """The lines of one file that have no result yet, in order. It may be asked from a thread."""

    def __init__(self, path: Path, longest: int, done: Callable[[int, int], set[int]]) -> None:
        self._source = path.open("rb", buffering=1 << 18)
        self._lines = raw_lines(self._source, longest)
        self._done = done
        self.size = os.fstat(self._source.fileno()).st_size

    def next(self, most: int, most_bytes: int) -> list[AskedLine]:
        """The next lines, at most so many, and little more than so many bytes. Empty: there are no more."""
        while True:
            some = self._some(most, most_bytes)
            if not some:
                return []
            done = self._done(some[0][0], some[-1][0])
            left = [parse(number, text) for number, text in some if number not in done]
            if left:
                return left

    def _some(self, most: int, most_bytes: int) -> Sequence[tuple[int, bytes]]:
        some: list[tuple[int, bytes]] = []
        size = 0
        while len(some) < most and size < most_bytes:
            found = next(self._lines, None)
            if found is None:
                break
            some.append(found)
            size += len(found[1])
        return some

    def close(self) -> None:
        self._source.close()

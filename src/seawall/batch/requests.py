"""What clients ask of the lane, checked: the fields of a batch, of a file, of a page. Nothing is read or kept here."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from seawall.batch.words import ENDPOINTS
from seawall.decide.batch.rules import LEAST_WINDOW_S, MOST_WINDOW_S
from seawall.domain.units import parse_seconds, show_seconds

LEAST_EXPIRY_S: Final = 3600
MOST_EXPIRY_S: Final = 2_592_000
MOST_PAGE: Final = 10_000
METADATA: Final = 16
KEY_LETTERS: Final = 64
VALUE_LETTERS: Final = 512
_CONTROL = re.compile(r"[\x00-\x1f\x7f/\\]")


class NotDone(Exception):
    """An answer that is an error, in OpenAI's form."""

    def __init__(
        self, status: int, code: str, message: str, param: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param = status, code, message, param
        self.retry_after_s = retry_after_s

    def as_json(self) -> dict[str, Any]:
        """OpenAI's error object."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True)
class BatchAsk:
    """A batch as it was asked for."""

    endpoint: str
    input_file: str
    window: str
    window_s: int
    metadata: dict[str, str] = field(default_factory=dict)
    output_lives_s: int | None = None


class _Expiry(msgspec.Struct):
    anchor: str
    seconds: int


class _BatchBody(msgspec.Struct):
    endpoint: str
    input_file_id: str
    completion_window: str
    metadata: dict[str, str] | None = None
    output_expires_after: _Expiry | None = None


def read_batch(body: bytes) -> BatchAsk:
    """The batch that a body asks for. NotDone is raised where a field is not right."""
    try:
        asked = msgspec.json.decode(body, type=_BatchBody)
    except msgspec.ValidationError as e:
        found = re.search(r"`\$?\.?([a-z_.]+)[^`]*`$", str(e))
        raise NotDone(400, "invalid_request", f"{e}.", found[1] if found else None) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise NotDone(400, "invalid_json", f"The body is no JSON: {str(e)[:200]}.") from None
    if asked.endpoint not in ENDPOINTS:
        shown = asked.endpoint[:100]
        message = f"endpoint: {shown!r} cannot be asked in a batch; use {', '.join(ENDPOINTS)}."
        raise NotDone(400, "invalid_endpoint", message, "endpoint")
    expiry = asked.output_expires_after
    return BatchAsk(
        asked.endpoint,
        asked.input_file_id,
        asked.completion_window,
        _window(asked.completion_window),
        _metadata(asked.metadata or {}),
        None if expiry is None else lifetime(expiry.anchor, str(expiry.seconds), "output_expires_after"),
    )


def _window(text: str) -> int:
    try:
        seconds = parse_seconds(text)
    except ValueError as e:
        message = f"completion_window: {e}. Write a duration such as 30m, 24h or 7d."
        raise NotDone(400, "invalid_completion_window", message, "completion_window") from None
    if not LEAST_WINDOW_S <= seconds <= MOST_WINDOW_S:
        message = (
            f"completion_window: {text[:40]} is not between {show_seconds(LEAST_WINDOW_S)} and "
            f"{show_seconds(MOST_WINDOW_S)}."
        )
        raise NotDone(400, "invalid_completion_window", message, "completion_window")
    return math.ceil(seconds)


def _metadata(given: dict[str, str]) -> dict[str, str]:
    if len(given) > METADATA:
        raise NotDone(
            400, "invalid_metadata", f"metadata: {len(given)} pairs; at most {METADATA}.", "metadata"
        )
    for key, value in given.items():
        if len(key) > KEY_LETTERS or len(value) > VALUE_LETTERS:
            message = (
                f"metadata: a key has at most {KEY_LETTERS} letters, a value {VALUE_LETTERS} ({key[:20]!r})."
            )
            raise NotDone(400, "invalid_metadata", message, "metadata")
    return given


def lifetime(anchor: str, seconds: str, param: str = "expires_after") -> int:
    """Seconds that a file is kept after its creation."""
    if anchor != "created_at":
        raise NotDone(
            400, "invalid_expiry", f"{param}.anchor: {anchor[:40]!r}; use created_at.", f"{param}.anchor"
        )
    if not re.fullmatch(r"\d{1,9}", seconds) or not LEAST_EXPIRY_S <= int(seconds) <= MOST_EXPIRY_S:
        message = f"{param}.seconds: {seconds[:40]!r} is not between {LEAST_EXPIRY_S} and {MOST_EXPIRY_S}."
        raise NotDone(400, "invalid_expiry", message, f"{param}.seconds")
    return int(seconds)


@dataclass(frozen=True)
class PageAsk:
    """A page as it was asked for."""

    limit: int
    after: str | None
    newest_first: bool
    purpose: str | None


def read_page(query: Mapping[str, str], limit: int) -> PageAsk:
    """What a list's query asks for; `limit` where it names none."""
    given = query.get("limit")
    if given is not None and (not re.fullmatch(r"\d{1,6}", given) or not 1 <= int(given) <= MOST_PAGE):
        raise NotDone(
            400, "invalid_limit", f"limit: {given[:40]!r} is not between 1 and {MOST_PAGE}.", "limit"
        )
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise NotDone(400, "invalid_order", f"order: {order[:40]!r}; use asc or desc.", "order")
    return PageAsk(
        int(given) if given else limit, query.get("after") or None, order == "desc", query.get("purpose")
    )


def file_name(given: str | None) -> str:
    """A client's name of a file, without what could do harm where it is shown or used."""
    return _CONTROL.sub("_", given or "")[-255:] or "file.jsonl"

"""Quantities as people write them: `2s`, `5m`, `200Gi`, `16k`. Plain parsing and printing, no I/O.

The `Annotated` aliases are what `spec.py` uses. pydantic finds the parser through the marker's
`__get_pydantic_core_schema__`, so this module needs no pydantic and costs nothing to import.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Annotated, Any

_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_BYTES |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}
_WHOLE = re.compile(r"-?[0-9]+(\.0+)?")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_NUMBER_SUFFIX = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


def parse_seconds(value: object) -> float:
    """`"1m30s"`, `"200ms"`, `2` or `"2"` -> seconds. ValueError names the cure."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    else:
        text = str(value).strip()
        if re.fullmatch(r"\d+(\.\d+)?", text):
            seconds = float(text)
        else:
            parts = _DURATION.findall(text)
            if not parts or "".join(n + u for n, u in parts) != text:
                raise ValueError("write a duration such as 200ms, 2s, 5m or 1h30m")
            seconds = sum(float(n) * _SECONDS[u] for n, u in parts)
    if not 0 <= seconds < 1e9:
        raise ValueError("a duration lies between 0 and 30 years")
    return seconds


def parse_bytes(value: object) -> int:
    """A Kubernetes quantity of bytes (`200Gi`, `64M`, `1024`) -> bytes."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    m = _NUMBER_SUFFIX.fullmatch(str(value).strip())
    if m is None or m[2] not in _BYTES or _broken(value):
        raise ValueError("write a size such as 200Gi, 64Mi or 10G")
    return round(float(m[1]) * _BYTES[m[2]])


def parse_tokens(value: object) -> int:
    """`16k` (16 x 1024, as model cards mean it), `1M`, `4096` -> tokens."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    m = _NUMBER_SUFFIX.fullmatch(str(value).strip())
    scale = {"": 1, "k": 1024, "K": 1024, "m": 1024**2, "M": 1024**2}
    if m is None or m[2] not in scale or _broken(value):
        raise ValueError("write tokens such as 16k, 131072 or 1M")
    return round(float(m[1]) * scale[m[2]])


def _broken(value: object) -> bool:
    """A bare number that is not whole: there is no half of a byte or of a token."""
    return isinstance(value, float) and not value.is_integer()


def counted(n: int, what: str, many: str = "") -> str:
    """`1 file`, `2 files`, `1,204 streams`; `many` where the plural is not the word with an s."""
    return f"{n:,} {what if n == 1 else many or what + 's'}"


def show_seconds(seconds: float) -> str:
    """Seconds -> the shortest text a person reads at a glance: `90 ms`, `2.5 s`, `6 min 40 s`, `2 h 5 min`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    if whole < 3600:
        m, s = divmod(whole, 60)
        return f"{m} min {s} s" if s else f"{m} min"
    h, m = divmod(round(whole / 60), 60)
    return f"{h} h {m} min" if m else f"{h} h"


def show_bytes(count: float) -> str:
    """Bytes -> `1.5 GiB`; binary units, three significant digits."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(count) < 1024 or unit == "TiB":
            return (
                f"{count:.0f} B"
                if unit == "B"
                else f"{count:.3g} {unit}"
                if count < 1000
                else f"{count:.0f} {unit}"
            )
        count /= 1024
    raise AssertionError("unreachable")


def decimal_quantity(value: float) -> str:
    """A number as the API server writes it back: `500m`, `2`, `30k`; rounded up to thousandths."""
    thousandths = math.ceil(round(value * 1000, 6))
    for suffix, scale in (("G", 10**12), ("M", 10**9), ("k", 10**6), ("", 1000)):
        if thousandths % scale == 0:
            return f"{thousandths // scale}{suffix}"
    return f"{thousandths}m"


def binary_quantity(count: float, step: int = 2**30) -> str:
    """Bytes, rounded up to whole steps (GiB), as the API server writes them back: `1Ti` and not `1024Gi`."""
    steps = math.ceil(count / step)
    for suffix, scale in (("Pi", 2**50), ("Ti", 2**40), ("Gi", 2**30), ("Mi", 2**20)):
        if steps * step % scale == 0:
            return f"{steps * step // scale}{suffix}" if steps else "0"
    raise ValueError(f"{step} is not whole MiB")


class _Quantity:
    """Marker that tells pydantic how to read one kind of quantity, and JSON Schema how to show it."""

    def __init__(self, parse: Callable[[object], Any], pattern: str, example: str) -> None:
        self.parse, self.pattern, self.example = parse, pattern, example

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(self.parse, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        plain = handler(schema)
        text = {"type": "string", "pattern": self.pattern, "examples": [self.example]}
        keep = {k: plain.pop(k) for k in ("title", "description", "default") if k in plain}
        return {"anyOf": [plain, text], **keep}


class _Digits:
    """Marker of whole numbers: as text they are digits, which every reader of a Fleet reads alike (`+1` and `1_000` are
    none to an API server)."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(_digits, handler(source))


def _digits(value: object) -> object:
    if isinstance(value, str) and not _WHOLE.fullmatch(value):
        from pydantic_core import PydanticKnownError

        raise PydanticKnownError("int_parsing")  # as for any other word
    return value


DIGITS = _Digits()
Seconds = Annotated[float, _Quantity(parse_seconds, r"^(\d+(\.\d+)?(ms|s|m|h|d)?)+$", "30s")]
Bytes = Annotated[int, _Quantity(parse_bytes, r"^\d+(\.\d+)?([kMGTP]|[KMGTP]i)?$", "200Gi")]
Tokens = Annotated[int, _Quantity(parse_tokens, r"^\d+(\.\d+)?[kKmM]?$", "16k")]

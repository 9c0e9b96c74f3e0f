"""How long to wait before the API server is asked the same again, and what its clock says.

Why: a busy server says when it wants to be asked again (Retry-After, in seconds or as a date), and whoever comes sooner
keeps it busy; but no answer may hold a person up for an hour. Its clock is read from its own answers, since ours may
be minutes off. Forbidden: sleeping, and reading a clock of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

BUSY_S = 60.0
"""Longest time, over all tries of one call, that a busy server is waited for."""
LEAST_S = 0.05
CLOSE_S = 5.0
"""Clocks that differ by less are taken for the same: a Date is in whole seconds, and an answer takes its time."""


def pause_s(
    code: int, headers: Mapping[str, str], data: bytes, call: tuple[str, str], attempt: int
) -> float | None:
    """Seconds until the same call (method, path) is worth another try; None when it is not. An answer that names a time
    is taken at its word."""
    method, path = call
    if code in (429, 503) and (asked := retry_after_s(headers)) is not None:
        return max(asked, LEAST_S * 2.0**attempt)
    lost_leader = code == 500 and b"etcdserver" in data
    if method == "PATCH" and code == 409 and b"the object has been modified" in data:
        return LEAST_S * 2.0**attempt  # it says nothing of a version: others were faster, as often before
    if method != "POST" and "/proxy" not in path and (code in (429, 502, 503, 504) or lost_leader):
        return 0.2 * 2.0**attempt
    return None


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server wants to be left alone; None where it says nothing. A date counts from its own
    clock; what cannot be read is a second."""
    text = headers.get("retry-after")
    if text is None:
        return None
    if text.strip().isascii() and text.strip().isdigit():
        return float(text) if len(text) < 12 else float("inf")
    until, sent = _date(text), _date(headers.get("date", ""))
    return max(0.0, (until - sent).total_seconds()) if until and sent else 1.0


def ahead_s(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds by which the server's clock is ahead of ours, which says `now` (Unix time); None: it does not say."""
    sent = _date(headers.get("date", ""))
    if sent is None:
        return None
    ahead = sent.timestamp() - now
    return ahead if abs(ahead) > CLOSE_S else 0.0


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)

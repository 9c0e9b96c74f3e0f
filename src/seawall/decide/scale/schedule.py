"""When a fleet's other bounds hold: cron windows in a time zone, such as at least four replicas in office hours.

Why: who knows what comes need not wait until a forecast has seen it. A window is KEDA's: it is open while its end
comes before its next start, so that what decides here, in a simulation and in KEDA's own cron trigger is the same.
Five fields, as KEDA's parser reads them (robfig/cron v3): minute, hour, day of the month, month, day of the week, each
`*`, numbers, names, ranges, lists and steps; a day matches by either of the day fields where both are restricted.

One difference: a time that a clock skips in spring (02:30) comes as late as it was skipped (03:30); KEDA leaves the day
out. Forbidden: reading a clock; the moment is an argument (Unix time). Time zones are data of the system or of Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

NEVER_DAYS = 5 * 366
"""A moment that does not come in five years does not come."""
REFERENCE_S = 1_767_571_200.0
"""5 January 2026, from which is looked whether a moment ever comes."""
MOST_CRON = 256
MINUTE_S = 60.0
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


@dataclass(frozen=True, slots=True)
class CronField:
    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()


FIELDS = (
    CronField("minute", 0, 59),
    CronField("hour", 0, 23),
    CronField("day", 1, 31),
    CronField("month", 1, 12, _MONTHS),
    CronField("weekday", 0, 6, _DAYS),
)


@dataclass(frozen=True, slots=True)
class Cron:
    """The moments that a cron expression names, in local time."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool
    """Both day fields are restricted: one of them is enough."""

    def on(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        by_date, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_date or by_weekday if self.either else by_date and by_weekday


@dataclass(frozen=True, slots=True)
class Window:
    """Bounds that hold between two moments, again and again."""

    start: str
    end: str
    zone: str
    lowest: int = 0
    highest: int | None = None


@lru_cache(maxsize=256)
def parse_cron(text: str) -> Cron:
    """ValueError, with what is wrong and what to write, for what is none."""
    parts = text.split() if len(text) <= MOST_CRON else []
    if len(parts) != len(FIELDS):
        raise ValueError(
            "is not minute, hour, day, month and weekday; write five fields, such as 0 8 * * 1-5"
        )
    sets, restricted = [], []
    for field, part in zip(FIELDS, parts, strict=True):
        values = set[int]()
        free = False
        for piece in part.split(","):
            found, any_of = _piece(field, piece.lower())
            values |= set(found)
            free = free or any_of
        sets.append(values)
        restricted.append(not free)
    return Cron(
        minutes=tuple(sorted(sets[0])),
        hours=tuple(sorted(sets[1])),
        days=frozenset(sets[2]),
        months=frozenset(sets[3]),
        weekdays=frozenset(sets[4]),
        either=restricted[2] and restricted[4],
    )


def cron_problem(text: str, zone: str) -> str:
    """What is wrong with an expression, as the end of a sentence; empty: nothing."""
    try:
        parse_cron(text)
    except ValueError as e:
        return str(e)
    return "" if next_at(text, zone, REFERENCE_S) is not None else "never comes; check its day and month"


def _piece(field: CronField, piece: str) -> tuple[range, bool]:
    """One of a list -> (its values, whether it is a plain `*`)."""
    body, slash, step_text = piece.partition("/")
    step = _number(field, step_text, steps=True) if slash else 1
    if body in ("*", "?"):
        return range(field.low, field.high + 1, step), step == 1
    first, dash, last = body.partition("-")
    low = _number(field, first)
    high = _number(field, last) if dash else field.high if slash else low
    if high < low:
        raise ValueError(
            f"has the {field.name}s {body}, which end before they begin; write two ranges, with a comma"
        )
    return range(low, high + 1, step), False


def _number(field: CronField, text: str, steps: bool = False) -> int:
    if not steps and text in field.words:
        return field.words.index(text) + field.low
    if not text.isascii() or not text.isdigit() or len(text) > 3:
        raise ValueError(
            f"has {text!r:.40} where a {field.name} stands; write {field.low} to {field.high}, or *"
        )
    number, low = int(text), 1 if steps else field.low
    if number < low or (number > field.high and not steps):
        sunday = "; Sunday is 0" if field.name == "weekday" else ""
        raise ValueError(f"has the {field.name} {number}; write {low} to {field.high}{sunday}")
    return number


@lru_cache(maxsize=64)
def zone_of(name: str) -> tzinfo:
    """ValueError for what is no time zone. UTC needs no data."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            "is no time zone that is known here; write UTC, or one such as Europe/Berlin (the system's package tzdata "
            "has them)"
        ) from None


@lru_cache(maxsize=512)
def _moments(text: str, zone: str, day: date) -> tuple[float, ...]:
    """The moments of one local day, in order."""
    cron, where = parse_cron(text), zone_of(zone)
    if not cron.on(day):
        return ()
    return tuple(
        sorted(
            datetime(day.year, day.month, day.day, hour, minute, tzinfo=where).timestamp()
            for hour in cron.hours
            for minute in cron.minutes
        )
    )


def next_at(text: str, zone: str, after_s: float) -> float | None:
    """The first moment later than `after_s`; None: it does not come."""
    day = datetime.fromtimestamp(after_s, zone_of(zone)).date() - timedelta(days=1)
    for _ in range(NEVER_DAYS):
        for at in _moments(text, zone, day) if parse_cron(text).on(day) else ():
            if at > after_s:
                return at
        day += timedelta(days=1)
    return None


def closes_at(window: Window, at_s: float) -> float | None:
    """When an open window closes; None: it is not open."""
    end = next_at(window.end, window.zone, at_s)
    if end is None:
        return None
    start = next_at(window.start, window.zone, at_s)
    return end if start is None or end <= start else None


def lowest_at(windows: Iterable[Window], at_s: float) -> int:
    """The highest minimum of the windows that are open."""
    return max((w.lowest for w in windows if w.lowest and closes_at(w, at_s) is not None), default=0)


def highest_at(windows: Iterable[Window], at_s: float) -> int | None:
    """The lowest maximum of the windows that are open; None: none has one."""
    return min(
        (w.highest for w in windows if w.highest is not None and closes_at(w, at_s) is not None), default=None
    )


def changes(windows: Iterable[Window], since_s: float, until_s: float) -> list[float]:
    """The moments between the two at which a window may open or close, in order."""
    return sorted(
        {at for w in windows for text in (w.start, w.end) for at in _between(text, w.zone, since_s, until_s)}
    )


def _between(text: str, zone: str, since_s: float, until_s: float) -> Iterator[float]:
    at = next_at(text, zone, since_s)
    while at is not None and at < until_s:
        yield at
        at = next_at(text, zone, at)


def day_of(zone: str, at_s: float) -> tuple[float, float]:
    """Beginning and end of the local day, Unix time."""
    where = zone_of(zone)
    day = datetime.fromtimestamp(at_s, where).date()
    begin = datetime(day.year, day.month, day.day, tzinfo=where)
    after = day + timedelta(days=1)
    return begin.timestamp(), datetime(after.year, after.month, after.day, tzinfo=where).timestamp()


def clock_text(zone: str, at_s: float) -> str:
    """`18:00 Europe/Berlin`."""
    return f"{datetime.fromtimestamp(at_s, zone_of(zone)):%H:%M} {zone}"


def unix_of(text: str, zone: str) -> float:
    """`2026-11-30 08:00` in a zone -> Unix time. ValueError for what is no such time."""
    said = datetime.fromisoformat(text)
    return (
        (said if said.tzinfo is not None else said.replace(tzinfo=zone_of(zone))).astimezone(UTC).timestamp()
    )

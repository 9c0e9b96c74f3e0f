"""What one open page wants to see, and the part of a sight that it gets: filters and paging happen here, so that a
page costs the same for ten replicas and for a thousand. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from seawall.console.chronicle import KINDS, Chronicle
from seawall.console.sight import SERVING, ConsoleFleet, ConsoleReplica, ConsoleSight
from seawall.errors import InputError

MOST_ROWS = 200
FLEETS_SHOWN = 100
TENANTS_SHOWN = 100
STREAMS_SHOWN = 50
SORTS = ("trouble", "name", "load", "kv", "age")


@dataclass(frozen=True, kw_only=True)
class PageWish:
    """What a page asks for."""

    fleet: str = ""
    """The fleet whose numbers are drawn, and that rows are of; empty: all rows, the first fleet's numbers."""
    phase: str = ""
    """`trouble`: everything that does not simply serve."""
    find: str = ""
    """A part of a replica's name, reason or place."""
    sort: str = "trouble"
    page: int = 1
    rows: int = 50
    kind: str = ""
    """The kind of events to show; empty: all."""


def wish(query: str) -> PageWish:
    """A URL's query as a wish. InputError names the parameter."""
    given = parameters(query)
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name in ("page", "rows"):
            most = MOST_ROWS if name == "rows" else 100_000
            if not 1 <= whole_number(value) <= most:
                raise InputError(
                    f"{name}={value[:40]!r}: not a number from 1 to {most}.", "Write rows=50&page=1."
                )
            values[name] = int(value)
        elif name in ("fleet", "phase", "find", "sort", "kind"):
            values[name] = value[:200]
        elif name not in ("before", "after"):
            known = "fleet, phase, find, sort, page, rows, kind"
            raise InputError(f"{name[:40]!r} is not known.", f"Known: {known}.")
    for name, known_values in (("sort", SORTS), ("kind", ("", *KINDS))):
        if name in values and values[name] not in known_values:
            raise InputError(
                f"{name}={values[name][:40]!r} is not known.", f"Known: {', '.join(known_values)}."
            )
    return PageWish(**values)


def parameters(query: str) -> dict[str, str]:
    """A URL's query by name. InputError when it has too many parts."""
    try:
        return dict(parse_qsl(query, keep_blank_values=True, max_num_fields=20))
    except ValueError:
        raise InputError("the query has more than 20 parameters.", "Leave some out.") from None


def whole_number(text: str) -> int:
    """The number that a text is; -1: it is none, or has more than 15 digits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else -1


def chosen(sight: ConsoleSight, asked: PageWish) -> ConsoleFleet | None:
    """The fleet whose numbers are drawn."""
    named = next((f for f in sight.fleets if f.name == asked.fleet), None)
    return named or (sight.fleets[0] if sight.fleets and not asked.fleet else None)


def fleets(sight: ConsoleSight) -> dict[str, Any]:
    """The table of fleets, those in trouble first."""
    rows = sorted(sight.fleets, key=lambda f: (f.wanted is None or f.ready >= f.wanted, f.name))
    return {"rows": [_fleet(f) for f in rows[:FLEETS_SHOWN]], "total": len(rows)}


def _fleet(f: ConsoleFleet) -> dict[str, Any]:
    told = f.told
    return {
        "name": f.name, "models": list(f.models[:8]), "ready": f.ready, "wanted": f.wanted, "lowest": f.lowest,
        "highest": f.highest, "queued": told.queued, "in_flight": told.in_flight, "limit": told.queue_limit,
        "ttft_p50": told.ttft_p50_s, "ttft_p95": told.ttft_p95_s, "finished": told.finished_total,
        "failed": told.failed_total, "rejected": told.rejected_total, "resumed": told.resumed_total,
        "retried": told.retried_total, "scale": f.scale, "rollout": f.rollout,
    }  # fmt: skip


def replicas(sight: ConsoleSight, chronicle: Chronicle, asked: PageWish) -> dict[str, Any]:
    """One page of the replicas that a wish finds, and how many there are of each phase."""
    phases: dict[str, int] = {}
    found: list[ConsoleReplica] = []
    part = asked.find.casefold()
    for r in sight.replicas:
        if asked.fleet and r.fleet != asked.fleet:
            continue
        phases[r.phase] = phases.get(r.phase, 0) + 1
        if asked.phase and (r.phase == SERVING if asked.phase == "trouble" else r.phase != asked.phase):
            continue
        if part and part not in f"{r.name} {r.reason} {r.where}".casefold():
            continue
        found.append(r)
    found.sort(key=_order(asked.sort, chronicle))
    pages = max(1, -(-len(found) // asked.rows))
    page = min(asked.page, pages)
    rows = found[(page - 1) * asked.rows : page * asked.rows]
    return {
        "rows": [{**msgspec.structs.asdict(r), "since": _whole(chronicle.entered(r))} for r in rows],
        "found": len(found), "total": sum(phases.values()), "page": page, "pages": pages, "phases": phases,
    }  # fmt: skip


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds)


def _order(sort: str, chronicle: Chronicle) -> Callable[[ConsoleReplica], Any]:
    match sort:
        case "load":
            return lambda r: (-(r.in_flight or 0), r.name)
        case "kv":
            return lambda r: (-(r.kv_use or 0.0), r.name)
        case "age":
            return lambda r: (-(chronicle.entered(r) or 0.0), r.name)
        case "name":
            return lambda r: r.name
        case _:
            return lambda r: (r.phase == SERVING, r.name)


def tenants(fleet: ConsoleFleet | None) -> dict[str, Any]:
    """The fleet's tenants, who took most first."""
    told = fleet.told.tenants if fleet else {}
    rows = sorted(told.items(), key=lambda t: (-(t[1].tokens_in + t[1].tokens_out), t[0]))
    return {
        "rows": [
            {"name": name, "finished": t.outcomes.get("finished", 0), "requests": sum(t.outcomes.values()),
             "tokens_in": t.tokens_in, "tokens_out": t.tokens_out, "usd": t.cost_usd}
            for name, t in rows[:TENANTS_SHOWN]
        ],
        "total": len(rows),
    }  # fmt: skip


def streams(sight: ConsoleSight, asked: PageWish) -> list[dict[str, Any]]:
    """Streams that run now and were continued on another replica, the longest running first."""
    shown = [
        {"fleet": f.name, **asdict(s)}
        for f in sight.fleets
        if asked.fleet in ("", f.name)
        for s in f.told.streams
    ]
    return sorted(shown, key=lambda s: -float(s["for_s"]))[:STREAMS_SHOWN]

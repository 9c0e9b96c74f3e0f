"""The console behind its page: it looks once a second, remembers what changed, and tells every open page what that page
asked to see. Who serves it brings the sights and carries the bytes (gateway/process/console_pages.py).

A page that reads slowly misses looks, never events, and nothing piles up for it. Forbidden here: HTTP, awaiting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from seawall import __version__
from seawall.console import assets, shown
from seawall.console.chronicle import Chronicle
from seawall.console.shown import PageWish
from seawall.console.sight import ConsoleSight
from seawall.console.trend import STEP_S, Trend
from seawall.errors import InputError

API = assets.ROOT + "/api/"
LOOK_S = 1.0
PAGES = 32
"""Pages that may be open at once."""
TRENDS = 200
"""Fleets whose numbers are remembered."""
HISTORY = 200
"""Happenings that a page is told when it opens."""
JSON = "application/json"


@dataclass(frozen=True)
class Reply:
    """An answer that is whole."""

    status: int
    kind: str
    body: bytes


class OpenPage:
    """One page that is open, and what it knows."""

    def __init__(self, wish: PageWish, write: Callable[[bytes], None], full: Callable[[], bool]) -> None:
        self.wish, self.write, self.full = wish, write, full
        self.told = 0
        """The last happening that it was told."""
        self.drawn_s = 0.0
        """The last point of its charts, Unix seconds."""
        self.drawn = ""
        """The fleet that they are of."""
        self.parts: dict[str, bytes] = {}


class Console:
    """See the module."""

    def __init__(self, *, keys: bool = False, place: str = "") -> None:
        self.keys, self.place = keys, place
        self.sight = ConsoleSight()
        self.chronicle = Chronicle()
        self.pages: set[OpenPage] = set()
        self._trends: dict[str, Trend] = {}
        self._at = 0.0
        self._drawn_at = 0.0

    @property
    def looked(self) -> bool:
        """There is something to show."""
        return self._at > 0.0

    def look(self, sight: ConsoleSight, at: float) -> None:
        """Takes the newest sight and tells every page. `at`: Unix seconds."""
        self.sight, self._at = sight, at
        self.chronicle.note(sight, at)
        if at - self._drawn_at >= STEP_S * 0.9 or at < self._drawn_at:
            self._drawn_at = at
            self._draw(sight, at)
        for page in self.pages:
            self._tell(page)

    def _draw(self, sight: ConsoleSight, at: float) -> None:
        uses: dict[str, list[float]] = {}
        for r in sight.replicas:
            if r.kv_use is not None:
                uses.setdefault(r.fleet, []).append(r.kv_use)
        for fleet in sight.fleets[:TRENDS]:
            use = uses.get(fleet.name)
            trend = self._trends.setdefault(fleet.name, Trend())
            trend.add(at, fleet, sum(use) / len(use) if use else None)
        for gone in self._trends.keys() - {f.name for f in sight.fleets}:
            del self._trends[gone]

    # -- what is asked once

    def reply(self, path: str, query: str) -> Reply:
        """The answer to a GET below API."""
        try:
            match path.removeprefix(API):
                case "about":
                    return self._json(200, self.about())
                case "now":
                    asked = shown.wish(query)
                    page = OpenPage(asked, lambda data: None, lambda: False)
                    return self._json(200, {"at": self._at, **self._parts(page), **self._new(page)})
                case "events":
                    return self._json(200, {"events": self._events(query)})
                case _:
                    return self._json(404, {"error": "Known: about, now, events, stream."})
        except InputError as e:
            return self._json(400, {"error": f"{e.message} {e.cure}"})

    def about(self) -> dict[str, Any]:
        """What a page must know before it asks for anything."""
        return {
            "version": __version__, "keys": self.keys, "place": self.place,
            "libraries": assets.libraries(),
        }  # fmt: skip

    def _events(self, query: str) -> list[Any]:
        asked = shown.wish(query)
        given = shown.parameters(query).get("before", "0")
        before = shown.whole_number(given)
        if before < 0:
            raise InputError(f"before={given[:40]!r}: not a number.", "Name the `n` of an event.")
        return list(self.chronicle.page(before, asked.rows, asked.kind, asked.fleet))

    @staticmethod
    def _json(status: int, data: Any) -> Reply:
        return Reply(status, JSON, msgspec.json.encode(data) + b"\n")

    # -- open pages

    def open(self, query: str, write: Callable[[bytes], None], full: Callable[[], bool]) -> OpenPage | Reply:
        """A page that is told, from now on, what it asks for; `close` it. A reply: why not."""
        if len(self.pages) >= PAGES:
            return self._json(503, {"error": f"{PAGES} pages are open already. Close one."})
        try:
            asked = shown.wish(query)
        except InputError as e:
            return self._json(400, {"error": f"{e.message} {e.cure}"})
        page = OpenPage(asked, write, full)
        self.pages.add(page)
        self._tell(page)
        return page

    def close(self, page: OpenPage) -> None:
        self.pages.discard(page)

    def _tell(self, page: OpenPage) -> None:
        if page.full():
            return
        parts = {name: msgspec.json.encode(part) for name, part in self._parts(page).items()}
        changed = {name: part for name, part in parts.items() if page.parts.get(name) != part}
        page.parts.update(changed)
        body = {"at": msgspec.Raw(b"%.1f" % self._at), **{n: msgspec.Raw(p) for n, p in changed.items()}}
        body |= self._new(page)
        page.write(b"event: look\ndata: " + msgspec.json.encode(body) + b"\n\n")

    def _parts(self, page: OpenPage) -> dict[str, Any]:
        """What is told again only when it has changed."""
        asked, sight = page.wish, self.sight
        return {
            "fleets": shown.fleets(sight),
            "replicas": shown.replicas(sight, self.chronicle, asked),
            "streams": shown.streams(sight, asked),
            "tenants": shown.tenants(shown.chosen(sight, asked)),
            "silent": sight.silent,
            "notes": dict(sight.notes),
        }

    def _new(self, page: OpenPage) -> dict[str, Any]:
        """What has come since the page was told last: events, and points of its charts."""
        new: dict[str, Any] = {}
        asked = page.wish
        events = self.chronicle.after(page.told, HISTORY)
        page.told = self.chronicle.last
        fits = [e for e in events if asked.kind in ("", e.kind) and asked.fleet in ("", e.fleet)]
        if fits:
            new["events"] = fits
        fleet = shown.chosen(self.sight, asked)
        trend = self._trends.get(fleet.name) if fleet else None
        if fleet and trend is not None:
            if page.drawn != fleet.name:
                page.drawn, page.drawn_s = fleet.name, 0.0
            points = trend.after(page.drawn_s)
            if points["t"]:
                page.drawn_s = trend.times[-1]
                new["trend"] = {"fleet": fleet.name, **points}
        return new

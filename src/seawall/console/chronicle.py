"""What happened, one line each, with the reason: told by who decided it, or noticed by comparing two sights.

Bounded: the last KEPT events. No I/O; times are Unix seconds that the caller brings.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice

from seawall.console.sight import SERVING, ConsoleFleet, ConsoleReplica, ConsoleSight, ToldWord
from seawall.domain.units import counted

KEPT = 2000
CALM_S = 5.0
"""Counts of one kind are told at most once in so many seconds."""
OUT = ("evicted", "probing")
KINDS = ("eviction", "return", "resume", "failure", "refusal", "scale", "rollout", "replica", "note")
_COUNTS = (
    ("resume", "resumed_total", "{} continued on another replica", "broken stream"),
    ("failure", "failed_total", "{} not answered whole", "request"),
    ("refusal", "rejected_total", "{} turned away, the queue is full", "request"),
)


@dataclass(frozen=True)
class TimelineEntry:
    """One line of the timeline. `n` grows by one with each."""

    n: int
    at: float
    kind: str
    fleet: str
    subject: str
    text: str


class Chronicle:
    """See the module."""

    def __init__(self) -> None:
        self.last = 0
        """The `n` of the newest happening; 0: none."""
        self._kept: deque[TimelineEntry] = deque(maxlen=KEPT)
        self._fleets: dict[str, ConsoleFleet] = {}
        self._replicas: dict[str, ConsoleReplica] = {}
        self._out: set[str] = set()
        """Replicas whose eviction was told, and not yet their return."""
        self._entered: dict[str, tuple[str, float]] = {}
        """Replica -> (phase, since when)."""
        self._told: dict[tuple[str, str], tuple[int, float]] = {}
        """(kind, fleet) -> the total that was told last, and when."""
        self._heard_at = 0.0
        self._heard: set[tuple[str, str]] = set()
        self._began = False

    def note(self, sight: ConsoleSight, now: float) -> None:
        """Takes the newest sight."""
        for word in sight.words:
            self._hear(word)
        for fleet in sight.fleets:
            self._counts(fleet, now)
            before = self._fleets.get(fleet.name)
            if before is not None:
                self._compare_fleet(before, fleet, sight.decides, now)
        seen = {r.name for r in sight.replicas}
        for replica in sight.replicas:
            self._compare(self._replicas.get(replica.name), replica, sight.decides, now)
        for name in self._replicas.keys() - seen:
            gone = self._replicas[name]
            self._entered.pop(name, None)
            if not sight.decides:
                self._out.discard(name)
            if not sight.decides:
                self._tell(now, "replica", gone.fleet, name, "gone")
        self._fleets = {f.name: f for f in sight.fleets}
        self._replicas = {r.name: r for r in sight.replicas}
        self._began = True

    def evicted(self, fleet: str, replica: str, reason: str, at: float) -> None:
        """A gateway in this process has just stopped routing to a replica: it may be gone before the next sight."""
        if replica not in self._out:
            self._out.add(replica)
            self._tell(at, "eviction", fleet, replica, f"evicted: {reason}" if reason else "evicted")

    def entered(self, replica: ConsoleReplica) -> float | None:
        """When the replica entered its phase, as far as anybody saw; None: before the first sight."""
        if replica.since is not None:
            return replica.since
        phase, since = self._entered.get(replica.name, ("", 0.0))
        return since if phase == replica.phase and since else None

    def after(self, n: int, most: int) -> list[TimelineEntry]:
        """The newest events later than `n`, oldest first, at most `most`."""
        count = min(most, self.last - n, len(self._kept))
        return list(islice(reversed(self._kept), max(0, count)))[::-1]

    def page(self, before: int, most: int, kind: str, fleet: str) -> list[TimelineEntry]:
        """Happenings older than `before` (0: the newest) of a kind and a fleet (empty: all), newest first."""
        wanted = (
            h for h in reversed(self._kept)
            if (not before or h.n < before) and kind in ("", h.kind) and fleet in ("", h.fleet)
        )  # fmt: skip
        return list(islice(wanted, most))

    def _tell(self, at: float, kind: str, fleet: str, subject: str, text: str) -> None:
        self.last += 1
        self._kept.append(TimelineEntry(self.last, at, kind, fleet, subject, text))

    def _hear(self, word: ToldWord) -> None:
        """A word that came before is not told again: they come in the order of time, the last ones repeatedly."""
        key = (word.subject, word.text)
        if word.at < self._heard_at or (word.at == self._heard_at and key in self._heard):
            return
        if word.at > self._heard_at:
            self._heard_at, self._heard = word.at, set()
        self._heard.add(key)
        self._tell(word.at, word.kind, word.fleet, word.subject, word.text)

    def _counts(self, fleet: ConsoleFleet, now: float) -> None:
        for kind, name, text, unit in _COUNTS:
            total = int(getattr(fleet.told, name))
            known, at = self._told.get((kind, fleet.name), (total if not self._began else 0, -CALM_S))
            if total < known:
                known = 0  # the gateway started anew
            if total > known and now - at >= CALM_S:
                self._tell(now, kind, fleet.name, fleet.name, text.format(counted(total - known, unit)))
                known, at = total, now
            self._told[(kind, fleet.name)] = (known, at)

    def _compare_fleet(self, before: ConsoleFleet, now_is: ConsoleFleet, decides: bool, now: float) -> None:
        name = now_is.name
        if not decides and now_is.wanted != before.wanted and None not in (now_is.wanted, before.wanted):
            why = f": {now_is.scale}" if now_is.scale else ""
            self._tell(now, "scale", name, name, f"{before.wanted} -> {now_is.wanted} replicas{why}")
        if now_is.rollout != before.rollout and (now_is.rollout or not decides):
            self._tell(now, "rollout", name, name, now_is.rollout or "the rollout is over")

    def _compare(self, before: ConsoleReplica | None, r: ConsoleReplica, decides: bool, now: float) -> None:
        if before is None or before.phase != r.phase:
            # What was there at the first sight entered its phase at an unknown time.
            self._entered[r.name] = (r.phase, now if self._began else 0.0)
        was_out = before is not None and before.phase in OUT
        if r.phase in OUT and not was_out:
            self.evicted(r.fleet, r.name, r.reason, now)
        elif before is not None and r.evictions > before.evictions and not was_out:
            self.evicted(r.fleet, r.name, "for a moment", now)
        if r.phase == SERVING and r.name in self._out:
            self._out.discard(r.name)
            self._tell(now, "return", r.fleet, r.name, f"back in service: {r.reason or 'gave a token'}")
        elif r.phase in OUT or (before is not None and before.phase == r.phase):
            return
        elif before is None:
            if self._began and not decides:
                self._tell(now, "replica", r.fleet, r.name, _phase(r, "new: "))
        elif not decides or "suspect" in (before.phase, r.phase):
            self._tell(now, "replica", r.fleet, r.name, _phase(r, ""))


def _phase(r: ConsoleReplica, first: str) -> str:
    return f"{first}{r.phase}{f': {r.reason}' if r.reason else ''}"

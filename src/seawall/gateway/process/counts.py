"""What this process has counted, in the memory that outlives it (edge/record.py): no counter falls by a take-over.

What is left of tenants' and keys' limits is told with it: a killed gateway hands nobody a fresh minute.

Written four times a second and whenever somebody is told a count; so a successor begins at or above all that was told,
and what a killed process counted since then, for a quarter of a second at most, is lost. Two slots take turns: one of
them is always whole. Forbidden here: gauges, and anything that a process learns anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from time import time

import msgspec

from seawall.decide.route.meter import Level
from seawall.gateway.edge.client_side import Client
from seawall.gateway.edge.http2 import Http2Connection
from seawall.gateway.edge.record import Arena, Record, read
from seawall.gateway.edge.whole_sink import WholeSink
from seawall.gateway.exchange.background import InBackground
from seawall.gateway.exchange.exchange import Exchange
from seawall.gateway.exchange.keeping import Keeping
from seawall.gateway.exchange.lane import FleetLane
from seawall.gateway.exchange.written import WrittenRecord
from seawall.gateway.intake.app import App
from seawall.gateway.process.metrics import METRICS, Line
from seawall.gateway.tell.stats import SIDE_NUMBERS, FleetStats, Histogram

log = logging.getLogger("seawall.gateway")
COUNTED = 23
"""The kind of such an entry in a record (edge/record.py has the others)."""
NUMBERS = (
    "admitted", "cached_tokens", "cancelled", "expected_tokens", "failed", "finished", "hedges_lost", "hedges_won",
    "poison", "reattached", "resumed", "shadow_differed", "shadow_same", "shadowed", "tokens_in", "tokens_out",
    "wasted_completion", "wasted_gpu_s", "wasted_prompt",
)  # fmt: skip
REASONS = ("rejected", "retried")
TIMES = ("duration", "queue_wait", "tpot", "ttft")


class _Tenant(msgspec.Struct, frozen=True):
    prompt: int
    completion: int
    used: int
    usd: float
    outcomes: dict[str, int]
    level: Level | None = None


class _Fleet(msgspec.Struct, frozen=True):
    numbers: dict[str, float]
    reasons: dict[str, dict[str, int]]
    times: dict[str, tuple[list[int], float]]
    sides: dict[str, dict[str, float]]
    tenants: dict[str, _Tenant]
    unkept: int
    """Requests under way that no record holds: they end with the process."""
    keys: dict[str, Level] = {}
    """Key id -> what is left of its own limits."""


class ProcessCounts(msgspec.Struct, frozen=True):
    """All that one process counted, and what its own predecessors had."""

    turn: int
    since: float
    """Unix time: the start of the first of those whose counts these are."""
    fleets: dict[str, _Fleet]
    refusals: dict[str, int]
    lag: tuple[list[int], float]
    unkept: dict[str, int]
    """Open connections that end with this process, by why."""
    more: list[tuple[str, dict[str, str], float]]
    """What is told of the process beside its fleets: counters only."""


_decoder = msgspec.json.Decoder(ProcessCounts)


class CountsRecord:
    """The counts of this process in a record."""

    def __init__(self, app: App, own: Callable[[], Iterable[Line]]) -> None:
        """`own`: what this process tells of itself beside its fleets."""
        self._app = app
        self._own = own
        self._turn = 0
        self.since = time()
        """Unix time since which is counted what is told here."""
        self._slots: dict[Arena, list[int]] = {}
        self._past: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        """Counters of predecessors: name and labels -> value."""

    def lines(self) -> list[Line]:
        """What is told of the process beside its fleets, each counter with what predecessors had counted."""
        out: list[Line] = []
        past = dict(self._past)
        for name, labels, value in self._own():
            before = past.pop((name, tuple(labels.items())), None)
            out.append((name, labels, value + (before or 0.0)))
        return out + [(name, dict(labels), value) for (name, labels), value in past.items()]

    def note(self, arena: Arena) -> None:
        """Writes down what is counted now."""
        slots = self._slots.get(arena)
        if slots is None:
            slots = self._slots[arena] = [arena.take_slot(), arena.take_slot()]
        self._turn += 1
        slot = slots[self._turn % 2]
        if slot < 0:
            return
        app = self._app
        counters = [line for line in self.lines() if METRICS[line[0]][0] == "counter"]
        fleets = {name: _told(fleet) for name, fleet in app.fleets.items()}
        lag = app.lag.counts, app.lag.total
        now = ProcessCounts(self._turn, self.since, fleets, app.refusals, lag, _unkept(app), counters)
        record = Record(arena, slot)
        record.renew()
        record.add(COUNTED, msgspec.json.encode(now))

    def inherit(self, arena: Arena, slots: Iterable[int], first: bool) -> dict[str, int]:
        """Begins where a predecessor ended, whose counts are in one of the slots -> how many of its connections no
        record had held, by why. `first`: this process has counted nothing yet, but what a file told it of its tenants,
        which is older than this."""
        newest: ProcessCounts | None = None
        for slot in slots:
            found = _read(arena, slot)
            if found is not None and (newest is None or found.turn > newest.turn):
                newest = found
        if newest is None:
            return {}
        app = self._app
        self._turn = max(self._turn, newest.turn)
        if first:
            self.since = newest.since
        for name, told in newest.fleets.items():
            fleet = app.fleets.get(name)
            if fleet is not None:
                _add(fleet, told, first)
        for code, count in newest.refusals.items():
            app.refusals[code] = app.refusals.get(code, 0) + count
        _add_times(app.lag, *newest.lag)
        for name, labels, value in newest.more:
            key = (name, tuple(labels.items()))
            self._past[key] = self._past.get(key, 0.0) + value
        return newest.unkept

    def settle(self, lost: int) -> None:
        """The take-over is over: requests that did not go on have failed, or were answered after the last note. `lost`:
        connections on which something was going on, and which were ended."""
        for fleet in self._app.fleets.values():
            stats = fleet.stats
            failed = min(stats.left, stats.left_unkept + lost)
            lost -= max(0, failed - stats.left_unkept)
            stats.failed += failed
            stats.finished += stats.left - failed
            stats.left = stats.left_unkept = 0


def _unkept(app: App) -> dict[str, int]:
    door = app.means.batch
    found = {"batch": len(door.open)} if door is not None and door.open else {}
    for client in app.clients:
        if isinstance(client, Client) and client.record is not None:
            continue
        transport = client.transport if isinstance(client, (Client, Http2Connection)) else None
        if transport is None:
            continue
        tls = transport.get_extra_info("sslcontext") is not None
        why = "tls" if tls else "http2" if isinstance(client, Http2Connection) else "full"
        found[why] = found.get(why, 0) + 1
    return found


def _told(fleet: FleetLane) -> _Fleet:
    stats = fleet.stats
    return _Fleet(
        {name: getattr(stats, name) for name in NUMBERS},
        {name: getattr(stats, name) for name in REASONS},
        {name: (getattr(stats, name).counts, getattr(stats, name).total) for name in TIMES},
        {side: {n: getattr(s, n) for n in SIDE_NUMBERS} for side, s in stats.sides.items() if s.requests},
        {
            t.name: _Tenant(t.prompt, t.completion, t.meter.used, t.cost_usd, t.outcomes, t.meter.level)
            for t in fleet.tenants.all()
        },
        sum([not _is_kept(one) for one in fleet.active]),
        {id: level for id, meter in fleet.tenants.key_meters().items() if (level := meter.level) is not None},
    )


def _is_kept(one: object) -> bool:
    """A record holds this request."""
    sink = one.sink if isinstance(one, Exchange) else None
    plain = sink.plain if isinstance(sink, WholeSink) else sink
    if isinstance(plain, Keeping | InBackground):
        record = plain.record
        return isinstance(record, WrittenRecord) and record.written
    return isinstance(plain, Client) and plain.record is not None


def _read(arena: Arena, slot: int) -> ProcessCounts | None:
    past = read(arena, slot)
    if past is None or len(past.entries) != 1 or past.entries[0][0] != COUNTED:
        return None
    try:
        return _decoder.decode(past.entries[0][1])
    except msgspec.MsgspecError as e:  # of another release
        log.warning("what the gateway that died had counted cannot be read (%s): counters begin at 0", e)
        return None


def _add(fleet: FleetLane, told: _Fleet, first: bool) -> None:
    stats: FleetStats = fleet.stats
    for name, number in told.numbers.items():
        if name in NUMBERS:
            value = getattr(stats, name) + number
            setattr(stats, name, value if name == "wasted_gpu_s" else int(value))
    n = told.numbers
    stats.left += int(n["admitted"] - n["finished"] - n["failed"] - n["cancelled"])
    stats.left_unkept += told.unkept
    for name, reasons in told.reasons.items():
        mine: dict[str, int] = getattr(stats, name)
        for reason, count in reasons.items():
            mine[reason] = mine.get(reason, 0) + count
    for name, (counts, total) in told.times.items():
        _add_times(getattr(stats, name), counts, total)
    for side, numbers in told.sides.items():
        for name, number in numbers.items():
            setattr(stats.sides[side], name, getattr(stats.sides[side], name) + number)
    for name, used in told.tenants.items():
        tenant = fleet.tenants.named(name)
        if first:
            tenant.prompt = tenant.completion = 0
            tenant.cost_usd = 0.0
        tenant.prompt += used.prompt
        tenant.completion += used.completion
        tenant.cost_usd += used.usd
        tenant.meter.used = max(tenant.meter.used, used.used)
        if used.level is not None:
            tenant.meter.carry(used.level)
        for outcome, count in used.outcomes.items():
            tenant.outcomes[outcome] = tenant.outcomes.get(outcome, 0) + count
    for id, level in told.keys.items():
        fleet.tenants.key_meter(id).carry(level)


def _add_times(mine: Histogram, counts: list[int], total: float) -> None:
    if len(counts) == len(mine.counts):
        mine.counts = [a + b for a, b in zip(mine.counts, counts, strict=True)]
        mine.total += total

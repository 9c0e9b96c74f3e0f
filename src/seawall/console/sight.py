"""What a console shows at one moment, wherever it was learned: from a gateway, from several, from `seawall up`, from a
cluster. Plain values, and the translations from what those tell. No I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from seawall.domain.told import FleetState, GatewayState, ReplicaState

SERVING = "ready"
UNROUTED = "unrouted"
UNTOLD = FleetState()


class ConsoleReplica(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One replica in a line; a thousand are made every second. None: nobody told."""

    name: str
    fleet: str
    phase: str
    reason: str = ""
    since: float | None = None
    """Unix seconds: when it entered its phase."""
    in_flight: int | None = None
    waiting: int | None = None
    kv_use: float | None = None
    evictions: int = 0
    returns: int = 0
    group: str = "stable"
    where: str = ""
    """The address, or the node, that it runs at."""


@dataclass(frozen=True, kw_only=True)
class ConsoleFleet:
    """One fleet: what is wanted, what is there, why, and the gateways' counters."""

    name: str
    wanted: int | None = None
    ready: int = 0
    lowest: int | None = None
    highest: int | None = None
    models: tuple[str, ...] = ()
    scale: str = ""
    """The scaler's last word."""
    rollout: str = ""
    told: FleetState = UNTOLD


@dataclass(frozen=True, kw_only=True)
class ToldWord:
    """Something that happened, in the words of who knows."""

    at: float
    """Unix seconds."""
    kind: str
    fleet: str
    subject: str
    text: str


@dataclass(frozen=True, kw_only=True)
class ConsoleSight:
    """Everything at one moment."""

    fleets: tuple[ConsoleFleet, ...] = ()
    replicas: tuple[ConsoleReplica, ...] = ()
    words: tuple[ToldWord, ...] = ()
    """The latest events of who decides here, oldest first; the same ones may come again."""
    decides: bool = False
    """Whoever starts replicas and scales tells it in `words`; else changes are noticed by comparing."""
    silent: str = ""
    """Why a part is missing; empty: nothing is."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Facts of the place that do not change: the engine, the address."""


def of_gateway(state: GatewayState) -> ConsoleSight:
    """The picture that gateways have by themselves."""
    replicas = tuple(_replica(name, r) for name, r in state.replicas.items())
    ready: dict[str, int] = {}
    for r in replicas:
        ready[r.fleet] = ready.get(r.fleet, 0) + (r.phase == SERVING)
    fleets = tuple(
        ConsoleFleet(
            name=name,
            ready=ready.get(name, 0),
            models=tuple(told.models),
            rollout=f"canary: {told.canary_percent}% of the requests" if told.canary_percent else "",
            told=told,
        )
        for name, told in state.fleets.items()
    )
    return ConsoleSight(fleets=fleets, replicas=replicas)


def _replica(name: str, r: ReplicaState) -> ConsoleReplica:
    doubted = bool(r.suspect) and r.state == SERVING
    return ConsoleReplica(
        name=name,
        fleet=r.fleet,
        phase="suspect" if doubted else r.state,
        reason=r.suspect if doubted else r.reason,
        in_flight=r.in_flight,
        waiting=r.waiting,
        kv_use=r.kv_use,
        evictions=r.evictions,
        returns=r.returns,
        group=r.group,
        where=r.url,
    )


def with_supervisor(sight: ConsoleSight, snapshot: Mapping[str, Any], now: float) -> ConsoleSight:
    """The gateway's picture together with that of the `seawall up` that keeps it (local/snapshot.py). `now`: Unix
    seconds at which the snapshot was made."""
    by_name = {r.name: r for r in sight.replicas}
    told = {f.name: f for f in sight.fleets}
    replicas = tuple(_kept(r, by_name.get(str(r["name"])), now) for r in snapshot.get("replicas") or [])
    turning = {
        str(f["name"])
        for f in snapshot.get("fleets") or []
        for r in snapshot.get("replicas") or []
        if r.get("fleet") == f["name"] and r.get("generation", 0) != f.get("generation", 0)
    }
    fleets = tuple(_fleet(f, told.get(str(f["name"])), turning) for f in snapshot.get("fleets") or [])
    names = {f.name for f in fleets}
    of = {r.name: r.fleet for r in replicas}
    words = tuple(_word(e, names, of) for e in snapshot.get("events") or [])
    notes = {"engine": str(snapshot.get("engine") or ""), "state": str(snapshot.get("state_dir") or "")}
    return replace(sight, fleets=fleets, replicas=replicas, words=words, decides=True, notes=notes)


def _kept(r: Mapping[str, Any], routed: ConsoleReplica | None, now: float) -> ConsoleReplica:
    """The supervisor's word, unless the gateway knows worse of a replica that should serve."""
    phase, reason = str(r.get("phase")), str(r.get("stage") or r.get("reason") or "")
    since: float | None = now - float(r.get("for_s") or 0.0)
    if phase == SERVING and routed is None:
        phase, reason, since = UNROUTED, "the gateway does not know it yet", None
    elif phase == SERVING and routed is not None and routed.phase not in (SERVING, ""):
        phase, reason, since = routed.phase, routed.reason, None
    waiting, kv_use = r.get("waiting"), r.get("kv_usage")
    return ConsoleReplica(
        name=str(r["name"]),
        fleet=str(r.get("fleet") or ""),
        phase=phase,
        reason=reason,
        since=since,
        in_flight=routed.in_flight if routed else r.get("in_flight"),
        waiting=int(waiting) if waiting is not None else routed.waiting if routed else None,
        kv_use=float(kv_use) if kv_use is not None else routed.kv_use if routed else None,
        evictions=routed.evictions if routed else 0,
        returns=routed.returns if routed else 0,
        group=routed.group if routed else "stable",
        where=str(r.get("url") or ""),
    )


def _fleet(f: Mapping[str, Any], told: ConsoleFleet | None, turning: set[str]) -> ConsoleFleet:
    rolls = f"generation {f.get('generation')} replaces the one before" if f["name"] in turning else ""
    return ConsoleFleet(
        name=str(f["name"]),
        wanted=f.get("wanted"),
        ready=int(f.get("ready") or 0),
        lowest=f.get("min"),
        highest=f.get("max"),
        models=tuple(f.get("models") or ()),
        scale=str(f.get("scale_reason") or ""),
        rollout=(told.rollout if told else "") or rolls,
        told=told.told if told else UNTOLD,
    )


def _word(e: Mapping[str, Any], fleets: set[str], of: Mapping[str, str]) -> ToldWord:
    subject, text = str(e.get("subject") or ""), str(e.get("text") or "")
    kind = "replica" if subject in of else "note"
    if subject in fleets:
        kind = (
            "rollout" if text.startswith("rolling restart") else "scale" if "replicas: " in text else "note"
        )
    fleet = subject if subject in fleets else of.get(subject, "")
    return ToldWord(at=float(e.get("at") or 0.0), kind=kind, fleet=fleet, subject=subject, text=text)

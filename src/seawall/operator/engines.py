"""What the operator keeps of each engine Pod: enough to drain, sleep, wake and fill it with adapters."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from seawall.decide.drain import ReplicaSeen
from seawall.domain.labels import ADAPTERS, ASLEEP, DELETION_COST, DRAINING, FLEET
from seawall.drivers.kube import Object


@dataclass(frozen=True)
class EnginePod:
    """One engine Pod."""

    replica: ReplicaSeen
    cost: int
    url: str
    """Where its engine listens; empty while it has no address."""
    uid: str
    life: str
    """The engine container's ID: a restart is another life."""
    terminating: bool
    slept_s: float | None
    """Unix time since when it falls asleep or sleeps; None: it is awake."""
    asleep: bool
    adapters: tuple[str, ...] | None
    """What its annotation says of this life; None: nothing."""

    @property
    def fleet(self) -> tuple[str, str]:
        return self.replica.namespace, self.replica.fleet


def engine_seen(pod: Object) -> EnginePod:
    """A Pod labelled `seawall.dev/role=engine`."""
    meta, status, spec = pod.get("metadata") or {}, pod.get("status") or {}, pod.get("spec") or {}
    labels, notes = meta.get("labels") or {}, meta.get("annotations") or {}
    ready = any(
        c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or []
    )
    slept = _number(notes.get(ASLEEP))
    seen = ReplicaSeen(
        namespace=str(meta.get("namespace", "")),
        name=str(meta.get("name", "")),
        fleet=str(labels.get(FLEET, "")),
        node=str(spec.get("nodeName") or ""),
        # Who dozes is drained for its pool's sake; its node has no say in when that ends.
        draining=notes.get(DRAINING) == "true" and slept is None,
        ready=ready,
    )
    life = life_of(pod)
    return EnginePod(
        replica=seen,
        cost=int(_number(notes.get(DELETION_COST)) or 0),
        url=_url(status, spec),
        uid=str(meta.get("uid", "")),
        life=life,
        terminating=bool(meta.get("deletionTimestamp")),
        slept_s=abs(slept) if slept is not None else None,
        asleep=slept is not None and slept > 0,
        adapters=adapters_of(notes, life),
    )


def by_fleet(engines: Iterable[EnginePod]) -> dict[tuple[str, str], list[EnginePod]]:
    """Fleet -> its engines."""
    out: dict[tuple[str, str], list[EnginePod]] = {}
    for e in engines:
        out.setdefault(e.fleet, []).append(e)
    return out


def life_of(pod: Mapping[str, Any]) -> str:
    """ID of the Pod's engine container; empty before it runs."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return next((str(c.get("containerID") or "") for c in statuses if c.get("name") == "engine"), "")


def adapters_of(notes: Mapping[str, Any], life: str) -> tuple[str, ...] | None:
    """The annotation's names if it speaks of this life; () of another life; None without or unreadable."""
    try:
        told = json.loads(notes[ADAPTERS])
        return tuple(str(n) for n in told["names"]) if told["life"] == life else ()
    except (KeyError, TypeError, ValueError):
        return None


def _url(status: Object, spec: Object) -> str:
    address = str(status.get("podIP") or "")
    for container in spec.get("containers") or []:
        for port in container.get("ports") or []:
            if port.get("name") == "http" and address:
                return f"http://[{address}]:{port['containerPort']}" if ":" in address else (
                    f"http://{address}:{port['containerPort']}"
                )  # fmt: skip
    return ""


def _number(text: object) -> float | None:
    try:
        return float(str(text))
    except ValueError:
        return None

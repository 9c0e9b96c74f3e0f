"""Replicas from Kubernetes: Pods say who there is, EndpointSlices confirm who is ready.

A Pod counts when it is labelled `seawall.dev/role=engine` and `seawall.dev/fleet=NAME`. The deletion timestamp,
set the moment its preStop begins, drains it here at once, before any Service has noticed. While the API
server is away the last picture stays good: evidence from the data path still evicts who is dead.
`kube` is `drivers.kube.Kube` or whatever has its `watch`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from seawall.domain.labels import ADAPTERS, CANARY_WEIGHT, DRAINING, FLEET, GROUP, PORT, ROLE, WEIGHT
from seawall.domain.seen import Replica, Replicas
from seawall.drivers.kube import ENDPOINT_SLICE, POD, Changed, Select, Synced

log = logging.getLogger("seawall.gateway.replicas.discovery")
CRASH_LOOP = 4
"""After so many failed starts in a row nothing waits for a replica any more."""
ENGINES = f"{ROLE}=engine,{FLEET}"
T = TypeVar("T")
KeyT = tuple[str, str]


class Watcher(Protocol):
    """The part of `drivers.kube.Kube` that is used."""

    def watch(
        self, select: Select, keep: Callable[[dict[str, Any]], T]
    ) -> AsyncIterator[Synced[T] | Changed[T]]: ...


@dataclass(frozen=True)
class PodSeen:
    """What is kept of a Pod."""

    fleet: str
    replica: Replica | None
    """None: it has no address yet."""
    coming: bool
    """It is being started, and not in a crash loop."""


@dataclass(frozen=True)
class SliceSeen:
    """What is kept of an EndpointSlice."""

    ready: Mapping[str, bool]
    """IP -> may take traffic."""
    fleet: str
    share: int
    """Percent of requests for the canary, from the label that the canary's Service gives its slices; else 0."""


def pod_seen(pod: Mapping[str, Any]) -> PodSeen | None:
    """A Pod of an engine -> its replica; None: it serves nothing, or has ended."""
    meta, status = pod.get("metadata") or {}, pod.get("status") or {}
    labels, notes = meta.get("labels") or {}, meta.get("annotations") or {}
    fleet, port = labels.get(FLEET), _port(pod, notes)
    if not fleet or port is None or status.get("phase") in ("Succeeded", "Failed"):
        return None
    ready = any(
        c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or ()
    )
    draining = bool(meta.get("deletionTimestamp")) or notes.get(DRAINING) == "true"
    coming = not ready and not draining and not _loops(status)
    address = status.get("podIP")
    if not address:
        return PodSeen(str(fleet), None, coming) if status.get("phase") == "Pending" else None
    host = f"[{address}]" if ":" in address else address
    group = labels.get(GROUP) or "stable"
    replica = Replica(
        name=str(meta.get("name")),
        fleet=str(fleet),
        url=f"http://{host}:{port}",
        ready=ready,
        draining=draining,
        group=str(group),
        weight=_number(notes.get(WEIGHT), 1.0),
        adapters=_adapters(pod, notes),
    )
    return PodSeen(str(fleet), replica, coming)


def _loops(status: Mapping[str, Any]) -> bool:
    """Its engine has failed so often that nobody should wait for it."""
    for container in status.get("containerStatuses") or ():
        if container.get("name") == "engine" and int(container.get("restartCount") or 0) > CRASH_LOOP:
            return "waiting" in (container.get("state") or {})
    return False


def slice_seen(obj: Mapping[str, Any]) -> SliceSeen:
    ready: dict[str, bool] = {}
    for endpoint in obj.get("endpoints") or ():
        conditions = endpoint.get("conditions") or {}
        usable = conditions.get("ready", True) is not False and not conditions.get("terminating")
        for address in endpoint.get("addresses") or ():
            ready[str(address)] = bool(usable)
    labels = (obj.get("metadata") or {}).get("labels") or {}
    share = int(min(100.0, max(0.0, _number(labels.get(CANARY_WEIGHT), 0.0))))
    return SliceSeen(ready, str(labels.get(FLEET, "")), share)


def merge(version: int, pods: Iterable[PodSeen | None], slices: Iterable[SliceSeen]) -> Replicas:
    """One discovery document. A Pod that any slice calls unusable is draining; one that no slice knows counts
    by its own word (headless set-ups, slices that lag)."""
    slices = list(slices)
    unusable = {ip for s in slices for ip, ready in s.ready.items() if not ready}
    shares: dict[str, int] = {}
    for s in slices:
        if s.share and s.fleet:
            shares[s.fleet] = max(shares.get(s.fleet, 0), s.share)
    replicas = []
    coming: set[str] = set()
    for seen in pods:
        if seen is None:
            continue
        if seen.coming:
            coming.add(seen.fleet)
        r = seen.replica
        if r is None:
            continue
        ip = r.url.removeprefix("http://").rpartition(":")[0].strip("[]")
        if ip in unusable and r.ready and not r.draining:
            r = Replica(**{**_fields(r), "ready": False})
        replicas.append(r)
    replicas.sort(key=lambda r: r.name)
    return Replicas(
        version=version, replicas=tuple(replicas), canary_weights=shares, coming=tuple(sorted(coming))
    )


def _fields(r: Replica) -> dict[str, Any]:
    return {n: getattr(r, n) for n in r.__dataclass_fields__}


def _port(pod: Mapping[str, Any], notes: Mapping[str, str]) -> int | None:
    """The annotation's, else that of the container port named `http`; None: it serves nothing (a worker of a
    replica that spans nodes)."""
    given = notes.get(PORT)
    if given and given.isdigit():
        return int(given)
    for container in (pod.get("spec") or {}).get("containers") or ():
        for port in container.get("ports") or ():
            if port.get("name") == "http":
                return int(port["containerPort"])
    return None


def _adapters(pod: Mapping[str, Any], notes: Mapping[str, str]) -> tuple[str, ...] | None:
    """What the operator has seen on this very life of the engine's container; None: nobody keeps account."""
    if ADAPTERS not in notes:
        return None
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    life = next((str(c.get("containerID") or "") for c in statuses if c.get("name") == "engine"), "")
    try:
        told = json.loads(notes[ADAPTERS])
        return tuple(str(n) for n in told["names"]) if told["life"] == life else ()
    except (KeyError, TypeError, ValueError):
        return ()


def _number(text: object, default: float) -> float:
    try:
        return float(str(text))
    except ValueError:
        return default


class KubeDiscovery:
    """Watches the namespaces of the fleets and calls `found` with every change."""

    def __init__(self, kube: Watcher, namespaces: Iterable[str], found: Callable[[Replicas], None]) -> None:
        self._kube = kube
        self._namespaces = sorted(set(namespaces))
        self._found = found
        self._pods: dict[str, dict[KeyT, PodSeen | None]] = {}
        self._slices: dict[str, dict[KeyT, SliceSeen]] = {}
        self._version = 0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for ns in self._namespaces:
                group.create_task(self._follow(Select(POD, ns, labels=ENGINES), pod_seen, self._pods, ns))
                group.create_task(self._follow(Select(ENDPOINT_SLICE, ns), slice_seen, self._slices, ns))

    async def _follow(
        self,
        select: Select,
        keep: Callable[[Mapping[str, Any]], T],
        into: dict[str, dict[KeyT, T]],
        namespace: str,
    ) -> None:
        async for event in self._kube.watch(select, keep):
            if isinstance(event, Synced):
                into[namespace] = dict(event.items)
            elif event.item is None:
                into.setdefault(namespace, {}).pop(event.key, None)
            else:
                into.setdefault(namespace, {})[event.key] = event.item
            self._publish()

    def _publish(self) -> None:
        if set(self._pods) != set(self._namespaces):
            return  # half a picture would evict the rest
        self._version += 1
        pods = [p for of in self._pods.values() for p in of.values()]
        slices = [s for of in self._slices.values() for s in of.values()]
        self._found(merge(self._version, pods, slices))

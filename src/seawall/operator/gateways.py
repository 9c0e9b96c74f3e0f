"""What the gateways of a namespace say of fleets and replicas: the sum over all of them, from their admin ports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from seawall.drivers.kube import POD, Kube, Select, address_of
from seawall.errors import SeawallError

ADMIN_PORT = 9090
GATEWAYS = "app.kubernetes.io/name=seawall-gateway"
ANSWER_S = 5.0
AT_ONCE = 32


@dataclass
class Told:
    """Requests, summed over the gateways that answered."""

    queued: dict[str, int] = field(default_factory=dict)
    """Fleet -> accepted and not sent yet."""
    in_flight: dict[str, int] = field(default_factory=dict)
    """Fleet -> sent to a replica and not finished."""
    on_replica: dict[str, int] = field(default_factory=dict)
    """Pod -> in flight."""
    silent: int = 0
    """Gateways that run and did not answer: the sums are too low by what they hold."""


async def ask(kube: Kube, namespace: str) -> Told:
    """One list, then one request to each gateway Pod that runs, all at once."""
    select = Select(POD, namespace, labels=GATEWAYS, fields="status.phase=Running")
    told = Told()

    at_once = asyncio.Semaphore(AT_ONCE)

    async def one(name: str, address: str) -> Any:
        try:
            async with at_once, asyncio.timeout(ANSWER_S):
                return await kube.page(namespace, name, address, ADMIN_PORT, "debug/state")
        except (SeawallError, TimeoutError, ValueError):
            return None

    pods = [(name, address) for (_, name), address in (await kube.list(select, address_of)).items()]
    for answer in await asyncio.gather(*(one(*pod) for pod in pods)):
        if not isinstance(answer, dict):
            told.silent += 1
            continue
        for fleet, numbers in _rows(answer.get("fleets")):
            told.queued[fleet] = told.queued.get(fleet, 0) + _whole(numbers.get("queued"))
            told.in_flight[fleet] = told.in_flight.get(fleet, 0) + _whole(numbers.get("in_flight"))
        for pod, numbers in _rows(answer.get("replicas")):
            told.on_replica[pod] = told.on_replica.get(pod, 0) + _whole(numbers.get("in_flight"))
    return told


class Ears:
    """Asks each namespace's gateways once for all who want to know, and remembers the answer for a while."""

    def __init__(self, kube: Kube, clock: Callable[[], float]) -> None:
        self._kube, self._clock = kube, clock
        self._told: dict[str, tuple[float, Told]] = {}
        self._asking: dict[str, asyncio.Lock] = {}

    async def told(self, namespace: str, age_s: float) -> Told:
        """At most `age_s` seconds old."""
        # Fleets are looked at beside each other: who comes second waits for the first one's answer.
        async with self._asking.setdefault(namespace, asyncio.Lock()):
            at, answer = self._told.get(namespace, (0.0, None))
            if answer is None or self._clock() - at >= age_s:
                answer = await ask(self._kube, namespace)
                self._told[namespace] = (self._clock(), answer)
            return answer


def _rows(table: Any) -> list[tuple[str, dict[str, Any]]]:
    rows = table.items() if isinstance(table, dict) else ()
    return [(str(k), v) for k, v in rows if isinstance(v, dict)]


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) else 0
